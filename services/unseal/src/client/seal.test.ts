/** Sealing, and what everybody can check afterwards. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { encode } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { identityShare, openIbe } from "@lattice/organism/crypto/ibe.ts";
import { recoverSecret } from "@lattice/organism/crypto/shamir.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import {
  contentHash,
  MESSAGE_CONTENT,
  type MessageContent,
  unsealIdentity,
} from "@lattice/organism/outcomes/unseal.ts";
import { dealLattice, random } from "../../test/lattice.ts";
import { contentSize, messageAad, SUITE, sealedSize, sealMessage, verifyOpening } from "./seal.ts";
import { sealingKeyOf } from "./sealing-key.ts";

const lattice = dealLattice();
const { config, sealingKey } = lattice;
const SLOT = 5n;
const content: MessageContent = {
  version: 1,
  rawTransaction: random(180),
  refund: { recipient: random(20), signature: random(65) },
  disclosure: { hash: true, target: false, everything: false },
};
const messageId = random(16);
const place = { config, sealingKey, epoch: 0n, slot: SLOT, messageId };

/** What t members could do together. */
function slotKey(slot: bigint): Uint8Array {
  const shares = lattice.secrets
    .slice(0, 2)
    .map(({ secondShare }, index) => ({ index, share: secondShare ?? random(0) }));
  const identity = unsealIdentity(committeeId(config, "unseal"), 0n, slot);
  return identityShare(recoverSecret(shares), SUITE, identity, random);
}
function open(sealed: Uint8Array, slot = SLOT, id = messageId) {
  const identity = unsealIdentity(committeeId(config, "unseal"), 0n, slot);
  return openIbe({ identityKey: slotKey(slot), aad: messageAad(identity, id), sealed });
}

before(() => initCrypto());

describe("sealMessage", () => {
  test("opens with the slot key to the same content; its size is known beforehand", () => {
    const sealed = sealMessage({ ...place, content, random });
    assert.equal(sealed.length, sealedSize(contentSize(content)));
    const opened = open(sealed);
    assert.ok("content" in opened);
    assert.deepEqual(opened.content, encode(MESSAGE_CONTENT, content));
    assert.notDeepEqual(sealed, sealMessage({ ...place, content, random }), "fresh every time");
  });

  test("opens under no other message id, slot, epoch or lattice", () => {
    const sealed = sealMessage({ ...place, content, random });
    assert.ok("failure" in open(sealed, SLOT, random(16)));
    assert.ok("failure" in open(sealed, SLOT + 1n));
    assert.ok("failure" in open(sealMessage({ ...place, epoch: 1n, content, random })));
    const elsewhere = { ...config, name: "another" };
    assert.ok("failure" in open(sealMessage({ ...place, config: elsewhere, content, random })));
    assert.throws(() => sealMessage({ ...place, messageId: random(15), content, random }), RangeError);
    assert.throws(() => sealMessage({ ...place, sealingKey: random(48), content, random }), RangeError);
  });
});

describe("verifyOpening", () => {
  const opening = () => {
    const sealed = sealMessage({ ...place, content, random });
    const opened = open(sealed);
    assert.ok("sigma" in opened);
    return { ...place, sealed, sigma: opened.sigma, contentHash: contentHash(messageId, opened.content) };
  };

  test("σ shows what the ciphertext held", () => {
    const verified = verifyOpening(opening());
    assert.ok("message" in verified);
    assert.deepEqual(verified.message, content);
  });

  test("a wrong σ, another place, another ciphertext, another hash are refused", () => {
    const good = opening();
    const failing = [
      { ...good, sigma: random(32) },
      { ...good, messageId: random(16) },
      { ...good, slot: SLOT + 1n },
      { ...good, epoch: 1n },
      { ...good, sealed: sealMessage({ ...place, content, random }) },
    ];
    for (const each of failing) assert.ok("failure" in verifyOpening(each));
    assert.deepEqual(verifyOpening({ ...good, contentHash: random(32) }), { failure: "other-content" });
  });
});

describe("sealingKeyOf", () => {
  test("a certified roster gives the key for its slots", () => {
    const found = sealingKeyOf(config, lattice.certifiedRoster, SLOT);
    assert.deepEqual(found, { key: sealingKey, epoch: 0n, fromSlot: 1n, toSlot: 1_000_000n });
    assert.deepEqual(sealingKeyOf(config, lattice.certifiedRoster, 1_000_001n), { refusal: "slot-not-served" });
    assert.deepEqual(sealingKeyOf(config, lattice.certifiedRoster, 0n), { refusal: "slot-not-served" });
  });

  test("nothing is believed without its certificate", () => {
    const { outcome, signature, signers } = lattice.certifiedRoster;
    const other = dealLattice();
    const refused = { refusal: "not-certified" };
    assert.deepEqual(sealingKeyOf(config, { outcome, signature: random(96), signers }, SLOT), refused);
    assert.deepEqual(sealingKeyOf(config, { outcome: { ...outcome, slot: 2n }, signature, signers }, SLOT), refused);
    assert.deepEqual(sealingKeyOf(config, other.certifiedRoster, SLOT), refused);
    assert.deepEqual(sealingKeyOf(other.config, lattice.certifiedRoster, SLOT), refused);
  });
});
