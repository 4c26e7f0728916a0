/** Three real members on the embedded log, with neighbours over gRPC: certified rounds, a member short, an expiry. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { decode, encode } from "@lattice/organism/codec/codec.ts";
import { type CertifiedOutcome, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { Member } from "@lattice/organism/node/member.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { MESSAGE_CONTENT, type MessageContent, UNSEALED, UNSEALED_BODY } from "@lattice/organism/outcomes/unseal.ts";
import type { BroadcastMessage } from "@lattice/organism/outcomes/zipnet.ts";
import { attributionOf, broadcastOf, dealLattice, outcomeOf, random } from "../../test/lattice.ts";
import { type Neighbour, startNeighbour } from "../../test/neighbour.ts";
import { sealMessage } from "../client/seal.ts";
import { SETTINGS } from "../config.ts";
import { STAGE } from "../core/machine.ts";
import { slotTimes } from "../core/timing.ts";
import type { UnsealCommand, UnsealDuty, UnsealState } from "../core/types.ts";
import { definition } from "../definition.ts";

const lattice = dealLattice();
const { config, roster, sealingKey, certify } = lattice;
const content: MessageContent = {
  version: 1,
  rawTransaction: random(200),
  refund: undefined,
  disclosure: { hash: true, target: false, everything: false },
};

type UnsealMember = Member<UnsealState, UnsealCommand, UnsealDuty, ReturnType<typeof SETTINGS.parse>>;

describe("three members on one log", () => {
  let directory: string;
  let log: EmbeddedLog;
  let zipnet: Neighbour;
  let offer: Neighbour;
  let tally: Neighbour;
  let members: UnsealMember[] = [];
  let nowMs = slotStartMs(config, 2n) - config.unseal.content.sharesMs;

  async function start(self: number): Promise<UnsealMember> {
    const folder = join(directory, `member-${self}`);
    const secrets = lattice.secrets[self];
    assert.ok(secrets !== undefined);
    const none: string[] = [];
    const endpoints = { unseal: none, atelier: none, relay: none };
    return Member.start({
      definition,
      settings: SETTINGS.parse({ UNSEAL_OPENING_WORKERS: 0 }),
      config,
      self,
      rosters: { zipnet: roster, unseal: roster, offer: roster, atelier: roster, relay: roster, tally: roster },
      secrets,
      endpoints: () => ({ ...endpoints, zipnet: [zipnet.address], offer: [offer.address], tally: [tally.address] }),
      log: log.member(self),
      journal: await FileJournal.open(folder),
      journalIsOld: true,
      directory: folder,
      clock: { nowMs: () => nowMs },
      random,
      logger: createLogger("silent", {}),
      meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
      tracer: { span: () => undefined, root: () => undefined, close: async () => undefined },
      onFatal: (reason, detail) => assert.fail(`${reason}: ${detail}`),
    });
  }

  /** Lets neighbours decide the slot; one message is broadcast. */
  function decideBefore(slot: bigint): BroadcastMessage {
    const messageId = random(16);
    const sealed = sealMessage({ config, sealingKey, epoch: 0n, slot, messageId, content, random });
    const message = { cell: 3, messageId, receiptKey: random(32), token: new Uint8Array(), sealed };
    const { outcome, body } = broadcastOf(config, slot, [message]);
    zipnet.publish(certify(outcome), body);
    offer.publish(certify(outcomeOf(config, "offer", "blind", slot, "empty")));
    return message;
  }

  async function certified(member: UnsealMember, slot: bigint): Promise<CertifiedOutcome> {
    for await (const each of member.host.watch(STAGE, 1n, AbortSignal.timeout(120_000))) {
      if (each.outcome.slot === slot) return each;
    }
    throw new Error(`no certificate for slot ${slot}`);
  }

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-unseal-log-"));
    log = await EmbeddedLog.open(join(directory, "log"));
    [zipnet, offer, tally] = await Promise.all([
      startNeighbour(config, "zipnet"),
      startNeighbour(config, "offer"),
      startNeighbour(config, "tally"),
    ]);
    members = await Promise.all([0, 1, 2].map(start));
  });
  after(async () => {
    await Promise.all(members.map((member) => member.stop(100)));
    for (const neighbour of [zipnet, offer, tally]) neighbour.close();
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  test("a slot is frozen, shared, opened and certified, and every member holds its body", async () => {
    const message = decideBefore(2n);
    const outcomes = await Promise.all(members.map((member) => certified(member, 2n)));
    for (const { outcome, signature } of outcomes) {
      assert.equal(outcome.kind, "result");
      assert.ok(verifyCertificate(config.unseal.policy.certificateKey, outcome, signature));
      assert.deepEqual(decode(UNSEALED, outcome.commitment).messages[0]?.messageId, message.messageId);
    }
    const bodyHash = outcomes[0]?.outcome.bodyHash;
    assert.ok(bodyHash !== undefined);
    const holds = async ({ host }: UnsealMember): Promise<Uint8Array> => {
      // A member may certify what the two others opened before it has opened it itself.
      for (;;) {
        const body = await host.bodies.get(bodyHash);
        if (body !== undefined) return body;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    const expected = [{ messageId: message.messageId, content: encode(MESSAGE_CONTENT, content) }];
    for (const body of await Promise.all(members.map(holds))) assert.deepEqual(decode(UNSEALED_BODY, body), expected);

    tally.publish(certify(attributionOf(config, 2n, [message.messageId])));
    const knows = ({ host }: UnsealMember): boolean => (host.state().slots.get(2n)?.landed.length ?? 0) === 1;
    while (!members.every(knows)) await new Promise((resolve) => setTimeout(resolve, 10));
  });

  test("two of three go on; the third comes back and takes part", async () => {
    const [first, second, third] = members;
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    await third.stop(100);
    nowMs = slotStartMs(config, 3n) - config.unseal.content.sharesMs;
    decideBefore(3n);
    assert.equal((await certified(first, 3n)).outcome.kind, "result");
    members = [first, second, await start(2)];
    nowMs = slotStartMs(config, 4n) - config.unseal.content.sharesMs;
    decideBefore(4n);
    const outcomes = await Promise.all(members.map((member) => certified(member, 4n)));
    for (const { outcome } of outcomes) assert.equal(outcome.kind, "result");
  });

  test("a slot that stays without Broadcast expires; what comes too late stays sealed", async () => {
    nowMs = slotTimes(config, 5n).expiryMs;
    const [first] = members;
    assert.ok(first !== undefined);
    assert.equal((await certified(first, 5n)).outcome.kind, "skipped");
    decideBefore(5n);
    const seen = ({ host }: UnsealMember): boolean => host.observed("offer", "blind", 5n) !== undefined;
    while (!members.every(seen)) await new Promise((resolve) => setTimeout(resolve, 10));
    for (const { host } of members) assert.equal(host.state().slots.get(5n)?.freeze, undefined);
  });
});
