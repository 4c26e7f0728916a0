/** The doubles refuse what the real ones refuse: another key, another message, a changed byte, too few shares. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as realBls from "../../crypto/bls.ts";
import * as realBox from "../../crypto/box.ts";
import * as realEd25519 from "../../crypto/ed25519.ts";
import * as realIbe from "../../crypto/ibe.ts";
import * as realSecp256k1 from "../../crypto/secp256k1.ts";
import * as realShamir from "../../crypto/shamir.ts";
import * as realThreshold from "../../crypto/threshold.ts";
import * as realX25519 from "../../crypto/x25519.ts";
import * as bls from "./bls.ts";
import * as box from "./box.ts";
import * as ed25519 from "./ed25519.ts";
import * as ibe from "./ibe.ts";
import * as secp256k1 from "./secp256k1.ts";
import * as shamir from "./shamir.ts";
import * as threshold from "./threshold.ts";
import * as x25519 from "./x25519.ts";

let drawn = 0;
const random = (count: number): Uint8Array =>
  Uint8Array.from({ length: count }, () => (drawn = (drawn * 31 + 7) % 251));
const message = new Uint8Array(32).fill(1);
const other = new Uint8Array(32).fill(2);

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = bytes.slice();
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

test("they export what the modules export that they stand for", () => {
  for (const [real, double] of [
    [realBls, bls],
    [realBox, box],
    [realEd25519, ed25519],
    [realIbe, ibe],
    [realSecp256k1, secp256k1],
    [realShamir, shamir],
    [realThreshold, threshold],
    [realX25519, x25519],
  ] as const) {
    assert.deepEqual(Object.keys(double).sort(), Object.keys(real).sort());
  }
});

test("signatures: only the right key over the right message, unchanged", () => {
  const secret = shamir.generateSecret(random);
  const signature = bls.blsSign(secret, message);
  const key = bls.blsPublicKey(secret);
  assert.ok(bls.blsVerify(key, message, signature));
  assert.ok(!bls.blsVerify(key, other, signature));
  assert.ok(!bls.blsVerify(bls.blsPublicKey(shamir.generateSecret(random)), message, signature));
  for (const at of [0, 50, 95]) assert.ok(!bls.blsVerify(key, message, flipped(signature, at)));

  const signer = ed25519.generateSigningKey(random(32));
  const signed = ed25519.signTagged(signer, "tag", message);
  assert.ok(ed25519.verifyTagged(signer.publicKey, "tag", message, signed));
  assert.ok(!ed25519.verifyTagged(signer.publicKey, "other", message, signed));
  assert.ok(!ed25519.verifyTagged(signer.publicKey, "tag", other, signed));
  assert.ok(!ed25519.verifyTagged(ed25519.generateSigningKey(random(32)).publicKey, "tag", message, signed));
  for (const at of [0, 40]) assert.ok(!ed25519.verifyTagged(signer.publicKey, "tag", message, flipped(signed, at)));

  const account = random(32);
  const recoverable = secp256k1.signDigest(account, message);
  assert.deepEqual(secp256k1.recoverAddress(message, recoverable), secp256k1.addressOfSecret(account));
  assert.equal(secp256k1.recoverAddress(other, recoverable), undefined);
  assert.equal(secp256k1.recoverAddress(message, flipped(recoverable, 40)), undefined);
});

test("thresholds: any t shares give the one signature, others do not", () => {
  const secret = shamir.generateSecret(random);
  const { shares, publicShares, commitments } = shamir.splitSecret({ secret, threshold: 3, count: 5, random });
  const signatures = shares.map((share, index) => ({ index, signature: bls.blsSign(share, message) }));
  const whole = bls.blsSign(secret, message);
  assert.deepEqual(threshold.combineSignatures(signatures.slice(0, 3), 3), whole);
  assert.deepEqual(threshold.combineSignatures(signatures.slice(2), 3), whole);
  assert.notDeepEqual(threshold.combineSignatures(signatures.slice(0, 2), 2), whole);
  assert.throws(() => threshold.combineSignatures(signatures.slice(0, 2), 3), { reason: "TOO_FEW" });
  assert.ok(shares.every((share, index) => shamir.isDealtShare(commitments, index, share)));
  assert.ok(!shamir.isDealtShare(commitments, 0, shares[1] ?? secret));
  assert.deepEqual(
    publicShares.map((_, index) => shamir.publicShareAt(commitments, index)),
    publicShares,
  );
});

test("sealing: to one identity, with one aad, by whom the key was given", () => {
  const secret = shamir.generateSecret(random);
  const address = { suite: "unseal-slot", sealingKey: shamir.publicOf(secret), identity: message } as const;
  const sealed = ibe.sealIbe({ ...address, aad: other, content: Uint8Array.of(1, 2, 3), random });
  const identityKey = ibe.identityShare(secret, "unseal-slot", message, random);
  assert.ok(ibe.verifyIdentityKey(address.sealingKey, "unseal-slot", message, identityKey));
  assert.ok(!ibe.verifyIdentityKey(address.sealingKey, "offer-slot", message, identityKey));
  const opened = ibe.openIbe({ identityKey, aad: other, sealed });
  assert.ok("content" in opened);
  assert.deepEqual(opened.content, Uint8Array.of(1, 2, 3));
  assert.deepEqual(ibe.openWithSigma({ ...address, aad: other, sigma: opened.sigma, sealed }), {
    content: opened.content,
  });
  assert.ok("failure" in ibe.openIbe({ identityKey, aad: message, sealed }));
  const wrong = ibe.identityShare(secret, "unseal-slot", other, random);
  assert.ok("failure" in ibe.openIbe({ identityKey: wrong, aad: other, sealed }));
  for (const at of [0, 10, 60, 85])
    assert.ok("failure" in ibe.openIbe({ identityKey, aad: other, sealed: flipped(sealed, at) }));

  const keys = [0, 1].map(() => x25519.agreementKey(random(32)));
  const recipients = keys.map(({ publicKey }, index) => ({ index, publicKey }));
  const boxed = box.sealToAll(recipients, message, other, Uint8Array.of(9), random);
  for (const [index, key] of keys.entries()) {
    assert.deepEqual(box.openAsOne(index, key, message, other, boxed), Uint8Array.of(9));
    assert.equal(box.openAsOne(index, key, message, message, boxed), undefined);
    assert.equal(box.openAsOne(1 - index, key, message, other, boxed), undefined);
  }
  assert.equal(box.openAsOne(0, x25519.agreementKey(random(32)), message, other, boxed), undefined);
});
