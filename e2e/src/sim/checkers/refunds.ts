/**
 * I11, I12: what comes in is what is credited and what remains, to the wei; every landed block is counted once; nobody
 * is charged twice for one bid, or credited what the chain did not pay.
 */
import { decode, toHex } from "@lattice/organism/codec/codec.ts";
import { ATTRIBUTION, type AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import type { TallyState } from "@lattice/tally/core/types.ts";
import { Broken, type Checker } from "../observer.ts";
import type { World } from "../world.ts";

export function refunds(world: () => World): readonly Checker[] {
  const conserved = "refunds sum exactly";
  const once = "nothing is refunded or charged twice";
  const paid = "only what the chain paid is distributed";
  const attributed = new Map<bigint, AttributionCommitment>();
  const blocks = new Map<string, bigint>();
  const charges = new Map<string, bigint>();
  return [
    {
      name: once,
      decided({ organism }, { slot, commitment }, stands) {
        if (organism !== "tally" || !stands) return;
        if (attributed.has(slot)) return;
        const attribution = decode(ATTRIBUTION, commitment);
        attributed.set(slot, attribution);
        if (!attribution.landed) return;
        const block = toHex(attribution.blockHash);
        const before = blocks.get(block);
        if (before !== undefined) throw new Broken(once, `block ${block.slice(0, 12)} in slots ${before} and ${slot}`);
        blocks.set(block, slot);
        for (const { bidId } of attribution.charges) {
          const bid = toHex(bidId);
          const charged = charges.get(bid);
          if (charged !== undefined) throw new Broken(once, `bid ${bid.slice(0, 12)} in slots ${charged} and ${slot}`);
          charges.set(bid, slot);
        }
      },
    },
    {
      name: conserved,
      applied({ organism, index }, replica) {
        if (organism !== "tally" || replica.position % 8n !== 0n) return;
        const { ledger, next } = replica.state as TallyState;
        let income = 0n;
        let remainder = 0n;
        const totals = new Map<string, bigint>();
        for (const [slot, { refundableWei, remainderWei, credits }] of attributed) {
          if (slot >= next) continue;
          income += refundableWei;
          remainder += remainderWei;
          for (const { recipient, wei } of credits) {
            totals.set(toHex(recipient), (totals.get(toHex(recipient)) ?? 0n) + wei);
          }
        }
        let credited = 0n;
        for (const wei of ledger.totals.values()) credited += wei;
        const own = `tally/${index} before slot ${next}`;
        if (credited !== ledger.total || ledger.total + ledger.remainder !== income || ledger.remainder !== remainder) {
          throw new Broken(conserved, `${own}: ${income} wei came in, ${ledger.total} + ${ledger.remainder} are there`);
        }
        for (const [recipient, wei] of ledger.totals) {
          if (totals.get(recipient) !== wei) throw new Broken(conserved, `${own}: ${recipient} has ${wei}`);
        }
      },
    },
    {
      name: paid,
      certified({ organism }, { outcome }) {
        if (organism !== "tally" || outcome.kind === "skipped") return;
        const attribution = decode(ATTRIBUTION, outcome.commitment);
        if (!attribution.landed) return;
        const { chain } = world();
        const block = chain.block(attribution.blockNumber);
        const found = block !== undefined && toHex(block.hash) === toHex(attribution.blockHash);
        if (!found) throw new Broken(paid, `slot ${outcome.slot}: block ${attribution.blockNumber} is another one`);
        const collected = chain.blocks
          .filter(({ number }) => number <= block.number)
          .flatMap((each) => each.collected)
          .reduce((sum, { wei }) => sum + wei, 0n);
        let earlier = 0n;
        for (const [slot, each] of attributed) {
          if (slot < outcome.slot && each.landed) {
            earlier += each.refundableWei - (chain.block(each.blockNumber)?.paymentsWei ?? 0n);
          }
        }
        const expected = block.paymentsWei + collected - earlier;
        if (attribution.refundableWei > expected || attribution.refundableWei < block.paymentsWei) {
          throw new Broken(paid, `slot ${outcome.slot}: ${attribution.refundableWei} wei, the chain says ${expected}`);
        }
        const credited = attribution.credits.reduce((sum, { wei }) => sum + wei, 0n);
        if (credited + attribution.remainderWei !== attribution.refundableWei) {
          throw new Broken(conserved, `slot ${outcome.slot}: ${credited} + ${attribution.remainderWei}`);
        }
      },
    },
  ];
}
