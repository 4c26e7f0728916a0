/** One round of one aggregator: envelopes in, one aggregate out. Pure; the node half adds sockets and storage. */
import { CodecError, decode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import type { RoundHeader } from "@lattice/organism/outcomes/zipnet.ts";
import { bitmapOf, type UnsignedAggregate } from "./aggregate.ts";
import { checkEnvelope, ENVELOPE, type Envelope, type EnvelopeProof, proofOf, verifyProof } from "./envelope.ts";
import { vectorBytes, xorInto } from "./pads.ts";
import type { ClientKeys } from "./registration.ts";

export interface FoldRound {
  /** COMMITTEE id, 32 bytes. */
  readonly committee: Uint8Array;
  readonly header: RoundHeader;
  readonly headerDigest: Uint8Array;
  /** The round's clients in roster order: ids ascending. */
  readonly roster: readonly (ClientKeys & { readonly id: Uint8Array })[];
}

/** `folded`: new and in the sum. `repeated`: byte-identical to one that is. */
export type FoldResult = "folded" | "repeated" | Refusal;

export class Fold {
  readonly round: FoldRound;
  readonly #index: ReadonlyMap<string, number>;
  readonly #proofs = new Map<number, EnvelopeProof>();
  readonly #hashes = new Map<number, Uint8Array>();
  readonly #vector: Uint8Array;

  constructor(round: FoldRound) {
    this.round = round;
    this.#index = new Map(round.roster.map(({ id }, index) => [toHex(id), index]));
    this.#vector = new Uint8Array(vectorBytes(round.header));
  }

  /** Clients that are in. */
  get participants(): number {
    return this.#proofs.size;
  }
  /** True once nobody is missing. */
  get complete(): boolean {
    return this.#proofs.size === this.round.roster.length;
  }

  /** Judges one envelope. @param raw canonical bytes of an ENVELOPE */
  accept(raw: Uint8Array): FoldResult {
    let envelope: Envelope;
    try {
      envelope = decode(ENVELOPE, raw);
    } catch (error) {
      if (!(error instanceof CodecError)) throw error;
      return refuse("MALFORMED", `not an envelope: ${error.message}`);
    }
    const { committee, header, headerDigest, roster } = this.round;
    const refusal = checkEnvelope(
      { rho: header.rho, headerDigest, vectorBytes: this.#vector.length, servers: header.servers.length },
      envelope,
    );
    if (refusal !== undefined) return refusal;
    const index = this.#index.get(toHex(envelope.client));
    const client = index === undefined ? undefined : roster[index];
    if (index === undefined || client === undefined) return refuse("NOT_IN_ROSTER", "no such client in this round");
    const hash = blake3(raw);
    const known = this.#hashes.get(index);
    if (known !== undefined) {
      return equalBytes(known, hash) ? "repeated" : refuse("ENVELOPE_CONFLICT", "another envelope was received");
    }
    const proof = proofOf(envelope);
    const subject = { committee, rho: header.rho, headerDigest, client: envelope.client };
    if (!verifyProof(client.envelopeKey, subject, proof)) {
      return refuse("BAD_SIGNATURE", "the envelope is not signed by its client");
    }
    this.#hashes.set(index, hash);
    this.#proofs.set(index, proof);
    xorInto(this.#vector, envelope.vector);
    return "folded";
  }

  /** The sum so far. @param aggregator Ed25519 key of whoever signs it */
  aggregate(aggregator: Uint8Array): UnsignedAggregate {
    const { header, headerDigest, roster } = this.round;
    const proofs = [...this.#proofs].sort(([a], [b]) => a - b);
    return {
      version: 1,
      slot: header.slot,
      rho: header.rho,
      headerDigest,
      participants: bitmapOf(
        proofs.map(([index]) => index),
        roster.length,
      ),
      proofs: proofs.map(([, proof]) => proof),
      vector: this.#vector.slice(),
      aggregator,
    };
  }
}
