/**
 * One error vocabulary. A *refusal* (machine.ts) is a value in the replicated history; a *fault* is what a caller is
 * told: a gRPC status plus `google.rpc.ErrorInfo {domain, reason, metadata}`; a *bug* stops the process.
 */

/** gRPC status names; `core/` knows the names only. */
export type StatusName =
  | "INVALID_ARGUMENT"
  | "FAILED_PRECONDITION"
  | "ABORTED"
  | "UNAVAILABLE"
  | "RESOURCE_EXHAUSTED"
  | "NOT_FOUND"
  | "OUT_OF_RANGE"
  | "ALREADY_EXISTS"
  | "PERMISSION_DENIED"
  | "UNAUTHENTICATED"
  | "DEADLINE_EXCEEDED"
  | "UNIMPLEMENTED"
  | "INTERNAL";

/** One reason of a catalogue. */
export interface FaultEntry {
  readonly code: StatusName;
  /** What it means, one sentence. */
  readonly meaning: string;
  /** What the caller should do next, one sentence. */
  readonly remedy: string;
  /** May the identical call be repeated? */
  readonly retry: boolean;
}

export type FaultCatalogue<R extends string = string> = { readonly [K in R]: FaultEntry };

/** An error a caller may see. The message and the metadata carry ids, sizes and numbers, never content. */
export class Fault extends Error {
  override readonly name = "Fault";
  readonly code: StatusName;
  /** `<organism>.lattice` */
  readonly domain: string;
  readonly reason: string;
  readonly metadata: Readonly<Record<string, string>>;
  constructor(
    domain: string,
    reason: string,
    entry: FaultEntry,
    detail?: string,
    metadata: Readonly<Record<string, string>> = {},
    options?: { readonly cause?: unknown },
  ) {
    super(detail ?? entry.meaning, options);
    this.code = entry.code;
    this.domain = domain;
    this.reason = reason;
    this.metadata = metadata;
  }
}

/** Faults of one domain: `const fault = faultsOf("zipnet", FAULTS); throw fault("ROUND_CLOSED", "…")`. */
export function faultsOf<R extends string>(
  domain: string,
  catalogue: FaultCatalogue<R>,
): (reason: R, detail?: string, metadata?: Readonly<Record<string, string>>) => Fault {
  return (reason, detail, metadata) => new Fault(`${domain}.lattice`, reason, catalogue[reason], detail, metadata);
}

