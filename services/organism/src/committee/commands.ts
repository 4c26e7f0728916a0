/** Commands that all six committees share; the organism's own travel inside `machine`. */
import {
  bytes,
  type Codec,
  CodecError,
  count,
  decode,
  encode,
  fixed,
  type Infer,
  list,
  literal,
  oneOf,
  struct,
  text,
  u64,
  union,
} from "../codec/codec.ts";
import { G2_BYTES } from "../identity/lattice-config.ts";
import { ORGANISMS } from "../identity/organisms.ts";
import { type Refusal, refuse } from "../machine.ts";
import { CHUNK_BYTES, ENTRY_BYTES_MAX } from "./entry.ts";
import { CERTIFIED, type CertifiedOutcome } from "./outcome.ts";
import { RULES_SAID } from "./rules.ts";

/** The largest command, chunked or not. */
export const COMMAND_BYTES_MAX = 16 * 1024 * 1024;
export const FACT_BYTES_MAX = 256 * 1024;
/** A fraud proof: two entries, a Join, and a certified roster. */
export const FRAUD_PROOF_BYTES_MAX = 2 * ENTRY_BYTES_MAX + 16 * 1024;
export const STAGE = text(32);
export const TOPIC = text(32);

const VOTE = struct({ stage: STAGE, slot: u64, share: fixed(G2_BYTES) });

export const COMMAND = union({
  /** A process start: from here on only this incarnation speaks for the member. Signed with the member key. */
  join: struct({ incarnation: u64, key: fixed(32) }),
  /** Shares of certificates over this committee's own decisions. */
  vote: struct({ votes: list(VOTE, 64) }),
  /** "Let every undecided slot up to `toSlot` expire for this stage." Counts when q members say so. */
  skip: struct({ stage: STAGE, toSlot: u64 }),
  /** "This is what I had received in time." */
  close: struct({ stage: STAGE, slot: u64, inputs: list(fixed(32), 65_536) }),
  /** A fact about the outside world. */
  saw: struct({ topic: TOPIC, slot: u64, fact: bytes(FACT_BYTES_MAX) }),
  /** An upstream outcome with its certificate. */
  observe: struct({ organism: oneOf(...ORGANISMS), certified: CERTIFIED as Codec<CertifiedOutcome> }),
  /** A part of a command that is too large for one entry. */
  chunk: struct({ digest: fixed(32), index: count, count: count, part: bytes(CHUNK_BYTES) }),
  /** A command of the organism itself. */
  machine: struct({ command: bytes(COMMAND_BYTES_MAX) }),
  /** A share of the certificate over this state at this position. Hashes and lengths are its author's own. */
  checkpoint: struct({
    position: u64,
    stateHash: fixed(32),
    stateBytes: count,
    guestHash: fixed(32),
    guestBytes: count,
    share: fixed(G2_BYTES),
  }),
  /** What no honest member can have done (fraud.ts): the key that did it is not listened to any more. */
  fraud: struct({ proof: bytes(FRAUD_PROOF_BYTES_MAX) }),
  /** The next epoch's roster, certified under this committee's key. */
  roster: struct({ certified: CERTIFIED as Codec<CertifiedOutcome> }),
  /** "This process can follow rules up to here." Good until the author's next Join. */
  rules: RULES_SAID,
  /** "Enough members of that committee tell of this roster, which begins an era there." Counts when f + 1 members say so. */
  era: struct({ organism: oneOf(...ORGANISMS), certified: CERTIFIED as Codec<CertifiedOutcome> }),
});
export type CommitteeCommand = Infer<typeof COMMAND>;

const VERSIONED = struct({ version: literal(1), command: COMMAND as Codec<CommitteeCommand> });

export function encodeCommand(command: CommitteeCommand): Uint8Array {
  return encode(VERSIONED, { version: 1, command });
}

/** @throws CodecError */
export function decodeCommand(raw: Uint8Array): CommitteeCommand {
  return decode(VERSIONED, raw).command;
}

/** What an entry carries, or why that is nothing. */
export type ReadCommand = { readonly command: CommitteeCommand } | { readonly refusal: Refusal };

export function readCommand(raw: Uint8Array): ReadCommand {
  try {
    return { command: decodeCommand(raw) };
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return { refusal: refuse("MALFORMED", `not a command: ${error.message}`) };
  }
}
