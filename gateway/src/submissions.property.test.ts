/** The book against a model of it: whatever happens in whatever order, nothing acknowledged is lost or said twice. */
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import fc from "fast-check";
import { ALICE, BOB, bookParts, MemoryJournal, openBook, type TestTransaction, transfer } from "../test/fixture.ts";
import { disclosureOf, PASSES_MAX, type SubmissionBook } from "./submissions.ts";

/** What the model knows of one submission. */
interface Expected {
  status: "pending" | "sent" | "broadcast" | "landed" | "failed";
  slot: bigint;
  passes: number;
  messageId: string;
  block: string;
}

/** carrySlots of the test config, and two more. */
const PATIENCE = 6n;
const NONCES = 3;
let transactions: TestTransaction[];

before(async () => {
  await initCrypto();
  transactions = await Promise.all(
    [ALICE, BOB].flatMap((account) =>
      Array.from({ length: NONCES }, (_, nonce) => [1n, 2n].map((value) => transfer(account, nonce, { value }))).flat(),
    ),
  );
});

const index = fc.nat({ max: 4 * NONCES - 1 });
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ type: fc.constant("take" as const), index }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constant("next" as const), ahead: fc.nat({ max: 2 }) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("settle" as const), index, delivered: fc.boolean() }) },
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant("broadcast" as const), back: fc.nat({ max: 3 }), mask: fc.nat() }),
  },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("skipped" as const), back: fc.nat({ max: 3 }) }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("malformed" as const), index }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("land" as const), index }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("drop" as const), index }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("later" as const), slots: fc.nat({ max: 5 }) }) },
  { weight: 3, arbitrary: fc.record({ type: fc.constant("reconcile" as const) }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("restart" as const) }) },
);

class Run {
  readonly parts = bookParts();
  readonly expected = new Map<string, Expected>();
  readonly idsSeen = new Set<string>();
  book: SubmissionBook = openBook(this.parts);
  slot = 10n;
  #blocks = 0;

  of(at: number): TestTransaction {
    const transaction = transactions[at];
    assert.ok(transaction !== undefined);
    return transaction;
  }

  /** The nonce after the highest one landed without a hole: what the chain would say. */
  chainNonce(sender: string): bigint {
    const landed = new Set(
      transactions
        .filter((each) => each.sender === sender && this.expected.get(each.hash)?.status === "landed")
        .map(({ nonce }) => nonce),
    );
    let nonce = 0n;
    while (landed.has(nonce)) nonce += 1n;
    return nonce;
  }

  syncChain(): void {
    for (const sender of [ALICE, BOB].map(({ address }) => address.toLowerCase()))
      this.parts.chain.accounts.set(sender, { nonce: this.chainNonce(sender), balanceWei: 10n ** 20n });
  }

  live(): [string, Expected][] {
    return [...this.expected].filter(([, { status }]) => status !== "landed" && status !== "failed");
  }

