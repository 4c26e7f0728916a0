/** The sequencer's JSON-RPC, as relay asks it. */
import { CodecError, decode, fromHex } from "@lattice/organism/codec/codec.ts";
import { SEQUENCER_ACKNOWLEDGEMENT } from "@lattice/organism/outcomes/sequencer.ts";
import { z } from "zod";
import type { SignedAcknowledgement } from "../core/codec.ts";

const DEADLINE_MS = 1500;

/** A signed acknowledgement as it travels in JSON: canonical bytes and signature in hex. */
export const WIRE_ACKNOWLEDGEMENT = z.object({
  acknowledgement: z.string().regex(/^0x[0-9a-f]{2,2000}$/),
  signature: z.string().regex(/^0x[0-9a-f]{130}$/),
});

/** Undefined when the bytes are not canonical; the signature is judged elsewhere. */
export function parseAcknowledgement(wire: unknown): SignedAcknowledgement | undefined {
  const parsed = WIRE_ACKNOWLEDGEMENT.safeParse(wire);
  if (!parsed.success) return undefined;
  try {
    const acknowledgement = decode(SEQUENCER_ACKNOWLEDGEMENT, fromHex(parsed.data.acknowledgement));
    return { acknowledgement, signature: fromHex(parsed.data.signature) };
  } catch (error) {
    if (error instanceof CodecError) return undefined;
    throw error;
  }
}

const ANSWER = z.object({ result: z.unknown() });

/** Asks for the sequencer's word on a slot; undefined when it has none yet or does not answer in time. */
export async function fetchAcknowledgement(url: string, slot: bigint): Promise<SignedAcknowledgement | undefined> {
  try {
    const response = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "lattice_acknowledgement",
        params: [`0x${slot.toString(16)}`],
      }),
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
    const answer = ANSWER.safeParse(await response.json());
    return answer.success ? parseAcknowledgement(answer.data.result) : undefined;
  } catch {
    return undefined;
  }
}
