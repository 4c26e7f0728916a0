/**
 * Sample users of a local lattice: wallets that send transactions, searchers that bid, and whoever is owed a refund
 * claims it. Everything goes through the doors that real users have: the gateway's JSON-RPC and Connect, offer's gRPC.
 * What was acknowledged and what became of it is appended to `traffic.jsonl` for the invariant checker.
 */
import { appendFileSync } from "node:fs";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { readConfig } from "@lattice/organism/node/kit.ts";
import { loadAccounts } from "./accounts.ts";
import { http, Layout } from "./layout.ts";
import { Claimant } from "./traffic/claimant.ts";
import { GatewayClient } from "./traffic/gateway-client.ts";
import { Ledger } from "./traffic/ledger.ts";
import { Searcher } from "./traffic/searcher.ts";
import { Wallet } from "./traffic/wallet.ts";

const { directory } = JSON.parse(process.argv[2] ?? "{}") as { directory: string };
const layout = new Layout(directory);
const ports = layout.loadPorts();
const config = readConfig(layout.config);
const accounts = loadAccounts(layout.path("accounts.json"));
await initCrypto();

const gateway = new GatewayClient(http(ports.gateway));
const ledger = new Ledger((line) => appendFileSync(layout.path("traffic.jsonl"), `${JSON.stringify(line)}\n`));
const settlement: `0x${string}` = `0x${toHex(config.tally.content.settlement)}`;
const chainId = Number(config.chainId);
const now = (): bigint => slotAt(config, Date.now());

const wallets = accounts.wallets.map((account) => new Wallet({ account, gateway, ledger, chainId, slot: now }));
const searchers = accounts.searchers.slice(1).map(
  (account, index) =>
    new Searcher({
      account,
      class: index % 2 === 0 ? "blind" : "seen",
      gateway,
      ledger,
      config,
      layout,
      settlement,
      clock: () => Date.now(),
    }),
);
const claimant = new Claimant({
  payer: accounts.searchers[0],
  gateway,
  ledger,
  config,
  endpointsFile: layout.endpoints,
  settlement,
  recipients: accounts.wallets.map(({ address }) => fromHex(address)),
});

let stopping = false;
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    stopping = true;
  });
}

/** Errors of one user are that user's: logged and tried again in the next slot. */
async function attempt(what: string, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    process.stderr.write(`${what}: ${error instanceof Error ? error.message : String(error)}\n`);
  }
}

await gateway.waitUntilReady(() => stopping);
// Bootstrap: escrow is funded by real transactions, in slots without user messages.
await Promise.all(searchers.map((searcher) => attempt("escrow deposit", () => searcher.fundEscrow())));
while (!stopping && !(await Promise.all(searchers.map((searcher) => searcher.escrowReady()))).every(Boolean)) {
  await new Promise((resolve) => setTimeout(resolve, config.slotMs / 2));
}

const streams = searchers.map((searcher) => searcher.run(() => stopping));
for (let slot = now(); !stopping; slot += 1n) {
  // A quarter into the slot: early in the round that is open.
  const at = slotStartMs(config, slot) + config.slotMs / 4;
  await new Promise((resolve) => setTimeout(resolve, Math.max(at - Date.now(), 0)));
  if (stopping) break;
  const turn = Number(slot % BigInt(wallets.length));
  const sending = wallets.filter((_, index) => (index + turn) % 3 !== 0);
  await Promise.all([
    ...sending.map((wallet) =>
      attempt("wallet", () => wallet.send(wallets[(turn + 1) % wallets.length]?.address ?? settlement)),
    ),
    attempt("claim", () => claimant.look()),
    attempt("ledger", () => ledger.settle(gateway)),
  ]);
  if (slot < now()) slot = now();
}
await Promise.all(streams);
await attempt("ledger", () => ledger.settle(gateway));
process.exit(0);
