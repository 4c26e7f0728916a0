import assert from "node:assert/strict";
import test from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { addressWord, bytes32Word, domainSeparator, typeHash, uintWord } from "./eip712.ts";

test("the EIP-712 domain of the specification's own example (Ether Mail)", () => {
  const verifyingContract = new Uint8Array(20).fill(0xcc);
  assert.equal(
    toHex(domainSeparator({ name: "Ether Mail", version: "1", chainId: 1n, verifyingContract })),
    "f2cee375fa42b42143804025fc449deafd50cc031ca257e0b194a650a912090f",
  );
  assert.equal(
    toHex(typeHash("Mail(Person from,Person to,string contents)Person(string name,address wallet)")),
    "a0cedeb2dc280ba39b857546d74f5549c3a1d7bdc2dd96bf881f76108e23dac2",
  );
});

test("words refuse what does not fit", () => {
  assert.equal(toHex(uintWord((1n << 256n) - 1n)), "ff".repeat(32));
  assert.throws(() => uintWord(1n << 256n), RangeError);
  assert.throws(() => uintWord(-1n), RangeError);
  assert.equal(toHex(addressWord(new Uint8Array(20).fill(1))), "00".repeat(12) + "01".repeat(20));
  assert.throws(() => addressWord(new Uint8Array(19)), RangeError);
  assert.throws(() => bytes32Word(new Uint8Array(31)), RangeError);
});
