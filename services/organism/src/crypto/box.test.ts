import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../codec/codec.ts";
import { BOX_OVERHEAD_BYTES, openAsOne, openFrom, sealTo, sealToAll } from "./box.ts";
import { AES_128_GCM, deriveKeyPair, hpkeOpen, hpkeSeal } from "./hpke.ts";
import { agreementKey, BadPublicKey } from "./x25519.ts";

const vectors = JSON.parse(readFileSync(new URL("./vectors/hpke.json", import.meta.url), "utf8"));
const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));
const INFO = Buffer.from("info");
const AAD = Buffer.from("aad");

/** Every single-bit change of `bytes`, or a sample of them. */
function* flips(bytes: Uint8Array, step = 1): Generator<Uint8Array> {
  for (let bit = 0; bit < bytes.length * 8; bit += step) {
    const flipped = Uint8Array.from(bytes);
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    yield flipped;
  }
}

test("RFC 9180 A.1.1", () => {
  const v = vectors.rfc9180;
  const ephemeral = deriveKeyPair(fromHex(v.ikmE));
  assert.equal(toHex(ephemeral.publicKey), v.enc);
  const sealed = hpkeSeal(
    fromHex(v.pkRm),
    fromHex(v.info),
    fromHex(v.aad),
    fromHex(v.plaintext),
    ephemeral,
    AES_128_GCM,
  );
  assert.equal(toHex(sealed), v.enc + v.ciphertext);
  const opened = hpkeOpen(agreementKey(fromHex(v.skRm)), fromHex(v.info), fromHex(v.aad), sealed, AES_128_GCM);
  assert.equal(opened && toHex(opened), v.plaintext);
});

test("opens what another HPKE implementation sealed", () => {
  for (const { secret, info, plaintext, sealed } of vectors.pyca.cases) {
    const opened = openFrom(agreementKey(fromHex(secret)), fromHex(info), new Uint8Array(), fromHex(sealed));
    assert.equal(opened && toHex(opened), plaintext);
  }
});

test("one recipient: what is sealed opens, and only so", () => {
  const key = agreementKey(random(32));
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (plaintext) => {
      const sealed = sealTo(key.publicKey, INFO, AAD, plaintext, random);
      assert.equal(sealed.length, plaintext.length + BOX_OVERHEAD_BYTES);
      assert.deepEqual(openFrom(key, INFO, AAD, sealed), plaintext);
    }),
  );
  const sealed = sealTo(key.publicKey, INFO, AAD, random(20), random);
  assert.equal(openFrom(agreementKey(random(32)), INFO, AAD, sealed), undefined);
  assert.equal(openFrom(key, AAD, AAD, sealed), undefined);
  assert.equal(openFrom(key, INFO, INFO, sealed), undefined);
  assert.equal(openFrom(key, INFO, AAD, sealed.subarray(0, 47)), undefined);
  assert.equal(openFrom(key, INFO, AAD, new Uint8Array(80)), undefined);
  for (const flipped of flips(sealed)) {
    // X25519 ignores the top bit of a public key; RFC 9180 hashes the bytes as sent, so that this fails too.
    assert.equal(openFrom(key, INFO, AAD, flipped), undefined);
  }
  assert.throws(() => sealTo(new Uint8Array(32), INFO, AAD, AAD, random), BadPublicKey);
});

test("several recipients: each opens its own wrap, nobody else's", () => {
  const keys = [3, 5, 9].map((index) => ({ index, key: agreementKey(random(32)) }));
  const recipients = keys.map(({ index, key }) => ({ index, publicKey: key.publicKey }));
  const plaintext = random(500);
  const sealed = sealToAll(recipients, INFO, AAD, plaintext, random);
  assert.equal(sealed.length, plaintext.length + 56 + 88 * 3);
  for (const { index, key } of keys) {
    assert.deepEqual(openAsOne(index, key, INFO, AAD, sealed), plaintext);
    assert.equal(openAsOne(index + 1, key, INFO, AAD, sealed), undefined);
    assert.equal(openAsOne(index, key, AAD, AAD, sealed), undefined);
    assert.equal(openAsOne(index, key, INFO, INFO, sealed), undefined);
    assert.equal(openAsOne(index, agreementKey(random(32)), INFO, AAD, sealed), undefined);
    assert.equal(openAsOne(index, key, INFO, AAD, concat(sealed, Uint8Array.of(0))), undefined);
    assert.equal(openAsOne(index, key, INFO, AAD, sealed.subarray(1)), undefined);
  }
  const [first] = keys;
  assert.ok(first);
  for (const flipped of flips(sealed.subarray(0, 36 + 88), 3)) {
    assert.equal(openAsOne(first.index, first.key, INFO, AAD, concat(flipped, sealed.subarray(36 + 88))), undefined);
  }
});

test("a wrap cannot be moved under another content key", () => {
  const key = agreementKey(random(32));
  const recipients = [{ index: 0, publicKey: key.publicKey }];
  const one = sealToAll(recipients, INFO, AAD, random(10), random);
  const other = sealToAll(recipients, INFO, AAD, random(10), random);
  assert.equal(openAsOne(0, key, INFO, AAD, concat(one.subarray(0, 36 + 88), other.subarray(36 + 88))), undefined);
  assert.equal(openAsOne(0, key, INFO, AAD, concat(one.subarray(0, 36), other.subarray(36))), undefined);
});
