/**
 * A member that has lost its disk joins a committee whose log is trimmed and whose snapshot is 10 MB: from its start until it is ready, the
 * snapshot fetched from its peers over gRPC, judged, written and restored, and the log's tail applied. Beside it a plain copy of as many bytes
 * to the same disk, synced. Everything in one process: whoever serves has the same processor.
 */
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { BlockCommittee } from "../../test/block-committee.ts";
import { BLOCK_BYTES } from "../../test/block-organism.ts";
import { dealCommittee } from "../../test/test-lattice.ts";
import { initCrypto } from "../crypto/engine.ts";

const STATE_BYTES = 10_000_000;
const TAIL_ENTRIES = 500;
const REPEATS = 7;
const AIM_MS = 5000;

export async function bench() {
  await initCrypto();
  const directory = await mkdtemp(join(tmpdir(), "lattice-join-bench-"));
  const committee = await BlockCommittee.open({
    dealt: dealCommittee(3),
    directory,
    checkpointEvery: { entries: 1024n, slots: 8n },
    segmentMessages: 64,
  });
  try {
    for (const index of [0, 1, 2]) await committee.start(index);
    await committee.say(Math.ceil(STATE_BYTES / BLOCK_BYTES), BLOCK_BYTES, 8);
    for (let slot = 1n; (await committee.held(0)).length < 2 || (await committee.held(1)).length < 2; slot++) {
      await committee.decide(slot);
    }
    const first = await committee.trim();
    if (first === 1n) throw new Error("the log was not trimmed");
    await committee.say(TAIL_ENTRIES, 256);
    const joined: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      await committee.stop(2);
      await rm(join(directory, "member-2"), { recursive: true });
      const startedAt = performance.now();
      const member = await committee.start(2);
      joined.push(performance.now() - startedAt);
      if (!member.ready()) throw new Error("the member is not ready");
    }
    const [newest] = await committee.held(2);
    const copied: number[] = [];
    for (let repeat = 0; repeat < REPEATS; repeat++) {
      const startedAt = performance.now();
      const file = await open(join(directory, "copy"), "w");
      await file.writeFile(new Uint8Array(newest?.stateBytes ?? 0));
      await file.sync();
      await file.close();
      copied.push(performance.now() - startedAt);
    }
    return {
      name: "join",
      peer: "as many bytes written and synced",
      snapshotBytes: newest?.stateBytes ?? 0,
      tailEntries: Number(committee.log.lastPosition - (newest?.position ?? 0n)),
      joinedMs: joined,
      copiedMs: copied,
      ratio: median(joined) / AIM_MS,
    };
  } finally {
    await committee.close();
    await rm(directory, { recursive: true, force: true });
  }
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
