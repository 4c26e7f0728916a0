/**
 * What a member does with its committee's state: votes, checkpoint votes, skips, observations of upstream outcomes and
 * the machine's own duties. Each follows from the state, so a round after a restart takes up exactly what is missing;
 * what must never be said twice differently is journaled first (log.md §3).
 */
import { encode, equalBytes } from "../codec/codec.ts";
import { checkpointDigest } from "../committee/checkpoint.ts";
import { encodeCommand } from "../committee/commands.ts";
import type { Committee } from "../committee/committee.ts";
import type { Lane } from "../committee/entry.ts";
import { eraAt, newestEra } from "../committee/eras.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { ERAS } from "../committee/rules.ts";
import { SLOTS_KEPT } from "../committee/state.ts";
import { blsSign } from "../crypto/bls.ts";
import { type LatticeConfig, slotAt } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty, Submission } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { type Clock, type MemberJournal, PromiseConflict, type Timers } from "../ports.ts";
import type { OrganismNode } from "../service.ts";
import { BUILD_NAME } from "./build.ts";
import type { EpochKeys } from "./epoch-keys.ts";
import type { EraBook } from "./era-book.ts";

const DUTY_PAUSE_MIN_MS = 200;
const DUTY_PAUSE_MAX_MS = 5000;
/** How long each further member waits before it, too, observes an upstream outcome. */
const OBSERVE_PATIENCE_MS = 300;
/** Commands longer than this travel in the bulk lane. */
const CTL_BYTES_MAX = 64 * 1024;
/**
 * How long a certificate is waited for before slots are skipped beyond where its decision is kept: the longer of the two.
 * On a crowded machine votes take many seconds; and where nobody can vote, 40 slots in the time of 16 still catch up.
 */
const CERTIFIED_SLOTS = 16;
const CERTIFIED_MS = 60_000;
/** Outcomes voted for in one command. */
const VOTES_MAX = 64;

export interface DutyRoundOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly self: number;
  readonly committee: Committee<State, Command, D>;
  readonly node: OrganismNode<Command, D>;
  readonly journal: MemberJournal;
  readonly keys: EpochKeys;
  /** As this process knows them; the log may not yet. */
  readonly eras: EraBook;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** False when the log has refused the command. Settles once this member has read it back. */
  readonly append: (lane: Lane, command: Uint8Array) => Promise<boolean>;
  /** No promise is made for slots below this one. */
  readonly abstainBelow: () => bigint;
  /** So full that nothing begins a new slot. */
  readonly logFull: () => boolean;
  /** The member has gone over to ending: what fails then is not worth a line. */
  readonly draining: () => boolean;
  /** Something was tried: another round is due. */
  readonly again: () => void;
}

export class DutyRound<State, Command, D extends Duty> {
  readonly #options: DutyRoundOptions<State, Command, D>;
  readonly #upstream = new Map<
    string,
    { readonly organism: Organism; readonly certified: CertifiedOutcome; readonly atMs: number }
  >();
  readonly #busy = new Set<string>();
  readonly #retry = new Map<string, { readonly atMs: number; readonly times: number }>();
  /** The lowest decision that a certificate is waited for, and since when, by `timers.elapsedMs`. */
  #awaited: { readonly slot: bigint; readonly sinceMs: number } | undefined;
  #notAwaitedBelow = 0n;
  /** Digests that this member cannot vote for any more, by name: it has promised another, perhaps in a log that is lost. */
  readonly #barred = new Map<string, Uint8Array>();

  constructor(options: DutyRoundOptions<State, Command, D>) {
    this.#options = options;
  }

