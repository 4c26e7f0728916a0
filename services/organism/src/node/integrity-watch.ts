/**
 * A member's eyes on its log and on the other members (log.md §4, §6): compares chain heads with them every slot, past
 * the broker; catches who says two things and brings the proof; notices what the log does not deliver.
 *
 * It reports and counts. What stops the member is decided here once, in `forked` (docs/decisions/0021 and 0028).
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import { type CommitteeCommand, decodeCommand, FRAUD_PROOF_BYTES_MAX } from "../committee/commands.ts";
import type { Applied, Committee } from "../committee/committee.ts";
import { decodeEntry } from "../committee/entry.ts";
import { fraudProofHash } from "../committee/fraud.ts";
import { type Difference, ForkWatch, type SignedHead, verifyHead } from "../committee/heads.ts";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import type { Roster } from "../committee/roster.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Duty, Refusal } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import { HistoryGone, type Log, pause, type Timers } from "../ports.ts";
import { type Caught, FraudCollector, type Suspicion } from "./fraud-collector.ts";
import type { FraudProofs } from "./fraud-proofs.ts";
import { fromWireDecision, fromWireHead } from "./integrity-wire.ts";
import type { ReadHead } from "./others-go-on.ts";
import type { CommitteeClient } from "./outcome-follower.ts";
import { provenBy } from "./proven-frauds.ts";
import { readOne } from "./read-one.ts";

/** How long an answer may take. */
const ANSWER_MS = 2000;
/** How long an entry that the log has acknowledged may stay away before it counts as withheld: longer than a resend. */
const WITHHELD_MS = 5000;
/** A member that has said nothing for this many slots is not live. */
const LIVE_SLOTS = 4;
/** How often the first of two entries is asked for, how long each time, and the pause between. */
const RECALLS_MAX = 10;
const RECALL_MS = 5000;
const RECALL_PAUSE_MS = 1000;
/** How long each further member waits before it, too, brings a proof. */
const ACCUSE_PATIENCE_MS = 500;

export interface IntegrityOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly self: number;
  readonly committee: Committee<State, Command, D>;
  readonly certifiedRosters: () => readonly CertifiedOutcome[];
  readonly proofs: FraudProofs;
  readonly log: Log;
  /** Connections to the other members of this committee, by index. */
  readonly peers: () => readonly CommitteeClient[];
  /** For how long the log has had an entry of this member that it does not deliver, ms. */
  readonly withheldMs: () => number;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly meters: Meters;
  /** So many members are on another chain that no quorum can be on this one: this member must stop. */
  readonly onForked: (detail: string) => void;
  /** A member of this committee says that it reads a later generation. */
  readonly onGeneration?: () => void;
  /** There is a proof to bring. */
  readonly onAccusation: () => void;
  /** Called with each new proof, by hash: to leave it where people find it. */
  readonly onProof?: (hash: string, proof: Uint8Array) => void;
}

export class IntegrityWatch<State, Command, D extends Duty> {
  readonly #options: IntegrityOptions<State, Command, D>;
  #forks: ForkWatch;
  readonly #collector: FraudCollector;
  /** Member keys that others have shown proofs against. */
  readonly #provenElsewhere = new Set<string>();
  readonly #accusations = new Map<string, Caught & { readonly atMs: number }>();
  /** By proof: the oldest epoch that was known when the log would have taken it. */
  readonly #judgedFrom = new Map<string, bigint>();
  /** What others had applied when last asked, and when that was. */
  #others: readonly bigint[] = [];
  #comparing: Promise<void> | undefined;
  #live = false;
  #withheld = false;
  #degraded = false;
  #stopTicking: () => void = () => undefined;
  readonly #closing = new AbortController();
  /** By member. */
  readonly #recalling = new Map<number, Promise<void>>();
  /** By member: whose votes are being looked at. */
  readonly #voting = new Map<number, Promise<void>>();

