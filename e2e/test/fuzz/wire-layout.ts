/** Where the fields of RLP and protobuf bytes are, for the mutator. Total: of anything else nothing is found. */
import type { Field } from "./layout.ts";

/** Items of an RLP list (behind an optional type byte): headers and payloads. */
export function rlpLayout(bytes: Uint8Array): readonly Field[] {
  const fields: Field[] = [];
  const first = bytes[0] ?? 0;
  walkRlp(bytes, first < 0x80 ? 1 : 0, bytes.length, fields);
  return fields;
}

function walkRlp(bytes: Uint8Array, from: number, to: number, fields: Field[]): void {
  for (let at = from; at < to; ) {
    const head = bytes[at] ?? 0;
    const base = head < 0x80 ? 0 : head < 0xc0 ? 0x80 : 0xc0;
    const short = head - base;
    const lengthBytes = base !== 0 && short > 55 ? short - 55 : 0;
    let length = base === 0 ? 0 : short;
    if (lengthBytes > 0) {
      length = 0;
      for (let index = 1; index <= lengthBytes; index++) length = length * 256 + (bytes[at + index] ?? 0);
    }
    const payload = at + 1 + lengthBytes;
    if (payload + length > to) return;
    fields.push({ kind: "u8", at, length: 1 });
    if (base === 0xc0) walkRlp(bytes, payload, payload + length, fields);
    else if (length > 0) fields.push({ kind: "raw", at: payload, length });
    at = payload + length;
  }
}

/** Tags, varints, lengths and payloads of one protobuf message; nested messages stay payloads. */
export function protobufLayout(bytes: Uint8Array): readonly Field[] {
  const fields: Field[] = [];
  let at = 0;
  const varint = (): number => {
    const start = at;
    let value = 0;
    for (let shift = 0; at < bytes.length && shift < 70; shift += 7) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) break;
    }
    fields.push({ kind: at - start === 1 ? "u8" : "raw", at: start, length: at - start });
    return value;
  };
  while (at < bytes.length) {
    const wire = varint() & 7;
    if (wire === 0) varint();
    else {
      const length = wire === 2 ? varint() : wire === 1 ? 8 : wire === 5 ? 4 : bytes.length - at;
      if (length > 0 && at + length <= bytes.length) fields.push({ kind: "raw", at, length });
      at += length;
    }
  }
  return fields;
}
