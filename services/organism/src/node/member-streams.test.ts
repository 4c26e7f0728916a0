/** What one member asks of another in streams: none of them keeps the others' places, however long it takes to read. */
import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  FetchEntriesRequestSchema,
  FetchSnapshotRequestSchema,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { certifyState, dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { generateSigningKey, type SigningKey } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import { Fault } from "../fault.ts";
import { committeeId } from "../identity/lattice-config.ts";
import type { Call } from "../rpc/define.ts";
import { generationMethods, signEntriesRequest } from "./generation-service.ts";
import {
  SNAPSHOT_CHUNK_BYTES,
  SNAPSHOT_STREAMS_MAX,
  signSnapshotRequest,
  snapshotMethods,
} from "./snapshot-service.ts";

const NOW_MS = 1_700_000_000_000;
const CALL: Call = { signal: new AbortController().signal, header: () => undefined };
const [GREEDY, MODEST] = [1, 2];

let dealt: TestCommittee;
before(async () => {
  await initCrypto();
  dealt = dealCommittee(4);
});

const common = () => ({
  organism: "relay" as const,
  committee: committeeId(dealt.config, "relay"),
  rosters: () => [dealt.rosters.relay],
  clock: { nowMs: () => NOW_MS },
});
const keyOf = (index: number): SigningKey => {
  const secrets = dealt.secrets[index];
  assert.ok(secrets !== undefined);
  return generateSigningKey(secrets.memberKey);
};

/** Opens a stream and reads one piece of it. */
async function opened<T>(stream: AsyncIterable<T>): Promise<AsyncIterator<T>> {
  const iterator = stream[Symbol.asyncIterator]();
  assert.equal((await iterator.next()).done, false);
  return iterator;
}
async function reasonOf(reading: Promise<unknown>): Promise<string> {
  const error: unknown = await reading.then(
    () => assert.fail("it is served"),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof Fault, String(error));
  return error.reason;
}

describe("one member opens all the streams that there are", () => {
  test("of snapshots", async () => {
    const state = new Uint8Array(3 * SNAPSHOT_CHUNK_BYTES);
    const certified = certifyState(dealt, 1024n, state);
    const { fetchSnapshot } = snapshotMethods({
      ...common(),
      self: 0,
      memberKey: keyOf(0),
      store: {
        held: () => [certified],
        save: async () => assert.fail(),
        load: async () => state,
        read: async (_, offset, length) => state.subarray(offset, offset + length),
      },
    });
    const ask = (index: number) => {
      const request = {
        committee: common().committee,
        generation: 0n,
        position: 1024n,
        index,
        signedAtMs: BigInt(NOW_MS),
      };
      const signature = signSnapshotRequest(keyOf(index), request);
      const asked = { ...request, requesterIndex: index, signature };
      return fetchSnapshot(create(FetchSnapshotRequestSchema, asked), CALL);
    };
    const greedy = [];
    for (let turn = 0; turn < SNAPSHOT_STREAMS_MAX; turn++) greedy.push(await opened(ask(GREEDY)));
    assert.equal(await reasonOf(opened(ask(GREEDY))), "SNAPSHOTS_BUSY");
    const modest = await opened(ask(MODEST));
    const last = greedy.at(-1);
    assert.ok(last !== undefined);
    assert.equal(await reasonOf(last.next()), "SNAPSHOTS_BUSY");
    assert.equal((await modest.next()).done, false);
    assert.equal((await greedy[0]?.next())?.done, false);
  });

  test("of entries", async () => {
    const { fetchEntries } = generationMethods({
      ...common(),
      tail: { read: async () => new Uint8Array(100) },
      gossip: () => undefined,
    });
    const ask = (index: number) => {
      const range = { generation: 0n, fromPosition: 1n, toPosition: 1000n };
      const request = { committee: common().committee, ...range, index, signedAtMs: BigInt(NOW_MS) };
      const signature = signEntriesRequest(keyOf(index), request);
      return fetchEntries(create(FetchEntriesRequestSchema, { ...request, requesterIndex: index, signature }), CALL);
    };
    const greedy = [];
    while (greedy.length < 100) {
      const stream = await opened(ask(GREEDY)).catch(() => undefined);
      if (stream === undefined) break;
      greedy.push(stream);
    }
    assert.ok(greedy.length < 100, "one member is read to without end");
    await opened(ask(MODEST));
    const last = greedy.at(-1);
    assert.ok(last !== undefined);
    assert.equal(await reasonOf(last.next()), "STREAMS_BUSY");
    await greedy[0]?.return?.();
    await opened(ask(GREEDY));
  });
});
