import assert from "node:assert/strict";
import { test } from "node:test";
import { encode } from "@lattice/organism/codec/codec.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { ACCEPTED } from "@lattice/organism/outcomes/relay.ts";
import fc from "fast-check";
import { outcome } from "../test/door.ts";
import { dealtLattice, LogBook } from "../test/fixture.ts";
import { ALL_STAGES, SLOTS_KEPT, SlotBook, type SlotEvent } from "./slot-book.ts";

const { config } = dealtLattice();

function open(slot: bigint, slotMs = 1000) {
  const log = new LogBook();
  const own = { ...config, slotMs };
  return { log, book: new SlotBook({ config: own, clock: { nowMs: () => slotStartMs(own, slot) }, log }) };
}

test("it holds the newest slots, each in pipeline order, whatever the order of arrival", () => {
  const stage = fc.constantFrom(...ALL_STAGES);
  fc.assert(
    fc.property(fc.array(fc.tuple(stage, fc.bigInt({ min: 600n, max: 2000n })), { maxLength: 200 }), (arrivals) => {
      const { book } = open(1000n);
      for (const [{ organism, stage: name }, slot] of arrivals)
        book.note(organism, outcome(config, organism, name, slot));
      const newest = arrivals.reduce((max, [, slot]) => (slot > max ? slot : max), 1000n);
      assert.equal(book.oldest, newest - SLOTS_KEPT);
      for (const [, slot] of arrivals) {
        const held = book.slot(slot);
        if (slot < book.oldest) assert.deepEqual(held, []);
        const order = held.map(({ organism, certified }) =>
          ALL_STAGES.findIndex((each) => each.organism === organism && each.stage === certified.outcome.stage),
        );
        assert.deepEqual(
          order,
          [...order].sort((a, b) => a - b),
        );
        assert.equal(new Set(order).size, order.length);
      }
    }),
  );
});

test("a late start asks for recent slots, an early one for the first", () => {
  assert.equal(open(10_000n).book.oldest, 10_000n - SLOTS_KEPT);
  assert.equal(open(3n).book.oldest, 1n);
});

test("two certificates for one decision are reported, and the first stands", () => {
  const { book, log } = open(5n);
  const first = outcome(config, "atelier", "candidate", 5n);
  book.note("atelier", first);
  book.note("atelier", first);
  assert.equal(log.lines.length, 0);
  assert.equal(book.knows("atelier", first.outcome), true);
  const second = outcome(config, "atelier", "candidate", 5n, new Uint8Array([99]));
  assert.equal(book.knows("atelier", second.outcome), false);
  book.note("atelier", second);
  assert.equal(log.lines.length, 1);
  assert.deepEqual(book.get("atelier", "candidate", 5n)?.certified, first);
});

test("a block leads to its slot when this lattice's header for it was accepted", () => {
  const { book } = open(5n);
  const header = {
    version: 1 as const,
    parentHash: new Uint8Array(32),
    blockHash: new Uint8Array(32).fill(8),
    blockNumber: 3n,
    sequencer: new Uint8Array(20),
    signature: new Uint8Array(65),
  };
  book.note("relay", outcome(config, "relay", "accepted", 4n, encode(ACCEPTED, header)));
  assert.equal(book.slotOfBlock(header.blockHash), 4n);
  assert.equal(book.slotOfBlock(new Uint8Array(32)), undefined);
});

test("a watcher gets what is held, then what comes, and heartbeats; nothing twice", async () => {
  const { book } = open(20n, 200);
  for (const slot of [18n, 19n, 20n]) book.note("zipnet", outcome(config, "zipnet", "broadcast", slot));
  const stop = new AbortController();
  const seen: SlotEvent[] = [];
  for await (const event of book.watch(19n, stop.signal)) {
    if (event.type === "outcome" && event.known.certified.outcome.slot === 20n) {
      book.note("unseal", outcome(config, "unseal", "unsealed", 18n));
      book.note("unseal", outcome(config, "unseal", "unsealed", 20n));
    }
    if (event.type === "heartbeat") stop.abort();
    seen.push(event);
  }
  assert.deepEqual(
    seen.map((event) => (event.type === "heartbeat" ? event.slot : event.known.certified.outcome.stage)),
    ["broadcast", "broadcast", "unsealed", 20n],
  );
  const live = book.watch(0n, AbortSignal.timeout(10_000));
  const next = live.next();
  book.note("offer", outcome(config, "offer", "blind", 20n));
  const { value } = await next;
  assert.ok(value?.type === "outcome");
  assert.equal(value.known.organism, "offer");
  await live.return();
});

test("who asks for too old a slot is told the oldest; who is too slow is told to resume", async () => {
  const { book } = open(1000n);
  const signal = AbortSignal.timeout(60_000);
  await assert.rejects(book.watch(1n, signal).next(), { reason: "OUTCOME_TOO_OLD", metadata: { oldest_slot: "488" } });
  const slow = book.watch(1000n, signal);
  const first = slow.next();
  for (let slot = 1000n; slot < 1000n + 9000n; slot++) book.note("zipnet", outcome(config, "zipnet", "header", slot));
  await assert.rejects(
    (async () => {
      await first;
      for await (const _ of slow);
    })(),
    { reason: "SLOW_CONSUMER" },
  );
});
