/** The machine alone: what it accepts, and for each of those the nearest thing it refuses. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { encode } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { UNSEALED, type UnsealedCommitment } from "@lattice/organism/outcomes/unseal.ts";
import { CommitteeDriver } from "../../test/committee-driver.ts";
import { attributionOf, broadcastOf, dealLattice, GAP_SLOTS, MEMBERS, outcomeOf, random } from "../../test/lattice.ts";
import { NO_BLIND_FACT, OPENED_FACT, sealedShareBytes } from "./codec.ts";
import { slotTimes } from "./timing.ts";
import { NO_BLIND_TOPIC, OPENED_TOPIC, type UnsealCommand } from "./types.ts";

const LATTICE = dealLattice();
const { config } = LATTICE;
const SLOT = 3n;
const SHARES_BEFORE_MS = config.unseal.content.sharesMs;

const box = (): Uint8Array => random(sealedShareBytes(MEMBERS));
const share = (slot: bigint, sealed = box(), epoch = 0n): UnsealCommand => ({ type: "share", slot, epoch, sealed });

/** A committee at the time of the shares, with Broadcast and BlindClosed of the slot observed. */
function ready(slot = SLOT) {
  const driver = new CommitteeDriver(LATTICE);
  driver.at(slot, SHARES_BEFORE_MS);
  const broadcast = broadcastOf(config, slot, []).outcome;
  const blind = outcomeOf(config, "offer", "blind", slot, "empty");
  const freeze: UnsealCommand = {
    type: "freeze",
    slot,
    epoch: 0n,
    broadcast: outcomeDigest(broadcast),
    blind: outcomeDigest(blind),
  };
  const observeBoth = (): void => {
    assert.equal(driver.observe("zipnet", broadcast), undefined);
    assert.equal(driver.observe("offer", blind), undefined);
  };
  return { driver, broadcast, blind, freeze, observeBoth };
}

function frozen(slot = SLOT) {
  const all = ready(slot);
  all.observeBoth();
  assert.equal(all.driver.command(0, all.freeze), undefined);
  return all;
}

const opened = (round: Partial<UnsealedCommitment>, base: { broadcast: Uint8Array; blind: Uint8Array | undefined }) =>
  encode(OPENED_FACT, {
    version: 1,
    commitment: encode(UNSEALED, { version: 1, ...base, messages: [], failures: [], ...round }),
    bodyHash: (round.messages ?? []).length > 0 ? new Uint8Array(32) : undefined,
  });

const message = (messageId: Uint8Array): UnsealedCommitment["messages"][number] => ({
  messageId,
  contentHash: new Uint8Array(32),
  disclosed: { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined },
});

