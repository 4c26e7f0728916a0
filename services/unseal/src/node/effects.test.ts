/** Whole rounds of three members, t = 2, with real cryptography. */
import assert from "node:assert/strict";
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { decode, encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { sealIbe } from "@lattice/organism/crypto/ibe.ts";
import { generateSecret } from "@lattice/organism/crypto/shamir.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { fromWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import {
  MESSAGE_CONTENT,
  type MessageContent,
  UNSEALED,
  UNSEALED_BODY,
  unsealIdentity,
} from "@lattice/organism/outcomes/unseal.ts";
import type { BroadcastMessage } from "@lattice/organism/outcomes/zipnet.ts";
import { type Client, connectService } from "@lattice/organism/rpc/client.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { FailureReason, UnsealService } from "@lattice/proto/lattice/unseal/v1/unseal_service_pb.ts";
import { attributionOf, broadcastOf, dealLattice, outcomeOf, random } from "../../test/lattice.ts";
import { type Running, startMembers } from "../../test/members.ts";
import { messageAad, SUITE, sealMessage, verifyOpening } from "../client/seal.ts";
import { sealingKeyOf } from "../client/sealing-key.ts";
import { sealedShareBytes } from "../core/codec.ts";
import { boxShare, makeSealedShare } from "./slot-key.ts";

const lattice = dealLattice();
const { config, roster, sealingKey } = lattice;
const SHARES_BEFORE_MS = config.unseal.content.sharesMs;
const stopping: (() => unknown)[] = [];

before(() => initCrypto());
after(async () => {
  for (const stop of stopping.reverse()) await stop();
});

async function run(workers = 0): Promise<Running> {
  const running = await startMembers(lattice, workers);
  stopping.push(() => running.stop());
  return running;
}

const contentOf = (fill: number, everything = false): MessageContent => ({
  version: 1,
  rawTransaction: new Uint8Array(150).fill(fill),
  refund: undefined,
  disclosure: { hash: false, target: false, everything },
});

function messageOf(cell: number, slot: bigint, content: MessageContent, messageId = random(16)): BroadcastMessage {
  const sealed = sealMessage({ config, sealingKey, epoch: 0n, slot, messageId, content, random });
  return { cell, messageId, receiptKey: random(32), token: new Uint8Array(), sealed };
}

/** Broadcast and BlindClosed of the slot are observed, and it is time for shares. */
function broadcast({ driver, broadcastBodies }: Running, slot: bigint, messages: readonly BroadcastMessage[]): void {
  driver.at(slot, SHARES_BEFORE_MS);
  const { outcome, body } = broadcastOf(config, slot, messages);
  broadcastBodies.set(slot, body);
  driver.observe("zipnet", outcome);
  driver.observe("offer", outcomeOf(config, "offer", "blind", slot, "empty"));
}

async function contentsOf({ members }: Running, outcome: Outcome | undefined): Promise<string[][]> {
  assert.ok(outcome?.bodyHash !== undefined);
  const { bodyHash } = outcome;
  return Promise.all(
    members.map(async ({ bodies }) => {
      const body = await bodies.get(bodyHash);
      return body === undefined ? [] : decode(UNSEALED_BODY, body).map(({ content }) => toHex(content));
    }),
  );
}

