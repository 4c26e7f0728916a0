/** All properties of one run at once. Pure: the run and the chain are given. */
import { checkBids, checkCertificates, checkCompleteness, checkEmpties } from "./certificates.ts";
import type { ChainView } from "./chain-view.ts";
import { checkInputs } from "./inputs.ts";
import {
  type Claim,
  checkBlocks,
  checkBundles,
  checkMoney,
  checkTransactions,
  claimsOf,
  landedSlots,
} from "./on-chain.ts";
import { Decisions, type Run } from "./run.ts";
import { Verdict } from "./verdict.ts";

export interface Judgement {
  readonly schema_version: 1;
  readonly invariants: Readonly<Record<string, boolean>>;
  readonly violations: readonly string[];
  readonly observed: Readonly<Record<string, number>>;
  readonly claims: readonly Claim[];
  /** Block hashes from block 1 on. */
  readonly chain: { readonly client: string; readonly head: number; readonly blocks: readonly string[] };
}

export function judge(run: Run, chain: ChainView): Judgement {
  const verdict = new Verdict();
  const decisions = new Decisions(run.outcomes);
  const landedIn = landedSlots(run, decisions, chain);
  checkCertificates(run, verdict);
  checkCompleteness(run, decisions, verdict);
  checkEmpties(run, decisions, landedIn, verdict);
  checkBids(run, decisions, verdict);
  checkInputs(run, decisions, verdict);
  checkBlocks(run, decisions, chain, verdict);
  checkTransactions(run, chain, landedIn, verdict);
  checkBundles(run, decisions, chain, verdict);
  checkMoney(run, decisions, chain, verdict);
  return {
    schema_version: 1,
    invariants: verdict.invariants,
    violations: verdict.violations,
    observed: verdict.observed,
    claims: claimsOf(chain),
    chain: {
      client: chain.client,
      head: Number(chain.blocks.at(-1)?.number ?? 0n),
      blocks: chain.blocks.map(({ hash }) => `0x${hash}`),
    },
  };
}
