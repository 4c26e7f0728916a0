/**
 * Joint Feldman key generation and resharing over a totally ordered log, as a pure and total state machine: the same
 * messages in the same order, the same keys, the same blame, on everybody.
 *
 * enrol → deal → judge → confirm → done. A phase ends when everybody who is still in has spoken, or when `closeQuorum`
 * participants say that nobody should wait longer; whoever was silent is out. What anybody can prove (a bad deal, a bad
 * share, a false complaint, two voices) puts its author out at once. When fewer remain than the plan wants, the attempt
 * is aborted and names them; `closeQuorum` participants open the next one, without those whose fault is proved.
 *
 * Done means published: so many receivers as the plan wants have shown that they hold their shares, and the group has
 * signed what the plan wants signed (roster epoch 0) with the key that it has just made.
 */
import { type Codec, CodecError, count, equalBytes, fixed, list, struct, text } from "../codec/codec.ts";
import { blsVerify } from "../crypto/bls.ts";
import { hash } from "../crypto/hash.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { G1_BYTES } from "../identity/lattice-config.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import { dealProblem, isHolding, judgeComplaint, type Scene } from "./dealing.ts";
import {
  type CeremonyCommand,
  type CeremonyMessage,
  type Deal,
  decodeMessage,
  isSignedBy,
  kindOf,
  messageHash,
  PHASES,
  type Phase,
} from "./message.ts";
import { type CeremonyKey, combineKey } from "./outcome.ts";
import { type CeremonyPlan, ceremonyId, dealersNeeded, dealersOf, KEYS_MAX, PARTICIPANTS_MAX } from "./plan.ts";
import { isBoxPoint } from "./share-box.ts";

export const ATTEMPTS_MAX = 64;

const UNPROVED: ReadonlySet<BlameReason> = new Set(["SILENT", "WITHDREW", "OTHER_TRANSCRIPT"]);

/** Why a participant is out. Provable reasons come with the messages that prove them, to anybody who holds the plan. */
export interface Blame {
  readonly participant: number;
  readonly attempt: number;
  /** What each word means: docs/errors.md. */
  readonly reason:
    | "SILENT"
    | "WITHDREW"
    | "OTHER_TRANSCRIPT"
    | "TWO_VOICES"
    | "BAD_DEAL"
    | "BAD_SHARE"
    | "FALSE_COMPLAINT"
    | "BAD_CONFIRMATION";
  /** A sentence without secrets. */
  readonly detail: string;
  /** Signed messages that prove it; empty where nothing can be proved. */
  readonly evidence: readonly Uint8Array[];
}

export type BlameReason = Blame["reason"];

export type Refusal =
  | "MALFORMED"
  | "OTHER_CEREMONY"
  | "NOT_A_PARTICIPANT"
  | "BAD_SIGNATURE"
  | "OTHER_ATTEMPT"
  | "OUT"
  | "REPEATED"
  | "TOO_EARLY"
  | "PHASE_OVER"
  | "NOT_ITS_PART"
  /** Blames its author; nothing else of it counts. */
  | "FAULTY";

/** What a ceremony has made. */
export interface CeremonyResult {
  readonly ceremony: Uint8Array;
  readonly attempt: number;
  /** 32 bytes: the messages that made it, in their order, and the keys. */
  readonly transcript: Uint8Array;
  readonly keys: readonly CeremonyKey[];
}

/** What the group signs with a key it has just made, so that the key is known by its use. */
export interface Publication {
  /** Position of the signing key in the plan. */
  readonly key: number;
  /** The 32-byte digest that is signed. */
  digest(result: CeremonyResult): Uint8Array;
}

/** One attempt, as everybody sees it. Read it; only `apply` changes it. */
export interface Attempt {
  readonly number: number;
  phase: Phase | "done" | "aborted";
  /** First accepted message of each kind, by author. */
  readonly said: Map<number, Map<string, CeremonyMessage>>;
  readonly boxKeys: Map<number, Uint8Array>;
  readonly commitments: Map<number, Uint8Array>;
  readonly deals: Map<number, Deal>;
  /** Participants who count for nothing more. */
  readonly out: Map<number, Blame>;
  readonly closes: Map<Phase, Set<number>>;
  /** Hash over what has been accepted until the phase `confirm`. */
  chain: Uint8Array;
  result: CeremonyResult | undefined;
  /** Participants who have shown that they hold their shares. */
  readonly holders: Set<number>;
  readonly publicationShares: Map<number, Uint8Array>;
  /** 96 bytes: the group's signature of the publication digest. */
  publication: Uint8Array | undefined;
  /** Why the attempt failed, one line. */
  failure: string | undefined;
}

