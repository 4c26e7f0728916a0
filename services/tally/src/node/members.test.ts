/**
 * Three real members on the embedded log, neighbours over gRPC, and a chain nobody here wrote: bids are paid in,
 * attributed, attested, posted by the members' own transactions, and claimed.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { decode, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { latticeRoot } from "@lattice/organism/identity/unique-id.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { Member } from "@lattice/organism/node/member.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters, type MeterRegistry } from "@lattice/organism/observe/meters.ts";
import type { Entry } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { BatchStatus, TallyService } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { WITHOUT_ANVIL } from "../../test/anvil.ts";
import { testKey } from "../../test/keys.ts";
import {
  acceptedOutcome,
  auctionOf,
  CHAIN_ID,
  candidateOutcome,
  dealLattice,
  MEMBERS,
  messageId,
  outcomeOf,
  random,
  rawTransaction,
  rostersOf,
  rowOf,
  SIGNERS,
  type TestLattice,
  THRESHOLD,
  winnerOf,
  word,
} from "../../test/lattice.ts";
import { type Neighbour, startNeighbour } from "../../test/neighbour.ts";
import { Bench, ETHER } from "../../test/settlement-bench.ts";
import { SETTINGS, type TallySettings } from "../config.ts";
import { hex } from "../contract/settlement-call.ts";
import { STAGE, type TallyCommand, type TallyDuty, type TallyState } from "../core/types.ts";
import { definition } from "../definition.ts";

type TallyMember = Member<TallyState, TallyCommand, TallyDuty, TallySettings>;

const user = testKey("members user");
const searcher = testKey("members searcher");
const BID_WEI = 1_000_000n;
const REFUND_WEI = 900_000n;

/** When a test gives up. */
const PATIENCE_MS = 120_000;

/** Waits for what other processes decide; every call has its own deadline inside the test runner's. */
async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE_MS;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