describe("freeze record", () => {
  test("stands once both certified outcomes are observed, at its log position, once", () => {
    const { driver, freeze, observeBoth } = ready();
    observeBoth();
    assert.equal(driver.command(1, freeze), undefined);
    assert.equal(driver.state.slots.get(SLOT)?.freeze?.position, 3n);
    assert.equal(driver.command(2, freeze)?.reason, "FREEZE_STANDS");
  });

  test("is refused without certificates, or over other outcomes than the observed ones", () => {
    const { driver, broadcast, blind, freeze } = ready();
    assert.equal(driver.command(0, freeze)?.reason, "FREEZE_UNCERTIFIED");
    driver.observe("zipnet", broadcast);
    assert.equal(driver.command(0, freeze)?.reason, "FREEZE_UNCERTIFIED", "blind is missing");
    assert.equal(driver.command(0, { ...freeze, blind: undefined })?.reason, "FREEZE_UNCERTIFIED", "no q NoBlind");
    driver.observe("offer", blind);
    assert.equal(driver.command(0, { ...freeze, broadcast: random(32) })?.reason, "FREEZE_UNCERTIFIED");
    assert.equal(driver.command(0, { ...freeze, blind: random(32) })?.reason, "FREEZE_UNCERTIFIED");
    assert.equal(driver.command(0, { ...freeze, epoch: 1n })?.reason, "WRONG_EPOCH");
    assert.equal(driver.command(0, { ...freeze, slot: SLOT + 1n })?.reason, "FREEZE_UNCERTIFIED");
    assert.equal(driver.command(0, { ...freeze, slot: SLOT + 100n })?.reason, "SLOT_OUT_OF_WINDOW");
    assert.equal(driver.command(0, freeze), undefined);
  });

  test("names no blind outcome only after q NoBlind, and never when one is observed after all", () => {
    const { driver, broadcast, blind, freeze } = ready();
    driver.observe("zipnet", broadcast);
    assert.equal(driver.saw(0, NO_BLIND_TOPIC, SLOT, NO_BLIND_FACT), undefined);
    assert.equal(driver.command(0, { ...freeze, blind: undefined })?.reason, "FREEZE_UNCERTIFIED", "one is no quorum");
    assert.equal(driver.saw(1, NO_BLIND_TOPIC, SLOT, NO_BLIND_FACT), undefined);
    assert.equal(driver.state.slots.get(SLOT)?.noBlind, true);
    const late = ready();
    late.driver.observe("zipnet", broadcast);
    for (const author of [0, 1]) late.driver.saw(author, NO_BLIND_TOPIC, SLOT, NO_BLIND_FACT);
    late.driver.observe("offer", blind);
    assert.equal(late.driver.command(0, { ...freeze, blind: undefined })?.reason, "FREEZE_UNCERTIFIED");
    assert.equal(late.driver.command(0, freeze), undefined);
    assert.equal(driver.command(0, { ...freeze, blind: undefined }), undefined);
    assert.equal(driver.state.slots.get(SLOT)?.freeze?.blind, undefined);
  });

  test("is refused past the deadline, and for a decided slot", () => {
    const { driver, freeze, observeBoth } = ready();
    observeBoth();
    driver.nowMs = slotTimes(config, SLOT).expiryMs;
    assert.equal(driver.command(0, freeze)?.reason, "PAST_DEADLINE");
    driver.nowMs -= 1;
    assert.equal(driver.command(0, freeze), undefined);
    const skipped = ready();
    skipped.observeBoth();
    skipped.driver.skip(SLOT);
    assert.equal(skipped.driver.command(0, freeze)?.reason, "SLOT_DECIDED");
  });

  test("waits at the gate until somebody builds; the first slots of a lattice pass", () => {
    const last = BigInt(GAP_SLOTS);
    assert.equal(frozen(last).driver.state.slots.get(last)?.freeze !== undefined, true);
    const slot = last + 3n;
    const { driver, freeze, observeBoth } = ready(slot);
    observeBoth();
    assert.equal(driver.command(0, freeze)?.reason, "GATE_CLOSED");
    driver.observe("atelier", outcomeOf(config, "atelier", "candidate", slot - 1n, "skipped"));
    assert.equal(driver.command(0, freeze)?.reason, "GATE_CLOSED", "a skipped candidate builds nothing");
    driver.observe("atelier", outcomeOf(config, "atelier", "candidate", slot - last - 1n, "result"));
    assert.equal(driver.command(0, freeze)?.reason, "GATE_CLOSED", "one slot too old");
    assert.deepEqual(driver.duties(Number(slot % 3n)), []);
    driver.observe("atelier", outcomeOf(config, "atelier", "candidate", slot - last, "result"));
    assert.equal(driver.command(0, freeze), undefined);
  });
});

describe("slots in which nothing was broadcast", () => {
  test("an empty Broadcast is decided Empty over both outcomes, without freeze or shares", () => {
    const { driver, blind } = ready();
    const broadcast = outcomeOf(config, "zipnet", "broadcast", SLOT, "empty");
    driver.observe("zipnet", broadcast);
    assert.equal(driver.outcomes.get(SLOT), undefined);
    driver.observe("offer", blind);
    const outcome = driver.outcomes.get(SLOT);
    assert.equal(outcome?.kind, "empty");
    assert.deepEqual(
      outcome?.commitment,
      encode(UNSEALED, {
        version: 1,
        broadcast: outcomeDigest(broadcast),
        blind: outcomeDigest(blind),
        messages: [],
        failures: [],
      }),
    );
    assert.equal(driver.command(0, share(SLOT))?.reason, "SHARE_BEFORE_FREEZE", "its identity is never signed");
  });

  test("q NoBlind decide an empty slot too", () => {
    const { driver } = ready();
    for (const author of [0, 2]) driver.saw(author, NO_BLIND_TOPIC, SLOT, NO_BLIND_FACT);
    assert.equal(driver.outcomes.get(SLOT), undefined);
    driver.observe("zipnet", outcomeOf(config, "zipnet", "broadcast", SLOT, "empty"));
    assert.equal(driver.outcomes.get(SLOT)?.kind, "empty");
  });

  test("a skipped Broadcast skips the slot", () => {
    const { driver } = ready();
    driver.observe("zipnet", outcomeOf(config, "zipnet", "broadcast", SLOT, "skipped"));
    assert.equal(driver.outcomes.get(SLOT)?.kind, "skipped");
    assert.equal(driver.command(0, share(SLOT))?.reason, "SHARE_BEFORE_FREEZE");
  });
});

