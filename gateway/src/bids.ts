/** The gateway's searcher: seals bundles as bids and submits them to the auction. */
import { randomBytes } from "node:crypto";
import { BidProblem, paymentId, sealBid } from "@lattice/offer/client/bid.ts";
import { registrationBytes } from "@lattice/offer/client/requests.ts";
import { CodecError, toHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { COMMON_FAULTS, Fault } from "@lattice/organism/fault.ts";
import { committeeId, type LatticeConfig, slotAt, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Endpoints } from "@lattice/organism/node/outcome-follower.ts";
import type { RosterView } from "@lattice/organism/node/roster-book.ts";
import type { BidClass, Bundle } from "@lattice/organism/outcomes/offer.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { type Client, connectService } from "@lattice/organism/rpc/client.ts";
import { OfferService } from "@lattice/proto/lattice/offer/v1/offer_service_pb.ts";
import { gatewayFault } from "./faults.ts";

export interface BidderOptions {
  readonly config: LatticeConfig;
  /** Of offer, whose sealing key changes with the epoch. */
  readonly rosters: RosterView;
  readonly endpoints: () => Endpoints;
  readonly clock: Clock;
  /** secp256k1 secret, 32 bytes: signs bids, and its own account's escrow answers for them. */
  readonly searcherKey: Uint8Array;
  /** Tickets for the searcher, one per admission rule of offer. */
  readonly tickets: (searcher: Uint8Array) => readonly Uint8Array[];
}

export interface BidRequest {
  /** Undefined: the next slot that is open for the class. */
  readonly slot: bigint | undefined;
  readonly class: BidClass;
  readonly amountWei: bigint;
  /** Undefined: the amount rounded up to a power of two, so that the cap says little. */
  readonly capWei: bigint | undefined;
  readonly items: Bundle["items"];
  readonly mayRevert?: readonly Uint8Array[];
  /** From `reserve`, when the bundle pays the settlement contract under its payment id. */
  readonly nonce?: bigint;
}

/** What a bundle must name to pay its bid, known before it is signed. */
export interface ReservedBid {
  readonly class: BidClass;
  readonly slot: bigint;
  readonly nonce: bigint;
  /** `payBid(slot, paymentId)`, 32 bytes. */
  readonly paymentId: Uint8Array;
}

/** A bid must reach the committee this long before its class closes. */
export const MARGIN_MS = 100;
/** Reservations that are remembered, so that a bundle can be recognised by the payment it makes. */
const RESERVED_MAX = 1024;
/** How far ahead a registration lets the searcher use its escrow. */
const REGISTRATION_SLOTS = 100_000n;

export class Bidder {
  readonly #options: BidderOptions;
  readonly #clients = new Map<string, Client<typeof OfferService>>();
  readonly searcher: Uint8Array;
  readonly #reserved = new Map<string, ReservedBid>();
  #registeredUntil = 0n;
  #registering: Promise<void> | undefined;
  /** Nonces are per searcher and slot; a clock-based start keeps a restarted gateway above its former ones. */
  #nonce: bigint;

  constructor(options: BidderOptions) {
    this.#options = options;
    this.searcher = addressOfSecret(options.searcherKey);
    this.#nonce = BigInt(options.clock.nowMs()) * 1000n;
  }

  /** The next slot whose auction still takes bids of this class. */
  openSlot(bidClass: BidClass): bigint {
    const { config, clock } = this.#options;
    const { blindCloseMs, seenCloseMs } = config.offer.content;
    const closesMs = bidClass === "blind" ? blindCloseMs : seenCloseMs;
    let slot = slotAt(config, clock.nowMs()) + 1n;
    while (slotStartMs(config, slot) - closesMs - MARGIN_MS <= clock.nowMs()) slot += 1n;
    return slot;
  }

  /** Calls members in turn until one answers; a refusal by one is the answer. */
  async #ask<T>(call: (client: Client<typeof OfferService>) => Promise<T>): Promise<T> {
    const { config, endpoints } = this.#options;
    const none = { organism: "offer" };
    const { UPSTREAM_UNREACHABLE } = COMMON_FAULTS;
    let last: unknown = new Fault("offer.lattice", "UPSTREAM_UNREACHABLE", UPSTREAM_UNREACHABLE, undefined, none);
    for (const address of endpoints().offer) {
      let client = this.#clients.get(address);
      if (client === undefined) {
        client = connectService(OfferService, address, { committee: committeeId(config, "offer"), deadlineMs: 3000 });
        this.#clients.set(address, client);
      }
      try {
        return await call(client);
      } catch (error) {
        if (error instanceof Fault && error.code !== "UNAVAILABLE" && error.code !== "DEADLINE_EXCEEDED") throw error;
        last = error;
      }
    }
    throw last;
  }

  /** Lets the searcher bid against its own account's escrow, and has the committee read that escrow. */
  register(): Promise<void> {
    this.#registering ??= this.#register().finally(() => {
      this.#registering = undefined;
    });
    return this.#registering;
  }

  async #register(): Promise<void> {
    const { config, clock, searcherKey } = this.#options;
    const now = slotAt(config, clock.nowMs());
    const untilSlot = now + REGISTRATION_SLOTS;
    const registration = registrationBytes({
      config,
      account: this.searcher,
      searcher: this.searcher,
      untilSlot,
      accountKey: searcherKey,
    });
    await this.#ask((client) => client.registerSearcher({ registration }));
    this.#registeredUntil = untilSlot;
  }

  /** Takes a nonce, and says under which id the bundle pays. */
  reserve(bidClass: BidClass, slot = this.openSlot(bidClass)): ReservedBid {
    const { config, rosters } = this.#options;
    this.#nonce += 1n;
    const context = {
      committee: committeeId(config, "offer"),
      epoch: rosters.at("offer", slot).epoch,
      slot,
      class: bidClass,
      searcher: this.searcher,
      nonce: this.#nonce,
    };
    const reserved = { class: bidClass, slot, nonce: this.#nonce, paymentId: paymentId(context) };
    this.#reserved.set(toHex(reserved.paymentId), reserved);
    for (const oldest of this.#reserved.keys()) {
      if (this.#reserved.size <= RESERVED_MAX) break;
      this.#reserved.delete(oldest);
    }
    return reserved;
  }

  /** The reservation that a payment id came from; undefined when it was not made here, or long ago. */
  reservationOf(payment: Uint8Array): ReservedBid | undefined {
    return this.#reserved.get(toHex(payment));
  }

  /** @throws Fault BAD_BID, or what offer says */
  async bid(request: BidRequest): Promise<{ readonly bidId: Uint8Array; readonly slot: bigint }> {
    const { config, rosters, searcherKey, tickets } = this.#options;
    const slot = request.slot ?? this.openSlot(request.class);
    if (this.#registeredUntil < slot) await this.register();
    const { sealingKey, epoch } = rosters.at("offer", slot);
    if (sealingKey === undefined) throw gatewayFault("BAD_BID", "the certified roster of offer states no sealing key");
    const nonce = request.nonce ?? this.reserve(request.class, slot).nonce;
    const references = request.items.flatMap((item) => (item.type === "reference" ? [item.messageId] : []));
    let sealed: ReturnType<typeof sealBid>;
    try {
      sealed = sealBid({
        config,
        sealingKey,
        epoch,
        slot,
        class: request.class,
        searcherKey,
        nonce,
        escrowAccount: this.searcher,
        capWei: request.capWei ?? roundedUp(request.amountWei),
        amountWei: request.amountWei,
        references,
        bundle: {
          version: 1,
          items: request.items,
          mayRevert: [...(request.mayRevert ?? [])],
          refundRecipient: undefined,
        },
        tickets: tickets(this.searcher),
        random: (count) => new Uint8Array(randomBytes(count)),
      });
    } catch (error) {
      if (error instanceof BidProblem) throw gatewayFault("BAD_BID", error.message);
      if (error instanceof CodecError) throw gatewayFault("BAD_BID", "a field of the bundle is out of its range");
      throw error;
    }
    const submit = () => this.#ask((client) => client.submitBid({ bid: sealed.bid }));
    try {
      await submit();
    } catch (error) {
      // The committee has forgotten the registration, or never had it: say it again, once.
      if (!(error instanceof Fault) || error.reason !== "ACCOUNT_NOT_AUTHORISED") throw error;
      await this.register();
      await submit();
    }
    return { bidId: sealed.bidId, slot };
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
  }
}

const WEI_MAX = 2n ** 256n - 1n;

function roundedUp(wei: bigint): bigint {
  let cap = 1n;
  while (cap < wei) cap *= 2n;
  return cap > WEI_MAX ? WEI_MAX : cap;
}
