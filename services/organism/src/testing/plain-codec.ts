/** The canonical encoding as it is defined, and nothing done to be quick: what the codec is judged by, and measured against. */
import { type Codec, CodecError, compareBytes, encode } from "../codec/codec.ts";

/** Like `map`: every key encoded by itself, entries sorted by comparing whole keys. Writes only. */
export function plainMap<K, V>(key: Codec<K>, value: Codec<V>, max: number): Codec<Map<K, V>> {
  return {
    write(writer, entries) {
      if (entries.size > max) throw new CodecError("", `${entries.size} entries, at most ${max}`);
      const encoded = [...entries].map(([k, v]) => ({ k: encode(key, k), v }));
      encoded.sort((a, b) => compareBytes(a.k, b.k));
      writer.u32(encoded.length);
      for (const { k, v } of encoded) {
        writer.raw(k);
        value.write(writer, v);
      }
    },
    read: (reader) => reader.fail("the plain codec reads nothing"),
  };
}
