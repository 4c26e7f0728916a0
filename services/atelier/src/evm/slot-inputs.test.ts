import assert from "node:assert/strict";
import { test } from "node:test";
import { decode, encode, toHex } from "@lattice/organism/codec/codec.ts";
import { outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { contentHash, UNSEALED, UNSEALED_BODY } from "@lattice/organism/outcomes/unseal.ts";
import { attributesOn, BLOCK_GAS, devnet, signed, wallet } from "../../test/devnet.ts";
import {
  auctionOf,
  blindDigest,
  dealLattice,
  messageIdOf,
  type Published,
  skippedOf,
  unsealedOf,
} from "../../test/lattice.ts";
import { bundle } from "../../test/slot.ts";
import { BodyMismatch } from "../core/inputs.ts";
import { buildCandidate } from "./build.ts";
import type { ChainState } from "./chain-state.ts";
import { type OutcomeWithBody, rulesOf, type SlotSources, slotInputs } from "./slot-inputs.ts";

const { config } = dealLattice();
const SLOT = 5n;

const held = ({ outcome, body }: Published): OutcomeWithBody => ({ outcome, body });

function sourcesOn(chain: ChainState, over: Partial<SlotSources> = {}): SlotSources {
  return {
    slot: SLOT,
    candidateVersion: 0,
    attributes: attributesOn(chain),
    rules: rulesOf(config),
    unsealed: held(unsealedOf(config, SLOT, [])),
    auction: held(auctionOf(config, SLOT, [])),
    earlier: [],
    ...over,
  };
}

const ids = (messages: readonly { readonly messageId: Uint8Array }[]): string[] =>
  messages.map(({ messageId }) => toHex(messageId));

test("a candidate names the outcomes it comes from; a skipped one leaves no name", async () => {
  const chain = await devnet();
  const unsealed = unsealedOf(config, SLOT, []);
  const inputs = await slotInputs(chain, sourcesOn(chain));
  assert.deepEqual(inputs.unsealed, outcomeDigest(unsealed.outcome));
  const skipped = await slotInputs(
    chain,
    sourcesOn(chain, {
      unsealed: held(skippedOf(config, "unseal", "unsealed", SLOT)),
      auction: held(skippedOf(config, "offer", "auction", SLOT)),
    }),
  );
  assert.ok(!("unsealed" in skipped) && !("auction" in skipped));
});

test("what an earlier slot opened is carried until it has landed", async () => {
  const chain = await devnet();
  const raw = signed({ from: wallet(0), nonce: 0n });
  const earlier = [held(unsealedOf(config, 3n, [raw])), held(skippedOf(config, "unseal", "unsealed", 4n))];
  const inputs = await slotInputs(chain, sourcesOn(chain, { earlier }));
  assert.deepEqual(ids(inputs.carried), [toHex(messageIdOf(3n, 0))]);
  const candidate = await buildCandidate(chain, inputs);
  assert.deepEqual(
    candidate.body.entries.map(({ type }) => type),
    ["carried"],
  );
  const execution = await chain.begin(inputs.attributes);
  const decoding = execution.decoder.decode(raw);
  assert.ok("transaction" in decoding);
  await execution.run(decoding.transaction);
  const { rlp, hash } = await execution.seal();
  await chain.importBlock(rlp);
  await chain.setHead(hash);
  assert.deepEqual((await slotInputs(chain, sourcesOn(chain, { earlier }))).carried, []);
});

test("what can never run, and what stands for the same transaction, is not carried", async () => {
  const chain = await devnet();
  const good = signed({ from: wallet(0), nonce: 0n });
  const later = signed({ from: wallet(1), nonce: 7n });
  const rounds = [
    unsealedOf(config, 3n, [
      new Uint8Array([1, 2, 3]),
      signed({ from: wallet(2), nonce: 0n, chainId: 1n }),
      signed({ from: wallet(2), nonce: 0n, gasLimit: BLOCK_GAS + 1n }),
      signed({ from: wallet(2), nonce: 0n, gasLimit: 20_999n }),
      good,
    ]),
    unsealedOf(config, 4n, [good, later]),
  ];
  const inputs = await slotInputs(chain, sourcesOn(chain, { earlier: rounds.map(held) }));
  assert.deepEqual(ids(inputs.carried), [toHex(messageIdOf(3n, 4)), toHex(messageIdOf(4n, 1))]);
});

test("whoever reuses a message id in a later slot does not displace the first", async () => {
  const chain = await devnet();
  const first = unsealedOf(config, 3n, [signed({ from: wallet(0), nonce: 0n })]);
  const other = unsealedOf(config, 4n, [signed({ from: wallet(1), nonce: 0n })]);
  const [content] = decode(UNSEALED_BODY, other.body ?? new Uint8Array());
  assert.ok(content !== undefined);
  const messageId = messageIdOf(3n, 0);
  const body = encode(UNSEALED_BODY, [{ ...content, messageId }]);
  const commitment = encode(UNSEALED, {
    ...decode(UNSEALED, other.outcome.commitment),
    messages: [
      {
        messageId,
        contentHash: contentHash(messageId, content.content),
        disclosed: { hash: undefined, to: undefined, selector: undefined, rawTransaction: undefined },
      },
    ],
  });
  const reusing = { outcome: { ...other.outcome, commitment, bodyHash: blake3(body) }, body };
  const inputs = await slotInputs(chain, sourcesOn(chain, { earlier: [held(first), reusing] }));
  assert.deepEqual(
    inputs.carried.map(({ slot }) => slot),
    [3n],
  );
});

test("blind winners count only under the outcome that the freeze named", async () => {
  const chain = await devnet();
  const searcher = wallet(9);
  const winner = bundle({ index: 1, class: "blind", searcher, items: [signed({ from: searcher, nonce: 0n })] });
  const auction = held(auctionOf(config, SLOT, [winner]));
  const [admitted] = (await slotInputs(chain, sourcesOn(chain, { auction }))).bundles;
  assert.equal(admitted?.problem, undefined);
  const { outcome } = unsealedOf(config, SLOT, []);
  const commitment = encode(UNSEALED, { ...decode(UNSEALED, outcome.commitment), blind: blindDigest(99n) });
  const frozenOtherwise = { outcome: { ...outcome, commitment }, body: undefined };
  const [refused] = (await slotInputs(chain, sourcesOn(chain, { auction, unsealed: frozenOtherwise }))).bundles;
  assert.equal(refused?.problem, "not-in-blind-set");
  const skipped = held(skippedOf(config, "unseal", "unsealed", SLOT));
  const [unfrozen] = (await slotInputs(chain, sourcesOn(chain, { auction, unsealed: skipped }))).bundles;
  assert.equal(unfrozen?.problem, "not-in-blind-set");
});

test("a missing body is said to be missing", async () => {
  const chain = await devnet();
  const { outcome } = unsealedOf(config, SLOT, [signed({ from: wallet(0), nonce: 0n })]);
  await assert.rejects(slotInputs(chain, sourcesOn(chain, { unsealed: { outcome, body: undefined } })), BodyMismatch);
});
