/** What members keep and what guests are given, made in one go at a checkpoint: as if each were encoded by itself. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { bytes, count, list, map, optional, struct, text, u8, u64 } from "../codec/codec.ts";
import type { Duty, Machine } from "../machine.ts";
import { plainMap } from "../testing/plain-codec.ts";
import { encodeGuestView, encodeSnapshots, encodeState } from "./guest-view.ts";
import { emptyAuthor, emptySlot, type SharedState } from "./state.ts";

/** Lists and maps within each other, and places where the same object can stand twice, also under another codec. */
function stateCodec(mapOf: typeof map) {
  const slot = struct({ bids: mapOf(u64, list(count, 1000), 1000), order: list(u8, 1000), note: bytes(100) });
  return struct({
    slots: mapOf(u64, slot, 1000),
    names: mapOf(text(64), u64, 1000),
    short: list(u8, 1000),
    long: list(count, 1000),
    newest: optional(slot),
  });
}
type State = ReturnType<ReturnType<typeof stateCodec>["read"]>;
type Slot = NonNullable<State["newest"]>;

function machine(mapOf: typeof map): Machine<State, Record<string, never>, Duty> {
  return {
    organism: "relay",
    stages: ["first"],
    upstream: [],
    state: stateCodec(mapOf),
    command: struct({}),
    genesis: () => ({ slots: new Map(), names: new Map(), short: [], long: [], newest: undefined }),
    apply: () => undefined,
    duties: () => [],
    skipAtMs: () => undefined,
    hasInput: () => false,
    // Some stands as it does, some in objects of its own, some goes.
    forGuests: (state, below) => ({
      ...state,
      slots: new Map(
        [...state.slots].map(([slot, each]) => [slot, slot < below ? { ...each, bids: new Map() } : each]),
      ),
      long: state.long.filter((each) => each % 3 !== 0),
    }),
    collapse: () => undefined,
  };
}

function emptyShared(): SharedState {
  return {
    view: "full",
    generation: 0n,
    position: 0n,
    rules: { active: 1, since: 0n, next: undefined },
    heads: [],
    logTimeMs: 0n,
    authors: [emptyAuthor(), emptyAuthor()],
    blocked: [],
    rosters: [],
    floors: new Map([["first", 1n]]),
    collapsedBelow: 1n,
    slots: new Map(),
    checkpointAt: 0n,
    checkpointSlot: 0n,
    checkpoints: new Map(),
    eras: new Map(),
    eraWords: new Map(),
  };
}

/** What can be done to a state, most of it in place. `n` is any small number, `many` as many as there are to be. */
type Change = (shared: SharedState, inner: State, n: number, many: number) => void;

const numbers = (many: number, from: number): number[] =>
  Array.from({ length: many }, (_, index) => (index * 7 + from) % 251);
const hash = (n: number): Uint8Array => new Uint8Array(32).fill(n);

function slotOf(inner: State, n: number): Slot {
  const key = BigInt(n % 5);
  const slot = inner.slots.get(key) ?? { bids: new Map(), order: [], note: new Uint8Array(20) };
  inner.slots.set(key, slot);
  return slot;
}

function record(shared: SharedState, n: number) {
  const key = BigInt(n % 5);
  const slot = shared.slots.get(key) ?? emptySlot();
  shared.slots.set(key, slot);
  return slot;
}

const CHANGES: Readonly<Record<string, Change>> = {
  "a list grows": (_, inner, n, many) => {
    inner.long.push(...numbers(many, n));
  },
  "a number in a list changes": (_, inner, n) => {
    if (inner.long.length > 0) inner.long[n % inner.long.length] = 250 - (n % 250);
  },
  "a list is emptied and filled again": (_, inner, n, many) => {
    inner.long.length = 0;
    inner.long.push(...numbers(many, n + 1));
  },
  "the same list stands under two codecs": (_, inner) => {
    inner.short = inner.long;
  },
  "names are taken": (_, inner, n, many) => {
    for (let each = 0; each < many; each++) inner.names.set(`name ${(each * 31 + n) % 97}`, BigInt(n));
  },
  "a name is given up": (_, inner, n) => {
    inner.names.delete([...inner.names.keys()][n % Math.max(1, inner.names.size)] ?? "");
  },
  "a name says something else": (_, inner, n) => {
    for (const name of [...inner.names.keys()].slice(0, 1)) inner.names.set(name, BigInt(n) + 1000n);
  },
  "a slot gets bids": (_, inner, n, many) => {
    for (let each = 0; each < many; each++) slotOf(inner, n).bids.set(BigInt((each * 13 + n) % 61), numbers(n % 3, n));
  },
  "a bid grows": (_, inner, n, many) => {
    for (const bid of [...slotOf(inner, n).bids.values()].slice(0, 1)) bid.push(...numbers(many, n));
  },
  "an order is turned round": (_, inner, n, many) => {
    const { order } = slotOf(inner, n);
    if (order.length > 0) order.reverse();
    else order.push(...numbers(many, n));
  },
  "bytes change in place": (_, inner, n) => {
    slotOf(inner, n).note[n % 20] = n % 256;
  },
  "a slot stands twice": (_, inner, n) => {
    inner.newest = slotOf(inner, n);
  },
  "a slot goes": (_, inner, n) => {
    inner.slots.delete(BigInt(n % 5));
  },
  "slots are decided": (shared, _, n) => {
    shared.floors.set("first", BigInt(n % 7));
  },
  "heads move on": ({ heads }, _, n, many) => {
    heads.push(...numbers(many, n).map(hash));
    heads.splice(0, n % (heads.length + 1));
  },
  "a member closes": (shared, _, n, many) => {
    const { closes } = record(shared, n);
    const close = closes.get("first") ?? { done: false, by: new Map() };
    close.by.set(n % 16, numbers(many, n).map(hash));
    closes.set("first", close);
  },
  "what a close lists is done": (shared, _, n) => {
    for (const close of record(shared, n).closes.values()) close.done = !close.done;
  },
  "members see facts": (shared, _, n, many) => {
    const { facts } = record(shared, n);
    for (let each = 0; each < many; each++)
      facts.set(`${each % 40}`, { agreed: n % 2 === 0, by: new Map([[n % 16, hash(n)]]) });
  },
};
const names = Object.keys(CHANGES);

test("after any change: the bytes of each encoded by itself", () => {
  const change = fc.record({
    name: fc.constantFrom(...names),
    n: fc.nat(255),
    many: fc.constantFrom(1, 31, 32, 33, 60),
  });
  const seen = new Set<string>();
  fc.assert(
    fc.property(fc.array(change, { minLength: 1, maxLength: 30, size: "max" }), (changes) => {
      const [ours, plain] = [machine(map), machine(plainMap)];
      const shared = emptyShared();
      const inner = ours.genesis();
      for (const { name, n, many } of changes) {
        if (inner.long.length > 900) inner.long.length = 0;
        CHANGES[name]?.(shared, inner, n, many);
        seen.add(name);
        const { state, guest } = encodeSnapshots(shared, ours, inner);
        assert.deepEqual(state, encodeState(shared, plain.state, inner), `members, after: ${name}`);
        assert.deepEqual(guest, encodeGuestView(shared, plain, inner), `guests, after: ${name}`);
      }
    }),
    { numRuns: 200 },
  );
  assert.deepEqual([...seen].sort(), [...names].sort());
});
