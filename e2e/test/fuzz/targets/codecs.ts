/**
 * Every codec that a core module exports is a target by itself: entries, commands of the committee layer and of the
 * six machines, states (snapshots), outcomes, rosters, certificates, checkpoints, bids, envelopes, ceremony messages …
 * What decodes must re-encode to the same bytes; what does not is refused with a `CodecError`.
 */
import { glob } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { type Codec, CodecError, decode, encode, equalBytes } from "@lattice/organism/codec/codec.ts";
import type { Dice } from "../dice.ts";
import { draw } from "../layout.ts";
import { Finding, type Target, type Verdict } from "../target.ts";
import { byteTarget, type Sample, sampleOf } from "./bytes.ts";

const ROOT = dirname(dirname(dirname(dirname(dirname(fileURLToPath(import.meta.url))))));
const PATTERNS = ["services/organism/src/{ceremony,committee,identity,outcomes}/*.ts", "services/*/src/core/*.ts"];
const SAMPLES = 5;

function isCodec(value: unknown): value is Codec<unknown> {
  if (typeof value !== "object" || value === null) return false;
  const { read, write } = value as Partial<Codec<unknown>>;
  return typeof read === "function" && typeof write === "function";
}

/** @throws Finding when bytes are accepted that are not the only spelling of what they mean */
export function judgeCodec(codec: Codec<unknown>, bytes: Uint8Array): Verdict {
  let value: unknown;
  try {
    value = decode(codec, bytes);
  } catch (error) {
    if (error instanceof CodecError) return "refused";
    throw error;
  }
  if (!equalBytes(encode(codec, value), bytes)) throw new Finding("decodes, and re-encodes to other bytes");
  return "accepted";
}

function samplesOf(codec: Codec<unknown>, dice: Dice): Sample[] {
  const samples: Sample[] = [];
  for (let tried = 0; tried < 2 * SAMPLES && samples.length < SAMPLES; tried++) {
    const bytes = draw(codec, dice);
    if (bytes !== undefined) samples.push(sampleOf(codec, bytes));
  }
  return samples;
}

/** Sorted by name, so that runs repeat. */
export async function codecTargets(): Promise<Target[]> {
  const files: string[] = [];
  for (const pattern of PATTERNS)
    for await (const file of glob(pattern, { cwd: ROOT })) if (!file.endsWith(".test.ts")) files.push(file);
  const targets: Target[] = [];
  const seen = new Set<Codec<unknown>>();
  for (const file of files.sort()) {
    const exported = (await import(pathToFileURL(join(ROOT, file)).href)) as Record<string, unknown>;
    const [, owner = ""] = /^services\/([^/]+)/.exec(file) ?? [];
    for (const [name, value] of Object.entries(exported)) {
      if (!isCodec(value) || seen.has(value)) continue;
      seen.add(value);
      targets.push(
        byteTarget(`codec/${owner}/${basename(file, ".ts")}/${name}`, (dice) => ({
          samples: samplesOf(value, dice),
          judge: (bytes) => judgeCodec(value, bytes),
        })),
      );
    }
  }
  return targets;
}
