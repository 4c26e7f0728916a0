/** I1, I2: what a client was told is kept, and nothing comes out that nobody put in. */

import type { State as OfferState } from "@lattice/offer/core/types.ts";
import { decode, toHex } from "@lattice/organism/codec/codec.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { AUCTION, BLIND_CLOSED } from "@lattice/organism/outcomes/offer.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { BROADCAST } from "@lattice/organism/outcomes/zipnet.ts";
import type { State as ZipnetState } from "@lattice/zipnet/core/types.ts";
import type { Clients } from "../clients.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

export function ledgers(clients: () => Clients): readonly Checker[] {
  const kept = "what was acknowledged is kept";
  const origin = "nothing comes out that nobody put in";
  return [
    {
      name: kept,
      certified({ organism }, { outcome }) {
        const { ledger } = clients();
        const { slot, stage, kind, commitment } = outcome;
        if (organism === "offer" && stage === "blind" && kind !== "skipped") {
          const held = new Set(decode(BLIND_CLOSED, commitment).bidIds.map(toHex));
          for (const bid of ledger.bids) {
            if (bid.slot === slot && bid.class === "blind" && !held.has(bid.id)) {
              throw new Broken(kept, `blind bid ${bid.id.slice(0, 12)} of slot ${slot} is not under BlindClosed`);
            }
          }
        }
        if (organism === "zipnet" && stage === "broadcast" && kind !== "skipped") {
          const { participants } = decode(BROADCAST, commitment);
          const told = ledger.aggregates.get(slot);
          if (told !== undefined && BigInt(participants) < told) {
            throw new Broken(
              kept,
              `slot ${slot}: ${told} participants were taken, ${participants} are in the broadcast`,
            );
          }
        }
      },
      applied({ organism, index }, replica) {
        if (organism !== "offer" || replica.position % 32n !== 0n) return;
        const { slots } = replica.state as OfferState;
        for (const { slot, id } of clients().ledger.bids) {
          // Told by a member that was ahead of this one: it will come.
          if (replica.outcome("auction", slot) === undefined) continue;
          const standing = slots.get(slot)?.standings.get(id)?.standing;
          if (standing === undefined || standing === "live") {
            throw new Broken(kept, `offer/${index}: bid ${id.slice(0, 12)} of slot ${slot} is ${standing ?? "lost"}`);
          }
        }
      },
      finished(world: World) {
        const newest = BigInt(world.brokers.zipnet.trunk.messages.length);
        for (const host of world.ready("zipnet")) {
          const { member } = host;
          if (!host.honest || member === undefined || member.committee.position < newest) continue;
          const { clients: held, struck } = member.committee.state as ZipnetState;
          const now = slotAt(world.dealt.config, member.committee.logTimeMs);
          for (const [key, expSlot] of clients().ledger.registrations) {
            if (!held.has(key) && !struck.has(key) && expSlot >= now) {
              throw new Broken(kept, `${host.address}: client ${key.slice(0, 12)} is not registered any more`);
            }
          }
        }
      },
    },
    {
      name: origin,
      certified({ organism }, { outcome }) {
        const { ledger } = clients();
        const { slot, stage, kind, commitment } = outcome;
        if (kind !== "result") return;
        if (organism === "unseal" && stage === "unsealed") {
          for (const { messageId } of decode(UNSEALED, commitment).messages) {
            if (ledger.messages.get(toHex(messageId)) !== slot) throw new Broken(origin, `a message of slot ${slot}`);
          }
        }
        if (organism === "offer" && stage === "auction") {
          for (const { bidId } of decode(AUCTION, commitment).winners) {
            if (ledger.sealedBids.get(toHex(bidId))?.slot !== slot)
              throw new Broken(origin, `a winner of slot ${slot}`);
          }
        }
      },
    },
  ];
}
