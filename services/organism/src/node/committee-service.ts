/** `lattice.committee.v1.CommitteeService`: what every member answers, whatever its organism. */
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { stateHash } from "../committee/checkpoint.ts";
import type { Committee } from "../committee/committee.ts";
import { guestViewOf } from "../committee/guest-view.ts";
import { type CertifiedOutcome, checkOutcome, type Outcome } from "../committee/outcome.ts";
import { sealTo } from "../crypto/box.ts";
import { type SigningKey, verifyTagged } from "../crypto/ed25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { encodeConfig, type LatticeConfig, latticeId, slotAt } from "../identity/lattice-config.ts";
import { isOrganism, type Organism } from "../identity/organisms.ts";
import type { Duty } from "../machine.ts";
import type { Clock, Log, LogUsage, Random, Timers } from "../ports.ts";
import { defineService, type GrpcService } from "../rpc/define.ts";
import { withHeartbeat } from "../rpc/heartbeat.ts";
import type { BodyPolicy } from "../service.ts";
import type { Archive } from "./archive.ts";
import { BODY_BOX_INFO, BODY_REQUEST_TAG, bodyAad, bodyRequestDigest } from "./body-fetcher.ts";
import { toWireOutcome } from "./committee-wire.ts";
import type { EntryTail } from "./entry-tail.ts";
import type { FraudProofs } from "./fraud-proofs.ts";
import { type EndGossip, generationMethods } from "./generation-service.ts";
import { integrityMethods } from "./integrity-service.ts";
import type { OutcomeArchive } from "./outcome-archive.ts";
import { readerMethods } from "./reader-service.ts";
import type { RosterBook } from "./roster-book.ts";
import { snapshotMethods } from "./snapshot-service.ts";
import type { SnapshotStore } from "./snapshot-store.ts";
import type { KeptBodies } from "./storage.ts";

/** A signed body request is good for this long either way. */
const REQUEST_AGE_MAX_MS = 30_000;
/** Whoever asks for the status of a member makes it hash its state: one of so many bytes not more often than that. */
const LARGE_STATE_BYTES = 1024 * 1024;
const LARGE_STATE_MS = 250;
/** Outcomes looked for in the archive outside at the same time, whoever asks. */
const LOOKING_MAX = 16;

interface Hashed {
  readonly generation: bigint;
  readonly position: bigint;
  readonly head: Uint8Array;
  readonly hash: Uint8Array;
  /** Until then it is what is told of, though more may have been applied. */
  readonly standsUntilMs: number;
}

export interface CommitteeServiceOptions<State, Command, D extends Duty> {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  readonly self: number;
  readonly committee: Committee<State, Command, D>;
  /** Rosters of all six. */
  readonly rosters: RosterBook;
  /** This committee's own with their certificates, oldest first. */
  readonly certifiedRosters: () => readonly CertifiedOutcome[];
  readonly archive: OutcomeArchive;
  readonly bodies: KeptBodies;
  readonly policies: Readonly<Record<string, BodyPolicy>>;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly caughtUp: () => boolean;
  readonly snapshotPosition: () => bigint;
  readonly memberKey: SigningKey;
  readonly proofs: FraudProofs;
  /** Members last seen on another chain. */
  readonly differing: () => readonly number[];
  readonly snapshots: SnapshotStore;
  readonly usage: () => LogUsage | undefined;
  readonly log: Log & { readonly generation: bigint };
  readonly tail: EntryTail | undefined;
  readonly gossip: () => EndGossip | undefined;
  /** Where outcomes are that this member has let go of. */
  readonly archiveOutside?: Archive;
}

