/** The sequencer's JSON-RPC, as atelier asks it. */
import { CodecError, decode, fromHex } from "@lattice/organism/codec/codec.ts";
import { SEQUENCER_ATTRIBUTES } from "@lattice/organism/outcomes/sequencer.ts";
import { z } from "zod";
import type { SignedAttributes } from "../core/codec.ts";

const DEADLINE_MS = 1500;

/** Signed attributes as they travel in JSON: canonical bytes and signature in hex. */
const WIRE_ATTRIBUTES = z.object({
  attributes: z.string().regex(/^0x[0-9a-f]{2,2000}$/),
  signature: z.string().regex(/^0x[0-9a-f]{130}$/),
});
const ANSWER = z.object({ result: z.unknown() });

/** Undefined when the bytes are not canonical; the signature is judged elsewhere. */
export function parseAttributes(wire: unknown): SignedAttributes | undefined {
  const parsed = WIRE_ATTRIBUTES.safeParse(wire);
  if (!parsed.success) return undefined;
  try {
    const attributes = decode(SEQUENCER_ATTRIBUTES, fromHex(parsed.data.attributes));
    return { attributes, signature: fromHex(parsed.data.signature) };
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

/** Asks `lattice_attributes(slot)`; undefined when the sequencer has none yet, or does not answer in time. */
export async function fetchAttributes(
  url: string,
  slot: bigint,
  signal: AbortSignal,
): Promise<SignedAttributes | undefined> {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "lattice_attributes",
        params: [`0x${slot.toString(16)}`],
      }),
      signal: AbortSignal.any([AbortSignal.timeout(DEADLINE_MS), signal]),
    });
    const answer = ANSWER.safeParse(await response.json());
    return answer.success ? parseAttributes(answer.data.result) : undefined;
  } catch {
    return undefined;
  }
}
