/** Planted plaintext, keys, shares and identities, and a search for them wherever something is written down. */
import { randomBytes } from "node:crypto";
import { cpSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { loadAccounts } from "@lattice/deploy/local/accounts.ts";
import { http } from "@lattice/deploy/local/layout.ts";
import type { Session } from "@lattice/deploy/local/session.ts";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { identityShare } from "@lattice/organism/crypto/ibe.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { readKeyFile } from "@lattice/organism/node/kit.ts";
import { unsealIdentity } from "@lattice/organism/outcomes/unseal.ts";
import { SUITE } from "@lattice/unseal/client/seal.ts";
import { ZipnetClient } from "@lattice/zipnet/client/zipnet-client.ts";
import { type Hex, keccak256 } from "viem";
import { eventually, firstComplete, slotNow } from "./lattice-tools.ts";
import { scanMemory } from "./memory-scan.ts";
import { filesBelow, type Hit, type Needle, needle, scanBytes, scanFiles } from "./plaintext-scan.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";
import { ask, bidderOf, call, escrowOf, landed, User } from "./users.ts";

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
/** Blocks that the chain's own programs write down are public once they are there. */
const CHAIN_LOGS = ["sequencer", "traffic"];
const LANDING_SLOTS = 15;

function logsOf(session: Session): string[] {
  const { layout } = session.lattice;
  return filesBelow(layout.path("logs")).filter((path) => !CHAIN_LOGS.some((name) => path.endsWith(`${name}.log`)));
}

/** What went through the broker: JetStream's own files, or the embedded logs. */
function brokerFiles(session: Session): string[] {
  const { layout } = session.lattice;
  return [...filesBelow(layout.path("nats", "store")), ...filesBelow(layout.path("logs-embedded"))];
}

function memberFiles(session: Session): string[] {
  const { layout, rosters } = session.lattice;
  return ORGANISMS.flatMap((organism) =>
    rosters[organism].members.flatMap(({ index }) => filesBelow(layout.data(organism, index))),
  );
}

async function metricsOf(session: Session, needles: readonly Needle[]): Promise<Hit[]> {
  const { ports } = session.lattice;
  const hits: Hit[] = [];
  for (const organism of ORGANISMS) {
    for (const [index, { metrics }] of ports.members[organism].entries()) {
      const response = await fetch(`${http(metrics)}/metrics`, { signal: AbortSignal.timeout(3000) }).catch(
        () => undefined,
      );
      if (response === undefined) continue;
      hits.push(...scanBytes(`metrics of ${organism}-${index}`, Buffer.from(await response.text()), needles));
    }
  }
  return hits;
}

function argumentsOf(session: Session, needles: readonly Needle[]): Hit[] {
  const pids = [...session.lattice.processes].map(([name, { pid }]) => [name, pid] as const);
  return pids.flatMap(([name, pid]) =>
    scanFiles([`/proc/${pid}/cmdline`], needles).map((hit) => ({ ...hit, where: `arguments of ${name}` })),
  );
}

/** Every secret that somebody on this machine holds, from the files they are kept in. */
function secretsOf(session: Session): Needle[] {
  const { layout, rosters } = session.lattice;
  const found: Needle[] = [];
  for (const organism of ORGANISMS) {
    for (const { index } of rosters[organism].members) {
      const { secrets } = readKeyFile(layout.key(organism, index));
      for (const [name, value] of Object.entries(secrets)) {
        if (value instanceof Uint8Array) found.push(needle(`${organism}-${index} ${name}`, value));
      }
    }
  }
  const accounts = loadAccounts(layout.path("accounts.json"));
  for (const [kind, list] of Object.entries(accounts)) {
    for (const [index, { secret }] of (list as { secret: string }[]).entries()) {
      found.push(needle(`key of ${kind} ${index}`, fromHex(secret)));
    }
  }
  const issuer = JSON.parse(readFileSync(layout.path("admission", "issuer.json"), "utf8")) as { seed: string };
  found.push(needle("ticket issuer's seed", fromHex(issuer.seed)));
  for (const file of [layout.path("chain", "engine.jwt"), layout.path("sequencer", "builder.jwt")]) {
    found.push(needle("Engine API secret", fromHex(readFileSync(file, "utf8").trim())));
  }
  return found;
}

/** The gateway's zipnet identities, from a copy of its journal. */
async function clientIdentities(context: ScenarioContext, session: Session): Promise<Needle[]> {
  const { config, layout } = session.lattice;
  const copy = join(context.directory, "gateway-copy");
  cpSync(layout.path("gateway"), copy, { recursive: true, filter: (path) => !path.endsWith("lock") });
  const journal = await FileJournal.open(copy);
  const found: Needle[] = [];
  for (let index = 0; ; index++) {
    const state = journal.get(`zipnet-client/${index}`);
    if (state === undefined) break;
    const client = ZipnetClient.restore({ config, random, store: async () => undefined }, state);
    found.push(needle(`zipnet client ${index}`, client.id), needle(`envelope key ${index}`, client.envelopeKey));
  }
  await journal.close();
  return found;
}

interface Rival {
  readonly user: User;
  readonly bidder: ReturnType<typeof bidderOf>;
}

interface Duel {
  readonly slot: bigint;
  readonly hashes: readonly Hex[];
  readonly bundles: readonly Needle[];
}

/** Two blind bids for one slot, the first twice the second. Tried again until the committee has read both escrows. */
async function rivalBids(context: ScenarioContext, rivals: readonly Rival[]): Promise<Duel | undefined> {
  const until = Date.now() + LANDING_SLOTS * context.slotMs;
  while (Date.now() < until) {
    const slot = rivals[0]?.bidder.openSlot("blind") ?? 0n;
    const hashes: Hex[] = [];
    const bundles: Needle[] = [];
    try {
      for (const [index, { user, bidder }] of rivals.entries()) {
        const amountWei = 10n ** 15n * BigInt(2 - index);
        const { nonce, paymentId } = bidder.reserve("blind", slot);
        const payment = await user.pay(slot, paymentId, amountWei);
        const raw = fromHex(payment.slice(2));
        // Its signature: nothing else has these bytes.
        bundles.push(needle(`bundle ${index}`, raw.subarray(-65)));
        hashes.push(keccak256(payment));
        const items = [{ type: "transaction", raw } as const];
        await bidder.bid({ slot, class: "blind", nonce, amountWei, capWei: undefined, items });
      }
      return { slot, hashes, bundles };
    } catch (error) {
      context.say(`a rival's bid: ${error instanceof Error ? error.message : String(error)}`);
      await new Promise((resolve) => setTimeout(resolve, context.slotMs));
    }
  }
  return undefined;
}

/** Every process's memory: a member's holds its own shares, and no process holds anybody else's. */
function oneShareEach(context: ScenarioContext, session: Session): void {
  const { layout, rosters, processes } = session.lattice;
  const needles = new Map<string, readonly Buffer[]>();
  for (const organism of ORGANISMS) {
    for (const { index } of rosters[organism].members) {
      const { certificateShare, secondShare } = readKeyFile(layout.key(organism, index)).secrets;
      for (const share of [certificateShare, secondShare]) {
        if (share === undefined) continue;
        const forms = [Buffer.from(share), Buffer.from(toHex(share))];
        const name = `${organism}-${index}`;
        needles.set(name, [...(needles.get(name) ?? []), ...forms]);
      }
    }
  }
  const problems: string[] = [];
  let seen = 0;
  for (const [name, { pid }] of processes) {
    if (pid === undefined) continue;
    const found = scanMemory(pid, needles);
    if (found === undefined) continue;
    if (needles.has(name) && found.delete(name)) seen += 1;
    for (const other of found) problems.push(`${name} holds a share of ${other}`);
  }
  if (seen === 0) context.say("the memory of other processes may not be read here");
  else {
    context.check("every member's own share is in its memory", seen === needles.size, `${seen} of ${needles.size}`);
    context.check("no process holds another's share", problems.length === 0, problems.slice(0, 8).join("; "));
  }
}

function noHits(context: ScenarioContext, name: string, hits: readonly Hit[]): void {
  const lines = [...new Set(hits.map((hit) => `${hit.needle} in ${hit.where.replace(context.directory, "…")}`))];
  context.check(name, hits.length === 0, lines.slice(0, 8).join("; "));
}

export const scenario: Scenario = {
  name: "canary",
  description:
    "planted plaintext, keys and shares appear in no log, span, metric, error or broker message before their time",
  async run(context) {
    const mode = await context.mode();
    const traceFile = join(context.directory, "traces.jsonl");
    const session = await context.start({ mode, traffic: false, logLevel: "debug", traceFile });
    const { lattice, collector } = session;
    const { config, layout, accounts } = lattice;
    if (!(await firstComplete(context, session))) return;
    const [wallet] = accounts.wallets;
    const [, winner, loser] = accounts.searchers;
    if (wallet === undefined || winner === undefined || loser === undefined)
      throw new Error("sample accounts are missing");

    // Two rivals for the top of the block: the one who loses must stay sealed for ever.
    const rivals = [winner, loser].map((sample) => ({
      user: new User(lattice, sample),
      bidder: bidderOf(lattice, sample),
    }));
    context.onEnd(() => {
      for (const { bidder } of rivals) bidder.close();
    });
    for (const { user } of rivals) await user.deposit();
    const funded = await eventually(LANDING_SLOTS * context.slotMs, async () => {
      const held = await Promise.all(rivals.map(({ user }) => escrowOf(lattice, user.account.address)));
      return held.every((wei) => wei > 0n);
    });
    if (!context.check("escrow is funded", funded)) return;
    for (const { bidder } of rivals) await bidder.register();

    // The canary: random calldata to a random account, disclosed to nobody.
    const calldata = random(96);
    const to = random(20);
    const user = new User(lattice, wallet);
    const raw = await user.sign({
      to: `0x${toHex(to)}`,
      valueWei: 12_345_678_901n,
      data: `0x${toHex(calldata)}`,
      gas: 80_000n,
    });
    const content = [needle("calldata", calldata), needle("recipient", to)];
    const hash = await user.send(raw, "nothing");
    const early = [...content, needle("transaction hash", fromHex(hash.slice(2)))];
    context.say(`the canary is acknowledged in slot ${slotNow(lattice)}`);

    const status = (): Promise<{ status: string; slot: string }> =>
      call(lattice.gatewayUrl, "lattice_getSubmission", [hash]);
    let scans = 0;
    const beforeTime: Hit[] = [];
    const until = Date.now() + LANDING_SLOTS * context.slotMs;
    let slot = 0n;
    while (Date.now() < until && context.signal?.aborted !== true) {
      const now = await status();
      slot = BigInt(now.slot);
      if (now.status === "landed" || now.status === "failed") break;
      // No member may release a share before this time, so whatever is found before it was never decrypted.
      const releasedMs =
        slot === 0n ? Number.POSITIVE_INFINITY : slotStartMs(config, slot) - config.unseal.content.sharesMs;
      const hits = [
        ...scanFiles([...brokerFiles(session), ...memberFiles(session)], early),
        ...scanFiles([...filesBelow(layout.path("logs")), ...filesBelow(layout.path("aggregator")), traceFile], early),
        ...(await metricsOf(session, early)),
      ];
      if (Date.now() < releasedMs) {
        scans += 1;
        beforeTime.push(...hits);
      }
    }
    const done = await status();
    slot = BigInt(done.slot);
    context.check("the canary landed", done.status === "landed", done.status);
    context.check("it was looked for while it was sealed", scans > 0, `${scans} times`);
    noHits(context, "nothing of it is anywhere before its freeze", beforeTime);

    const duel = await rivalBids(context, rivals);
    if (!context.check("two rivals bid for the same place", duel !== undefined) || duel === undefined) return;
    const { slot: bidSlot, hashes, bundles } = duel;
    await context.waitFor("the auction of the two rivals is decided", session, LANDING_SLOTS, () =>
      collector.decided(bidSlot, ["offer", "atelier", "relay"]),
    );
    const [won, lost] = hashes;
    const wonLanded = await eventually(
      3 * context.slotMs,
      async () => (await landed(lattice, won ?? "")) !== undefined,
    );
    context.check("the higher bid landed", wonLanded);
    context.check("the lower bid did not", (await landed(lattice, lost ?? "")) === undefined);
    noHits(
      context,
      "the losing bundle was opened by nobody",
      scanFiles(
        [...brokerFiles(session), ...memberFiles(session), ...filesBelow(layout.path("logs")), traceFile],
        bundles.slice(1),
      ),
    );

    // Errors answer about the canary without repeating it.
    const errors = await Promise.all([
      ask(lattice.gatewayUrl, "eth_sendRawTransaction", [`${raw}00`]),
      ask(lattice.gatewayUrl, "eth_sendRawTransaction", [raw.slice(0, -8)]),
      ask(lattice.gatewayUrl, "eth_sendRawTransaction", [raw, { disclosure: "all of it" }]),
    ]);
    noHits(
      context,
      "errors do not repeat what they refuse",
      scanBytes("an error", Buffer.from(JSON.stringify(errors)), content),
    );

    // Shares, whole slot key, keys, identities.
    const shares = lattice.rosters.unseal.members.flatMap(({ index }) => {
      const { secondShare } = readKeyFile(layout.key("unseal", index)).secrets;
      if (secondShare === undefined) return [];
      const identity = unsealIdentity(lattice.rosters.unseal.committee, lattice.rosters.unseal.epoch, slot);
      return [needle(`share of unseal-${index}`, identityShare(secondShare, SUITE, identity, random))];
    });
    const secrets = secretsOf(session);
    const identities = await clientIdentities(context, session);
    context.check("there are client identities to look for", identities.length > 0, `${identities.length}`);
    const sender = [needle("sender", fromHex(user.account.address.slice(2)))];
    const written = [...logsOf(session), traceFile];
    noHits(
      context,
      "no share and no secret went through the broker",
      scanFiles(brokerFiles(session), [...shares, ...secrets]),
    );
    noHits(
      context,
      "no log and no span holds plaintext, a share, a key or a client's identity",
      scanFiles(written, [...content, ...sender, ...bundles, ...shares, ...secrets, ...identities]),
    );
    noHits(
      context,
      "no metric does",
      await metricsOf(session, [...content, ...sender, ...shares, ...secrets, ...identities]),
    );
    noHits(context, "no process was started with a secret among its arguments", argumentsOf(session, secrets));
    if (mode === "nats") oneShareEach(context, session);
    const spans = filesBelow(context.directory).includes(traceFile);
    if (mode === "nats") context.check("there were spans to look through", spans);
  },
};
