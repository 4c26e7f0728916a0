/** Submissions on disk: a bounded number of places in the journal, used again once what lay there is forgotten. */
import {
  bytes,
  type Codec,
  CodecError,
  count,
  decode,
  encode,
  fixed,
  type Infer,
  literal,
  oneOf,
  optional,
  struct,
  text,
  u64,
} from "@lattice/organism/codec/codec.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import {
  DISCLOSURE_POLICY,
  type DisclosurePolicy,
  RAW_TRANSACTION_BYTES_MAX,
  REFUND_AUTHORISATION,
  type RefundAuthorisation,
} from "@lattice/organism/outcomes/unseal.ts";
import { MESSAGE_ID_BYTES } from "@lattice/organism/outcomes/zipnet.ts";
import type { Journal } from "@lattice/organism/ports.ts";

const SUBMISSION = struct({
  version: literal(2),
  /** Grows with every submission taken; the order in which they go out. */
  order: u64,
  raw: bytes(RAW_TRANSACTION_BYTES_MAX),
  sender: fixed(20),
  nonce: u64,
  disclosure: DISCLOSURE_POLICY as Codec<DisclosurePolicy>,
  refund: optional(REFUND_AUTHORISATION as Codec<RefundAuthorisation>),
  /** The last slot in which it may land; absent: no limit. */
  untilSlot: optional(u64),
  status: oneOf("pending", "sent", "broadcast", "landed", "failed"),
  /** The slot it was last sealed for; 0 while it has never left this gateway. */
  slot: u64,
  messageId: optional(fixed(MESSAGE_ID_BYTES)),
  /** Broadcasts after which it did not land. */
  passes: count,
  blockHash: optional(fixed(32)),
  /** Why it failed. */
  reason: text(128),
});
export type Submission = Infer<typeof SUBMISSION>;

/** More places than any setting asks for. */
const PLACES_MAX = 220_000;

const name = (place: number): string => `submission/${place}`;

export class SubmissionStore {
  readonly #journal: Journal;

  constructor(journal: Journal) {
    this.#journal = journal;
  }

  /** Everything stored, in the order in which it was taken. @throws KitProblem */
  load(): { readonly place: number; readonly submission: Submission }[] {
    const found: { place: number; submission: Submission }[] = [];
    for (let place = 0; place < PLACES_MAX; place++) {
      const stored = this.#journal.get(name(place));
      if (stored === undefined || stored.length === 0) continue;
      try {
        found.push({ place, submission: decode(SUBMISSION, stored) });
      } catch (error) {
        if (!(error instanceof CodecError)) throw error;
        throw new KitProblem(`GATEWAY_DATA_DIR: ${name(place)} in the journal was written by another version`);
      }
    }
    return found.sort((a, b) => (a.submission.order < b.submission.order ? -1 : 1));
  }

  /** Resolves once it is on disk. */
  put(place: number, submission: Submission): Promise<void> {
    return this.#journal.put(name(place), encode(SUBMISSION, submission));
  }

  /** Lets the journal drop what has been overwritten. */
  compact(): Promise<void> {
    return this.#journal.trim(0n);
  }
}
