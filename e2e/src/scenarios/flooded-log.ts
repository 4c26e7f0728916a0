/**
 * Logs are filled on purpose: one author of relay uses up its own quota, all of zipnet's come near theirs, a client
 * floods the gateway meanwhile. Nothing is trimmed until all of that was seen.
 */

import { randomBytes } from "node:crypto";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { at } from "@lattice/deploy/local/layout.ts";
import { committeeQuotas } from "@lattice/deploy/nats/nats-process.ts";
import { checkCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import type { Lane } from "@lattice/organism/committee/entry.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { fromWireCheckpoint } from "@lattice/organism/node/committee-wire.ts";
import { LogRefusal } from "@lattice/organism/ports.ts";
import type { Hex } from "viem";
import {
  acknowledgedIsKept,
  certifiedSoFar,
  historyIsKept,
  nobodyIsBlamed,
  oneHistory,
  unaccounted,
} from "./integrity-checks.ts";
import {
  agree,
  completeFrom,
  eventually,
  firstComplete,
  goesOn,
  isReady,
  logLines,
  metricOf,
  slotNow,
  statusOf,
} from "./lattice-tools.ts";
import { committeeClient, openMemberLog } from "./member-log.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";
import { ask, landed, User } from "./users.ts";

const FLOODED = "relay";
const FLOODER = 2;
const HONEST = [0, 1];
const OPENING = "zipnet";
/** Small logs: six lanes of some 1,400 messages of the largest size. */
const QUOTAS = committeeQuotas(3, 4 * 1024 ** 3);
const LARGE_MESSAGES = 40;
const LARGE_BYTES = 500 * 1024;
const AT_ONCE = 32;
/** Above the 80 % at which no round is opened, below what keeps a checkpoint out. */
const NEARLY = 0.88;
const PENDING_MAX = 24;
const QUIET_SLOTS = 4n;

/** Fills one author's lane up to `messages`, or until it is refused. @returns the refusal */
async function fill(log: JetStreamLog, lane: Lane, count: number, bytes: number): Promise<LogRefusal | undefined> {
  // Ids count for the whole log: another author's flood is no copy of this one.
  const flood = randomBytes(8).toString("hex");
  let refusal: LogRefusal | undefined;
  for (let done = 0; done < count && refusal === undefined; done += AT_ONCE) {
    await Promise.all(
      Array.from({ length: Math.min(AT_ONCE, count - done) }, async (_, each) => {
        const raw = new Uint8Array(bytes).fill(0xf1);
        try {
          while ((await log.append(lane, raw, `${flood}.${lane}.${done + each}`)) === "unknown");
        } catch (error) {
          if (!(error instanceof LogRefusal)) throw error;
          refusal = error;
        }
      }),
    );
  }
  return refusal;
}

/** The newest position that this member shows a certificate for; 0 when it shows none that stands. */
async function certifiedPosition(lattice: LocalLattice, organism: Organism, index: number): Promise<bigint> {
  const client = committeeClient(lattice, organism, index);
  try {
    const { held } = await client.getCheckpoint({}, { deadlineMs: 3000 });
    const certified = held.flatMap((wire) => fromWireCheckpoint(wire) ?? []);
    const standing = certified.filter((each) => checkCheckpoint(lattice.config, organism, each) === undefined);
    return standing.map(({ checkpoint }) => checkpoint.position).reduce((a, b) => (a > b ? a : b), 0n);
  } catch {
    return 0n;
  } finally {
    client.close();
  }
}

/** Sends transactions until the gateway takes no more. @returns the acknowledged ones, and how it refused */
async function floodGateway(lattice: LocalLattice): Promise<{ readonly hashes: Hex[]; readonly refusals: string[] }> {
  const hashes: Hex[] = [];
  const refusals: string[] = [];
  for (const sample of lattice.accounts.wallets) {
    const user = new User(lattice, sample);
    const from = await user.nonce();
    for (let turn = 0; turn < PENDING_MAX && refusals.length < 8; turn++) {
      const raw = await user.sign({ to: user.account.address, valueWei: 1n, nonce: from + turn });
      const { result, error } = await ask(lattice.gatewayUrl, "eth_sendRawTransaction", [raw]);
      if (typeof result === "string") hashes.push(result as Hex);
      else refusals.push(`${error?.code} ${error?.data?.reason}`);
    }
  }
  return { hashes, refusals };
}

async function floodRelay(context: ScenarioContext, lattice: LocalLattice): Promise<void> {
  const name = `${FLOODED}-${FLOODER}`;
  await lattice.process(name).kill();
  const log = await openMemberLog(lattice, FLOODED, FLOODER);
  const before = await log.lastPosition();
  context.say(`whoever has ${name}'s credential fills its lanes`);
  const large = await fill(log, "bulk", LARGE_MESSAGES, LARGE_BYTES);
  context.check("large messages are taken as long as it has room", large === undefined, large?.message);
  const small = await fill(log, "ctl", QUOTAS.messagesPerSubject + 1, 100);
  context.check("its lane is refused once its own quota is used up", small?.reason === "LOG_FULL", small?.message);
  const length = await log.lastPosition();
  await log.close();
  context.say(`${length - before} messages of the flood are in the log`);
  const passed = await eventually(60_000, async () => {
    const all = await Promise.all(HONEST.map((index) => certifiedPosition(lattice, FLOODED, index)));
    return all.every((position) => position > before);
  });
  context.check("the others certify a checkpoint that reaches into the flood", passed, `${before} to ${length}`);
  context.check("they have one state", await agree(lattice, FLOODED, 0, 1));
  lattice.startMember(FLOODED, FLOODER);
  const refusing = (): boolean =>
    logLines(lattice, /refuses this member's entries.*LOG_FULL|LOG_FULL.*refuses this member's entries/).some((line) =>
      line.startsWith(`${name}:`),
    );
  context.check("the flooder itself cannot speak, and says so", await eventually(30_000, async () => refusing()));
  context.check("it is not ready", !(await isReady(lattice, FLOODED, FLOODER)));
}

export const scenario: Scenario = {
  name: "flooded-log",
  description:
    "one author fills its quota, all come near theirs, a client floods: only the flooder stops, nothing is lost, all returns",
  async run(context) {
    const session = await context.start({
      mode: await context.natsOnly(),
      logQuotas: QUOTAS,
      gatewaySettings: { GATEWAY_MAX_PENDING: String(PENDING_MAX) },
    });
    const { lattice, collector } = session;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    await lattice.process("trimmer").stop();
    await floodRelay(context, lattice);
    await goesOn(context, session, FLOODED, slotNow(lattice) + 1n, "the others go on beside a flooded author");

    context.say(`all lanes of ${OPENING} are filled to ${NEARLY * 100} %`);
    const servers = lattice.ports.nats.map(({ client }) => `nats://${at(client)}`);
    const unfilled = (await statusOf(lattice, OPENING, 0))?.position ?? 0n;
    const fillTo = Math.floor(QUOTAS.messagesPerSubject * NEARLY);
    const members = lattice.rosters[OPENING].members.map(({ index }) => index);
    await Promise.all(
      members.map(async (index) => {
        const log = await openMemberLog(lattice, OPENING, index, servers);
        const { ownShare = 0 } = await log.usage();
        await fill(log, "ctl", fillTo - Math.ceil(ownShare * QUOTAS.messagesPerSubject), 100);
        await log.close();
      }),
    );
    const full = async (wanted: number): Promise<boolean> => {
      const all = await Promise.all(
        members.map((index) => metricOf(lattice, OPENING, index, "lattice_log_nearly_full")),
      );
      return all.every((each) => each === wanted);
    };
    context.check("every member says that its log is nearly full", await eventually(30_000, () => full(1)));
    const known = certifiedSoFar(session);
    await session.stopTraffic();
    // Rounds of the next slot or two may be open already.
    const from = slotNow(lattice) + 3n;
    const { hashes, refusals } = await floodGateway(lattice);
    context.check(
      "a client's flood is refused as too much",
      refusals.length > 0 && refusals.every((each) => each === "-32005 QUEUE_FULL"),
      [...new Set(refusals)].join(),
    );
    context.check("and part of it was taken over", hashes.length > 0, `${hashes.length} acknowledged`);
    const to = from + QUIET_SLOTS;
    await context.waitFor("slots are decided all the same", session, 16, () => collector.decided(to, [OPENING]));
    const opened = collector
      .slots()
      .filter((slot) => slot >= from && slot <= to)
      .filter((slot) => collector.get(OPENING, "broadcast", slot)?.certified.outcome.kind !== "skipped");
    context.check("no round is opened", opened.length === 0, opened.join());
    const certified = await eventually(60_000, async () => (await certifiedPosition(lattice, OPENING, 0)) > unfilled);
    context.check("a checkpoint still fits, and is certified", certified);

    context.say("the trimmer is back");
    lattice.process("trimmer").start();
    context.check("the logs have room again", await eventually(90_000, () => full(0)));
    context.check(
      "the flooded member speaks again",
      await eventually(120_000, () => isReady(lattice, FLOODED, FLOODER)),
    );
    context.check("it has the others' history", await agree(lattice, FLOODED, FLOODER, 0));
    await completeFrom(context, session, slotNow(lattice) + 1n, "rounds are opened again, slots go through", 30);
    const open = await unaccounted(context, session, hashes);
    let took = 0;
    for (const hash of hashes) if ((await landed(lattice, hash)) !== undefined) took += 1;
    context.check(
      "what was taken over of the flood lands, or its sender can learn why not",
      open.length === 0 && took > 0,
      open[0] ?? `${took} of ${hashes.length} landed`,
    );
    await historyIsKept(context, session, known);
    await nobodyIsBlamed(context, lattice);
    const stopped = logLines(lattice, /"msg":"this member must stop"/);
    context.check("nobody had to stop", stopped.length === 0, stopped[0]);
    await acknowledgedIsKept(context, session);
    await oneHistory(context, session, first);
  },
};
