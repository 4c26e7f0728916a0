/** A gateway's public side on a real port, over a real book and journal, without a lattice behind it. */

import { connectNodeAdapter } from "@connectrpc/connect-node";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { committeeId, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { lastingRosters } from "@lattice/organism/node/roster-book.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { Bidder } from "../src/bids.ts";
import { callMeter } from "../src/call-meter.ts";
import { type ChainReads, isForwarded } from "../src/chain-reads.ts";
import { gatewayFault } from "../src/faults.ts";
import { httpDoor } from "../src/http-door.ts";
import { type Caller, JsonRpc } from "../src/json-rpc.ts";
import { OnePort } from "../src/one-port.ts";
import { latticeMethods } from "../src/rpc-methods.ts";
import { gatewayRoutes } from "../src/service.ts";
import { SlotBook } from "../src/slot-book.ts";
import { disclosureOf } from "../src/submissions.ts";
import { bookParts, openBook } from "./fixture.ts";

export const BIDDING_ORIGIN = "https://searcher.example";

/** @param node answers what is forwarded */
export function openDoor(
  node: (method: string, params: readonly unknown[]) => Promise<unknown>,
  options: {
    readonly searcherKey?: Uint8Array;
    readonly offer?: readonly string[];
    readonly nowMs?: () => number;
    readonly catchUp?: () => Promise<void>;
  } = {},
) {
  const parts = bookParts();
  const { config, log } = parts;
  const clock = { nowMs: options.nowMs ?? (() => Date.now()) };
  const submissions = openBook(parts);
  const slots = new SlotBook({ config, clock, log });
  const { searcherKey, offer = [] } = options;
  const none = { zipnet: [], unseal: [], atelier: [], relay: [], tally: [] };
  const bidder =
    searcherKey === undefined
      ? undefined
      : new Bidder({
          ...parts,
          rosters: lastingRosters(parts.rosters),
          clock,
          searcherKey,
          endpoints: () => ({ ...none, offer }),
          tickets: () => [],
        });
  const stopping = new AbortController();
  const meters = createNoMeters();
  const checkBidder = ({ origin }: Caller): void => {
    if (origin !== undefined && origin !== BIDDING_ORIGIN) throw gatewayFault("ORIGIN_REFUSED");
  };
  const shared = { config, submissions, bidder, disclosure: disclosureOf("hash"), checkBidder, log, meters };
  const chain: Pick<ChainReads, "call" | "forward"> = { call: node, forward: node };
  const slotOfNumber = (number: bigint): bigint => {
    if (number <= 100n) throw gatewayFault("BAD_REQUEST", `block ${number} exists already`);
    return slotAt(config, clock.nowMs()) + (number - 100n);
  };
  const jsonRpc = new JsonRpc(
    latticeMethods({ ...shared, clock, chain, slotOfNumber, catchUp: options.catchUp ?? (async () => undefined) }),
    node,
    log,
    callMeter(meters, isForwarded),
  );
  const connect = connectNodeAdapter({
    readMaxBytes: 1 << 20,
    // A misspelt field is a mistake to be told about, not one to be passed over.
    jsonOptions: { ignoreUnknownFields: false },
    routes: (router) =>
      gatewayRoutes(router, {
        ...shared,
        slots,
        stopping: stopping.signal,
        refunds: async () => {
          throw gatewayFault("BAD_CLAIM");
        },
      }),
  });
  let ready = false;
  const port = new OnePort(httpDoor({ jsonRpc, connect, ready: () => ready }));
  return {
    ...parts,
    submissions,
    slots,
    jsonRpc,
    meters,
    port,
    setReady: () => {
      ready = true;
    },
    async close(graceMs?: number) {
      stopping.abort();
      await port.close(graceMs);
      bidder?.close();
    },
  };
}

/** An outcome as if certified: the slot book takes what has been verified before. */
export function outcome(
  config: Parameters<typeof committeeId>[0],
  organism: Parameters<typeof committeeId>[1],
  stage: string,
  slot: bigint,
  commitment: Uint8Array = new Uint8Array([Number(slot % 251n)]),
): CertifiedOutcome {
  return {
    outcome: {
      version: 1,
      committee: committeeId(config, organism),
      generation: 0n,
      epoch: 0n,
      slot,
      stage,
      kind: "result",
      commitment,
      bodyHash: undefined,
    },
    signature: new Uint8Array(96),
    signers: [0, 1],
  };
}