export interface CeremonyState {
  attempt: Attempt;
  /** Over all attempts, in log order. */
  readonly blames: Blame[];
  /** Who asks for the attempt after this one. */
  readonly retries: Set<number>;
}

const CHAIN = struct({ previous: fixed(32), message: fixed(32) });
const TRANSCRIPT = struct({
  ceremony: UNIQUE_ID,
  attempt: count,
  chain: fixed(32),
  keys: list(
    struct({
      name: text(32),
      publicKey: fixed(G1_BYTES),
      publicShares: list(fixed(G1_BYTES), PARTICIPANTS_MAX),
      dealers: list(count, PARTICIPANTS_MAX),
    }) as Codec<{ name: string; publicKey: Uint8Array; publicShares: Uint8Array[]; dealers: number[] }>,
    KEYS_MAX,
  ),
});

/** In which phase each kind is said. */
const PHASE_OF: Partial<Record<CeremonyCommand["type"], Phase>> = {
  enrol: "enrol",
  deal: "deal",
  verdict: "judge",
  confirm: "confirm",
};

export class Ceremony {
  readonly plan: CeremonyPlan;
  readonly id: Uint8Array;
  readonly publication: Publication | undefined;
  /** Everybody who gets a share of some key. */
  readonly receivers: readonly number[];
  readonly state: CeremonyState;

  /** A plan without `planProblems`. `initCrypto` first. */
  constructor(plan: CeremonyPlan, publication?: Publication) {
    this.plan = plan;
    this.id = ceremonyId(plan);
    this.publication = publication;
    this.receivers = [...new Set(plan.keys.flatMap(({ receivers }) => receivers))].sort((a, b) => a - b);
    this.state = { attempt: freshAttempt(1, this.id), blames: [], retries: new Set() };
  }

  get attempt(): Attempt {
    return this.state.attempt;
  }
  get scene(): Scene {
    return { plan: this.plan, ceremony: this.id, attempt: this.attempt.number };
  }

  /** Participants who still count in this attempt, ascending. */
  get active(): readonly number[] {
    return this.plan.participants.map((_, index) => index).filter((index) => !this.attempt.out.has(index));
  }

  /** Who must still speak for the phase to end by itself. */
  get awaited(): readonly number[] {
    const { attempt } = this;
    const spoke = (kind: string) => (who: number) => attempt.said.get(who)?.has(kind) === true;
    switch (attempt.phase) {
      case "enrol":
        return this.active.filter((who) => !spoke("enrol")(who));
      case "deal":
        return this.active.filter((who) => this.isDealer(who) && !attempt.deals.has(who));
      case "judge":
        return this.active.filter((who) => this.receivers.includes(who) && !spoke("verdict")(who));
      case "confirm":
        return this.active.filter((who) => this.receivers.includes(who) && !attempt.holders.has(who));
      default:
        return [];
    }
  }

  isDealer(who: number): boolean {
    return this.plan.keys.some((key) => dealersOf(key).includes(who));
  }

  /** Applies the next message of the log. Total; a refused message changes nothing but, with FAULTY, the blame. */
  apply(raw: Uint8Array): Refusal | undefined {
    let message: CeremonyMessage;
    try {
      message = decodeMessage(raw);
    } catch (error) {
      if (error instanceof CodecError) return "MALFORMED";
      throw error;
    }
    const { author, ceremony, command } = message.body;
    const memberKey = this.plan.participants[author];
    if (!equalBytes(ceremony, this.id)) return "OTHER_CEREMONY";
    if (memberKey === undefined) return "NOT_A_PARTICIPANT";
    if (!isSignedBy(message, memberKey)) return "BAD_SIGNATURE";
    const refusal = command.type === "retry" ? this.#retry(message) : this.#said(message);
    this.#advance();
    return refusal;
  }

