import assert from "node:assert/strict";
import { before, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { createOpeningPool } from "@lattice/organism/crypto/opening-pool.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { dealCommittee, random, searcher, type TestCommittee } from "../../test/fixture.ts";
import { sealForged } from "../../test/forge.ts";
import { sealBid } from "../client/bid.ts";
import { rulesOf } from "../core/auction.ts";
import { bundleIdentity, parseBid, slotIdentity } from "../core/bid.ts";
import { SEALED_OVERHEAD_BYTES, VALUE_LAYER_BYTES } from "../core/layers.ts";
import type { LiveBid } from "../core/types.ts";
import { Openings } from "./openings.ts";

const SLOT = 5n;
const ALICE = searcher(1);
let committee: TestCommittee;
let openings: Openings[];

before(async () => {
  await initCrypto();
  committee = dealCommittee();
  const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  openings = committee.secrets.map(
    (secrets, self) =>
      new Openings({
        config: committee.config,
        committee: committee.roster.committee,
        rosterAt: () => committee.roster,
        self,
        boxKey: agreementKey(secrets.boxKey),
        shareAt: () => secrets.secondShare,
        pool: createOpeningPool({ workers: 0 }),
        random,
        log: silent,
        meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
      }),
  );
});

function live(raw: Uint8Array): LiveBid {
  const { id, body } = parseBid(raw) ?? assert.fail();
  const { context, escrowAccount, capWei, replacement, valueLayer, bundleLayer } = body;
  return { id, context, escrowAccount, capWei, replacement, valueLayer, bundleLayer };
}
const optionsOf = (nonce: bigint) => ({
  config: committee.config,
  sealingKey: committee.roster.sealingKey ?? assert.fail(),
  epoch: 0n,
  slot: SLOT,
  class: "blind" as const,
  searcherKey: ALICE.key,
  nonce,
  escrowAccount: ALICE.address,
  capWei: 1000n,
  amountWei: 500n,
  references: [],
  bundle: {
    version: 1 as const,
    items: [{ type: "transaction" as const, raw: Uint8Array.of(1) }],
    mayRevert: [],
    refundRecipient: undefined,
  },
  random,
});
const member = (index: number): Openings => openings[index] ?? assert.fail();
const slotBox = (index: number) =>
  member(index).shareOf("slot", SLOT, slotIdentity({ committee: committee.roster.committee, epoch: 0n, slot: SLOT }));

test("any two good shares open the values alike; a bad one among three is passed over; one is not enough", async () => {
  const sound = live(sealBid(optionsOf(1n)).bid);
  const garbled = live(
    sealForged({ ...optionsOf(2n), value: new Uint8Array(VALUE_LAYER_BYTES - SEALED_OVERHEAD_BYTES) }).bid,
  );
  const rules = rulesOf(committee.config);
  const values = (self: number, boxes: [number, Uint8Array][]) =>
    member(self).values(SLOT, [sound, garbled], new Map(boxes), new Map(), rules);
  const [a, b, c] = [slotBox(0), slotBox(1), slotBox(2)];
  const first = await values(0, [
    [0, a],
    [1, b],
  ]);
  assert.deepEqual(
    first?.valid.map(({ bidId, amountWei }) => [toHex(bidId), amountWei]),
    [[toHex(sound.id), 500n]],
  );
  assert.deepEqual(
    first?.voids.map(({ reason, chargeWei }) => [reason, chargeWei]),
    [["value-malformed", 1000n]],
  );
  assert.deepEqual(
    await values(1, [
      [1, b],
      [2, c],
    ]),
    first,
  );
  // Member 0's share of something else, boxed as if it were of the slot.
  const wrong = member(0).shareOf(
    "bundle",
    SLOT,
    slotIdentity({ committee: committee.roster.committee, epoch: 0n, slot: SLOT }),
  );
  assert.equal(
    await values(2, [
      [0, wrong],
      [1, b],
    ]),
    undefined,
  );
  assert.deepEqual(
    await values(2, [
      [0, wrong],
      [1, b],
      [2, c],
    ]),
    first,
  );
  assert.equal(await values(0, [[1, b]]), undefined);
  assert.equal(
    await values(0, [
      [1, b],
      [2, b],
    ]),
    undefined,
    "a box copied under another author opens to nothing",
  );
  assert.equal(
    await values(0, [
      [1, b],
      [2, new Uint8Array(100)],
    ]),
    undefined,
  );
});

test("a bundle opens with shares of its own identity only", async () => {
  const bid = live(sealBid(optionsOf(3n)).bid);
  const other = live(sealBid(optionsOf(4n)).bid);
  const box = (index: number, of: LiveBid) => member(index).shareOf("bundle", SLOT, bundleIdentity(of.context));
  const opened = await member(0).bundle(
    SLOT,
    bid,
    new Map([
      [0, box(0, bid)],
      [2, box(2, bid)],
    ]),
  );
  assert.ok(opened?.plain !== undefined);
  assert.equal(
    await member(0).bundle(
      SLOT,
      bid,
      new Map([
        [0, box(0, other)],
        [2, box(2, other)],
      ]),
    ),
    undefined,
  );
  assert.equal(
    await member(0).bundle(
      SLOT,
      bid,
      new Map([
        [0, slotBox(0)],
        [2, slotBox(2)],
      ]),
    ),
    undefined,
  );
});
