import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { BROADCAST, BROADCAST_BODY } from "@lattice/organism/outcomes/zipnet.ts";
import { messagesOf, type Settled, ZipnetClient } from "../src/client/zipnet-client.ts";
import { aggregateDigest, signAggregate } from "../src/core/aggregate.ts";
import { ENVELOPE, sealEnvelope } from "../src/core/envelope.ts";
import { FOLD } from "../src/core/types.ts";
import { message, seeded, World } from "./world.ts";

async function gathering(world: World, names: readonly string[]) {
  world.publishServerKeys();
  const participants = [];
  for (const name of names) participants.push(await world.join(name));
  return participants;
}

describe("a round from header to broadcast", () => {
  test("talkers are heard, cover is not, and nobody else can tell", async () => {
    const world = new World();
    const [a, b, c] = await gathering(world, ["a", "b", "c"]);
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    const said = message("a sealed transaction");
    const words = await world.round(1n, [{ participant: a, message: said }, { participant: b }, { participant: c }]);
    assert.deepEqual(words, ["partial", "partial", "partial"]);
    const certified = world.certify("broadcast", 1n);
    assert.equal(certified.outcome.kind, "result");
    const commitment = decode(BROADCAST, certified.outcome.commitment);
    assert.deepEqual([commitment.participants, commitment.messages, commitment.rho], [3, 1, 1n]);
    const body = world.body(1n);
    const [heard] = messagesOf(certified, body) ?? [];
    assert.deepEqual(heard?.sealed, said.sealed);
    assert.deepEqual(heard?.messageId, said.messageId);
    assert.equal((await a.client.settle(certified, body))?.fate, "delivered");
    assert.equal((await b.client.settle(certified, body))?.fate, "cover");
    assert.equal(await a.client.settle(certified, body), undefined);
  });

  test("only cover gives Empty, and the counter goes on", async () => {
    const world = new World();
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    for (const slot of [1n, 2n, 3n]) {
      await world.round(slot, [{ participant: a }, { participant: b }]);
      assert.equal(world.certify("broadcast", slot).outcome.kind, "empty");
    }
    assert.equal(world.state.rho, 3n);
    assert.equal(world.state.rounds.size, 0);
  });

  test("who does not answer is not in the bitmap, and comes back later at the right ratchet value", async () => {
    const world = new World();
    const [a, b, c] = await gathering(world, ["a", "b", "c"]);
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    await world.round(1n, [{ participant: a }, { participant: b }]);
    await world.round(2n, [{ participant: a }, { participant: b }]);
    await world.round(4n, [{ participant: a }, { participant: c, message: message("late") }]);
    const certified = world.certify("broadcast", 4n);
    assert.equal((await c.client.settle(certified, world.body(4n)))?.fate, "delivered");
  });

  test("a client that registers later starts at its own first round", async () => {
    const world = new World();
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    await world.round(1n, [{ participant: a }, { participant: b }]);
    const header = world.open(2n);
    const late = await world.join("late");
    await assert.rejects(late.client.answer(header, undefined, world.nowMs), { reason: "HEADER_RHO" });
    const fold = world.fold(2n);
    for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
    world.close(2n, fold);
    await world.contribute(2n);
    await world.round(3n, [{ participant: a }, { participant: late, message: message("here") }]);
    assert.equal((await late.client.settle(world.certify("broadcast", 3n), world.body(3n)))?.fate, "delivered");
  });

  test("two in one cell are both lost and wait before they talk again", async () => {
    const world = new World({ content: { cells: 1, cellBytes: 1024, segments: 1 } });
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    const said = message("first");
    await world.round(1n, [
      { participant: a, message: said },
      { participant: b, message: message("second") },
    ]);
    const certified = world.certify("broadcast", 1n);
    assert.equal(certified.outcome.kind, "empty");
    assert.equal((await a.client.settle(certified, undefined))?.fate, "lost");
    assert.equal((await b.client.settle(certified, undefined))?.fate, "lost");
    assert.equal(a.client.mayTalk(2n), false);
    const header = world.open(2n);
    const answer = await a.client.answer(header, said, world.nowMs);
    assert.equal(answer.messageId, undefined);
    assert.equal(a.client.mayTalk(12n), true);
  });

  test("a jammer's noise is dropped by the tag and harms only what it hits", async () => {
    const world = new World();
    const [a, b, jammer] = await gathering(world, ["a", "b", "jammer"]);
    assert.ok(a !== undefined && b !== undefined && jammer !== undefined);
    const header = world.open(1n);
    const fold = world.fold(1n);
    const said = message("through");
    const { envelope } = await a.client.answer(header, said, world.nowMs);
    fold.accept(envelope);
    fold.accept((await b.client.answer(header, undefined, world.nowMs)).envelope);
    // The jammer writes noise over half of the cells, with honest pads below and an honest signature above.
    const honest = decode(ENVELOPE, (await jammer.client.answer(header, undefined, world.nowMs)).envelope);
    const vector = honest.vector.slice();
    const noise = seeded("noise")(vector.length / 2);
    for (const [index, byte] of noise.entries()) vector[index] = (vector[index] ?? 0) ^ byte;
    const seed = jammer.saved.subarray(1, 33);
    const jammed = sealEnvelope(
      generateSigningKey(seed),
      { committee: world.committee, rho: honest.rho, headerDigest: honest.headerDigest, client: honest.client },
      vector,
      honest.commitments,
    );
    assert.equal(fold.accept(encode(ENVELOPE, jammed)), "folded");
    world.close(1n, fold);
    assert.deepEqual(await world.contribute(1n), ["partial", "partial", "partial"]);
    const messages = messagesOf(world.certify("broadcast", 1n), world.body(1n)) ?? [];
    // Nothing that the jammer wrote came out; what it did not hit did.
    assert.ok(messages.every(({ messageId }) => toHex(messageId) === toHex(said.messageId)));
  });
});

