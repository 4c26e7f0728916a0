/**
 * A guest of a committee: an auditor, or an integrator that wants more than outcomes. It begins with the certified state
 * that guests are given and applies what follows with a machine of its own, so it takes nobody's word for anything but
 * a quorum's: every share in the log is verified, and at each checkpoint a quorum certifies the guest's own state.
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import type { CertifiedCheckpoint, Checkpoint } from "../committee/checkpoint.ts";
import { type Applied, Committee } from "../committee/committee.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { signReader } from "../committee/reader.ts";
import { checkRoster, type Roster } from "../committee/roster.ts";
import { RulesUnknown } from "../committee/rules.ts";
import type { SigningKey } from "../crypto/ed25519.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty, Machine } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { type Clock, type LogMessage, pause, type Timers } from "../ports.ts";
import { rostersTold } from "./committee-wire.ts";
import { type EraSource, EraWatch } from "./era-watch.ts";
import { type ConnectCommittee, connectOverGrpc } from "./outcome-follower.ts";
import { fetchSnapshot, guestSource } from "./snapshot-fetcher.ts";

/** Nobody gave a certified state to begin with, or what a quorum certified is not what the log leads to. */
export class GuestProblem extends Error {
  override readonly name = "GuestProblem";
}

export interface GuestOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly createMachine: (roster: Roster) => Machine<State, Command, D>;
  /** `host:port` of members; asked in this order, and the next one when one fails or lies. */
  readonly addresses: readonly string[];
  /** The guest's own key, and tickets for it to the audience of guests (committee/reader.ts). */
  readonly key: SigningKey;
  readonly tickets: readonly Uint8Array[];
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly connect?: ConnectCommittee;
  /** Which certificate keys speak for which epochs; what members tell when left out. */
  readonly eras?: EraSource;
  /** Other than the default in tests only, alike with the members. */
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  /** A decision, once the log holds a quorum's votes for it: its certificate is made here. */
  readonly onOutcome?: (certified: CertifiedOutcome) => void;
  /** A quorum certified this state of the guest: what it may go on from later. */
  readonly onCertified?: (certified: CertifiedCheckpoint, view: Uint8Array) => void;
}

const STREAM_IDLE_SLOTS = 3;
/**
 * Slots in which no more than f members are heard of before another member is asked: this one may be withholding the
 * rest. What no member wrote does not count, however much of it comes.
 */
const QUIET_SLOTS_MAX = 8;
const AGAIN_MS = 250;
/** Guest states kept until they are certified. */
const PENDING_MAX = 4;

/** What the guest's owner does with what it is told has failed: no member's fault. */
class OwnersFailure extends Error {}

/** @throws OwnersFailure */
function told(tell: () => void): void {
  try {
    tell();
  } catch (error) {
    throw new OwnersFailure("the guest's owner failed", { cause: error });
  }
}

interface Certified {
  readonly certified: CertifiedCheckpoint;
  readonly view: Uint8Array;
}

export class Guest<State, Command, D extends Duty> {
  readonly #options: GuestOptions<State, Command, D>;
  readonly #roster: Roster;
  readonly #eras: EraSource;
  readonly #pending = new Map<bigint, Uint8Array>();
  #committee: Committee<State, Command, D>;
  /** The newest state that a quorum certified. */
  #newest: Certified;
  /** Members whose entries named another chain than this one, since that state. */
  readonly #strangers = new Set<number>();
  /** Messages since more than f members were heard of: what one member alone may have made up. */
  #unheard = 0;
  /** Decisions told since the newest certified state, and since the one before: what is read again is not told again. */
  #told = new Set<string>();
  #toldBefore = new Set<string>();
  #turn = 0;

  private constructor(options: GuestOptions<State, Command, D>, roster: Roster, begin: Certified, eras: EraSource) {
    this.#eras = eras;
    this.#options = options;
    this.#roster = roster;
    this.#newest = begin;
    this.#committee = this.#restored(begin);
  }

  /**
   * Begins with the newest certified state that any member gives, or with `from`, when the guest has one.
   * @throws GuestProblem
   */
  static async begin<State, Command, D extends Duty>(
    options: GuestOptions<State, Command, D>,
    from?: Certified,
  ): Promise<Guest<State, Command, D>> {
    const { config, addresses, connect, logger } = options;
    const reached = connect === undefined ? {} : { connect };
    const eras = options.eras ?? new EraWatch({ config, addresses: () => addresses, log: logger, ...reached });
    const roster = await firstRoster(options);
    const begin = from ?? (await fetchView(options, eras));
    if (begin === undefined) {
      throw new GuestProblem(
        "no member gave a certified state to begin with: none holds one yet, or none admits this key",
      );
    }
    return new Guest(options, roster, begin, eras);
  }

