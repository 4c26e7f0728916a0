/** Quorum arithmetic (log.md §1). Pure. */
import type { CommitteePolicy } from "../identity/lattice-config.ts";

/** Corrupt members a committee of `members` tolerates under its policy. */
export function faultsTolerated(policy: Pick<CommitteePolicy, "faults">, members: number): number {
  return policy.faults === "none" ? 0 : Math.floor((members - 1) / 3);
}

/** q = ⌊(n + f) / 2⌋ + 1: two quorums share an honest member even when a forking broker helps f corrupt ones. */
export function quorumOf(members: number, faults: number): number {
  return Math.floor((members + faults) / 2) + 1;
}