describe("a round", () => {
  const slot = 2n;
  let running: Running;
  let messages: BroadcastMessage[];
  let client: Client<typeof UnsealService>;

  before(async () => {
    running = await run(1);
    const good = [0, 1, 2].map((index) => messageOf(10 + index, slot, contentOf(0xc0 + index, index === 2)));
    const [first, second] = good;
    assert.ok(first !== undefined && second !== undefined);
    const identity = unsealIdentity(roster.committee, 0n, slot);
    const oddId = random(16);
    const odd = sealIbe({
      suite: SUITE,
      sealingKey,
      identity,
      aad: messageAad(identity, oddId),
      content: random(50),
      random,
    });
    const flipped = { ...messageOf(3, slot, contentOf(1)) };
    flipped.sealed = Uint8Array.from(flipped.sealed);
    flipped.sealed[90] = (flipped.sealed[90] ?? 0) ^ 1;
    messages = [
      ...good,
      { ...first, cell: 1, messageId: random(16) }, // copied to another id
      { ...messageOf(2, slot + 1n, contentOf(2)) }, // sealed to another slot
      flipped,
      { ...first, cell: 4, messageId: oddId, sealed: odd },
      { ...first, cell: 5, messageId: random(16), sealed: random(20) },
      { ...second, cell: 40 }, // the same message again
    ];
    broadcast(running, slot, messages);
    assert.deepEqual(await running.settle(), []);
    const [member] = running.members;
    assert.ok(member !== undefined);
    const server = await startServer({
      address: "127.0.0.1:0",
      services: member.node.services,
      committee: roster.committee,
      domain: "unseal",
      log: createLogger("silent", {}),
      meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
    });
    client = connectService(UnsealService, `127.0.0.1:${server.port}`, { committee: roster.committee });
    stopping.push(() => server.close());
    stopping.push(() => client.close());
  });

  test("opens what was sealed to it, reports the rest, and discloses what senders allow", async () => {
    const outcome = running.driver.outcomes.get(slot);
    assert.equal(outcome?.kind, "result");
    const round = decode(UNSEALED, outcome?.commitment ?? new Uint8Array());
    const expected = [0, 1, 2].map((index) => toHex(encode(MESSAGE_CONTENT, contentOf(0xc0 + index, index === 2))));
    const contents = await contentsOf(running, outcome);
    assert.equal(contents.length, 3);
    for (const each of contents) assert.deepEqual([...each].sort(), expected.sort(), "every member holds the body");
    assert.deepEqual(
      round.failures.map(({ reason }) => reason),
      ["malformed", "malformed", "malformed", "not-content", "malformed", "duplicate"],
    );
    const disclosed = round.messages.filter((each) => each.disclosed.rawTransaction !== undefined);
    assert.deepEqual(
      disclosed.map(({ disclosed: { rawTransaction } }) => rawTransaction),
      [new Uint8Array(150).fill(0xc2)],
    );
  });

  test("nothing a member logs or counts says anything of contents, keys or seeds", () => {
    const said = running.members.flatMap((member) => member.said).join("\n");
    for (const planted of ["c0c0c0c0", "c1c1c1c1", ...messages.map(({ messageId }) => toHex(messageId))]) {
      assert.ok(!said.includes(planted));
    }
    assert.ok(said.includes("lattice_unseal_messages_opened_total 3"));
  });

  test("σ is served once the message has landed, and anybody verifies with it", async () => {
    const [landed, other] = messages;
    assert.ok(landed !== undefined && other !== undefined);
    const request = { slot, messageId: landed.messageId };
    const reason = (expected: string) => (error: unknown) => error instanceof Fault && error.reason === expected;
    await assert.rejects(client.getOpening(request), reason("OPENING_NOT_LANDED"));
    running.driver.observe("tally", attributionOf(config, slot, [landed.messageId]));
    const opening = await client.getOpening(request);
    const round = decode(UNSEALED, running.driver.outcomes.get(slot)?.commitment ?? new Uint8Array());
    const contentHash = round.messages.find(({ messageId }) => equalBytes(messageId, landed.messageId))?.contentHash;
    assert.ok(contentHash !== undefined);
    assert.equal(opening.cell, landed.cell);
    const place = { config, sealingKey, epoch: opening.epoch, slot, messageId: landed.messageId };
    const verified = verifyOpening({ ...place, sealed: landed.sealed, sigma: opening.sigma, contentHash });
    assert.ok("message" in verified);
    assert.deepEqual(verified.message, contentOf(0xc0));
    await assert.rejects(client.getOpening({ slot, messageId: other.messageId }), reason("OPENING_NOT_LANDED"));
    await assert.rejects(
      client.getOpening({ slot: slot + 1n, messageId: landed.messageId }),
      reason("OPENING_NOT_LANDED"),
    );
    await assert.rejects(client.getOpening({ slot, messageId: random(15) }), reason("MALFORMED"));
  });

  test("seeds lie in files of mode 600; what landed outlives its slot, the rest does not", async () => {
    const [member] = running.members;
    const [landed, other] = messages;
    assert.ok(member !== undefined && landed !== undefined && other !== undefined);
    const directory = join(member.directory, "openings");
    const [name] = await readdir(directory);
    assert.equal((await stat(join(directory, name ?? ""))).mode & 0o777, 0o600);
    assert.equal((await stat(directory)).mode & 0o777, 0o700);
    const decided = running.driver.outcomes.get(slot);
    assert.ok(decided !== undefined);
    member.node.decided?.(decided);
    running.driver.collapse(slot + 1n);
    member.node.decided?.(decided);
    while ((await readdir(directory)).some((each) => !each.endsWith(".landed"))) await new Promise(setImmediate);
    const opening = await client.getOpening({ slot, messageId: landed.messageId });
    assert.equal(opening.sigma.length, 32);
    await assert.rejects(client.getOpening({ slot, messageId: other.messageId }), Fault);
  });

  test("the sealing key comes with the certificate that vouches for it", async () => {
    const answer = await client.getSealingKey({ slot });
    assert.ok(answer.roster !== undefined);
    const certified = fromWireOutcome(answer.roster);
    assert.ok(certified !== undefined);
    assert.deepEqual(sealingKeyOf(config, certified, slot), {
      key: answer.sealingKey,
      epoch: answer.epoch,
      fromSlot: answer.fromSlot,
      toSlot: answer.toSlot,
    });
    await assert.rejects(client.getSealingKey({ slot: answer.toSlot + 1n }), Fault);
  });

  test("certified rounds are streamed decoded, after a sign of life", async () => {
    const slotOf = 9n;
    const commitment = encode(UNSEALED, {
      version: 1,
      broadcast: random(32),
      blind: undefined,
      messages: [],
      failures: [{ messageId: random(16), reason: "too-large" }],
    });
    const outcome = outcomeOf(config, "unseal", "unsealed", slotOf, "empty", commitment);
    running.certified.push({ outcome, signature: blsSign(generateSecret(random), random(32)), signers: [0, 1] });
    const events = [];
    for await (const { event } of client.watchUnsealed({ fromSlot: 1n })) events.push(event);
    assert.equal(events[0]?.case, "heartbeatSlot");
    const round = events.find((event) => event.case === "round")?.value;
    assert.equal(round?.certified?.slot, slotOf);
    assert.equal(round?.blind.length, 0);
    assert.equal(round?.failures[0]?.reason, FailureReason.TOO_LARGE);
  });
});

