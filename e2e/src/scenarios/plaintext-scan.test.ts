import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { needle, scanBytes } from "./plaintext-scan.ts";

const secret = new Uint8Array(32).map((_, index) => (index * 73 + 251) & 0xff);
const planted = [needle("secret", secret)];
const raw = Buffer.from(secret);

describe("plaintext scan", () => {
  it("finds bytes raw, as hex, as base64 at any alignment, and as a list of numbers", () => {
    const around = (shift: number): string =>
      Buffer.concat([Buffer.alloc(shift, 7), raw, Buffer.alloc(5, 9)]).toString("base64");
    const texts = [
      raw.toString("hex"),
      raw.toString("hex").toUpperCase(),
      JSON.stringify([...secret]),
      raw.toString("base64url"),
    ];
    for (const text of [...texts, around(0), around(1), around(2), around(3)]) {
      assert.equal(scanBytes("here", Buffer.from(`{"x":"${text}"}`), planted).length, 1, text);
    }
    assert.equal(scanBytes("here", Buffer.concat([Buffer.alloc(3), raw, Buffer.alloc(3)]), planted).length, 1);
  });

  it("does not find what differs in one bit", () => {
    const other = Buffer.from(raw);
    other[13] = (other[13] ?? 0) ^ 1;
    for (const text of [other.toString("hex"), other.toString("base64")]) {
      assert.deepEqual(scanBytes("here", Buffer.from(text), planted), []);
    }
    assert.deepEqual(scanBytes("here", other, planted), []);
  });

  it("refuses needles that would find themselves by chance", () => {
    assert.throws(() => needle("short", new Uint8Array(11)), RangeError);
  });
});
