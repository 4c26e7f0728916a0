/**
 * Judges a peer's candidate from its body alone: decodes it, carries the rules out on the same inputs, executes, and
 * refuses at the first thing that differs. A member votes only for what this accepts.
 */
import { type Codec, encode, equalBytes, optional, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { BLOCK_ATTRIBUTES, DERIVED_HEADER, ENTRY, ORDER_ROW } from "@lattice/organism/outcomes/atelier.ts";
import { REFUND_AUTHORISATION } from "@lattice/organism/outcomes/unseal.ts";
import {
  CANDIDATE_BODY,
  type Candidate,
  type CandidateBody,
  candidateFrom,
  type Entry,
  type Exclusion,
  ORDER_CLASSES,
  type OrderRow,
} from "../core/candidate.ts";
import type { BuildInputs } from "../core/inputs.ts";
import { distinctMessages, type PoolMessage } from "../core/order.ts";
import type { Executor } from "./executor.ts";
import { type Ledger, pack } from "./pack.ts";

const REFUND = optional(REFUND_AUTHORISATION);

/** Why a candidate is refused. */
export const REFUSALS = [
  "BODY_MALFORMED",
  "WRONG_SLOT",
  "WRONG_VERSION",
  "WRONG_PARENT",
  "ATTRIBUTES_DIFFER",
  "INPUTS_DIFFER",
  /** Co-builder hints that nobody gave. */
  "UNKNOWN_HINT",
  /** The five classes do not follow one another. */
  "CLASS_ORDER",
  "UNKNOWN_MESSAGE",
  "UNKNOWN_BUNDLE",
  /** The bytes are not the message's, or not the bundle's. */
  "TRANSACTION_DIFFERS",
  /** Refunds of a message would go elsewhere than its sender said. */
  "AUTHORISATION_DIFFERS",
  "MESSAGE_TWICE",
  /** Neither in the block nor excluded with a reason. */
  "MESSAGE_UNACCOUNTED",
  /** Valid at its position and fits, but is not there. */
  "MESSAGE_OMITTED",
  /** Is there, but is not valid at its position. */
  "MESSAGE_NOT_VALID",
  "MESSAGE_ORDER",
  "WRONG_REASON",
  "EXCLUSIONS_DIFFER",
  "BUNDLE_OMITTED",
  "BUNDLE_NOT_VALID",
  "BUNDLE_ORDER",
  "TABLE_DIFFERS",
  "CARRY_DIFFERS",
  "FEES_DIFFER",
  "HEADER_DIFFERS",
  "REQUESTS_DIFFER",
  "BLOCK_HASH_DIFFERS",
] as const;
export type RefusalReason = (typeof REFUSALS)[number];

export type Verdict =
  | { readonly accepted: true; readonly candidate: Candidate }
  | { readonly accepted: false; readonly reason: RefusalReason; readonly detail: string };

class Refused extends Error {
  readonly reason: RefusalReason;
  constructor(reason: RefusalReason, detail: string) {
    super(detail);
    this.reason = reason;
  }
}

/**
 * @param inputs as this member has them, with the slot and version the proposal is keyed by
 * @throws ChainError UNKNOWN_PARENT: this member cannot judge it yet, and should wait rather than refuse
 */
export async function verifyCandidate(
  executor: Executor,
  inputs: BuildInputs,
  bodyBytes: Uint8Array,
): Promise<Verdict> {
  const body = tryDecode(CANDIDATE_BODY, bodyBytes);
  if (body === undefined) return { accepted: false, reason: "BODY_MALFORMED", detail: "not a candidate body" };
  try {
    checkDictated(body, inputs);
    checkOrigins(body, inputs);
    await checkExecution(executor, body, inputs);
  } catch (error) {
    if (error instanceof Refused) return { accepted: false, reason: error.reason, detail: error.message };
    throw error;
  }
  return { accepted: true, candidate: candidateFrom(body) };
}

function demand(holds: boolean, reason: RefusalReason, detail: string): void {
  if (!holds) throw new Refused(reason, detail);
}

/** What follows from the inputs without looking at a transaction. */
function checkDictated(body: CandidateBody, inputs: BuildInputs): void {
  demand(body.slot === inputs.slot, "WRONG_SLOT", `slot ${body.slot}`);
  demand(body.candidateVersion === inputs.candidateVersion, "WRONG_VERSION", `version ${body.candidateVersion}`);
  const parentHash = body.attributes.parentHash;
  demand(equalBytes(parentHash, inputs.attributes.parentHash), "WRONG_PARENT", toHex(parentHash));
  demand(
    same(BLOCK_ATTRIBUTES, body.attributes, inputs.attributes),
    "ATTRIBUTES_DIFFER",
    differingAttribute(body, inputs),
  );
  demand(sameDigest(body.unsealed, inputs.unsealed), "INPUTS_DIFFER", "another unsealed round");
  demand(sameDigest(body.auction, inputs.auction), "INPUTS_DIFFER", "another auction outcome");
  demand(body.appliedHints.length === 0, "UNKNOWN_HINT", `${body.appliedHints.length} hints`);
}

function differingAttribute(body: CandidateBody, inputs: BuildInputs): string {
  const names = Object.keys(inputs.attributes) as (keyof typeof inputs.attributes)[];
  const differing = names.filter((name) => {
    const alone = (attributes: CandidateBody["attributes"]) => ({ ...inputs.attributes, [name]: attributes[name] });
    return !same(BLOCK_ATTRIBUTES, alone(body.attributes), alone(inputs.attributes));
  });
  return differing.join(", ");
}

/** Classes in order; every transaction the message's or bundle's own; every message accounted for exactly once. */
function checkOrigins(body: CandidateBody, inputs: BuildInputs): void {
  const messages = new Map<string, PoolMessage>();
  for (const message of distinctMessages(inputs.carried)) messages.set(`carried/${toHex(message.messageId)}`, message);
  for (const message of distinctMessages(inputs.pool)) messages.set(`pool/${toHex(message.messageId)}`, message);
  const bundles = new Map(inputs.bundles.map((bundle) => [`${bundle.class}/${toHex(bundle.bidId)}`, bundle]));
  const accounted = new Set<string>();
  const account = (key: string): void => {
    demand(!accounted.has(key), "MESSAGE_TWICE", key);
    accounted.add(key);
  };

  let reached = 0;
  for (const entry of body.entries) {
    const position = ORDER_CLASSES.indexOf(entry.type);
    demand(position >= reached, "CLASS_ORDER", `${entry.type} after ${ORDER_CLASSES[reached]}`);
    reached = position;
    const key = keyOf(entry);
    if (entry.type === "carried" || entry.type === "pool") {
      const message = messages.get(key);
      if (message === undefined) throw new Refused("UNKNOWN_MESSAGE", key);
      demand(equalBytes(message.rawTransaction, entry.raw), "TRANSACTION_DIFFERS", key);
      demand(same(REFUND, entry.refund, message.refund), "AUTHORISATION_DIFFERS", key);
      account(key);
    } else {
      const bundle = bundles.get(key);
      if (bundle === undefined) throw new Refused("UNKNOWN_BUNDLE", key);
      const own = bundle.items.some((item) => item.type === "transaction" && equalBytes(item.raw, entry.raw));
      demand(own, "TRANSACTION_DIFFERS", key);
    }
  }
  for (const exclusion of body.exclusions) {
    const key = `${exclusion.class}/${toHex(exclusion.messageId)}`;
    demand(messages.has(key), "UNKNOWN_MESSAGE", key);
    account(key);
  }
  for (const key of messages.keys()) demand(accounted.has(key), "MESSAGE_UNACCOUNTED", key);
}

/** Carries the rules out and holds every decision against the body; then the header. */
async function checkExecution(executor: Executor, body: CandidateBody, inputs: BuildInputs): Promise<void> {
  const execution = await executor.begin(inputs.attributes);
  const comparison = new Comparison(body);
  const { carry, feesWei } = await pack(execution, inputs, comparison);
  comparison.finish();
  demand(sameList(carry, body.carry), "CARRY_DIFFERS", `${body.carry.length} messages, ${carry.length} expected`);
  demand(feesWei === body.feesWei, "FEES_DIFFER", `${body.feesWei} wei`);
  const sealed = await execution.seal();
  demand(same(DERIVED_HEADER, body.header, sealed.header), "HEADER_DIFFERS", differingField(body, sealed.header));
  demand(sameList(sealed.executionRequests, body.executionRequests), "REQUESTS_DIFFER", "execution requests");
  demand(equalBytes(sealed.hash, body.blockHash), "BLOCK_HASH_DIFFERS", toHex(body.blockHash));
}

function differingField(body: CandidateBody, header: CandidateBody["header"]): string {
  const names = Object.keys(header) as (keyof typeof header)[];
  return names
    .filter((name) => !same(DERIVED_HEADER, { ...header, [name]: body.header[name] } as typeof header, header))
    .join(", ");
}

/** Walks the body beside the rules. */
class Comparison implements Ledger {
  readonly #body: CandidateBody;
  #entries = 0;
  #exclusions = 0;
  #rows = 0;

  constructor(body: CandidateBody) {
    this.#body = body;
  }

  include(entry: Entry): void {
    const stated = this.#body.entries[this.#entries++];
    if (stated !== undefined && same(ENTRY, stated, entry)) return;
    const elsewhere = this.#body.entries.some((other) => same(ENTRY, other, entry));
    const message = entry.type === "carried" || entry.type === "pool";
    const reason = elsewhere
      ? message
        ? "MESSAGE_ORDER"
        : "BUNDLE_ORDER"
      : message
        ? "MESSAGE_OMITTED"
        : "BUNDLE_OMITTED";
    throw new Refused(reason, keyOf(entry));
  }

  exclude(exclusion: Exclusion): void {
    const key = `${exclusion.class}/${toHex(exclusion.messageId)}`;
    const stated = this.#body.exclusions[this.#exclusions++];
    const sameMessage = stated?.class === exclusion.class && equalBytes(stated.messageId, exclusion.messageId);
    if (sameMessage && stated.reason === exclusion.reason) return;
    demand(
      !this.#body.entries.some((entry) => keyOf(entry) === key),
      "MESSAGE_NOT_VALID",
      `${key}: ${exclusion.reason}`,
    );
    throw new Refused(sameMessage ? "WRONG_REASON" : "EXCLUSIONS_DIFFER", `${key}: ${exclusion.reason}`);
  }

  row(row: OrderRow): void {
    const stated = this.#body.table[this.#rows++];
    if (stated !== undefined && same(ORDER_ROW, stated, row)) return;
    const detail = `${row.class}/${toHex(row.bidId)}: ${row.reason ?? row.status}`;
    const included = this.#body.entries.some((entry) => keyOf(entry) === `${row.class}/${toHex(row.bidId)}`);
    throw new Refused(included && row.status !== "landed" ? "BUNDLE_NOT_VALID" : "TABLE_DIFFERS", detail);
  }

  finish(): void {
    const extra = this.#body.entries[this.#entries];
    if (extra !== undefined) {
      const message = extra.type === "carried" || extra.type === "pool";
      throw new Refused(message ? "MESSAGE_NOT_VALID" : "BUNDLE_NOT_VALID", keyOf(extra));
    }
    demand(this.#exclusions === this.#body.exclusions.length, "EXCLUSIONS_DIFFER", "more than there are");
    demand(this.#rows === this.#body.table.length, "TABLE_DIFFERS", "more rows than winners");
  }
}

function keyOf(entry: Entry): string {
  return `${entry.type}/${toHex("messageId" in entry ? entry.messageId : entry.bidId)}`;
}

function same<T>(codec: Codec<T>, a: T, b: T): boolean {
  return equalBytes(encode(codec, a), encode(codec, b));
}

function sameDigest(a: Uint8Array | undefined, b: Uint8Array | undefined): boolean {
  return a === undefined || b === undefined ? a === b : equalBytes(a, b);
}

function sameList(a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean {
  return a.length === b.length && a.every((item, index) => equalBytes(item, b[index] ?? new Uint8Array()));
}
