/** Protobuf ↔ core. Canonical bytes travel whole, so what is checked here is their size and that they parse. */
import { encode, u256 } from "@lattice/organism/codec/codec.ts";
import { BidStatus } from "@lattice/proto/lattice/offer/v1/bid_pb.ts";
import { bidBytesMax, parseBid, type SealedBid } from "../core/bid.ts";
import { type Cancel, parseCancel, parseRegistration, type Registration } from "../core/requests.ts";
import type { Standing } from "../core/types.ts";
import { fault } from "./faults.ts";

/** @throws Fault TOO_LARGE, BID_MALFORMED */
export function bidFromWire(raw: Uint8Array, bundleBytes: number): SealedBid {
  const limit = bidBytesMax(bundleBytes);
  if (raw.length > limit) throw fault("TOO_LARGE", `a bid of ${raw.length} bytes`, { limit: String(limit) });
  const bid = parseBid(raw);
  if (bid === undefined) throw fault("BID_MALFORMED");
  return bid;
}

/** @throws Fault MALFORMED */
export function cancelFromWire(raw: Uint8Array): Cancel {
  const cancel = parseCancel(raw);
  if (cancel === undefined) throw fault("MALFORMED", "not a cancellation");
  return cancel;
}

/** @throws Fault MALFORMED */
export function registrationFromWire(raw: Uint8Array): Registration {
  const registration = parseRegistration(raw);
  if (registration === undefined) throw fault("MALFORMED", "not a registration");
  return registration;
}

/** @throws Fault MALFORMED */
export function fixedFromWire(name: string, raw: Uint8Array, length: number): Uint8Array {
  if (raw.length !== length) throw fault("MALFORMED", `${name}: ${raw.length} bytes, ${length} expected`);
  return raw;
}

/** 32 bytes big-endian. */
export function weiToWire(wei: bigint): Uint8Array {
  return encode(u256, wei);
}

/** Undefined while the bid still takes part. */
export function statusToWire(standing: Standing): BidStatus | undefined {
  switch (standing) {
    case "live":
      return undefined;
    case "won":
      return BidStatus.WON;
    case "lost":
      return BidStatus.LOST;
    case "void":
      return BidStatus.VOID;
    case "withdrawn":
      return BidStatus.WITHDRAWN;
    case "unanswered":
      return BidStatus.UNANSWERED;
  }
}
