/** Epochs of one committee: the same key in new shares, dealt, with another member, one more, one less, or the same ones. */
import { encode } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { faultsTolerated, quorumOf } from "@lattice/organism/committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { recoverSecret, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import type { EpochKeys, EpochShares } from "@lattice/organism/node/epoch-keys.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import type { Corruption } from "../byzantine.ts";
import type { SeededRandom } from "../random.ts";

export interface Epoch {
  readonly roster: Roster;
  readonly secrets: readonly MemberSecrets[];
  readonly certified: CertifiedOutcome;
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

/** @param seat whose member is another one, with `replace` */
export function nextEpoch(
  from: Epoch,
  change: Change,
  seat: number,
  activationSlot: bigint,
  random: SeededRandom,
): Epoch {
  const draw = (count: number): Uint8Array => random.bytes(count);
  const before = from.secrets.length;
  const quorum = (members: number): number => quorumOf(members, faultsTolerated({ faults: "third" }, members));
  const secret = recoverSecret(
    from.secrets.slice(0, quorum(before)).map(({ certificateShare }, index) => ({ index, share: certificateShare })),
  );
  const count = before + (change === "grow" ? 1 : change === "shrink" ? -1 : 0);
  const { shares, publicShares } = splitSecret({ secret, threshold: quorum(count), count, random: draw });
  const secrets = shares.map((certificateShare, index): MemberSecrets => {
    const old = change === "replace" && index === seat ? undefined : from.secrets[index];
    return { boxKey: draw(32), memberKey: draw(32), ...old, certificateShare };
  });
  const roster: Roster = {
    ...from.roster,
    epoch: from.roster.epoch + 1n,
    activationSlot,
    members: secrets.map(({ memberKey, boxKey }, index) => ({
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: publicShares[index] ?? new Uint8Array(),
      secondShare: undefined,
      signer: undefined,
    })),
  };
  const outcome: Outcome = {
    version: 1,
    committee: roster.committee,
    generation: 0n,
    epoch: roster.epoch,
    slot: activationSlot,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, roster),
    bodyHash: undefined,
  };
  const certified = { outcome, signature: blsSign(secret, outcomeDigest(outcome)), signers: [] };
  return { secrets, roster, certified, inForce: false };
}
