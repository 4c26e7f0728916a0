/** What an outcome's commitment says, in a few named numbers: for tables and for the demo's JSON. Nothing secret is in it. */
import { toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { CANDIDATE } from "@lattice/organism/outcomes/atelier.ts";
import { AUCTION, BLIND_CLOSED } from "@lattice/organism/outcomes/offer.ts";
import { ACCEPTED, NOT_TAKEN } from "@lattice/organism/outcomes/relay.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { BROADCAST, ROUND_HEADER } from "@lattice/organism/outcomes/zipnet.ts";

export type OutcomeDetails = Readonly<Record<string, string | number | boolean>>;

const hex = (bytes: Uint8Array): string => `0x${toHex(bytes)}`;

/** Empty for what does not decode: whoever judges outcomes does so elsewhere. */
export function outcomeDetails(organism: Organism, { stage, kind, commitment }: Outcome): OutcomeDetails {
  switch (`${organism}/${stage}`) {
    case "zipnet/header": {
      const header = tryDecode(ROUND_HEADER, commitment);
      return header === undefined ? {} : { rho: Number(header.rho), clients: header.clientsCount };
    }
    case "zipnet/broadcast": {
      const broadcast = tryDecode(BROADCAST, commitment);
      return broadcast === undefined ? {} : { messages: broadcast.messages, participants: broadcast.participants };
    }
    case "unseal/unsealed": {
      const unsealed = tryDecode(UNSEALED, commitment);
      if (unsealed === undefined) return {};
      const { messages, failures, blind } = unsealed;
      return { messages: messages.length, failures: failures.length, blind_closed: blind !== undefined };
    }
    case "offer/blind": {
      const closed = tryDecode(BLIND_CLOSED, commitment);
      return closed === undefined ? {} : { bids: closed.bidIds.length };
    }
    case "offer/auction": {
      const auction = tryDecode(AUCTION, commitment);
      if (auction === undefined) return {};
      const { winners, blindBids, seenBids, voids, rule } = auction;
      return { winners: winners.length, blind_bids: blindBids, seen_bids: seenBids, voids: voids.length, rule };
    }
    case "atelier/candidate": {
      const candidate = tryDecode(CANDIDATE, commitment);
      if (candidate === undefined) return {};
      return {
        transactions: candidate.transactions,
        gas_used: Number(candidate.gasUsed),
        block_number: Number(candidate.blockNumber),
        block_hash: hex(candidate.blockHash),
        payments_wei: candidate.paymentsWei.toString(),
      };
    }
    case "relay/accepted": {
      if (kind === "empty") {
        const refused = tryDecode(NOT_TAKEN, commitment);
        return refused === undefined ? {} : { reason: refused.reason, instead: hex(refused.blockHash) };
      }
      const accepted = tryDecode(ACCEPTED, commitment);
      if (accepted === undefined) return {};
      return { block_number: Number(accepted.blockNumber), block_hash: hex(accepted.blockHash) };
    }
    case "tally/attribution": {
      const attribution = tryDecode(ATTRIBUTION, commitment);
      if (attribution === undefined) return {};
      const { landed, credits, charges, refundableWei, remainderWei } = attribution;
      return {
        landed,
        credits: credits.length,
        charges: charges.length,
        refundable_wei: refundableWei.toString(),
        remainder_wei: remainderWei.toString(),
      };
    }
    default:
      return {};
  }
}