/** Reasons that every member can give. */
export const COMMON_FAULTS = {
  ORGANISM_MISMATCH: {
    code: "FAILED_PRECONDITION",
    meaning: "The caller is bound to another committee.",
    remedy: "Compare the two ids in the metadata; one side has another lattice config.",
    retry: false,
  },
  MALFORMED: {
    code: "INVALID_ARGUMENT",
    meaning: "The bytes are not a canonical encoding of what was expected.",
    remedy: "Fix the caller; the same bytes are refused for ever.",
    retry: false,
  },
  NOT_AUTHOR: {
    code: "PERMISSION_DENIED",
    meaning: "The entry is not from an admitted member's current incarnation.",
    remedy: "Nothing: a newer process speaks for this member.",
    retry: false,
  },
  OUT_OF_ORDER: {
    code: "ABORTED",
    meaning: "The entry does not follow its author's previous one.",
    remedy: "Resend from the first entry not yet consumed.",
    retry: true,
  },
  VIEW_TOO_OLD: {
    code: "ABORTED",
    meaning: "The entry was signed over a position of the log that lies too far back to be compared.",
    remedy: "Nothing: its author joins anew and says it again over a newer position.",
    retry: true,
  },
  FORKED_HEAD: {
    code: "FAILED_PRECONDITION",
    meaning: "The entry was signed over a chain head that is not in this log.",
    remedy: "The broker shows members different logs; stop it and compare heads.",
    retry: false,
  },
  KEY_BLOCKED: {
    code: "PERMISSION_DENIED",
    meaning: "The author's key was proven to say two things; nothing more is taken from it.",
    remedy: "Look at the proof (ListFrauds); its operator comes back with a new key in a new roster epoch.",
    retry: false,
  },
  BAD_PROOF: {
    code: "INVALID_ARGUMENT",
    meaning: "The fraud proof does not show what it claims.",
    remedy: "Discard it; whoever made it is wrong or lies.",
    retry: false,
  },
  SLOT_DECIDED: {
    code: "FAILED_PRECONDITION",
    meaning: "This stage of the slot has been decided already.",
    remedy: "Read the outcome; send for a later slot.",
    retry: false,
  },
  SLOT_OUT_OF_WINDOW: {
    code: "OUT_OF_RANGE",
    meaning: "The slot lies below the floor or beyond the window.",
    remedy: "Use a slot between the floor and the window named in the metadata.",
    retry: false,
  },
  BAD_CERTIFICATE: {
    code: "INVALID_ARGUMENT",
    meaning: "The certificate does not verify under the lattice config.",
    remedy: "Discard it; ask another member.",
    retry: false,
  },
  BAD_SHARE: {
    code: "INVALID_ARGUMENT",
    meaning: "The share does not verify under its member's public share.",
    remedy: "Nothing: it is attributed to its author.",
    retry: false,
  },
  CHECKPOINT_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "There is no checkpoint at this position, or it is too old to be voted on or fetched.",
    remedy: "Ask for the newest one.",
    retry: false,
  },
  ROSTER_REFUSED: {
    code: "FAILED_PRECONDITION",
    meaning:
      "The roster may not follow the committee's newest one: its certificate, its epoch, its slot or its members.",
    remedy: "Make the next epoch from the newest roster, one member at a time, after that one has become active.",
    retry: false,
  },
  OTHER_ERA: {
    code: "FAILED_PRECONDITION",
    meaning:
      "A roster does not fit the chain of certificate keys: another era than the one in force, or a second beginning of one.",
    remedy:
      "Get the committee's links from a quorum of its members (roster show); two certified beginnings of one era are evidence that a key is not safe.",
    retry: false,
  },
  STATE_DIFFERS: {
    code: "FAILED_PRECONDITION",
    meaning: "A member signed another state for this position than the others have.",
    remedy: "Compare versions and logs of the two; whoever differs from a quorum stops and starts from its snapshot.",
    retry: false,
  },
  DUPLICATE: {
    code: "ALREADY_EXISTS",
    meaning: "This has been said already.",
    remedy: "Nothing to do.",
    retry: false,
  },
  NOT_READY: {
    code: "UNAVAILABLE",
    meaning: "The member is starting, draining, or has no log.",
    remedy: "Retry, or ask another member.",
    retry: true,
  },
  FATE_UNKNOWN: {
    code: "DEADLINE_EXCEEDED",
    meaning: "The request was published, but has not come back in the log in time.",
    remedy: "Ask again with the same content: it is accepted once.",
    retry: true,
  },
  LOG_REFUSED: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "The committee's log takes no more from this member now.",
    remedy: "Wait for a checkpoint to free space, or use another member.",
    retry: true,
  },
  OUTCOME_TOO_OLD: {
    code: "OUT_OF_RANGE",
    meaning: "The outcomes asked for are older than the archive.",
    remedy: "Start from the oldest slot, named in the metadata.",
    retry: false,
  },
  OUTCOME_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "There is no such outcome, or not yet.",
    remedy: "Watch the stream; it comes when the slot is decided.",
    retry: true,
  },
  BODY_NOT_ADMITTED: {
    code: "PERMISSION_DENIED",
    meaning: "This body is served to admitted members only until its slot is on chain.",
    remedy: "Wait for the slot to land; a body of a slot that did not land is never published.",
    retry: false,
  },
  SNAPSHOT_NOT_ADMITTED: {
    code: "PERMISSION_DENIED",
    meaning: "Snapshots are served to members of the same committee only.",
    remedy: "Sign the request with the member key, by a clock that is right.",
    retry: false,
  },
  SNAPSHOTS_BUSY: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "This member is sending as many snapshots as it sends at once.",
    remedy: "Ask another member.",
    retry: true,
  },
  READER_NOT_ADMITTED: {
    code: "PERMISSION_DENIED",
    meaning: "The committee's log and snapshots are for its members, and for guests with a ticket.",
    remedy:
      "Sign with the member key, or with the key that a ticket for this committee's guests names, by a clock that is right.",
    retry: false,
  },
  READERS_BUSY: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "This member is serving as many readers of its log as it serves at once.",
    remedy: "Ask another member.",
    retry: true,
  },
  STREAMS_BUSY: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "This member has as many streams open as it serves at once, and this caller more than others.",
    remedy: "Open fewer, or ask another member.",
    retry: true,
  },
  LOG_TOO_OLD: {
    code: "OUT_OF_RANGE",
    meaning: "The log does not reach back so far for this reader.",
    remedy: "Start from a checkpoint; the first position that is served is named in the metadata.",
    retry: false,
  },
  SLOW_CONSUMER: {
    code: "RESOURCE_EXHAUSTED",
    meaning: "The stream's buffer overflowed because the reader was too slow.",
    remedy: "Resume from the last slot you have seen.",
    retry: true,
  },
  TOO_LARGE: {
    code: "INVALID_ARGUMENT",
    meaning: "The message is larger than its limit.",
    remedy: "Send less; the limit is in the metadata.",
    retry: false,
  },
  UPSTREAM_UNREACHABLE: {
    code: "UNAVAILABLE",
    meaning: "Nobody of the committee asked for answered in time.",
    remedy: "Retry; look at that committee's members.",
    retry: true,
  },
  BUG: {
    code: "INTERNAL",
    meaning: "The member broke one of its own rules.",
    remedy: "Report it with the member's log.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

export type CommonReason = keyof typeof COMMON_FAULTS;

/** A rule of our own is broken: the process must stop rather than diverge. */
export class Bug extends Error {
  override readonly name = "Bug";
}

export function invariant(holds: unknown, rule: string): asserts holds {
  if (!holds) throw new Bug(rule);
}

/** The end of an exhaustive switch. */
export function assertNever(value: never): never {
  throw new Bug(`unexpected alternative: ${String((value as { type?: unknown })?.type)}`);
}
