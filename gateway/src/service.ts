/** `lattice.gateway.v1.GatewayService` over Connect, gRPC-Web, gRPC and JSON. */
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { Fault, type StatusName } from "@lattice/organism/fault.ts";
import { encodeConfig, type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import type { Logger } from "@lattice/organism/observe/logger.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";
import { slotTraceIds } from "@lattice/organism/observe/tracing.ts";
import type { BidClass, Bundle } from "@lattice/organism/outcomes/offer.ts";
import type { DisclosurePolicy, RefundAuthorisation } from "@lattice/organism/outcomes/unseal.ts";
import { ErrorInfoSchema } from "@lattice/proto/google/rpc/error_details_pb.ts";
import {
  GatewayService,
  SubmissionStatus,
  type RefundAuthorisation as WireAuthorisation,
} from "@lattice/proto/lattice/gateway/v1/gateway_service_pb.ts";
import type { Bidder } from "./bids.ts";
import { callMeter } from "./call-meter.ts";
import { withDeadline } from "./deadline.ts";
import { gatewayFault } from "./faults.ts";
import type { Caller } from "./json-rpc.ts";
import { problemFields } from "./problem.ts";
import type { Claim } from "./refunds.ts";
import type { KnownOutcome, SlotBook } from "./slot-book.ts";
import type { Submission, SubmissionBook } from "./submissions.ts";

export interface ServiceOptions {
  readonly config: LatticeConfig;
  readonly submissions: SubmissionBook;
  readonly bidder: Bidder | undefined;
  readonly slots: SlotBook;
  readonly disclosure: DisclosurePolicy;
  readonly log: Logger;
  readonly meters: Meters;
  /** Asks tally for a claim of this account, and checks it. */
  readonly refunds: (recipient: Uint8Array) => Promise<Claim>;
  /** @throws Fault ORIGIN_REFUSED for web pages that may not spend the searcher's escrow */
  readonly checkBidder: (caller: Caller) => void;
  /** Aborted when the gateway stops: streams end. */
  readonly stopping: AbortSignal;
}

const CODES: Readonly<Record<StatusName, Code>> = {
  INVALID_ARGUMENT: Code.InvalidArgument,
  FAILED_PRECONDITION: Code.FailedPrecondition,
  ABORTED: Code.Aborted,
  UNAVAILABLE: Code.Unavailable,
  RESOURCE_EXHAUSTED: Code.ResourceExhausted,
  NOT_FOUND: Code.NotFound,
  OUT_OF_RANGE: Code.OutOfRange,
  ALREADY_EXISTS: Code.AlreadyExists,
  PERMISSION_DENIED: Code.PermissionDenied,
  UNAUTHENTICATED: Code.Unauthenticated,
  DEADLINE_EXCEEDED: Code.DeadlineExceeded,
  UNIMPLEMENTED: Code.Unimplemented,
  INTERNAL: Code.Internal,
};

const STATUSES: Readonly<Record<Submission["status"], SubmissionStatus>> = {
  pending: SubmissionStatus.PENDING,
  sent: SubmissionStatus.SENT,
  broadcast: SubmissionStatus.BROADCAST,
  landed: SubmissionStatus.LANDED,
  failed: SubmissionStatus.FAILED,
};

const CLASSES: readonly BidClass[] = ["blind", "seen", "tail"];
/** Steps of one bundle. */
const ITEMS_MAX = 64;
/** Longer messages are cut: trailers of a call stay small. */
const MESSAGE_CHARS = 512;

export function toConnectError(error: unknown, log: Logger): ConnectError {
  if (error instanceof ConnectError) return error;
  if (error instanceof Fault) {
    const connectError = new ConnectError(error.message.slice(0, MESSAGE_CHARS).toWellFormed(), CODES[error.code]);
    const { domain, reason, metadata } = error;
    connectError.details.push({ desc: ErrorInfoSchema, value: { domain, reason, metadata: { ...metadata } } });
    return connectError;
  }
  log.error("a handler failed", problemFields(error));
  return new ConnectError("internal error", Code.Internal);
}

function wei(value: Uint8Array, what: string): bigint {
  if (value.length > 32) throw gatewayFault("BAD_BID", `${what}: at most 32 bytes`);
  return value.length === 0 ? 0n : BigInt(`0x${toHex(value)}`);
}

function refundOf({ recipient, signature }: WireAuthorisation): RefundAuthorisation {
  if (recipient.length !== 20 || signature.length !== 65) {
    throw gatewayFault("BAD_REQUEST", "refund: a recipient of 20 bytes and a signature of 65 expected");
  }
  return { recipient: recipient.slice(), signature: signature.slice() };
}

export function gatewayRoutes(router: ConnectRouter, options: ServiceOptions): void {
  const { config, submissions, slots, bidder, log } = options;

  const toWire = ({ organism, certified, verifiedAtMs }: KnownOutcome) => ({
    organism,
    outcome: toWireOutcome(certified),
    verifiedAtMs: BigInt(verifiedAtMs),
  });

  const measured = callMeter(options.meters);
  const guarded = async <T>(method: string, work: () => Promise<T>): Promise<T> => {
    try {
      return await measured(method, true, () => withDeadline(work()));
    } catch (error) {
      throw toConnectError(error, log);
    }
  };

  const searcher = (context: HandlerContext): Bidder => {
    if (bidder === undefined) throw gatewayFault("NO_SEARCHER");
    options.checkBidder({ origin: context.requestHeader.get("origin") ?? undefined });
    return bidder;
  };
  const classOf = (word: string): BidClass => {
    const known = CLASSES.find((bidClass) => bidClass === word);
    if (known === undefined) throw gatewayFault("BAD_BID", "bid_class: blind, seen or tail expected");
    return known;
  };

  router.service(GatewayService, {
    getLattice: async () => ({
      identity: {
        name: config.name,
        chainId: config.chainId,
        latticeId: latticeId(config),
        config: encodeConfig(config),
        throwAway: config.throwAway,
        keyOrigin: config.keys,
      },
      genesisMs: BigInt(config.genesisMs),
      slotMs: config.slotMs,
      settlement: config.tally.content.settlement,
      transactionBytesMax: submissions.transactionBytesMax,
    }),
    submitTransaction: ({ rawTransaction, disclosure, refund }) =>
      guarded("SubmitTransaction", async () => {
        const { hash, target, everything } = disclosure ?? options.disclosure;
        const authorisation = refund === undefined ? undefined : refundOf(refund);
        const wishes = { disclosure: { hash, target, everything }, refund: authorisation };
        return { transactionHash: await submissions.take(rawTransaction.slice(), wishes) };
      }),
    getSubmission: ({ transactionHash }) =>
      guarded("GetSubmission", async () => {
        if (transactionHash.length !== 32) throw gatewayFault("BAD_REQUEST", "transaction_hash: 32 bytes expected");
        const found = submissions.get(toHex(transactionHash));
        if (found === undefined) throw gatewayFault("SUBMISSION_UNKNOWN");
        const { status, slot, blockHash, reason } = found;
        return { status: STATUSES[status], slot, blockHash: blockHash ?? new Uint8Array(), reason };
      }),
    reserveBid: ({ slot, bidClass }, context) =>
      guarded("ReserveBid", async () => searcher(context).reserve(classOf(bidClass), slot === 0n ? undefined : slot)),
    submitBid: (request, context) =>
      guarded("SubmitBid", async () => {
        const own = searcher(context);
        const bidClass = classOf(request.bidClass);
        if (request.items.length > ITEMS_MAX) throw gatewayFault("BAD_BID", `items: at most ${ITEMS_MAX}`);
        const items = request.items.map(({ item }): Bundle["items"][number] => {
          if (item.case === "rawTransaction") return { type: "transaction", raw: item.value.slice() };
          if (item.case === "messageId" && item.value.length === 16)
            return { type: "reference", messageId: item.value.slice() };
          throw gatewayFault("BAD_BID", "items: a raw transaction or a 16-byte message id expected");
        });
        const amountWei = wei(request.amountWei, "amount_wei");
        const capWei = request.capWei.length === 0 ? undefined : wei(request.capWei, "cap_wei");
        return own.bid({
          slot: request.slot === 0n ? undefined : request.slot,
          ...(request.nonce === 0n ? {} : { nonce: request.nonce }),
          class: bidClass,
          amountWei,
          capWei,
          items,
        });
      }),
    getSlot: ({ slot }) =>
      guarded("GetSlot", async () => {
        const outcomes = slots.slot(slot);
        if (outcomes.length === 0) throw gatewayFault("SLOT_UNKNOWN", `nothing is known of slot ${slot}`);
        return {
          slot,
          traceId: fromHex(slotTraceIds(latticeId(config), slot).traceId),
          outcomes: outcomes.map(toWire),
        };
      }),
    watchSlots: async function* ({ fromSlot }, context) {
      try {
        const signal = AbortSignal.any([context.signal, options.stopping]);
        for await (const event of slots.watch(fromSlot, signal)) {
          yield event.type === "outcome" ? { outcome: toWire(event.known) } : { heartbeat: { slot: event.slot } };
        }
      } catch (error) {
        throw toConnectError(error, log);
      }
    },
    getRefunds: ({ recipient }) =>
      guarded("GetRefunds", async () => {
        if (recipient.length !== 20) throw gatewayFault("BAD_REQUEST", "recipient: 20 bytes expected");
        return options.refunds(recipient);
      }),
  });
}
