/**
 * Corrupt members: the real member with something bent. Each behaviour is one that an honest member never shows; a
 * committee must stand f of them, whatever they combine.
 */
import { decode, encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { type CommitteeCommand, decodeCommand, encodeCommand } from "@lattice/organism/committee/commands.ts";
import { decodeEntry, ENTRY_BODY, ENTRY_TAG, type EntryBody, encodeEntry } from "@lattice/organism/committee/entry.ts";
import { generateSigningKey, type SigningKey, signTagged } from "@lattice/organism/crypto/ed25519.ts";
import type { Duty, Machine, Submission } from "@lattice/organism/machine.ts";
import type { Log } from "@lattice/organism/ports.ts";
import type { OrganismNode } from "@lattice/organism/service.ts";
import type { UnsealState } from "@lattice/unseal/core/types.ts";
import type { SeededRandom } from "./random.ts";
import type { SimProcess } from "./virtual-time.ts";

export const BEHAVIOURS = [
  "equivocate",
  "withhold",
  "delay",
  "lie",
  "invalid-shares",
  "early-shares",
  "vote-twice",
] as const;
/** The others are of one committee alone (`log/byzantine.ts`). */
export type Behaviour = (typeof BEHAVIOURS)[number] | "lie-heads" | "lie-ends" | "old-key";

export interface Corruption {
  readonly behaviours: ReadonlySet<Behaviour>;
  readonly random: SeededRandom;
  /** Called for each act, so that a run can say what it has seen. */
  readonly acted: (behaviour: Behaviour) => void;
}

/** Keys that a corrupt process has drawn: it knows its own incarnation key and may sign with it what it likes. */
export class DrawnKeys {
  readonly #keys = new Map<string, SigningKey>();

  /** The member's randomness, remembered. */
  random(source: (count: number) => Uint8Array): (count: number) => Uint8Array {
    return (count) => {
      const bytes = source(count);
      if (count === 32) {
        const key = generateSigningKey(bytes);
        this.#keys.set(toHex(key.publicKey), key);
      }
      return bytes;
    };
  }

  of(publicKey: Uint8Array): SigningKey | undefined {
    return this.#keys.get(toHex(publicKey));
  }
}

/** Bends what a corrupt member's node says. */
export function corruptNode<Command, D extends Duty>(
  node: OrganismNode<Command, D>,
  { behaviours, random, acted }: Corruption,
): OrganismNode<Command, D> {
  const flipped = (bytes: Uint8Array): Uint8Array => {
    const copy = bytes.slice();
    const at = random.below(Math.max(1, copy.length));
    copy[at] = (copy[at] ?? 0) ^ (1 << random.below(8));
    return copy;
  };
  const bent = (submission: Submission<Command>): Submission<Command> => {
    if (submission.type === "saw" && behaviours.has("lie") && random.chance(0.5)) {
      acted("lie");
      return { ...submission, fact: flipped(submission.fact) };
    }
    if (submission.type === "close" && behaviours.has("lie") && random.chance(0.3)) {
      acted("lie");
      return { ...submission, inputs: [...submission.inputs, random.bytes(32)] };
    }
    if (submission.type === "machine" && behaviours.has("invalid-shares") && random.chance(0.6)) {
      const command = submission.command as Record<string, unknown>;
      for (const field of ["sealed", "box", "signature", "vector", "sealedBody"]) {
        const value = command[field];
        if (!(value instanceof Uint8Array) || value.length === 0) continue;
        acted("invalid-shares");
        return { type: "machine", command: { ...command, [field]: flipped(value) } as Command };
      }
    }
    return submission;
  };
  return {
    ...node,
    async execute(duty) {
      if (behaviours.has("withhold") && random.chance(0.4)) {
        acted("withhold");
        return undefined;
      }
      const submission = await node.execute(duty);
      return submission === undefined ? undefined : bent(submission);
    },
  };
}

/** Makes a corrupt unseal member release its share before anything is frozen. */
export function corruptMachine<State, Command, D extends Duty>(
  machine: Machine<State, Command, D>,
  { behaviours, acted, random }: Corruption,
): Machine<State, Command, D> {
  if (machine.organism !== "unseal" || !behaviours.has("early-shares")) return machine;
  return {
    ...machine,
    duties(state, view) {
      const duties = [...machine.duties(state, view)];
      for (const [slot, { freeze }] of (state as UnsealState).slots) {
        if (freeze !== undefined || view.outcome("unsealed", slot) !== undefined || random.chance(0.3)) continue;
        acted("early-shares");
        const early: unknown = { kind: "share", key: `early/${slot}`, slot, promise: false };
        duties.push(early as D);
      }
      return duties;
    },
  };
}

/** Bends what a corrupt member's entries do on their way to the broker. */
export function corruptLog(
  log: Log,
  { behaviours, random, acted }: Corruption,
  options: {
    readonly process: SimProcess;
    readonly keys: DrawnKeys;
    readonly incarnationKey: () => Uint8Array | undefined;
    readonly slotMs: number;
  },
): Log {
  /** The same place in the lane, other content. */
  const second = (raw: Uint8Array, change: (command: CommitteeCommand) => CommitteeCommand | undefined) => {
    const { body, bodyBytes } = decodeEntry(raw);
    const publicKey = options.incarnationKey();
    const key = publicKey === undefined ? undefined : options.keys.of(publicKey);
    const command = change(decodeCommand(body.command));
    if (key === undefined || command === undefined) return undefined;
    const forged: EntryBody = { ...body, command: encodeCommand(command) };
    const forgedBytes = encode(ENTRY_BODY, forged);
    if (equalBytes(forgedBytes, bodyBytes)) return undefined;
    return encodeEntry(forgedBytes, signTagged(key, ENTRY_TAG, forgedBytes));
  };
  return {
    ...log,
    async append(lane, raw, id) {
      if (behaviours.has("withhold") && random.chance(0.15)) {
        acted("withhold");
        return "unknown";
      }
      if (behaviours.has("delay") && random.chance(0.5)) {
        acted("delay");
        await options.process.pause(random.between(0.1, 0.9) * options.slotMs);
      }
      if (behaviours.has("equivocate") && random.chance(0.3)) {
        const other = second(raw, otherwise(random));
        if (other !== undefined) {
          acted("equivocate");
          // Whichever comes first stands; the other is refused or, once proven, the end of this key.
          log.append(lane, other, `${id}.other`).catch(() => undefined);
          if (random.chance(0.5)) await options.process.pause(random.between(0, 20));
        }
      }
      if (behaviours.has("vote-twice")) {
        const other = second(raw, (command) =>
          command.type === "vote"
            ? { ...command, votes: [...command.votes, ...command.votes].slice(0, 64) }
            : undefined,
        );
        if (other !== undefined && random.chance(0.4)) {
          acted("vote-twice");
          log.append(lane, other, `${id}.twice`).catch(() => undefined);
        }
      }
      return log.append(lane, raw, id);
    },
  };
}

/** What else could be said in the place of this command. */
function otherwise(random: SeededRandom): (command: CommitteeCommand) => CommitteeCommand | undefined {
  return (command) => {
    switch (command.type) {
      case "saw":
        return { ...command, fact: random.bytes(Math.min(64, command.fact.length)) };
      case "vote":
        return { type: "skip", stage: command.votes[0]?.stage ?? "", toSlot: command.votes[0]?.slot ?? 0n };
      case "close":
        return { ...command, inputs: [random.bytes(32)] };
      case "skip":
        return { ...command, toSlot: command.toSlot + 1n };
      default:
        return undefined;
    }
  };
}

/** Re-reads a body as its bytes say; a helper of tests. */
export function entryOf(raw: Uint8Array): EntryBody {
  return decode(ENTRY_BODY, decodeEntry(raw).bodyBytes);
}
