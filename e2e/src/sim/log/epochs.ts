/**
 * Epochs of one committee, dealt: the same key in new shares, with another member, one more, one less, or the same ones, or
 * another key, whose era begins with them.
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { faultsTolerated, quorumOf } from "@lattice/organism/committee/quorum.ts";
import { publicOf } from "@lattice/organism/crypto/shamir.ts";
import type { EpochKeys, EpochShares } from "@lattice/organism/node/epoch-keys.ts";
import type { TestCommittee } from "@lattice/organism/testing/dealt-committee.ts";
import {
  firstEpoch as dealtFirst,
  nextEpoch as dealtNext,
  type NextEpoch,
  newcomer,
} from "@lattice/organism/testing/dealt-eras.ts";
import type { Corruption } from "../byzantine.ts";
import type { SeededRandom } from "../random.ts";
import { ORGANISM } from "./organism.ts";

const quorumAmong = (members: number): number => quorumOf(members, faultsTolerated({ faults: "third" }, members));

export interface Epoch extends NextEpoch {
  /** That of `secret`: what the members' shares are of. */
  readonly certificateKey: Uint8Array;
  /** A member has taken it up. */
  inForce: boolean;
}

/** The files that a member finds beside its key: they outlive its processes. */
export class SimEpochKeys {
  readonly #held = new Map<
    bigint,
    { readonly shares: EpochShares; readonly certified: CertifiedOutcome | undefined }
  >();

  give(epoch: bigint, shares: EpochShares, certified: CertifiedOutcome | undefined): void {
    this.#held.set(epoch, { shares, certified });
  }

  /** Whose shares are there, oldest first. */
  get epochs(): readonly bigint[] {
    return [...this.#held.keys()].sort((a, b) => (a < b ? -1 : 1));
  }

  /** As its member uses them; one that gives bad shares has others. */
  of(corruption: Corruption | undefined): EpochKeys {
    const bent = ({ certificateShare }: EpochShares): EpochShares => {
      const other = certificateShare.slice();
      other[31] = (other[31] ?? 0) ^ 1;
      return { certificateShare: other };
    };
    const lies = corruption?.behaviours.has("invalid-shares") === true;
    return {
      of: (epoch) => {
        const shares = this.#held.get(epoch)?.shares;
        return shares === undefined || !lies ? shares : bent(shares);
      },
      roster: (epoch) => this.#held.get(epoch)?.certified,
      refresh: async () => undefined,
      erase: async (epoch) => {
        for (const held of this.#held.keys()) if (held < epoch) this.#held.delete(held);
      },
    };
  }
}

export type Change = "refresh" | "replace" | "grow" | "shrink";

export interface Succession {
  readonly change: Change;
  /** Whose member is another one, with `replace`. */
  readonly seat: number;
  readonly activationSlot: bigint;
  /** Another certificate key. */
  readonly newEra: boolean;
}

export function firstEpoch(dealt: TestCommittee): Epoch {
  const { length } = dealt.secrets;
  const first = dealtFirst(dealt, ORGANISM, quorumAmong(length));
  return { ...first, certificateKey: publicOf(first.secret), certified: dealt.certifiedRoster, inForce: true };
}

export function nextEpoch(
  from: Epoch,
  { change, seat, activationSlot, newEra }: Succession,
  random: SeededRandom,
): Epoch {
  const draw = (count: number): Uint8Array => random.bytes(count);
  const seats = from.secrets.map((old, index) => (change === "replace" && index === seat ? newcomer(draw) : old));
  if (change === "grow") seats.push(newcomer(draw));
  if (change === "shrink") seats.pop();
  const next = dealtNext(from, { activationSlot, newEra, seats, threshold: quorumAmong(seats.length), draw });
  return { ...next, certificateKey: publicOf(next.secret), inForce: false };
}

/** The epochs that began an era, oldest first, of those given. */
export function eraLinks(epochs: readonly Epoch[]): readonly Epoch[] {
  return epochs.filter(
    ({ certificateKey }, at) => at > 0 && !equalBytes(certificateKey, epochs[at - 1]?.certificateKey ?? certificateKey),
  );
}
