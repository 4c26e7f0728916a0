import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { unsealIdentity } from "@lattice/organism/outcomes/unseal.ts";
import { ALICE, BOB, bookParts, MemoryJournal, openBook, transfer } from "../test/fixture.ts";
import { disclosureOf, NONCES_AHEAD_MAX, PASSES_MAX, type SubmissionBook } from "./submissions.ts";

const HASH_ONLY = { disclosure: disclosureOf("hash") };
const nothing = async (): Promise<void> => undefined;
/** One slot after which an unlanded submission of slot 1 is overdue: carrySlots 4, two more, one beyond. */
const LATE = 8n;

before(() => initCrypto());

async function send(book: SubmissionBook, slot: bigint): Promise<Uint8Array> {
  const message = await book.next(slot);
  assert.ok(message !== undefined, "a message was expected");
  return message.messageId;
}

const settle = (book: SubmissionBook, messageId: Uint8Array, slot: bigint, fate: "delivered" | "lost"): void =>
  book.settled({ messageId, slot, rho: slot, fate });

describe("taking over", () => {
  test("the hash is answered once the submission is on disk, and not before", async () => {
    const parts = bookParts();
    let open: () => void = () => undefined;
    parts.journal.gate = new Promise((resolve) => {
      open = resolve;
    });
    const book = openBook(parts);
    const { raw, hash } = await transfer(ALICE, 0);
    let answered = false;
    const taking = book.take(raw, HASH_ONLY).then((answer) => {
      answered = true;
      return answer;
    });
    const again = book.take(raw, HASH_ONLY);
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(answered, false);
    assert.equal(await book.next(1n), undefined, "nothing goes out that is not on disk");
    open();
    assert.equal(toHex(await taking), hash);
    assert.equal(toHex(await again), hash);
    assert.equal(book.counts().pending, 1, "the same one twice is one");
    assert.equal(openBook(parts).get(hash)?.status, "pending");
  });

  test("what could not be journaled is refused and forgotten; sent again it is taken", async () => {
    const parts = bookParts();
    const book = openBook(parts);
    const { raw, hash } = await transfer(ALICE, 0);
    parts.journal.failing = true;
    await assert.rejects(book.take(raw, HASH_ONLY), /disk full/);
    assert.equal(book.get(hash), undefined);
    parts.journal.failing = false;
    await book.take(raw, HASH_ONLY);
    assert.equal(book.get(hash)?.status, "pending");
  });

  test("nonce, funds, chain, size and queue are judged", async () => {
    const parts = bookParts();
    const book = openBook(parts, { pendingMax: 1 });
    const { sender } = await transfer(ALICE, 0);
    parts.chain.accounts.set(sender, { nonce: 5n, balanceWei: 10n ** 20n });
    const refused = async (raw: Uint8Array, reason: string): Promise<void> => {
      await assert.rejects(book.take(raw, HASH_ONLY), { name: "Fault", reason });
    };
    await refused((await transfer(ALICE, 4)).raw, "NONCE_TOO_LOW");
    await refused((await transfer(ALICE, 6 + Number(NONCES_AHEAD_MAX))).raw, "NONCE_TOO_HIGH");
    await refused((await transfer(ALICE, 5, { chainId: 1 })).raw, "WRONG_CHAIN");
    await refused((await transfer(ALICE, 5, { value: 10n ** 20n })).raw, "UNDERFUNDED");
    await refused(new Uint8Array([1, 2, 3]), "TRANSACTION_UNDECODABLE");
    const room = book.transactionBytesMax;
    const empty = (await transfer(ALICE, 5, { data: `0x${"ab".repeat(500)}` })).raw.length - 500;
    const fits = await transfer(ALICE, 5, { data: `0x${"ab".repeat(room - empty)}` });
    assert.equal(fits.raw.length, room);
    await refused(
      (await transfer(ALICE, 5, { data: `0x${"ab".repeat(room - empty + 1)}` })).raw,
      "TRANSACTION_TOO_LARGE",
    );
    await book.take(fits.raw, HASH_ONLY);
    assert.ok((await book.next(1n)) !== undefined, "the largest one can be sealed");
    await refused((await transfer(ALICE, 6)).raw, "QUEUE_FULL");
    parts.chain.down = true;
    await assert.rejects(openBook(bookPartsWith(parts)).take((await transfer(BOB, 0)).raw, HASH_ONLY), /down/);
  });

  test("what may not land after a slot is not sealed for rounds after which it might", async () => {
    const parts = bookParts();
    const book = openBook(parts);
    const [bounded, free] = await Promise.all([transfer(ALICE, 0), transfer(BOB, 0)]);
    const carry = BigInt(parts.config.atelier.content.carrySlots);
    await book.take(bounded.raw, { ...HASH_ONLY, untilSlot: 5n + carry });
    await send(book, 5n);
    book.unsealed(5n, "skipped", undefined);
    assert.equal(openBook(parts).get(bounded.hash)?.untilSlot, 5n + carry);
    await book.take(free.raw, HASH_ONLY);
    await send(book, 6n);
    assert.deepEqual([book.get(bounded.hash)?.status, book.get(free.hash)?.status], ["failed", "sent"]);
    assert.match(book.get(bounded.hash)?.reason ?? "", /maximum block number/);
  });

  test("a newer transaction with its nonce replaces one that has never left; one that has left stays", async () => {
    const parts = bookParts();
    const book = openBook(parts);
    const [old, young, third] = await Promise.all([1n, 2n, 3n].map((value) => transfer(ALICE, 0, { value })));
    assert.ok(old !== undefined && young !== undefined && third !== undefined);
    await book.take(old.raw, HASH_ONLY);
    await book.take(young.raw, HASH_ONLY);
    assert.match(book.get(old.hash)?.reason ?? "", /replaced/);
    await send(book, 1n);
    assert.equal(book.get(young.hash)?.status, "sent");
    await book.take(third.raw, HASH_ONLY);
    assert.equal(book.get(young.hash)?.status, "sent");
    assert.equal(book.get(third.hash)?.status, "pending");
  });

  test("settled ones are forgotten, oldest first, from the journal as well; live ones never", async () => {
    const parts = bookParts();
    const book = openBook(parts, { settledKept: 2, pendingMax: 2 });
    const all = await Promise.all(Array.from({ length: 9 }, (_, nonce) => transfer(ALICE, nonce)));
    const kept = await transfer(BOB, 0);
    await book.take(kept.raw, HASH_ONLY);
    for (const [index, { raw, hash }] of all.entries()) {
      await book.take(raw, HASH_ONLY);
      book.landed({ hash: index.toString(16).padStart(64, "0"), transactions: [hash] });
    }
    await new Promise((resolve) => setImmediate(resolve));
    const known = (each: SubmissionBook): boolean[] => all.map(({ hash }) => each.get(hash) !== undefined);
    assert.deepEqual(known(book).filter(Boolean).length <= 3, true);
    assert.equal(book.get(all[8]?.hash ?? "")?.status, "landed");
    assert.ok(parts.journal.values.size <= 2 + 2 * 2, "places are used again");
    const again = openBook(
      { ...parts, journal: new MemoryJournal(parts.journal.values) },
      { settledKept: 2, pendingMax: 2 },
    );
    assert.deepEqual(known(again), known(book));
    assert.equal(again.get(kept.hash)?.status, "pending");
  });
});

