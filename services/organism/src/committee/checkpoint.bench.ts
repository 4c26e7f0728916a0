/**
 * The pause that a checkpoint is: from an entry that makes one due until it is applied, with the state encoded as members
 * keep it and as guests are given it, both hashed. 10 MB of small records under hashes, and of large blocks. Beside it, in
 * the same run and by turns, both encoded plainly, one after the other (`testing/plain-codec.ts`), and hashed.
 */
import { dealCommittee } from "../../test/test-lattice.ts";
import { bytes, type Codec, equalBytes, fixed, hex, list, map, struct, toHex, u64 } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { blake3 } from "../crypto/hash.ts";
import type { Duty, Machine } from "../machine.ts";
import { plainMap } from "../testing/plain-codec.ts";
import { guestHash, stateHash } from "./checkpoint.ts";
import { Committee } from "./committee.ts";

const STATE_BYTES = 10_000_000;
const RECORDS = 115_000;
const BLOCK_BYTES = 64 * 1024;
const REPEATS = 9;

const RECORD = struct({ account: fixed(20), wei: u64, sinceSlot: u64, serials: list(u64, 16) });

function stateCodec(mapOf: typeof map) {
  return struct({ records: mapOf(hex(32), RECORD, RECORDS), blocks: list(bytes(BLOCK_BYTES), 4096) });
}
type State = ReturnType<ReturnType<typeof stateCodec>["read"]>;

/** Bytes that look like any, the same in every run. */
function mixed(seed: number, length: number): Uint8Array {
  const bytes = new Uint8Array(Math.ceil(length / 32) * 32);
  for (let at = 0; at < bytes.length; at += 32)
    bytes.set(blake3(Uint8Array.of(seed, seed >> 8, seed >> 16, at >> 5)), at);
  return bytes.subarray(0, length);
}

function smallRecords(): State {
  const records: State["records"] = new Map();
  for (let index = 0; index < RECORDS; index++) {
    const serials = [BigInt(index), 2n];
    const wei = BigInt(index) * 1_000_000_007n;
    records.set(toHex(mixed(index, 32)), { account: mixed(index + 1, 20), wei, sinceSlot: 3n, serials });
  }
  return { records, blocks: [] };
}

function largeBlocks(): State {
  const count = Math.ceil(STATE_BYTES / BLOCK_BYTES);
  return { records: new Map(), blocks: Array.from({ length: count }, (_, index) => mixed(index, BLOCK_BYTES)) };
}

function machine(state: Codec<State>, genesis: State): Machine<State, Record<string, never>, Duty> {
  return {
    organism: "relay",
    stages: ["accepted"],
    upstream: [],
    state,
    command: struct({}),
    genesis: () => genesis,
    apply: () => undefined,
    duties: () => [],
    skipAtMs: () => undefined,
    hasInput: () => false,
    forGuests: (inner) => ({ ...inner }),
    collapse: () => undefined,
  };
}

export async function bench() {
  await initCrypto();
  const rows = [];
  for (const [what, state] of [
    ["small records", smallRecords()],
    ["large blocks", largeBlocks()],
  ] as const) {
    rows.push(measured(what, state));
  }
  const worst = Math.max(...rows.map(({ pauseMs, plainMs }) => median(pauseMs) / median(plainMs)));
  return { name: "checkpoint", peer: "both encoded plainly, one after the other, and hashed", rows, ratio: worst };
}

function measured(what: string, state: State) {
  const { config, rosters } = dealCommittee(3);
  const options = { config, roster: rosters.relay, checkpointEvery: { entries: 1n, slots: 1n << 40n } };
  const ours = new Committee({ ...options, machine: machine(stateCodec(map), state) });
  const plain = new Committee({ ...options, machine: machine(stateCodec(plainMap), state) });
  // No entry, so nothing is made of it but the checkpoint that is due.
  const bytes = new Uint8Array();
  const pauseMs: number[] = [];
  const plainMs: number[] = [];
  let stateBytes = 0;
  for (let position = 1n; position <= REPEATS; position++) {
    const plainly = plain.apply(position, bytes).checkpoint;
    let begun = processor();
    const { checkpoint } = ours.apply(position, bytes);
    pauseMs.push(processor() - begun);
    if (checkpoint === undefined || plainly === undefined || !equalBytes(checkpoint.state, plainly.state)) {
      throw new Error("the two do not encode alike");
    }
    stateBytes = checkpoint.state.length;
    begun = processor();
    stateHash(plain.snapshot());
    guestHash(plain.guestView());
    plainMs.push(processor() - begun);
  }
  return { what, stateBytes, pauseMs, plainMs };
}

/** Time that this thread has had a processor, ms: on a crowded machine a pause by the clock says more of others. */
function processor(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
