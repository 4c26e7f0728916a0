/** One seed of one committee, from its first to its last slot. */

import { SLOTS_KEPT } from "@lattice/organism/committee/state.ts";
import { SeededRandom } from "../random.ts";
import type { SeedOptions, SeedResult } from "../run-seed.ts";
import { logCheckers, missingLogLiveness } from "./checkers.ts";
import { LogClients } from "./clients.ts";
import { bringEpochs, LIES, LogNemesis } from "./nemesis.ts";
import { LogWorld, SLOT_MS } from "./world.ts";

/** What a seed is: faults come early, then all is healed. */
interface Shape {
  readonly faultsUntil: number;
  /** Slots that are judged for liveness; none in most seeds. */
  readonly judged: readonly [number, number] | undefined;
  readonly slots: number;
}

const FAULT_SLOTS = 8;
/** Pauses between attempts double while nothing works: slots that a committee may need. */
const RECOVERY_SLOTS = 24;
const JUDGED_SLOTS = 6;
const TRAIL_SLOTS = 3;

function shapeOf(slots: number, live: boolean): Shape {
  const faultsUntil = Math.min(FAULT_SLOTS, Math.ceil(slots * 0.7));
  if (!live) return { faultsUntil, judged: undefined, slots };
  const from = faultsUntil + RECOVERY_SLOTS;
  return { faultsUntil, judged: [from, from + JUDGED_SLOTS], slots: from + JUDGED_SLOTS + TRAIL_SLOTS };
}

/** Sizes by how often they come: the smaller, the faster. */
const SIZES = [3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5, 5, 7];
const LIVE_ONE_IN = 16;
/** Seeds that last long enough for other epochs. */
const EPOCHS_ONE_IN = 10;
const EPOCH_SHAPE: Shape = { faultsUntil: 16, judged: undefined, slots: 26 };
/** Faults go on beyond the border. */
const ERA_SHAPE: Shape = { ...EPOCH_SHAPE, faultsUntil: 21 };
/** Of those, how many begin an era; and of these, how many last until the shares of the old key are erased. */
const ERAS_CHANCE = 0.5;
const ERASED_CHANCE = 0.1;
const ERASED_SLOTS = 26 + Number(SLOTS_KEPT) + 6;

export async function runLogSeed(options: SeedOptions): Promise<SeedResult> {
  const { seed } = options;
  const startedAt = performance.now();
  const draw = new SeededRandom(`lattice/sim/log/${seed}/shape`);
  const drawnLive = draw.below(LIVE_ONE_IN) === 0;
  const live = options.live ?? drawnLive;
  const members = options.members ?? draw.pick(SIZES);
  const faults = members > 3 ? Math.floor((members - 1) / 3) : 0;
  const drawnLies = draw.chance(0.55);
  const lies = options.faults?.some((name) => LIES.has(name)) ?? drawnLies;
  const honest = options.mode === "log-calm" || draw.chance(0.35);
  // Whoever alone has lost its view needs a quorum of others to know it (docs/decisions/0030): none of them may be silent.
  const corrupt = honest || (live && lies) ? 0 : faults;
  const drawnEpochs = draw.below(EPOCHS_ONE_IN) === 0;
  const epochs =
    options.eras ??
    (drawnEpochs && !live && options.mode === "log" && options.faults === undefined && options.slots > 5);
  const drawnEras = draw.chance(ERAS_CHANCE);
  const drawnErased = draw.chance(ERASED_CHANCE);
  const eras = options.eras ?? (epochs && drawnEras);
  const erased = options.eras === undefined ? eras && drawnErased : options.slots >= ERASED_SLOTS;
  const eraShape = erased ? { ...ERA_SHAPE, slots: ERASED_SLOTS } : ERA_SHAPE;
  const epochShape = eras ? eraShape : EPOCH_SHAPE;
  const shape = epochs ? epochShape : shapeOf(options.slots, live);
  const known: { world?: LogWorld; clients?: LogClients } = {};
  const needed = <T>(value: T | undefined): T => {
    if (value === undefined) throw new Error("checkers judge before they know whom");
    return value;
  };
  const checkers = logCheckers(
    () => needed(known.world),
    () => needed(known.clients),
  );
  const world = await LogWorld.create({
    seed,
    members,
    corrupt,
    ...(options.behaviours === undefined ? {} : { behaviours: options.behaviours }),
    checkers: checkers.filter(({ name }) => options.only === undefined || name === options.only),
    ...(options.verbose === undefined ? {} : { tell: options.verbose }),
  });
  known.world = world;
  const clients = new LogClients(world);
  known.clients = clients;
  const calm = options.mode === "log-calm";
  const starts = world.random.fork("starts");
  for (const host of world.hosts) {
    host.skewMs = calm ? 0 : starts.between(-15, 15);
    host.older = !calm && starts.chance(0.1) && options.faults === undefined;
    world.time.after(starts.between(0, 150), () => world.start(host));
  }
  world.keepStreams();
  clients.begin(shape.slots - 3);
  if (!calm) {
    new LogNemesis(world, lies, options.faults).begin(shape.faultsUntil);
  }
  if (epochs) bringEpochs(world, shape.slots, lies, eras);
  const stray = (error: unknown): void => {
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    world.fail("no rejection is left to nobody", message);
  };
  process.on("unhandledRejection", stray);
  await world.runUntil(shape.slots * SLOT_MS);
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", stray);
  if (world.broken === undefined && shape.judged !== undefined) {
    const missing = missingLogLiveness(world, ...shape.judged);
    if (missing !== undefined) world.fail("it comes back", missing);
  }
  if (world.broken === undefined) world.judge((checker) => checker.finished?.(world));
  world.end();
  const outcomes: Record<string, number> = {};
  for (const { outcome } of world.certificates.values()) {
    const name = `${outcome.stage} ${outcome.kind}`;
    outcomes[name] = (outcomes[name] ?? 0) + 1;
  }
  return {
    seed,
    mode: options.mode,
    slots: shape.slots,
    broken: world.broken === undefined ? undefined : { checker: world.broken.checker, message: world.broken.message },
    digest: world.digest(),
    events: world.time.events,
    wallMs: performance.now() - startedAt,
    acts: Object.fromEntries([...world.acts, ["applied", world.deliveries] as const].sort()),
    outcomes: Object.fromEntries(Object.entries(outcomes).sort()),
    members: world.describe(),
  };
}
