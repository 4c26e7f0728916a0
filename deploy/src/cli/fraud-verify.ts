/** `builder fraud verify`: judges a fraud proof from a file, offline, by the lattice config alone. */
import { readFileSync } from "node:fs";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { fraudProofHash, type ProvenFraud, verifyFraudProof } from "@lattice/organism/committee/fraud.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { Refusal } from "@lattice/organism/machine.ts";
import { type KnownEras, pinned } from "@lattice/organism/node/era-book.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem, type Rosters, readConfig, readEras, readRosters } from "@lattice/organism/node/kit.ts";

export interface FraudVerifyOptions {
  readonly config: string;
  /** The kit's rosters, with the eras of committees whose certificate key has changed. */
  readonly rosters?: string;
  readonly json: boolean;
}

/** Says what came of it: data, and problems. */
export interface Output {
  readonly data: (line: string) => void;
  readonly problem: (line: string) => void;
}

export const STANDARD: Output = {
  data: (line) => process.stdout.write(`${line}\n`),
  problem: (line) => process.stderr.write(`${line}\n`),
};

export function accusedToJson(organism: Organism, hash: string, fraud: ProvenFraud): Record<string, unknown> {
  const { kind, member, memberKey, epoch, detail } = fraud;
  const accused = { organism, member_index: member, member_key: toHex(memberKey), epoch: epoch.toString() };
  return { proven: true, proof: hash, kind, ...accused, detail };
}

export function sayAccused(organism: Organism, { member, memberKey, epoch, detail }: ProvenFraud): string {
  return `member ${member} of ${organism} (key ${toHex(memberKey)}, epoch ${epoch}): ${detail}`;
}

/** What a kit tells beside the config. */
interface Known {
  readonly eras: KnownEras;
  readonly rosters?: Rosters;
}

type Judged = { readonly organism: Organism; readonly fraud: ProvenFraud } | { readonly refusal: Refusal };

/** The verdict of the one committee that the proof is about; when it is about none of this lattice's, that. */
function judge(config: LatticeConfig, proof: Uint8Array, { eras, rosters }: Known): Judged {
  for (const organism of ORGANISMS) {
    const seated = rosters?.[organism];
    const known = { eras: eras(organism), rosters: seated === undefined ? [] : [seated] };
    const verdict = verifyFraudProof(config, organism, proof, known);
    if ("fraud" in verdict) return { organism, ...verdict };
    if (verdict.refusal.reason !== "ORGANISM_MISMATCH") return verdict;
  }
  const detail = "the proof is about a committee that is none of this lattice's";
  return { refusal: { reason: "ORGANISM_MISMATCH", detail } };
}

/** @returns the exit code: 0 proven, 1 not proven, 5 a file cannot be read */
export async function runFraudVerify(
  file: string,
  options: FraudVerifyOptions,
  output: Output = STANDARD,
): Promise<number> {
  let config: LatticeConfig;
  let proof: Uint8Array;
  try {
    config = readConfig(options.config);
    proof = new Uint8Array(readFileSync(file));
  } catch (error) {
    if (error instanceof KitProblem) output.problem(error.message);
    else output.problem(`fraud proof: cannot read ${file}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
    return EXIT.precondition;
  }
  await initCrypto();
  let known: Known = { eras: pinned(config) };
  try {
    if (options.rosters !== undefined) {
      known = { eras: readEras(options.rosters, config).of, rosters: readRosters(options.rosters, config) };
    }
  } catch (error) {
    if (!(error instanceof KitProblem)) throw error;
    output.problem(error.message);
    return EXIT.precondition;
  }
  const verdict = judge(config, proof, known);
  const hash = toHex(fraudProofHash(proof));
  if ("refusal" in verdict) {
    const { reason, detail } = verdict.refusal;
    if (options.json) output.data(JSON.stringify({ schema_version: 1, proven: false, proof: hash, reason, detail }));
    output.problem(`not proven: ${reason}: ${detail}`);
    return EXIT.failed;
  }
  const { organism, fraud } = verdict;
  if (options.json) output.data(JSON.stringify({ schema_version: 1, ...accusedToJson(organism, hash, fraud) }));
  else output.data(`proven: ${sayAccused(organism, fraud)}`);
  return EXIT.ok;
}