describe("shares", () => {
  test("before the freeze record: refused, and kept as evidence once a member", () => {
    const { driver, freeze, observeBoth } = ready();
    observeBoth();
    assert.equal(driver.command(1, share(SLOT))?.reason, "SHARE_BEFORE_FREEZE");
    assert.equal(driver.command(1, share(SLOT))?.reason, "SHARE_BEFORE_FREEZE");
    const evidence = driver.state.slots.get(SLOT)?.evidence ?? [];
    assert.deepEqual(
      evidence.map(({ member, kind, position }) => ({ member, kind, position })),
      [{ member: 1, kind: "share-before-freeze", position: 3n }],
    );
    assert.equal(driver.command(0, freeze), undefined);
    assert.equal(driver.command(1, share(SLOT)), undefined, "after the freeze it is a share like any other");
  });

  test("one a member and slot: a replay is a duplicate, another one is evidence", () => {
    const { driver } = frozen();
    const sealed = box();
    assert.equal(driver.command(0, share(SLOT, sealed)), undefined);
    assert.equal(driver.command(0, share(SLOT, sealed))?.reason, "DUPLICATE");
    assert.equal(driver.state.slots.get(SLOT)?.evidence.length, 0);
    assert.equal(driver.command(0, share(SLOT))?.reason, "SHARE_CONFLICT");
    assert.equal(driver.state.slots.get(SLOT)?.evidence[0]?.kind, "share-conflict");
    assert.deepEqual(driver.state.slots.get(SLOT)?.shares.get(0), sealed);
  });

  test("wrong slot, epoch, length, or time", () => {
    const { driver } = frozen();
    assert.equal(driver.command(0, share(SLOT, box(), 1n))?.reason, "WRONG_EPOCH");
    assert.equal(driver.command(0, share(SLOT + 1n))?.reason, "SHARE_BEFORE_FREEZE");
    assert.equal(driver.command(0, share(SLOT + 100n))?.reason, "SLOT_OUT_OF_WINDOW");
    assert.equal(driver.command(0, share(SLOT, random(sealedShareBytes(MEMBERS) - 1)))?.reason, "MALFORMED");
    driver.nowMs = slotTimes(config, SLOT).expiryMs;
    assert.equal(driver.command(0, share(SLOT))?.reason, "PAST_DEADLINE");
    driver.nowMs -= 1;
    assert.equal(driver.command(0, share(SLOT)), undefined);
    driver.skip(SLOT);
    assert.equal(driver.command(1, share(SLOT))?.reason, "SLOT_DECIDED");
    assert.equal(driver.state.slots.get(SLOT)?.shares.size, 0, "a skipped slot keeps no shares");
    driver.collapse(SLOT + 1n);
    assert.equal(driver.command(1, share(SLOT))?.reason, "SLOT_OUT_OF_WINDOW");
  });
});

