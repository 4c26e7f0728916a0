/** One test per refusal of an entry, each beside the nearest one that is taken. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { accepted, chunk, hash32, joinedBeforeEach, MEMBERS, note, ProbeDriver } from "../../test/probe-driver.ts";
import type { TestCommittee } from "../../test/test-lattice.ts";
import { concat } from "../codec/codec.ts";
import { committeeId } from "../identity/lattice-config.ts";
import type { ScriptedAuthor } from "../testing/committee-driver.ts";
import { type CommitteeCommand, encodeCommand } from "./commands.ts";
import { CHUNK_BYTES } from "./entry.ts";
import { HEADS_KEPT } from "./state.ts";

let dealt: TestCommittee;
let driver: ProbeDriver;
let author: ScriptedAuthor;

joinedBeforeEach((fresh) => {
  ({ dealt, driver, author } = fresh);
});

describe("an entry that is not its author's next one", () => {
  test("bytes that are no entry", () => {
    driver.refusedOutright(() => driver.apply(new Uint8Array([1, 2, 3])), "MALFORMED");
    driver.refusedOutright(() => driver.apply(new Uint8Array()), "MALFORMED");
    const whole = author.sign(note(), "ctl", { aside: true });
    driver.refusedOutright(() => driver.apply(whole.subarray(0, whole.length - 1)), "MALFORMED");
    driver.refusedOutright(() => driver.apply(concat(whole, new Uint8Array(1))), "MALFORMED");
    accepted(author.say(note()));
  });

  test("another committee's", () => {
    const other = committeeId(dealt.config, "tally");
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { committee: other } }), "ORGANISM_MISMATCH");
    accepted(author.say(note(), "ctl", { body: { committee: committeeId(dealt.config, "relay") } }));
  });

  test("another generation's or epoch's", () => {
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { generation: 1n } }), "OUT_OF_ORDER");
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { epoch: 1n } }), "OUT_OF_ORDER");
    accepted(author.say(note(), "ctl", { body: { generation: 0n, epoch: 0n } }));
  });

  test("nobody's: an index beyond the roster", () => {
    for (const index of [MEMBERS, 15, 2 ** 40]) {
      driver.refusedOutright(() => author.say(note(), "ctl", { body: { author: index } }), "NOT_AUTHOR");
    }
    accepted(driver.author(MEMBERS - 1).say(note()));
  });

  test("somebody's who has not joined", () => {
    driver = new ProbeDriver(dealt);
    driver.refusedOutright(() => driver.author(0).say(note()), "NOT_AUTHOR");
    accepted(driver.author(0).join());
    accepted(driver.author(0).say(note()));
  });

  test("an older incarnation's", () => {
    const late = author.sign(note(), "ctl", { aside: true });
    accepted(author.join());
    driver.refusedOutright(() => driver.apply(late), "NOT_AUTHOR");
    driver.refusedOutright(
      () => author.say(note(), "ctl", { body: { incarnation: author.incarnation + 1n } }),
      "NOT_AUTHOR",
    );
    accepted(author.say(note()));
  });

  test("signed by another key, another member, or not at all", () => {
    const other = driver.author(1);
    driver.refusedOutright(() => author.say(note(), "ctl", { signer: other.incarnationKey }), "NOT_AUTHOR");
    driver.refusedOutright(() => author.say(note(), "ctl", { signer: author.memberKey }), "NOT_AUTHOR");
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { author: 1 } }), "NOT_AUTHOR");
    driver.refusedOutright(
      () => author.say(note(), "ctl", { signature: (each) => each.map((byte, at) => (at === 5 ? byte ^ 1 : byte)) }),
      "NOT_AUTHOR",
    );
    driver.refusedOutright(() => author.say(note(), "ctl", { signature: () => new Uint8Array(64) }), "NOT_AUTHOR");
    accepted(author.say(note()));
  });

  test("a changed body under a good signature", () => {
    const good = author.sign(note(), "ctl", { aside: true });
    // The command's last byte: the signature no longer covers what is there.
    const bad = good.slice();
    const at = bad.length - 64 - 1;
    bad[at] = (bad[at] ?? 0) ^ 1;
    driver.refusedOutright(() => driver.apply(bad), "NOT_AUTHOR");
    accepted(driver.apply(good));
  });

  test("a gap, a repeat, another predecessor", () => {
    accepted(author.say(note()));
    const { sequence, previous } = author.lanes.ctl;
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { sequence: sequence + 2n } }), "OUT_OF_ORDER", 0);
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { sequence } }), "OUT_OF_ORDER", 0);
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { sequence: 0n } }), "OUT_OF_ORDER", 0);
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { previous: hash32(1) } }), "OUT_OF_ORDER", 0);
    accepted(author.say(note(), "ctl", { body: { sequence: sequence + 1n, previous } }));
  });

  test("the same entry again, at any distance", () => {
    const first = author.sign(note("first"));
    accepted(driver.apply(first));
    driver.refusedOutright(() => driver.apply(first), "OUT_OF_ORDER", 0);
    for (let index = 0; index < 20; index++) accepted(author.say(note()));
    driver.refusedOutright(() => driver.apply(first), "OUT_OF_ORDER", 0);
    accepted(author.join());
    driver.refusedOutright(() => driver.apply(first), "NOT_AUTHOR");
  });

  test("two entries in the wrong order: the later one has to come again", () => {
    const first = author.sign(note("first"));
    const second = author.sign(note("second"));
    driver.refusedOutright(() => driver.apply(second), "OUT_OF_ORDER", 0);
    accepted(driver.apply(first));
    accepted(driver.apply(second));
  });

  test("lanes are numbered apart", () => {
    const bulk = author.sign(note("bulk"), "bulk");
    const ctl = author.sign(note("ctl"), "ctl");
    accepted(driver.apply(ctl));
    accepted(driver.apply(bulk));
    driver.refusedOutright(() => author.say(note(), "bulk", { body: { lane: "ctl" } }), "OUT_OF_ORDER", 0);
  });
});

describe("what an author says it saw", () => {
  test("a head that is not in this chain is a fork, at the first entry that crosses it", () => {
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { seenHead: hash32(7) } }), "FORKED_HEAD", 0);
    const { position, head } = driver.committee;
    accepted(author.say(note(), "ctl", { body: { seenPosition: position, seenHead: head } }));
  });

  test("the head of one position under the number of another", () => {
    const { position } = driver.committee;
    const seenHead = driver.committee.head;
    driver.refusedOutright(
      () => author.say(note(), "ctl", { body: { seenPosition: position - 1n, seenHead } }),
      "FORKED_HEAD",
      0,
    );
  });

  test("a position that is not yet here", () => {
    const { position } = driver.committee;
    driver.refusedOutright(
      () => author.say(note(), "ctl", { body: { seenPosition: position + 1n } }),
      "FORKED_HEAD",
      0,
    );
    driver.refusedOutright(
      () => author.say(note(), "ctl", { body: { seenPosition: 2n ** 64n - 1n } }),
      "FORKED_HEAD",
      0,
    );
  });

  test("an older view is fine while it can be compared; then it is too old, which is no fork", () => {
    const { position: seenPosition, head: seenHead } = driver.committee;
    const view = { body: { seenPosition, seenHead } };
    // The heads kept are those of HEADS_KEPT positions, the present one included.
    while (driver.committee.position < seenPosition + BigInt(HEADS_KEPT) - 1n) driver.apply(new Uint8Array(1));
    accepted(author.say(note(), "ctl", view));
    driver.refusedOutright(() => author.say(note(), "ctl", view), "VIEW_TOO_OLD", 0);
    driver.refusedOutright(() => author.say(note(), "ctl", { body: { seenPosition: 0n } }), "VIEW_TOO_OLD", 0);
    accepted(author.say(note()));
  });

  test("a fork shows although the forked entry carries a valid signature and number", () => {
    const mirror = new ProbeDriver(dealt);
    mirror.nowMs = driver.nowMs;
    mirror.joinAll();
    // The same joins at the same positions; then the broker shows one side a message more.
    assert.deepEqual(mirror.committee.head, driver.committee.head);
    mirror.apply(new Uint8Array([9]));
    const there = mirror.author(0).sign(note());
    driver.apply(new Uint8Array([8]));
    driver.refusedOutright(() => driver.apply(there), "FORKED_HEAD", 0);
  });
});

describe("joining", () => {
  test("with the member key only", () => {
    driver.refusedOutright(() => author.join(2n, { signer: author.incarnationKey }), "NOT_AUTHOR");
    driver.refusedOutright(() => author.join(2n, { signer: driver.author(1).memberKey }), "NOT_AUTHOR");
    accepted(author.join(2n));
  });

  test("with a higher incarnation only", () => {
    accepted(author.join(5n));
    driver.refusedOutright(() => author.join(5n), "NOT_AUTHOR", 0);
    driver.refusedOutright(() => author.join(4n), "NOT_AUTHOR", 0);
    driver.refusedOutright(() => author.join(6n, { body: { incarnation: 5n } }), "NOT_AUTHOR", 0);
    accepted(author.join(6n));
  });

  test("as the first of the ctl lane", () => {
    driver.refusedOutright(() => author.join(2n, { body: { lane: "bulk" } }), "OUT_OF_ORDER", 0);
    driver.refusedOutright(() => author.join(2n, { body: { sequence: 2n } }), "OUT_OF_ORDER", 0);
    driver.refusedOutright(() => author.join(2n, { body: { previous: hash32(1) } }), "OUT_OF_ORDER", 0);
    accepted(author.join(2n));
  });

  test("starts both lanes and half-told commands anew, and keeps clock and skips", () => {
    accepted(author.say({ type: "skip", stage: "first", toSlot: 3n }));
    const big = encodeCommand({ type: "machine", command: new Uint8Array(CHUNK_BYTES) });
    accepted(author.say(chunk(big, 0), "bulk"));
    accepted(author.join());
    const state = driver.committee.author(0);
    assert.equal(state?.assembly, undefined);
    assert.equal(state?.ctl.sequence, 1n);
    assert.equal(state?.bulk.sequence, 0n);
    assert.equal(state?.clockMs, BigInt(driver.nowMs));
    assert.equal(driver.committee.skippedTo(0, "first"), 3n);
  });

  test("with a key of small order admits nobody", () => {
    const join: CommitteeCommand = { type: "join", incarnation: 9n, key: new Uint8Array(32) };
    const raw = author.sign(join, "ctl", {
      signer: author.memberKey,
      aside: true,
      body: { incarnation: 9n, sequence: 1n, previous: new Uint8Array(32) },
    });
    accepted(driver.apply(raw));
    const body = { incarnation: 9n, sequence: 2n };
    driver.refusedOutright(
      () => author.say(note(), "ctl", { body, signature: () => new Uint8Array(64) }),
      "NOT_AUTHOR",
    );
  });
});