  async do(step: typeof action extends fc.Arbitrary<infer A> ? A : never): Promise<void> {
    this.syncChain();
    const { book, expected } = this;
    switch (step.type) {
      case "take": {
        const { raw, hash, nonce, sender } = this.of(step.index);
        const known = expected.get(hash);
        if ((known === undefined || known.status === "failed") && nonce < this.chainNonce(sender)) {
          await assert.rejects(book.take(raw, { disclosure: disclosureOf("hash") }), { reason: "NONCE_TOO_LOW" });
          return;
        }
        assert.equal(toHex(await book.take(raw, { disclosure: disclosureOf("hash") })), hash);
        if (known !== undefined && known.status !== "failed") return;
        for (const other of transactions) {
          const twin = expected.get(other.hash);
          if (other.sender === sender && other.nonce === nonce && twin?.status === "pending" && twin.slot === 0n)
            twin.status = "failed";
        }
        expected.set(hash, { status: "pending", slot: 0n, passes: 0, messageId: "", block: "" });
        return;
      }
      case "next":
        return this.#next(this.slot + BigInt(step.ahead));
      case "settle": {
        const { hash } = this.of(step.index);
        const found = expected.get(hash);
        if (found === undefined || found.messageId === "") return;
        const messageId = new Uint8Array(Buffer.from(found.messageId, "hex"));
        book.settled({ messageId, slot: found.slot, rho: 1n, fate: step.delivered ? "delivered" : "lost" });
        if (found.status === "sent") found.status = step.delivered ? "broadcast" : "pending";
        return;
      }
      case "broadcast": {
        const slot = this.slot - BigInt(step.back);
        const sent = this.live().filter(([, each]) => each.status === "sent" && each.slot === slot);
        const held = sent.filter((_, at) => ((step.mask >> at) & 1) === 1);
        book.broadcast(
          slot,
          held.map(([, { messageId }]) => new Uint8Array(Buffer.from(messageId, "hex"))),
        );
        for (const each of sent) each[1].status = held.includes(each) ? "broadcast" : "pending";
        return;
      }
      case "skipped": {
        const slot = this.slot - BigInt(step.back);
        book.unsealed(slot, "skipped", undefined);
        for (const [, each] of this.live()) if (each.slot === slot) each.status = "pending";
        return;
      }
      case "malformed": {
        const found = expected.get(this.of(step.index).hash);
        if (found === undefined || found.messageId === "") return;
        const messageId = new Uint8Array(Buffer.from(found.messageId, "hex"));
        book.unsealed(found.slot, "result", {
          version: 1,
          broadcast: new Uint8Array(32),
          blind: undefined,
          messages: [],
          failures: [{ messageId, reason: "malformed" }],
        });
        if (found.status === "pending" || found.status === "sent" || found.status === "broadcast")
          found.status = "failed";
        return;
      }
      case "land": {
        // Only what the chain would take: the account's next nonce.
        const { hash, nonce, sender } = this.of(step.index);
        const found = expected.get(hash);
        if (found === undefined || found.status === "landed" || nonce !== this.chainNonce(sender)) return;
        this.#blocks += 1;
        const block = this.#blocks.toString(16).padStart(64, "0");
        book.landed({ hash: block, transactions: ["ff".repeat(32), hash] });
        Object.assign(found, { status: "landed", block, passes: 0 });
        return;
      }
      case "drop": {
        const { hash, nonce, sender } = this.of(step.index);
        const found = expected.get(hash);
        // A reorg takes the newest blocks.
        if (found?.status !== "landed" || nonce + 1n !== this.chainNonce(sender)) return;
        book.dropped({ hash: found.block, transactions: [hash] });
        Object.assign(found, { status: "broadcast", block: "" });
        return;
      }
      case "later":
        this.slot += BigInt(step.slots);
        return;
      case "reconcile":
        await book.reconcile(this.slot, async () => undefined);
        for (const [hash, each] of this.live()) {
          if (each.status === "pending" || each.slot + PATIENCE >= this.slot) continue;
          const { nonce, sender } = this.of(transactions.findIndex((other) => other.hash === hash));
          if (this.chainNonce(sender) > nonce) each.status = "failed";
          else if (each.status === "sent") each.status = "pending";
          else if (each.passes + 1 < PASSES_MAX) Object.assign(each, { status: "pending", passes: each.passes + 1 });
          else each.status = "failed";
        }
        return;
      case "restart":
        // Every change has been handed to the journal; what it holds is what the next process finds.
        await new Promise((resolve) => setImmediate(resolve));
        this.book = openBook({ ...this.parts, journal: new MemoryJournal(this.parts.journal.values) });
        Object.assign(this.parts, { journal: new MemoryJournal(this.parts.journal.values) });
        this.book = openBook(this.parts);
    }
  }

  async #next(slot: bigint): Promise<void> {
    const message = await this.book.next(slot);
    if (message === undefined) {
      for (const [hash, { status }] of this.live()) if (status === "pending") assert.ok(this.#mustWait(hash, slot));
      return;
    }
    const id = toHex(message.messageId);
    assert.ok(!this.idsSeen.has(id), "a message id is never used twice");
    this.idsSeen.add(id);
    const gone = this.live().filter(
      ([hash, { status }]) => status === "pending" && this.book.get(hash)?.status === "sent",
    );
    assert.equal(gone.length, 1, "one message, one submission");
    for (const [hash, each] of gone) {
      assert.ok(!this.#mustWait(hash, slot), "no nonce overtakes a lower one of its account");
      assert.ok(!this.#lowerPending(hash), "the lowest nonce goes first");
      Object.assign(each, { status: "sent", slot, messageId: id });
    }
  }

  #siblings(hash: string): { nonce: bigint; expected: Expected }[] {
    const own = transactions.find((each) => each.hash === hash);
    assert.ok(own !== undefined);
    return this.live().flatMap(([other, each]) => {
      const transaction = transactions.find((candidate) => candidate.hash === other);
      return transaction !== undefined && transaction.sender === own.sender && transaction.nonce < own.nonce
        ? [{ nonce: transaction.nonce, expected: each }]
        : [];
    });
  }

  #lowerPending(hash: string): boolean {
    return this.#siblings(hash).some(({ expected }) => expected.status === "pending");
  }

  /** A lower nonce of its account goes out, or went out, with a later round. */
  #mustWait(hash: string, slot: bigint): boolean {
    return this.#siblings(hash).some(({ expected }) => expected.status === "pending" || expected.slot > slot);
  }

  check(): void {
    for (const [hash, { status, passes }] of this.expected) {
      const found = this.book.get(hash);
      assert.equal(found?.status, status, `${hash.slice(0, 8)} at slot ${this.slot}`);
      assert.equal(found?.passes, passes);
      assert.equal(this.book.isPrivate(hash), status !== "landed" && status !== "failed");
      if (status === "failed") assert.notEqual(found?.reason, "", "whoever is given up is told why");
    }
  }
}

test("the book does what its model does, through losses, reorgs and restarts", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 20, maxLength: 80, size: "max" }), async (steps) => {
      const run = new Run();
      for (const step of steps) {
        await run.do(step);
        run.check();
      }
    }),
    { numRuns: 25 },
  );
});
