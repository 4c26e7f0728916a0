/**
 * Carries a member through the end of a generation (docs/decisions/0030): tells the others, past the broker, how far it has read;
 * fetches what it lacks; votes; and hands over the certified first checkpoint of the next generation.
 *
 * Whatever it says is in the journal before anybody hears it, so that it goes on after a crash where it was.
 */
import { bytes, type Codec, decode, encode, equalBytes, list, optional, struct, u64 } from "../codec/codec.ts";
import { type CertifiedCheckpoint, checkpointDigest } from "../committee/checkpoint.ts";
import type { Applied } from "../committee/committee.ts";
import { GenerationAgreement, type OwnEnd } from "../committee/generation-agreement.ts";
import {
  type EndStatement,
  type GenerationEndPoint,
  PREPARED,
  type Prepared,
  signEnd,
} from "../committee/generation-end.ts";
import { RulesUnknown } from "../committee/rules.ts";
import { blsSign, blsVerify } from "../crypto/bls.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { slotAt } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import { errorFields } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import { type Journal, pause, type Timers } from "../ports.ts";
import { EndReach, type EndReachOptions } from "./end-reach.ts";
import { type EndGossip, heard, knownHashes, missing } from "./generation-service.ts";
import type { CommitteeClient } from "./outcome-follower.ts";
import { type FetchedSnapshot, fetchSnapshot } from "./snapshot-fetcher.ts";

const TICK_MS = 100;
const ANSWER_MS = 2000;
/** A round has to leave time for fetching entries; a leader waits so long for members that may have read further. */
const ROUND_MS = 8000;
const GRACE_MS = 2000;
/** So many rounds a member waits to be let go, where others have prepared an end, before it helps to end the generation. */
const WITHDRAW_ROUNDS = 4;
/** What has been said about the end, in the journal. */
const KEPT = "generation-end";
const KEPT_RECORD = struct({
  generation: u64,
  said: list(bytes(2 * 1024 * 1024), 8),
  locked: optional(PREPARED as Codec<Prepared>),
});

/** The beginning of a generation: certified, with its state. */
export interface Birth {
  readonly certified: CertifiedCheckpoint;
  readonly state: Uint8Array;
  /** What this member had not applied of the generation before; undefined when it took the state as a whole. */
  readonly applied: readonly Applied[] | undefined;
}

export interface GenerationChangeOptions<State, Command, D extends Duty> extends EndReachOptions<State, Command, D> {
  /** This member's share of the certificate key in an epoch. */
  readonly certificateShare: (epoch: bigint) => Uint8Array | undefined;
  readonly journal: Journal;
  readonly timers: Timers;
  readonly meters: Meters;
  /** The point that this member has spoken on, when it cannot be read any more from what it kept: it reports nothing before it is. */
  readonly spokenOn: () => GenerationEndPoint | undefined;
  /** Enough others have seen the stream lost. */
  readonly onConvinced: () => void;
  readonly onBirth: (birth: Birth) => Promise<void>;
  /** A member says that there is a later generation, and nobody has shown it yet. */
  readonly onLater: () => void;
  /** The others have gone on by rules that this build does not have. */
  readonly onRulesUnknown: (error: RulesUnknown) => void;
  readonly roundMs?: number;
  readonly graceMs?: number;
}

export class GenerationChange<State, Command, D extends Duty> implements EndGossip {
  readonly #options: GenerationChangeOptions<State, Command, D>;
  #agreement: GenerationAgreement;
  /** The epoch whose members it is made by. */
  #epoch = 0n;
  #lost = false;
  #active = false;
  #closed = false;
  #working: Promise<void> = Promise.resolve();
  #busy = false;
  #gossiping = new Set<CommitteeClient>();
  #stopTicking: () => void = () => undefined;
  readonly #reach: EndReach<State, Command, D>;
  /** What it had to fetch to know again what it had spoken on. */
  #spokenTip: Pick<OwnEnd, "position" | "heads"> | undefined;
  #newer = false;
  #withdrawing = false;
  #waits = "";

