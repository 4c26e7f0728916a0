/** A target over byte samples: mutates one, feeds it to `judge`. */
import type { Codec } from "@lattice/organism/codec/codec.ts";
import type { Dice } from "../dice.ts";
import { type Field, layoutOf } from "../layout.ts";
import { flipAt, mutateBytes } from "../mutate.ts";
import { shown, type Target, type Verdict } from "../target.ts";

export interface Sample {
  readonly bytes: Uint8Array;
  /** The fields, when they are known. */
  readonly fields?: readonly Field[];
}

/** Sample with the fields that its codec finds. */
export function sampleOf(codec: Codec<unknown>, bytes: Uint8Array): Sample {
  return { bytes, fields: layoutOf(codec, bytes) };
}

export interface ByteJudge {
  readonly samples: readonly Sample[];
  /** `sample` is what `bytes` was made from. */
  judge(bytes: Uint8Array, sample: Uint8Array): Verdict | Promise<Verdict>;
  close?(): Promise<void> | void;
}

export function byteTarget(name: string, open: (dice: Dice) => Promise<ByteJudge> | ByteJudge): Target {
  return {
    name,
    async open(dice) {
      const { samples, judge, close } = await open(dice);
      if (samples.length === 0) throw new Error(`${name}: no samples`);
      let last = new Uint8Array();
      return {
        run(caseDice, n) {
          // Every byte of the first sample once; whatever is dealt, of any.
          const [first] = samples;
          const turn = first === undefined ? undefined : flipAt(n, first.bytes.length);
          const sample = turn === undefined || first === undefined ? caseDice.pick(samples) : first;
          const other = caseDice.pick(samples).bytes;
          last = mutateBytes(caseDice, turn === undefined ? 1 : n, sample.bytes, sample.fields ?? [], other).slice();
          return judge(last, sample.bytes);
        },
        lastInput: () => shown(last),
        ...(close === undefined ? {} : { close }),
      };
    },
  };
}
