/** Whoever has snapshots and is slow about it: a stream that breaks off, one that trickles, an archive that says nothing. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { certifyState, dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import type { CertifiedCheckpoint } from "../committee/checkpoint.ts";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import { rpcFault } from "../rpc/errors.ts";
import { DirectCalls } from "../testing/direct-calls.ts";
import { ManualTimers, settled } from "../testing/manual-timers.ts";
import { defineSome } from "../testing/some-methods.ts";
import { toWireCheckpoint } from "./committee-wire.ts";
import { archiveSource, fetchSnapshot, peerSource, type SnapshotSource } from "./snapshot-fetcher.ts";
import { SNAPSHOT_CHUNK_BYTES } from "./snapshot-service.ts";

const LOG = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const BYTES = 2 * SNAPSHOT_CHUNK_BYTES + 1000;

describe("slow sources of snapshots", () => {
  let dealt: TestCommittee;
  let calls: DirectCalls;
  let certified: CertifiedCheckpoint;
  const state = new Uint8Array(BYTES).map((_, at) => at % 251);
  before(async () => {
    await initCrypto();
    dealt = dealCommittee(3);
    certified = certifyState(dealt, 9n, state);
  });
  beforeEach(() => {
    calls = new DirectCalls();
  });

  type Pieces = (offset: number) => AsyncGenerator<{ offset: bigint; data: Uint8Array }>;
  const pieces = async function* (from: number, size = SNAPSHOT_CHUNK_BYTES) {
    for (let at = from; at < BYTES; at += size) yield { offset: BigInt(at), data: state.subarray(at, at + size) };
  };
  /** A member that gives the state in its own way. */
  function peer(address: string, give: Pieces): SnapshotSource {
    const service = defineSome(CommitteeService, {
      getCheckpoint: async () => ({ held: [toWireCheckpoint(certified)] }),
      fetchSnapshot: ({ offset }: { readonly offset: bigint }) => give(Number(offset)),
    });
    calls.serve(address, [service]);
    const secrets = dealt.secrets[0] ?? assert.fail();
    return peerSource({
      config: dealt.config,
      organism: "relay",
      self: 0,
      memberKey: generateSigningKey(secrets.memberKey),
      clock: { nowMs: () => dealt.config.genesisMs },
      address,
      connect: calls.connect(CommitteeService),
    });
  }
  const fetch = (sources: readonly SnapshotSource[]) =>
    fetchSnapshot({ config: dealt.config, organism: "relay", sources, wanted: () => true, log: LOG });
  const honest = () => peer("honest", (offset) => pieces(offset));

  test("a stream that breaks off is taken up where it ended", async () => {
    const offsets: number[] = [];
    const breaking = peer("breaking", async function* (offset) {
      offsets.push(offset);
      for await (const piece of pieces(offset)) {
        yield piece;
        throw rpcFault("CONNECTION_LOST");
      }
    });
    assert.deepEqual((await fetch([breaking]))?.state, state);
    assert.deepEqual(offsets, [0, SNAPSHOT_CHUNK_BYTES, 2 * SNAPSHOT_CHUNK_BYTES]);
  });

  test("one that brings nothing any more, or does not end in time, is left for the next", async () => {
    for (const reason of ["CONNECTION_LOST", "DEADLINE_EXCEEDED"] as const) {
      let asked = 0;
      const source = peer(reason, async function* (offset) {
        asked += 1;
        if (offset === 0 || reason === "DEADLINE_EXCEEDED") {
          yield { offset: BigInt(offset), data: state.subarray(offset, offset + SNAPSHOT_CHUNK_BYTES) };
        }
        throw rpcFault(reason);
      });
      const found = await fetch([source, honest()]);
      assert.equal(found?.source, "honest", reason);
      assert.equal(asked, reason === "CONNECTION_LOST" ? 2 : 1, reason);
    }
  });

  test("pieces that are not whole are a trickle, which nobody waits for", async () => {
    let given = 0;
    const trickle = peer("trickle", async function* (offset) {
      for await (const piece of pieces(offset, 1)) {
        given += 1;
        yield piece;
      }
    });
    const found = await fetch([trickle, honest()]);
    assert.equal(found?.source, "honest");
    assert.equal(given, 1);
    assert.deepEqual(found.state, state);
  });

  test("streams have an end: what a state of that length may take", async () => {
    const limits: unknown[] = [];
    const connect = calls.connect(CommitteeService);
    honest();
    const source = peerSource({
      config: dealt.config,
      organism: "relay",
      self: 0,
      memberKey: generateSigningKey((dealt.secrets[0] ?? assert.fail()).memberKey),
      clock: { nowMs: () => dealt.config.genesisMs },
      address: "honest",
      connect: (address, committee) => {
        const client = connect(address, committee);
        return {
          ...client,
          fetchSnapshot: (request, options) => {
            limits.push(options?.deadlineMs);
            return client.fetchSnapshot(request, options);
          },
        };
      },
    });
    assert.deepEqual(await source.state(certified), state);
    assert.deepEqual(limits, [21_500]);
  });

  test("an archive that does not answer keeps nobody from what peers have", async () => {
    const timers = new ManualTimers();
    const silent = archiveSource(
      {
        refresh: () => new Promise<void>(() => undefined),
        held: () => [certified],
        save: async () => undefined,
        load: async () => state,
        read: async () => undefined,
      },
      timers,
    );
    const fetching = fetch([silent, honest()]);
    let done = false;
    void fetching.finally(() => {
      done = true;
    });
    await timers.advance(9_999);
    assert.equal(done, false);
    await timers.advance(1);
    await settled();
    assert.equal((await fetching)?.source, "honest");
    assert.equal(timers.waiting, 0);
  });
});
