/** Changed bytes against every parser, a thousand each; and what the fuzzer itself must be able to find. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Codec, decode, list, type Reader, struct, u8, u64 } from "@lattice/organism/codec/codec.ts";
import { Dice } from "./fuzz/dice.ts";
import { draw, layoutOf } from "./fuzz/layout.ts";
import { runTarget } from "./fuzz/run.ts";
import { Finding } from "./fuzz/target.ts";
import { allTargets } from "./fuzz/targets/all.ts";
import { byteTarget, sampleOf } from "./fuzz/targets/bytes.ts";
import { judgeCodec } from "./fuzz/targets/codecs.ts";

const CASES = 1000;
const SEED = "1";

describe("every parser", async () => {
  for (const target of await allTargets()) {
    test(target.name, async () => {
      const { cases, findings } = await runTarget(target, { cases: CASES, seed: SEED });
      const told = findings.map(({ case: n, problem, input }) => `case ${n}: ${problem}\n  ${input.slice(0, 300)}`);
      assert.deepEqual(told, [], `npm run fuzz -- --target ${target.name} --seed ${SEED}`);
      assert.equal(cases, CASES);
    });
  }
});

describe("the fuzzer", () => {
  const PAIR = struct({ kind: u8, values: list(u64, 8) });

  test("samples are valid, and their fields are found", () => {
    const bytes = draw(PAIR as Codec<unknown>, new Dice("sample"));
    assert.ok(bytes !== undefined);
    const { values } = decode(PAIR, bytes);
    const kinds = layoutOf(PAIR as Codec<unknown>, bytes).map(({ kind }) => kind);
    assert.deepEqual(kinds, ["u8", "u32", ...values.map(() => "u64")]);
  });

  const runOn = (judge: (bytes: Uint8Array, sample: Uint8Array) => "refused" | "accepted", only?: number) =>
    runTarget(
      byteTarget("planted", (dice) => ({
        samples: [sampleOf(PAIR as Codec<unknown>, draw(PAIR as Codec<unknown>, dice) ?? new Uint8Array())],
        judge,
      })),
      { cases: 400, seed: "2", ...(only === undefined ? {} : { only }) },
    );

  test("a parser that takes two spellings of one value is found", async () => {
    const lax: Codec<unknown> = {
      write: (writer, value) => PAIR.write(writer, value as { kind: number; values: bigint[] }),
      read(reader: Reader) {
        const value = PAIR.read(reader);
        return { ...value, kind: value.kind & 0x7f };
      },
    };
    const { findings } = await runOn((bytes) => judgeCodec(lax, bytes));
    assert.ok(findings.length > 0);
    assert.match(findings[0]?.problem ?? "", /re-encodes to other bytes/);
  });

  test("an untyped throw is found, and its case is found again alone", async () => {
    const crash = (bytes: Uint8Array): "refused" => {
      if ((bytes[0] ?? 0) > 0x7f) throw new TypeError("planted");
      return "refused";
    };
    const { findings } = await runOn(crash);
    const [first] = findings;
    assert.ok(first !== undefined && findings.every(({ problem }) => problem.startsWith("TypeError: planted")));
    const alone = await runOn(crash, first.case);
    assert.deepEqual([alone.cases, alone.findings[0]?.input], [1, first.input]);
  });

  test("a signature that covers too little is found", async () => {
    const { findings } = await runOn((bytes, sample) => {
      // "Signed" is the first byte only.
      const holds = bytes[0] === sample[0];
      if (holds && Buffer.compare(bytes, sample) !== 0) throw new Finding("a changed one verifies");
      return holds ? "accepted" : "refused";
    });
    assert.ok(findings.length > 0);
  });
});