  constructor(options: GenerationChangeOptions<State, Command, D>) {
    this.#options = options;
    this.#reach = new EndReach(options);
    this.#agreement = this.#begin();
  }

  #begin(): GenerationAgreement {
    const { committee, self, journal, roundMs = ROUND_MS, graceMs = GRACE_MS } = this.#options;
    const { id, generation, roster, quorum } = committee;
    const ending = { committee: id, generation };
    const agreement = new GenerationAgreement({ ending, roster, quorum, self, roundMs, graceMs });
    const kept = journal.get(KEPT);
    const record = kept === undefined ? undefined : decode(KEPT_RECORD, kept);
    if (record?.generation === generation) agreement.restore(record.said, record.locked);
    this.#agreement = agreement;
    this.#epoch = roster.epoch;
    return agreement;
  }

  /** Epochs begin within a generation: who speaks of its end is who belongs to the committee by then. */
  #keepUp(): void {
    if (this.#active || this.#options.committee.roster.epoch === this.#epoch) return;
    const heard = this.#agreement.messages();
    const agreement = this.#begin();
    for (const raw of heard.values()) agreement.receive(raw);
  }

  get generation(): bigint {
    return this.#options.committee.generation;
  }
  get active(): boolean {
    return this.#active;
  }
  messages(): ReadonlyMap<string, Uint8Array> {
    return this.#agreement.messages();
  }

  receive(messages: readonly Uint8Array[]): void {
    this.#keepUp();
    let news = false;
    for (const raw of messages) news = this.#agreement.receive(raw) || news;
    if (news && !this.#active && this.#agreement.convincing) this.#options.onConvinced();
    else if (news || this.#passDue() !== undefined) this.#work();
  }

  #passDue(): number | undefined {
    return this.#agreement.passDue(this.#options.timers.elapsedMs());
  }

  /** What this member has said about the end keeps it from saying anything in the log of this generation. */
  get bound(): boolean {
    this.#keepUp();
    return this.#agreement.owed !== undefined;
  }

  /**
   * For a member that reads on after it has said where the generation ends: asks the others to give up the rounds in
   * which it spoke. @returns true once it may speak in the log, false when they do not let it go, undefined when the
   * generation ends meanwhile
   */
  async withdraw(): Promise<boolean | undefined> {
    const { timers, logger, roundMs = ROUND_MS } = this.#options;
    const { generation } = this;
    const until = timers.elapsedMs() + WITHDRAW_ROUNDS * roundMs;
    logger.warn("it has said where this generation ends, and asks the others to pass over that", { generation });
    this.#withdrawing = true;
    try {
      for (;;) {
        if (this.#closed || this.#active || this.generation !== generation) return undefined;
        // Anybody may say so: only its certified beginning shows it, and then the generation is another at the next look.
        if (this.#newer) this.#options.onLater();
        this.#newer = false;
        const { owed } = this.#agreement;
        if (owed === undefined) return true;
        // With nothing prepared it is only that too few are there.
        const held = this.#agreement.anyPrepared && timers.elapsedMs() >= until;
        if (owed === "never" || held) return false;
        this.#work();
        this.#gossip();
        await pause(timers, TICK_MS);
      }
    } finally {
      this.#withdrawing = false;
    }
  }

  /** Gives up the rounds that it is asked to, or itself asks others to. */
  async #pass(): Promise<void> {
    const { owed } = this.#agreement;
    const own = this.#withdrawing && typeof owed === "number" && !this.#agreement.hasPassed(owed) ? owed : undefined;
    const round = own ?? this.#passDue();
    if (round === undefined) return;
    await this.#speak({ type: "pass", round });
    this.#agreement.passed(this.#options.timers.elapsedMs());
  }

  /** The others' generation is a higher one: its beginning is fetched. */
  behind(): void {
    this.#newer = true;
    if (this.#active) this.#work();
  }

  /** The newest certified state of a later generation that anybody hands over. */
  later(): Promise<FetchedSnapshot | undefined> {
    const { committee, sources, logger, eras, keyIsOver } = this.#options;
    const { generation } = this;
    return fetchSnapshot({
      config: committee.config,
      organism: committee.organism,
      sources: sources(),
      wanted: ({ checkpoint }) => checkpoint.generation > generation && !keyIsOver(checkpoint.epoch),
      log: logger,
      eras,
    });
  }

  /** Asks everybody once what is said about the end: for a member that would stop before it is told. */
  async hear(): Promise<void> {
    const { peers, logger } = this.#options;
    await Promise.all(
      peers().map((peer) =>
        this.#exchange(peer).catch((error: unknown) => {
          logger.debug("a member does not talk about the end", errorFields(error));
        }),
      ),
    );
  }

  /** @param lost whether this member has seen for itself that the stream does not hold what it has read */
  start(lost: boolean): void {
    if (this.#closed) return;
    this.#lost ||= lost;
    if (this.#active) return;
    this.#keepUp();
    this.#active = true;
    this.#options.meters.gauge("lattice_generation_ending", 1);
    this.#stopTicking = this.#options.timers.every(TICK_MS, () => {
      this.#gossip();
      this.#work();
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#reach.close();
    this.#stopTicking();
    await this.#working;
  }

  /** Call it when the committee is in its next generation. */
  began(): void {
    this.#stopTicking();
    this.#active = false;
    this.#lost = false;
    this.#newer = false;
    this.#reach.forget();
    this.#spokenTip = undefined;
    this.#begin();
    this.#options.meters.gauge("lattice_generation_ending", 0);
  }

  #gossip(): void {
    const { peers, logger } = this.#options;
    for (const peer of peers()) {
      if (this.#gossiping.has(peer)) continue;
      this.#gossiping.add(peer);
      this.#exchange(peer)
        .catch((error: unknown) => logger.debug("a member does not talk about the end", errorFields(error)))
        .finally(() => this.#gossiping.delete(peer));
    }
  }

  async #exchange(peer: CommitteeClient): Promise<void> {
    const { generation } = this;
    const known = knownHashes(this.messages());
    const first = await peer.exchangeGenerationEnd({ generation, known, messages: [] }, { deadlineMs: ANSWER_MS });
    if (this.generation !== generation || this.#closed) return;
    if (first.generation > generation) return this.behind();
    this.receive(heard(first.messages));
    const messages = missing(this.messages(), first.known);
    if (messages.length === 0 || first.generation < generation) return;
    const told = { generation, known: knownHashes(this.messages()), messages };
    await peer.exchangeGenerationEnd(told, { deadlineMs: ANSWER_MS });
  }

  #work(): void {
    if (this.#busy || this.#closed) return;
    this.#busy = true;
    this.#working = this.#pass()
      .then(() => (this.#active ? this.#turn() : undefined))
      .catch((error: unknown) => {
        if (error instanceof RulesUnknown) this.#options.onRulesUnknown(error);
        else this.#options.logger.error("the end of a generation failed", errorFields(error));
      })
      .finally(() => {
        this.#busy = false;
      });
  }

  async #turn(): Promise<void> {
    const { committee, timers, spokenOn, meters, logger } = this.#options;
    const over = this.#ending();
    if (this.#newer && (await this.#adopt())) return;
    if (over()) return;
    this.#newer = false;
    const spoken = spokenOn();
    if (spoken !== undefined && this.#spokenTip === undefined) {
      const found = await this.#reach.state(spoken);
      if (over()) return;
      if (found === undefined) {
        return this.#say(`entries up to position ${spoken.position}: it has spoken on them, and has not kept them`);
      }
      this.#spokenTip = { position: spoken.position, heads: found.heads };
    }
    const tip = this.#spokenTip ?? { position: committee.position, heads: committee.heads };
    const own: OwnEnd = { lost: this.#lost, ...tip };
    for (const intent of this.#agreement.step(timers.elapsedMs(), own)) {
      const reached = intent.reach === undefined || (await this.#reach.state(intent.reach)) !== undefined;
      if (over()) return;
      if (intent.reach !== undefined && !reached) {
        logger.warn("nobody hands over the entries of a proposed end", { position: intent.reach.position });
        this.#agreement.unreachable(intent.reach);
        continue;
      }
      await this.#speak(intent.statement);
      if (over()) return;
    }
    meters.gauge("lattice_generation_round", this.#agreement.round);
    this.#say(this.#agreement.waits);
    const { decided } = this.#agreement;
    if (decided !== undefined) await this.#certify(decided);
  }

  /** @returns whether what was begun now is of no use any more: what it would say belongs to a generation that is over */
  #ending(): () => boolean {
    const agreement = this.#agreement;
    return () => this.#closed || this.#agreement !== agreement;
  }

  #say(waits: string): void {
    if (waits === "" || waits === this.#waits) return;
    this.#waits = waits;
    this.#options.logger.info("the end of a generation waits", { generation: this.generation, waiting_for: waits });
  }

  /** Journals, and only then lets others hear. */
  async #speak(statement: EndStatement): Promise<void> {
    const { memberKey, self, committee, journal } = this.#options;
    const ending = { committee: committee.id, generation: this.generation };
    const raw = signEnd(memberKey, ending, self, statement);
    const record = {
      generation: this.generation,
      said: [...this.#agreement.own(), raw],
      locked: this.#agreement.locked,
    };
    await journal.put(KEPT, encode(KEPT_RECORD, record));
    this.#agreement.receive(raw);
  }

  /** Gives this member's share, and makes the certificate once there are enough. */
  async #certify(end: GenerationEndPoint): Promise<void> {
    const { committee, self, certificateShare, journal, clock, logger, onBirth } = this.#options;
    const over = this.#ending();
    const reached = await this.#reach.state(end);
    if (over()) return;
    if (reached === undefined) {
      return this.#say(`entries up to position ${end.position}, where the generation ends, or the others' certificate`);
    }
    const { checkpoint, state, applied } = reached;
    const digest = checkpointDigest(checkpoint);
    const shares = this.#agreement.shares(end);
    const secret = certificateShare(checkpoint.epoch);
    if (secret !== undefined && !shares.some(({ member }) => member === self)) {
      const slot = slotAt(committee.config, clock.nowMs());
      await journal.promise(`${KEPT}/${this.generation}`, slot, digest);
      if (over()) return;
      const { epoch, stateHash, stateBytes } = checkpoint;
      await this.#speak({ type: "share", end, epoch, stateHash, stateBytes, share: blsSign(secret, digest) });
      if (over()) return;
    }
    const { quorum } = committee.quorumOfEpoch(checkpoint.epoch);
    const roster = committee.rosters.find(({ epoch }) => epoch === checkpoint.epoch);
    const good = this.#agreement.shares(end).filter(({ member, share }) => {
      const key = roster?.members[member]?.certificateShare;
      if (!equalBytes(share.stateHash, checkpoint.stateHash)) {
        logger.error("a member has another state than this one at the end of the generation", { member });
        return false;
      }
      return key !== undefined && blsVerify(key, digest, share.share);
    });
    if (good.length < quorum) return;
    const signature = combineSignatures(
      good.slice(0, quorum).map(({ member, share }) => ({ index: member, signature: share.share })),
      quorum,
    );
    const certified = { checkpoint, signature, signers: good.map(({ member }) => member) };
    await onBirth({ certified, state, applied });
  }

  /** The others have gone on: their certified beginning, or whatever they have certified since. */
  async #adopt(): Promise<boolean> {
    const { logger, onBirth } = this.#options;
    const found = await this.later();
    if (found === undefined || this.#closed) return false;
    logger.info("the next generation is taken from a peer", { source: found.source });
    await onBirth({ certified: found.certified, state: found.state, applied: undefined });
    return true;
  }
}
