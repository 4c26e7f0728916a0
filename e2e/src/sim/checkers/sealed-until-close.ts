/**
 * I6: no share of a slot key before the freeze, no freeze before the blind close; no share of a value before the seen
 * close; no share of a bundle that q members have not agreed to open.
 */
import type { Command as OfferCommand, State as OfferState } from "@lattice/offer/core/types.ts";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import type { MachineEvent } from "@lattice/organism/machine.ts";
import type { UnsealCommand, UnsealState } from "@lattice/unseal/core/types.ts";
import { Broken, type Checker, type Replica } from "../observer.ts";

export function sealedUntilClose(): readonly Checker[] {
  const said = "no share is said before its close";
  const taken = "no share is taken before its close";
  const frozen = "nothing is frozen before the blind close";
  /** Freezes that have been judged: what stands is not changed. */
  const judged = new WeakSet<object>();
  return [
    {
      name: said,
      says({ organism, index }, duty, submission, state) {
        if (submission.type !== "machine") return;
        if (organism === "unseal") {
          const command = submission.command as UnsealCommand;
          if (command.type !== "share") return;
          const record = (state as UnsealState).slots.get(command.slot);
          if (record?.freeze === undefined) throw new Broken(said, `unseal/${index}: slot ${duty.slot} is not frozen`);
        }
        if (organism === "offer") sayOffer(index, submission.command as OfferCommand, state as OfferState);
      },
    },
    {
      name: taken,
      applied({ organism, index }, replica) {
        if (organism === "unseal") takenUnseal(index, replica);
        if (organism === "offer") takenOffer(index, replica);
      },
    },
    {
      name: frozen,
      applied({ organism, index }, replica) {
        if (organism !== "unseal") return;
        for (const [slot, { freeze, noBlind }] of (replica.state as UnsealState).slots) {
          if (freeze === undefined || judged.has(freeze)) continue;
          judged.add(freeze);
          const blind = replica.observed("offer", "blind", slot)?.outcome;
          const known =
            freeze.blind === undefined ? noBlind : blind !== undefined && same(outcomeDigest(blind), freeze.blind);
          const broadcast = replica.observed("zipnet", "broadcast", slot)?.outcome;
          if (!known || broadcast === undefined || !same(outcomeDigest(broadcast), freeze.broadcast)) {
            throw new Broken(frozen, `unseal/${index}: slot ${slot}`);
          }
        }
      },
    },
  ];

  function sayOffer(index: number, command: OfferCommand, state: OfferState): void {
    if (command.type === "slotShare" && state.slots.get(command.slot)?.phase !== "closed") {
      throw new Broken(said, `offer/${index}: values of slot ${command.slot} while bids are taken`);
    }
    if (command.type !== "bundleShare") return;
    const opened = state.slots.get(command.slot)?.opened ?? [];
    if (!opened.some((id) => same(id, command.bidId))) {
      throw new Broken(said, `offer/${index}: a bundle of slot ${command.slot} that did not win`);
    }
  }

  function takenUnseal(index: number, replica: Replica): void {
    for (const [slot, { freeze, shares }] of (replica.state as UnsealState).slots) {
      if (shares.size > 0 && freeze === undefined) throw new Broken(taken, `unseal/${index}: slot ${slot}`);
    }
  }

  function takenOffer(index: number, replica: Replica): void {
    for (const [slot, { phase, slotShares, bundleShares, opened }] of (replica.state as OfferState).slots) {
      if (phase === "bidding" && slotShares.size > 0) throw new Broken(taken, `offer/${index}: values of slot ${slot}`);
      if (bundleShares.size === 0) continue;
      const allowed = new Set(opened.map(toHex));
      for (const id of bundleShares.keys()) {
        if (!allowed.has(id)) throw new Broken(taken, `offer/${index}: a losing bundle of slot ${slot}`);
      }
    }
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0;
}

/** For events that are machine commands. */
export function commandOf(event: MachineEvent<unknown>): unknown {
  return event.type === "command" ? event.command : undefined;
}
