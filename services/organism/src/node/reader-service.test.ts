/** Who is served how much of a log, for how long, and how many at once. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import type { Reader } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { certifyState, dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import type { CertifiedCheckpoint } from "../committee/checkpoint.ts";
import { guestHash } from "../committee/checkpoint.ts";
import { guestAudience, type ReaderRequest, signReader } from "../committee/reader.ts";
import { signTicket } from "../committee/ticket.ts";
import { generateSigningKey, type SigningKey } from "../crypto/ed25519.ts";
import { initCrypto } from "../crypto/engine.ts";
import { Fault } from "../fault.ts";
import { committeeId, slotStartMs } from "../identity/lattice-config.ts";
import type { Log, LogMessage } from "../ports.ts";
import { random } from "../testing/dealt-committee.ts";
import { nodeTimers } from "./node-timers.ts";
import { GUESTS_MAX, READERS_MAX, READERS_PER_KEY, readerMethods } from "./reader-service.ts";

const LAST = 40n;
const TICKET_ENDS = 5n;

describe("readers of a log", () => {
  const issuer = generateSigningKey(random(32));
  let dealt: TestCommittee;
  let committee: Uint8Array;
  let nowMs: number;
  let held: CertifiedCheckpoint[];
  let loads: number;
  let generation: bigint;
  let failing: boolean;
  let deliver: ((message: LogMessage) => void) | undefined;
  let methods: ReturnType<typeof readerMethods>;
  const state = (value: number): Uint8Array => new Uint8Array(100).fill(value);
  const viewOf = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, 50);

  before(initCrypto);
  beforeEach(() => {
    dealt = dealCommittee(3, { slotMs: 100 }, "none", [{ kind: "jwt", parameters: issuer.publicKey }]);
    committee = committeeId(dealt.config, "relay");
    nowMs = slotStartMs(dealt.config, TICKET_ENDS);
    held = [30, 20, 10].map((position) => {
      const view = viewOf(state(position));
      const guest = { guestHash: guestHash(view), guestBytes: view.length };
      return certifyState(dealt, BigInt(position), state(position), guest);
    });
    loads = 0;
    failing = false;
    generation = 0n;
    const log = {
      generation: 0n,
      firstPosition: async () => 1n,
      consume: (from: bigint, give: (message: LogMessage) => void, signal: AbortSignal) =>
        new Promise<void>((resolve) => {
          deliver = give;
          for (let position = from; position <= LAST; position++) give({ position, raw: new Uint8Array([1]) });
          signal.addEventListener("abort", () => resolve());
        }),
    } as Partial<Log> as Log & { readonly generation: bigint };
    methods = readerMethods({
      config: dealt.config,
      organism: "relay",
      committee,
      rosters: () => [dealt.rosters.relay],
      log,
      snapshots: {
        held: () => held,
        save: async () => undefined,
        load: async ({ position }) => {
          loads += 1;
          if (failing) throw new Error("the disk");
          return state(Number(position));
        },
        read: async () => undefined,
      },
      guestView: viewOf,
      generation: () => generation,
      newest: () => LAST,
      clock: { nowMs: () => nowMs },
      timers: nodeTimers,
    });
  });

  const memberKey = (index: number): SigningKey =>
    generateSigningKey((dealt.secrets[index] ?? assert.fail()).memberKey);
  function reader(key: SigningKey, what: ReaderRequest["what"], position: bigint, tickets = true): Reader {
    const signedAtMs = BigInt(nowMs);
    const signature = signReader(key, { committee, what, position, key: key.publicKey, signedAtMs });
    const claims = { audience: guestAudience(committee), subject: key.publicKey, expSlot: TICKET_ENDS };
    return {
      key: key.publicKey,
      tickets: tickets ? [signTicket(issuer, claims)] : [],
      signedAtMs,
      signature,
    } as Reader;
  }
  interface Open {
    next(): Promise<string>;
    end(): Promise<void>;
  }
  /** A stream, and what comes of it: positions, `beat`, or the reason for which it ended. */
  function open(key: SigningKey, position: bigint, tickets = true): Open {
    const ended = new AbortController();
    const request = { fromPosition: position, untilPosition: 0n, generation };
    const call = { signal: ended.signal, header: () => undefined };
    const stream = methods.readLog(
      { ...request, reader: reader(key, "log", position, tickets) } as never,
      call as never,
    );
    const events = (stream as AsyncIterable<{ event: { case: string; value: LogMessage } }>)[Symbol.asyncIterator]();
    return {
      async next() {
        try {
          const next = await events.next();
          if (next.done === true) return "end";
          const { event } = next.value;
          return event.case === "message" ? `${event.value.position}` : "beat";
        } catch (error) {
          assert.ok(error instanceof Fault);
          return error.reason;
        }
      },
      async end() {
        ended.abort();
        await events.return?.();
      },
    };
  }
  const guest = (): SigningKey => generateSigningKey(random(32));

  test("of a generation whose log is not there yet nothing is served: that of the one before has other entries", async () => {
    const before = open(memberKey(0), 1n);
    assert.equal(await before.next(), "beat");
    generation = 1n;
    assert.equal(await before.next(), "end");
    assert.equal(await open(memberKey(0), 1n).next(), "LOG_TOO_OLD");
  });

  test("a guest reads from the oldest state on that is held, and where none is held only what comes", async () => {
    for (const [position, said] of [
      [11n, "beat"],
      [10n, "LOG_TOO_OLD"],
    ] as const) {
      const stream = open(guest(), position);
      assert.equal(await stream.next(), said);
      await stream.end();
    }
    held = [];
    for (const [key, position, said] of [
      [guest(), LAST, "LOG_TOO_OLD"],
      [guest(), LAST + 1n, "beat"],
      [memberKey(1), 1n, "beat"],
    ] as const) {
      const stream = open(key, position, key !== undefined && position !== 1n);
      assert.equal(await stream.next(), said, `${position}`);
      await stream.end();
    }
  });

  test("a stream ends with the ticket that admitted it; a member's goes on", async () => {
    const [one, member] = [open(guest(), LAST), open(memberKey(0), LAST, false)];
    for (const stream of [one, member]) {
      assert.equal(await stream.next(), "beat");
      assert.equal(await stream.next(), `${LAST}`);
    }
    nowMs = slotStartMs(dealt.config, TICKET_ENDS + 1n);
    deliver?.({ position: LAST + 1n, raw: new Uint8Array([2]) });
    assert.equal(await member.next(), `${LAST + 1n}`);
    assert.equal(await one.next(), "READER_NOT_ADMITTED");
    await member.end();
    await one.end();
  });

  test("one key has two places, guests leave some to members, and places come back", async () => {
    const streams: Open[] = [];
    const begin = async (key: SigningKey, tickets = true): Promise<string> => {
      const stream = open(key, LAST, tickets);
      const said = await stream.next();
      if (said === "beat") streams.push(stream);
      return said;
    };
    const greedy = guest();
    for (let index = 0; index < READERS_PER_KEY; index++) assert.equal(await begin(greedy), "beat");
    assert.equal(await begin(greedy), "READERS_BUSY");
    while (streams.length < GUESTS_MAX) assert.equal(await begin(guest()), "beat");
    assert.equal(await begin(guest()), "READERS_BUSY");
    for (let index = 0; streams.length < READERS_MAX; index++)
      assert.equal(await begin(memberKey(index), false), "beat");
    assert.equal(await begin(memberKey(2), false), "READERS_BUSY");
    await streams[0]?.end();
    assert.equal(await begin(memberKey(2), false), "beat");
    for (const stream of streams) await stream.end();
  });

  test("what guests begin with is made once for each state that is held, and again after a failure", async () => {
    const fetch = async (position: bigint): Promise<number> => {
      const request = { generation: 0n, position, offset: 0n, reader: reader(guest(), "snapshot", position) };
      const call = { signal: new AbortController().signal, header: () => undefined };
      let bytes = 0;
      const stream = methods.fetchGuestSnapshot(request as never, call as never);
      for await (const { data } of stream as AsyncIterable<{ data: Uint8Array }>) bytes += data.length;
      return bytes;
    };
    failing = true;
    await assert.rejects(fetch(30n), /the disk/);
    failing = false;
    loads = 0;
    for (const position of [30n, 20n, 10n, 30n, 20n, 10n]) assert.equal(await fetch(position), 50);
    assert.equal(loads, 3);
    held = held.slice(0, 1);
    assert.equal(await fetch(30n), 50);
    await assert.rejects(
      fetch(20n),
      (error: unknown) => error instanceof Fault && error.reason === "CHECKPOINT_UNKNOWN",
    );
    assert.equal(loads, 3);
  });
});
