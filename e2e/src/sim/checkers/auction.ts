/** I19: the auction's outcome follows from the bids that took part, and from nothing else: it is ranked here again. */
import { slotIdentity } from "@lattice/offer/core/bid.ts";
import type { State } from "@lattice/offer/core/types.ts";
import { compareBytes, decode, fixed, struct, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { hash } from "@lattice/organism/crypto/hash.ts";
import { identityShare } from "@lattice/organism/crypto/ibe.ts";
import { AUCTION } from "@lattice/organism/outcomes/offer.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import type { Clients, SealedBidRecord } from "../clients.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

const TIE = struct({ slotKey: fixed(96), bidId: fixed(32) });

export function auctionReplay(clients: () => Clients, world: () => World): Checker {
  const name = "the auction follows from its bids";
  const judged = new Set<bigint>();
  return {
    name,
    decided({ organism }, { stage, slot, kind, commitment }, stands, context, given) {
      if (organism !== "offer" || stage !== "auction" || !stands || kind === "skipped" || judged.has(slot)) return;
      judged.add(slot);
      const { dealt } = world();
      const { blindWinnersMax, seenWinnersMax, reserveWei } = dealt.config.offer.content;
      const state = (given as State).slots.get(slot);
      const { committee } = dealt.rosters.offer;
      const identity = slotIdentity({ committee, epoch: 0n, slot });
      const slotKey = identityShare(dealt.offerSecret, "offer-slot", identity, (count) =>
        new Uint8Array(count).fill(3),
      );
      const unsealed = context.observed("unseal", "unsealed", slot);
      const messages = unsealed === undefined ? [] : (tryDecode(UNSEALED, unsealed.commitment)?.messages ?? []);
      const pool = new Set(messages.map(({ messageId }) => toHex(messageId)));
      const bids = (state?.contestants ?? []).map((id) => {
        const sealed = clients().ledger.sealedBids.get(toHex(id));
        if (sealed === undefined) throw new Broken(name, `slot ${slot}: a bid that nobody made`);
        return { id, sealed, tie: hash("lattice/offer/tie/v1", TIE, { slotKey, bidId: id }) };
      });
      const valid = ({ amountWei, references }: SealedBidRecord): boolean =>
        amountWei >= reserveWei && references.every((id) => pool.has(toHex(id)));
      const ranked = (wanted: "blind" | "seen", most: number) =>
        bids
          .filter(({ sealed }) => sealed.class === wanted && valid(sealed))
          .sort((a, b) =>
            a.sealed.amountWei === b.sealed.amountWei
              ? compareBytes(a.tie, b.tie)
              : a.sealed.amountWei > b.sealed.amountWei
                ? -1
                : 1,
          )
          .slice(0, most);
      const expected = [...ranked("blind", blindWinnersMax), ...ranked("seen", seenWinnersMax)];
      const { winners } = decode(AUCTION, commitment);
      const says = winners.map(({ bidId, clearingWei }) => `${toHex(bidId)} ${clearingWei}`).join(", ");
      const means = expected.map(({ id, sealed }) => `${toHex(id)} ${sealed.amountWei}`).join(", ");
      if (says !== means) throw new Broken(name, `slot ${slot}: decided [${says}], the bids say [${means}]`);
    },
  };
}
