import assert from "node:assert/strict";
import test from "node:test";
import { Wallet } from "ethers";
import { hashTypedData } from "viem";
import { signDigest, testKey } from "../../test/keys.ts";
import { hex } from "../contract/settlement-call.ts";
import { settlementDomain } from "./attestation.ts";
import { refundAuthorisationDigest, refundRecipient } from "./refund-authorisation.ts";

const SETTLEMENT = testKey("settlement").address;
const DOMAIN = settlementDomain(1337n, SETTLEMENT);
const sender = testKey("sender");
const recipient = testKey("recipient").address;
const transaction = { hash: new Uint8Array(32).fill(5), sender: sender.address };
const TYPES = {
  RefundAuthorisation: [
    { name: "transactionHash", type: "bytes32" },
    { name: "recipient", type: "address" },
  ],
};

test("the digest is what wallets sign", async () => {
  const domain = { name: "Lattice Settlement", version: "1", chainId: 1337n, verifyingContract: hex(SETTLEMENT) };
  const message = { transactionHash: hex(transaction.hash), recipient: hex(recipient) };
  const digest = refundAuthorisationDigest(DOMAIN, transaction.hash, recipient);
  assert.equal(hex(digest), hashTypedData({ domain, types: TYPES, primaryType: "RefundAuthorisation", message }));
  const signature = await new Wallet(hex(sender.secret)).signTypedData(domain, TYPES, message);
  assert.equal(signature, hex(signDigest(sender, digest)));
});

test("the sender's word moves the refund, nobody else's, for no other transaction, chain or recipient", () => {
  const signature = signDigest(sender, refundAuthorisationDigest(DOMAIN, transaction.hash, recipient));
  const moved = { refundTo: recipient, authorised: true };
  const stays = { refundTo: sender.address, authorised: false };
  assert.deepEqual(refundRecipient(DOMAIN, transaction, undefined), stays);
  assert.deepEqual(refundRecipient(DOMAIN, transaction, { recipient, signature }), moved);

  const other = { ...transaction, hash: new Uint8Array(32).fill(6) };
  assert.deepEqual(refundRecipient(DOMAIN, other, { recipient, signature }), stays);
  assert.deepEqual(refundRecipient(settlementDomain(1n, SETTLEMENT), transaction, { recipient, signature }), stays);
  assert.deepEqual(refundRecipient(DOMAIN, transaction, { recipient: SETTLEMENT, signature }), stays);
  assert.deepEqual(refundRecipient(DOMAIN, transaction, { recipient: recipient.subarray(1), signature }), stays);
  assert.deepEqual(refundRecipient(DOMAIN, transaction, { recipient, signature: signature.subarray(1) }), stays);
  const stranger = signDigest(testKey("x"), refundAuthorisationDigest(DOMAIN, transaction.hash, recipient));
  assert.deepEqual(refundRecipient(DOMAIN, transaction, { recipient, signature: stranger }), stays);
});
