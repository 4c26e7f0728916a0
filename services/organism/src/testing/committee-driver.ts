/**
 * The committee layer driven by hand: authors that sign entries, honestly or not, and replicas that must stay alike.
 * For tests of the runtime and of machines; no log, no I/O.
 */
import assert from "node:assert/strict";
import { encode, toHex } from "../codec/codec.ts";
import { type CertifiedCheckpoint, type Checkpoint, checkpointDigest } from "../committee/checkpoint.ts";
import { type CommitteeCommand, encodeCommand } from "../committee/commands.ts";
import { type Applied, Committee } from "../committee/committee.ts";
import { ENTRY_BODY, ENTRY_TAG, type EntryBody, encodeEntry, entryHash, ZERO_HASH } from "../committee/entry.ts";
import { decodeState, encodeState, guestViewOf } from "../committee/guest-view.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import type { Roster } from "../committee/roster.ts";
import type { RuleRange } from "../committee/rules.ts";
import { blsSign } from "../crypto/bls.ts";
import { generateSigningKey, type SigningKey, signTagged } from "../crypto/ed25519.ts";
import { hashBytes } from "../crypto/hash.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Duty, Machine } from "../machine.ts";
import type { MemberSecrets } from "../service.ts";

export interface DriverOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly roster: Roster;
  readonly secrets: readonly MemberSecrets[];
  readonly createMachine: () => Machine<State, Command, D>;
  /** Replicas that apply everything; at least 1. */
  readonly replicas?: number;
  /** When checkpoints are due, if not as usual. */
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  /** What the replicas can follow, if not all that this build has. */
  readonly rules?: RuleRange;
  /** How far ahead rules are planned, if not as usual. */
  readonly activationEntries?: bigint;
}

/** What of an entry to do otherwise than an honest author. */
export interface Tampering {
  /** Fields of the body that are replaced before it is signed. */
  readonly body?: Partial<EntryBody>;
  /** Signs with this key instead of the incarnation's. */
  readonly signer?: SigningKey;
  /** Changes the finished signature. */
  readonly signature?: (signature: Uint8Array) => Uint8Array;
  /** Do not take the number: the author goes on as if this had never been said. */
  readonly aside?: boolean;
}

export class CommitteeDriver<State, Command, D extends Duty> {
  readonly #options: DriverOptions<State, Command, D>;
  readonly replicas: Committee<State, Command, D>[];
  readonly authors: readonly ScriptedAuthor[];
  /** Every message so far, by position − 1. */
  readonly log: Uint8Array[] = [];
  nowMs: number;

  constructor(options: DriverOptions<State, Command, D>) {
    this.#options = options;
    this.nowMs = options.config.genesisMs;
    this.replicas = Array.from({ length: options.replicas ?? 2 }, () => this.fresh());
    this.authors = options.secrets.map((secrets, index) => new ScriptedAuthor(this, index, secrets));
  }

  /** A replica that has applied nothing. */
  fresh(rules: RuleRange | undefined = this.#options.rules): Committee<State, Command, D> {
    const { config, roster, createMachine, checkpointEvery, activationEntries } = this.#options;
    return new Committee({
      config,
      roster,
      machine: createMachine(),
      ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
      ...(activationEntries === undefined ? {} : { activationEntries }),
      ...(rules === undefined ? {} : { rules }),
    });
  }

  get committee(): Committee<State, Command, D> {
    const [first] = this.replicas;
    assert.ok(first !== undefined);
    return first;
  }

  author(index: number): ScriptedAuthor {
    const author = this.authors[index];
    assert.ok(author !== undefined, `no author ${index}`);
    return author;
  }

  /** Applies a message on every replica; they must say and become the same. */
  apply(raw: Uint8Array): Applied {
    this.log.push(raw);
    const position = BigInt(this.log.length);
    const results = this.replicas.map((replica) => replica.apply(position, raw));
    const [first, ...others] = results;
    assert.ok(first !== undefined);
    for (const other of others) assert.deepEqual(other, first);
    if (first.checkpoint !== undefined) this.#assertMadeAfresh(first.checkpoint);
    return first;
  }

