/**
 * What guests are given holds nothing of what members once said about slots that are decided: no signature, vote or
 * share, no bid, vector, pad or sealed body, unless an outcome says it to everybody. Searched as bytes, not as fields:
 * whatever a log has carried is a canary.
 */
import { CodecError, decode, encode } from "@lattice/organism/codec/codec.ts";
import { type CommitteeCommand, decodeCommand } from "@lattice/organism/committee/commands.ts";
import { readEntry } from "@lattice/organism/committee/entry.ts";
import { decodeState } from "@lattice/organism/committee/guest-view.ts";
import { CERTIFIED, OUTCOME } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import type { TallyState } from "@lattice/tally/core/types.ts";
import type { State as ZipnetState } from "@lattice/zipnet/core/types.ts";
import { layoutOf } from "../../test/fuzz/layout.ts";

export interface Canary {
  /** What it was, e.g. "partial" or "vote". */
  readonly kind: string;
  readonly bytes: Uint8Array;
}

/** Shorter ones are found by chance, or are numbers and ids of the living. */
const BYTES_MIN = 32;
const WINDOW = 48;
const DISTINCT_MIN = 12;
/** Machine commands that register something that stays: only their signatures are over with them. */
const REGISTRATIONS = new Set(["register", "serverKey"]);
const SIGNATURES = new Set([64, 65]);

/** Of something long, pieces: it is there in part if it is there at all. */
function pieces(bytes: Uint8Array): Uint8Array[] {
  if (bytes.length < 4 * WINDOW) return [bytes];
  return [1, 2, 3].map((quarter) => {
    const at = Math.floor((bytes.length * quarter) / 4);
    return bytes.subarray(at, at + WINDOW);
  });
}

function machineCanaries(machine: Machine<unknown, unknown, Duty>, raw: Uint8Array): Canary[] {
  const reader = layoutOf(machine.command, raw).filter(({ kind }) => kind === "raw");
  const type = commandType(machine, raw);
  if (type === undefined || type === "serverKey") return [];
  return reader
    .filter(({ length }) => (REGISTRATIONS.has(type) ? SIGNATURES.has(length) : length >= BYTES_MIN))
    .flatMap(({ at, length }) => pieces(raw.subarray(at, at + length)))
    .map((bytes) => ({ kind: type, bytes }));
}

function commandType(machine: Machine<unknown, unknown, Duty>, raw: Uint8Array): string | undefined {
  try {
    return (decode(machine.command, raw) as { readonly type?: string }).type ?? "command";
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

/** Everything in an entry that should not outlive what it is about. */
export function canariesOf(machine: Machine<unknown, unknown, Duty>, raw: Uint8Array): Canary[] {
  let command: CommitteeCommand;
  let signature: Uint8Array;
  try {
    const entry = readEntry(raw);
    ({ signature } = entry);
    command = decodeCommand(entry.body.command);
  } catch (error) {
    if (error instanceof CodecError) return [];
    throw error;
  }
  const found: Canary[] = [{ kind: "signature", bytes: signature }];
  switch (command.type) {
    case "vote":
      for (const { share } of command.votes) found.push({ kind: "vote", bytes: share });
      break;
    case "checkpoint":
      found.push({ kind: "checkpoint", bytes: command.share });
      break;
    case "close":
      for (const bytes of command.inputs) found.push({ kind: "close", bytes });
      break;
    case "saw":
      if (command.fact.length >= BYTES_MIN) found.push({ kind: "saw", bytes: command.fact });
      break;
    case "machine":
      found.push(...machineCanaries(machine, command.command));
      break;
  }
  return found.filter(({ bytes }) => new Set(bytes).size >= DISTINCT_MIN);
}

/** What a guest's state holds that everybody may know, and what it holds of what is not over. */
function allowed(organism: Organism, machine: Machine<unknown, unknown, Duty>, view: Uint8Array): Buffer {
  const { shared, inner } = decodeState(machine.state, view);
  const parts: Uint8Array[] = [];
  for (const { stages, observed } of shared.slots.values()) {
    for (const { outcome, certified, votes } of stages.values()) {
      parts.push(encode(OUTCOME, outcome));
      // Too few yet, however long ago: whoever goes on counts them.
      if (!certified) parts.push(...votes.values());
    }
    for (const certified of observed.values()) parts.push(encode(CERTIFIED, certified));
  }
  if (organism === "tally") {
    const { openLedger, batches } = inner as TallyState;
    if (openLedger !== undefined) parts.push(...(batches.at(-1)?.signatures.values() ?? []));
  }
  if (organism === "zipnet") {
    const { clients, rounds } = inner as ZipnetState;
    for (const { id, envelopeKey, agreementKeys } of clients.values()) parts.push(id, envelopeKey, ...agreementKeys);
    // Whoever aggregates does so again in the rounds in flight.
    for (const { aggregates } of rounds.values())
      parts.push(...aggregates.map(({ aggregate }) => aggregate.aggregator));
  }
  return Buffer.concat(parts);
}

/** Canaries that are in what guests are given, though nobody has made them public. */
export function remains(
  organism: Organism,
  machine: Machine<unknown, unknown, Duty>,
  view: Uint8Array,
  canaries: readonly Canary[],
): Canary[] {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const found = canaries.filter((each) => bytes.includes(Buffer.from(each.bytes)));
  if (found.length === 0) return [];
  const open = allowed(organism, machine, view);
  return found.filter((each) => !open.includes(Buffer.from(each.bytes)));
}

/** A command may be about a slot as far ahead of the one in which it was written. */
export const AHEAD = 9n;
