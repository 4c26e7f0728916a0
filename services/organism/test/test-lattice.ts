/** Keys, config and members for tests of the runtime: dealt in memory, one committee on an embedded log. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { encode } from "../src/codec/codec.ts";
import { type CertifiedCheckpoint, type Checkpoint, checkpointDigest, stateHash } from "../src/committee/checkpoint.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../src/committee/outcome.ts";
import { faultsTolerated, quorumOf } from "../src/committee/quorum.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../src/committee/roster.ts";
import type { RuleRange } from "../src/committee/rules.ts";
import { blsSign } from "../src/crypto/bls.ts";
import { generateSigningKey, verifyTaggedElsewhere } from "../src/crypto/ed25519.ts";
import { generateSecret, publicOf, splitSecret } from "../src/crypto/shamir.ts";
import { combineSignatures } from "../src/crypto/threshold.ts";
import { agreementKey } from "../src/crypto/x25519.ts";
import { type AdmissionRule, committeeId, type LatticeConfig } from "../src/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../src/identity/organisms.ts";
import type { Archive } from "../src/node/archive.ts";
import type { EpochKeys } from "../src/node/epoch-keys.ts";
import { FileJournal } from "../src/node/file-journal.ts";
import { Member } from "../src/node/member.ts";
import type { ConnectCommittee } from "../src/node/outcome-follower.ts";
import type { MemberStorage } from "../src/node/storage.ts";
import type { Logger } from "../src/observe/logger.ts";
import type { Meters } from "../src/observe/meters.ts";
import type { Clock, Log, MemberJournal } from "../src/ports.ts";
import type { MemberSecrets } from "../src/service.ts";
import type { DirectCalls } from "../src/testing/direct-calls.ts";
import { type ToyDuty, toyDefinition } from "./toy-organism.ts";

export const random = (length: number): Uint8Array => new Uint8Array(randomBytes(length));

export function testConfig(
  certificateKeys: Readonly<Record<Organism, Uint8Array>>,
  overrides: Partial<LatticeConfig> = {},
): LatticeConfig {
  const base = <C>(organism: Organism, content: C) => ({
    policy: { membersMin: 3, membersMax: 7, faults: "none" as const, certificateKey: certificateKeys[organism] },
    acl: [],
    content,
  });
  const settlement = new Uint8Array(20).fill(9);
  return {
    version: 1,
    name: "test",
    chainId: 31_337n,
    genesisMs: 1_790_000_000_000,
    slotMs: 1000,
    pipelineDepth: 4,
    throwAway: true,
    keys: "dealer",
    zipnet: base("zipnet", {
      cells: 16,
      cellBytes: 512,
      segments: 4,
      mode: "one-shot" as const,
      clientsMax: 100,
      participantsMin: 1,
      operators: [0, 1, 2].map((index) => new Uint8Array(32).fill(index)),
      roundOpenMs: 1500,
      roundCloseMs: 550,
      patienceMs: 150,
      blameWindowSlots: 4,
    }),
    unseal: base("unseal", {
      threshold: 2,
      sharesMs: 450,
      poolMs: 350,
      patienceMs: 150,
      gapSlots: 8,
      exposure: "members" as const,
    }),
    offer: base("offer", {
      threshold: 2,
      blindCloseMs: 500,
      seenCloseMs: 250,
      patienceMs: 150,
      rule: "first-price" as const,
      reserveWei: 0n,
      blindWinnersMax: 1,
      seenWinnersMax: 4,
      bidsPerSearcherMax: 4,
      bundleBytes: 4096,
      settlement,
    }),
    atelier: base("atelier", {
      builderKey: certificateKeys.atelier,
      candidateMs: 100,
      patienceMs: 150,
      blindGasBps: 3000,
      carrySlots: 4,
      settlement,
    }),
    relay: base("relay", {
      policy: "l2-sequencer" as const,
      sequencers: [settlement],
      acceptedAfterMs: 600,
      patienceMs: 150,
    }),
    tally: base("tally", {
      threshold: 2,
      settlement,
      refundShareBps: 9000,
      attestEverySlots: 4,
      finalityDepth: 2,
      patienceMs: 150,
    }),
    ...overrides,
  };
}

export interface TestCommittee {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: Roster };
  /** relay's, with its certificate. */
  readonly certifiedRoster: CertifiedOutcome;
  readonly secrets: readonly MemberSecrets[];
}