  /** What a checkpoint is about is what the state and the guests' view come to when they are read and made again. */
  #assertMadeAfresh({ state, guest }: NonNullable<Applied["checkpoint"]>): void {
    if (this.committee.isGuest) return;
    const { machine } = this.committee;
    const { shared, inner } = decodeState(machine.state, state);
    assert.deepEqual(encodeState(shared, machine.state, inner), state);
    assert.deepEqual(guestViewOf(machine, state), guest);
  }

  assertAlike(): void {
    const hashes = this.replicas.map((replica) => toHex(replica.stateHash()));
    assert.equal(new Set(hashes).size, 1, `replicas differ at position ${this.log.length}`);
  }

  /** Replaces a replica by one that starts from its snapshot, as a restart does. */
  restart(index: number): void {
    const replica = this.replicas[index];
    assert.ok(replica !== undefined);
    const again = this.fresh();
    again.restore(replica.snapshot());
    assert.deepEqual(again.snapshot(), replica.snapshot());
    this.replicas[index] = again;
  }

  /** A replica that has read the whole log from the beginning. */
  replay(): Committee<State, Command, D> {
    const replica = this.fresh();
    this.log.forEach((raw, index) => {
      replica.apply(BigInt(index + 1), raw);
    });
    return replica;
  }

  /** One member's share of a certificate. */
  share(index: number, outcome: Outcome): Uint8Array {
    const secrets = this.#options.secrets[index];
    assert.ok(secrets !== undefined, `no member ${index}`);
    return blsSign(secrets.certificateShare, outcomeDigest(outcome));
  }

  /** One member's vote for a checkpoint. */
  checkpointVote(index: number, checkpoint: Checkpoint): CommitteeCommand {
    const secrets = this.#options.secrets[index];
    assert.ok(secrets !== undefined, `no member ${index}`);
    const { position, stateHash, stateBytes, guestHash, guestBytes } = checkpoint;
    const share = blsSign(secrets.certificateShare, checkpointDigest(checkpoint));
    return { type: "checkpoint", position, stateHash, stateBytes, guestHash, guestBytes, share };
  }

  /** Certifies any checkpoint with the shares of the first `quorum` members. */
  certifyCheckpoint(checkpoint: Checkpoint): CertifiedCheckpoint {
    const { quorum } = this.committee.quorum;
    const signers = Array.from({ length: quorum }, (_, index) => index);
    const digest = checkpointDigest(checkpoint);
    const shares = signers.map((index) => {
      const secrets = this.#options.secrets[index];
      assert.ok(secrets !== undefined, `no member ${index}`);
      return { index, signature: blsSign(secrets.certificateShare, digest) };
    });
    return { checkpoint, signature: combineSignatures(shares, quorum), signers };
  }

  /** Certifies any outcome with the shares of the first `quorum` members. */
  certify(outcome: Outcome): CertifiedOutcome {
    const { quorum } = this.committee.quorum;
    const indexes = Array.from({ length: quorum }, (_, index) => index);
    const shares = indexes.map((index) => ({ index, signature: this.share(index, outcome) }));
    return { outcome, signature: combineSignatures(shares, quorum), signers: indexes };
  }

  /** The first `count` authors join. */
  joinAll(count: number = this.authors.length): void {
    for (const author of this.authors.slice(0, count)) assert.equal(author.join().refusal, undefined);
  }
}

/** What an author needs of the driver: the log to write to, and what there is to see of it. */
interface Stage {
  readonly nowMs: number;
  readonly committee: {
    readonly id: Uint8Array;
    readonly generation: bigint;
    readonly roster: Roster;
    epochOf(index: number, memberKey: Uint8Array): bigint | undefined;
    readonly position: bigint;
    readonly head: Uint8Array;
  };
  apply(raw: Uint8Array): Applied;
}

/** One member's voice: numbers, chains and signs like the appender, and misbehaves when told to. */
export class ScriptedAuthor {
  readonly #driver: Stage;
  readonly index: number;
  readonly memberKey: SigningKey;
  incarnationKey: SigningKey;
  incarnation = 0n;
  readonly lanes = {
    ctl: { sequence: 0n, previous: ZERO_HASH },
    bulk: { sequence: 0n, previous: ZERO_HASH },
  };

  constructor(driver: Stage, index: number, secrets: MemberSecrets) {
    this.#driver = driver;
    this.index = index;
    this.memberKey = generateSigningKey(secrets.memberKey);
    this.incarnationKey = this.memberKey;
  }

  /** An incarnation key of this member: deterministic, so that runs repeat. */
  keyOf(incarnation: bigint): SigningKey {
    return generateSigningKey(
      hashBytes("lattice/test/incarnation/v1", new TextEncoder().encode(`${this.index}/${incarnation}`)),
    );
  }

  /** Announces the next incarnation. */
  join(incarnation: bigint = this.incarnation + 1n, tampering: Tampering = {}): Applied {
    const key = this.keyOf(incarnation);
    const before = { incarnation: this.incarnation, key: this.incarnationKey, ctl: { ...this.lanes.ctl } };
    this.incarnation = incarnation;
    this.incarnationKey = key;
    this.lanes.ctl.sequence = 0n;
    this.lanes.ctl.previous = ZERO_HASH;
    const raw = this.sign({ type: "join", incarnation, key: key.publicKey }, "ctl", {
      signer: this.memberKey,
      ...tampering,
    });
    const applied = this.#driver.apply(raw);
    if (applied.landed) {
      this.lanes.bulk.sequence = 0n;
      this.lanes.bulk.previous = ZERO_HASH;
    } else {
      this.incarnation = before.incarnation;
      this.incarnationKey = before.key;
      Object.assign(this.lanes.ctl, before.ctl);
    }
    return applied;
  }

  /** The signed entry that would come next; takes its number unless told otherwise. */
  sign(command: CommitteeCommand | Uint8Array, lane: "ctl" | "bulk" = "ctl", tampering: Tampering = {}): Uint8Array {
    const { committee, nowMs } = this.#driver;
    const at = this.lanes[lane];
    const body = encode(ENTRY_BODY, {
      version: 1,
      committee: committee.id,
      generation: committee.generation,
      epoch: committee.epochOf(this.index, this.memberKey.publicKey) ?? committee.roster.epoch,
      author: this.index,
      incarnation: this.incarnation,
      lane,
      sequence: at.sequence + 1n,
      previous: at.previous,
      seenPosition: committee.position,
      seenHead: committee.head,
      clockMs: BigInt(nowMs),
      command: command instanceof Uint8Array ? command : encodeCommand(command),
      ...tampering.body,
    });
    const signature = signTagged(tampering.signer ?? this.incarnationKey, ENTRY_TAG, body);
    if (tampering.aside !== true) {
      at.sequence += 1n;
      at.previous = entryHash(body);
    }
    return encodeEntry(body, tampering.signature?.(signature) ?? signature);
  }

  /** Signs and applies; what does not take its place in the lane leaves the number free. */
  say(command: CommitteeCommand | Uint8Array, lane: "ctl" | "bulk" = "ctl", tampering: Tampering = {}): Applied {
    const before = { ...this.lanes[lane] };
    const applied = this.#driver.apply(this.sign(command, lane, tampering));
    if (!applied.landed) Object.assign(this.lanes[lane], before);
    return applied;
  }
}
