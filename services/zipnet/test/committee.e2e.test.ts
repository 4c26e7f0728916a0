/** Three real servers, a real aggregator and real clients over gRPC: messages are heard, also after a server's restart. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import { AggregatorService } from "@lattice/proto/lattice/zipnet/v1/aggregator_service_pb.ts";
import { ZipnetService } from "@lattice/proto/lattice/zipnet/v1/zipnet_service_pb.ts";
import { random } from "../../organism/test/test-lattice.ts";
import { Aggregator } from "../src/aggregator/aggregator.ts";
import { EnvelopeStore } from "../src/aggregator/envelope-store.ts";
import { aggregatorService } from "../src/aggregator/service.ts";
import { RoundFeed } from "../src/client/round-feed.ts";
import { type Submitter, submit } from "../src/client/submit.ts";
import { messagesOf, type OutgoingMessage, type Settled } from "../src/client/zipnet-client.ts";
import { connectAggregator, connectServer } from "../src/node/clients.ts";
import { TestCommittee } from "./committee.ts";
import { message, SILENT } from "./world.ts";

const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };
const clock = { nowMs: () => Date.now() };

/** A wallet for tests: one message at a time, what became of it by promise. */
class Wallet {
  readonly submitter: Submitter;
  #pending: { said: OutgoingMessage; done: (slot: bigint) => void } | undefined;

  constructor(network: Parameters<typeof submit>[0], config: Parameters<typeof submit>[1]) {
    this.submitter = submit(network, config, {
      store: async () => undefined,
      tickets: async () => [],
      next: async () => this.#pending?.said,
      settled: (result) => this.#settled(result),
    });
  }

  #settled({ fate, messageId, slot }: Settled): void {
    if (fate !== "delivered" || messageId === undefined) return;
    if (toHex(messageId) !== toHex(this.#pending?.said.messageId ?? new Uint8Array())) return;
    this.#pending?.done(slot);
    this.#pending = undefined;
  }

  /** Resolves to the slot in whose broadcast the message is. */
  say(said: OutgoingMessage): Promise<bigint> {
    return new Promise((resolve) => {
      this.#pending = { said, done: resolve };
    });
  }
}

describe("zipnet with real members", () => {
  let committee: TestCommittee;
  let feed: RoundFeed;
  let aggregator: Aggregator;
  let aggregatorServer: RunningServer;
  let aggregatorAddress: string;
  const wallets: Wallet[] = [];
  const broadcasts = new Map<bigint, { certified: CertifiedOutcome; body: Uint8Array | undefined }>();

  before(async () => {
    const slotMs = 2000;
    committee = await TestCommittee.create({ slotMs, genesisMs: Date.now() + slotMs, throwAway: true });
    await Promise.all([0, 1, 2].map((index) => committee.start(index)));
    const { config } = committee;
    const servers = () => committee.addresses;
    feed = new RoundFeed({ config, servers, clock, log: SILENT });
    feed.listen({
      broadcast: (certified, body) => broadcasts.set(certified.outcome.slot, { certified, body }),
    });
    aggregator = new Aggregator({
      config,
      key: generateSigningKey(random(32)),
      servers,
      feed,
      store: new EnvelopeStore(join(committee.directory, "aggregator"), 4),
      clock,
      log: SILENT,
      meters: NO_METERS,
    });
    aggregatorServer = await startServer({
      address: "127.0.0.1:0",
      services: [aggregatorService(aggregator)],
      committee: committeeId(config, "zipnet"),
      domain: "zipnet",
      log: SILENT,
      meters: NO_METERS,
    });
    aggregatorAddress = `127.0.0.1:${aggregatorServer.port}`;
    aggregator.start();
    feed.start();
    const network = { servers, aggregators: () => [aggregatorAddress], feed, clock, random, log: SILENT };
    for (let index = 0; index < 3; index++) wallets.push(new Wallet(network, config));
  });
  after(async () => {
    for (const { submitter } of wallets) await submitter.stop();
    await aggregator.stop();
    await feed.stop();
    aggregatorServer.close();
    await committee.close();
  });

  test("messages of several clients are heard in certified broadcasts", { timeout: 600_000 }, async () => {
    const [a, b] = wallets;
    assert.ok(a !== undefined && b !== undefined);
    const said = [message("from a", random), message("from b", random)];
    const slots = await Promise.all([a.say(said[0] ?? message("")), b.say(said[1] ?? message(""))]);
    for (const [index, slot] of slots.entries()) {
      const { certified, body } = broadcasts.get(slot) ?? {};
      assert.ok(certified !== undefined);
      const heard = messagesOf(certified, body) ?? [];
      const wanted = said[index];
      assert.ok(wanted !== undefined);
      const found = heard.find(({ messageId }) => toHex(messageId) === toHex(wanted.messageId));
      assert.deepEqual(found?.sealed, wanted.sealed);
    }
  });

  test("a server that restarts takes its ratchets up again and the next messages are heard", {
    timeout: 600_000,
  }, async () => {
    await committee.stop(1);
    await committee.start(1, true);
    const [, , c] = wallets;
    assert.ok(c !== undefined);
    const slot = await c.say(message("after the restart", random));
    assert.equal(broadcasts.get(slot)?.certified.outcome.kind, "result");
  });

  test("after a server's key rotates everybody agrees again and is heard", { timeout: 600_000 }, async () => {
    const [a] = wallets;
    assert.ok(a !== undefined);
    await committee.stop(2);
    await committee.start(2, true, { ZIPNET_SERVER_SERIAL: "2" });
    const state = () => committee.running.get(0)?.member.host.state();
    const serials = () => [...(state()?.clients.values() ?? [])].map(({ serials: [, , serial] }) => serial);
    while (!serials().includes(2n)) await a.say(message("through the rotation", random));
    const slot = await a.say(message("under the new key", random));
    assert.equal(broadcasts.get(slot)?.certified.outcome.kind, "result");
    assert.equal(state()?.servers.get(2)?.serial, 2n);
  });

  test("bad calls get typed refusals", async () => {
    const { config } = committee;
    const [address] = committee.addresses;
    assert.ok(address !== undefined);
    const server = connectServer(config, address);
    const other = connectService(ZipnetService, address, { committee: new Uint8Array(32) });
    const aggregatorClient = connectAggregator(config, aggregatorAddress);
    const stranger = connectService(AggregatorService, aggregatorAddress, { committee: new Uint8Array(32) });
    try {
      await assert.rejects(server.submitAggregate({ aggregate: new Uint8Array(10) }), { reason: "MALFORMED" });
      await assert.rejects(server.register({ envelopeKey: new Uint8Array(3) }), { reason: "MALFORMED" });
      await assert.rejects(server.register({ envelopeKey: new Uint8Array(32), signature: new Uint8Array(64) }), {
        reason: "BAD_KEY",
      });
      await assert.rejects(server.getRoster({ slot: 1_000_000n }), { reason: "NO_ROUND" });
      await assert.rejects(other.getServers({}), { reason: "ORGANISM_MISMATCH" });
      await assert.rejects(aggregatorClient.submit({ envelope: new Uint8Array(100) }), { reason: "MALFORMED" });
      await assert.rejects(stranger.submit({ envelope: new Uint8Array(100) }), { reason: "ORGANISM_MISMATCH" });
      await assert.rejects(aggregatorClient.submit({ envelope: new Uint8Array(16 << 20) }), { reason: "TOO_LARGE" });
      const { servers } = await server.getServers({});
      assert.equal(servers.length, 3);
    } finally {
      for (const client of [server, other, aggregatorClient, stranger]) client.close();
    }
  });
});
