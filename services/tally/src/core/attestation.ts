/**
 * What tally's committee signs for the settlement contract, and how t signatures over it are judged. Digests are
 * EIP-712 (protocols.md §6), the same bytes that `Settlement.sol` computes in `attestationDigest`, `paymentDigest` and
 * `rotationDigest`.
 */
import {
  type Codec,
  compareBytes,
  equalBytes,
  fixed,
  type Infer,
  list,
  struct,
  u64,
  u256,
} from "@lattice/organism/codec/codec.ts";
import { recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";
import { CHARGE, type Charge } from "@lattice/organism/outcomes/tally.ts";
import {
  ADDRESS_BYTES,
  addressWord,
  bytes32Word,
  type Domain,
  hashArray,
  hashStruct,
  typedDigest,
  typeHash,
  uintWord,
  WORD_BYTES,
} from "./eip712.ts";

/** Escrow charges in one attestation, at most: about 30,000 gas each. */
export const CHARGES_MAX = 256;

const CHARGE_TYPE = "Charge(bytes32 bidId,address account,uint256 amount)";
const CHARGE_TYPE_HASH = typeHash(CHARGE_TYPE);
const ATTESTATION_TYPE_HASH = typeHash(
  "Attestation(bytes32 latticeId,uint64 batch,uint64 lastBlockNumber,bytes32 lastBlockHash,bytes32 root,uint256 total," +
    `Charge[] charges,address poster,uint256 posterReimbursement)${CHARGE_TYPE}`,
);
const PAYMENT_TYPE_HASH = typeHash(
  "Payment(bytes32 latticeId,uint64 slot,bytes32 parentHash,address recipient,uint256 cap)",
);
const ROTATION_TYPE_HASH = typeHash(
  "RotateSigners(bytes32 latticeId,uint8 role,uint64 nonce,address[] signers,uint64 threshold)",
);

/** One batch. `root` and `total` are cumulative over all batches; amounts in wei. */
export const ATTESTATION = struct({
  /** LATTICE of architecture.md §3 (name and chain): the config's own hash covers the genesis this contract is in. */
  latticeId: fixed(WORD_BYTES),
  /** Last batch + 1; the first is 1. */
  batch: u64,
  lastBlockNumber: u64,
  lastBlockHash: fixed(WORD_BYTES),
  /** Merkle root of recipient → lifetime total. */
  root: fixed(WORD_BYTES),
  /** Sum of all lifetime totals. */
  total: u256,
  charges: list(CHARGE as Codec<Charge>, CHARGES_MAX),
  /** Who is paid `posterReimbursement` out of the pool's unattributed part. */
  poster: fixed(ADDRESS_BYTES),
  posterReimbursement: u256,
});
export type Attestation = Infer<typeof ATTESTATION>;

/** Release of free money to a proposer's payer: one slot, one parent, at most `cap` wei. */
export interface Payment {
  readonly latticeId: Uint8Array;
  readonly slot: bigint;
  readonly parentHash: Uint8Array;
  readonly recipient: Uint8Array;
  readonly cap: bigint;
}

/** The contract's two signer sets; the position is the contract's enum. */
export const SIGNER_ROLES = ["attesters", "payers"] as const;
export type SignerRole = (typeof SIGNER_ROLES)[number];

/** A new signer set, under the set's present nonce. `signers` ascend. */
export interface Rotation {
  readonly latticeId: Uint8Array;
  readonly role: SignerRole;
  readonly nonce: bigint;
  readonly signers: readonly Uint8Array[];
  readonly threshold: number;
}

/** The domain of every signature the settlement contract reads. */
export function settlementDomain(chainId: bigint, settlement: Uint8Array): Domain {
  return { name: "Lattice Settlement", version: "1", chainId, verifyingContract: settlement };
}

/** 32 bytes to sign. */
export function attestationDigest(domain: Domain, attestation: Attestation): Uint8Array {
  const charges = attestation.charges.map((charge) =>
    hashStruct(CHARGE_TYPE_HASH, bytes32Word(charge.bidId), addressWord(charge.account), uintWord(charge.wei)),
  );
  const structHash = hashStruct(
    ATTESTATION_TYPE_HASH,
    bytes32Word(attestation.latticeId),
    uintWord(attestation.batch),
    uintWord(attestation.lastBlockNumber),
    bytes32Word(attestation.lastBlockHash),
    bytes32Word(attestation.root),
    uintWord(attestation.total),
    hashArray(charges),
    addressWord(attestation.poster),
    uintWord(attestation.posterReimbursement),
  );
  return typedDigest(domain, structHash);
}

/** 32 bytes to sign. */
export function paymentDigest(domain: Domain, payment: Payment): Uint8Array {
  const structHash = hashStruct(
    PAYMENT_TYPE_HASH,
    bytes32Word(payment.latticeId),
    uintWord(payment.slot),
    bytes32Word(payment.parentHash),
    addressWord(payment.recipient),
    uintWord(payment.cap),
  );
  return typedDigest(domain, structHash);
}

/** 32 bytes to sign. */
export function rotationDigest(domain: Domain, rotation: Rotation): Uint8Array {
  const structHash = hashStruct(
    ROTATION_TYPE_HASH,
    bytes32Word(rotation.latticeId),
    uintWord(BigInt(SIGNER_ROLES.indexOf(rotation.role))),
    uintWord(rotation.nonce),
    hashArray(rotation.signers.map(addressWord)),
    uintWord(BigInt(rotation.threshold)),
  );
  return typedDigest(domain, structHash);
}

/** Who may sign, and how many must. Addresses of 20 bytes, in any order. */
export interface SignerSet {
  readonly signers: readonly Uint8Array[];
  readonly threshold: number;
}

/** `signers` in ascending order of address, or why the contract would refuse. */
export type QuorumJudgement =
  | { readonly ok: true; readonly signers: readonly Uint8Array[] }
  | { readonly ok: false; readonly reason: "BELOW_THRESHOLD" | "BAD_SIGNATURE" | "UNKNOWN_SIGNER" | "NOT_ASCENDING" };

/** Judges signatures (65 bytes each, r ‖ s ‖ v) by the contract's rule, in the contract's order. */
export function judgeSignatures(
  digest: Uint8Array,
  signatures: readonly Uint8Array[],
  set: SignerSet,
): QuorumJudgement {
  if (signatures.length < set.threshold) return { ok: false, reason: "BELOW_THRESHOLD" };
  const recovered: Uint8Array[] = [];
  let previous: Uint8Array = new Uint8Array(ADDRESS_BYTES);
  for (const signature of signatures) {
    const signer = recoverAddress(digest, signature);
    if (signer === undefined) return { ok: false, reason: "BAD_SIGNATURE" };
    if (!set.signers.some((known) => equalBytes(known, signer))) return { ok: false, reason: "UNKNOWN_SIGNER" };
    if (compareBytes(signer, previous) <= 0) return { ok: false, reason: "NOT_ASCENDING" };
    recovered.push(signer);
    previous = signer;
  }
  return { ok: true, signers: recovered };
}

/**
 * The signatures of `set` among those collected, one per signer, ascending by address, no more than the threshold:
 * what a poster sends. Undefined while there are too few.
 */
export function assembleSignatures(
  digest: Uint8Array,
  collected: readonly Uint8Array[],
  set: SignerSet,
): Uint8Array[] | undefined {
  const bySigner: { readonly signer: Uint8Array; readonly signature: Uint8Array }[] = [];
  for (const signature of collected) {
    const signer = recoverAddress(digest, signature);
    if (signer === undefined || !set.signers.some((known) => equalBytes(known, signer))) continue;
    if (!bySigner.some((entry) => equalBytes(entry.signer, signer))) bySigner.push({ signer, signature });
  }
  if (bySigner.length < set.threshold) return undefined;
  bySigner.sort((a, b) => compareBytes(a.signer, b.signer));
  return bySigner.slice(0, set.threshold).map((entry) => entry.signature);
}