  /** An outcome that this committee's machine may want to know of, verified. */
  noteUpstream(organism: Organism, certified: CertifiedOutcome): void {
    const { stage, slot } = certified.outcome;
    const key = `${organism}/${stage}/${slot}`;
    if (this.#upstream.has(key)) return;
    this.#upstream.set(key, { organism, certified, atMs: this.#options.clock.nowMs() });
  }

  /** What every committee does for its outcomes and checkpoints. */
  common(): void {
    const now = this.#options.clock.nowMs();
    this.#vote();
    this.#voteCheckpoints(now);
    this.#skip(now);
    this.#tellEras();
    this.#observe(now);
  }

  /** Says once per incarnation how far this build can follow, when that is beyond what governs. */
  announceRules(incarnation: bigint | undefined): void {
    const { committee, self, append } = this.#options;
    const { highest } = committee.speaks;
    const said = committee.author(self)?.rules?.highest ?? 0;
    if (highest <= committee.rules.active || highest <= said) return;
    const command = encodeCommand({ type: "rules", highest, build: BUILD_NAME });
    this.attempt(`rules/${incarnation}/${highest}`, () => append("ctl", command));
  }

  /** What this committee's machine wants done. */
  own(): void {
    const { committee, self, clock, journal, abstainBelow, logFull } = this.#options;
    const view = committee.view(self, clock.nowMs(), (key) => journal.isPromised(key));
    for (const duty of committee.machine.duties(committee.state, view)) {
      if (duty.promise && duty.slot < abstainBelow()) continue;
      // A newcomer reads along before its epoch begins; a seat that was given up does so after its last slot.
      if (!committee.hasSeat(self, duty.slot)) continue;
      if (duty.opens === true && logFull()) continue;
      this.attempt(duty.key, () => this.#carryOut(duty));
    }
  }

  /** Runs `work` unless it is running or pausing; pauses double while it does not succeed. */
  attempt(key: string, work: () => Promise<boolean>): void {
    const { logger, timers, draining, again } = this.#options;
    const pausing = this.#retry.get(key);
    if (this.#busy.has(key) || (pausing !== undefined && timers.elapsedMs() < pausing.atMs)) return;
    this.#busy.add(key);
    void work()
      .catch((error: unknown) => {
        if (error instanceof PromiseConflict) logger.error("a promise would be broken; withheld", { duty: key });
        else if (!draining()) logger.warn("duty failed; it is tried again", { duty: key, ...errorFields(error) });
        return false;
      })
      .then((done) => {
        this.#busy.delete(key);
        if (done) this.#retry.delete(key);
        else {
          const times = (pausing?.times ?? 0) + 1;
          const pauseMs = Math.min(DUTY_PAUSE_MIN_MS * 2 ** Math.min(times - 1, 8), DUTY_PAUSE_MAX_MS);
          this.#retry.set(key, { atMs: timers.elapsedMs() + pauseMs, times });
          if (this.#retry.size > 4096) this.#retry.clear();
        }
        again();
      });
  }

  /** The entry's body for what carrying out a duty, or a client's request, asks for, and the lane it goes by. */
  encode(submission: Submission<Command>, lane: Lane = "ctl"): { readonly lane: Lane; readonly command: Uint8Array } {
    const { machine } = this.#options.committee;
    const command = encodeSubmission((own: Command) => encode(machine.command, own), submission);
    return { lane: laneOf(command, lane), command };
  }

  async #carryOut(duty: D): Promise<boolean> {
    const { journal, node, append } = this.#options;
    const over = this.#untilOver();
    const promised = duty.promise ? journal.promised(duty.key) : undefined;
    if (promised !== undefined) return append(laneOf(promised, duty.lane), promised);
    const submission = await node.execute(duty);
    if (submission === undefined || over()) return false;
    const { lane, command } = this.encode(submission, duty.lane);
    if (duty.promise) await journal.promise(duty.key, duty.slot, command);
    return over() ? false : append(lane, command);
  }

  /**
   * @returns whether what follows from the state of now is nothing to be said any more: in the next generation it may not
   * follow, and look like a fraud
   */
  #untilOver(): () => boolean {
    const { committee } = this.#options;
    const { generation } = committee;
    return () => committee.generation !== generation;
  }

  #vote(): void {
    const { committee, self, journal, keys, append, abstainBelow, logger } = this.#options;
    const open = committee
      .unvoted(self)
      .filter(
        (outcome) =>
          outcome.slot >= abstainBelow() &&
          keys.of(outcome.epoch) !== undefined &&
          !this.#busy.has(voteName(outcome)) &&
          !this.#isBarred(outcome),
      )
      .slice(0, VOTES_MAX);
    if (open.length === 0) return;
    const names = open.map(voteName);
    const over = this.#untilOver();
    for (const name of names.slice(1)) this.#busy.add(name);
    this.attempt(names[0] ?? "vote", async () => {
      try {
        const votes = [];
        for (const outcome of open) {
          const digest = outcomeDigest(outcome);
          try {
            await journal.promise(voteName(outcome), outcome.slot, digest);
          } catch (error) {
            if (!(error instanceof PromiseConflict)) throw error;
            // Only this one: whatever else is open is voted on.
            this.#barred.set(voteName(outcome), digest);
            logger.error("a promise would be broken; withheld", { duty: voteName(outcome) });
            continue;
          }
          const shares = keys.of(outcome.epoch);
          if (shares === undefined) continue;
          votes.push({ stage: outcome.stage, slot: outcome.slot, share: blsSign(shares.certificateShare, digest) });
        }
        if (votes.length === 0 || over()) return true;
        return await append("ctl", encodeCommand({ type: "vote", votes }));
      } finally {
        for (const name of names.slice(1)) this.#busy.delete(name);
      }
    });
  }

  #isBarred(outcome: Outcome): boolean {
    const barred = this.#barred.get(voteName(outcome));
    return barred !== undefined && equalBytes(barred, outcomeDigest(outcome));
  }

