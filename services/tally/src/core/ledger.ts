/**
 * The cumulative ledger: what every recipient was ever owed. It only grows, so a claim pays the difference to what was
 * claimed before, and a batch that nobody posted is made good by the next. Part of tally's replicated state.
 */
import { type Codec, CodecError, fromHex, hex, map, struct, toHex, u256 } from "@lattice/organism/codec/codec.ts";
import type { AttributionCommitment } from "@lattice/organism/outcomes/tally.ts";
import { ADDRESS_BYTES } from "./eip712.ts";
import { type Leaf, type MerkleTree, merkleProof, merkleTree } from "./merkle.ts";

/** Recipients a snapshot may hold: 52 bytes each. */
export const RECIPIENTS_MAX = 1_000_000;

/** Amounts in wei. `credit` and `takeRemainder` change it in place. */
export interface Ledger {
  /** Recipient (40 lower-case hex digits) → lifetime total, never zero. */
  readonly totals: Map<string, bigint>;
  /** Sum of `totals`. */
  total: bigint;
  /** Income that no attribution gave to anyone: dust and what the rule leaves. Pays posters; the rest carries over. */
  remainder: bigint;
}

const FIELDS = struct({ totals: map(hex(ADDRESS_BYTES), u256, RECIPIENTS_MAX), remainder: u256 });

/** For snapshots and the state hash. Refuses recipients with nothing and sums beyond u256. */
export const LEDGER: Codec<Ledger> = {
  write: (writer, value) => FIELDS.write(writer, { totals: value.totals, remainder: value.remainder }),
  read(reader) {
    const { totals, remainder } = FIELDS.read(reader);
    let total = 0n;
    for (const amount of totals.values()) {
      if (amount === 0n) throw new CodecError("totals", "recipient without an amount");
      total += amount;
    }
    if ((total + remainder) >> 256n !== 0n) throw new CodecError("totals", "sum above 2^256 - 1");
    return { totals, total, remainder };
  },
};

export function emptyLedger(): Ledger {
  return { totals: new Map(), total: 0n, remainder: 0n };
}

/** Adds an attribution: its credits to their recipients, its remainder to ours. A full ledger takes no new recipients. */
export function credit(
  ledger: Ledger,
  attribution: Pick<AttributionCommitment, "credits" | "remainderWei">,
  recipientsMax = RECIPIENTS_MAX,
): void {
  for (const entry of attribution.credits) {
    if (entry.wei === 0n) continue;
    const key = toHex(entry.recipient);
    if (ledger.totals.size >= recipientsMax && !ledger.totals.has(key)) {
      ledger.remainder += entry.wei;
      continue;
    }
    ledger.totals.set(key, lifetimeTotal(ledger, entry.recipient) + entry.wei);
    ledger.total += entry.wei;
  }
  ledger.remainder += attribution.remainderWei;
}

/** Takes up to `wanted` from the remainder (a poster's reimbursement); returns what was there. */
export function takeRemainder(ledger: Ledger, wanted: bigint): bigint {
  const taken = wanted < ledger.remainder ? wanted : ledger.remainder;
  ledger.remainder -= taken;
  return taken;
}

/** Wei, 0 for a stranger. */
export function lifetimeTotal(ledger: Ledger, recipient: Uint8Array): bigint {
  return ledger.totals.get(toHex(recipient)) ?? 0n;
}

/** About 15 µs a recipient; keep it for the length of a batch. */
export function ledgerTree(ledger: Ledger): MerkleTree {
  const leaves: Leaf[] = [];
  for (const [recipient, amount] of ledger.totals)
    leaves.push({ recipient: fromHex(recipient), lifetimeTotal: amount });
  return merkleTree(leaves);
}

/** What a recipient hands to `Settlement.claim`; undefined for a stranger or under another ledger's tree. */
export function claimProof(
  ledger: Ledger,
  tree: MerkleTree,
  recipient: Uint8Array,
): { readonly lifetimeTotal: bigint; readonly proof: Uint8Array[] } | undefined {
  const amount = lifetimeTotal(ledger, recipient);
  const proof = amount === 0n ? undefined : merkleProof(tree, { recipient, lifetimeTotal: amount });
  return proof === undefined ? undefined : { lifetimeTotal: amount, proof };
}