describe("three members and a chain", { skip: WITHOUT_ANVIL }, () => {
  let bench: Bench;
  let lattice: TestLattice;
  let directory: string;
  let log: EmbeddedLog;
  let neighbours: { readonly atelier: Neighbour; readonly offer: Neighbour; readonly relay: Neighbour };
  let members: TallyMember[] = [];
  const meters: MeterRegistry[] = Array.from({ length: MEMBERS }, () => createNoMeters());
  /** The members' clock stands still but for what a test does: nobody's patience ends because the machine is busy. */
  let nowMs = 0;
  let userTransaction: Uint8Array;

  const roots: bigint[] = [];

  async function start(self: number): Promise<TallyMember> {
    const folder = join(directory, `member-${self}`);
    const secrets = lattice.secrets[self];
    const meter = meters[self];
    assert.ok(secrets !== undefined && meter !== undefined);
    const none: string[] = [];
    const { atelier, offer, relay } = neighbours;
    return Member.start({
      definition,
      settings: SETTINGS.parse({
        TALLY_CHAIN_RPC: bench.chain.url,
        TALLY_SUBMIT_URL: bench.chain.url,
        TALLY_POSTER_KEY_FILE: join(directory, `poster-${self}`),
      }),
      config: lattice.config,
      self,
      rosters: rostersOf(lattice),
      secrets,
      endpoints: () => ({
        zipnet: none,
        unseal: none,
        tally: none,
        atelier: [atelier.address],
        offer: [offer.address],
        relay: [relay.address],
      }),
      log: log.member(self),
      journal: await FileJournal.open(folder),
      journalIsOld: true,
      directory: folder,
      clock: { nowMs: () => nowMs },
      random,
      logger: createLogger("silent", {}),
      meters: meter,
      tracer: { span: () => undefined, root: (slot) => roots.push(slot), close: async () => undefined },
      onFatal: (reason, detail) => assert.fail(`${reason}: ${detail}`),
    });
  }

  function atLeast(ms: number): void {
    nowMs = Math.max(nowMs, ms);
  }

  before(async () => {
    await initCrypto();
    bench = await Bench.start({
      latticeId: latticeRoot("tally-test", CHAIN_ID),
      signers: SIGNERS.map(({ address }) => address),
      threshold: THRESHOLD,
    });
    lattice = dealLattice(fromHex(bench.settlement.slice(2)), Date.now());
    atLeast(slotStartMs(lattice.config, 3n));
    userTransaction = await rawTransaction(user);
    await bench.fund(searcher, 100n * ETHER);
    directory = await mkdtemp(join(tmpdir(), "lattice-tally-"));
    for (let self = 0; self < MEMBERS; self++) {
      const poster = testKey(`poster ${self}`);
      await bench.fund(poster, ETHER);
      await writeFile(join(directory, `poster-${self}`), toHex(poster.secret), { mode: 0o400 });
    }
    log = await EmbeddedLog.open(join(directory, "log"));
    const [atelier, offer, relay] = await Promise.all([
      startNeighbour(lattice.config, "atelier"),
      startNeighbour(lattice.config, "offer"),
      startNeighbour(lattice.config, "relay"),
    ]);
    neighbours = { atelier, offer, relay };
    members = await Promise.all([0, 1, 2].map(start));
  });
  after(async () => {
    await Promise.all(members.map((member) => member.stop(100)));
    for (const neighbour of Object.values(neighbours ?? {})) neighbour.close();
    await log?.close();
    if (directory !== undefined) await rm(directory, { recursive: true, force: true });
    await bench?.chain.stop();
  });

  /** Certified outcomes of a slot whose block is the given one: one bundle that paid for the user's message. */
  function publish(
    slot: bigint,
    block: { readonly number: bigint; readonly hash: string; readonly parentHash: string },
  ) {
    const { config, certify } = lattice;
    const bid = 0xa0 + Number(slot);
    const references = [messageId(Number(slot))];
    const auction = auctionOf(config, slot, {
      winners: [winnerOf(bid, { references, amountWei: BID_WEI, clearingWei: BID_WEI })],
      rivals: references.map((id) => ({ messageId: id, highestOtherWei: 0n })),
    });
    const entries: Entry[] = references.map((id) => ({
      type: "pool",
      messageId: id,
      raw: userTransaction,
      refund: undefined,
    }));
    const blockHash = fromHex(block.hash.slice(2));
    const { outcome, bytes } = candidateOutcome(config, {
      slot,
      blockNumber: block.number,
      blockHash,
      parentHash: fromHex(block.parentHash.slice(2)),
      auction,
      entries,
      table: [rowOf(bid, { references, paymentWei: BID_WEI, valueWei: BID_WEI })],
    });
    neighbours.offer.publish(certify(auction));
    neighbours.atelier.publish(certify(outcome), bytes);
    neighbours.relay.publish(certify(acceptedOutcome(config, slot, blockHash)));
  }

  /** A block in which a bid of the slot is paid. */
  async function payingBlock(slot: bigint, bid = 0xa0 + Number(slot)) {
    const receipt = await bench.send(searcher, "payBid", [slot, hex(word(bid))], BID_WEI);
    return bench.clients.reader.getBlock({ blockNumber: receipt.blockNumber });
  }

  async function certified(member: TallyMember, slot: bigint): Promise<CertifiedOutcome> {
    for await (const each of member.host.watch(STAGE, 1n, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  test("nothing is attributed before finality; then every member certifies the same", async () => {
    const block = await payingBlock(1n);
    publish(1n, block);
    await bench.mine(1);
    const [first] = members;
    assert.ok(first !== undefined);
    await until("the candidate is observed", () => first.host.observed("atelier", "candidate", 1n) !== undefined);
    assert.equal(first.host.outcome(STAGE, 1n), undefined, "one block on top, two are wanted");
    await bench.mine(1);
    const outcomes = await Promise.all(members.map((member) => certified(member, 1n)));
    for (const { outcome, signature } of outcomes) {
      assert.ok(verifyCertificate(lattice.config.tally.policy.certificateKey, outcome, signature));
      assert.equal(outcome.kind, "result");
      const { landed, credits } = decode(ATTRIBUTION, outcome.commitment);
      assert.ok(landed);
      assert.deepEqual(credits, [{ recipient: user.address, kind: "order-flow-provider", wei: REFUND_WEI }]);
    }
  });

  test("a reorg before finality: the block that was acknowledged is not the one that stands", async () => {
    const before = await bench.clients.tester.snapshot();
    const orphaned = await payingBlock(2n);
    publish(2n, orphaned);
    const [first] = members;
    assert.ok(first !== undefined);
    await until("relay's record is observed", () => first.host.observed("relay", "accepted", 2n) !== undefined);
    await bench.clients.tester.revert({ id: before });
    await bench.mine(3);
    const outcomes = await Promise.all(members.map((member) => certified(member, 2n)));
    for (const { outcome } of outcomes) {
      assert.equal(outcome.kind, "empty");
      assert.equal(decode(ATTRIBUTION, outcome.commitment).landed, false);
    }
    await until("everybody counts it", () =>
      meters.every((each) => each.value("lattice_tally_won_but_not_landed_total") === 1),
    );
  });

  test("the root of a slot's trace is emitted once, by whoever's turn it is", () => {
    const decided = roots.toSorted((a, b) => Number(a - b));
    assert.ok(decided.length > 0);
    assert.deepEqual(decided, [...new Set(decided)]);
    assert.deepEqual(
      decided,
      decided.map((_, index) => (decided[0] ?? 0n) + BigInt(index)),
    );
  });

  test("two slots make a batch: signed by the members, posted by one of them, taken by the contract", async () => {
    await until("the contract has batch 1", async () => (await bench.amount("lastBatch")) === 1n);
    assert.equal(await bench.amount("totalAttested"), REFUND_WEI);
    // The chain may show it before the member has heard that it was taken.
    const sent = () => meters.map((each) => each.value("lattice_tally_posts_sent_total", { action: "post" }));
    await until("batch 1 is counted", () => sent().some((each) => each > 0));
    assert.deepEqual(sent(), [0, 1, 0], "batch 1 is member 1's turn");
  });

  test("once the batch is final, anybody can claim for the user, who is paid", async () => {
    atLeast(slotStartMs(lattice.config, 4n));
    const block = await payingBlock(3n);
    publish(3n, block);
    await bench.mine(2);
    await Promise.all(members.map((member) => certified(member, 3n)));
    const [first] = members;
    assert.ok(first !== undefined);
    const server = await startServer({
      address: "127.0.0.1:0",
      services: first.services,
      committee: first.committee.id,
      domain: "tally",
      log: createLogger("silent", {}),
      meters: createNoMeters(),
    });
    const client = connectService(TallyService, `127.0.0.1:${server.port}`, { committee: first.committee.id });
    try {
      const recipient = user.address;
      const { lifetimeTotalWei, proof, batch, settlement } = await client.getClaim({ recipient });
      assert.equal(batch, 1n);
      assert.equal(toHex(settlement), bench.settlement.slice(2));
      const total = BigInt(`0x${toHex(lifetimeTotalWei)}`);
      assert.equal(total, REFUND_WEI);
      const unpaid = await client.getBalance({ recipient });
      assert.equal(BigInt(`0x${toHex(unpaid.owedWei)}`), 2n * REFUND_WEI, "slot 3 is owed, not attested yet");
      assert.equal(BigInt(`0x${toHex(unpaid.claimedWei)}`), 0n);

      await bench.send(searcher, "claim", [hex(recipient), total, proof.map(hex)]);
      assert.equal(await bench.balance(recipient), REFUND_WEI);
      assert.equal(BigInt(`0x${toHex((await client.getBalance({ recipient })).claimedWei)}`), REFUND_WEI);
      await assert.rejects(client.getClaim({ recipient: searcher.address }), { reason: "NOTHING_ATTESTED" });
      await assert.rejects(client.getClaim({ recipient: recipient.subarray(1) }), { reason: "BAD_ADDRESS" });

      const { attestation } = await client.getAttestation({ batch: 1n });
      assert.equal(attestation?.status, BatchStatus.POSTED);
      assert.equal(attestation?.signatures.length, THRESHOLD);
      await assert.rejects(client.getAttestation({ batch: 9n }), { reason: "BATCH_UNKNOWN" });
      const { attribution } = await client.getAttribution({ slot: 2n });
      assert.equal(attribution?.landed, false);
      await assert.rejects(client.getAttribution({ slot: 99n }), { reason: "OUTCOME_UNKNOWN" });
      const beats: (string | undefined)[] = [];
      for await (const { event } of client.watchAttestations({ fromBatch: 1n })) {
        beats.push(event.case);
        if (event.case !== "attestation") continue;
        assert.equal(event.value.batch, 1n);
        break;
      }
      for await (const { event } of client.watchAttributions({ fromSlot: 2n })) {
        beats.push(event.case);
        if (event.case !== "attribution") continue;
        assert.equal(event.value.slot, 2n);
        break;
      }
      assert.deepEqual(
        beats.filter((each, index) => each !== beats[index - 1]),
        ["heartbeatSlot", "attestation", "heartbeatSlot", "attribution"],
      );
    } finally {
      client.close();
      server.close();
    }
  });

  test("a member short: two go on, skipped slots included; the third comes back to the same state", async () => {
    const [first, second, third] = members;
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    await third.stop(100);
    atLeast(slotStartMs(lattice.config, 6n));
    neighbours.atelier.publish(lattice.certify(outcomeOf(lattice.config, "atelier", "candidate", 4n, "skipped")));
    publish(5n, await payingBlock(5n));
    await bench.mine(2);
    await until("both outcomes reached the first member", () => {
      // Observing slot 5, and then posting batch 2, is the absent member's turn: the others' patience must pass.
      nowMs += 500;
      return first.host.observed("atelier", "candidate", 5n) !== undefined;
    });
    assert.equal((await certified(first, 4n)).outcome.kind, "empty");
    assert.equal((await certified(first, 5n)).outcome.kind, "result");
    await until("batch 2 is on chain", async () => {
      nowMs += 500;
      return (await bench.amount("lastBatch")) === 2n;
    });
    assert.equal(await bench.amount("totalAttested"), 2n * REFUND_WEI, "slot 4 closed it; slot 5 goes into the next");

    const again = await start(2);
    members = [first, second, again];
    assert.equal((await certified(again, 5n)).outcome.kind, "result");
    await until("the states meet", () => again.committee.position === first.committee.position);
    assert.equal(again.host.state().next, 6n);
    assert.equal(toHex(again.committee.stateHash()), toHex(first.committee.stateHash()));
  });
});
