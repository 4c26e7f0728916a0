/** Readers learn of a new roster from whoever tells them, and believe the certificate only. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { dealCommittee } from "../../test/test-lattice.ts";
import { encode } from "../codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { recoverSecret } from "../crypto/shamir.ts";
import type { Timers } from "../ports.ts";
import { toWireOutcome } from "./committee-wire.ts";
import type { CommitteeClient } from "./outcome-follower.ts";
import { RosterWatch } from "./roster-watch.ts";

const committee = dealCommittee(3, { genesisMs: 1_790_000_000_000, slotMs: 1000 });
const { config, rosters } = committee;
const ACTIVATION = 20n;
const log = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const resting: Timers = {
  elapsedMs: () => 0,
  after: () => () => undefined,
  every: () => () => undefined,
  soon: () => {},
};
const addresses = ["a:1", "b:1", "c:1"];
const endpoints = () => ({
  zipnet: addresses,
  unseal: addresses,
  offer: addresses,
  atelier: addresses,
  relay: addresses,
  tally: addresses,
});

function successor(change: Partial<Roster> = {}): Outcome {
  const roster: Roster = { ...rosters.relay, epoch: 1n, activationSlot: ACTIVATION, ...change };
  return {
    version: 1,
    committee: roster.committee,
    generation: 0n,
    epoch: 1n,
    slot: ACTIVATION,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: encode(ROSTER, roster),
    bodyHash: undefined,
  };
}
const secret = (): Uint8Array =>
  recoverSecret(
    committee.secrets.slice(0, 2).map(({ certificateShare }, index) => ({ index, share: certificateShare })),
  );
const certified = (outcome: Outcome): CertifiedOutcome => ({
  outcome,
  signature: blsSign(secret(), outcomeDigest(outcome)),
  signers: [],
});

/** A watch over members of which each answers with the roster under its address; nothing: it is not there. */
function watchOf(answers: Readonly<Record<string, CertifiedOutcome>>): RosterWatch {
  return new RosterWatch({
    config,
    rosters,
    organisms: ["relay"],
    endpoints,
    clock: { nowMs: () => config.genesisMs },
    log,
    timers: resting,
    connect: (address) => {
      const getRosters = async () => {
        const answer = answers[address];
        if (answer === undefined) throw new Error("nobody there");
        return { rosters: [toWireOutcome(answer)] };
      };
      return { getRosters, close: () => undefined } as unknown as CommitteeClient;
    },
  });
}

describe("rosters followed from outside", () => {
  before(initCrypto);

  test("a certified successor is used from its activation slot on, whichever member tells of it", async () => {
    const watch = watchOf({ "b:1": certified(successor()) });
    await watch.ask();
    assert.equal(watch.at("relay", ACTIVATION).epoch, 0n, "the first member is not there");
    await watch.ask();
    assert.equal(watch.at("relay", ACTIVATION - 1n).epoch, 0n);
    assert.equal(watch.at("relay", ACTIVATION).epoch, 1n);
    watch.close();
  });

  test("one that the pinned key has not signed is not believed", async () => {
    const honest = certified(successor());
    const forged = { ...honest, outcome: successor({ sealingUntilSlot: 7n }) };
    const watch = watchOf({ "a:1": forged, "b:1": { ...honest, outcome: { ...honest.outcome, slot: 21n } } });
    for (let turn = 0; turn < 3; turn++) await watch.ask();
    assert.equal(watch.at("relay", ACTIVATION + 5n).epoch, 0n);
    watch.close();
  });
});
