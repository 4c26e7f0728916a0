/** Builds a candidate: a deterministic function of the parent's state and the inputs. */
import { type Candidate, type CandidateBody, candidateFrom } from "../core/candidate.ts";
import type { BuildInputs } from "../core/inputs.ts";
import type { Executor } from "./executor.ts";
import { pack } from "./pack.ts";

/** @throws ChainError UNKNOWN_PARENT, BAD_ATTRIBUTES */
export async function buildCandidate(executor: Executor, inputs: BuildInputs): Promise<Candidate> {
  const execution = await executor.begin(inputs.attributes);
  const entries: CandidateBody["entries"] = [];
  const exclusions: CandidateBody["exclusions"] = [];
  const table: CandidateBody["table"] = [];
  const { carry, feesWei } = await pack(execution, inputs, {
    include: (entry) => entries.push(entry),
    exclude: (exclusion) => exclusions.push(exclusion),
    row: (row) => table.push(row),
  });
  const sealed = await execution.seal();
  return candidateFrom({
    version: 1,
    slot: inputs.slot,
    candidateVersion: inputs.candidateVersion,
    attributes: inputs.attributes,
    unsealed: inputs.unsealed,
    auction: inputs.auction,
    entries,
    exclusions,
    table,
    carry,
    appliedHints: [],
    header: sealed.header,
    executionRequests: sealed.executionRequests,
    blockHash: sealed.hash,
    feesWei,
  });
}
