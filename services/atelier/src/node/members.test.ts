/** Three real members on the embedded log, with a chain, a sequencer and neighbours over the network. */
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { sealToAll } from "@lattice/organism/crypto/box.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { Member } from "@lattice/organism/node/member.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters, type MeterRegistry } from "@lattice/organism/observe/meters.ts";
import { devnetFile, payBid, SETTLEMENT, signed, wallet } from "../../test/devnet.ts";
import {
  auctionOf,
  dealLattice,
  messageIdOf,
  type Published,
  random,
  skippedOf,
  unsealedOf,
} from "../../test/lattice.ts";
import { type Neighbour, startNeighbour } from "../../test/neighbour.ts";
import { type Outside, startOutside } from "../../test/outside.ts";
import { bundle, paymentId } from "../../test/slot.ts";
import { verifyPublishedCandidate } from "../client/verify-candidate.ts";
import { type AtelierSettings, SETTINGS } from "../config.ts";
import { blockAttributes } from "../core/attributes.ts";
import { CANDIDATE, CANDIDATE_BODY, type CandidateBody } from "../core/candidate.ts";
import { BODY_BOX_INFO, bodyAad, candidateFact, type SignedAttributes } from "../core/codec.ts";
import { proposesFromMs } from "../core/duties.ts";
import { type AtelierCommand, type AtelierDuty, type AtelierState, CANDIDATE_TOPIC, STAGE } from "../core/types.ts";
import { definition } from "../definition.ts";
import { buildCandidate } from "../evm/build.ts";
import { rulesOf, slotInputs } from "../evm/slot-inputs.ts";

const lattice = dealLattice();
const { config, roster, certify } = lattice;

/** When a test gives up. */
const PATIENCE_MS = 120_000;

type AtelierMember = Member<AtelierState, AtelierCommand, AtelierDuty, AtelierSettings>;