describe("bad shares", () => {
  const outsider = generateSecret(random);
  const sealingShare = outsider;
  const badShare: Readonly<Record<string, (slot: bigint) => Uint8Array>> = {
    "of another key": (slot) => makeSealedShare({ roster, self: 0, random, sealingShare }, slot),
    "no point": (slot) => boxShare(roster, slot, 0, random(96), random),
    "a changed box": (slot) => boxShare(roster, slot, 0, random(96), random).with(0, 0).with(1, 0),
    garbage: () => random(sealedShareBytes(roster.members.length)),
    "boxed in another author's name": (slot) => makeSealedShare({ roster, self: 1, random, sealingShare }, slot),
  };
  const problems: Readonly<Record<string, string>> = { "of another key": "does-not-verify", "no point": "not-a-point" };
  for (const [how, make] of Object.entries(badShare)) {
    const problem = problems[how] ?? "does-not-open";
    test(`${how}: the author is named, and the slot opens with t others`, async () => {
      const slot = 3n;
      const running = await run();
      const message = messageOf(0, slot, contentOf(7));
      broadcast(running, slot, [message]);
      await running.settle([0, 1, 2], ({ kind }) => kind === "freeze");
      const bad = { type: "share", slot, epoch: 0n, sealed: make(slot) } as const;
      assert.equal(running.driver.command(0, bad), undefined);
      await running.settle([1]);
      assert.equal(running.driver.outcomes.get(slot), undefined, "one good share opens nothing");
      assert.ok(running.members[1]?.said.some((line) => line.includes("SHARE_UNUSABLE") && line.includes(problem)));
      assert.deepEqual(await running.settle(), []);
      assert.equal(running.driver.outcomes.get(slot)?.kind, "result");
      for (const { said } of running.members) {
        const blamed = said.filter((line) => line.startsWith("lattice_unseal_unusable_shares_total"));
        assert.deepEqual(blamed, [`lattice_unseal_unusable_shares_total 1 {"author":"0","problem":"${problem}"}`]);
      }
    });
  }
});

describe("what must not happen", () => {
  test("a member releases nothing before the freeze record, nor past the deadline", async () => {
    const slot = 2n;
    const running = await run();
    const [member] = running.members;
    assert.ok(member !== undefined);
    broadcast(running, slot, [messageOf(0, slot, contentOf(1))]);
    const duty = { kind: "share", key: `share/${slot}/0`, slot, promise: true } as const;
    assert.equal(await member.node.execute(duty), undefined);
    await running.settle([0, 1, 2], ({ kind }) => kind === "freeze");
    running.driver.nowMs += config.slotMs;
    assert.deepEqual(await running.settle(), []);
    assert.equal(running.driver.state.slots.get(slot)?.shares.size, 0);
    assert.equal(running.driver.outcomes.get(slot), undefined);
  });

  test("nothing that opens: Empty, without a body", async () => {
    const slot = 2n;
    const running = await run();
    broadcast(running, slot, [{ ...messageOf(0, slot, contentOf(1)), messageId: random(16) }]);
    await running.settle();
    const outcome = running.driver.outcomes.get(slot);
    assert.equal(outcome?.kind, "empty");
    assert.equal(outcome?.bodyHash, undefined);
  });

  test("frauds in the log are reported once", async () => {
    const running = await run();
    const slot = 2n;
    running.driver.at(slot, SHARES_BEFORE_MS);
    const sealed = random(sealedShareBytes(roster.members.length));
    assert.equal(running.driver.command(2, { type: "share", slot, epoch: 0n, sealed })?.reason, "SHARE_BEFORE_FREEZE");
    const [member] = running.members;
    const outcome = outcomeOf(config, "unseal", "unsealed", 1n, "skipped");
    for (let times = 0; times < 2; times++) member?.node.decided?.(outcome);
    assert.equal(member?.said.filter((line) => line.includes("SHARE_BEFORE_FREEZE")).length, 1);
  });
});
