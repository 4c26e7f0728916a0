/**
 * Deals the keys of a throw-away lattice: what a ceremony among the members does for every other lattice.
 *
 * Runs in a process of its own that exits before slot 1. For the moment of dealing it knows every secret; it writes
 * each member's share into that member's own file (mode 0400) and the public rest into the kit. A lattice made this
 * way says `keys: dealer` in its identity, and members refuse it unless it also says `throw_away`.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { quorumOf } from "@lattice/organism/committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster, type RosterMember } from "@lattice/organism/committee/roster.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { type Dealing, generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import {
  ConfigProblems,
  committeeId,
  configProblems,
  type LatticeConfig,
} from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { KeyFile } from "@lattice/organism/node/kit.ts";
import { localConfig, type ProfileOptions } from "../local/profile.ts";
import { memberFolder, secp256k1Secret, writeKit, writeSecret } from "./kit-folder.ts";

/** Organisms whose second group key seals (unseal, offer) or signs bids (atelier). */
const SECOND_KEY: readonly Organism[] = ["unseal", "offer", "atelier"];

const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));

interface DealtKey {
  readonly secret: Uint8Array;
  readonly publicKey: Uint8Array;
  readonly dealing: Dealing;
}

function dealKey(threshold: number, count: number): DealtKey {
  const secret = generateSecret(random);
  return { secret, publicKey: publicOf(secret), dealing: splitSecret({ secret, threshold, count, random }) };
}

interface MemberKeys {
  readonly boxKey: Uint8Array;
  readonly memberKey: Uint8Array;
  readonly signerKey: Uint8Array;
  readonly serverKey: Uint8Array;
  readonly operatorKey: Uint8Array;
}

export interface Dealt {
  readonly config: LatticeConfig;
  /** Addresses of tally's attesters, ascending. */
  readonly signers: readonly Uint8Array[];
}

/** Deals everything into `directory`; refuses to overwrite an earlier deal. @throws ConfigProblems */
export function deal(directory: string, options: ProfileOptions): Dealt {
  const { members } = options;
  const quorum = quorumOf(members, 0);
  const sealingThreshold = Math.floor(members / 2) + 1;
  const perOrganism = <T>(make: (organism: Organism) => T): Record<Organism, T> =>
    Object.fromEntries(ORGANISMS.map((organism) => [organism, make(organism)])) as Record<Organism, T>;

  const certificate = perOrganism(() => dealKey(quorum, members));
  const second = new Map(
    SECOND_KEY.map((organism) => [organism, dealKey(organism === "atelier" ? quorum : sealingThreshold, members)]),
  );
  const keys = perOrganism(() =>
    Array.from(
      { length: members },
      (): MemberKeys => ({
        boxKey: random(32),
        memberKey: random(32),
        signerKey: secp256k1Secret(),
        serverKey: random(32),
        operatorKey: random(32),
      }),
    ),
  );
  const issuerSeed = random(32);
  const sequencerKey = secp256k1Secret();
  const config = localConfig(options, {
    certificateKeys: perOrganism((organism) => certificate[organism].publicKey),
    builderKey: second.get("atelier")?.publicKey ?? new Uint8Array(48),
    operators: keys.zipnet.map(({ operatorKey }) => generateSigningKey(operatorKey).publicKey),
    issuer: generateSigningKey(issuerSeed).publicKey,
    sequencer: addressOfSecret(sequencerKey),
  });
  const problems = configProblems(config);
  if (problems.length > 0) throw new ConfigProblems(problems);

  const rosters = perOrganism((organism) => {
    const roster: Roster = {
      version: 1,
      committee: committeeId(config, organism),
      epoch: 0n,
      activationSlot: 1n,
      members: keys[organism].map((each, index): RosterMember => {
        const secondShare = second.get(organism)?.dealing.publicShares[index];
        return {
          index,
          memberKey: generateSigningKey(each.memberKey).publicKey,
          boxKey: agreementKey(each.boxKey).publicKey,
          certificateShare: certificate[organism].dealing.publicShares[index] ?? new Uint8Array(),
          secondShare,
          signer: organism === "tally" ? addressOfSecret(each.signerKey) : undefined,
        };
      }),
      sealingKey: organism === "unseal" || organism === "offer" ? second.get(organism)?.publicKey : undefined,
      sealingUntilSlot: (1n << 63n) - 1n,
    };
    return certifyRoster(roster, certificate[organism].secret);
  });

  const signers = keys.tally.map(({ signerKey }) => addressOfSecret(signerKey)).sort((a, b) => Buffer.compare(a, b));
  writeKit(directory, { config, rosters, signers, issuerSeed, sequencerKey });
  for (const organism of ORGANISMS) {
    for (const [index, each] of keys[organism].entries()) {
      const folder = memberFolder(directory, organism, index);
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const secondShare = second.get(organism)?.dealing.shares[index];
      const file: KeyFile = {
        organism,
        index,
        boxKey: toHex(each.boxKey),
        memberKey: toHex(each.memberKey),
        certificateShare: toHex(certificate[organism].dealing.shares[index] ?? new Uint8Array()),
        ...(secondShare === undefined ? {} : { secondShare: toHex(secondShare) }),
        ...(organism === "tally" ? { signerKey: toHex(each.signerKey) } : {}),
        ...(organism === "zipnet" ? { serverKey: toHex(each.serverKey), operatorKey: toHex(each.operatorKey) } : {}),
      };
      writeSecret(join(folder, "key.json"), `${JSON.stringify(file)}\n`);
    }
  }
  return { config, signers };
}

/** Epoch 0, certified under the certificate key that the config pins. */
function certifyRoster(roster: Roster, certificateSecret: Uint8Array): CertifiedOutcome {
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
  const signature = blsSign(certificateSecret, outcomeDigest(outcome));
  return { outcome, signature, signers: roster.members.map(({ index }) => index) };
}
