import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { SEQUENCER_ATTRIBUTES } from "@lattice/organism/outcomes/sequencer.ts";
import { dealLattice } from "../../test/lattice.ts";
import { type Outside, startOutside } from "../../test/outside.ts";
import { attributesHold } from "../core/attributes.ts";
import { fetchAttributes, parseAttributes } from "./clients.ts";

const { config } = dealLattice();
let outside: Outside;
before(async () => {
  outside = await startOutside(config);
});
after(() => outside.close());

const { signal } = new AbortController();

test("attributes come once the sequencer has them, and hold for their slot alone", async () => {
  assert.equal(await fetchAttributes(outside.url, 3n, signal), undefined);
  const offered = outside.offerAttributes(3n);
  const fetched = await fetchAttributes(outside.url, 3n, signal);
  assert.deepEqual(fetched, offered);
  assert.equal(attributesHold(config, 3n, offered), true);
  assert.equal(attributesHold(config, 4n, offered), false);
});

test("a sequencer that is away, and a call that is cut off, give nothing", async () => {
  assert.equal(await fetchAttributes("http://127.0.0.1:1", 3n, signal), undefined);
  assert.equal(await fetchAttributes(outside.url, 3n, AbortSignal.abort()), undefined);
});

test("anything but canonical bytes and a whole signature is refused", () => {
  const { attributes, signature } = outside.offerAttributes(5n);
  const right = {
    attributes: `0x${toHex(encode(SEQUENCER_ATTRIBUTES, attributes))}`,
    signature: `0x${toHex(signature)}`,
  };
  assert.deepEqual(parseAttributes(right), { attributes, signature });
  assert.equal(parseAttributes({ ...right, attributes: `${right.attributes}00` }), undefined);
  assert.equal(parseAttributes({ ...right, attributes: right.attributes.slice(0, -1) }), undefined);
  assert.equal(parseAttributes({ ...right, signature: right.signature.slice(0, -2) }), undefined);
  assert.equal(parseAttributes({ attributes: right.attributes }), undefined);
  assert.equal(parseAttributes(null), undefined);
});