/**
 * n members of `relay`, certificates by a quorum of them; the other rosters are the same keys under their own ids.
 * @param faults the fault policy of all six
 * @param acl the admission rules of all six; theirs when left out
 * @param draw where keys come from, for a committee that is always the same
 */
export function dealCommittee(
  members: number,
  overrides: Partial<LatticeConfig> = {},
  faults: "none" | "third" = "none",
  acl?: readonly AdmissionRule[],
  draw: (length: number) => Uint8Array = random,
): TestCommittee {
  const secret = generateSecret(draw);
  const publicKey = publicOf(secret);
  const threshold = quorumOf(members, faultsTolerated({ faults }, members));
  const dealing = splitSecret({ secret, threshold, count: members, random: draw });
  const keys = Object.fromEntries(ORGANISMS.map((organism) => [organism, publicKey])) as Record<Organism, Uint8Array>;
  const dealt = testConfig(keys, overrides);
  const adjusted = ORGANISMS.map((organism) => {
    const each = dealt[organism];
    return [organism, { ...each, policy: { ...each.policy, faults }, acl: [...(acl ?? each.acl)] }] as const;
  });
  const config = { ...dealt, ...Object.fromEntries(adjusted) } as LatticeConfig;
  const secrets = dealing.shares.map((certificateShare) => ({
    boxKey: draw(32),
    memberKey: draw(32),
    certificateShare,
  }));
  const roster = (organism: Organism): Roster => ({
    version: 1,
    committee: committeeId(config, organism),
    epoch: 0n,
    activationSlot: 1n,
    members: secrets.map(({ memberKey, boxKey }, index) => ({
      index,
      memberKey: generateSigningKey(memberKey).publicKey,
      boxKey: agreementKey(boxKey).publicKey,
      certificateShare: dealing.publicShares[index] ?? new Uint8Array(),
      secondShare: undefined,
      signer: undefined,
    })),
    sealingKey: undefined,
    sealingUntilSlot: 0n,
  });
  const rosters = Object.fromEntries(ORGANISMS.map((organism) => [organism, roster(organism)])) as Record<
    Organism,
    Roster
  >;
  const outcome: Outcome = {
    version: 1,
    committee: rosters.relay.committee,
    generation: 0n,
    epoch: 0n,
    slot: 1n,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, rosters.relay),
    bodyHash: undefined,
  };
  const certifiedRoster = { outcome, signature: blsSign(secret, outcomeDigest(outcome)), signers: [] };
  return { config, rosters, certifiedRoster, secrets };
}

/** A certificate of a quorum of `relay` over any bytes. */
export function certifyState(
  { config, secrets }: TestCommittee,
  position: bigint,
  state: Uint8Array,
  changes: Partial<Checkpoint> = {},
): CertifiedCheckpoint {
  const checkpoint: Checkpoint = {
    version: 3,
    committee: committeeId(config, "relay"),
    generation: 0n,
    epoch: 0n,
    rules: 1,
    position,
    head: new Uint8Array(32).fill(7),
    stateHash: stateHash(state),
    stateBytes: state.length,
    guestHash: new Uint8Array(32).fill(8),
    guestBytes: state.length,
    ...changes,
  };
  const digest = checkpointDigest(checkpoint);
  const threshold = Math.floor(secrets.length / 2) + 1;
  const signers = Array.from({ length: threshold }, (_, index) => index);
  const shares = secrets
    .slice(0, threshold)
    .map(({ certificateShare }, index) => ({ index, signature: blsSign(certificateShare, digest) }));
  return { checkpoint, signature: combineSignatures(shares, threshold), signers };
}

export const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };

export interface StartOptions {
  readonly committee: TestCommittee;
  readonly index: number;
  readonly log: Log;
  readonly directory: string;
  readonly clock: Clock;
  readonly journalIsOld?: boolean;
  /** Where members of this committee find each other; nowhere when left out. */
  readonly calls?: DirectCalls;
  readonly logger?: Logger;
  readonly meters?: Meters;
  readonly onProof?: (hash: string, proof: Uint8Array) => void;
  /** Other keys than the ones that were dealt: a newcomer's. */
  readonly secrets?: MemberSecrets;
  readonly epochKeys?: EpochKeys;
  readonly onFatal?: (reason: string, detail: string) => void;
  /** Where members of `relay` answer. */
  readonly endpoints?: readonly string[];
  readonly connect?: ConnectCommittee;
  readonly archive?: Archive;
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  readonly storage?: MemberStorage;
  /** The logs of later generations. */
  readonly nextLog?: (generation: bigint) => Promise<Log>;
  readonly endPatience?: { readonly roundMs: number; readonly graceMs: number };
  /** What the member uses in the place of its own journal. */
  readonly wrapJournal?: (journal: MemberJournal) => MemberJournal;
  readonly rules?: RuleRange;
  readonly activationEntries?: bigint;
}

export async function startToyMember(options: StartOptions) {
  const filled = await memberOptions(options);
  const starting = Member.start<
    ReturnType<ReturnType<typeof toyDefinition.createMachine>["genesis"]>,
    { readonly type: "add"; readonly slot: bigint; readonly amount: number; readonly padding: Uint8Array },
    ToyDuty,
    Record<string, never>
  >({ definition: toyDefinition, settings: {}, ...filled });
  const member = await starting.catch(async (error: unknown) => {
    await filled.journal.close();
    throw error;
  });
  options.calls?.serve(`relay-${options.index}`, member.services);
  return member;
}

/** Everything that a member of `relay` is started with but its definition. */
export async function memberOptions(options: StartOptions) {
  const { committee, index, log, clock } = options;
  const directory = join(options.directory, `member-${index}`);
  const secrets = options.secrets ?? committee.secrets[index];
  if (secrets === undefined) throw new Error(`no member ${index}`);
  const { calls } = options;
  const addresses = calls === undefined ? [] : committee.secrets.map((_, member) => `relay-${member}`);
  const endpoints = Object.fromEntries(
    ORGANISMS.map((organism) => [organism, organism === "relay" ? addresses : []]),
  ) as unknown as { [O in Organism]: string[] };
  const own = await FileJournal.open(directory);
  const journal = options.wrapJournal?.(own) ?? own;
  return {
    config: committee.config,
    self: index,
    rosters: committee.rosters,
    certifiedRoster: committee.certifiedRoster,
    secrets,
    ...(options.epochKeys === undefined ? {} : { epochKeys: options.epochKeys }),
    endpoints: () => (options.endpoints === undefined ? endpoints : { ...endpoints, relay: options.endpoints }),
    ...(calls === undefined ? {} : { connect: calls.connect(CommitteeService) }),
    ...(options.connect === undefined ? {} : { connect: options.connect }),
    ...(options.onProof === undefined ? {} : { onProof: options.onProof }),
    ...(options.archive === undefined ? {} : { archive: options.archive }),
    ...(options.storage === undefined ? {} : { storage: options.storage }),
    ...(options.checkpointEvery === undefined ? {} : { checkpointEvery: options.checkpointEvery }),
    ...(options.nextLog === undefined ? {} : { nextLog: options.nextLog }),
    ...(options.endPatience === undefined ? {} : { endPatience: options.endPatience }),
    ...(options.rules === undefined ? {} : { rules: options.rules }),
    ...(options.activationEntries === undefined ? {} : { activationEntries: options.activationEntries }),
    log,
    journal,
    journalIsOld: options.journalIsOld ?? false,
    directory,
    clock,
    random,
    verify: verifyTaggedElsewhere,
    logger: options.logger ?? SILENT,
    meters: options.meters ?? NO_METERS,
    tracer: { span: () => undefined, root: () => undefined, close: async () => undefined },
    onFatal:
      options.onFatal ??
      ((reason, detail) => {
        throw new Error(`${reason}: ${detail}`);
      }),
  };
}