  constructor(options: IntegrityOptions<State, Command, D>) {
    this.#options = options;
    const { config, committee, self } = options;
    const { organism, roster } = committee;
    this.#forks = new ForkWatch(() => committee.quorum, self);
    this.#collector = new FraudCollector({ config, organism, roster, eras: () => committee.eras() });
  }

  /**
   * What was caught before a restart and is not in the log yet; the rosters and the incarnations that came before this
   * state, whose entries may not be read again.
   */
  restore(): void {
    const { committee, certifiedRosters, proofs, timers } = this.#options;
    for (const certified of certifiedRosters()) this.#collector.roster(certified);
    for (const { index } of committee.roster.members) {
      const join = committee.author(index)?.join;
      if (join !== undefined) this.#collector.join(join);
    }
    for (const proof of proofs.toCommit()) {
      const verdict = committee.judgeFraud(proof);
      if ("fraud" in verdict) {
        this.#accusations.set(toHex(fraudProofHash(proof)), { proof, ...verdict, atMs: timers.elapsedMs() });
      }
    }
  }

  /** Call it once everything that was in the log at start is applied: from here on a fork stops the member. */
  async begin(): Promise<void> {
    const { committee } = this.#options;
    this.#live = true;
    // A round that is under way asks for what this member had read before, perhaps of a generation that is over.
    await this.#comparing;
    // Before the first word: whoever comes back to another log than the others' should not speak in it.
    if (committee.position > 0n) await this.compare();
    this.#judge();
  }

