/** Whoever uses the committee: adds to slots through its members, and remembers what it was told. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { SeededRandom } from "../random.ts";
import { type LogMember, type LogWorld, SLOT_MS } from "./world.ts";

export interface Addition {
  readonly id: string;
  readonly slot: bigint;
  /** It was told that it is in. */
  acknowledged: boolean;
  /** By chain (generation, position, head): honest members that have applied it there and have not forgotten since. */
  readonly appliedBy: Map<string, Map<LogMember, number>>;
}

const PER_SLOT_MOST = 2;

export class LogClients {
  readonly additions = new Map<string, Addition>();
  readonly #world: LogWorld;
  readonly #random: SeededRandom;

  constructor(world: LogWorld) {
    this.#world = world;
    this.#random = world.random.fork("clients");
  }

  begin(untilSlot: number): void {
    const { time } = this.#world;
    for (let slot = 0; slot < untilSlot; slot++) {
      for (let at = this.#random.below(PER_SLOT_MOST + 1); at > 0; at--) {
        time.after((slot + this.#random.fraction()) * SLOT_MS, () => this.#add());
      }
    }
  }

  #add(): void {
    const world = this.#world;
    const { ready } = world;
    if (ready.length === 0) return;
    const random = this.#random;
    const host = random.pick(ready);
    const id = random.bytes(32);
    const slot = world.slot + BigInt(random.below(3));
    const addition: Addition = { id: toHex(id), slot, acknowledged: false, appliedBy: new Map() };
    this.additions.set(addition.id, addition);
    const padding = new Uint8Array(random.chance(0.02) ? 70_000 : random.below(64));
    host.door?.add(slot, id, padding).then(
      (refusal) => {
        if (refusal !== undefined) return;
        addition.acknowledged = true;
        world.count("acknowledged");
        world.note(`acknowledged ${addition.id}`);
      },
      // Nobody knows what became of it, or it was not taken.
      () => undefined,
    );
  }
}
