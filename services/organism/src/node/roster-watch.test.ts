/** Readers learn of a new roster from whoever tells them, and believe the certificate only. */
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout } from "node:timers/promises";
import { dealCommittee } from "../../test/test-lattice.ts";
import { decode, encode, fromHex } from "../codec/codec.ts";
import { CERTIFIED, type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { checkRoster, ROSTER, ROSTER_STAGE, type Roster, rosterQuorum } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { recoverSecret } from "../crypto/shamir.ts";
import type { Timers } from "../ports.ts";
import { BAD_ROSTERS_MAX, toWireOutcome } from "./committee-wire.ts";
import type { CommitteeClient } from "./outcome-follower.ts";
import { RosterBook } from "./roster-book.ts";
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

describe("a book of rosters", () => {
  const [one, other] = [successor(), successor({ sealingUntilSlot: 7n })];
  let errors: string[] = [];
  let counted = 0;
  let directory: string;

  const bookOf = (faults: "none" | "third", members: number) => {
    errors = [];
    counted = 0;
    const dealt = dealCommittee(members, {}, faults);
    const from = dealt.rosters.relay;
    const { quorum } = rosterQuorum(dealt.config, "relay", from);
    const held = dealt.secrets
      .slice(0, quorum)
      .map(({ certificateShare }, index) => ({ index, share: certificateShare }));
    const key = recoverSecret(held);
    const sign = ({ epoch, slot }: Outcome, change: Partial<Roster>): CertifiedOutcome => {
      const roster: Roster = { ...from, epoch, activationSlot: slot, ...change };
      const outcome = { ...one, committee: from.committee, epoch, slot, commitment: encode(ROSTER, roster) };
      return { outcome, signature: blsSign(key, outcomeDigest(outcome)), signers: [] };
    };
    const book = new RosterBook({
      config: dealt.config,
      rosters: dealt.rosters,
      log: { ...log, error: (message) => errors.push(message) },
      meters: { count: () => counted++ },
      evidenceDirectory: directory,
    });
    return { book, config: dealt.config, x: sign(one, {}), y: sign(other, { sealingUntilSlot: 7n }) };
  };

  before(async () => {
    directory = await mkdtemp(join(tmpdir(), "lattice-book-"));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  test("whoever tells of many that do not stand is not listened to for long", async () => {
    let passedOver = 0;
    const book = new RosterBook({ config, rosters, log: { ...log, warn: () => passedOver++ } });
    const forged = Array.from({ length: 1000 }, (_, index) => {
      const outcome = successor({ sealingUntilSlot: BigInt(index + 100) });
      return { outcome, signature: new Uint8Array(96), signers: [] };
    });
    const client = (_: string, address: string) => {
      const told = [...(address === "a:1" ? forged : []), certified(one)];
      return { getRosters: async () => ({ rosters: told.map(toWireOutcome) }) } as unknown as CommitteeClient;
    };
    await book.ask(["relay"], 0, endpoints, client);
    assert.equal(passedOver, BAD_ROSTERS_MAX, "each costs a pairing");
    assert.equal(book.newest("relay").epoch, 1n);
  });

  test("f + 1 members must tell of a roster: one of four is not enough, two are; the same one twice is one", () => {
    const { book, x } = bookOf("third", 4);
    book.hear("relay", x, "a:1");
    book.hear("relay", x, "a:1");
    assert.equal(book.newest("relay").epoch, 0n);
    book.hear("relay", x, "c:1");
    assert.equal(book.newest("relay").epoch, 1n);
    assert.deepEqual([errors, counted], [[], 0]);
  });

  test("of two certified ones of an epoch none is used until a quorum tells of it; both are kept", async () => {
    const { book, config: given, x, y } = bookOf("third", 4);
    for (const teller of ["a:1", "b:1"]) book.hear("relay", x, teller);
    assert.equal(book.newest("relay").epoch, 1n);
    book.hear("relay", y, "c:1");
    assert.match(errors.join(), /two certified rosters of one epoch/);
    assert.equal(counted, 1);
    assert.equal(book.newest("relay").epoch, 0n, "two of four are no quorum");
    book.hear("relay", y, "c:1");
    book.hear("relay", x, "d:1");
    assert.equal(book.newest("relay").sealingUntilSlot, 0n);
    assert.equal(book.newest("relay").epoch, 1n);
    assert.equal(counted, 1, "said once");
    // Nobody waits for the disk: a file may be there and empty.
    const kept = async (): Promise<string[]> => {
      const all = (await readdir(directory)).map((name) => readFile(join(directory, name), "utf8"));
      return (await Promise.all(all)).filter((text) => text.endsWith("\n"));
    };
    while ((await kept()).length < 2) await setTimeout(10);
    const found = (await kept()).map((hex) => decode(CERTIFIED, fromHex(hex.trim())));
    assert.equal(found.length, 2);
    for (const each of found) assert.ok("roster" in checkRoster(given, "relay", each), "anybody can judge it");
  });

  test("what this process's own log says stands, whatever others show", () => {
    const { book, x, y } = bookOf("third", 4);
    book.learn("relay", y);
    assert.equal(book.newest("relay").sealingUntilSlot, 7n);
    for (const teller of ["a:1", "b:1", "c:1"]) book.hear("relay", x, teller);
    assert.equal(book.newest("relay").sealingUntilSlot, 7n);
    assert.equal(counted, 1);
  });
});

describe("rosters followed from outside", () => {
  before(initCrypto);

  test("a certified successor is used from its activation slot on, whichever member tells of it", async () => {
    const watch = watchOf({ "c:1": certified(successor()) });
    await watch.ask();
    assert.equal(watch.at("relay", ACTIVATION).epoch, 0n, "the first two members are not there");
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
