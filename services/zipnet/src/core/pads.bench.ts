/** Pads of 1,000 clients × 160 KiB against raw AES-128-CTR over the same bytes, interleaved in one run. */
import { createCipheriv, randomBytes } from "node:crypto";
import { performance } from "node:perf_hooks";
import { PadAccumulator, segmentKeys, type VectorShape, vectorBytes } from "./pads.ts";
import { nextRatchet, roundKey } from "./ratchet.ts";

const SHAPE: VectorShape = { cells: 1024, cellBytes: 160, segments: 4 };
const CLIENTS = 1000;
const TURNS = 9;

export interface PadsBench {
  readonly name: "pads";
  readonly clients: number;
  readonly vectorBytes: number;
  readonly segments: number;
  readonly peer: string;
  readonly rows: readonly { readonly padsMs: number; readonly rawMs: number }[];
  readonly padsGbPerSecond: number;
  readonly rawGbPerSecond: number;
  /** Throughput of pads over throughput of the raw cipher; aim ≥ 0.35. */
  readonly ratio: number;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** A server's whole work of a round: ratchet step, round key, segment keys, fold. */
function pads(ratchets: readonly Uint8Array[], digest: Uint8Array): Uint8Array {
  const accumulator = new PadAccumulator(SHAPE);
  for (const ratchet of ratchets) {
    nextRatchet(ratchet);
    accumulator.fold(segmentKeys(roundKey(ratchet, digest), "zipnet/pad/v1", SHAPE.segments));
  }
  return accumulator.vector();
}

/** The peer: one ready key per client, one call over the whole vector, nothing kept. */
function raw(keys: readonly Uint8Array[], vector: Uint8Array): number {
  const iv = new Uint8Array(16);
  let check = 0;
  for (const key of keys) check ^= createCipheriv("aes-128-ctr", key, iv).update(vector)[0] ?? 0;
  return check;
}

export async function bench(turns: number = TURNS): Promise<PadsBench> {
  const digest = randomBytes(32);
  const ratchets = Array.from({ length: CLIENTS }, () => new Uint8Array(randomBytes(32)));
  const keys = ratchets.map((ratchet) => ratchet.subarray(0, 16));
  const vector = new Uint8Array(vectorBytes(SHAPE));
  const rows: { padsMs: number; rawMs: number }[] = [];
  const timed = (work: () => unknown): number => {
    const start = performance.now();
    work();
    return performance.now() - start;
  };
  pads(ratchets.slice(0, 50), digest);
  raw(keys.slice(0, 50), vector);
  for (let turn = 0; turn < turns; turn++) {
    const rawMs = timed(() => raw(keys, vector));
    rows.push({ rawMs, padsMs: timed(() => pads(ratchets, digest)) });
  }
  const bytes = CLIENTS * vector.length;
  const padsMs = median(rows.map((row) => row.padsMs));
  const rawMs = median(rows.map((row) => row.rawMs));
  return {
    name: "pads",
    clients: CLIENTS,
    vectorBytes: vector.length,
    segments: SHAPE.segments,
    peer: "node:crypto aes-128-ctr, one key per client, one update over the vector",
    rows,
    padsGbPerSecond: bytes / padsMs / 1e6,
    rawGbPerSecond: bytes / rawMs / 1e6,
    ratio: rawMs / padsMs,
  };
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
