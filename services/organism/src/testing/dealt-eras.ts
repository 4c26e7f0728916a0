/** Epochs and eras dealt in memory, as a ceremony would make them: for tests of whoever follows a chain of keys. */
import { encode } from "../codec/codec.ts";
import { eraNumberOf } from "../committee/eras.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { generateSecret, publicOf, recoverSecret, splitSecret } from "../crypto/shamir.ts";
import { agreementKey } from "../crypto/x25519.ts";
import type { Organism } from "../identity/organisms.ts";
import type { MemberSecrets } from "../service.ts";
import { random, type TestCommittee } from "./dealt-committee.ts";

export interface DealtEpoch {
  readonly roster: Roster;
  readonly secrets: readonly MemberSecrets[];
  /** Secret of the certificate key that the members hold shares of. */
  readonly secret: Uint8Array;
  /** How many shares make a certificate. */
  readonly threshold: number;
}

export interface NextEpoch extends DealtEpoch {
  readonly certified: CertifiedOutcome;
}

/** What the committee was dealt. */
export function firstEpoch({ rosters, secrets }: TestCommittee, organism: Organism, threshold: number): DealtEpoch {
  const held = secrets.slice(0, threshold);
  const secret = recoverSecret(held.map(({ certificateShare }, index) => ({ index, share: certificateShare })));
  return { roster: rosters[organism], secrets, secret, threshold };
}

export interface NextTerms {
  readonly activationSlot: bigint;
  /** Another certificate key, or the same one in new shares. */
  readonly newEra?: boolean;
  /** Who is seated, in this order; the same members when left out. */
  readonly seats?: readonly Omit<MemberSecrets, "certificateShare">[];
  /** How many shares make a certificate then; as many as before when left out. */
  readonly threshold?: number;
  /** What is otherwise than it should be. */
  readonly change?: Partial<Roster>;
  /** Who certifies it; the key in force before when left out. */
  readonly signer?: Uint8Array;
  /** Where keys come from, for an epoch that is always the same. */
  readonly draw?: (length: number) => Uint8Array;
}

/** A member that has never been seated. */
export function newcomer(draw: (length: number) => Uint8Array = random): Omit<MemberSecrets, "certificateShare"> {
  return { boxKey: draw(32), memberKey: draw(32) };
}

export function nextEpoch(from: DealtEpoch, terms: NextTerms): NextEpoch {
  const { activationSlot, newEra = false, change, signer, draw = random } = terms;
  const { seats = from.secrets, threshold = from.threshold } = terms;
  const secret = newEra ? generateSecret(draw) : from.secret;
  const { shares, publicShares } = splitSecret({ secret, threshold, count: seats.length, random: draw });
  const era = newEra ? { number: eraNumberOf(from.roster) + 1, certificateKey: publicOf(secret) } : from.roster.era;
  const roster: Roster = {
    ...from.roster,
    ...(era === undefined ? {} : { version: 3, era }),
    epoch: from.roster.epoch + 1n,
    activationSlot,
    members: seats.map(({ memberKey, boxKey }, index) => ({
      secondShare: undefined,
      signer: undefined,
      ...from.roster.members[index],
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: publicShares[index] ?? new Uint8Array(),
    })),
    ...change,
  };
  const secrets = seats.map((each, index) => ({ ...each, certificateShare: shares[index] ?? new Uint8Array() }));
  return { roster, secrets, secret, threshold, certified: certifyRoster(roster, signer ?? from.secret) };
}

export function certifyRoster(roster: Roster, secret: Uint8Array): CertifiedOutcome {
  const outcome: Outcome = {
    version: 1,
    committee: roster.committee,
    generation: 0n,
    epoch: roster.epoch,
    slot: roster.activationSlot,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, roster),
    bodyHash: undefined,
  };
  return { outcome, signature: blsSign(secret, outcomeDigest(outcome)), signers: [] };
}
