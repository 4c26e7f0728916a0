/**
 * How a generation of the log ends: what members say about it under their member keys, and the rule by which its end is
 * chosen (docs/decisions/0030). Pure.
 *
 * The end is a point (position, head) of a chain that members have read. Whatever may have been certified was decided
 * in the state at that point or before it: of every quorum that signed, more members than may be corrupt are among any
 * quorum that reports, and each honest one of them has read as far as the decision.
 */
import {
  bool,
  bytes,
  type Codec,
  CodecError,
  compareBytes,
  count,
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
  union,
} from "../codec/codec.ts";
import { type SigningKey, signTagged, verifyTagged } from "../crypto/ed25519.ts";
import { hashBytes } from "../crypto/hash.ts";
import { G2_BYTES } from "../identity/lattice-config.ts";
import { UNIQUE_ID } from "../identity/unique-id.ts";
import type { Quorum, Roster } from "./roster.ts";
import { HEADS_KEPT } from "./state.ts";

const MEMBERS_MAX = 16;
/** Rounds beyond this are nobody's: at the longest pause they would take years. */
const ROUND_MAX = 1_000_000;

const END = struct({ position: u64, head: fixed(32) });
/** The last entry of a generation: its position, and the chain head after it. */
export type GenerationEndPoint = Infer<typeof END>;

export const PREPARED = struct({
  round: count,
  end: END,
  /** Who prepared it in that round; each signature is over its own `prepare`. */
  by: list(struct({ member: count, signature: fixed(64) }), MEMBERS_MAX),
});
/** A quorum prepared this end in this round: no other end can have been prepared in it. */
export type Prepared = Infer<typeof PREPARED>;

const REPORT = struct({
  round: count,
  /** It has seen for itself that the stream does not hold what it has read. */
  lost: bool,
  position: u64,
  /** Heads at positions `position − heads.length + 1 … position`. */
  heads: list(fixed(32), HEADS_KEPT),
  prepared: optional(PREPARED as Codec<Prepared>),
});
export type EndReport = Infer<typeof REPORT>;
const REPORT_BYTES_MAX = HEADS_KEPT * 32 + 4096;

const STATEMENT = union({
  /** How far its author has read; with it the author gives up all lower rounds. */
  report: REPORT,
  /** The leader's: the end that follows from these reports. */
  proposal: struct({ round: count, end: END, reports: list(bytes(REPORT_BYTES_MAX), MEMBERS_MAX) }),
  /** "The proposal of this round follows from its reports, and I hold the state at its end." */
  prepare: struct({ round: count, end: END }),
  /** "A quorum has prepared it." */
  commit: struct({ round: count, end: END }),
  /** A share of the certificate over the first checkpoint of the next generation; given once a quorum has committed. */
  share: struct({ end: END, epoch: u64, stateHash: fixed(32), stateBytes: count, share: fixed(G2_BYTES) }),
  /** "I take no part in rounds below this one, and have prepared nothing in them": lets whoever reported in them go on. */
  pass: struct({ round: count }),
});
export type EndStatement = Infer<typeof STATEMENT>;

const MESSAGE = struct({
  version: literal(1),
  committee: UNIQUE_ID,
  /** The one that ends. */
  generation: u64,
  member: count,
  statement: STATEMENT as Codec<EndStatement>,
});
const SIGNED = struct({ message: bytes(2 * 1024 * 1024), signature: fixed(64) });
export const END_MESSAGE_TAG = "lattice/generation/end/v1";

/** Which agreement: that of one committee about one generation. */
export interface Ending {
  readonly committee: Uint8Array;
  readonly generation: bigint;
}

export interface EndMessage {
  readonly member: number;
  readonly statement: EndStatement;
  readonly signature: Uint8Array;
  /** As it came, and what identifies it. */
  readonly raw: Uint8Array;
  readonly hash: string;
}

/** Identifies a message: 32 bytes in hex. */
export function endMessageHash(raw: Uint8Array): string {
  return toHex(hashBytes("lattice/generation/end/message/v1", raw));
}

function messageBytes({ committee, generation }: Ending, member: number, statement: EndStatement): Uint8Array {
  return encode(MESSAGE, { version: 1, committee, generation, member, statement });
}

export function signEnd(key: SigningKey, ending: Ending, member: number, statement: EndStatement): Uint8Array {
  const message = messageBytes(ending, member, statement);
  return encode(SIGNED, { message, signature: signTagged(key, END_MESSAGE_TAG, message) });
}

