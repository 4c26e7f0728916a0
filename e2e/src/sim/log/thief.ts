/**
 * Somebody who has collected a quorum of the shares of a certificate key that is over, and certifies with it what it likes:
 * other beginnings of eras, states, generations. Corrupt members spread it.
 */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedCheckpoint, checkpointDigest } from "@lattice/organism/committee/checkpoint.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import { nextEpoch } from "@lattice/organism/testing/dealt-eras.ts";
import type { SeededRandom } from "../random.ts";
import { type Epoch, eraLinks } from "./epochs.ts";
import type { LogReplica } from "./observer.ts";
import { makeMachine, ORGANISM } from "./organism.ts";
import type { LogWorld } from "./world.ts";

/** Beyond what anybody may have spoken of, as honest rosters are. */
const AHEAD = 12n;

export interface StolenState {
  readonly certified: CertifiedCheckpoint;
  readonly state: Uint8Array;
}

export class Thief {
  readonly #world: LogWorld;
  readonly #random: SeededRandom;
  readonly #rosters = new Map<string, readonly CertifiedOutcome[]>();
  readonly #states = new Map<string, StolenState>();
  /** Signatures of the states. */
  readonly #signed = new Set<string>();

  constructor(world: LogWorld) {
    this.#world = world;
    this.#random = world.random.fork("thief");
  }

  /** The last epoch of the era that is over for good where this replica stands: all of its slots are decided. */
  #over(replica: LogReplica): { readonly old: Epoch; readonly newest: Epoch } | undefined {
    const { epochs } = this.#world;
    const link = eraLinks(epochs).findLast(({ roster }) => roster.epoch <= replica.roster.epoch);
    const old = link === undefined ? undefined : epochs[epochs.indexOf(link) - 1];
    const newest = epochs.find(({ roster }) => roster.epoch === replica.rosters.at(-1)?.epoch);
    return old === undefined || newest === undefined ? undefined : { old, newest };
  }

  /** Rosters under the key that is over: the era begun otherwise, the epoch to come in it, and an era of the thief's own. */
  rosters(replica: LogReplica): readonly CertifiedOutcome[] {
    const over = this.#over(replica);
    if (over === undefined) return [];
    const { old, newest } = over;
    const key = `${old.roster.epoch}/${newest.roster.epoch}`;
    const known = this.#rosters.get(key);
    if (known !== undefined) return known;
    const draw = (count: number): Uint8Array => this.#random.bytes(count);
    const terms = { activationSlot: this.#world.slot + AHEAD, signer: old.secret, draw };
    const made = [
      nextEpoch(old, { ...terms, newEra: true }),
      nextEpoch(newest, terms),
      nextEpoch(newest, { ...terms, newEra: true }),
    ].map(({ certified }) => certified);
    this.#rosters.set(key, made);
    return made;
  }

  /** One of them, as what follows the newest epoch. */
  follower(replica: LogReplica): CertifiedOutcome | undefined {
    const [, ...followers] = this.rosters(replica);
    return followers.length === 0 ? undefined : this.#random.pick(followers);
  }

  /** A state of this generation, or the beginning of the next one, under the key that is over. */
  state(replica: LogReplica): StolenState | undefined {
    const over = this.#over(replica);
    if (over === undefined) return undefined;
    const { config, rosters } = this.#world.dealt;
    const scratch: LogReplica = new Committee({ config, roster: rosters[ORGANISM], machine: makeMachine(config) });
    scratch.restore(replica.snapshot());
    scratch.beginGeneration();
    const { checkpoint: first, state } = scratch.birth();
    const later = this.#random.chance(0.5);
    const { generation, position, head } = replica;
    const given = later ? state : replica.snapshot();
    const epoch = over.old.roster.epoch;
    const checkpoint = later
      ? { ...first, epoch }
      : {
          ...first,
          epoch,
          generation,
          position,
          head,
          stateHash: hashBytes("lattice/state/v1", given),
          stateBytes: given.length,
        };
    const certified = { checkpoint, signature: blsSign(over.old.secret, checkpointDigest(checkpoint)), signers: [] };
    this.#signed.add(toHex(certified.signature));
    const stolen = { certified, state: given };
    this.#states.set(`${checkpoint.generation}/${checkpoint.position}`, stolen);
    return stolen;
  }

  /** Whether the thief has certified it, whoever hands it over. */
  has({ signature }: CertifiedCheckpoint): boolean {
    return this.#signed.size > 0 && this.#signed.has(toHex(signature));
  }

  /** What was offered under this name, given to whoever holds the seat that fetches it. */
  give(generation: bigint, position: bigint, seat: number): StolenState | undefined {
    const stolen = this.#states.get(`${generation}/${position}`);
    const host = this.#world.seat(seat);
    if (stolen !== undefined && host !== undefined) this.#world.misled(host, stolen.certified.checkpoint);
    return stolen;
  }
}
