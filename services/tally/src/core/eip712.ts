/**
 * EIP-712 for the fixed structs this organism signs: hashes and words, no type interpreter. Everything here has a
 * Solidity counterpart in `contracts/Settlement.sol`; viem, ethers and the contract itself are the oracles in tests.
 */
import { concat } from "@lattice/organism/codec/codec.ts";
import { keccak256 } from "@lattice/organism/crypto/secp256k1.ts";

export const ADDRESS_BYTES = 20;
export const WORD_BYTES = 32;

const DOMAIN_TYPE = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const UTF8 = new TextEncoder();

/** What a signature is bound to besides its content (EIP-712 §"Definition of domainSeparator"). */
export interface Domain {
  readonly name: string;
  readonly version: string;
  readonly chainId: bigint;
  /** 20 bytes. */
  readonly verifyingContract: Uint8Array;
}

/** keccak256 of a type's text, e.g. `Charge(bytes32 bidId,address account,uint256 amount)`. */
export function typeHash(type: string): Uint8Array {
  return keccak256(UTF8.encode(type));
}

/** An unsigned integer as 32 big-endian bytes. @throws RangeError outside 0 … 2^256 − 1. */
export function uintWord(value: bigint): Uint8Array {
  if (value < 0n || value >> 256n !== 0n) throw new RangeError("uint256 out of range");
  const word = new Uint8Array(WORD_BYTES);
  for (let index = WORD_BYTES - 1, rest = value; rest > 0n; index--, rest >>= 8n) word[index] = Number(rest & 0xffn);
  return word;
}

/** 20 bytes, left-padded to 32. @throws RangeError on another length. */
export function addressWord(address: Uint8Array): Uint8Array {
  if (address.length !== ADDRESS_BYTES) throw new RangeError(`address of ${address.length} bytes`);
  const word = new Uint8Array(WORD_BYTES);
  word.set(address, WORD_BYTES - ADDRESS_BYTES);
  return word;
}

/** 32 bytes as they are. @throws RangeError on another length. */
export function bytes32Word(value: Uint8Array): Uint8Array {
  if (value.length !== WORD_BYTES) throw new RangeError(`bytes32 of ${value.length} bytes`);
  return value;
}

/** hashStruct: keccak256(typeHash ‖ words). */
export function hashStruct(type: Uint8Array, ...words: readonly Uint8Array[]): Uint8Array {
  return keccak256(concat(type, ...words));
}

/** An array's contribution to its struct: keccak256 of its elements' words. */
export function hashArray(words: readonly Uint8Array[]): Uint8Array {
  return keccak256(concat(...words));
}

export function domainSeparator(domain: Domain): Uint8Array {
  return hashStruct(
    typeHash(DOMAIN_TYPE),
    typeHash(domain.name),
    typeHash(domain.version),
    uintWord(domain.chainId),
    addressWord(domain.verifyingContract),
  );
}

/** What is signed: keccak256(0x1901 ‖ domain separator ‖ hashStruct). 32 bytes. */
export function typedDigest(domain: Domain, structHash: Uint8Array): Uint8Array {
  return keccak256(concat(Uint8Array.of(0x19, 0x01), domainSeparator(domain), structHash));
}