describe("what servers withhold", () => {
  test("bad key commitments: the round is aborted and their author leaves the roster", async () => {
    const world = new World();
    const [a, b, liar] = await gathering(world, ["a", "b", "liar"]);
    assert.ok(a !== undefined && b !== undefined && liar !== undefined);
    const header = world.open(1n);
    const fold = world.fold(1n);
    for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
    const honest = decode(ENVELOPE, (await liar.client.answer(header, undefined, world.nowMs)).envelope);
    const commitments = honest.commitments.map((each, member) => (member === 1 ? new Uint8Array(32) : each));
    const subject = { committee: world.committee, rho: 1n, headerDigest: honest.headerDigest, client: honest.client };
    const key = generateSigningKey(liar.saved.subarray(1, 33));
    const lying = sealEnvelope(key, subject, honest.vector, commitments);
    assert.equal(fold.accept(encode(ENVELOPE, lying)), "folded");
    world.close(1n, fold);
    const words = await world.contribute(1n);
    assert.deepEqual(words, ["partial", "withhold", "nothing"]);
    assert.equal(world.certify("broadcast", 1n).outcome.kind, "skipped");
    assert.equal(world.state.clients.has(toHex(liar.client.envelopeKey)), false);
    const again = world.command(0, { type: "register", registration: liar.client.registration([]) });
    assert.equal(again?.reason, "CLIENT_STRUCK");
    // The others go on.
    await world.round(2n, [{ participant: a, message: message("still here") }, { participant: b }]);
    assert.equal(world.certify("broadcast", 2n).outcome.kind, "result");
  });

  test("a sum whose participants did not sign is not contributed to", async () => {
    const world = new World();
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    const header = world.open(1n);
    const fold = world.fold(1n);
    for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
    const unsigned = fold.aggregate(world.aggregatorKey.publicKey);
    const [first, second] = unsigned.proofs;
    assert.ok(first !== undefined && second !== undefined);
    const forged = { ...unsigned, proofs: [{ ...first, commitments: second.commitments }, second] };
    const aggregate = signAggregate(world.aggregatorKey, world.committee, forged);
    assert.equal(world.command(0, { type: "aggregate", aggregate }), undefined);
    world.apply({ type: "closed", stage: FOLD, slot: 1n });
    assert.deepEqual(await world.contribute(1n), ["withhold", "nothing", "nothing"]);
    assert.equal(world.certify("broadcast", 1n).outcome.kind, "skipped");
    // An aggregator's lie costs no client its place.
    assert.equal(world.state.clients.size, 2);
  });

  test("too few participants, or no sum at all: aborted at the close", async () => {
    const world = new World();
    const [a] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined);
    const header = world.open(1n);
    const fold = world.fold(1n);
    fold.accept((await a.client.answer(header, message("alone"), world.nowMs)).envelope);
    world.close(1n, fold);
    assert.equal(world.certify("broadcast", 1n).outcome.kind, "skipped");
    assert.equal((await a.client.settle(world.certify("broadcast", 1n), undefined))?.fate, "lost");
    world.open(2n);
    world.apply({ type: "closed", stage: FOLD, slot: 2n });
    assert.equal(world.certify("broadcast", 2n).outcome.kind, "skipped");
  });

  test("a server says one thing per round, and the same after a restart", async () => {
    const world = new World();
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    const header = world.open(1n);
    const fold = world.fold(1n);
    for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
    world.close(1n, fold);
    const first = await world.contributors[0]?.contribute(1n, 1n);
    assert.equal(first?.type, "partial");
    assert.equal(world.journals[0]?.puts, 1);
    assert.deepEqual(await world.contributors[0]?.contribute(1n, 1n), first);
    // A new process with the same journal says the same; its ratchets are beyond the round already.
    assert.deepEqual(await world.makeContributor(0).contribute(1n, 1n), first);
    // Had the log shown another sum for the round, there would be no second word.
    const round = world.state.rounds.get(1n);
    const [standing] = round?.aggregates ?? [];
    assert.ok(round !== undefined && standing !== undefined);
    const other = { ...standing.aggregate, participants: standing.aggregate.participants.slice() };
    round.aggregates = [{ ...standing, digest: aggregateDigest({ ...other, aggregator: new Uint8Array(32) }) }];
    assert.equal(await world.makeContributor(0).contribute(1n, 1n), undefined);
  });
});

