/**
 * Everything the six committees certify, as each member serves it: verified, with its time of arrival. It follows every
 * member rather than one of each committee, so that two certificates for one decision would be seen.
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import type { Rosters } from "@lattice/organism/node/kit.ts";
import { type Endpoints, OutcomeFollower } from "@lattice/organism/node/outcome-follower.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import { ATELIER_STAGES } from "@lattice/organism/outcomes/atelier.ts";
import { OFFER_STAGES } from "@lattice/organism/outcomes/offer.ts";
import { RELAY_STAGES } from "@lattice/organism/outcomes/relay.ts";
import { TALLY_STAGES } from "@lattice/organism/outcomes/tally.ts";
import { UNSEAL_STAGES } from "@lattice/organism/outcomes/unseal.ts";
import { ZIPNET_STAGES } from "@lattice/organism/outcomes/zipnet.ts";

/** The decisions of each organism in a slot, in order; the last one is what the next organism waits for. */
export const STAGES: Readonly<Record<Organism, readonly [string, ...string[]]>> = {
  zipnet: ZIPNET_STAGES,
  unseal: UNSEAL_STAGES,
  offer: OFFER_STAGES,
  atelier: ATELIER_STAGES,
  relay: RELAY_STAGES,
  tally: TALLY_STAGES,
};

/** The organisms that decide around the slot itself; tally waits for finality. */
export const IN_SLOT: readonly Organism[] = ORGANISMS.filter((organism) => organism !== "tally");

export interface Arrival {
  readonly organism: Organism;
  readonly certified: CertifiedOutcome;
  readonly digest: Uint8Array;
  readonly arrivedAtMs: number;
  /** The members that served it. */
  readonly members: Set<number>;
}

export interface CollectorOptions {
  readonly config: LatticeConfig;
  readonly rosters: Rosters;
  readonly endpoints: () => Endpoints;
  /** The oldest slot wanted. */
  readonly fromSlot?: bigint;
  /** Slots that are kept; all by default. */
  readonly keepSlots?: number;
  readonly nowMs?: () => number;
}

/** A reconnecting stream begins this far below the newest slot: more than members can trail one another. */
const REACH_BACK = 64n;
const SILENT: Logger = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

export class Collector {
  readonly config: LatticeConfig;
  readonly #options: CollectorOptions;
  readonly #slots = new Map<bigint, Map<string, Arrival>>();
  readonly #listeners = new Set<(arrival: Arrival) => void>();
  readonly #followers: OutcomeFollower[] = [];
  readonly #nowMs: () => number;
  /** Which certificate keys speak for which slots. */
  readonly eras: EraWatch;
  readonly #connectedFrom = new Map<string, bigint>();
  /** Verified certificates that contradict an earlier one. There must be none, ever. */
  readonly conflicts: Arrival[] = [];
  newest = 0n;

  constructor(options: CollectorOptions) {
    this.#options = options;
    this.config = options.config;
    this.eras = new EraWatch({ config: options.config, addresses: (organism) => options.endpoints()[organism] });
    this.#nowMs = options.nowMs ?? Date.now;
  }

  /** Subscribes to every member; reconnects until closed. */
  start(): void {
    const { rosters, config, endpoints } = this.#options;
    const members = Math.max(...ORGANISMS.map((organism) => rosters[organism].members.length));
    const eras = this.eras;
    for (let index = 0; index < members; index++) {
      const follower = new OutcomeFollower({
        config,
        rosters,
        endpoints: () => only(endpoints(), index),
        log: SILENT,
        offset: 0,
        fromSlot: () => this.#fromSlot(index),
        known: (organism, outcome) => this.#recognise(organism, outcome, index),
        eras: eras.of,
        onUnverified: (organism) => void eras.ask(organism),
        onOutcome: (organism, certified) => this.note(organism, certified, index),
      });
      follower.followAll(ORGANISMS);
      this.#followers.push(follower);
    }
  }