export function committeeService<State, Command, D extends Duty>(
  options: CommitteeServiceOptions<State, Command, D>,
): GrpcService {
  const { config, organism, self, committee, archive, bodies, clock } = options;
  const fault = faultsOf(organism, COMMON_FAULTS);
  const { stages } = committee.machine;
  // The hash of the whole state costs a full encoding: once per position, on demand; of a large state, now and then.
  let hashed: Hashed | undefined;
  const hashedState = (): Hashed => {
    const { generation, position, head } = committee;
    const nowMs = options.timers.elapsedMs();
    const stands = hashed?.generation === generation && (hashed.position === position || nowMs < hashed.standsUntilMs);
    if (hashed !== undefined && stands) return hashed;
    const state = committee.snapshot();
    const standsMs = state.length < LARGE_STATE_BYTES ? 0 : (state.length / LARGE_STATE_BYTES) * LARGE_STATE_MS;
    hashed = { generation, position, head, hash: stateHash(state), standsUntilMs: nowMs + standsMs };
    return hashed;
  };
  /** Outcomes that are being looked for in the archive outside. */
  let looking = 0;

  const decidedSlot = (): bigint => {
    let lowest: bigint | undefined;
    for (const stage of stages) {
      const floor = committee.floor(stage);
      if (lowest === undefined || floor < lowest) lowest = floor;
    }
    return (lowest ?? 1n) - 1n;
  };

  async function bodyOf(stage: string, slot: bigint): Promise<{ outcome: Outcome; body: Uint8Array }> {
    const outcome = committee.outcome(stage, slot) ?? (await archive.get(stage, slot))?.outcome;
    if (outcome?.bodyHash === undefined) throw fault("OUTCOME_UNKNOWN", `no body for ${stage} of slot ${slot}`);
    const body = (await bodies.get(outcome.bodyHash)) ?? committee.machine.bodyOf?.(committee.state, stage, slot);
    if (body === undefined)
      throw fault("OUTCOME_UNKNOWN", `this member does not hold the body of ${stage} of slot ${slot}`);
    return { outcome, body };
  }

  /** Only what this lattice's committee certified, whoever wrote it there. */
  async function archived(stage: string, slot: bigint): Promise<CertifiedOutcome | undefined> {
    // Whoever waits for a decision asks again and again: the archive cannot have it before this member has.
    if (!stages.includes(stage) || (slot >= committee.floor(stage) && slot > (archive.newest(stage) ?? 0n))) return;
    if (options.archiveOutside === undefined) return;
    if (looking >= LOOKING_MAX)
      throw fault("NOT_READY", "as many outcomes as may be are being looked for in the archive");
    looking += 1;
    let found: CertifiedOutcome | undefined;
    try {
      found = await options.archiveOutside.outcome(stage, slot);
    } finally {
      looking -= 1;
    }
    return found !== undefined && checkOutcome(config, organism, found, committee.eras()) === undefined
      ? found
      : undefined;
  }

  const currentRosters = () => committee.rosters.filter(({ epoch }) => epoch >= committee.roster.epoch);

  return defineService(CommitteeService, {
    ...integrityMethods({ committee, self, memberKey: options.memberKey, proofs: options.proofs }),
    ...snapshotMethods({
      organism,
      committee: committee.id,
      self,
      rosters: currentRosters,
      memberKey: options.memberKey,
      store: options.snapshots,
      clock,
    }),
    ...generationMethods({
      organism,
      committee: committee.id,
      rosters: currentRosters,
      clock,
      tail: options.tail,
      gossip: options.gossip,
    }),
    ...readerMethods({
      config,
      organism,
      committee: committee.id,
      rosters: currentRosters,
      log: options.log,
      snapshots: options.snapshots,
      guestView: (state) => guestViewOf(committee.machine, state),
      generation: () => committee.generation,
      newest: () => committee.position,
      clock,
      timers: options.timers,
    }),

    async getStatus() {
      const { position, head, hash } = hashedState();
      return {
        identity: {
          name: config.name,
          chainId: config.chainId,
          latticeId: latticeId(config),
          config: encodeConfig(config),
          throwAway: config.throwAway,
          keyOrigin: config.keys,
        },
        organism,
        committeeId: committee.id,
        memberIndex: self,
        memberCount: committee.quorum.members,
        faultCount: committee.quorum.faults,
        quorum: committee.quorum.quorum,
        generation: committee.generation,
        position,
        chainHead: head,
        stateHash: hash,
        caughtUp: options.caughtUp(),
        members: committee.roster.members.map((member) => {
          const author = committee.author(member.index);
          return {
            index: member.index,
            memberKey: member.memberKey,
            incarnation: author?.incarnation ?? 0n,
            clockMs: author?.clockMs ?? 0n,
            blocked: committee.isBlocked(member.index),
            rules: author?.rules?.highest ?? 0,
            build: author?.rules?.build ?? "",
            differs: options.differing().includes(member.index),
          };
        }),
        upstream: committee.machine.upstream.map((each) => ({
          ...each,
          slot: committee.newestObserved(each.organism, each.stage),
        })),
        decidedSlot: decidedSlot(),
        snapshotPosition: options.snapshotPosition(),
        logFirstPosition: options.usage()?.firstPosition ?? 0n,
        logBytes: BigInt(options.usage()?.bytes ?? 0),
        logBytesMax: BigInt(options.usage()?.bytesMax ?? 0),
        rules: {
          active: committee.rules.active,
          sincePosition: committee.rules.since,
          next: committee.rules.next?.version ?? 0,
          nextPosition: committee.rules.next?.from ?? 0n,
          ...committee.speaks,
        },
      };
    },

    async getOutcome({ stage, slot }) {
      const certified = (await archive.get(stage, slot)) ?? (await archived(stage, slot));
      if (certified === undefined) throw fault("OUTCOME_UNKNOWN", `no certified ${stage} of slot ${slot}`);
      return { outcome: toWireOutcome(certified) };
    },

    async getRosters() {
      return { rosters: options.certifiedRosters().map(toWireOutcome) };
    },

    async *watchOutcomes({ stage, fromSlot }, call) {
      if (stage !== "" && !stages.includes(stage)) throw fault("OUTCOME_UNKNOWN", `${organism} has no stage ${stage}`);
      const wanted = stage === "" ? stages : [stage];
      for (const each of wanted) {
        const oldest = archive.oldest(each);
        if (fromSlot > 0n && oldest !== undefined && fromSlot < oldest && oldest > 1n) {
          throw fault("OUTCOME_TOO_OLD", `${each} is held from slot ${oldest}`, { oldest_slot: oldest.toString() });
        }
      }
      for await (const beat of withHeartbeat(
        archive.watch(wanted, fromSlot, call.signal),
        config,
        clock,
        call.signal,
        options.timers,
      )) {
        yield beat.type === "heartbeat"
          ? { event: { case: "heartbeatSlot", value: beat.slot } }
          : { event: { case: "outcome", value: toWireOutcome(beat.item) } };
      }
    },

    async getBody(request) {
      // By its own name only: every object has a `constructor`.
      const policy = Object.hasOwn(options.policies, request.stage) ? options.policies[request.stage] : undefined;
      if (policy === undefined) throw fault("OUTCOME_UNKNOWN", `${organism}/${request.stage} has no bodies`);
      const readers: readonly Organism[] = policy.readers === "everyone" ? [] : policy.readers;
      const isPublic = policy.readers === "everyone" || (policy.publicWhenLanded && bodies.landed(request.slot));
      if (isPublic) return { body: (await bodyOf(request.stage, request.slot)).body };
      if (!isOrganism(request.requesterOrganism)) throw fault("BODY_NOT_ADMITTED");
      const { members } = options.rosters.at(request.requesterOrganism, slotAt(config, clock.nowMs()));
      const requester = members[request.requesterIndex];
      const age = Math.abs(clock.nowMs() - Number(request.signedAtMs));
      const digest = bodyRequestDigest({
        committee: committee.id,
        stage: request.stage,
        slot: request.slot,
        organism: request.requesterOrganism,
        index: request.requesterIndex,
        signedAtMs: request.signedAtMs,
      });
      const admitted =
        requester !== undefined &&
        readers.includes(request.requesterOrganism) &&
        age <= REQUEST_AGE_MAX_MS &&
        verifyTagged(requester.memberKey, BODY_REQUEST_TAG, digest, request.signature);
      if (!admitted) throw fault("BODY_NOT_ADMITTED");
      const { outcome, body } = await bodyOf(request.stage, request.slot);
      const info = new TextEncoder().encode(BODY_BOX_INFO);
      const aad = bodyAad(committee.id, request.stage, request.slot, outcome.bodyHash ?? new Uint8Array());
      return { sealedBody: sealTo(requester.boxKey, info, aad, body, options.random) };
    },
  });
}
