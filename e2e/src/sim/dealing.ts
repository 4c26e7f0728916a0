/** The keys of a simulated lattice: dealt from the seed, in memory. */
import { localConfig } from "@lattice/deploy/local/profile.ts";
import { encode } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { faultsTolerated, quorumOf } from "@lattice/organism/committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster, type RosterMember } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, configProblems, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import type { SeededRandom } from "./random.ts";

export interface DealtLattice {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: Roster };
  /** The rosters with their certificates. */
  readonly certified: { readonly [O in Organism]: CertifiedOutcome };
  readonly secrets: { readonly [O in Organism]: readonly MemberSecrets[] };
  readonly sequencerKey: Uint8Array;
  /** The secret of offer's sealing key: nobody has it but whoever checks the auction. */
  readonly offerSecret: Uint8Array;
}

/** Unix ms of slot 0. */
export const GENESIS_MS = 1_790_000_000_000;

function perOrganism<T>(make: (organism: Organism) => T): { readonly [O in Organism]: T } {
  return Object.fromEntries(ORGANISMS.map((organism) => [organism, make(organism)])) as { readonly [O in Organism]: T };
}

export function dealLattice(
  seeded: SeededRandom,
  members: { readonly [O in Organism]: number },
  slotMs: number,
): DealtLattice {
  const random = (count: number): Uint8Array => seeded.bytes(count);
  const faults = (organism: Organism): "none" | "third" => (members[organism] > 3 ? "third" : "none");
  const quorum = (organism: Organism): number =>
    quorumOf(members[organism], faultsTolerated({ faults: faults(organism) }, members[organism]));
  const majority = (organism: Organism): number => Math.floor(members[organism] / 2) + 1;
  const key = (threshold: number, count: number) => {
    const secret = generateSecret(random);
    return { secret, publicKey: publicOf(secret), dealing: splitSecret({ secret, threshold, count, random }) };
  };
  const certificate = perOrganism((organism) => key(quorum(organism), members[organism]));
  const second = perOrganism((organism) => key(majority(organism), members[organism]));
  const secrets = perOrganism((organism) =>
    certificate[organism].dealing.shares.map(
      (certificateShare, index): MemberSecrets => ({
        boxKey: random(32),
        memberKey: random(32),
        certificateShare,
        secondShare: second[organism].dealing.shares[index] ?? new Uint8Array(),
        signerKey: random(32),
        serverKey: random(32),
        operatorKey: random(32),
      }),
    ),
  );
  const sequencerKey = random(32);
  const base = localConfig(
    {
      name: "sim",
      chainId: 31_337n,
      genesisMs: GENESIS_MS,
      slotMs,
      members: 3,
      settlement: new Uint8Array(20).fill(9),
    },
    {
      certificateKeys: perOrganism((organism) => certificate[organism].publicKey),
      builderKey: second.atelier.publicKey,
      operators: secrets.zipnet.map(({ operatorKey }) => generateSigningKey(operatorKey ?? random(32)).publicKey),
      issuer: random(32),
      sequencer: addressOfSecret(sequencerKey),
    },
  );
  const policies = Object.fromEntries(
    ORGANISMS.map((organism) => {
      const each = base[organism];
      const policy = { ...each.policy, membersMin: 3, membersMax: 7, faults: faults(organism) };
      return [organism, { ...each, acl: [], policy }] as const;
    }),
  ) as unknown as Pick<LatticeConfig, Organism>;
  const config: LatticeConfig = {
    ...base,
    ...policies,
    zipnet: { ...policies.zipnet, content: { ...policies.zipnet.content, cells: 8, cellBytes: 512, segments: 2 } },
    unseal: { ...policies.unseal, content: { ...policies.unseal.content, threshold: majority("unseal") } },
    offer: {
      ...policies.offer,
      content: { ...policies.offer.content, threshold: majority("offer"), bundleBytes: 1024, seenWinnersMax: 2 },
    },
    tally: { ...policies.tally, content: { ...policies.tally.content, threshold: majority("tally") } },
  };
  const problems = configProblems(config);
  if (problems.length > 0) throw new Error(`not a lattice: ${problems.join("; ")}`);
  const rosters = perOrganism((organism): Roster => {
    const seals = organism === "unseal" || organism === "offer";
    return {
      version: 1,
      committee: committeeId(config, organism),
      epoch: 0n,
      activationSlot: 1n,
      members: secrets[organism].map(
        (each, index): RosterMember => ({
          index,
          memberKey: generateSigningKey(each.memberKey).publicKey,
          boxKey: agreementKey(each.boxKey).publicKey,
          certificateShare: certificate[organism].dealing.publicShares[index] ?? new Uint8Array(),
          secondShare: seals ? second[organism].dealing.publicShares[index] : undefined,
          signer: organism === "tally" ? addressOfSecret(each.signerKey ?? random(32)) : undefined,
        }),
      ),
      sealingKey: seals ? second[organism].publicKey : undefined,
      sealingUntilSlot: (1n << 63n) - 1n,
    };
  });
  const certified = perOrganism((organism) => {
    const roster = rosters[organism];
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
    const signature = blsSign(certificate[organism].secret, outcomeDigest(outcome));
    return { outcome, signature, signers: roster.members.map(({ index }) => index) };
  });
  return { config, rosters, certified, secrets, sequencerKey, offerSecret: second.offer.secret };
}
