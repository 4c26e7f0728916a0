/** Proofs of fraud that a member shows, asked for and judged here: nobody's word is taken for one. */
import { toHex } from "../codec/codec.ts";
import type { Eras } from "../committee/eras.ts";
import { verifyFraudProof } from "../committee/fraud.ts";
import type { Roster } from "../committee/roster.ts";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Caught } from "./fraud-collector.ts";
import type { CommitteeClient } from "./outcome-follower.ts";

export interface FraudQuestion {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly eras: Eras;
  /** By which accused keys are known. */
  readonly rosters: readonly Roster[];
  /** Whether a proof against this member key is worth fetching. */
  readonly wanted: (memberKey: Uint8Array) => boolean;
  readonly deadlineMs: number;
}

/** Proofs that this member has and that hold. @throws what the call fails with; what came before counts */
export async function* provenBy(
  peer: Pick<CommitteeClient, "listFrauds" | "getFraud">,
  { config, organism, eras, rosters, wanted, deadlineMs }: FraudQuestion,
): AsyncGenerator<Caught, void, void> {
  const { frauds } = await peer.listFrauds({}, { deadlineMs });
  // One proof for each key: a member that lists many against one has nothing more to say.
  const asked = new Set<string>();
  for (const { memberKey, proofHash } of frauds) {
    const key = toHex(memberKey);
    if (asked.has(key) || !wanted(memberKey)) continue;
    asked.add(key);
    const { proof } = await peer.getFraud({ proofHash }, { deadlineMs });
    const verdict = verifyFraudProof(config, organism, proof, { eras, rosters });
    if ("fraud" in verdict) yield { proof, fraud: verdict.fraud };
  }
}