  #retry({ body: { author, attempt: wanted } }: CeremonyMessage): Refusal | undefined {
    const { attempt, retries } = this.state;
    if (wanted !== attempt.number + 1 || wanted > ATTEMPTS_MAX) return "OTHER_ATTEMPT";
    if (attempt.phase !== "aborted") return "TOO_EARLY";
    if (retries.has(author)) return "REPEATED";
    retries.add(author);
    if (retries.size < this.plan.closeQuorum) return undefined;
    this.state.attempt = freshAttempt(wanted, this.id);
    retries.clear();
    for (const blame of this.state.blames) {
      if (!UNPROVED.has(blame.reason)) this.attempt.out.set(blame.participant, blame);
    }
    return undefined;
  }

  #said(message: CeremonyMessage): Refusal | undefined {
    const { attempt } = this;
    const { author, command } = message.body;
    if (message.body.attempt !== attempt.number) return "OTHER_ATTEMPT";
    const kind = kindOf(command);
    const earlier = attempt.said.get(author)?.get(kind);
    if (earlier !== undefined) {
      if (equalBytes(earlier.bodyBytes, message.bodyBytes)) return "REPEATED";
      // Who withdraws twice, for two reasons, harms nobody. Nor does who enrols twice, since the first binds: whoever has lost
      // its journal, or runs twice, may do so in good faith, when the first lands late.
      if (command.type === "abort" || command.type === "enrol") return "REPEATED";
      this.#blame(author, "TWO_VOICES", `two different messages ${kind}`, [earlier, message]);
      return "FAULTY";
    }
    const out = attempt.out.get(author);
    const late = attempt.phase === "done" && command.type === "confirm" && out?.reason === "SILENT";
    if (out !== undefined && !late) return "OUT";
    if (attempt.phase === "aborted") return "PHASE_OVER";
    const phase = PHASE_OF[command.type];
    if (phase !== undefined) {
      const order = orderOf(phase) - orderOf(attempt.phase);
      if (order > 0) return "TOO_EARLY";
      // A receiver that comes late with a good confirmation is still a holder.
      if (order < 0 && !(phase === "confirm" && attempt.phase === "done")) return "PHASE_OVER";
    }
    switch (command.type) {
      case "enrol":
        return this.#enrol(message, command);
      case "deal":
        return this.#deal(message, command);
      case "verdict":
        return this.#verdict(message, command.complaints);
      case "confirm":
        return this.#confirm(message, command);
      case "close":
        return this.#close(message, command.phase);
      case "abort":
        if (attempt.phase === "done") return "PHASE_OVER";
        this.#accept(message);
        this.#blame(author, "WITHDREW", command.reason, []);
        return undefined;
      case "retry":
        return "OTHER_ATTEMPT";
    }
  }

  #enrol(message: CeremonyMessage, command: CeremonyCommand & { type: "enrol" }): Refusal | undefined {
    const { author } = message.body;
    this.#accept(message);
    if (!isBoxPoint(command.boxKey)) {
      this.#blame(author, "BAD_DEAL", "enrols with a key that nothing can be sealed to", [message]);
      return "FAULTY";
    }
    this.attempt.boxKeys.set(author, command.boxKey);
    this.attempt.commitments.set(author, command.commitment);
    return undefined;
  }

  #deal(message: CeremonyMessage, deal: Deal): Refusal | undefined {
    const { attempt } = this;
    const { author } = message.body;
    const commitment = attempt.commitments.get(author);
    if (commitment === undefined || !this.isDealer(author)) return "NOT_ITS_PART";
    this.#accept(message);
    const problem = dealProblem(this.scene, author, deal, commitment, attempt.boxKeys);
    if (problem !== undefined) {
      const enrolment = attempt.said.get(author)?.get("enrol");
      this.#blame(author, "BAD_DEAL", problem, enrolment === undefined ? [message] : [enrolment, message]);
      return "FAULTY";
    }
    attempt.deals.set(author, deal);
    return undefined;
  }

  #verdict(message: CeremonyMessage, complaints: (CeremonyCommand & { type: "verdict" })["complaints"]) {
    const { attempt } = this;
    const { author } = message.body;
    const boxKey = attempt.boxKeys.get(author);
    if (boxKey === undefined || !this.receivers.includes(author)) return "NOT_ITS_PART";
    this.#accept(message);
    const accused = complaints.map(({ dealer }) => dealer);
    if (new Set(accused).size !== accused.length || !accused.every((dealer) => attempt.deals.has(dealer))) {
      this.#blame(author, "FALSE_COMPLAINT", "complains twice, or about who has not dealt", [message]);
      return "FAULTY";
    }
    // All are judged before anybody is out: their order in the message means nothing.
    for (const complaint of complaints) {
      const deal = attempt.deals.get(complaint.dealer);
      const dealt = attempt.said.get(complaint.dealer)?.get("deal");
      if (deal === undefined || dealt === undefined) continue;
      const [guilty, reason, detail] =
        judgeComplaint(this.scene, complaint, author, boxKey, deal) === "dealer"
          ? ([
              complaint.dealer,
              "BAD_SHARE",
              `dealt participant ${author} a share that is not on its polynomial`,
            ] as const)
          : ([
              author,
              "FALSE_COMPLAINT",
              `complains about the good share that participant ${complaint.dealer} dealt`,
            ] as const);
      this.#blame(guilty, reason, detail, [dealt, message]);
    }
    return attempt.out.has(author) ? "FAULTY" : undefined;
  }

  #confirm(message: CeremonyMessage, command: CeremonyCommand & { type: "confirm" }): Refusal | undefined {
    const { attempt, plan } = this;
    const { author } = message.body;
    const { result } = attempt;
    if (result === undefined || !this.receivers.includes(author)) return "NOT_ITS_PART";
    this.#accept(message);
    if (!equalBytes(command.transcript, result.transcript)) {
      this.#blame(author, "OTHER_TRANSCRIPT", "confirms another transcript than this log's", [message]);
      return "FAULTY";
    }
    const own = plan.keys.flatMap((key, position) => (key.receivers.includes(author) ? [{ key, position }] : []));
    const held =
      own.length === command.holdings.length &&
      own.every(({ key, position }, i) => {
        const holding = command.holdings[i];
        const publicShare = result.keys[position]?.publicShares[key.receivers.indexOf(author)];
        return (
          holding?.key === position &&
          publicShare !== undefined &&
          isHolding(this.scene, author, key, result.transcript, publicShare, holding.proof)
        );
      });
    if (!held || !this.#publicationHolds(author, command.publication, result)) {
      this.#blame(author, "BAD_CONFIRMATION", "does not show that it holds its shares", [message]);
      return "FAULTY";
    }
    attempt.holders.add(author);
    if (command.publication !== undefined) attempt.publicationShares.set(author, command.publication);
    return undefined;
  }

  #publicationHolds(author: number, share: Uint8Array | undefined, result: CeremonyResult): boolean {
    const index = this.publication === undefined ? -1 : this.#publisherIndex(author);
    if (this.publication === undefined || index < 0) return share === undefined;
    const publicShare = result.keys[this.publication.key]?.publicShares[index];
    return (
      share !== undefined && publicShare !== undefined && blsVerify(publicShare, this.publication.digest(result), share)
    );
  }

  /** The participant's member index in the key that publishes; -1 when it has no share of it. */
  #publisherIndex(who: number): number {
    if (this.publication === undefined) return -1;
    return this.plan.keys[this.publication.key]?.receivers.indexOf(who) ?? -1;
  }

  #close(message: CeremonyMessage, phase: Phase): Refusal | undefined {
    const { attempt } = this;
    const order = orderOf(phase) - orderOf(attempt.phase);
    if (order !== 0) return order > 0 ? "TOO_EARLY" : "PHASE_OVER";
    this.#accept(message);
    const closers = attempt.closes.get(phase) ?? new Set();
    closers.add(message.body.author);
    attempt.closes.set(phase, closers);
    return undefined;
  }

  #accept(message: CeremonyMessage): void {
    const { attempt } = this;
    const { author, command } = message.body;
    const said = attempt.said.get(author) ?? new Map<string, CeremonyMessage>();
    said.set(kindOf(command), message);
    attempt.said.set(author, said);
    // The result stands from `confirm` on: what comes later is not in its transcript.
    if (attempt.result !== undefined) return;
    attempt.chain = hash("lattice/ceremony/chain/v1", CHAIN, {
      previous: attempt.chain,
      message: messageHash(message),
    });
  }

  #blame(participant: number, reason: BlameReason, detail: string, proof: readonly CeremonyMessage[]): void {
    const { attempt } = this;
    const known = attempt.out.get(participant);
    // A proof counts for more than an absence; the first proof stands.
    if (known !== undefined && (!UNPROVED.has(known.reason) || UNPROVED.has(reason))) return;
    const evidence = UNPROVED.has(reason) ? [] : proof.map(({ raw }) => raw);
    const blame: Blame = { participant, attempt: attempt.number, reason, detail, evidence };
    this.state.blames.push(blame);
    // Once the result stands, its dealers stand; a late offence is named, and its author is no holder any more.
    attempt.out.set(participant, blame);
    if (attempt.phase !== "done") attempt.holders.delete(participant);
  }

  /** Ends every phase that is complete or closed. */
  #advance(): void {
    for (;;) {
      const { attempt } = this;
      const { phase } = attempt;
      if (phase === "done" || phase === "aborted") return;
      const shortage = this.#shortage();
      if (shortage !== undefined) {
        this.#abort(shortage);
        return;
      }
      const awaited = this.awaited;
      const closed = (attempt.closes.get(phase)?.size ?? 0) >= this.plan.closeQuorum;
      if (awaited.length > 0 && !closed) return;
      for (const who of awaited) this.#blame(who, "SILENT", `silent in phase ${phase}`, []);
      const left = this.#shortage();
      if (left !== undefined) this.#abort(left);
      else if (phase === "confirm") this.#finish();
      else {
        attempt.phase = PHASES[orderOf(phase) + 1] ?? "confirm";
        if (attempt.phase === "confirm") this.#conclude();
      }
    }
  }

  /** Why the attempt cannot succeed any more with those who are left; undefined while it can. */
  #shortage(): string | undefined {
    const { active, plan, attempt } = this;
    for (const key of plan.keys) {
      const holders = key.receivers.filter((who) => active.includes(who)).length;
      if (holders < plan.holdersMin) return `${key.name}: ${holders} receivers are left, ${plan.holdersMin} needed`;
      if (attempt.result !== undefined) continue;
      const dealers = dealersOf(key).filter((who) => active.includes(who)).length;
      const needed = dealersNeeded(plan, key);
      if (dealers < needed) return `${key.name}: ${dealers} dealers are left, ${needed} needed`;
    }
    return undefined;
  }

  /** All complaints are settled: the qualified deals make the keys. */
  #conclude(): void {
    const { attempt, plan, active } = this;
    const keys: CeremonyKey[] = [];
    for (const [position, key] of plan.keys.entries()) {
      const good = dealersOf(key).filter((who) => active.includes(who) && attempt.deals.has(who));
      const made = combineKey(plan, position, key, good, attempt.deals);
      if ("problem" in made) {
        this.#abort(`${made.key}: ${made.problem}`);
        return;
      }
      keys.push(made);
    }
    const transcript = hash("lattice/ceremony/transcript/v1", TRANSCRIPT, {
      ceremony: this.id,
      attempt: attempt.number,
      chain: attempt.chain,
      keys: keys.map(({ name, publicKey, publicShares, dealers }) => ({
        name,
        publicKey,
        publicShares: [...publicShares],
        dealers: [...dealers],
      })),
    });
    attempt.result = { ceremony: this.id, attempt: attempt.number, transcript, keys };
  }

  /** Enough receivers hold their shares: the group publishes. */
  #finish(): void {
    const { attempt, plan, publication } = this;
    const { result } = attempt;
    if (result === undefined) return;
    if (publication !== undefined) {
      const key = plan.keys[publication.key];
      const made = result.keys[publication.key];
      if (key === undefined || made === undefined) throw new RangeError("the publication names no key of the plan");
      const shares = [...attempt.publicationShares]
        .filter(([who]) => attempt.holders.has(who))
        .sort(([a], [b]) => a - b)
        .map(([who, signature]) => ({ index: this.#publisherIndex(who), signature }));
      if (shares.length < key.threshold) {
        this.#abort(`${key.name}: ${shares.length} have signed, ${key.threshold} needed`);
        return;
      }
      attempt.publication = combineSignatures(shares, key.threshold);
      if (!blsVerify(made.publicKey, publication.digest(result), attempt.publication)) {
        this.#abort(`${key.name}: the group's signature does not verify`);
        return;
      }
    }
    attempt.phase = "done";
  }

  #abort(failure: string): void {
    this.attempt.phase = "aborted";
    this.attempt.failure = failure;
  }
}

const orderOf = (phase: Attempt["phase"]): number =>
  phase === "done" || phase === "aborted" ? PHASES.length : PHASES.indexOf(phase);

const START = struct({ ceremony: UNIQUE_ID, attempt: count });

function freshAttempt(number: number, ceremony: Uint8Array): Attempt {
  return {
    number,
    phase: "enrol",
    said: new Map(),
    boxKeys: new Map(),
    commitments: new Map(),
    deals: new Map(),
    out: new Map(),
    closes: new Map(),
    chain: hash("lattice/ceremony/start/v1", START, { ceremony, attempt: number }),
    result: undefined,
    holders: new Set(),
    publicationShares: new Map(),
    publication: undefined,
    failure: undefined,
  };
}
