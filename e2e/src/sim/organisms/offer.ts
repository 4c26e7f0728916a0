/** offer in a simulation: the real effects, openings and door; values open in place, escrow is read from the simulated chain. */

import type { Settings } from "@lattice/offer/config.ts";
import { createAdmission, isRefusal } from "@lattice/offer/core/admission.ts";
import { parseBid } from "@lattice/offer/core/bid.ts";
import { createMachine } from "@lattice/offer/core/machine.ts";
import type { Command, OfferDuty, State } from "@lattice/offer/core/types.ts";
import { definition as real } from "@lattice/offer/definition.ts";
import { createEffects, type OfferHost } from "@lattice/offer/node/effects.ts";
import { Openings } from "@lattice/offer/node/openings.ts";
import { ReceivedBids } from "@lattice/offer/node/received.ts";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { openIbe, openWithSigma } from "@lattice/organism/crypto/ibe.ts";
import type { OpeningPool } from "@lattice/organism/crypto/opening-pool.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import type { Refusal } from "@lattice/organism/machine.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import type { SimChain } from "../chain.ts";

/** What searchers reach of a member. */
export interface OfferDoor {
  readonly host: OfferHost;
  /** As `SubmitBid`: undefined once it is in the log and accepted. */
  submitBid(raw: Uint8Array): Promise<Refusal | undefined>;
}

const RECEIVED_SLOTS = 16n;

const POOL: OpeningPool = {
  open: async (batch) => batch.map((task) => ("sigma" in task ? openSigma(task) : openIbe(task))),
  pending: 0,
  warm: () => undefined,
  close: async () => undefined,
};

function openSigma(task: Parameters<typeof openWithSigma>[0]): ReturnType<typeof openIbe> {
  const opened = openWithSigma(task);
  return "content" in opened ? { content: opened.content, sigma: task.sigma } : opened;
}

export function simOffer(
  chain: () => SimChain,
  reachable: (self: number) => boolean,
  onDoor: (self: number, door: OfferDoor) => void,
): OrganismDefinition<State, Command, OfferDuty, Settings> {
  return {
    organism: "offer",
    settings: real.settings,
    createMachine,
    createNode(host) {
      const received = new ReceivedBids();
      const openings = new Openings({
        config: host.config,
        committee: host.committee,
        rosterAt: (slot) => host.rosterAt(slot),
        self: host.self,
        boxKey: agreementKey(host.secrets.boxKey),
        shareAt: (slot) => host.sharesAt(slot)?.secondShare,
        pool: POOL,
        random: host.random,
        log: host.log,
        meters: host.meters,
      });
      const effects = createEffects(host, {
        openings,
        received,
        escrow: {
          read: async ({ accounts, charges }) => {
            if (!reachable(host.self)) throw new Error("the chain does not answer");
            const wei = accounts.map((account) => chain().escrowOf(account));
            return { block: chain().head.number, wei, taken: charges.filter((id) => chain().taken.has(toHex(id))) };
          },
        },
        stopped: new AbortController().signal,
      });
      onDoor(host.self, { host, submitBid: (raw) => submitBid(host, received, raw) });
      return {
        execute: effects.execute,
        services: [],
        bodies: { auction: { readers: ["atelier"], publicWhenLanded: true } },
        decided(outcome) {
          if (outcome.stage === "auction" && outcome.slot > RECEIVED_SLOTS)
            effects.forget(outcome.slot - RECEIVED_SLOTS);
        },
      };
    },
  };
}

async function submitBid(host: OfferHost, received: ReceivedBids, raw: Uint8Array): Promise<Refusal | undefined> {
  const parsed = parseBid(raw);
  if (parsed === undefined) return { reason: "BID_MALFORMED", detail: "" };
  const { slot, class: bidClass } = parsed.body.context;
  const key = toHex(parsed.id);
  if (host.state().slots.get(slot)?.standings.has(key) === true) return undefined;
  const stage = bidClass === "blind" ? "blind" : "seen";
  const admitted = createAdmission(host.config).bid(host.state(), raw, {
    rosterAt: (each) => host.rosterAt(each),
    open: (each, at) => host.outcome(each, at) === undefined,
    unsealed: (at) => (host.observed("unseal", "unsealed", at)?.kind ?? "skipped") !== "skipped",
  });
  if (isRefusal(admitted)) return admitted;
  received.pending(stage, slot, key, host.clock.nowMs());
  const refusal = await host.submit({ type: "machine", command: { type: "bid", bid: raw } });
  if (refusal === undefined || refusal.reason === "DUPLICATE") {
    received.applied(slot, key);
    return undefined;
  }
  received.refused(slot, key);
  return refusal;
}