  #voteCheckpoints(now: number): void {
    const { committee, config, self, journal, keys, append, abstainBelow } = this.#options;
    const slot = slotAt(config, now);
    if (slot < abstainBelow()) return;
    const over = this.#untilOver();
    for (const checkpoint of committee.unvotedCheckpoints(self)) {
      const shares = keys.of(checkpoint.epoch);
      if (shares === undefined) continue;
      const { generation, position, stateHash, stateBytes, guestHash, guestBytes } = checkpoint;
      const key = `checkpoint/${generation}/${position}`;
      this.attempt(key, async () => {
        const digest = checkpointDigest(checkpoint);
        await journal.promise(key, slot, digest);
        // Its position is one of this generation's.
        if (over()) return true;
        const share = blsSign(shares.certificateShare, digest);
        const state = { stateHash, stateBytes, guestHash, guestBytes };
        return append("ctl", encodeCommand({ type: "checkpoint", position, ...state, share }));
      });
    }
  }

  /**
   * How far this member skips now: what is decided is forgotten SLOTS_KEPT below the lowest undecided slot, certified or
   * not, and somebody downstream may wait for every single certificate. So after an outage slots are skipped piece by
   * piece, as they are certified. What no certificate comes for in time (too many abstain) is not waited for any longer.
   */
  #skipLimit(): bigint {
    const { committee, config, timers } = this.#options;
    const lowest = committee.lowestUndecided;
    const elapsedMs = timers.elapsedMs();
    const patienceMs = Math.max(CERTIFIED_MS, CERTIFIED_SLOTS * config.slotMs);
    const slot = committee.lowestUncertified(this.#notAwaitedBelow);
    if (slot !== this.#awaited?.slot) this.#awaited = slot === undefined ? undefined : { slot, sinceMs: elapsedMs };
    else if (this.#awaited !== undefined && elapsedMs - this.#awaited.sinceMs > patienceMs) {
      this.#notAwaitedBelow = lowest;
      this.#awaited = undefined;
    }
    const from = this.#awaited === undefined || lowest < this.#awaited.slot ? lowest : this.#awaited.slot;
    const limit = from + SLOTS_KEPT - 1n;
    return limit < committee.skipLimit ? limit : committee.skipLimit;
  }

  #skip(now: number): void {
    const { committee, self, append } = this.#options;
    const { machine } = committee;
    const limit = this.#skipLimit();
    for (const stage of machine.stages) {
      let to = 0n;
      for (let slot = committee.floor(stage); ; slot++) {
        const at = machine.skipAtMs(stage, slot);
        if (at === undefined || at > now || slot > limit) break;
        to = slot;
      }
      if (to > committee.skippedTo(self, stage)) {
        this.attempt(`skip/${stage}/${to}`, () => append("ctl", encodeCommand({ type: "skip", stage, toSlot: to })));
      }
    }
  }

  /** Tells the log of eras upstream that it does not know, so that all members judge by the same keys. */
  #tellEras(): void {
    const { committee, self, eras, append } = this.#options;
    if (committee.rules.active < ERAS) return;
    for (const organism of new Set(committee.machine.upstream.map((each) => each.organism))) {
      const { number } = newestEra(committee.eras(organism));
      const link = eras.links(organism)[number];
      if (link === undefined || committee.hasToldEra(self, organism, link)) continue;
      const command = encodeCommand({ type: "era", organism, certified: link });
      this.attempt(`era/${organism}/${number + 1}`, () => append("ctl", command));
    }
  }

  #observe(now: number): void {
    const { committee, self, append, eras } = this.#options;
    for (const [key, { organism, certified, atMs }] of this.#upstream) {
      const { stage, slot } = certified.outcome;
      const { members } = committee.quorumAt(slot);
      if (slot < committee.collapsedBelow || committee.observed(organism, stage, slot) !== undefined) {
        this.#upstream.delete(key);
        continue;
      }
      // Refused by everybody until the log tells of that era.
      if (eraAt(eras.of(organism), slot).number > newestEra(committee.eras(organism)).number) continue;
      const rank = (((self - Number(slot % BigInt(members))) % members) + members) % members;
      if (now < atMs + rank * OBSERVE_PATIENCE_MS) continue;
      const command = encodeCommand({ type: "observe", organism, certified });
      this.attempt(`observe/${key}`, () => append("ctl", command));
    }
  }
}

function voteName({ stage, slot }: Outcome): string {
  return `vote/${stage}/${slot}`;
}

function laneOf(command: Uint8Array, lane: Lane = "ctl"): Lane {
  return command.length > CTL_BYTES_MAX ? "bulk" : lane;
}

function encodeSubmission<Command>(
  machineCommand: (command: Command) => Uint8Array,
  submission: Submission<Command>,
): Uint8Array {
  switch (submission.type) {
    case "machine":
      return encodeCommand({ type: "machine", command: machineCommand(submission.command) });
    case "saw":
      return encodeCommand({ ...submission });
    case "close":
      return encodeCommand({ ...submission, inputs: [...submission.inputs] });
  }
}
