/**
 * The candidate's vocabulary. Its commitment and body are read by relay and tally, so their codecs are in
 * `@lattice/organism/outcomes/atelier.ts`; what only atelier needs of them is here.
 */
import { decode, encode, equalBytes } from "@lattice/organism/codec/codec.ts";
import {
  CANDIDATE,
  CANDIDATE_BODY,
  type CandidateBody,
  type CandidateCommitment,
  candidateOf,
} from "@lattice/organism/outcomes/atelier.ts";

export {
  type BlockAttributes,
  type BundleReason,
  CANDIDATE,
  CANDIDATE_BODY,
  type CandidateBody,
  type CandidateCommitment,
  candidateOf,
  type DerivedHeader,
  type Entry,
  type Exclusion,
  type ExclusionReason,
  ORDER_CLASSES,
  type OrderClass,
  type OrderRow,
} from "@lattice/organism/outcomes/atelier.ts";
export type { BidClass } from "@lattice/organism/outcomes/offer.ts";

/** A candidate as it is proposed: the body's bytes and the commitment that is voted on. */
export interface Candidate {
  readonly body: CandidateBody;
  readonly bodyBytes: Uint8Array;
  readonly commitment: CandidateCommitment;
  readonly commitmentBytes: Uint8Array;
}

/** The candidate of a body; encodes each part once. */
export function candidateFrom(body: CandidateBody): Candidate {
  const bodyBytes = encode(CANDIDATE_BODY, body);
  const commitment = candidateOf(body, bodyBytes);
  return { body, bodyBytes, commitment, commitmentBytes: encode(CANDIDATE, commitment) };
}

/** True when `commitment` says of the body what the body says. @throws CodecError when the body does not decode */
export function commitmentMatches(commitment: CandidateCommitment, bodyBytes: Uint8Array): boolean {
  const own = candidateOf(decode(CANDIDATE_BODY, bodyBytes), bodyBytes);
  return equalBytes(encode(CANDIDATE, own), encode(CANDIDATE, commitment));
}