  #fromSlot(member: number): bigint {
    const lowest = this.#options.fromSlot ?? 1n;
    // What a member served before it went away need not be served again, except what was still undecided then.
    const seen = this.#connectedFrom.get(String(member)) ?? 0n;
    const from = seen > REACH_BACK ? seen - REACH_BACK : 1n;
    return from > lowest ? from : lowest;
  }

  /** True for what another member has already served and was verified then. */
  #recognise(organism: Organism, outcome: Outcome, member: number): boolean {
    const known = this.get(organism, outcome.stage, outcome.slot);
    if (known === undefined || !equalBytes(known.digest, outcomeDigest(outcome))) return false;
    known.members.add(member);
    this.#served(member, outcome.slot);
    return true;
  }

  #served(member: number, slot: bigint): void {
    const key = String(member);
    if (slot > (this.#connectedFrom.get(key) ?? 0n)) this.#connectedFrom.set(key, slot);
  }

  /** Takes a verified outcome. */
  note(organism: Organism, certified: CertifiedOutcome, member: number): void {
    const { slot, stage } = certified.outcome;
    const arrival: Arrival = {
      organism,
      certified,
      digest: outcomeDigest(certified.outcome),
      arrivedAtMs: this.#nowMs(),
      members: new Set([member]),
    };
    this.#served(member, slot);
    const stages = this.#slots.get(slot) ?? new Map<string, Arrival>();
    const key = `${organism}/${stage}`;
    const known = stages.get(key);
    if (known !== undefined) {
      if (equalBytes(known.digest, arrival.digest)) known.members.add(member);
      else this.conflicts.push(arrival);
      return;
    }
    stages.set(key, arrival);
    this.#slots.set(slot, stages);
    if (slot > this.newest) this.newest = slot;
    this.#forget();
    for (const listener of this.#listeners) listener(arrival);
  }

  #forget(): void {
    const { keepSlots } = this.#options;
    if (keepSlots === undefined) return;
    for (const slot of this.#slots.keys()) if (slot + BigInt(keepSlots) < this.newest) this.#slots.delete(slot);
  }

  onOutcome(listener: (arrival: Arrival) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  get(organism: Organism, stage: string, slot: bigint): Arrival | undefined {
    return this.#slots.get(slot)?.get(`${organism}/${stage}`);
  }

  /** Slots of which anything is known, ascending. */
  slots(): bigint[] {
    return [...this.#slots.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  /** All that was decided about a slot, in pipeline order. */
  slot(slot: bigint): Arrival[] {
    return ORGANISMS.flatMap((organism) => STAGES[organism].flatMap((stage) => this.get(organism, stage, slot) ?? []));
  }

  /** Whether these organisms have decided every stage of the slot. */
  decided(slot: bigint, organisms: readonly Organism[] = ORGANISMS): boolean {
    return organisms.every((organism) =>
      STAGES[organism].every((stage) => this.get(organism, stage, slot) !== undefined),
    );
  }

  /** Decided by the first five organisms, nothing skipped, and its block taken: the slot went all the way through. */
  complete(slot: bigint): boolean {
    if (!this.decided(slot, IN_SLOT)) return false;
    const skipped = IN_SLOT.some((organism) =>
      STAGES[organism].some((stage) => this.get(organism, stage, slot)?.certified.outcome.kind === "skipped"),
    );
    return !skipped && this.get("relay", "accepted", slot)?.certified.outcome.kind === "result";
  }

  /** Milliseconds from the slot's start to an arrival; negative before it. */
  msIntoSlot({ certified, arrivedAtMs }: Arrival): number {
    return Math.round(arrivedAtMs - slotStartMs(this.config, certified.outcome.slot));
  }

  /** Resolves with true once `condition` holds, looking at every arrival and at the clock; false at the deadline. */
  until(condition: () => boolean, deadlineMs: number, signal?: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const finish = (holds: boolean): void => {
        clearInterval(poll);
        clearTimeout(timer);
        stop();
        signal?.removeEventListener("abort", abort);
        resolve(holds);
      };
      const look = (): void => {
        if (condition()) finish(true);
      };
      const abort = (): void => finish(condition());
      const timer = setTimeout(abort, deadlineMs);
      const poll = setInterval(look, 250);
      const stop = this.onOutcome(look);
      signal?.addEventListener("abort", abort);
      if (signal?.aborted === true) abort();
      else look();
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#followers.map((follower) => follower.close()));
  }
}

/** The endpoints of one member of each committee. */
function only(endpoints: Endpoints, index: number): Endpoints {
  const entries = ORGANISMS.map((organism) => {
    const own = endpoints[organism][index];
    return [organism, own === undefined ? [] : [own]] as const;
  });
  return Object.fromEntries(entries) as unknown as Endpoints;
}
