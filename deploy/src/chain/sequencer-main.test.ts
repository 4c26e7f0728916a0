import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { localConfig } from "../local/profile.ts";
import { type ExecutionClient, ensureJwtSecret, startExecutionClient } from "./execution-client.ts";
import { localGenesis } from "./genesis.ts";
import { callJsonRpc } from "./json-rpc-call.ts";
import type { SequencerStatus } from "./sequencer.ts";

const MAIN = fileURLToPath(new URL("./sequencer-main.ts", import.meta.url));
const KEY = new Uint8Array(32).fill(3);

let folder: string;
let client: ExecutionClient;
let environment: Record<string, string>;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-sequencer-main-"));
  const key = new Uint8Array(48).fill(1);
  const profile = {
    name: "test",
    chainId: 31_337n,
    genesisMs: Date.now(),
    slotMs: 1000,
    members: 3,
    settlement: new Uint8Array(20).fill(5),
  };
  const config = localConfig(profile, {
    certificateKeys: Object.fromEntries(ORGANISMS.map((organism) => [organism, key])) as Record<Organism, Uint8Array>,
    builderKey: key,
    operators: [1, 2, 3].map((value) => new Uint8Array(32).fill(value)),
    issuer: new Uint8Array(32).fill(4),
    sequencer: addressOfSecret(KEY),
  });
  await writeFile(join(folder, "lattice.hex"), `${configToHex(config)}\n`);
  await writeFile(join(folder, "key.json"), JSON.stringify({ secret: toHex(KEY) }));
  await ensureJwtSecret(join(folder, "jwt"));
  const timestampS = Math.floor(profile.genesisMs / 1000);
  const genesis = localGenesis({ chainId: profile.chainId, timestampS, gasLimit: 30_000_000n, alloc: {} });
  client = await startExecutionClient({ dataDir: join(folder, "client"), genesis, jwtFile: join(folder, "jwt") });
  environment = {
    SEQUENCER_LATTICE_CONFIG_FILE: join(folder, "lattice.hex"),
    SEQUENCER_KEY_FILE: join(folder, "key.json"),
    SEQUENCER_STORE_FILE: join(folder, "blocks.jsonl"),
    SEQUENCER_PORT: "0",
    SEQUENCER_RPC_URL: client.rpcUrl,
    SEQUENCER_ENGINE_URL: client.engineUrl,
    SEQUENCER_ENGINE_JWT_FILE: join(folder, "jwt"),
    SEQUENCER_LOG_LEVEL: "error",
  };
});

after(async () => {
  await client.stop();
  await rm(folder, { recursive: true });
});

function run(env: Record<string, string>): ChildProcess {
  return spawn(process.execPath, ["--disable-warning=ExperimentalWarning", MAIN], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
  });
}

async function exitOf(child: ChildProcess): Promise<{ readonly code: unknown; readonly errors: string }> {
  let errors = "";
  child.stderr?.on("data", (part: Buffer) => {
    errors += part.toString("utf8");
  });
  const [code] = await once(child, "close");
  return { code, errors };
}

/** Starts the process, waits until it has decided a slot, drains it; returns what it said last. */
async function runOneSlot(): Promise<SequencerStatus> {
  const child = run(environment);
  const ended = exitOf(child);
  assert.ok(child.stdout !== null);
  const [line] = await Promise.race([once(child.stdout, "data"), ended.then(({ errors }) => Promise.reject(errors))]);
  const { port } = JSON.parse(String(line)) as { port: number };
  let status: SequencerStatus;
  do {
    await new Promise((resolve) => setTimeout(resolve, 50));
    const url = `http://127.0.0.1:${port}`;
    status = (await callJsonRpc({ url }, "lattice_status", [], { deadlineMs: 60_000 })) as SequencerStatus;
  } while (status.slots.fallback === 0);
  child.kill("SIGTERM");
  assert.deepEqual(await ended, { code: 0, errors: "" });
  return status;
}

test("the process serves, drains on SIGTERM, and goes on from where it stood", async () => {
  const first = await runOneSlot();
  assert.ok(first.head.number >= 1, "without builders the blocks are the sequencer's own");
  const second = await runOneSlot();
  assert.ok(second.head.number > first.head.number);
  assert.ok(second.lastDecidedSlot > first.lastDecidedSlot);
});

test("it names every wrong setting at once and exits with 2", async () => {
  const { code, errors } = await exitOf(
    run({ SEQUENCER_PORT: "70000", SEQUENCER_ENGINE_URL: "ftp://x", SEQUENCER_FALLBACK: "maybe", SEQUENCER_TYPO: "1" }),
  );
  assert.equal(code, 2);
  const names = ["PORT", "ENGINE_URL", "FALLBACK", "TYPO", "KEY_FILE"];
  for (const name of names) assert.match(errors, new RegExp(`SEQUENCER_${name}`));
});

test("files that do not fit are named, and a key that the lattice does not know is refused", async () => {
  await writeFile(join(folder, "other.json"), JSON.stringify({ secret: toHex(new Uint8Array(32).fill(8)) }));
  const { code, errors } = await exitOf(
    run({
      ...environment,
      SEQUENCER_KEY_FILE: join(folder, "other.json"),
      SEQUENCER_ENGINE_JWT_FILE: join(folder, "absent"),
      SEQUENCER_BUILDERS: "http://127.0.0.1:1,http://127.0.0.1:2,http://127.0.0.1:3",
      SEQUENCER_BUILDER_JWT_FILES: `${join(folder, "jwt")},${join(folder, "jwt")}`,
    }),
  );
  assert.equal(code, 2);
  assert.match(errors, /SEQUENCER_KEY_FILE: the lattice config names other sequencers/);
  assert.match(errors, /SEQUENCER_ENGINE_JWT_FILE/);
  assert.match(errors, /SEQUENCER_BUILDER_JWT_FILES: one file/);
});

test("a store of another chain is one readable line and exit code 5", async () => {
  const block = { executionPayload: { blockNumber: "0x1", blockHash: "0x01", timestamp: "0x1", gasLimit: "0x1" } };
  const record = {
    type: "slot",
    slot: "1",
    chosen: { parentHash: "0x02", block },
    acknowledgement: "0x",
    signature: "0x",
  };
  const file = join(folder, "foreign.jsonl");
  await writeFile(file, `${JSON.stringify(record)}\n`);
  const foreign = await exitOf(run({ ...environment, SEQUENCER_STORE_FILE: file }));
  assert.equal(foreign.code, 5);
  assert.match(foreign.errors, /does not follow from this chain/);
  await writeFile(file, `nothing\n${JSON.stringify(record)}\n`);
  const corrupt = await exitOf(run({ ...environment, SEQUENCER_STORE_FILE: file }));
  assert.equal(corrupt.code, 5);
  assert.match(corrupt.errors, /line 1 is not a record/);
});