describe("three members build", () => {
  let directory: string;
  let log: EmbeddedLog;
  let outside: Outside;
  let unseal: Neighbour;
  let offer: Neighbour;
  let tally: Neighbour;
  let members: AtelierMember[] = [];
  let nowMs = 0;
  const meters = new Map<number, MeterRegistry>();
  /** Everything published of a slot, for whoever checks it afterwards. */
  const published = new Map<bigint, { unsealed: Published; auction: Published; attributes: SignedAttributes }>();

  async function start(self: number): Promise<AtelierMember> {
    const folder = join(directory, `member-${self}`);
    const secrets = lattice.secrets[self];
    assert.ok(secrets !== undefined);
    const none: string[] = [];
    const endpoints = { zipnet: none, atelier: none, relay: none };
    const own = createNoMeters();
    meters.set(self, own);
    return Member.start<AtelierState, AtelierCommand, AtelierDuty, AtelierSettings>({
      definition,
      settings: SETTINGS.parse({
        ATELIER_CHAIN_RPC: outside.url,
        ATELIER_GENESIS_FILE: join(directory, "genesis.json"),
        ATELIER_SEQUENCER_URL: outside.url,
      }),
      config,
      self,
      rosters: { zipnet: roster, unseal: roster, offer: roster, atelier: roster, relay: roster, tally: roster },
      secrets,
      endpoints: () => ({ ...endpoints, unseal: [unseal.address], offer: [offer.address], tally: [tally.address] }),
      log: log.member(self),
      journal: await FileJournal.open(folder),
      journalIsOld: true,
      directory: folder,
      clock: { nowMs: () => nowMs },
      random,
      logger: createLogger("silent", {}),
      meters: own,
      tracer: { span: () => undefined, root: () => undefined, close: async () => undefined },
      onFatal: (reason, detail) => assert.fail(`${reason}: ${detail}`),
    });
  }

  /** Neighbours decide the slot, the sequencer signs its attributes, and it is a second before the slot. */
  function decideBefore(slot: bigint, unsealed: Published, auction: Published): void {
    nowMs = slotStartMs(config, slot) - 1000;
    const attributes = outside.offerAttributes(slot);
    published.set(slot, { unsealed, auction, attributes });
    unseal.publish(certify(unsealed.outcome), unsealed.body);
    offer.publish(certify(auction.outcome), auction.body);
  }

  async function certified(member: AtelierMember | undefined, slot: bigint): Promise<CertifiedOutcome> {
    assert.ok(member !== undefined);
    for await (const each of member.host.watch(STAGE, 1n, AbortSignal.timeout(PATIENCE_MS))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  async function until(holds: () => boolean): Promise<void> {
    const signal = AbortSignal.timeout(PATIENCE_MS);
    while (!holds()) await pause(10, undefined, { signal });
  }

  /** The same while time goes on: for what waits for a member that is away. */
  function untilTime(holds: () => boolean): Promise<void> {
    return until(() => {
      nowMs += 10;
      return holds();
    });
  }

  /** Whoever executed it holds it; a member may certify what the two others executed. */
  async function bodyOf(member: AtelierMember, { outcome }: CertifiedOutcome): Promise<CandidateBody> {
    assert.ok(outcome.bodyHash !== undefined);
    const signal = AbortSignal.timeout(PATIENCE_MS);
    for (;;) {
      const body = await member.host.bodies.get(outcome.bodyHash);
      if (body !== undefined) return decode(CANDIDATE_BODY, body);
      await pause(10, undefined, { signal });
    }
  }

  /** The slot's candidate on all members, taken over by the chain. */
  async function landed(slot: bigint): Promise<CandidateBody> {
    const outcomes = await Promise.all(members.map((member) => certified(member, slot)));
    for (const { outcome, signature } of outcomes) {
      assert.equal(outcome.kind, "result");
      assert.ok(verifyCertificate(config.atelier.policy.certificateKey, outcome, signature));
    }
    const bodies = await Promise.all(members.map((member, index) => bodyOf(member, outcomes[index] ?? assert.fail())));
    const [body] = bodies;
    assert.ok(body !== undefined);
    await outside.accept(encode(CANDIDATE_BODY, body));
    assert.deepEqual(outside.chain.head().hash, body.blockHash);
    return body;
  }

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-atelier-"));
    await writeFile(join(directory, "genesis.json"), JSON.stringify(devnetFile()));
    log = await EmbeddedLog.open(join(directory, "log"));
    [outside, unseal, offer, tally] = await Promise.all([
      startOutside(config),
      startNeighbour(config, "unseal"),
      startNeighbour(config, "offer"),
      startNeighbour(config, "tally"),
    ]);
    nowMs = slotStartMs(config, 1n) - 1000;
    members = await Promise.all([0, 1, 2].map(start));
  });
  after(async () => {
    await Promise.all(members.map((member) => member.stop(100)));
    for (const neighbour of [unseal, offer, tally]) neighbour.close();
    outside.close();
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("a slot is built, executed by the others, certified, and what it says is on chain", async () => {
    const searcher = wallet(9);
    const pay = signed({ from: searcher, nonce: 0n, to: SETTLEMENT, valueWei: 5000n, data: payBid(1n, paymentId(1)) });
    const target = { messageId: messageIdOf(1n, 0), slot: 1n, unsealIndex: 0, rawTransaction: new Uint8Array() };
    const winner = bundle({ index: 1, class: "seen", searcher, items: [target, pay], amountWei: 5000n });
    const messages = [
      signed({ from: wallet(0), nonce: 0n }),
      signed({ from: wallet(1), nonce: 0n }),
      // Its predecessor comes a slot later.
      signed({ from: wallet(2), nonce: 1n }),
    ];
    decideBefore(1n, unsealedOf(config, 1n, messages), auctionOf(config, 1n, [winner]));
    const body = await landed(1n);
    assert.deepEqual(
      body.entries.map(({ type }) => type),
      ["pool", "pool", "seen"],
    );
    assert.deepEqual(
      body.exclusions.map(({ reason }) => reason),
      ["nonce-too-high"],
    );
    assert.deepEqual(body.carry, [messageIdOf(1n, 2)]);
    assert.deepEqual(
      body.table.map(({ status, paymentWei }) => [status, paymentWei]),
      [["landed", 5000n]],
    );
    const { commitment } = (await certified(members[0], 1n)).outcome;
    assert.equal(decode(CANDIDATE, commitment).paymentsWei, 5000n);
  });

  test("the log holds nothing of the body in clear", async () => {
    const raw = signed({ from: wallet(0), nonce: 0n });
    const entries: Uint8Array[] = [];
    const done = new AbortController();
    const reader = log.member(0).consume(1n, ({ raw: entry }) => void entries.push(entry), done.signal);
    await until(() => entries.length > 10);
    done.abort();
    await reader;
    assert.ok(entries.some((entry) => entry.length > 500));
    for (const entry of entries) assert.equal(Buffer.from(entry).indexOf(Buffer.from(raw)), -1);
  });

  test("what was left over is carried; a slot of skipped neighbours still ends in a block", async () => {
    decideBefore(2n, unsealedOf(config, 2n, [signed({ from: wallet(2), nonce: 0n })]), auctionOf(config, 2n, []));
    assert.deepEqual(
      (await landed(2n)).entries.map(({ type }) => type),
      ["pool"],
    );
    decideBefore(3n, skippedOf(config, "unseal", "unsealed", 3n), skippedOf(config, "offer", "auction", 3n));
    const body = await landed(3n);
    assert.deepEqual(
      body.entries.map((entry) => [entry.type, "messageId" in entry ? toHex(entry.messageId) : ""]),
      [["carried", toHex(messageIdOf(1n, 2))]],
    );
    assert.deepEqual([body.unsealed, body.auction], [undefined, undefined]);
  });

  test("anyone with the outcomes and bodies derives the block anew, and nothing else", async () => {
    const slot = 2n;
    const own = published.get(slot);
    const first = published.get(1n);
    const candidate = await certified(members[0], slot);
    assert.ok(own !== undefined && first !== undefined && members[0] !== undefined);
    const with_ = ({ outcome, body }: Published) => ({
      certified: certify(outcome),
      ...(body === undefined ? {} : { body }),
    });
    const body = encode(CANDIDATE_BODY, await bodyOf(members[0], candidate));
    const all = {
      candidate: { certified: candidate, body },
      attributes: own.attributes,
      unsealed: with_(own.unsealed),
      auction: with_(own.auction),
      earlier: [with_(first.unsealed)],
    };
    const verify = (over: Partial<typeof all>) => verifyPublishedCandidate(config, outside.chain, { ...all, ...over });
    assert.equal((await verify({})).right, true);
    const reason = async (over: Partial<typeof all>) => {
      const verdict = await verify(over);
      return verdict.right ? undefined : verdict.reason;
    };
    assert.equal(await reason({ earlier: [] }), "WRONG_OUTCOME");
    assert.equal(await reason({ unsealed: with_(first.unsealed) }), "WRONG_OUTCOME");
    assert.equal(await reason({ attributes: first.attributes }), "BAD_ATTRIBUTES");
    assert.equal(await reason({ candidate: { certified: candidate, body: body.slice(1) } }), "BODY_HASH");
    const forged = { ...candidate, outcome: { ...candidate.outcome, epoch: 9n } };
    assert.equal(await reason({ candidate: { certified: forged, body } }), "BAD_CERTIFICATE");
  });

  test("without the slot's proposer another member steps in", async () => {
    const slot = 4n;
    const [, proposer] = members;
    assert.ok(proposer !== undefined);
    await proposer.stop(100);
    members = members.filter((member) => member !== proposer);
    decideBefore(slot, unsealedOf(config, slot, [signed({ from: wallet(3), nonce: 0n })]), auctionOf(config, slot, []));
    const readyMs = (): number | undefined => members[0]?.host.state().slots.get(slot)?.readyMs;
    await untilTime(() => readyMs() !== undefined);
    assert.deepEqual(members[0]?.host.state().slots.get(slot)?.proposals, []);
    nowMs = proposesFromMs(config, slot, 1, readyMs() ?? 0);
    assert.equal((await landed(slot)).entries.length, 1);
    const [proposal] = members[0]?.host.state().slots.get(slot)?.proposals ?? [];
    assert.equal(proposal?.author, 2);
  });

  test("a block that breaks a rule gets no vote, from its body alone; the next right one does", async () => {
    const slot = 7n;
    // What is built for slots 5 and 6 the sequencer does not take; member 1, whose turn it would be in slot 7, is still away.
    for (const empty of [5n, 6n]) {
      decideBefore(empty, skippedOf(config, "unseal", "unsealed", empty), skippedOf(config, "offer", "auction", empty));
      await untilTime(() => members.every(({ host }) => host.outcome(STAGE, empty) !== undefined));
    }
    const raws = [signed({ from: wallet(4), nonce: 0n }), signed({ from: wallet(5), nonce: 0n })];
    decideBefore(slot, unsealedOf(config, slot, raws), auctionOf(config, slot, []));
    const [hostile, honest] = members;
    assert.ok(hostile !== undefined && honest !== undefined);
    await untilTime(() => members.every(({ host }) => host.state().slots.get(slot)?.readyMs !== undefined));

    // One message left out without a word: every hash and the header are what the rest gives.
    const head = outside.chain.head();
    const source = published.get(slot);
    assert.ok(source !== undefined);
    const inputs = await slotInputs(outside.chain, {
      slot,
      candidateVersion: 0,
      attributes: blockAttributes(source.attributes.attributes),
      rules: rulesOf(config),
      unsealed: { outcome: source.unsealed.outcome, body: source.unsealed.body },
      auction: { outcome: source.auction.outcome, body: source.auction.body },
      earlier: [],
    });
    const wrong = await buildCandidate(outside.chain, { ...inputs, pool: inputs.pool.slice(0, 1) });
    const { parentHash, bodyHash } = wrong.commitment;
    assert.deepEqual(parentHash, head.hash);
    const aad = bodyAad({
      committee: roster.committee,
      slot,
      parentHash,
      candidateVersion: 0,
      author: hostile.host.self,
      bodyHash,
    });
    const recipients = roster.members.map(({ index, boxKey }) => ({ index, publicKey: boxKey }));
    const sealedBody = sealToAll(recipients, BODY_BOX_INFO, aad, wrong.bodyBytes, random);
    const command: AtelierCommand = {
      type: "proposal",
      slot,
      parentHash,
      candidateVersion: 0,
      commitment: wrong.commitmentBytes,
      bodyHash,
      sealedBody,
    };
    assert.equal(await hostile.host.submit({ type: "machine", command }), undefined);
    const refused = (self: number): number =>
      [...(meters.get(self)?.all() ?? [])]
        .filter(([name]) => name.startsWith("lattice_atelier_candidates_refused_total"))
        .reduce((total, [, value]) => total + value, 0);
    await until(() => members.every(({ host }) => refused(host.self) === 1));
    assert.equal(honest.host.outcome(STAGE, slot), undefined);
    assert.equal(honest.committee.view(honest.host.self, nowMs, () => false).said(CANDIDATE_TOPIC, slot), undefined);

    const readyMs = honest.host.state().slots.get(slot)?.readyMs ?? 0;
    nowMs = proposesFromMs(config, slot, 2, readyMs);
    const body = await landed(slot);
    assert.equal(body.entries.length, 2);
  });

  test("what was refused in a generation that is over says nothing of what stands at its position in the next", async () => {
    const slot = 7n;
    const [member] = members;
    const record = member?.host.state().slots.get(slot);
    const [wrong, right] = record?.proposals ?? [];
    assert.ok(member !== undefined && record !== undefined && wrong !== undefined && right !== undefined);
    let standing = wrong;
    const own = createNoMeters();
    const node = definition.createNode({
      ...member.host,
      directory: join(directory, "two-generations"),
      meters: own,
      state: () => ({ slots: new Map([[slot, { ...record, proposals: [standing] }]]) }),
    });
    await node.start?.();
    try {
      let said: Submission<AtelierCommand> | undefined;
      void node.execute({ type: "judge", key: `candidate/${slot}/0`, slot, promise: true }).then((submission) => {
        said = submission;
      });
      await until(() => [...own.all().keys()].some((name) => name.startsWith("lattice_atelier_candidates_refused")));
      standing = { ...right, position: wrong.position };
      await until(() => said !== undefined);
      assert.deepEqual(said, { type: "saw", topic: CANDIDATE_TOPIC, slot, fact: candidateFact(right.commitment) });
    } finally {
      await node.stop?.();
    }
  });

  test("a member that comes back executes the chain from genesis and takes part; a reorganisation is followed", async () => {
    members.splice(1, 0, await start(1));
    await outside.replaceHead();
    const slot = 8n;
    decideBefore(slot, unsealedOf(config, slot, []), auctionOf(config, slot, []));
    const body = await landed(slot);
    // What the replaced block held goes ahead of everything.
    assert.deepEqual(
      body.entries.map(({ type }) => type),
      ["carried", "carried"],
    );
  });
});
