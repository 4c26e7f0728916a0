import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { dealCommittee, SILENT } from "../../test/test-lattice.ts";
import { type CertifiedCheckpoint, type Checkpoint, checkpointDigest, stateHash } from "../committee/checkpoint.ts";
import { type EraLinks, followLinks } from "../committee/era-links.ts";
import { type Eras, eraNumberOf, eraOfEpoch, pinnedEras } from "../committee/eras.ts";
import type { Roster } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { committeeId } from "../identity/lattice-config.ts";
import { type DealtEpoch, firstEpoch, type NextEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import { EraMark, type Standing } from "./era-mark.ts";
import { fetchSnapshot } from "./snapshot-fetcher.ts";

const dealt = dealCommittee(3, {});
const { config } = dealt;
let zero: DealtEpoch;
let one: NextEpoch;
let two: NextEpoch;

before(async () => {
  await initCrypto();
  zero = firstEpoch(dealt, "relay", 2);
  one = nextEpoch(zero, { activationSlot: 12n, newEra: true });
  two = nextEpoch(one, { activationSlot: 30n });
});

function follow(...links: EraLinks): Eras {
  const followed = followLinks(config, "relay", links);
  return "eras" in followed ? followed.eras : assert.fail(followed.problem);
}

function memoryJournal() {
  const kept = new Map<string, Uint8Array>();
  return {
    get: (name: string) => kept.get(name),
    async put(name: string, bytes: Uint8Array): Promise<void> {
      kept.set(name, bytes);
    },
  };
}

/** A log that stands in this roster's epoch and tells of these links. */
function standing(roster: Roster, ...links: EraLinks): Standing {
  const eras = follow(...links);
  const keyIsOver = (epoch: bigint): boolean => eraOfEpoch(eras, epoch).number < eraNumberOf(roster);
  return { organism: "relay", roster, eras: () => eras, keyIsOver };
}

describe("the era that a log was seen to stand in", () => {
  test("outlasts a restart from a state before its border, or from one that does not tell of it", async () => {
    const journal = memoryJournal();
    const known = () => follow(one.certified);
    const announced = new EraMark(standing(zero.roster, one.certified), journal, known);
    assert.equal(announced.note(), undefined, "announced only");
    assert.equal(announced.isOver(0n), false);
    const beyond = new EraMark(standing(one.roster, one.certified), journal, known);
    await beyond.note();
    assert.equal(beyond.note(), undefined, "once");
    for (const state of [standing(zero.roster, one.certified), standing(zero.roster)]) {
      assert.equal(state.keyIsOver(0n), false, "by the state alone");
      const again = new EraMark(state, journal, known);
      assert.deepEqual([again.isOver(0n), again.isOver(1n), again.isOver(2n)], [true, false, false]);
    }
    // Without the link it cannot be told whose key an epoch has: it is learned first.
    const unknown = new EraMark(standing(zero.roster), journal, () => pinnedEras(config, "relay"));
    assert.equal(unknown.isOver(1n), true);
  });

  test("is not noted when it cannot be kept", async () => {
    const journal = memoryJournal();
    let full = true;
    const put: typeof journal.put = async (name, bytes) => {
      if (full) throw new Error("ENOSPC");
      await journal.put(name, bytes);
    };
    const known = () => follow(one.certified);
    const mark = new EraMark(standing(one.roster, one.certified), { get: journal.get, put }, known);
    await assert.rejects(mark.note() ?? assert.fail());
    full = false;
    await (mark.note() ?? assert.fail("tried again"));
    assert.equal(new EraMark(standing(zero.roster), journal, known).isOver(0n), true);
  });
});

describe("snapshots of several eras", () => {
  const state = new Uint8Array([7]);
  function certify(by: DealtEpoch, generation: bigint, position: bigint): CertifiedCheckpoint {
    const hash = stateHash(state);
    const checkpoint: Checkpoint = {
      version: 3,
      committee: committeeId(config, "relay"),
      generation,
      epoch: by.roster.epoch,
      rules: 5,
      position,
      head: new Uint8Array(32),
      stateHash: hash,
      stateBytes: state.length,
      guestHash: hash,
      guestBytes: state.length,
    };
    return { checkpoint, signature: blsSign(by.secret, checkpointDigest(checkpoint)), signers: [] };
  }
  const fetch = (held: readonly CertifiedCheckpoint[], wanted: (certified: CertifiedCheckpoint) => boolean) => {
    let eras = pinnedEras(config, "relay");
    return fetchSnapshot({
      config,
      organism: "relay",
      sources: held.map((each, index) => ({ name: `${index}`, held: async () => [each], state: async () => state })),
      wanted,
      log: SILENT,
      eras: () => eras,
      learnEras: async () => {
        eras = follow(one.certified);
      },
    });
  };

  test("where a later key has certified any, nothing under an earlier one is taken, whatever is wanted", async () => {
    const stolen = certify(zero, 1n, 0n);
    const later = ({ checkpoint }: CertifiedCheckpoint): boolean => checkpoint.generation > 0n;
    assert.equal((await fetch([certify(zero, 0n, 40n), stolen], later))?.certified, stolen, "nobody knows better");
    assert.equal(await fetch([stolen, certify(one, 0n, 80n)], later), undefined);
    const begun = certify(two, 1n, 0n);
    assert.equal((await fetch([stolen, certify(one, 0n, 80n), begun], later))?.certified, begun);
    const newest = certify(one, 0n, 80n);
    assert.equal((await fetch([certify(zero, 0n, 900n), newest], () => true))?.certified, newest);
  });
});