/** A message of this agreement by a member of the roster; undefined for anything else. Total. */
export function readEnd(ending: Ending, roster: Roster, raw: Uint8Array): EndMessage | undefined {
  try {
    const { message, signature } = decode(SIGNED, raw);
    const { committee, generation, member, statement } = decode(MESSAGE, message);
    const author = roster.members[member];
    if (author === undefined || !equalBytes(committee, ending.committee) || generation !== ending.generation) {
      return undefined;
    }
    if (statement.type !== "share" && statement.round > ROUND_MAX) return undefined;
    if (statement.type === "report" && !fits(statement)) return undefined;
    if (!verifyTagged(author.memberKey, END_MESSAGE_TAG, message, signature)) return undefined;
    return { member, statement, signature, raw, hash: endMessageHash(raw) };
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

function fits({ position, heads }: EndReport): boolean {
  return heads.length > 0 && BigInt(heads.length) <= position + 1n;
}

export function sameEnd(a: GenerationEndPoint, b: GenerationEndPoint): boolean {
  return a.position === b.position && equalBytes(a.head, b.head);
}

/** True when a quorum of the roster signed that it prepared this. */
export function verifyPrepared(ending: Ending, roster: Roster, { quorum }: Quorum, prepared: Prepared): boolean {
  const { round, end, by } = prepared;
  if (round > ROUND_MAX || new Set(by.map(({ member }) => member)).size < Math.max(quorum, by.length)) return false;
  return by.every(({ member, signature }) => {
    const author = roster.members[member];
    const message = messageBytes(ending, member, { type: "prepare", round, end });
    return author !== undefined && verifyTagged(author.memberKey, END_MESSAGE_TAG, message, signature);
  });
}

/** How many members must have seen for themselves that the stream is lost: one at least is honest, and never one alone. */
export function lostNeeded({ faults }: Quorum): number {
  return Math.max(2, faults + 1);
}

/** The chain head after `position` in a report; undefined where it does not reach. */
function headIn(report: EndReport, position: bigint): Uint8Array | undefined {
  const back = report.position - position;
  return back < 0n || back >= BigInt(report.heads.length) ? undefined : report.heads.at(-1 - Number(back));
}

function lowest(report: EndReport): bigint {
  return report.position - BigInt(report.heads.length) + 1n;
}

/**
 * The most of these reports that an end follows from, and of those as many the ones whose end lies furthest. Any quorum
 * of reports will do: whoever was away for so long, or lies so, that its report has nothing in common with the others'
 * holds up nobody.
 */
export function chooseReports(
  reports: readonly EndReport[],
  quorum: Quorum,
): { readonly end: GenerationEndPoint; readonly from: readonly EndReport[] } | { readonly waits: string } {
  const all = chooseEnd(reports, quorum);
  if ("end" in all) return { end: all.end, from: reports };
  for (let size = reports.length - 1; size >= quorum.quorum; size--) {
    let best: { readonly end: GenerationEndPoint; readonly from: readonly EndReport[] } | undefined;
    for (const from of parts(reports, size)) {
      const choice = chooseEnd(from, quorum);
      if (!("end" in choice) || (best !== undefined && choice.end.position <= best.end.position)) continue;
      best = { end: choice.end, from };
    }
    if (best !== undefined) return best;
  }
  return all;
}

/** Every choice of `size` of them, in their order. */
function* parts<T>(all: readonly T[], size: number): Generator<readonly T[], void, void> {
  if (size === 0) return yield [];
  for (const [at, first] of all.entries()) {
    if (all.length - at < size) return;
    for (const rest of parts(all.slice(at + 1), size - 1)) yield [first, ...rest];
  }
}

export type EndChoice = { readonly end: GenerationEndPoint } | { readonly waits: string };

/**
 * The end that follows from the reports of one round, each of another member, prepared quorums already verified.
 *
 * Prepared before: that one, of the highest round. Otherwise the furthest point off whose chain nothing can have been
 * certified: what a quorum signed was read by at least q − (members not heard) − f of those heard, so a branch with
 * fewer readers than that holds nothing that binds. Where two branches have as many, nobody guesses: more must report.
 */
export function chooseEnd(reports: readonly EndReport[], quorum: Quorum): EndChoice {
  const { quorum: q, members, faults } = quorum;
  if (reports.length < q) return { waits: `${reports.length} of ${q} reports` };
  const lost = reports.filter((report) => report.lost).length;
  if (lost < lostNeeded(quorum)) return { waits: `${lost} of ${lostNeeded(quorum)} members that see it lost` };
  let locked: Prepared | undefined;
  for (const { prepared } of reports) {
    if (prepared !== undefined && (locked === undefined || prepared.round > locked.round)) locked = prepared;
  }
  if (locked !== undefined) return { end: locked.end };

  const binding = Math.max(1, q - (members - reports.length) - faults);
  /** Readers of a point; whose window begins above it may have read it. */
  const readers = (position: bigint, head: Uint8Array): number =>
    reports.filter((each) => {
      if (each.position < position) return false;
      const own = headIn(each, position);
      return own === undefined || equalBytes(own, head);
    }).length;

  let best: { readonly end: GenerationEndPoint; readonly readers: number } | undefined;
  const points = reports.flatMap((report) => [
    { report, position: report.position },
    // Where it leaves another one.
    ...reports.flatMap((other) => {
      const split = splitOf(report, other);
      return split === undefined ? [] : { report, position: split };
    }),
  ]);
  for (const { report, position } of points) {
    const head = headIn(report, position);
    if (head === undefined || !holds(report, position)) continue;
    const found = { end: { position, head }, readers: readers(position, head) };
    if (best === undefined || compare(found, best) > 0) best = found;
  }
  if (best !== undefined) return { end: best.end };
  const tips = reports.map(
    ({ position, heads }) => `${position}/${Buffer.from(heads.at(-1) ?? []).toString("hex", 0, 4)}`,
  );
  return { waits: `chains that differ (${tips.join(", ")}); further members must report` };

  /** True when nothing off the chain of `report` up to `position` can have been certified. */
  function holds(report: EndReport, position: bigint): boolean {
    return reports.every((other) => {
      const off = firstOff(report, position, other);
      if (off === undefined) return true;
      if (off === "unknown") return false;
      const head = headIn(other, off);
      return head !== undefined && readers(off, head) < binding;
    });
  }
}

/** The first position of `other` that is not on the chain of `report` up to `position`. */
function firstOff(report: EndReport, position: bigint, other: EndReport): bigint | "unknown" | undefined {
  const { from, differs } = compared(report, other);
  // Nothing in common to compare at, or the one begins after the other has ended.
  if (from > position + 1n || from > other.position) return "unknown";
  if (differs !== undefined && differs <= position) return differs === from && from > 0n ? "unknown" : differs;
  return other.position > position ? position + 1n : undefined;
}

/** The last position at which two chains agree, when they go on differently. */
function splitOf(report: EndReport, other: EndReport): bigint | undefined {
  return compared(report, other).agrees;
}

/** What two reports have in common. */
interface Compared {
  /** Where that begins; above either's position: nothing. */
  readonly from: bigint;
  /** The first position at which they differ. */
  readonly differs: bigint | undefined;
  /** The last one at which they agree. */
  readonly agrees: bigint | undefined;
}

/** Reports are long, and each is compared with all others for every point: by report, then by the other one. */
const COMPARED = new WeakMap<EndReport, WeakMap<EndReport, Compared>>();

function compared(report: EndReport, other: EndReport): Compared {
  const known = COMPARED.get(report) ?? new WeakMap<EndReport, Compared>();
  COMPARED.set(report, known);
  // It is the same the other way round.
  const found = known.get(other) ?? COMPARED.get(other)?.get(report) ?? compareReports(report, other);
  known.set(other, found);
  return found;
}

function compareReports(report: EndReport, other: EndReport): Compared {
  const from = lowest(other) > lowest(report) ? lowest(other) : lowest(report);
  const to = report.position < other.position ? report.position : other.position;
  if (report === other) return { from, differs: undefined, agrees: to };
  let differs: bigint | undefined;
  let agrees: bigint | undefined;
  // By places in the lists: what they have in common lies within both, so these are small numbers.
  const length = to < from ? 0 : Number(to - from) + 1;
  const [own, its] = [report, other].map((each) => Number(from - lowest(each))) as [number, number];
  for (let at = 0; at < length; at++) {
    if (sameHead(report.heads[own + at], other.heads[its + at])) agrees = from + BigInt(at);
    else differs ??= from + BigInt(at);
  }
  return { from, differs, agrees };
}

function sameHead(one: Uint8Array | undefined, other: Uint8Array | undefined): boolean {
  return one !== undefined && other !== undefined && equalBytes(one, other);
}

function compare(
  a: { readonly end: GenerationEndPoint; readonly readers: number },
  b: { readonly end: GenerationEndPoint; readonly readers: number },
): number {
  if (a.end.position !== b.end.position) return a.end.position < b.end.position ? -1 : 1;
  return a.readers - b.readers || compareBytes(a.end.head, b.end.head);
}
