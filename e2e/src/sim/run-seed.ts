/** One seed, from its first to its last slot. */

import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { Behaviour } from "./byzantine.ts";
import { makeCheckers, OF_ANY_LOG } from "./checkers/all.ts";
import { HEALED_AFTER } from "./checkers/liveness.ts";
import { Clients } from "./clients.ts";
import { beginLies } from "./liar.ts";
import { Nemesis } from "./nemesis.ts";
import { World } from "./world.ts";

export interface SeedOptions {
  readonly seed: number;
  readonly slots: number;
  /**
   * Safety: faults to the end. Liveness: faults, then everything is healed, and the lattice has to come back. Lying: nothing
   * fails, but brokers fork and forget, with corrupt members on both sides. Log: one committee only (log/run-log-seed.ts).
   */
  readonly mode: "safety" | "liveness" | "calm" | "lying" | "log" | "log-calm";
  readonly behaviours?: readonly Behaviour[];
  /** The one checker that listens: to show that it would notice by itself. */
  readonly only?: string;
  /** In every committee; drawn from the seed when left out. */
  readonly members?: number;
  /** Of one committee: the only faults there are, instead of what the seed prefers. */
  readonly faults?: readonly string[];
  /** Of one committee: whether it is healed and has to come back; drawn from the seed when left out. */
  readonly live?: boolean;
  /** Of one committee: whether epochs are dealt, some with another certificate key; drawn from the seed when left out. */
  readonly eras?: boolean;
  /** Sends what members log to whoever runs the thread. */
  readonly tells?: boolean;
  readonly verbose?: (line: string) => void;
}

export interface SeedResult {
  readonly seed: number;
  readonly mode: SeedOptions["mode"];
  readonly slots: number;
  readonly broken: { readonly checker: string; readonly message: string } | undefined;
  /** Of everything that was stored, certified and done: alike in two runs of one seed. */
  readonly digest: string;
  readonly events: number;
  readonly wallMs: number;
  readonly acts: Readonly<Record<string, number>>;
  /** Certified outcomes by stage and kind. */
  readonly outcomes: Readonly<Record<string, number>>;
  readonly members: string;
}

function ofSize(size: number): { readonly [O in Organism]: number } {
  return Object.fromEntries(ORGANISMS.map((organism) => [organism, size])) as { readonly [O in Organism]: number };
}

export async function runSeed(options: SeedOptions): Promise<SeedResult> {
  const { seed, slots, mode } = options;
  const startedAt = performance.now();
  const checkers = makeCheckers();
  const { members: sizes } = options;
  // Whoever says two things in one log is blocked before brokers begin to lie.
  const behaviours = options.behaviours ?? (mode === "lying" ? (["delay", "lie"] as const) : undefined);
  const world = await World.create({
    ...(behaviours === undefined ? {} : { behaviours }),
    ...(sizes === undefined ? {} : { members: ofSize(sizes) }),
    seed,
    corrupt: mode !== "calm",
    checkers: checkers.all.filter(
      ({ name }) =>
        (options.only === undefined || name === options.only) && (mode !== "lying" || OF_ANY_LOG.includes(name)),
    ),
    ...(options.verbose === undefined ? {} : { tell: options.verbose }),
  });
  const clients = new Clients(world);
  checkers.knows(clients, world);
  const starts = world.random.fork("starts");
  const builds = world.random.fork("builds");
  for (const host of world.hosts) {
    host.skewMs = mode === "calm" ? 0 : starts.between(-15, 15);
    host.older = mode === "safety" && builds.chance(0.4);
    world.time.after(starts.between(0, 300), () => world.start(host));
  }
  const nemesis = new Nemesis(world);
  if (mode === "lying") beginLies(world, slots);
  else if (mode !== "calm") nemesis.begin(mode === "liveness" ? Math.floor(slots * HEALED_AFTER) : slots);
  // In production this is the end of a process: nothing may be left to nobody.
  const stray = (error: unknown): void => {
    world.fail(
      "no rejection is left to nobody",
      error instanceof Error ? (error.stack ?? error.message) : String(error),
    );
  };
  process.on("unhandledRejection", stray);
  await world.runToSlot(slots);
  await new Promise((resolve) => setImmediate(resolve));
  process.off("unhandledRejection", stray);
  if (mode === "liveness" || mode === "calm") checkers.judgeLiveness(world, slots, mode);
  if (world.broken === undefined) world.judge("finished", (checker) => checker.finished?.(world));
  world.end();
  const outcomes: Record<string, number> = {};
  for (const [key, { outcome }] of world.certificates) {
    const name = `${key.slice(0, key.lastIndexOf("/"))} ${outcome.kind}`;
    outcomes[name] = (outcomes[name] ?? 0) + 1;
  }
  return {
    seed,
    mode,
    slots,
    broken: world.broken === undefined ? undefined : { checker: world.broken.checker, message: world.broken.message },
    digest: world.digest(),
    events: world.time.events,
    wallMs: performance.now() - startedAt,
    acts: Object.fromEntries([...world.acts].sort()),
    outcomes: Object.fromEntries(Object.entries(outcomes).sort()),
    members: world.describe(),
  };
}