const bookPartsWith = (parts: ReturnType<typeof bookParts>): ReturnType<typeof bookParts> => ({
  ...parts,
  journal: new MemoryJournal(),
});

describe("going out", () => {
  test("every round seals anew, under a new message id, to the slot's identity", async () => {
    const parts = bookParts();
    const book = openBook(parts);
    const { raw, hash } = await transfer(ALICE, 0);
    await book.take(raw, HASH_ONLY);
    const first = await book.next(1n);
    assert.ok(first !== undefined);
    assert.equal(await book.next(1n), undefined, "once a round");
    settle(book, first.messageId, 1n, "lost");
    const second = await book.next(2n);
    assert.ok(second !== undefined);
    assert.notDeepEqual(second.messageId, first.messageId);
    assert.notDeepEqual(second.sealed, first.sealed);
    assert.equal(second.sealed.length, first.sealed.length);
    assert.ok(!Buffer.from(second.sealed).includes(Buffer.from(raw)));
    settle(book, first.messageId, 1n, "delivered");
    assert.equal(book.get(hash)?.status, "sent", "an old id settles nothing");
    settle(book, second.messageId, 2n, "delivered");
    assert.equal(book.get(hash)?.status, "broadcast");
    assert.equal(unsealIdentity(new Uint8Array(32), 0n, 1n).length, 32);
  });

  test("of one account the lowest nonce first, and never in an earlier round than a nonce before it", async () => {
    const book = openBook(bookParts());
    const [zero, one, two] = await Promise.all([0, 1, 2].map((nonce) => transfer(ALICE, nonce)));
    const other = await transfer(BOB, 0);
    assert.ok(zero !== undefined && one !== undefined && two !== undefined);
    for (const { raw } of [two, other, one, zero]) await book.take(raw, HASH_ONLY);
    await send(book, 5n);
    assert.equal(book.get(other.hash)?.status, "sent", "who has waited longest goes first");
    const id = await send(book, 6n);
    assert.equal(book.get(zero.hash)?.status, "sent");
    assert.equal(await book.next(5n), undefined, "nonce 1 may not go with round 5 when nonce 0 goes with round 6");
    await send(book, 6n);
    assert.equal(book.get(one.hash)?.status, "sent");
    settle(book, id, 6n, "lost");
    await send(book, 7n);
    assert.deepEqual(
      [zero, one, two].map(({ hash }) => book.get(hash)?.slot),
      [7n, 6n, 0n],
    );
    assert.equal(await book.next(6n), undefined, "nonce 2 waits for the round of nonce 0");
    await send(book, 7n);
    assert.equal(book.get(two.hash)?.status, "sent");
  });

  test("pending counts go on from the chain's without a hole", async () => {
    const book = openBook(bookParts());
    for (const nonce of [0, 1, 3]) await book.take((await transfer(ALICE, nonce)).raw, HASH_ONLY);
    const account = ALICE.address.slice(2).toLowerCase();
    assert.equal(book.pendingNonce(account, 0n), 2n);
    assert.equal(book.pendingNonce(account, 3n), 4n);
    assert.equal(book.pendingNonce(account, 9n), 9n);
    assert.equal(book.pendingNonce(BOB.address.slice(2).toLowerCase(), 0n), 0n);
  });
});

