import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { CHAIN_ID, devnetFile } from "../../test/devnet.ts";
import { dealLattice } from "../../test/lattice.ts";
import { type Outside, startOutside } from "../../test/outside.ts";
import { Chain } from "./chain.ts";

let directory: string;
let outside: Outside;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), "lattice-atelier-chain-"));
  await writeFile(join(directory, "genesis.json"), JSON.stringify(devnetFile()));
  await writeFile(join(directory, "not-json"), "{");
  await writeFile(join(directory, "not-genesis"), "{}");
  outside = await startOutside(dealLattice().config);
});
after(async () => {
  outside.close();
  await rm(directory, { recursive: true, force: true });
});

const meters = createNoMeters();

function open(file: string, rpcUrl = outside.url, chainId = CHAIN_ID): Promise<Chain> {
  const log = createLogger("silent", {});
  const options = { rpcUrl, genesisFile: join(directory, file), chainId, log, meters };
  return Chain.open(options, new AbortController().signal);
}

test("the chain is executed as far as the client has it, and its reorganisations with it", async () => {
  const chain = await open("genesis.json");
  await outside.fallback(1_800_000_000n);
  await outside.fallback(1_800_000_004n);
  await chain.follow(outside.chain.head().hash);
  assert.deepEqual(chain.state.head().hash, outside.chain.head().hash);
  await outside.replaceHead();
  await chain.follow(outside.chain.head().hash);
  assert.deepEqual(chain.state.head().hash, outside.chain.head().hash);
  assert.equal(meters.value("lattice_atelier_chain_head"), 2);
});

test("a client that does not answer is counted and tried again, and stops nobody", async () => {
  const chain = await open("genesis.json", "http://127.0.0.1:1");
  await chain.follow(new Uint8Array(32));
  assert.equal(meters.value("lattice_atelier_chain_failures_total"), 1);
  assert.equal(chain.state.head().number, 0n);
});

test("a genesis that is missing, malformed or of another chain is one readable line", async () => {
  const refused = (error: unknown): boolean =>
    error instanceof KitProblem && error.message.startsWith("ATELIER_GENESIS_FILE: ");
  await assert.rejects(open("absent"), refused);
  await assert.rejects(open("not-json"), refused);
  await assert.rejects(open("not-genesis"), refused);
  await assert.rejects(open("genesis.json", outside.url, 5n), refused);
});
