/** A committee's log exported from real members over gRPC, judged offline, and judged again after every kind of change. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import {
  CommitteeService,
  LogMessageSchema,
  ReadLogResponseSchema,
} from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import fc from "fast-check";
import { CodecError, concat } from "../src/codec/codec.ts";
import { decodeEntry, encodeEntry, genesisHead, nextHead } from "../src/committee/entry.ts";
import { frameRecord, LOG_EXPORT_MAGIC, type LogRecord, LogRecordReader } from "../src/committee/log-export.ts";
import { type LogProblem, LogVerifier } from "../src/committee/log-verify.ts";
import { type ReaderRequest, signReader } from "../src/committee/reader.ts";
import { signTicket } from "../src/committee/ticket.ts";
import { generateSigningKey, type SigningKey } from "../src/crypto/ed25519.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { COMMON_FAULTS, Fault, faultsOf } from "../src/fault.ts";
import { committeeId, slotStartMs } from "../src/identity/lattice-config.ts";
import { derive } from "../src/identity/unique-id.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { ExportProblem, exportLog, type LogExportOptions } from "../src/node/log-exporter.ts";
import { connectOverGrpc } from "../src/node/outcome-follower.ts";
import { connectService } from "../src/rpc/client.ts";
import { type RunningServer, startServer } from "../src/rpc/server.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, random, startToyMember } from "./test-lattice.ts";
import { toyDefinition } from "./toy-organism.ts";

const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };
const EVERY = { entries: 12n, slots: 4n };
const COUNT = 3;
const SLOTS = 14n;

type Record<T extends LogRecord["type"]> = Extract<LogRecord, { type: T }>;

describe("an exported log", () => {
  const issuer = generateSigningKey(random(32));
  const committee = dealCommittee(COUNT, { slotMs: 250 }, "none", [{ kind: "jwt", parameters: issuer.publicKey }]);
  const { config } = committee;
  const id = committeeId(config, "relay");
  let nowMs = config.genesisMs;
  const clock = { nowMs: () => nowMs };
  const memberKey = (index: number): SigningKey => {
    const secrets = committee.secrets[index];
    assert.ok(secrets !== undefined);
    return generateSigningKey(secrets.memberKey);
  };
  let directory: string;
  let log: EmbeddedLog;
  const members: Awaited<ReturnType<typeof startToyMember>>[] = [];
  const servers: RunningServer[] = [];
  const addresses: string[] = [];
  let records: LogRecord[];

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-export-"));
    log = await EmbeddedLog.open(join(directory, "log"), { segmentMessages: 8 });
    for (let index = 0; index < COUNT; index++) {
      const member = await startToyMember({
        committee,
        index,
        log: log.member(index),
        directory,
        clock,
        endpoints: addresses,
        checkpointEvery: EVERY,
      });
      members.push(member);
      const { services } = member;
      const address = "127.0.0.1:0";
      const server = await startServer({
        address,
        services,
        committee: id,
        domain: "relay",
        log: SILENT,
        meters: NO_METERS,
      });
      servers.push(server);
      addresses.push(`127.0.0.1:${server.port}`);
    }
    // What a broker may let in, and what all members refuse alike.
    await log.append(0, new TextEncoder().encode("not an entry"));
    for (let slot = 1n; slot <= SLOTS; slot++) {
      nowMs = slotStartMs(config, slot);
      await until(`slot ${slot}`, () => members.every((each) => each.committee.floor("accepted") > slot));
    }
    records = await collect({ from: "start" });
  });
  after(async () => {
    for (const server of servers) server.close();
    for (const member of members) await member.stop(50);
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function until(what: string, holds: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!holds()) {
      assert.ok(performance.now() < deadline, `not in time: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async function collect(changes: Partial<LogExportOptions> = {}): Promise<LogRecord[]> {
    const options = {
      config,
      organism: "relay" as const,
      addresses,
      memberKey: memberKey(1),
      index: 1,
      clock,
      from: "auto" as const,
    };
    const found: LogRecord[] = [];
    for await (const record of exportLog({ ...options, ...changes })) found.push(record);
    return found;
  }

  function judge(found: readonly LogRecord[], of = config): ReturnType<LogVerifier<unknown, unknown, never>["finish"]> {
    const verifier = new LogVerifier({
      config: of,
      createMachine: (_, roster) => toyDefinition.createMachine(of, roster),
      checkpointEvery: EVERY,
    });
    for (const record of found) {
      const wrong = verifier.take(record);
      if (wrong !== undefined) return { wrong };
    }
    return verifier.finish();
  }

  const wrong = (found: readonly LogRecord[]): LogProblem => {
    const verdict = judge(found);
    assert.ok("wrong" in verdict, "it holds");
    return verdict.wrong;
  };
  const entries = (): Record<"entry">[] => records.filter((each) => each.type === "entry");
  /** The export with one entry replaced. */
  const with_ = (position: bigint, raw: Uint8Array): LogRecord[] =>
    records.map((each) => (each.type === "entry" && each.position === position ? { ...each, raw } : each));
  /** An entry of the middle that took its place in its author's lane. */
  const middle = () => {
    const found = entries();
    const at = found[Math.floor(found.length / 2)];
    assert.ok(at !== undefined);
    return { position: at.position, raw: at.raw, entry: decodeEntry(at.raw) };
  };

  test("holds: chain, states, certificates, and what was refused", () => {
    const verdict = judge(records);
    assert.ok(
      "holds" in verdict,
      JSON.stringify(verdict, (_, value) => (typeof value === "bigint" ? `${value}` : value)),
    );
    const { holds } = verdict;
    assert.equal(holds.fromPosition, 1n);
    assert.equal(holds.toPosition, BigInt(entries().length));
    assert.ok(holds.checkpoints >= 2, `${holds.checkpoints} checkpoints`);
    assert.ok(holds.outcomes >= 10, `${holds.outcomes} outcomes`);
    assert.ok(holds.decided >= holds.outcomes);
    assert.ok(holds.refused >= 1, "the broker's own line is counted");
    assert.deepEqual(holds.heads, [0, 1, 2]);
    assert.equal(holds.vouchedTo, holds.toPosition);
  });

  test("holds from a certified checkpoint, and for a part", async () => {
    const found = await collect({ from: "checkpoint" });
    const start = found.find((each) => each.type === "start");
    assert.ok(start !== undefined);
    const verdict = judge(found);
    assert.ok("holds" in verdict);
    assert.equal(verdict.holds.fromPosition, start.certified.checkpoint.position + 1n);
    const last = verdict.holds.fromPosition + 2n;
    const part = judge(await collect({ from: "checkpoint", until: last }));
    assert.ok("holds" in part);
    assert.equal(part.holds.toPosition, last);
  });

  test("the nearest exports that do not hold are refused, each with what is wrong first", () => {
    const { position, raw, entry } = middle();
    const { author } = entry.body;
    const badSignature = encodeEntry(
      entry.bodyBytes,
      entry.signature.map((byte, at) => (at === 5 ? byte ^ 1 : byte)),
    );
    const after = entries().find((each) => each.position === position + 1n);
    assert.ok(after !== undefined);
    const without = (drop: (record: LogRecord) => boolean): LogRecord[] => records.filter((each) => !drop(each));
    const at = (found: LogProblem) => ({ reason: found.reason, position: found.position, author: found.author });

    assert.deepEqual(at(wrong(with_(position, badSignature))), { reason: "BAD_ENTRY", position, author });
    const swapped = with_(position, after.raw).map((each) =>
      each.type === "entry" && each.position === position + 1n ? { ...each, raw } : each,
    );
    assert.equal(wrong(swapped).reason, "BAD_ENTRY");
    assert.ok((wrong(swapped).position ?? 0n) >= position, "named where it begins");
    assert.deepEqual(at(wrong(without((each) => each.type === "entry" && each.position === position))), {
      reason: "HOLE",
      position: position + 1n,
      author: undefined,
    });
    const closedUp = without((each) => each.type === "entry" && each.position === position).map((each) =>
      each.type === "entry" && each.position > position ? { ...each, position: each.position - 1n } : each,
    );
    const closedUpWrong = wrong(closedUp);
    assert.equal(closedUpWrong.reason, "BAD_ENTRY");
    assert.ok((closedUpWrong.position ?? 0n) >= position);
    assert.equal(wrong(without((each) => each.type === "end")).reason, "TRUNCATED");
    assert.equal(wrong(without((each) => each.type === "roster")).reason, "MALFORMED");
    assert.equal(wrong([...records, ...records.slice(-1)]).reason, "MALFORMED");
  });

  test("certificates, states and heads of another history are refused", async () => {
    const replace = <T extends LogRecord["type"]>(
      type: T,
      change: (record: Record<T>) => LogRecord,
      from = records,
    ) => {
      const index = from.findIndex((each) => each.type === type);
      assert.ok(index >= 0, type);
      return from.map((each, at) => (at === index ? change(each as Record<T>) : each));
    };
    const outcome = replace("outcome", (each) => ({
      ...each,
      certified: {
        ...each.certified,
        outcome: { ...each.certified.outcome, kind: "result", commitment: new Uint8Array(4).fill(9) },
      },
    }));
    assert.equal(wrong(outcome).reason, "BAD_CERTIFICATE");
    const checkpoint = replace("checkpoint", (each) => ({
      ...each,
      certified: { ...each.certified, checkpoint: { ...each.certified.checkpoint, stateHash: new Uint8Array(32) } },
    }));
    assert.equal(wrong(checkpoint).reason, "BAD_CERTIFICATE");
    const head = replace("head", (each) => ({ ...each, statement: { ...each.statement, head: new Uint8Array(32) } }));
    assert.equal(wrong(head).reason, "HEAD_DIFFERS");
    const roster = replace("roster", (each) => ({
      ...each,
      certified: { ...each.certified, signature: new Uint8Array(96) },
    }));
    assert.equal(wrong(roster).reason, "BAD_CERTIFICATE");
    const end = replace("end", (each) => ({ ...each, head: new Uint8Array(32) }));
    assert.equal(wrong(end).reason, "HEAD_DIFFERS");
    const started = await collect({ from: "checkpoint" });
    const state = replace(
      "start",
      (each) => ({ ...each, state: each.state.map((byte, at) => (at === 40 ? byte ^ 1 : byte)) }),
      started,
    );
    assert.equal(wrong(state).reason, "BAD_STATE");
    const other = dealCommittee(COUNT);
    const verdict = judge(records, other.config);
    assert.ok("wrong" in verdict && verdict.wrong.reason === "ANOTHER_LOG");
  });

  test("what nobody vouches for is not taken on trust", () => {
    const junk = new TextEncoder().encode("put there by whoever made the file");
    const last = entries().at(-1);
    assert.ok(last !== undefined);
    const forged: LogRecord[] = [];
    for (const record of records) {
      if (record.type === "head" || record.type === "checkpoint" || record.type === "outcome") continue;
      if (record.type !== "end") forged.push(record);
    }
    const end = (entriesCount: number, position: bigint): LogRecord => ({
      type: "end",
      position,
      head: headAfter(forged),
      entries: BigInt(entriesCount),
      records: forged.length,
    });
    const honest = judge([...forged, end(entries().length, last.position)]);
    assert.ok("holds" in honest, "a part without witnesses holds up to its newest certified state");
    assert.ok(honest.holds.vouchedTo < last.position);
    forged.push({ type: "entry", position: last.position + 1n, raw: junk });
    const found = wrong([...forged, end(entries().length + 1, last.position + 1n)]);
    assert.deepEqual([found.reason, found.position], ["BAD_ENTRY", last.position + 1n]);
  });

  function headAfter(found: readonly LogRecord[]): Uint8Array {
    let head = genesisHead(id, 0n);
    for (const record of found) if (record.type === "entry") head = nextHead(head, record.position, record.raw);
    return head;
  }

  test("the file: any cut into pieces reads alike; a changed byte is refused or changes nothing that counts", () => {
    const file = concat(LOG_EXPORT_MAGIC, ...records.map(frameRecord));
    const read = (pieces: readonly Uint8Array[]): { found: LogRecord[]; whole: boolean } => {
      const reader = new LogRecordReader();
      const found = pieces.flatMap((piece) => [...reader.push(piece)]);
      return { found, whole: reader.whole };
    };
    for (const size of [7, 1000, 1 << 20]) {
      const pieces = [];
      for (let at = 0; at < file.length; at += size) pieces.push(file.subarray(at, at + size));
      const { found, whole } = read(pieces);
      assert.ok(whole);
      assert.deepEqual(found, records);
    }
    assert.equal(read([file.subarray(0, -1)]).whole, false);
    const expected = judge(records);
    assert.ok("holds" in expected);
    fc.assert(
      fc.property(fc.nat(file.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = file.slice();
        changed[at] = (changed[at] ?? 0) ^ flip;
        let verdict: ReturnType<typeof judge>;
        try {
          const { found, whole } = read([changed]);
          if (!whole) return;
          verdict = judge(found);
        } catch (error) {
          assert.ok(error instanceof CodecError, String(error));
          return;
        }
        if ("wrong" in verdict) return;
        // Who signed is informative; an entry's signature has one spelling, and the chain holds all of an entry.
        assert.deepEqual(verdict.holds, { ...expected.holds, outcomes: verdict.holds.outcomes });
      }),
      { numRuns: 60 },
    );
  });

  describe("is for those who may read it", () => {
    const guest = generateSigningKey(random(32));
    const ticket = (audience: Uint8Array, subject = guest, expSlot = 1000n): Uint8Array =>
      signTicket(issuer, { audience, subject: subject.publicKey, expSlot });
    const guestTicket = (): Uint8Array => ticket(derive(id, "guest"));

    async function first(
      key: SigningKey,
      tickets: readonly Uint8Array[],
      fromPosition: bigint,
      changes: Partial<ReaderRequest> = {},
    ): Promise<bigint | string> {
      const client = connectService(CommitteeService, addresses[0] ?? "", { committee: id });
      const request = {
        committee: id,
        what: "log" as const,
        position: fromPosition,
        key: key.publicKey,
        signedAtMs: BigInt(nowMs),
      };
      const signature = signReader(key, { ...request, ...changes });
      const reader = {
        key: key.publicKey,
        tickets: [...tickets],
        signedAtMs: changes.signedAtMs ?? request.signedAtMs,
        signature,
      };
      try {
        for await (const { event } of client.readLog({ fromPosition, untilPosition: fromPosition, reader })) {
          if (event.case === "message") return event.value.position;
        }
        return "nothing";
      } catch (error) {
        assert.ok(error instanceof Fault);
        return error.reason;
      } finally {
        client.close();
      }
    }

    test("members read from the first position on, others do not", async () => {
      assert.equal(await first(memberKey(2), [], 1n), 1n);
      assert.equal(await first(guest, [], 1n), "READER_NOT_ADMITTED");
      assert.equal(await first(memberKey(2), [], 1n, { signedAtMs: BigInt(nowMs - 30_001) }), "READER_NOT_ADMITTED");
      assert.equal(await first(memberKey(2), [], 1n, { position: 2n }), "READER_NOT_ADMITTED");
      assert.equal(await first(memberKey(2), [], 1n, { what: "snapshot" }), "READER_NOT_ADMITTED");
      assert.equal(
        await first(memberKey(2), [], 1n, { committee: committeeId(config, "tally") }),
        "READER_NOT_ADMITTED",
      );
    });

    test("guests with a ticket to read go on from a checkpoint, and no further back", async () => {
      const oldest = records.find((each) => each.type === "checkpoint");
      assert.ok(oldest !== undefined);
      const from = log.lastPosition;
      assert.equal(await first(guest, [guestTicket()], from), from);
      assert.equal(await first(guest, [guestTicket()], 1n), "LOG_TOO_OLD");
      assert.equal(await first(guest, [ticket(id)], from), "READER_NOT_ADMITTED", "a ticket to write is none to read");
      assert.equal(await first(guest, [ticket(derive(id, "guest"), memberKey(0))], from), "READER_NOT_ADMITTED");
      assert.equal(await first(guest, [ticket(derive(id, "guest"), guest, 1n)], from), "READER_NOT_ADMITTED");
      assert.equal(await first(guest, [guestTicket(), guestTicket()], from), "READER_NOT_ADMITTED");
    });

    test("whoever exports learns why it cannot", async () => {
      await assert.rejects(collect({ memberKey: guest }), (error: unknown) => {
        return error instanceof Fault && error.reason === "READER_NOT_ADMITTED";
      });
      await assert.rejects(collect({ until: 1_000_000n }), ExportProblem);
      await assert.rejects(collect({ from: "checkpoint", until: 1n }), ExportProblem);
    });
  });

  test("a member that goes on unasked, or names ever later slots, does not make the export go on", async () => {
    let asked = 0;
    const connect = (address: string, of: Uint8Array): ReturnType<typeof connectOverGrpc> => {
      const client = connectOverGrpc(address, of);
      return {
        ...client,
        async *readLog(request, options) {
          let position = 0n;
          for await (const message of client.readLog(request, options)) {
            if (message.event.case === "message") ({ position } = message.event.value);
            yield message;
          }
          for (let more = 0; more < 3; more++) {
            position += 1n;
            const value = create(LogMessageSchema, { position, raw: new Uint8Array([more]) });
            yield create(ReadLogResponseSchema, { event: { case: "message", value } });
          }
        },
        // biome-ignore lint/correctness/useYield: it fails before it has anything
        async *watchOutcomes({ fromSlot = 0n }) {
          asked += 1;
          const metadata = { oldest_slot: asked > 200 ? "0" : `${fromSlot + 1n}` };
          throw faultsOf("relay", COMMON_FAULTS)("OUTCOME_TOO_OLD", "held from later on", metadata);
        },
        close: () => client.close(),
      };
    };
    const found = await collect({ connect, addresses: addresses.slice(0, 1) });
    const verdict = judge(found);
    assert.ok(
      "holds" in verdict,
      JSON.stringify(verdict, (_, each) => (typeof each === "bigint" ? `${each}` : each)),
    );
    assert.ok(asked <= Number(SLOTS) + 3, `${asked} times`);
  });

  test("the log is trimmed after a member has said where it begins: it is exported from where it begins now", async () => {
    const said = (address: string, of: Uint8Array): ReturnType<typeof connectOverGrpc> => {
      const client = connectOverGrpc(address, of);
      return {
        ...client,
        getStatus: async (request) => ({ ...(await client.getStatus(request)), logFirstPosition: 1n }),
        close: () => client.close(),
      };
    };
    const oldest = records.find((each) => each.type === "checkpoint")?.certified.checkpoint.position ?? assert.fail();
    await log.trim(oldest + 1n);
    assert.ok(log.firstPosition > 1n);
    const found = await collect({ connect: said });
    const verdict = judge(found);
    assert.ok("holds" in verdict);
    assert.ok(verdict.holds.fromPosition >= log.firstPosition);
    await assert.rejects(collect({ connect: said, from: "start" }), (error: unknown) => {
      return error instanceof Fault && error.reason === "LOG_TOO_OLD";
    });
  });
});