  /** Compares heads every slot until `close`. */
  watch(): void {
    const { timers, config } = this.#options;
    this.#stopTicking = timers.every(config.slotMs, () => {
      // Who does not answer holds up nothing but the round's end.
      if (this.#comparing !== undefined && this.#live) this.#judge();
      void this.compare();
    });
  }

  /** Positions begin anew: what was seen of others' chains is of the generation before. */
  beginGeneration(): void {
    const { committee, self } = this.#options;
    this.#forks = new ForkWatch(() => committee.quorum, self);
    this.#others = [];
    this.#live = false;
    this.#options.meters.gauge("lattice_log_differing_members", 0);
  }

  async close(): Promise<void> {
    this.#stopTicking();
    this.#closing.abort();
    await Promise.all(this.#recalling.values());
    await this.#comparing;
    await Promise.all(this.#voting.values());
  }

  /** Members last seen on another chain. */
  get differing(): readonly Difference[] {
    return this.#forks.differing;
  }

  /** Tells it of every log message, after it was applied. */
  delivered(raw: Uint8Array, applied: Applied): void {
    const { committee, meters, logger, proofs } = this.#options;
    const { author } = applied;
    if (applied.announced !== undefined) this.#learnRoster(raw);
    if (author !== undefined && !committee.isBlocked(author)) this.#seen(raw, applied, author);
    else if (author === undefined && applied.entry !== undefined) this.#collect(raw, applied);
    if (applied.fraud === undefined) return;
    const blocked = committee.blocked.at(-1);
    logger.error("a member was proven to say two things; nothing more is taken from its key", {
      accused: blocked?.member,
      kind: blocked?.kind,
      proof: toHex(fraudProofHash(applied.fraud)),
      position: applied.position,
    });
    meters.count("lattice_frauds_proven_total", 1, { kind: blocked?.kind ?? "" });
    this.#publish(applied.fraud);
    proofs
      .keep(applied.fraud)
      .catch((error: unknown) => logger.error("a fraud proof was not kept", errorFields(error)));
    this.#gauges();
  }

  /** Proofs against keys of the next epoch need its roster with the certificate, as it stands in the entry. */
  #learnRoster(raw: Uint8Array): void {
    const command = decodeCommand(decodeEntry(raw).body.command);
    if (command.type === "roster") this.#collector.roster(command.certified);
  }

  #collect(raw: Uint8Array, { position, read }: Applied, signer?: Uint8Array): void {
    const found = read === undefined ? undefined : this.#collector.read({ position, raw }, read, signer);
    if (found === undefined) return;
    if ("proof" in found) this.#note(found);
    else if (!this.#recalling.has(found.member)) {
      const recalled = this.#recall(found)
        .catch((error: unknown) => this.#options.logger.error("a suspicion was dropped", errorFields(error)))
        .finally(() => this.#recalling.delete(found.member));
      this.#recalling.set(found.member, recalled);
    }
  }

  /** Reads the first of two entries again. A log that does not have it any more leaves the liar unproven, not unnamed. */
  async #recall({ member, position, prove }: Suspicion): Promise<void> {
    const { log, timers, logger } = this.#options;
    const { signal } = this.#closing;
    for (let turn = 0; turn < RECALLS_MAX && !signal.aborted; turn++) {
      if (turn > 0) await pause(timers, RECALL_PAUSE_MS, signal);
      try {
        const first = await readOne(log, position, { timers, withinMs: RECALL_MS, signal });
        if (first === undefined) continue;
        const caught = prove(first);
        if (caught === undefined) break;
        this.#note(caught);
        return;
      } catch (error) {
        if (error instanceof HistoryGone) break;
        logger.debug("an entry could not be read again", errorFields(error));
      }
    }
    if (signal.aborted) return;
    logger.error("a member said two things, and the log does not show the first any more: nothing can be proven", {
      member,
      position,
    });
  }

  #seen(raw: Uint8Array, applied: Applied, author: number): void {
    const { committee, logger, meters } = this.#options;
    const { refusal, landed, read } = applied;
    const key = committee.author(author)?.key;
    this.#collect(raw, applied, key);
    if (read === undefined) return;
    const { seenPosition, seenHead } = read.body;
    if (refusal?.reason === "OUT_OF_ORDER") {
      // The entry before it may stand on the other chain: it crosses the fork all the same (log.md §2).
      const own = committee.headAt(seenPosition);
      const ahead = seenPosition >= applied.position;
      if (!ahead && (own === undefined || equalBytes(own, seenHead))) return;
    } else if (!landed && refusal?.reason !== "FORKED_HEAD") return;
    if (landed) {
      this.#forks.agrees(author, seenPosition);
      return;
    }
    meters.count("lattice_log_forks_total");
    if (this.#forks.differs(author, seenPosition, "entry")) {
      logger.error("an author saw another chain: the broker shows members different logs, or it lies", {
        author,
        position: seenPosition,
      });
    }
    if (this.#live) this.#judge();
  }

  #judge(): void {
    const { meters, committee, onForked } = this.#options;
    const { differing } = this.#forks;
    meters.gauge("lattice_log_differing_members", differing.length);
    if (!this.#forks.forked) return;
    const seen = differing.map(({ member, position, by }) => `member ${member} at position ${position} (${by})`);
    const { position, generation, head } = committee;
    onForked(
      `${seen.join(", ")} read another chain than this member, whose head at position ${position} of generation ${generation} is ${toHex(head)}`,
    );
  }

  /** One round: everybody is asked for the head at this member's position. Rounds do not overlap. */
  compare(): Promise<void> {
    this.#comparing ??= this.#compare()
      .catch((error: unknown) => this.#options.logger.error("comparing heads failed", errorFields(error)))
      .finally(() => {
        this.#comparing = undefined;
      });
    return this.#comparing;
  }

  async #compare(): Promise<void> {
    const { committee, self, peers, meters, logger } = this.#options;
    const { generation, position } = committee;
    const agreeing = new Set([self]);
    const newest: bigint[] = [];
    const take = async (peer: CommitteeClient): Promise<void> => {
      const answer = await this.#ask(peer, position);
      if (answer === undefined || answer.statement.member === self) return;
      const { member, position: at, head, newest: last } = answer.statement;
      const own = committee.headAt(at);
      if (own === undefined) return;
      newest.push(last);
      if (equalBytes(own, head)) {
        this.#forks.agrees(member, at);
        agreeing.add(member);
        return;
      }
      if (this.#forks.differs(member, at, "statement")) {
        meters.count("lattice_log_forks_total");
        logger.error("a member reads another chain: the broker shows members different logs, or it lies", {
          member,
          position: at,
          own_head: toHex(own),
          its_head: toHex(head),
          its_signature: toHex(answer.signature),
        });
      }
      this.#compareVotes(member, peer);
    };
    await Promise.all(peers().map(take));
    // What was seen of one generation is not what the next one is judged by.
    if (committee.generation !== generation) return;
    this.#noteAgreeing(agreeing.size);
    this.#noteWithheld(newest);
    this.#gauges();
    await this.#completeProofs();
    if (this.#live) this.#judge();
  }

  /** What each other member reads in this generation, signed by it just now: its head at `position`, or its newest one below. */
  async heads(position: bigint): Promise<ReadonlyMap<number, ReadHead>> {
    const { self, peers } = this.#options;
    const answers = await Promise.all(peers().map((peer) => this.#ask(peer, position)));
    const found = new Map<number, ReadHead>();
    for (const answer of answers) {
      if (answer === undefined || answer.statement.member === self) continue;
      const { member, newest } = answer.statement;
      // Anybody can pass on what another one said before.
      const known = found.get(member);
      if (known === undefined || newest > known.newest) found.set(member, answer.statement);
    }
    return found;
  }

  /**
   * Members whose keys are blocked, in this log or by a proof that others show: what it reads itself may not hold that one any
   * more. Nobody's word is taken for it.
   */
  async blockedAnywhere(): Promise<ReadonlySet<number>> {
    const { committee, peers } = this.#options;
    const { members } = committee.roster;
    await Promise.all(peers().map((peer) => this.#learnFrauds(peer)));
    const blocked = members.filter(
      ({ index, memberKey }) => committee.isBlocked(index) || this.#provenElsewhere.has(toHex(memberKey)),
    );
    return new Set(blocked.map(({ index }) => index));
  }

  async #learnFrauds(peer: CommitteeClient): Promise<void> {
    const { config, committee, logger } = this.#options;
    const question = {
      config,
      organism: committee.organism,
      eras: committee.eras(),
      rosters: committee.rosters,
      wanted: (key: Uint8Array) =>
        !committee.isBlockedKey(key) &&
        !this.#provenElsewhere.has(toHex(key)) &&
        committee.roster.members.some(({ memberKey }) => equalBytes(memberKey, key)),
      deadlineMs: ANSWER_MS,
    };
    try {
      for await (const { fraud } of provenBy(peer, question)) this.#provenElsewhere.add(toHex(fraud.memberKey));
    } catch (error) {
      logger.debug("a member does not say what it knows of frauds", errorFields(error));
    }
  }

  async #ask(peer: CommitteeClient, position: bigint): Promise<SignedHead | undefined> {
    const { committee, logger } = this.#options;
    const { generation } = committee;
    try {
      const head = fromWireHead(await peer.getHead({ position }, { deadlineMs: ANSWER_MS }));
      if (committee.generation !== generation) return undefined;
      const later = head !== undefined && head.statement.generation > committee.generation;
      if (later && verifyHead(committee.roster, head)) {
        this.#options.onGeneration?.();
        return undefined;
      }
      const usable =
        head !== undefined &&
        verifyHead(this.#rosterOf(head.statement.member), head) &&
        head.statement.generation === committee.generation &&
        head.statement.position <= position;
      if (usable) return head;
      logger.warn("a member answered with a head that is not signed as it should be");
    } catch (error) {
      logger.debug("a member does not say its head", errorFields(error));
    }
    return undefined;
  }

  /** The roster under which a member speaks: a newcomer does so before its epoch begins. */
  #rosterOf(member: number): Roster {
    const { committee } = this.#options;
    const admitted = committee.author(member)?.memberKey;
    const held = committee.rosters.findLast(
      ({ members }) => admitted !== undefined && equalBytes(members[member]?.memberKey ?? new Uint8Array(), admitted),
    );
    return held ?? committee.roster;
  }

  /** Beside the rounds: whoever takes its time over its votes, page by page, keeps nobody else from being compared. */
  #compareVotes(member: number, peer: CommitteeClient): void {
    if (this.#voting.has(member)) return;
    const looked = this.#conflictingVotes(peer)
      .catch((error: unknown) => this.#options.logger.debug("a member does not say its votes", errorFields(error)))
      .finally(() => this.#voting.delete(member));
    this.#voting.set(member, looked);
  }

  /** On two chains a corrupt member may have voted for two outcomes: both shares together prove it. */
  async #conflictingVotes(peer: CommitteeClient): Promise<void> {
    const { committee } = this.#options;
    let fromSlot = committee.collapsedBelow;
    // What is not decided here conflicts with nothing: a page that goes on there for ever is not followed.
    const newest = committee.decisions(fromSlot).at(-1)?.outcome.slot ?? 0n;
    // Judging a share costs pairings: one word of it for each decision.
    const looked = new Set<string>();
    while (fromSlot <= newest && !this.#closing.signal.aborted) {
      const { decisions } = await peer.listVotes({ fromSlot }, { deadlineMs: ANSWER_MS });
      for (const wire of decisions) {
        const other = fromWireDecision(wire);
        if (other === undefined || other.outcome.slot < fromSlot) return;
        const { stage, slot } = other.outcome;
        const outcome = committee.outcome(stage, slot);
        if (outcome === undefined || looked.has(`${slot}/${stage}`)) continue;
        looked.add(`${slot}/${stage}`);
        const votes = { outcome, votes: committee.votes(stage, slot) };
        for (const caught of this.#collector.votes(votes, other)) this.#note(caught);
      }
      const last = decisions.at(-1)?.outcome?.slot;
      if (last === undefined || last < fromSlot) return;
      fromSlot = last + 1n;
    }
  }

  #noteAgreeing(members: number): void {
    const { committee, meters, logger } = this.#options;
    const { quorum } = committee.quorum;
    meters.gauge("lattice_log_heads_agreeing", members);
    meters.gauge("lattice_log_degraded", members < quorum ? 1 : 0);
    const degraded = members < quorum;
    if (degraded === this.#degraded) return;
    this.#degraded = degraded;
    if (degraded) logger.warn("degraded: fewer than a quorum show this member's chain head", { members, quorum });
    else logger.info("a quorum shows this member's chain head again", { members, quorum });
  }

  /** Withheld: a round ago f + 1 others had applied what this member still has not, or the log keeps its own words from it. */
  #noteWithheld(newest: readonly bigint[]): void {
    const { committee, meters, logger, withheldMs } = this.#options;
    const expected = [...this.#others].sort((a, b) => (a < b ? 1 : -1))[committee.quorum.faults] ?? 0n;
    this.#others = newest;
    const own = withheldMs();
    const behind = expected > committee.position;
    const withheld = behind || own > WITHHELD_MS;
    meters.gauge("lattice_log_withheld", withheld ? 1 : 0);
    if (withheld === this.#withheld) return;
    this.#withheld = withheld;
    if (withheld) {
      logger.error("the log does not deliver what it has: the broker withholds messages, or is slow", {
        position: committee.position,
        others_at: expected,
        own_entry_ms: Math.round(own),
      });
    } else logger.info("the log delivers again", { position: committee.position });
  }

  #gauges(): void {
    const { committee, config, meters, self } = this.#options;
    const { members, quorum } = committee.quorum;
    const since = BigInt(Math.max(0, Math.floor(committee.logTimeMs - LIVE_SLOTS * config.slotMs)));
    const indexes = Array.from({ length: members }, (_, index) => index);
    const live = indexes.filter(
      (index) => !committee.isBlocked(index) && (index === self || (committee.author(index)?.clockMs ?? 0n) > since),
    );
    meters.gauge("lattice_committee_margin", live.length - quorum);
    meters.gauge("lattice_committee_blocked_members", indexes.filter((index) => committee.isBlocked(index)).length);
  }

  #note(caught: Caught | undefined): void {
    const { committee, self, logger, proofs, timers, onAccusation } = this.#options;
    if (caught === undefined || caught.fraud.member === self) return;
    const key = caught.fraud.memberKey;
    const known =
      committee.blocked.some(({ memberKey }) => equalBytes(memberKey, key)) ||
      [...this.#accusations.values()].some(({ fraud }) => equalBytes(fraud.memberKey, key));
    if (known || caught.proof.length > FRAUD_PROOF_BYTES_MAX) return;
    const hash = toHex(fraudProofHash(caught.proof));
    logger.error("a member said two things; here is the proof", {
      accused: caught.fraud.member,
      what: caught.fraud.detail,
      proof: hash,
    });
    this.#accusations.set(hash, { ...caught, atMs: timers.elapsedMs() });
    this.#publish(caught.proof);
    proofs
      .keep(caught.proof)
      .then(() => proofs.setToCommit([...this.#accusations.values()].map(({ proof }) => proof)))
      .catch((error: unknown) => logger.error("a fraud proof was not kept", errorFields(error)));
    onAccusation();
  }

  #publish(proof: Uint8Array): void {
    this.#options.onProof?.(toHex(fraudProofHash(proof)), proof);
  }

  /** Proofs that this member should put into the log now, by duty key. */
  accusations(): { readonly key: string; readonly command: CommitteeCommand }[] {
    const { committee, self, timers, proofs, logger } = this.#options;
    const { members } = committee.quorum;
    const due: { key: string; command: CommitteeCommand }[] = [];
    for (const [hash, { proof, fraud, atMs }] of this.#accusations) {
      const done = committee.blocked.some(({ memberKey }) => equalBytes(memberKey, fraud.memberKey));
      const refusal = done ? undefined : this.#refusedByLog(hash, proof);
      if (refusal !== undefined) {
        logger.error("the log does not take a proof that stands: it is left to people", {
          accused: fraud.member,
          proof: hash,
          ...refusal,
        });
      }
      if (done || refusal !== undefined) {
        this.#accusations.delete(hash);
        this.#judgedFrom.delete(hash);
        proofs
          .setToCommit([...this.#accusations.values()].map((each) => each.proof))
          .catch((error: unknown) => logger.error("a fraud proof was not kept", errorFields(error)));
        continue;
      }
      const rank = (self + members - (fraud.member + 1)) % members;
      if (timers.elapsedMs() < atMs + rank * ACCUSE_PATIENCE_MS) continue;
      due.push({ key: `fraud/${hash}`, command: { type: "fraud", proof } });
    }
    return due;
  }

  /** Why the log would refuse a proof, by the rosters that it knows by now; it would be said to it for ever otherwise. */
  #refusedByLog(hash: string, proof: Uint8Array): Refusal | undefined {
    const { committee } = this.#options;
    const oldest = committee.rosters[0]?.epoch;
    // It forgets rosters and learns eras only when an epoch is over; newer rules take more.
    if (this.#judgedFrom.get(hash) === oldest) return undefined;
    const verdict = committee.judgeFraud(proof);
    if ("refusal" in verdict) return verdict.refusal;
    if (oldest !== undefined) this.#judgedFrom.set(hash, oldest);
    return undefined;
  }

  /** A member that started from a checkpoint knows who is blocked, and asks the others why. */
  async #completeProofs(): Promise<void> {
    const { committee, proofs, peers } = this.#options;
    for (const { proof: hash } of committee.blocked) {
      if (proofs.get(hash) !== undefined) continue;
      for (const peer of peers()) {
        if (this.#closing.signal.aborted) return;
        const answer = await peer.getFraud({ proofHash: hash }, { deadlineMs: ANSWER_MS }).catch(() => undefined);
        if (answer === undefined || !equalBytes(fraudProofHash(answer.proof), hash)) continue;
        await proofs.keep(answer.proof.slice());
        break;
      }
    }
  }
}