describe("what becomes of it", () => {
  async function sent() {
    const parts = bookParts();
    const book = openBook(parts);
    const transaction = await transfer(ALICE, 0);
    await book.take(transaction.raw, HASH_ONLY);
    const messageId = await send(book, 1n);
    return { parts, book, transaction, messageId, status: () => book.get(transaction.hash)?.status };
  }

  test("a certified broadcast settles what was sent before a restart", async () => {
    for (const [held, status] of [
      [true, "broadcast"],
      [false, "pending"],
    ] as const) {
      const { parts, transaction, messageId } = await sent();
      const again = openBook(parts);
      assert.equal(again.get(transaction.hash)?.status, "sent");
      again.broadcast(2n, [messageId]);
      assert.equal(again.get(transaction.hash)?.status, "sent", "another slot's broadcast says nothing");
      again.broadcast(1n, held ? [new Uint8Array(16), messageId] : [new Uint8Array(16)]);
      assert.equal(again.get(transaction.hash)?.status, status);
    }
  });

  test("a skipped opening sends it again; one that failed is told", async () => {
    const { book, messageId, status } = await sent();
    settle(book, messageId, 1n, "delivered");
    book.unsealed(2n, "skipped", undefined);
    assert.equal(status(), "broadcast");
    book.unsealed(1n, "skipped", undefined);
    assert.equal(status(), "pending");
    const next = await send(book, 2n);
    const commitment = { version: 1 as const, broadcast: new Uint8Array(32), blind: undefined, messages: [] };
    book.unsealed(2n, "result", { ...commitment, failures: [{ messageId: next, reason: "malformed" }] });
    assert.equal(status(), "failed");
  });

  test("overdue: landed unseen, nonce used by another, again, given up", async () => {
    const { parts, book, transaction, messageId, status } = await sent();
    settle(book, messageId, 1n, "delivered");
    await book.reconcile(LATE - 1n, nothing);
    assert.equal(status(), "broadcast", "one slot too early");
    for (let pass = 1; pass < PASSES_MAX; pass++) {
      const before = book.get(transaction.hash)?.slot ?? 0n;
      await book.reconcile(before + LATE, nothing);
      assert.equal(status(), "pending", `pass ${pass}`);
      settle(book, await send(book, before + LATE), before + LATE, "delivered");
    }
    await book.reconcile(100n, nothing);
    assert.match(book.get(transaction.hash)?.reason ?? "", /not included after 3 broadcasts/);
    await book.take(transaction.raw, HASH_ONLY);
    assert.equal(status(), "pending", "what was given up may be sent again");

    const other = await sent();
    other.parts.chain.accounts.set(transaction.sender, { nonce: 1n, balanceWei: 0n });
    await other.book.reconcile(LATE, nothing);
    assert.equal(other.status(), "failed");
    assert.match(other.book.get(transaction.hash)?.reason ?? "", /another transaction used its nonce/);

    const unseen = await sent();
    unseen.parts.chain.accounts.set(transaction.sender, { nonce: 1n, balanceWei: 0n });
    unseen.parts.chain.blocks.set(transaction.hash, "ee".repeat(32));
    await unseen.book.reconcile(LATE, nothing);
    assert.equal(unseen.status(), "landed");
    assert.equal(parts.chain.down, false);
  });

  test("a block that comes while the chain is asked is not overwritten by what was read before", async () => {
    const { parts, book, transaction, status } = await sent();
    parts.chain.accounts.set(transaction.sender, { nonce: 1n, balanceWei: 0n });
    await book.reconcile(LATE, async () => book.landed({ hash: "ab".repeat(32), transactions: [transaction.hash] }));
    assert.equal(status(), "landed");
  });

  test("a chain that does not answer decides nothing", async () => {
    const { parts, book, status } = await sent();
    parts.chain.down = true;
    await assert.rejects(book.reconcile(LATE, nothing), /down/);
    assert.equal(status(), "sent");
  });

  test("a reorg takes a landing back; coming back or going again are both possible", async () => {
    const { book, transaction, status } = await sent();
    const block = { hash: "ab".repeat(32), transactions: [transaction.hash] };
    book.landed(block);
    book.dropped({ ...block, hash: "cd".repeat(32) });
    assert.equal(status(), "landed", "another block was dropped");
    book.dropped(block);
    assert.equal(status(), "broadcast");
    assert.equal(book.isPrivate(transaction.hash), true);
    book.landed({ ...block, hash: "ef".repeat(32) });
    assert.equal(status(), "landed");
    book.dropped({ ...block, hash: "ef".repeat(32) });
    await book.reconcile(LATE, nothing);
    assert.equal(status(), "pending");
  });
});