describe("result", () => {
  const id = new Uint8Array(16).fill(7);
  const withShares = () => {
    const all = frozen();
    for (const author of [0, 1]) all.driver.command(author, share(SLOT));
    const base = { broadcast: outcomeDigest(all.broadcast), blind: outcomeDigest(all.blind) };
    return { ...all, base };
  };
  const agree = (driver: CommitteeDriver, fact: Uint8Array): string | undefined => {
    driver.saw(0, OPENED_TOPIC, SLOT, fact);
    return driver.saw(1, OPENED_TOPIC, SLOT, fact)?.reason;
  };

  test("what q members opened is a Result; nothing opened is Empty", () => {
    const some = withShares();
    assert.equal(agree(some.driver, opened({ messages: [message(id)] }, some.base)), undefined);
    assert.equal(some.driver.outcomes.get(SLOT)?.kind, "result");
    const none = withShares();
    const failures = [{ messageId: id, reason: "malformed" as const }];
    assert.equal(agree(none.driver, opened({ failures }, none.base)), undefined);
    assert.equal(none.driver.outcomes.get(SLOT)?.kind, "empty");
  });

  test("nothing is decided before freeze and t shares, or over other outcomes than the frozen", () => {
    const unfrozen = ready();
    unfrozen.observeBoth();
    const base = { broadcast: outcomeDigest(unfrozen.broadcast), blind: outcomeDigest(unfrozen.blind) };
    assert.equal(agree(unfrozen.driver, opened({}, base)), "FREEZE_MISSING");
    const early = frozen();
    early.driver.command(0, share(SLOT));
    assert.equal(agree(early.driver, opened({}, base)), "FREEZE_MISSING");
    for (const wrong of [
      opened({}, { ...base, blind: undefined }),
      opened({}, { ...base, broadcast: random(32) }),
      encode(OPENED_FACT, { version: 1, commitment: random(40), bodyHash: undefined }),
      encode(OPENED_FACT, {
        version: 1,
        commitment: encode(UNSEALED, { version: 1, ...base, messages: [message(id)], failures: [] }),
        bodyHash: undefined,
      }),
      random(8),
    ]) {
      assert.equal(agree(withShares().driver, wrong), "FACT_MISMATCH");
    }
  });

  test("landed messages belong to their own slot, or to the one slot they were carried from", () => {
    const [carried, ambiguous, own, foreign] = [1, 2, 3, 4].map((byte) => new Uint8Array(16).fill(byte));
    assert.ok(carried !== undefined && ambiguous !== undefined && own !== undefined && foreign !== undefined);
    const driver = new CommitteeDriver(LATTICE);
    const contents: [bigint, Uint8Array[]][] = [
      [1n, [carried, ambiguous]],
      [2n, [ambiguous, own]],
      [3n, [own]],
    ];
    for (const [slot, ids] of contents) {
      driver.at(slot, SHARES_BEFORE_MS);
      const broadcast = broadcastOf(config, slot, []).outcome;
      const blind = outcomeOf(config, "offer", "blind", slot, "empty");
      driver.observe("zipnet", broadcast);
      driver.observe("offer", blind);
      const base = { broadcast: outcomeDigest(broadcast), blind: outcomeDigest(blind) };
      driver.command(0, { type: "freeze", slot, epoch: 0n, ...base });
      for (const author of [0, 1]) driver.command(author, share(slot));
      const fact = opened({ messages: ids.map(message) }, base);
      for (const author of [0, 1]) driver.saw(author, OPENED_TOPIC, slot, fact);
    }
    const landed = (slot: bigint): readonly Uint8Array[] => driver.state.slots.get(slot)?.landed ?? [];
    driver.observe("tally", attributionOf(config, 2n, [foreign], false));
    driver.observe("tally", attributionOf(config, 3n, [carried, ambiguous, own, foreign]));
    assert.deepEqual(landed(1n), [carried]);
    assert.deepEqual(landed(2n), []);
    assert.deepEqual(landed(3n), [own]);
  });
});

describe("duties", () => {
  const kinds = (driver: CommitteeDriver, self: number): string[] => driver.duties(self).map(({ kind }) => kind);
  const first = Number(SLOT % BigInt(MEMBERS));
  const next = (first + 1) % MEMBERS;

  test("the slot's first member freezes at once, the others when it fails to", () => {
    const { driver, observeBoth } = ready();
    observeBoth();
    driver.at(SLOT, SHARES_BEFORE_MS + 1);
    assert.deepEqual(kinds(driver, first), ["freeze"]);
    assert.deepEqual(kinds(driver, next), []);
    driver.at(SLOT, SHARES_BEFORE_MS);
    assert.deepEqual(kinds(driver, next), ["freeze"]);
  });

  test("NoBlind at the blind deadline, not before, once", () => {
    const { driver, broadcast } = ready();
    driver.observe("zipnet", broadcast);
    driver.nowMs = slotTimes(config, SLOT).noBlindMs - 1;
    assert.deepEqual(kinds(driver, first), []);
    driver.nowMs += 1;
    assert.deepEqual(kinds(driver, first), ["no-blind"]);
    driver.saw(first, NO_BLIND_TOPIC, SLOT, NO_BLIND_FACT);
    assert.deepEqual(kinds(driver, first), []);
    driver.saw(next, NO_BLIND_TOPIC, SLOT, NO_BLIND_FACT);
    assert.deepEqual(kinds(driver, first), ["freeze"]);
  });

  test("shares not before their time; opening from t shares on; nothing past the deadline", () => {
    const { driver } = frozen();
    driver.at(SLOT, SHARES_BEFORE_MS + 1);
    assert.deepEqual(kinds(driver, 0), []);
    driver.at(SLOT, SHARES_BEFORE_MS);
    assert.deepEqual(kinds(driver, 0), ["share"]);
    driver.command(0, share(SLOT));
    assert.deepEqual(kinds(driver, 0), []);
    assert.deepEqual(kinds(driver, 1), ["share"]);
    driver.command(1, share(SLOT));
    assert.deepEqual(kinds(driver, 1), ["open"]);
    assert.deepEqual(kinds(driver, 2), ["share", "open"]);
    driver.nowMs = slotTimes(config, SLOT).expiryMs;
    for (const self of [0, 1, 2]) assert.deepEqual(kinds(driver, self), []);
  });
});
