/** A ceremony among participants in one process, over an array for a log. For tests and benchmarks. */
import { Ceremony, type Publication, type Refusal } from "../ceremony/ceremony.ts";
import type { AttemptSecrets } from "../ceremony/dealing.ts";
import { type CeremonyCommand, signMessage } from "../ceremony/message.ts";
import { nextCommand, type OwnShares, ownShares } from "../ceremony/participant.ts";
import type { CeremonyPlan, PlannedKey } from "../ceremony/plan.ts";
import { generateSigningKey, type SigningKey } from "../crypto/ed25519.ts";

type Random = (count: number) => Uint8Array;

/** What a participant does instead of what it should: the commands it says, none at all, or raw bytes. */
export type Behaviour = (command: CeremonyCommand, ceremony: Ceremony) => readonly (CeremonyCommand | Uint8Array)[];

export interface DriverPerson {
  readonly key: SigningKey;
  /** By position of the key in the plan. */
  readonly oldShares?: ReadonlyMap<number, Uint8Array>;
}

export function people(count: number, random: Random): DriverPerson[] {
  return Array.from({ length: count }, () => ({ key: generateSigningKey(random(32)) }));
}

export const range = (count: number): number[] => Array.from({ length: count }, (_, index) => index);

/** A plan of fresh keys for `persons`, all of whom deal and receive. */
export function freshPlan(
  persons: readonly DriverPerson[],
  thresholds: Readonly<Record<string, number>>,
  options: Partial<CeremonyPlan> = {},
): CeremonyPlan {
  return {
    version: 1,
    root: new Uint8Array(32).fill(7),
    purpose: new Uint8Array(32).fill(9),
    participants: persons.map(({ key }) => key.publicKey),
    keys: Object.entries(thresholds).map(
      ([name, threshold]): PlannedKey => ({
        name,
        threshold,
        receivers: range(persons.length),
        source: { type: "fresh" },
      }),
    ),
    closeQuorum: Math.floor(persons.length / 2) + 1,
    dealersMin: persons.length,
    holdersMin: persons.length,
    ...options,
  };
}

export class CeremonyDriver {
  readonly plan: CeremonyPlan;
  readonly persons: readonly DriverPerson[];
  readonly log: Uint8Array[] = [];
  /** Everybody's own copy of the state. */
  readonly replicas: readonly Ceremony[];
  readonly behaviours = new Map<number, Behaviour>();
  readonly refusals: (Refusal | undefined)[] = [];
  readonly #publication: Publication | undefined;
  /** By `participant/attempt`. */
  readonly seeds = new Map<string, Uint8Array>();
  readonly #random: Random;
  /** The longest that one participant's thread was taken by one step, ms. */
  longestStepMs = 0;

  constructor(plan: CeremonyPlan, persons: readonly DriverPerson[], random: Random, publication?: Publication) {
    this.plan = plan;
    this.persons = persons;
    this.#random = random;
    this.#publication = publication;
    this.replicas = persons.map(() => new Ceremony(plan, publication));
  }

  replica(who: number): Ceremony {
    const found = this.replicas[who];
    if (found === undefined) throw new RangeError(`no participant ${who}`);
    return found;
  }

  secrets(who: number, attempt: number): AttemptSecrets {
    const name = `${who}/${attempt}`;
    const seed = this.seeds.get(name) ?? this.#random(32);
    this.seeds.set(name, seed);
    return { seed, oldShares: this.persons[who]?.oldShares ?? new Map() };
  }

  /** Signs and appends; every replica applies it. @returns what the first replica says to it */
  say(who: number, command: CeremonyCommand, attempt = this.replica(0).attempt.number): Refusal | undefined {
    const person = this.persons[who];
    if (person === undefined) throw new RangeError(`no participant ${who}`);
    return this.append(
      signMessage(person.key, { version: 1, ceremony: this.replica(0).id, attempt, author: who, command }),
    );
  }

  append(raw: Uint8Array): Refusal | undefined {
    this.log.push(raw);
    const answers = this.replicas.map((replica) => this.#timed(() => replica.apply(raw)));
    this.refusals.push(answers[0]);
    return answers[0];
  }

  #timed<T>(work: () => T): T {
    const start = performance.now();
    const result = work();
    this.longestStepMs = Math.max(this.longestStepMs, performance.now() - start);
    return result;
  }

  /** One round: everybody who has something to say says it, in the order given. @returns whether anything was said */
  round(order: readonly number[] = range(this.persons.length)): boolean {
    let said = false;
    for (const who of order) {
      const replica = this.replica(who);
      const command = this.#timed(() => nextCommand(replica, who, this.secrets(who, replica.attempt.number)));
      if (command === undefined) continue;
      const behaviour = this.behaviours.get(who);
      for (const each of behaviour === undefined ? [command] : behaviour(command, replica)) {
        if (each instanceof Uint8Array) this.append(each);
        else this.say(who, each);
        said = true;
      }
    }
    return said;
  }

  /** Until it is decided; the honest close what nobody else will end. */
  run(order?: () => readonly number[]): Ceremony {
    for (let rounds = 0; rounds < 64; rounds++) {
      const { phase } = this.replica(0).attempt;
      if (phase === "done" || phase === "aborted") break;
      const before = this.#progress();
      this.round(order?.());
      if (this.#progress() !== before) continue;
      for (const who of range(this.persons.length)) {
        const now = this.replica(who).attempt.phase;
        if (this.behaviours.has(who) || now === "done" || now === "aborted") continue;
        this.say(who, { type: "close", phase: now });
      }
    }
    return this.replica(0);
  }

  #progress(): string {
    const { attempt } = this.replica(0);
    return `${attempt.number} ${attempt.phase} ${[...attempt.said.values()].reduce((sum, kinds) => sum + kinds.size, 0)}`;
  }

  /** A late reader: the state from the log alone. */
  replay(): Ceremony {
    const ceremony = new Ceremony(this.plan, this.#publication);
    for (const raw of this.log) ceremony.apply(raw);
    return ceremony;
  }

  ownShares(who: number): OwnShares {
    const replica = this.replica(who);
    return ownShares(replica, who, this.secrets(who, replica.attempt.number));
  }
}
