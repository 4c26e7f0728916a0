/**
 * Whom a refund goes to: the transaction's recovered sender, unless that sender signed somebody else in (EIP-712,
 * protocols.md §6). The authorisation names one transaction, so it cannot be carried to another.
 */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";
import type { RefundAuthorisation } from "@lattice/organism/outcomes/unseal.ts";
import { addressWord, bytes32Word, type Domain, hashStruct, typedDigest, typeHash } from "./eip712.ts";

const TYPE_HASH = typeHash("RefundAuthorisation(bytes32 transactionHash,address recipient)");

/** 32 bytes to sign, under `settlementDomain`. */
export function refundAuthorisationDigest(domain: Domain, txHash: Uint8Array, recipient: Uint8Array): Uint8Array {
  return typedDigest(domain, hashStruct(TYPE_HASH, bytes32Word(txHash), addressWord(recipient)));
}

/** `refundTo` and `authorised` of a landed message. An authorisation by anybody else counts for nothing. */
export function refundRecipient(
  domain: Domain,
  transaction: { readonly hash: Uint8Array; readonly sender: Uint8Array },
  authorisation: RefundAuthorisation | undefined,
): { readonly refundTo: Uint8Array; readonly authorised: boolean } {
  if (authorisation !== undefined && authorisation.recipient.length === transaction.sender.length) {
    const digest = refundAuthorisationDigest(domain, transaction.hash, authorisation.recipient);
    const signer = recoverAddress(digest, authorisation.signature);
    if (signer !== undefined && equalBytes(signer, transaction.sender)) {
      return { refundTo: authorisation.recipient, authorised: true };
    }
  }
  return { refundTo: transaction.sender, authorised: false };
}
