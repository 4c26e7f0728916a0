/**
 * From certified outcomes and their bodies to what a slot's block is built from. Members and whoever checks them use
 * the same function, so that equal outcomes give equal inputs.
 */
import { decode, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { AUCTION } from "@lattice/organism/outcomes/offer.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import type { BlockAttributes } from "../core/candidate.ts";
import { BodyMismatch, type BuildInputs, type BuildRules, poolMessages, winningBundles } from "../core/inputs.ts";
import type { PoolMessage, WinningBundle } from "../core/order.ts";
import { originOf } from "../core/upstream.ts";
import type { Executor } from "./executor.ts";

/** An outcome with its body, whose hash has been checked; no body when the outcome names none. */
export interface OutcomeWithBody {
  readonly outcome: Outcome;
  readonly body: Uint8Array | undefined;
}

export interface SlotSources {
  readonly slot: bigint;
  readonly candidateVersion: number;
  readonly attributes: BlockAttributes;
  readonly rules: BuildRules;
  /** unseal/unsealed and offer/auction of the slot. */
  readonly unsealed: OutcomeWithBody;
  readonly auction: OutcomeWithBody;
  /** unseal/unsealed of the `carrySlots` slots before, oldest first. */
  readonly earlier: readonly OutcomeWithBody[];
}

export function rulesOf(config: LatticeConfig): BuildRules {
  const { blindGasBps, carrySlots, settlement } = config.atelier.content;
  return { blindGasBps, carrySlots: BigInt(carrySlots), settlement };
}

/**
 * @throws ChainError UNKNOWN_PARENT while the parent has not been executed here; CodecError or BodyMismatch when a
 *   quorum upstream certified what is no outcome of its kind
 */
export async function slotInputs(executor: Executor, sources: SlotSources): Promise<BuildInputs> {
  const { slot, candidateVersion, attributes, rules, unsealed, auction } = sources;
  const unsealedOrigin = originOf(unsealed.outcome);
  const auctionOrigin = originOf(auction.outcome);
  return {
    slot,
    candidateVersion,
    attributes,
    rules,
    ...(unsealedOrigin === undefined ? {} : { unsealed: unsealedOrigin }),
    ...(auctionOrigin === undefined ? {} : { auction: auctionOrigin }),
    carried: await carriedMessages(executor, attributes, sources.earlier.flatMap(messagesOf)),
    pool: messagesOf(unsealed),
    bundles: bundlesOf(auction, frozenBlind(unsealed.outcome)),
  };
}

/** The messages of an unsealed round, in unseal order; none when it is Empty or Skipped. */
export function messagesOf({ outcome, body }: OutcomeWithBody): PoolMessage[] {
  if (outcome.kind !== "result") return [];
  if (body === undefined) throw new BodyMismatch("unsealed body: missing");
  return poolMessages(outcome.slot, outcome.commitment, body);
}

/** The blind outcome that the freeze named; undefined after NoBlind and for a skipped slot. */
function frozenBlind(outcome: Outcome): Uint8Array | undefined {
  return outcome.kind === "skipped" ? undefined : decode(UNSEALED, outcome.commitment).blind;
}

function bundlesOf({ outcome, body }: OutcomeWithBody, blind: Uint8Array | undefined): WinningBundle[] {
  if (outcome.kind !== "result" || decode(AUCTION, outcome.commitment).winners.length === 0) return [];
  if (body === undefined) throw new BodyMismatch("auction body: missing");
  return winningBundles(outcome.commitment, body, blind);
}

/**
 * Which earlier messages are still owed a place: those whose transaction could have run on the parent or may run
 * later. What landed has used its nonce. One message per id and per transaction, the oldest: ids are public after the
 * broadcast, so a later message under an earlier one's id must not displace it.
 */
async function carriedMessages(
  executor: Executor,
  attributes: BlockAttributes,
  messages: readonly PoolMessage[],
): Promise<PoolMessage[]> {
  if (messages.length === 0) return [];
  const execution = await executor.begin(attributes);
  const taken = new Set<string>();
  const carried: PoolMessage[] = [];
  for (const message of messages) {
    const decoding = execution.decoder.decode(message.rawTransaction);
    if (!("transaction" in decoding)) continue;
    const { facts } = decoding.transaction;
    const id = toHex(message.messageId);
    const hash = toHex(facts.hash);
    if (taken.has(id) || taken.has(hash)) continue;
    if (facts.gasLimit > execution.gasLimit || facts.gasLimit < facts.minimumGas) continue;
    const account = await execution.sender(facts.sender);
    if (account.hasCode || facts.nonce < account.nonce) continue;
    taken.add(id).add(hash);
    carried.push(message);
  }
  return carried;
}
