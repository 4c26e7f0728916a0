/** Guests of a committee of real members: what they are given, that they follow, whom they do not believe, how they write back. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { CodecError, decode, equalBytes } from "../src/codec/codec.ts";
import { type CertifiedCheckpoint, checkCheckpoint, guestHash } from "../src/committee/checkpoint.ts";
import { decodeEntry } from "../src/committee/entry.ts";
import { type CertifiedOutcome, verifyCertificate } from "../src/committee/outcome.ts";
import { guestAudience } from "../src/committee/reader.ts";
import { signTicket } from "../src/committee/ticket.ts";
import { generateSigningKey } from "../src/crypto/ed25519.ts";
import { initCrypto } from "../src/crypto/engine.ts";
import { committeeId, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { Guest, type GuestOptions, GuestProblem } from "../src/node/guest.ts";
import { nodeTimers } from "../src/node/node-timers.ts";
import { ScriptedAuthor, type Tampering } from "../src/testing/committee-driver.ts";
import { DirectCalls } from "../src/testing/direct-calls.ts";
import { PATIENCE_MS } from "./patience.ts";
import { dealCommittee, random, startToyMember } from "./test-lattice.ts";
import { SUM, type ToyDuty, toyDefinition } from "./toy-organism.ts";

const EVERY = { entries: 12n, slots: 4n };
const COUNT = 4;

type ToyMachine = ReturnType<typeof toyDefinition.createMachine>;
type ToyState = ReturnType<ToyMachine["genesis"]>;
type ToyCommand = Parameters<ToyMachine["command"]["write"]>[1];
type Options = GuestOptions<ToyState, ToyCommand, ToyDuty>;

describe("guests", () => {
  const issuer = generateSigningKey(random(32));
  const committee = dealCommittee(COUNT, { slotMs: 250 }, "third", [{ kind: "jwt", parameters: issuer.publicKey }]);
  const { config } = committee;
  const id = committeeId(config, "relay");
  const key = generateSigningKey(random(32));
  const ticket = signTicket(issuer, { audience: guestAudience(id), subject: key.publicKey, expSlot: 10_000n });
  const calls = new DirectCalls();
  const connect = calls.connect(CommitteeService);
  let nowMs = config.genesisMs;
  const clock = { nowMs: () => nowMs };
  let directory: string;
  let log: EmbeddedLog;
  const members: Awaited<ReturnType<typeof startToyMember>>[] = [];
  const warned: string[] = [];
  const logger = {
    debug: () => undefined,
    info: () => undefined,
    warn: (message: string) => {
      warned.push(message);
    },
    error: () => undefined,
  };
  let slot = 0n;

  before(async () => {
    await initCrypto();
    directory = await mkdtemp(join(tmpdir(), "lattice-guest-"));
    log = await EmbeddedLog.open(join(directory, "log"));
    for (let index = 0; index < COUNT; index++) {
      const own = { committee, index, log: log.member(index), directory, clock, calls, checkpointEvery: EVERY };
      members.push(await startToyMember(own));
    }
    await slots(8n);
  });
  after(async () => {
    for (const member of members) await member.stop(50);
    await log.close();
    await rm(directory, { recursive: true, force: true });
  });

  async function until(what: string, holds: () => boolean): Promise<void> {
    const deadline = performance.now() + PATIENCE_MS;
    while (!holds()) {
      assert.ok(performance.now() < deadline, `not in time: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  async function slots(more: bigint): Promise<void> {
    for (const end = slot + more; slot < end; ) {
      slot += 1n;
      nowMs = slotStartMs(config, slot);
      await until(`slot ${slot}`, () => members.every((each) => each.committee.floor("accepted") > slot));
    }
  }

  function options(changes: Partial<Options> = {}): Options {
    return {
      config,
      organism: "relay",
      createMachine: (roster) => toyDefinition.createMachine(config, roster),
      addresses: ["relay-0", "relay-1"],
      key,
      tickets: [ticket],
      clock,
      timers: nodeTimers,
      logger,
      connect,
      checkpointEvery: EVERY,
      ...changes,
    };
  }

  /** A guest that follows until it stands where member 0 does and a quorum has certified its state. */
  async function followed(changes: Partial<Options> = {}, more = 6n) {
    const outcomes: CertifiedOutcome[] = [];
    const certified: CertifiedCheckpoint[] = [];
    const guest = await Guest.begin(
      options({
        onOutcome: (each) => outcomes.push(each),
        onCertified: (each) => certified.push(each),
        ...changes,
      }),
    );
    const began = guest.committee.position;
    const stop = new AbortController();
    const following = guest.follow(stop.signal);
    await slots(more);
    const [member] = members;
    assert.ok(member !== undefined);
    await until(
      "the guest is where members are",
      () => guest.committee.position === member.committee.position && certified.length > 0,
    );
    stop.abort();
    await following;
    return { guest, outcomes, certified, began, member };
  }

  test("a guest begins with a certified state, follows, and has what members would give it", async () => {
    const { guest, outcomes, certified, began, member } = await followed();
    assert.ok(began > 0n && guest.committee.isGuest);
    assert.deepEqual(guest.committee.guestView(), member.committee.guestView());
    assert.deepEqual(guest.committee.head, member.committee.head);
    assert.ok(outcomes.length >= 4, `${outcomes.length} outcomes`);
    for (const { outcome, signature } of outcomes) {
      assert.ok(verifyCertificate(config.relay.policy.certificateKey, outcome, signature), "its own certificate");
      if (outcome.kind === "result") decode(SUM, outcome.commitment);
    }
    for (const each of certified) assert.equal(checkCheckpoint(config, "relay", each), undefined);
    const { certified: newest, view } = guest.newestCertified;
    assert.deepEqual(guestHash(view), newest.checkpoint.guestHash);
    // And goes on from what it kept.
    const again = await Guest.begin(options(), guest.newestCertified);
    assert.equal(again.committee.position, newest.checkpoint.position);
  });

  test("what it is given holds no signature, no vote and no word about decided slots; a member's state does", async () => {
    const [member] = members;
    assert.ok(member !== undefined);
    const { position } = member.committee;
    const view = Buffer.from(member.committee.guestView());
    const full = Buffer.from(member.committee.snapshot());
    let inFull = 0;
    const consume = new AbortController();
    const reading = log.member(0).consume(
      1n,
      ({ position: at, raw }) => {
        const { signature } = tryEntry(raw) ?? {};
        if (signature !== undefined) {
          if (full.includes(Buffer.from(signature))) inFull += 1;
          assert.ok(!view.includes(Buffer.from(signature)), `the signature of position ${at}`);
        }
        if (at === position) consume.abort();
      },
      consume.signal,
    );
    await reading;
    assert.ok(inFull >= COUNT, "every Join is in a member's state");
    for (const { stage, slot: of } of member.committee.complete()) {
      for (const vote of member.committee.votes(stage, of).values()) {
        assert.ok(full.includes(Buffer.from(vote)));
        assert.ok(!view.includes(Buffer.from(vote)), "a share of a certificate");
      }
    }
    assert.ok(!member.committee.isGuest);
    assert.throws(() => members[1]?.committee.restore(member.committee.guestView()), CodecError);
    assert.throws(() => members[1]?.committee.restoreGuest(member.committee.snapshot()), CodecError);
  });

  function tryEntry(raw: Uint8Array) {
    try {
      return decodeEntry(raw);
    } catch {
      return undefined;
    }
  }

  test("whom nobody admits is told so", async () => {
    for (const changes of [
      { tickets: [] },
      { tickets: [signTicket(issuer, { audience: id, subject: key.publicKey, expSlot: 10_000n })] },
      { tickets: [signTicket(issuer, { audience: guestAudience(id), subject: key.publicKey, expSlot: 1n })] },
      { key: generateSigningKey(random(32)) },
    ]) {
      await assert.rejects(Guest.begin(options(changes)), GuestProblem);
    }
  });

  test("what its owner cannot keep is no member's fault: it ends with that", async () => {
    warned.length = 0;
    const full = Object.assign(new Error("no space left on the disk"), { code: "ENOSPC" });
    const guest = await Guest.begin(
      options({
        onCertified: () => {
          throw full;
        },
      }),
    );
    const stop = new AbortController();
    let ended: unknown;
    const following = guest.follow(stop.signal).catch((error: unknown) => {
      ended = error;
    });
    try {
      await slots(6n);
      await until("it has ended", () => ended !== undefined);
      assert.equal(ended, full);
      assert.deepEqual(warned, []);
    } finally {
      stop.abort();
      await following;
    }
  });

  /** Member 1's service with some methods of its own. */
  function liar(name: string, changes: Record<string, unknown>): string {
    const service = members[1]?.services.find(({ descriptor }) => descriptor.typeName === CommitteeService.typeName);
    assert.ok(service !== undefined);
    calls.serve(name, [{ ...service, handlers: { ...service.handlers, ...changes } } as typeof service]);
    return name;
  }

  describe("members that lie to guests", () => {
    type Read = (
      request: unknown,
      call: unknown,
    ) => AsyncIterable<{ event: { case: string; value: { position: bigint; raw: Uint8Array } } }>;
    const honest = (): Read => {
      const service = members[1]?.services.find(({ descriptor }) => descriptor.typeName === CommitteeService.typeName);
      return service?.handlers["readLog"] as unknown as Read;
    };

    test("about the state: the next one is asked", async () => {
      const garbage = liar("garbage", {
        async *fetchGuestSnapshot() {
          yield { offset: 0n, data: new Uint8Array(100).fill(7) };
        },
      });
      const { guest, member } = await followed({ addresses: [garbage, "relay-0"] }, 5n);
      assert.deepEqual(guest.committee.guestView(), member.committee.guestView());
      await assert.rejects(Guest.begin(options({ addresses: [garbage] })), GuestProblem);
    });

    test("about the log: left out, replaced, made up", async () => {
      const from = log.lastPosition;
      for (const [name, change] of [
        ["leaves-out", (position: bigint) => (position === from + 5n ? "drop" : undefined)],
        ["replaces", (position: bigint) => (position === from + 5n ? new Uint8Array(50).fill(3) : undefined)],
      ] as const) {
        const lying = liar(name, {
          async *readLog(request: unknown, call: unknown) {
            for await (const { event } of honest()(request, call)) {
              const changed = event.case === "message" ? change(event.value.position) : undefined;
              if (changed === "drop") continue;
              yield changed === undefined
                ? { event }
                : { event: { case: "message", value: { position: event.value.position, raw: changed } } };
            }
          },
        });
        warned.length = 0;
        const { guest, member } = await followed({ addresses: [lying, "relay-2"] }, 6n);
        assert.deepEqual(guest.committee.guestView(), member.committee.guestView(), name);
      }
    });
  });

  test("a member that goes on for ever with what nobody else wrote is left for the next one", async () => {
    const secrets = committee.secrets[1];
    assert.ok(secrets !== undefined);
    for (const name of ["its-own-words", "hangs-up"] as const) {
      let follower: Guest<ToyState, ToyCommand, ToyDuty> | undefined;
      const stage = {
        get nowMs() {
          return nowMs;
        },
        get committee() {
          assert.ok(follower !== undefined);
          return follower.committee;
        },
        apply: () => assert.fail("put into the log by hand"),
      };
      const voice = new ScriptedAuthor(stage, 1, secrets);
      let said = 0;
      /** What a corrupt member can make alone: nothing that anybody takes, or entries of its own that stand. */
      const next = (): Uint8Array => {
        said += 1;
        if (name !== "its-own-words") return new Uint8Array(60).fill(said);
        if (voice.incarnation > 0n) return voice.sign({ type: "skip", stage: "accepted", toSlot: BigInt(said) });
        voice.incarnation = (stage.committee.author(1)?.incarnation ?? 0n) + 1n;
        voice.incarnationKey = voice.keyOf(voice.incarnation);
        const { incarnation, incarnationKey, memberKey } = voice;
        return voice.sign({ type: "join", incarnation, key: incarnationKey.publicKey }, "ctl", { signer: memberKey });
      };
      const lying = liar(`endless-${name}`, {
        async *readLog(request: { readonly fromPosition: bigint }, { signal }: { readonly signal: AbortSignal }) {
          for (let position = request.fromPosition; !signal.aborted; position++) {
            if (name === "hangs-up" && position === request.fromPosition + 400n) return;
            yield { event: { case: "message", value: { position, raw: next() } } };
            await new Promise((resolve) => setTimeout(resolve, name === "hangs-up" ? 0 : 20));
          }
        },
      });
      const told: string[] = [];
      const onOutcome = ({ outcome }: CertifiedOutcome): void => void told.push(`${outcome.stage}/${outcome.slot}`);
      const guest = await Guest.begin(options({ addresses: [lying, "relay-2"], onOutcome }));
      follower = guest;
      const stop = new AbortController();
      const following = guest.follow(stop.signal);
      await until("it has been lied to", () => said > 20);
      await slots(5n);
      const [member] = members;
      assert.ok(member !== undefined);
      await until("the guest is where members are", () => equalBytes(guest.committee.head, member.committee.head));
      stop.abort();
      await following;
      assert.deepEqual(guest.committee.guestView(), member.committee.guestView());
      assert.equal(new Set(told).size, told.length, "what is read again is not told again");
    }
  });

  test("a guest writes back with the numbering handed over", async () => {
    const [writer] = members.splice(3, 1);
    assert.ok(writer !== undefined);
    // Its process ends, and its disk is gone: what is known of its numbers is what a guest was given.
    await writer.stop(50);
    const { guest } = await followed({}, 5n);
    const known = guest.committee.author(3);
    const secrets = committee.secrets[3];
    assert.ok(known !== undefined && secrets !== undefined && known.incarnation >= 1n);
    const voice = new ScriptedAuthor(
      {
        get nowMs() {
          return nowMs;
        },
        get committee() {
          return guest.committee;
        },
        apply: () => assert.fail("put into the log by hand"),
      },
      3,
      secrets,
    );
    const stop = new AbortController();
    const following = guest.follow(stop.signal);
    const [member] = members;
    assert.ok(member !== undefined);
    /** Puts it into the log, and says whether it took its place, for members and for the guest. */
    async function taken(raw: Uint8Array): Promise<boolean> {
      const before = member?.committee.author(3);
      const was = `${before?.incarnation}/${before?.ctl.sequence}`;
      await log.append(3, raw);
      const at = log.lastPosition;
      await until(
        "everybody has read it",
        () => members.every((each) => each.committee.position >= at) && guest.committee.position >= at,
      );
      const now = member?.committee.author(3);
      const same = guest.committee.author(3);
      assert.deepEqual([same?.incarnation, same?.ctl, same?.bulk], [now?.incarnation, now?.ctl, now?.bulk]);
      return `${now?.incarnation}/${now?.ctl.sequence}` !== was;
    }
    const join = (incarnation: bigint): Uint8Array => {
      voice.incarnation = incarnation;
      voice.incarnationKey = voice.keyOf(incarnation);
      voice.lanes.ctl.sequence = 0n;
      voice.lanes.ctl.previous = new Uint8Array(32);
      const { publicKey } = voice.incarnationKey;
      return voice.sign({ type: "join", incarnation, key: publicKey }, "ctl", { signer: voice.memberKey });
    };
    assert.equal(await taken(join(known.incarnation)), false, "the number that was used already");
    assert.equal(await taken(join(known.incarnation + 1n)), true, "the next one");
    const handed = guest.committee.author(3);
    assert.ok(handed !== undefined);
    voice.lanes.ctl.sequence = handed.ctl.sequence;
    voice.lanes.ctl.previous = handed.ctl.previous;
    const say = (tampering: Tampering = {}): Uint8Array =>
      voice.sign({ type: "skip", stage: "accepted", toSlot: slot + 1n }, "ctl", { aside: true, ...tampering });
    assert.equal(await taken(say({ body: { sequence: handed.ctl.sequence } })), false, "a number twice");
    assert.equal(await taken(say({ body: { sequence: handed.ctl.sequence + 2n } })), false, "a number left out");
    assert.equal(await taken(say({ body: { previous: new Uint8Array(32).fill(1) } })), false, "another predecessor");
    assert.equal(await taken(say()), true, "the number handed over, and its predecessor");
    stop.abort();
    await following;
  });
});
