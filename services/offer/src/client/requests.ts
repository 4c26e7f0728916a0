/** What searchers and escrow accounts send besides bids. Pure: keys in, canonical bytes out. */
import { signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { cancelDigest, encodeCancel, encodeRegistration, registrationDigest, statusDigest } from "../core/requests.ts";

/**
 * "The bids of `searcher` may be charged to my escrow, up to and including `untilSlot`."
 * @param accountKey secp256k1 secret of the escrow account, 32 bytes
 * @returns bytes for `RegisterSearcher`
 */
export function registrationBytes(options: {
  readonly config: LatticeConfig;
  readonly account: Uint8Array;
  readonly searcher: Uint8Array;
  readonly untilSlot: bigint;
  readonly accountKey: Uint8Array;
}): Uint8Array {
  const { config, account, searcher, untilSlot, accountKey } = options;
  const terms = { version: 1 as const, committee: committeeId(config, "offer"), account, searcher, untilSlot };
  return encodeRegistration({ terms, signature: signDigest(accountKey, registrationDigest(terms)) });
}

/** Withdraws a seen or tail bid. @returns bytes for `CancelBid` */
export function cancelBytes(options: {
  readonly config: LatticeConfig;
  readonly slot: bigint;
  readonly bidId: Uint8Array;
  readonly searcherKey: Uint8Array;
}): Uint8Array {
  const { config, slot, bidId, searcherKey } = options;
  const terms = { version: 1 as const, committee: committeeId(config, "offer"), slot, bidId };
  return encodeCancel({ terms, signature: signDigest(searcherKey, cancelDigest(terms)) });
}

/** The signature that `GetBidStatus` asks for, 65 bytes. */
export function signStatusRequest(options: {
  readonly config: LatticeConfig;
  readonly slot: bigint;
  readonly bidId: Uint8Array;
  readonly searcherKey: Uint8Array;
}): Uint8Array {
  const { config, slot, bidId, searcherKey } = options;
  return signDigest(searcherKey, statusDigest({ committee: committeeId(config, "offer"), slot, bidId }));
}
