/** Core values as arguments of the contract's functions: bytes become 0x-prefixed hex, nothing else changes. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { type Attestation, SIGNER_ROLES, type SignerRole } from "../core/attestation.ts";

export type Hex = `0x${string}`;

export function hex(value: Uint8Array): Hex {
  return `0x${toHex(value)}`;
}

/** First argument of `post`, `stage` and `attestationDigest`. */
export function attestationArgument(attestation: Attestation) {
  return {
    latticeId: hex(attestation.latticeId),
    batch: attestation.batch,
    lastBlockNumber: attestation.lastBlockNumber,
    lastBlockHash: hex(attestation.lastBlockHash),
    root: hex(attestation.root),
    total: attestation.total,
    charges: attestation.charges.map((charge) => ({
      bidId: hex(charge.bidId),
      account: hex(charge.account),
      amount: charge.wei,
    })),
    poster: hex(attestation.poster),
    posterReimbursement: attestation.posterReimbursement,
  };
}

/** The contract's enum value. */
export function roleArgument(role: SignerRole): number {
  return SIGNER_ROLES.indexOf(role);
}