describe("what apply refuses", () => {
  test("rounds: too early, too late, twice, without keys, beyond the pipeline", async () => {
    const world = new World({ config: { pipelineDepth: 2 } });
    const reason = (slot: bigint) => world.command(0, { type: "openRound", slot })?.reason;
    world.nowMs = world.config.genesisMs;
    assert.equal(reason(40n), "ROUND_TOO_EARLY");
    // Nobody to hide among: the slot is Empty from the start, header and broadcast.
    assert.equal(reason(1n), undefined);
    assert.equal(world.certify("header", 1n).outcome.kind, "empty");
    assert.equal(decode(BROADCAST, world.certify("broadcast", 1n).outcome.commitment).participants, 0);
    assert.equal(reason(1n), "SLOT_DECIDED");
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    world.open(2n);
    world.open(3n);
    world.nowMs += world.config.slotMs;
    assert.equal(reason(4n), "ROUNDS_IN_FLIGHT");
    world.apply({ type: "skipped", stage: "broadcast", slot: 2n });
    assert.equal(world.state.rounds.size, 1);
    world.nowMs += 10 * world.config.slotMs;
    assert.equal(reason(5n), "ROUND_TOO_LATE");
  });

  test("a skipped header skips the broadcast", async () => {
    const world = new World();
    await gathering(world, ["a", "b"]);
    world.apply({ type: "skipped", stage: "header", slot: 1n });
    assert.equal(world.certify("broadcast", 1n).outcome.kind, "skipped");
  });

  test("a server key that its operator did not sign, of small order, of another member, or an older one", () => {
    const world = new World();
    world.publishServerKeys(2n);
    const [key] = world.serverKeys();
    assert.ok(key !== undefined);
    const reason = (author: number, changed: Partial<typeof key>) =>
      world.command(author, { type: "serverKey", key: { ...key, serial: 3n, ...changed } })?.reason;
    assert.equal(reason(0, {}), "BAD_SIGNATURE");
    assert.equal(reason(1, {}), "BAD_KEY");
    assert.equal(reason(0, { key: new Uint8Array(32) }), "BAD_KEY");
    assert.equal(reason(0, { operator: new Uint8Array(32) }), "HEADER_OPERATOR");
    assert.equal(reason(0, { serial: key.serial }), "DUPLICATE");
  });

  test("registrations: zero points, stale serials, foreign signatures, a full roster", async () => {
    const world = new World({ content: { clientsMax: 1 } });
    world.publishServerKeys();
    const holder = { saved: new Uint8Array() };
    const client = ZipnetClient.create(world.clientOptions("x", holder), world.serverKeys());
    const good = client.registration([]);
    const reason = (changed: Partial<typeof good>) =>
      world.command(0, { type: "register", registration: { ...good, ...changed } })?.reason;
    assert.equal(reason({ agreementKeys: [new Uint8Array(32), ...good.agreementKeys.slice(1)] }), "BAD_KEY");
    assert.equal(reason({ agreementKeys: good.agreementKeys.slice(1) }), "BAD_KEY");
    assert.equal(reason({ envelopeKey: new Uint8Array(32) }), "BAD_KEY");
    assert.equal(reason({ serials: [9n, 9n, 9n] }), "BAD_SIGNATURE");
    assert.equal(reason({ tickets: [new Uint8Array([1])] }), "BAD_SIGNATURE");
    assert.equal(reason({}), undefined);
    assert.equal(reason({}), "DUPLICATE");
    const other = ZipnetClient.create(world.clientOptions("y", holder), world.serverKeys());
    const full = world.command(0, { type: "register", registration: other.registration([]) });
    assert.equal(full?.reason, "ROSTER_FULL");
    world.publishServerKeys(2n);
    const stale = world.command(0, { type: "register", registration: other.registration([]) });
    assert.equal(stale?.reason, "SERVER_KEY_STALE");
  });

  test("tickets admit, expire and are needed", async () => {
    const issuer = generateSigningKey(new Uint8Array(32).fill(8));
    const world = new World({ acl: [{ kind: "jwt", parameters: issuer.publicKey }], config: { throwAway: false } });
    world.publishServerKeys();
    const tickets = (subject: Uint8Array, expSlot = 10n) => [
      signTicket(issuer, { audience: world.committee, subject, expSlot }),
    ];
    const a = await world.join("a", (key) => tickets(key));
    const b = await world.join("b", (key) => tickets(key, 30n));
    const without = world.command(0, { type: "register", registration: a.client.registration([]) });
    assert.equal(without?.reason, "TICKET_REFUSED");
    await world.round(10n, [{ participant: a }, { participant: b }]);
    // In slot 11 a's ticket has ended: one client is below the minimum.
    world.nowMs += world.config.slotMs;
    assert.equal(world.command(0, { type: "openRound", slot: 11n }), undefined);
    assert.equal(world.certify("header", 11n).outcome.kind, "empty");
    // A later ticket for the same keys takes the ratchet up where it is.
    const renewed = a.client.registration(tickets(a.client.envelopeKey, 40n));
    assert.equal(world.command(0, { type: "register", registration: renewed }), undefined);
    const expired = a.client.registration(tickets(a.client.envelopeKey, 9n));
    world.nowMs += 3 * world.config.slotMs;
    assert.equal(world.command(0, { type: "register", registration: expired })?.reason, "TICKET_EXPIRED");
    await a.client.registered({ fromRho: 1n, afterSlot: 0n, expiresSlot: 40n });
    await world.round(15n, [{ participant: a, message: message("back") }, { participant: b }]);
    assert.equal((await a.client.settle(world.certify("broadcast", 15n), world.body(15n)))?.fate, "delivered");
  });

  test("aggregates and partials for another round, header, roster or length, and repeats", async () => {
    const world = new World();
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    const header = world.open(1n);
    const fold = world.fold(1n);
    for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
    const unsigned = fold.aggregate(world.aggregatorKey.publicKey);
    const reason = (changed: Partial<typeof unsigned>, author = 0) =>
      world.command(author, {
        type: "aggregate",
        aggregate: signAggregate(world.aggregatorKey, world.committee, { ...unsigned, ...changed }),
      })?.reason;
    assert.equal(reason({ slot: 2n }), "NO_ROUND");
    assert.equal(reason({ rho: 2n }), "WRONG_ROUND");
    assert.equal(reason({ headerDigest: new Uint8Array(32) }), "WRONG_ROUND");
    assert.equal(reason({ vector: unsigned.vector.slice(1) }), "BAD_VECTOR");
    assert.equal(reason({ participants: new Uint8Array([7]) }), "BAD_AGGREGATE");
    assert.equal(reason({ participants: new Uint8Array([1]) }), "BAD_AGGREGATE");
    assert.equal(reason({ participants: new Uint8Array(2) }), "BAD_AGGREGATE");
    const partial = {
      type: "partial",
      slot: 1n,
      rho: 1n,
      aggregate: new Uint8Array(32),
      vector: unsigned.vector,
    } as const;
    assert.equal(world.command(0, partial)?.reason, "PARTIAL_UNEXPECTED");
    assert.equal(reason({}), undefined);
    assert.equal(reason({}, 1), "DUPLICATE");
    assert.equal(reason({ vector: unsigned.vector.map((byte) => byte ^ 1) }, 0), "DUPLICATE");
    // Of two that stand, both with two participants, the lower digest is taken.
    assert.equal(reason({ vector: unsigned.vector.map((byte) => byte ^ 1) }, 1), undefined);
    world.apply({ type: "closed", stage: FOLD, slot: 1n });
    const [standing, ...rest] = world.state.rounds.get(1n)?.aggregates ?? [];
    assert.ok(standing !== undefined && rest.length === 0);
    assert.equal(reason({ vector: unsigned.vector.map((byte) => byte ^ 2) }, 2), "ROUND_CLOSED");
    assert.equal(world.command(0, { ...partial, aggregate: standing.digest, rho: 9n })?.reason, "PARTIAL_UNEXPECTED");
    assert.equal(
      world.command(0, { ...partial, aggregate: standing.digest, vector: new Uint8Array(3) })?.reason,
      "BAD_VECTOR",
    );
    assert.equal(world.command(0, { ...partial, aggregate: standing.digest }), undefined);
    assert.equal(world.command(0, { ...partial, aggregate: standing.digest })?.reason, "DUPLICATE");
    const strangers = { type: "withhold", slot: 1n, rho: 1n, aggregate: standing.digest } as const;
    assert.equal(world.command(1, { ...strangers, clients: [new Uint8Array(32)] })?.reason, "PARTIAL_UNEXPECTED");
  });

  test("bodies of old broadcasts leave the state", async () => {
    const world = new World();
    const [a, b] = await gathering(world, ["a", "b"]);
    assert.ok(a !== undefined && b !== undefined);
    for (let slot = 1n; slot <= 12n; slot++) {
      await world.round(slot, [{ participant: a, message: message(`m${slot}`) }, { participant: b }]);
      const settled: Settled | undefined = await a.client.settle(world.certify("broadcast", slot), world.body(slot));
      assert.equal(settled?.fate, "delivered");
    }
    assert.equal(world.body(3n), undefined);
    assert.equal(decode(BROADCAST_BODY, world.body(12n) ?? new Uint8Array()).length, 1);
    world.machine.collapse(world.state, 12n);
    assert.equal(world.state.broadcasts.size, 1);
  });
});

