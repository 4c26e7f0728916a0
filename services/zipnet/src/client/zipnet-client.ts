/**
 * One zipnet client: its keys, its ratchets, its answers. Without I/O; the caller passes in randomness, time and a
 * store. An answer is stored before it is given out, so that a crash can repeat an envelope but never make a second
 * one under the same pads.
 *
 * Everybody online answers every header that stands up to `checkHeader`; with nothing to say the vector is pure pads.
 * After a message was left out the client goes on sending cover and talks again only after a random wait.
 */
import {
  bytes,
  CodecError,
  decode,
  encode,
  equalBytes,
  fixed,
  type Infer,
  list,
  literal,
  optional,
  struct,
  toHex,
  u64,
} from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, checkOutcome } from "@lattice/organism/committee/outcome.ts";
import { generateSigningKey, type SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { agreementKey, dh } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { KnownEras } from "@lattice/organism/node/era-book.ts";
import {
  BROADCAST,
  BROADCAST_BODY,
  type BroadcastMessage,
  MESSAGE_ID_BYTES,
  type RoundHeader,
  type ServerKey,
} from "@lattice/organism/outcomes/zipnet.ts";
import type { Random } from "@lattice/organism/ports.ts";
import { encodeCell, type OutgoingMessage, oneShotCell, sealedBytesMax } from "../core/cell.ts";
import { ENVELOPE, sealEnvelope, VECTOR_BYTES_MAX } from "../core/envelope.ts";
import { fault, faultOf } from "../core/faults.ts";
import { checkHeader, type HeaderView, shapeOf } from "../core/header.ts";
import { keyCommitment, PadAccumulator, segmentKeys, vectorBytes } from "../core/pads.ts";
import { advanceRatchet, initialRatchet, nextRatchet, roundKey } from "../core/ratchet.ts";
import { clientId, type Registration, signRegistration } from "../core/registration.ts";
import { checkServerKey } from "../core/server-key.ts";

export type { OutgoingMessage } from "../core/cell.ts";

/** Rounds whose fate is not known yet, at most. */
const SENT_MAX = 64;
/** Longest random wait after a loss is 2^this rounds. */
const WAIT_POWER_MAX = 3;

const STATE = struct({
  version: literal(1),
  envelopeSeed: fixed(32),
  agreementKeys: list(fixed(32), 16),
  serials: list(u64, 16),
  /** Last slot of the registration; absent before it. */
  expiresSlot: optional(u64),
  /** The ρ that `ratchets` stand at. */
  rho: u64,
  ratchets: list(fixed(32), 16),
  /** The newest header answered, or the last one before the registration. */
  seenRho: u64,
  seenSlot: u64,
  /** Talks no earlier than this ρ. */
  talkFromRho: u64,
  losses: u64,
  /** The newest answer, for an identical retry. */
  last: optional(struct({ rho: u64, slot: u64, envelope: bytes(VECTOR_BYTES_MAX + 4096) })),
  /** Answers whose broadcast has not been seen. */
  sent: list(struct({ rho: u64, slot: u64, messageId: optional(fixed(MESSAGE_ID_BYTES)) }), SENT_MAX),
});
type ClientState = Infer<typeof STATE>;

export interface ZipnetClientOptions {
  readonly config: LatticeConfig;
  readonly random: Random;
  /** Makes the client's state durable; it holds secrets. An answer is given out only after this has resolved. */
  readonly store: (state: Uint8Array) => Promise<void>;
  /** Which certificate keys speak for which slots; the config's for all when left out. */
  readonly eras?: KnownEras;
  /** Servers without which this client does not answer; all when left out. */
  readonly mustInclude?: readonly number[];
}

/** What to send to an aggregator. */
export interface Answer {
  readonly slot: bigint;
  readonly rho: bigint;
  /** Canonical bytes of the envelope; a retry sends the same. */
  readonly envelope: Uint8Array;
  /** The message inside, if any. Nothing on the wire tells. */
  readonly messageId: Uint8Array | undefined;
  /** Unix ms after which no aggregator takes it. */
  readonly closeMs: number;
}

/** What became of one answer. `lost`: a message went out and is not in the broadcast, or the round was aborted. */
export interface Settled {
  readonly slot: bigint;
  readonly rho: bigint;
  readonly messageId: Uint8Array | undefined;
  readonly fate: "delivered" | "lost" | "cover";
}

/** The longest sealed payload a message of this lattice may have, beside a token of `tokenBytes`. */
export function maxPayloadBytes(config: LatticeConfig, tokenBytes = 0): number {
  return sealedBytesMax(config.zipnet.content.cellBytes, tokenBytes);
}

export class ZipnetClient {
  /** Client id, 32 bytes. */
  readonly id: Uint8Array;
  readonly #options: ZipnetClientOptions;
  readonly #committee: Uint8Array;
  readonly #key: SigningKey;
  #state: ClientState;
  /** One change of state at a time. */
  #turn: Promise<unknown> = Promise.resolve();

  private constructor(options: ZipnetClientOptions, state: ClientState) {
    this.#options = options;
    this.#committee = committeeId(options.config, "zipnet");
    this.#state = state;
    this.#key = generateSigningKey(state.envelopeSeed);
    const { agreementKeys } = state;
    this.id = clientId(this.#committee, { envelopeKey: this.#key.publicKey, agreementKeys });
  }

  /**
   * Fresh keys towards these servers; the X25519 secrets are gone when this returns.
   * @throws Fault HEADER_OPERATOR, BAD_KEY, BAD_SIGNATURE, SERVER_KEYS_MISSING
   */
  static create(options: ZipnetClientOptions, servers: readonly ServerKey[]): ZipnetClient {
    const { config, random } = options;
    const { operators } = config.zipnet.content;
    const committee = committeeId(config, "zipnet");
    if (servers.length !== operators.length || !servers.every(({ member }, index) => member === index)) {
      throw fault(
        "SERVER_KEYS_MISSING",
        `${servers.length} server keys, one per operator (${operators.length}) needed`,
      );
    }
    for (const server of servers) {
      const refusal = checkServerKey(committee, operators, server);
      if (refusal !== undefined) throw faultOf(refusal);
    }
    const envelopeSeed = random(32);
    const envelopeKey = generateSigningKey(envelopeSeed).publicKey;
    const secrets = servers.map(() => random(32));
    const keys = secrets.map(agreementKey);
    const agreementKeys = keys.map(({ publicKey }) => publicKey);
    const client = clientId(committee, { envelopeKey, agreementKeys });
    const ratchets = servers.map(({ key, operator, serial }, index) => {
      const own = keys[index];
      if (own === undefined) throw new RangeError("one key per server");
      const secret = dh(own, key);
      const ratchet = initialRatchet(secret, { committee, client, operator, serial });
      secret.fill(0);
      return ratchet;
    });
    for (const secret of secrets) secret.fill(0);
    return new ZipnetClient(options, {
      version: 1,
      envelopeSeed,
      agreementKeys,
      serials: servers.map(({ serial }) => serial),
      expiresSlot: undefined,
      rho: 0n,
      ratchets,
      seenRho: 0n,
      seenSlot: 0n,
      talkFromRho: 0n,
      losses: 0n,
      last: undefined,
      sent: [],
    });
  }

  /** The client that `store` was last given. @throws CodecError */
  static restore(options: ZipnetClientOptions, state: Uint8Array): ZipnetClient {
    return new ZipnetClient(options, decode(STATE, state));
  }

  /** Ed25519 public key, 32 bytes: the subject of this client's tickets. */
  get envelopeKey(): Uint8Array {
    return this.#key.publicKey;
  }
  /** The last slot it is registered for; undefined before registration. */
  get expiresSlot(): bigint | undefined {
    return this.#state.expiresSlot;
  }

  /** True when one of these keys, duly signed, has replaced the one this client agreed with: its pads are worth nothing now. */
  outdatedBy(servers: readonly ServerKey[]): boolean {
    const { operators } = this.#options.config.zipnet.content;
    return servers.some(
      (server) =>
        server.serial > (this.#state.serials[server.member] ?? server.serial) &&
        checkServerKey(this.#committee, operators, server) === undefined,
    );
  }

  /** What to send to `Register`. @param tickets one per admission rule of the config */
  registration(tickets: readonly Uint8Array[]): Registration {
    const { agreementKeys, serials } = this.#state;
    return signRegistration(this.#key, this.#committee, {
      envelopeKey: this.envelopeKey,
      agreementKeys,
      serials,
      tickets: [...tickets],
    });
  }

  /** Takes note of the committee's answer to a first registration, or to one that extends it. */
  registered(answer: {
    readonly fromRho: bigint;
    readonly afterSlot: bigint;
    readonly expiresSlot: bigint;
  }): Promise<void> {
    return this.#exclusive(async () => {
      const first = this.#state.expiresSlot === undefined;
      const start = { rho: answer.fromRho, seenRho: answer.fromRho - 1n, seenSlot: answer.afterSlot };
      await this.#save({ ...this.#state, ...(first ? start : {}), expiresSlot: answer.expiresSlot });
    });
  }

  /** True when a message may go out with round `rho`: not while waiting after a loss. */
  mayTalk(rho: bigint): boolean {
    return rho >= this.#state.talkFromRho;
  }

  #isCertified(certified: CertifiedOutcome): boolean {
    const { config, eras } = this.#options;
    return checkOutcome(config, "zipnet", certified, eras?.("zipnet")) === undefined;
  }

  /** Reads a header as `answer` would. @throws Fault with the reason to stay silent */
  read(certified: CertifiedOutcome, nowMs: number): { readonly header: RoundHeader; readonly digest: Uint8Array } {
    const { config, mustInclude } = this.#options;
    const { outcome } = certified;
    if (!this.#isCertified(certified)) throw fault("HEADER_CERTIFICATE");
    const { seenRho, seenSlot, serials, expiresSlot } = this.#state;
    if (expiresSlot === undefined || outcome.slot > expiresSlot) throw fault("NOT_REGISTERED");
    const view: HeaderView = {
      rho: seenRho,
      slot: seenSlot,
      serials,
      mustInclude: mustInclude ?? serials.map((_, member) => member),
      nowMs,
    };
    const checked = checkHeader(config, view, outcome);
    if (!checked.ok) throw faultOf(checked.refusal);
    return checked;
  }

  /**
   * Answers a certified header, with `pending` in a cell or as cover. The same header again gives the same bytes.
   * A message is carried only when `mayTalk(rho)`; look at `messageId` of the answer.
   * @throws Fault with the reason to stay silent, or MESSAGE_TOO_LARGE
   */
  answer(certified: CertifiedOutcome, pending: OutgoingMessage | undefined, nowMs: number): Promise<Answer> {
    return this.#exclusive(async () => {
      const { last, sent } = this.#state;
      const { outcome } = certified;
      if (last !== undefined && last.slot === outcome.slot) {
        const before = sent.find(({ rho }) => rho === last.rho);
        const closeMs = this.#closeMs(outcome.slot);
        return { slot: last.slot, rho: last.rho, envelope: last.envelope, messageId: before?.messageId, closeMs };
      }
      const { header, digest } = this.read(certified, nowMs);
      const message = pending !== undefined && this.mayTalk(header.rho) ? pending : undefined;
      const made = this.#seal(header, digest, message);
      const { rho, slot } = header;
      const messageId = message?.messageId;
      await this.#save({
        ...this.#state,
        rho: rho + 1n,
        ratchets: made.ratchets,
        seenRho: rho,
        seenSlot: slot,
        last: { rho, slot, envelope: made.envelope },
        sent: [...sent, { rho, slot, messageId }].slice(-SENT_MAX),
      });
      return { slot, rho, envelope: made.envelope, messageId, closeMs: Number(header.closeMs) };
    });
  }

  #closeMs(slot: bigint): number {
    const { genesisMs, slotMs, zipnet } = this.#options.config;
    return genesisMs + Number(slot) * slotMs - zipnet.content.roundCloseMs;
  }

  #seal(
    header: RoundHeader,
    digest: Uint8Array,
    message: OutgoingMessage | undefined,
  ): { readonly envelope: Uint8Array; readonly ratchets: Uint8Array[] } {
    const { config } = this.#options;
    const shape = shapeOf(config);
    const steps = header.rho - this.#state.rho;
    const current = this.#state.ratchets.map((ratchet) => advanceRatchet(ratchet, steps));
    if (!current.every((ratchet) => ratchet !== undefined)) throw fault("HEADER_RHO", "the ratchet is out of reach");
    const roundKeys = current.map((ratchet) => roundKey(ratchet, digest));
    const vector = new Uint8Array(vectorBytes(shape));
    // The cell is worked out either way, so that talking takes no longer than not talking.
    const cell = oneShotCell(shape.cells, header.rho, roundKeys);
    if (message !== undefined) {
      try {
        vector.set(encodeCell(shape, digest, cell, message), cell * shape.cellBytes);
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
        const limit = maxPayloadBytes(config, message.token.length);
        throw fault("MESSAGE_TOO_LARGE", `${message.sealed.length} sealed bytes, at most ${limit}`, {
          limit: String(limit),
        });
      }
    }
    const pads = new PadAccumulator(shape, vector);
    const commitments = roundKeys.map((key, member) => {
      const keys = segmentKeys(key, "zipnet/pad/v1", shape.segments);
      pads.fold(keys);
      return keyCommitment(digest, this.id, member, keys);
    });
    const subject = { committee: this.#committee, rho: header.rho, headerDigest: digest, client: this.id };
    const envelope = encode(ENVELOPE, sealEnvelope(this.#key, subject, pads.vector(), commitments));
    return { envelope, ratchets: current.map(nextRatchet) };
  }

  /**
   * What a certified broadcast says about this client's answer in its slot; undefined when it has none there, or when
   * the body is needed to tell and does not match.
   * @param body canonical body of the outcome, when it has one
   * @throws Fault HEADER_CERTIFICATE
   */
  settle(certified: CertifiedOutcome, body: Uint8Array | undefined): Promise<Settled | undefined> {
    return this.#exclusive(async () => {
      const { outcome } = certified;
      if (outcome.stage !== "broadcast" || !equalBytes(outcome.committee, this.#committee)) return undefined;
      if (!this.#isCertified(certified)) throw fault("HEADER_CERTIFICATE");
      const sent = this.#state.sent.find(({ slot }) => slot === outcome.slot);
      if (sent === undefined) return undefined;
      const messages = messagesOf(certified, body);
      const { messageId, rho, slot } = sent;
      if (messages === undefined && messageId !== undefined) return undefined;
      const rest = this.#state.sent.filter((each) => each !== sent);
      if (messageId === undefined) {
        await this.#save({ ...this.#state, sent: rest });
        return { slot, rho, messageId, fate: "cover" };
      }
      const delivered = messages?.some((message) => equalBytes(message.messageId, messageId)) === true;
      const losses = delivered ? 0n : this.#state.losses + 1n;
      const wait = delivered ? 0n : 2n + this.#below(1 << Math.min(Number(losses), WAIT_POWER_MAX));
      await this.#save({ ...this.#state, sent: rest, losses, talkFromRho: delivered ? 0n : rho + wait });
      return { slot, rho, messageId, fate: delivered ? "delivered" : "lost" };
    });
  }

  /** Uniform below a power of two. */
  #below(limit: number): bigint {
    return BigInt((this.#options.random(1)[0] ?? 0) & (limit - 1));
  }

  async #save(state: ClientState): Promise<void> {
    await this.#options.store(encode(STATE, state));
    this.#state = state;
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#turn.then(work);
    this.#turn = run.catch(() => undefined);
    return run;
  }

  /** Never shows secrets, wherever it is printed. */
  toString(): string {
    return `zipnet client ${toHex(this.id).slice(0, 8)}`;
  }
}

/** The messages of a broadcast; undefined when the body is missing or not the certified one. */
export function messagesOf(
  { outcome }: Pick<CertifiedOutcome, "outcome">,
  body: Uint8Array | undefined,
): BroadcastMessage[] | undefined {
  if (outcome.kind === "skipped") return [];
  try {
    if (decode(BROADCAST, outcome.commitment).messages === 0) return [];
    if (body === undefined || outcome.bodyHash === undefined || !equalBytes(blake3(body), outcome.bodyHash)) {
      return undefined;
    }
    return decode(BROADCAST_BODY, body);
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}
