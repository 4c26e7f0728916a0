/** What corrupt members of one committee do besides `../byzantine.ts`: early shares, and lies past the broker. */
import { encode } from "@lattice/organism/codec/codec.ts";
import type { Checkpoint } from "@lattice/organism/committee/checkpoint.ts";
import { type EndStatement, signEnd } from "@lattice/organism/committee/generation-end.ts";
import { signHead } from "@lattice/organism/committee/heads.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import type { Machine } from "@lattice/organism/machine.ts";
import { toWireCheckpoint, toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import type { EpochKeys } from "@lattice/organism/node/epoch-keys.ts";
import { toWireHead } from "@lattice/organism/node/integrity-wire.ts";
import type { Call, GrpcService } from "@lattice/organism/rpc/define.ts";
import type { OrganismNode } from "@lattice/organism/service.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { BEHAVIOURS, type Behaviour, type Corruption } from "../byzantine.ts";
import type { LogReplica } from "./observer.ts";
import {
  INPUT,
  INPUT_COMMITMENT,
  type LogCommand,
  type LogDuty,
  type LogHost,
  type LogState,
  OPENED,
  openingDigest,
} from "./organism.ts";
import type { Thief } from "./thief.ts";
import type { LogMember } from "./world.ts";

export const LOG_BEHAVIOURS: readonly Behaviour[] = [...BEHAVIOURS, "lie-heads", "lie-ends", "old-key"];
/** Positions by which a lie about the end of a generation is off. */
const OFF_MOST = 12;

/** Wants to release shares before anything is closed. */
export function earlyShares(
  machine: Machine<LogState, LogCommand, LogDuty>,
  { behaviours, random }: Corruption,
): Machine<LogState, LogCommand, LogDuty> {
  if (!behaviours.has("early-shares")) return machine;
  return {
    ...machine,
    duties(state, view) {
      const duties = [...machine.duties(state, view)];
      const slot = view.floor(OPENED);
      if (view.outcome(INPUT, slot) === undefined && random.chance(0.3)) {
        duties.push({ type: "share", key: `early/${slot}`, slot, promise: false, lane: "bulk" });
      }
      return duties;
    },
  };
}

/** Releases them, over what it thinks will be decided. */
export function earlyNode(
  node: OrganismNode<LogCommand, LogDuty>,
  host: LogHost,
  { acted }: Corruption,
): OrganismNode<LogCommand, LogDuty> {
  return {
    ...node,
    async execute(duty) {
      const shares = host.sharesAt(duty.slot);
      if (!duty.key.startsWith("early/") || shares === undefined) return node.execute(duty);
      acted("early-shares");
      const guessed = encode(INPUT_COMMITMENT, [...(host.state().slots.get(duty.slot)?.inputs ?? [])]);
      const signature = blsSign(shares.certificateShare, openingDigest(duty.slot, guessed));
      return { type: "machine", command: { type: "share", slot: duty.slot, signature } };
    },
  };
}

type Handlers = GrpcService["handlers"];

/** Every so often, a stolen roster in place of what the member would propose. */
export function stolenKeys(
  keys: EpochKeys,
  { behaviours, acted }: Corruption,
  thief: Thief,
  replica: () => LogReplica | undefined,
): EpochKeys {
  if (!behaviours.has("old-key")) return keys;
  return {
    ...keys,
    roster(epoch) {
      const current = replica();
      const stolen = current === undefined ? undefined : thief.follower(current);
      if (stolen === undefined) return keys.roster(epoch);
      acted("old-key");
      return stolen;
    },
  };
}

/**
 * Answers to other members that are not true: heads of another chain, ends of generations that it has not read, and what a
 * key that is over certifies.
 */
export function corruptServices(
  services: readonly GrpcService[],
  host: LogMember,
  { behaviours, random, acted }: Corruption,
  thief: Thief,
): readonly GrpcService[] {
  const key = generateSigningKey(host.secrets.memberKey);
  const stolen = <T>(of: (replica: LogReplica) => T): T | undefined =>
    behaviours.has("old-key") && host.replica !== undefined ? of(host.replica) : undefined;
  const holds = ({ generation, position }: Pick<Checkpoint, "generation" | "position">): boolean =>
    host.disk.snapshots.some(
      ({ checkpoint }) => checkpoint.generation === generation && checkpoint.position === position,
    );
  const bent = ({ handlers }: GrpcService): Handlers => ({
    async getRosters(request: never, call: Call) {
      const answer = (await handlers.getRosters?.(request, call)) as { readonly rosters: readonly unknown[] };
      const rosters = stolen((replica) => thief.rosters(replica)) ?? [];
      return { ...answer, rosters: [...rosters.map(toWireOutcome), ...answer.rosters] };
    },
    async getCheckpoint(request: never, call: Call) {
      const answer = (await handlers.getCheckpoint?.(request, call)) as { readonly held: readonly unknown[] };
      const state = stolen((replica) => thief.state(replica));
      if (state === undefined || holds(state.certified.checkpoint)) return answer;
      acted("old-key");
      return { ...answer, held: [toWireCheckpoint(state.certified), ...answer.held] };
    },
    async *fetchSnapshot(
      request: {
        readonly generation: bigint;
        readonly position: bigint;
        readonly offset: bigint;
        readonly requesterIndex: number;
      },
      call: Call,
    ) {
      const { generation, position, offset, requesterIndex } = request;
      // What it lists of its own it gives: else nobody could say which of two was meant.
      const own = holds({ generation, position });
      const state = own ? undefined : stolen(() => thief.give(generation, position, requesterIndex));
      if (state === undefined) yield* handlers.fetchSnapshot?.(request as never, call) as AsyncIterable<unknown>;
      else yield { offset, data: state.state.subarray(Number(offset)) };
    },
    async getHead(request: { readonly position: bigint }, call: Call) {
      const replica = host.replica;
      // Somebody who says that there is a later generation is asked for its beginning.
      const later = stolen((current) => thief.rosters(current).length > 0) === true && random.chance(0.3);
      const lies = later || (behaviours.has("lie-heads") && !random.chance(0.4));
      if (replica === undefined || !lies) return handlers.getHead?.(request as never, call);
      acted(later ? "old-key" : "lie-heads");
      const { id, position: newest } = replica;
      const generation = replica.generation + (later ? 1n : 0n);
      const position = request.position < newest ? request.position : newest;
      return toWireHead(
        signHead(key, {
          version: 1,
          committee: id,
          generation,
          member: host.index,
          position,
          head: random.bytes(32),
          newest: newest + BigInt(random.below(OFF_MOST)),
        }),
      );
    },
    async exchangeGenerationEnd(request: { readonly generation: bigint }, call: Call) {
      const replica = host.replica;
      const answer = (await handlers.exchangeGenerationEnd?.(request as never, call)) as {
        readonly generation: bigint;
        readonly known: Uint8Array[];
        readonly messages: Uint8Array[];
      };
      const { generation } = request;
      if (replica?.generation !== generation || !behaviours.has("lie-ends") || random.chance(0.4)) return answer;
      acted("lie-ends");
      const off = random.below(Math.min(OFF_MOST, replica.heads.length));
      const heads = replica.heads.slice(0, replica.heads.length - off);
      const position = replica.position - BigInt(off);
      const end = { position, head: heads.at(-1) ?? new Uint8Array(32) };
      const round = random.below(4);
      const ending = { committee: replica.id, generation };
      const statement = random.pick<EndStatement>([
        { type: "report", round, lost: true, position, heads: [...heads], prepared: undefined },
        { type: "prepare", round, end },
        { type: "commit", round, end },
      ]);
      return { ...answer, messages: [...answer.messages, signEnd(key, ending, host.index, statement)] };
    },
  });
  return services.map((service) =>
    service.descriptor.typeName === CommitteeService.typeName
      ? { ...service, handlers: { ...service.handlers, ...bent(service) } }
      : service,
  );
}