describe("duties", () => {
  test("servers publish keys, open in turn, close, contribute; nothing is left afterwards", async () => {
    const world = new World();
    const types = (self: number) => world.machine.duties(world.state, world.view(self)).map(({ key }) => key);
    world.nowMs = world.config.genesisMs - 10_000;
    assert.deepEqual(types(0), ["serverKey/0"]);
    world.publishServerKeys();
    const a = await world.join("a");
    const b = await world.join("b");
    assert.deepEqual(types(0), []);
    const { roundOpenMs, roundCloseMs, patienceMs } = world.config.zipnet.content;
    const startMs = world.config.genesisMs + 4 * world.config.slotMs;
    world.nowMs = startMs - roundOpenMs;
    // Slot 4 is member 1's; the others wait one patience each.
    const ours = (self: number) => types(self).filter((key) => key === "openRound/4");
    for (const slot of [1n, 2n, 3n]) world.apply({ type: "skipped", stage: "header", slot });
    for (const slot of [1n, 2n, 3n]) world.outcomes.set(`header/${slot}`, world.certify("broadcast", slot).outcome);
    assert.deepEqual([ours(0), ours(1), ours(2)], [[], ["openRound/4"], []]);
    world.nowMs += patienceMs;
    assert.deepEqual([ours(0), ours(1), ours(2)], [[], ["openRound/4"], ["openRound/4"]]);
    const header = world.open(4n);
    const fold = world.fold(4n);
    for (const { client } of [a, b]) fold.accept((await client.answer(header, undefined, world.nowMs)).envelope);
    assert.deepEqual(types(0), []);
    world.nowMs = startMs - roundCloseMs;
    assert.deepEqual(types(0), []);
    world.nowMs += patienceMs;
    assert.deepEqual(types(0).slice(-1), ["closeFold/4"]);
    world.nowMs = startMs - roundOpenMs + 1;
    world.close(4n, fold);
    world.nowMs = startMs - roundOpenMs + 2;
    assert.deepEqual(types(2), ["partial/4/1"]);
    await world.contribute(4n);
    assert.deepEqual(types(2), []);
  });
});
