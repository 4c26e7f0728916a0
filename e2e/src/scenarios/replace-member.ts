/** A member is replaced while slots go on: another process with other keys on another port, through the operators' commands. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePorts } from "@lattice/deploy/local/free-ports.ts";
import { at, http } from "@lattice/deploy/local/layout.ts";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { SLOTS_KEPT } from "@lattice/organism/committee/state.ts";
import { latticeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { completeFrom, eventually, firstComplete, logLines, slotNow, statusOf } from "./lattice-tools.ts";
import { NextEpoch } from "./next-epoch.ts";
import type { Scenario } from "./scenario.ts";

const ORGANISM: Organism = "unseal";
const SEAT = 2;
const NAME = `${ORGANISM}-${SEAT}`;
/** What the ceremony of four processes and the announcement take on a small machine. */
const IN_SLOTS = 26;

async function answers(url: string): Promise<boolean> {
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(1000) });
    await response.arrayBuffer();
    return response.ok;
  } catch {
    return false;
  }
}

export const scenario: Scenario = {
  name: "replace-member",
  description: "a member is replaced by another process with other keys on another port: key and id stay, slots go on",
  async run(context) {
    const changed = new Map<string, Record<string, string>>();
    const session = await context.start({
      mode: await context.natsOnly(),
      memberSettings: (organism, index) => changed.get(`${organism}-${index}`) ?? {},
    });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const id = toHex(latticeId(lattice.config));
    const folder = join(context.directory, "newcomer");
    const epoch = new NextEpoch(context, lattice, {
      organism: ORGANISM,
      newcomer: { seat: SEAT, folder },
      inSlots: IN_SLOTS,
    });
    if (!(await epoch.healthy())) return;
    const activation = await epoch.propose();
    if (activation === undefined || !(await epoch.reshare()) || !(await epoch.reached("announced", 60))) return;

    const old = lattice.process(NAME);
    context.onEnd(() => old.kill());
    const [grpc = 0, metrics = 0] = await freePorts(2);
    changed.set(NAME, {
      LATTICE_KEY_FILE: join(folder, "key.json"),
      LATTICE_DATA_DIR: join(folder, "data"),
      LATTICE_NATS_CREDENTIALS_FILE: join(folder, "nats.json"),
      LATTICE_LISTEN: at(grpc),
      LATTICE_METRICS_LISTEN: at(metrics),
    });
    lattice.startMember(ORGANISM, SEAT);
    const listed = readFileSync(lattice.layout.endpoints, "utf8");
    const before = readEndpoints(lattice.layout.endpoints)[ORGANISM][SEAT] ?? "";
    writeFileSync(lattice.layout.endpoints, listed.replace(before, at(grpc)));
    const ready = await eventually(60_000, () => answers(`${http(metrics)}/readyz`));
    context.check("the newcomer is ready", ready, ready ? undefined : lattice.process(NAME).tail(3));
    const ended = await eventually(20_000, async () => !old.running);
    const why = logLines(lattice, /"reason":"SUCCEEDED"/).some((line) => line.startsWith(NAME));
    context.check("the one it replaces falls silent by itself, and says why", ended && why);
    await epoch.reached("joined", 30);
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go on before the epoch begins", 16);

    await completeFrom(context, session, activation + 1n, "slots go through in the new epoch", IN_SLOTS + 20);
    await epoch.reached(undefined, 60);
    const unchanged = toHex(latticeId(readConfig(lattice.layout.config))) === id;
    const status = await statusOf(lattice, ORGANISM, 0);
    const same = status !== undefined && toHex(status.identity?.latticeId ?? new Uint8Array()) === id;
    context.check("the lattice id is the same", unchanged && same);
    const key = status?.members.find(({ index }) => index === SEAT)?.memberKey ?? new Uint8Array();
    const was = lattice.rosters[ORGANISM].members[SEAT]?.memberKey ?? new Uint8Array();
    context.check("the seat has another key", key.length === 32 && !equalBytes(key, was));

    context.say("the one that was replaced is started again with its old keys");
    const incarnation = status?.members.find(({ index }) => index === SEAT)?.incarnation;
    const newcomer = lattice.process(NAME);
    context.onEnd(() => newcomer.kill());
    const [lateGrpc = 0, lateMetrics = 0] = await freePorts(2);
    changed.set(NAME, { LATTICE_LISTEN: at(lateGrpc), LATTICE_METRICS_LISTEN: at(lateMetrics) });
    lattice.startMember(ORGANISM, SEAT);
    const late = lattice.process(NAME);
    const stopped = await eventually(60_000, async () => !late.running);
    const now = (await statusOf(lattice, ORGANISM, 0))?.members.find(({ index }) => index === SEAT);
    context.check(
      "it cannot come back: nothing is taken from it",
      stopped && newcomer.running && now?.incarnation === incarnation,
      late.tail(2),
    );

    const shares = (path: string): boolean => readFileSync(path, "utf8").includes("certificateShare");
    const ownKey = lattice.layout.key(ORGANISM, 0);
    const until = Number(activation + SLOTS_KEPT + 12n - slotNow(lattice)) * context.slotMs;
    const erased = await eventually(Math.max(until, 0), async () => !shares(ownKey));
    context.check("shares of the epoch before are erased", erased);
    const held = existsSync(join(lattice.layout.member(ORGANISM, 0), "shares", "1.json"));
    context.check("those of the new one are kept", held);
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go on");
  },
};
