/** Which links a reader takes of what members tell it. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import type { CertifiedOutcome } from "../committee/outcome.ts";
import { initCrypto } from "../crypto/engine.ts";
import { dealCommittee, type TestCommittee } from "../testing/dealt-committee.ts";
import { type DealtEpoch, firstEpoch, type NextEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import { EraBook, linksFromJson, linksToJson } from "./era-book.ts";
import { takeTold } from "./era-watch.ts";

let dealt: TestCommittee;
let zero: DealtEpoch;
let one: NextEpoch;
let two: NextEpoch;
let stray: NextEpoch;

before(async () => {
  await initCrypto();
  // Four members, one may be corrupt: two must tell.
  dealt = dealCommittee(4, {}, "third");
  zero = firstEpoch(dealt, "relay", 3);
  one = nextEpoch(zero, { activationSlot: 100n, newEra: true });
  two = nextEpoch(one, { activationSlot: 200n, newEra: true });
  stray = nextEpoch(zero, { activationSlot: 100n, newEra: true });
});

function taken(...told: readonly (readonly CertifiedOutcome[])[]): EraBook {
  const eras = new EraBook(dealt.config);
  takeTold({ config: dealt.config, eras }, "relay", new Map(told.map((each, index) => [`m${index}`, each])));
  return eras;
}

test("f + 1 members must tell of the same link, each of them once", () => {
  const first = dealt.certifiedRoster;
  assert.deepEqual(taken([first, one.certified]).links("relay"), []);
  assert.deepEqual(taken([first, one.certified, one.certified]).links("relay"), []);
  assert.deepEqual(taken([one.certified], [stray.certified]).links("relay"), []);
  assert.deepEqual(taken([first, one.certified], [one.certified]).links("relay"), [one.certified]);
  assert.deepEqual(taken([one.certified], [stray.certified], [one.certified]).links("relay"), [one.certified]);
});

test("a chain is taken in one go, as far as it is told of; a link out of turn is none", () => {
  const whole = [two.certified, one.certified];
  assert.deepEqual(taken(whole, whole).links("relay"), [one.certified, two.certified]);
  assert.deepEqual(taken(whole, [one.certified]).links("relay"), [one.certified]);
  assert.deepEqual(taken([two.certified], [two.certified]).links("relay"), []);
});

test("what is known stays, whatever is told, and reads the same from a file", () => {
  const eras = taken([one.certified], [one.certified]);
  const others = new Map(["a", "b", "c"].map((name) => [name, [stray.certified]]));
  takeTold({ config: dealt.config, eras }, "relay", others);
  assert.deepEqual(eras.links("relay"), [one.certified]);
  const again = new EraBook(dealt.config);
  assert.equal(again.learnAll(linksFromJson(linksToJson(eras.all))), undefined);
  assert.deepEqual(again.of("relay"), eras.of("relay"));
  assert.match(new EraBook(dealt.config).learnAll({ relay: [two.certified] }) ?? "", /relay: era after 0/);
});

test("whoever tells of many links that do not stand is not listened to for long", (context) => {
  const eras = new EraBook(dealt.config);
  const { outcome } = one.certified;
  const forged = Array.from({ length: 1000 }, (_, index) => ({
    ...one.certified,
    outcome: { ...outcome, generation: BigInt(index + 1) },
  }));
  const judged = context.mock.method(eras, "of");
  const told = new Map([
    ["liar", [...forged, one.certified]],
    ["a", [one.certified]],
    ["b", [one.certified]],
  ]);
  takeTold({ config: dealt.config, eras }, "relay", told);
  assert.deepEqual(eras.links("relay"), [one.certified]);
  assert.ok(judged.mock.callCount() < 100, `${judged.mock.callCount()} links judged: each costs a pairing`);
});