  /** The guest's replica. */
  get committee(): Committee<State, Command, D> {
    return this.#committee;
  }
  get newestCertified(): Certified {
    return this.#newest;
  }

  #restored({ certified, view }: Certified): Committee<State, Command, D> {
    const { config, createMachine, checkpointEvery } = this.#options;
    const { checkpoint } = certified;
    const committee = new Committee<State, Command, D>({
      config,
      roster: this.#roster,
      machine: createMachine(this.#roster),
      generation: checkpoint.generation,
      ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
    });
    committee.restoreGuest(view);
    if (committee.position !== checkpoint.position || !equalBytes(committee.head, checkpoint.head)) {
      throw new GuestProblem("the certified state is not that of its position");
    }
    return committee;
  }

  /**
   * Follows the log until `signal` aborts.
   * @throws GuestProblem when a quorum certified another state than the log leads to, or nobody serves what follows
   * @throws RulesUnknown when the log goes on by rules that this build does not have
   * @throws what `onOutcome` or `onCertified` throws
   */
  async follow(signal: AbortSignal): Promise<void> {
    const { addresses, timers, logger } = this.#options;
    let failed = 0;
    while (!signal.aborted) {
      const address = addresses[this.#turn % addresses.length];
      if (address === undefined) throw new GuestProblem("no member's address is known");
      const before = this.#committee.position;
      try {
        await this.#followOne(address, signal);
      } catch (error) {
        if (error instanceof OwnersFailure) throw error.cause;
        if (signal.aborted) return;
        if (error instanceof GuestProblem || error instanceof RulesUnknown) throw error;
        logger.warn("a member does not go on; the next one is asked", { address, ...errorFields(error) });
        if (isTooOld(error)) await this.#beginAgain();
      }
      this.#turn += 1;
      failed = this.#committee.position > before ? 0 : failed + 1;
      if (failed > 0 && failed % addresses.length === 0) await pause(timers, AGAIN_MS, signal);
    }
  }

  async #followOne(address: string, signal: AbortSignal): Promise<void> {
    const { config, organism, key, tickets, clock, timers, connect = connectOverGrpc } = this.#options;
    const committee = committeeId(config, organism);
    const client = connect(address, committee);
    // Counted by ticks: a guest that was itself stopped has not been left alone.
    let quiet = 0;
    const stopTicking = timers.every(config.slotMs, () => {
      quiet += 1;
    });
    try {
      const position = this.#committee.position + 1n;
      const signedAtMs = BigInt(clock.nowMs());
      const signature = signReader(key, { committee, what: "log", position, key: key.publicKey, signedAtMs });
      const reader = { key: key.publicKey, tickets: [...tickets], signedAtMs, signature };
      const stream = client.readLog(
        { fromPosition: position, generation: this.#committee.generation, reader },
        { signal, idleMs: STREAM_IDLE_SLOTS * config.slotMs },
      );
      const heard = new Set<number>();
      for await (const { event } of stream) {
        if (event.case === "message") {
          const taken = this.#take({ position: event.value.position, raw: event.value.raw.slice() });
          if (taken === "another log") return;
          if (taken !== undefined) heard.add(taken);
        }
        if (heard.size > this.#committee.quorum.faults) {
          heard.clear();
          quiet = 0;
          this.#unheard = 0;
        }
        if (quiet > QUIET_SLOTS_MAX) return;
      }
    } finally {
      stopTicking();
      client.close();
      // It may have been made up, and a guest that has gone beyond the log's end would wait there for the others.
      if (this.#unheard > 0 && !signal.aborted) this.#goBack();
    }
  }

  /** @returns who spoke; nobody, when nobody did; or that whoever serves this log is not to be asked further */
  #take({ position, raw }: LogMessage): number | "another log" | undefined {
    const { logger } = this.#options;
    const committee = this.#committee;
    if (position !== committee.position + 1n) {
      logger.warn("a member left out a part of the log", { position, expected: committee.position + 1n });
      return "another log";
    }
    const applied = committee.apply(position, raw);
    this.#unheard += 1;
    this.#note(applied);
    if (applied.refusal?.reason === "FORKED_HEAD" && applied.author !== undefined) {
      this.#strangers.add(applied.author);
    }
    // So many cannot all be lying: what was served is not the log that they write.
    if (this.#strangers.size <= committee.quorum.faults) return applied.landed ? applied.author : undefined;
    logger.warn("a member served another log than the committee writes; going back to the newest certified state", {
      position: this.#newest.certified.checkpoint.position,
    });
    this.#goBack();
    return "another log";
  }

  /** To the newest state that a quorum certified. */
  #goBack(): void {
    this.#committee = this.#restored(this.#newest);
    this.#pending.clear();
    this.#strangers.clear();
    this.#unheard = 0;
  }

  #note({ certified, checkpoint, certifiedCheckpoint, dissent }: Applied): void {
    const { onOutcome, logger } = this.#options;
    const committee = this.#committee;
    for (const outcome of certified) {
      const key = `${outcome.stage}/${outcome.slot}`;
      if (this.#told.has(key) || this.#toldBefore.has(key)) continue;
      this.#told.add(key);
      const votes = committee.votes(outcome.stage, outcome.slot);
      const certificate = this.#combine(outcome.epoch, votes);
      told(() => onOutcome?.({ outcome, ...certificate }));
    }
    if (checkpoint !== undefined) {
      this.#pending.set(checkpoint.checkpoint.position, checkpoint.guest);
      for (const old of [...this.#pending.keys()].slice(0, -PENDING_MAX)) this.#pending.delete(old);
    }
    if (certifiedCheckpoint !== undefined) this.#certify(certifiedCheckpoint);
    if (dissent === undefined) return;
    logger.warn("members have another state than this guest", {
      position: dissent.position,
      authors: dissent.authors.join(),
    });
    if (dissent.authors.length >= committee.quorum.quorum) {
      const authors = dissent.authors.join(", ");
      throw new GuestProblem(
        `members ${authors} certified another state at position ${dissent.position}: ${toHex(dissent.stateHash)}`,
      );
    }
  }

  #certify(checkpoint: Checkpoint): void {
    const view = this.#pending.get(checkpoint.position);
    if (view === undefined) return;
    const certified = {
      checkpoint,
      ...this.#combine(checkpoint.epoch, this.#committee.checkpointVotes(checkpoint.position)),
    };
    this.#newest = { certified, view };
    this.#strangers.clear();
    this.#toldBefore = this.#told;
    this.#told = new Set();
    told(() => this.#options.onCertified?.(certified, view));
  }

  #combine(
    epoch: bigint,
    votes: ReadonlyMap<number, Uint8Array>,
  ): { readonly signature: Uint8Array; readonly signers: number[] } {
    const { quorum } = this.#committee.quorumOfEpoch(epoch);
    const shares = [...votes].sort(([a], [b]) => a - b).slice(0, quorum);
    const signature = combineSignatures(
      shares.map(([index, share]) => ({ index, signature: share })),
      quorum,
    );
    return { signature, signers: shares.map(([index]) => index) };
  }

  /** The log has been trimmed beyond where this guest stood, or its generation is over. */
  async #beginAgain(): Promise<void> {
    const { generation, position } = this.#committee;
    const newest = await fetchView(
      this.#options,
      this.#eras,
      ({ checkpoint: each }) =>
        !this.#committee.keyIsOver(each.epoch) &&
        (each.generation > generation || (each.generation === generation && each.position > position)),
    );
    // A member that is behind this guest says the same.
    if (newest === undefined) return;
    this.#newest = newest;
    this.#goBack();
    this.#options.logger.warn("the log no longer continues what this guest had; it begins again", {
      position: this.#committee.position,
    });
  }
}

