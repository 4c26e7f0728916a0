/** What a member says of an auction that another generation of the log goes on with. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { createOpeningPool } from "@lattice/organism/crypto/opening-pool.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { nodeTimers } from "@lattice/organism/node/node-timers.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { dealCommittee, random, searcher, type TestCommittee } from "../../test/fixture.ts";
import { sealBid } from "../client/bid.ts";
import { bundleIdentity, parseBid, slotIdentity } from "../core/bid.ts";
import type { LiveBid, SlotState, VerdictTopic } from "../core/types.ts";
import { encodeVerdict } from "../core/verdict.ts";
import { createEffects, type OfferHost } from "./effects.ts";
import { Openings } from "./openings.ts";
import { ReceivedBids } from "./received.ts";

const SLOT = 5n;
const ALICE = searcher(1);
const log = createLogger("silent", {});
const meters = createNoMeters();
const absent = (): never => assert.fail("not part of this test");

describe("an auction that was opened in a generation that is over", () => {
  let committee: TestCommittee;
  let openings: Openings[];

  before(async () => {
    await initCrypto();
    committee = dealCommittee();
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
          log,
          meters,
        }),
    );
  });

  function bidOf(nonce: bigint, amountWei: bigint): LiveBid {
    const { bid } = sealBid({
      config: committee.config,
      sealingKey: committee.roster.sealingKey ?? assert.fail(),
      epoch: 0n,
      slot: SLOT,
      class: "blind",
      searcherKey: ALICE.key,
      nonce,
      escrowAccount: ALICE.address,
      capWei: 1000n,
      amountWei,
      references: [],
      bundle: {
        version: 1,
        items: [{ type: "transaction", raw: Uint8Array.of(1) }],
        mayRevert: [],
        refundRecipient: undefined,
      },
      random,
    });
    const { id, body } = parseBid(bid) ?? assert.fail();
    const { context, escrowAccount, capWei, replacement, valueLayer, bundleLayer } = body;
    return { id, context, escrowAccount, capWei, replacement, valueLayer, bundleLayer };
  }

  /** The shares of members 0 and 1. */
  function sharesOf(use: "slot" | "bundle", identity: Uint8Array): Map<number, Uint8Array> {
    return new Map([0, 1].map((index) => [index, openings[index]?.shareOf(use, SLOT, identity) ?? absent()]));
  }

  /** Closed with these bids; `opened` are in the phase after that. */
  function closedWith(bids: readonly LiveBid[], opened: readonly LiveBid[] = []): SlotState {
    const identity = slotIdentity({ committee: committee.roster.committee, epoch: 0n, slot: SLOT });
    return {
      bids: new Map(bids.map((bid) => [toHex(bid.id), bid])),
      standings: new Map(),
      nonces: new Map(),
      blindClosed: true,
      blindIds: bids.map(({ id }) => id),
      phase: opened.length === 0 ? "closed" : "opening",
      contestants: bids.map(({ id }) => id),
      slotShares: sharesOf("slot", identity),
      opened: opened.map(({ id }) => id),
      bundleShares: new Map(opened.map((bid) => [toHex(bid.id), sharesOf("bundle", bundleIdentity(bid.context))])),
    };
  }

  /** Member 2, for which the state is `now.slot`. */
  function memberOn(now: { slot: SlotState }): (topic: VerdictTopic) => Promise<unknown> {
    const { config, roster, rosters } = committee;
    const secrets = committee.secrets[2] ?? assert.fail();
    const host: OfferHost = {
      config,
      organism: "offer",
      committee: roster.committee,
      self: 2,
      roster,
      rosterAt: () => roster,
      sharesAt: absent,
      rosters,
      get settings() {
        return absent();
      },
      secrets,
      clock: { nowMs: () => config.genesisMs },
      timers: nodeTimers,
      random,
      get journal() {
        return absent();
      },
      log,
      meters,
      bodies: { put: async () => new Uint8Array(32), get: absent },
      directory: "",
      state: () => ({
        slots: new Map([[SLOT, now.slot]]),
        accounts: new Map(),
        escrow: new Map(),
        escrowSlot: 0n,
        query: undefined,
        debts: new Map(),
      }),
      caughtUp: () => true,
      submit: absent,
      outcome: () => undefined,
      certified: () => undefined,
      watch: absent,
      observed: () => undefined,
      fetchBody: absent,
      wake: () => undefined,
    };
    const effects = createEffects(host, {
      openings: openings[2] ?? assert.fail(),
      received: new ReceivedBids(),
      escrow: undefined,
      stopped: new AbortController().signal,
    });
    return (topic) => effects.execute({ type: "verdict", topic, key: `${topic}/${SLOT}`, slot: SLOT, promise: true });
  }

  const opens = (topic: VerdictTopic, bid: LiveBid) => ({
    type: "saw",
    topic,
    slot: SLOT,
    fact: encodeVerdict({ type: "open", bidIds: [bid.id] }),
  });

  test("is judged by the bids that take part in it now", async () => {
    const [low, high] = [bidOf(1n, 500n), bidOf(2n, 600n)];
    const now = { slot: closedWith([low]) };
    const verdict = memberOn(now);
    assert.deepEqual(await verdict("ranked"), opens("ranked", low));
    now.slot = closedWith([low, high]);
    assert.deepEqual(await verdict("ranked"), opens("ranked", high));
    now.slot = closedWith([low]);
    assert.deepEqual(await verdict("ranked"), opens("ranked", low));
  });

  test("is not said to have ended with a bundle that is not opened now", async () => {
    const bid = bidOf(3n, 500n);
    const now = { slot: closedWith([bid], [bid]) };
    const verdict = memberOn(now);
    const ended = await verdict("checked");
    assert.ok(ended !== undefined);
    now.slot = closedWith([bid]);
    assert.deepEqual(await verdict("ranked"), opens("ranked", bid));
    now.slot = closedWith([bid], [bid]);
    assert.deepEqual(await verdict("checked"), ended);
  });
});