function isTooOld(error: unknown): boolean {
  return error instanceof Error && "reason" in error && error.reason === "LOG_TOO_OLD";
}

/** Undefined when nobody gives one. */
async function fetchView<State, Command, D extends Duty>(
  options: GuestOptions<State, Command, D>,
  eras: EraSource,
  wanted: (certified: CertifiedCheckpoint) => boolean = () => true,
): Promise<Certified | undefined> {
  const { config, organism, addresses, key, tickets, clock, logger, connect } = options;
  const reached = connect === undefined ? {} : { connect };
  const fetched = await fetchSnapshot({
    config,
    organism,
    view: "guest",
    sources: addresses.map((address) => guestSource({ config, organism, key, tickets, clock, address, ...reached })),
    wanted,
    log: logger,
    eras: eras.of,
    learnEras: () => eras.ask(organism),
  });
  return fetched === undefined ? undefined : { certified: fetched.certified, view: fetched.state };
}

/** The roster that the log began with, from whoever answers. @throws GuestProblem */
async function firstRoster<State, Command, D extends Duty>(options: GuestOptions<State, Command, D>): Promise<Roster> {
  const { config, organism, addresses, connect = connectOverGrpc, logger } = options;
  for (const address of addresses) {
    const client = connect(address, committeeId(config, organism));
    try {
      const { rosters } = await client.getRosters({});
      const known = rostersTold(rosters).flatMap((certified) => {
        const checked = checkRoster(config, organism, certified);
        return "problem" in checked ? [] : [checked.roster];
      });
      const [first] = known.sort((a, b) => (a.epoch < b.epoch ? -1 : 1));
      if (first !== undefined) return first;
    } catch (error) {
      logger.warn("a member does not give its rosters", { address, ...errorFields(error) });
    } finally {
      client.close();
    }
  }
  throw new GuestProblem("no member gave its rosters");
}
