/** `builder fraud fetch`: the proofs by which a committee has blocked keys, judged here and written down for `fraud verify`. */
import { join } from "node:path";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { fraudProofHash } from "@lattice/organism/committee/fraud.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { makeFolder } from "@lattice/organism/node/make-folder.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import { look } from "../roster/commands.ts";
import { isCalledBlocked } from "../roster/committee-view.ts";
import { provenFrauds } from "../roster/proven-keys.ts";
import { accusedToJson, type Output, STANDARD, sayAccused } from "./fraud-verify.ts";
import { writeWhole } from "./whole-file.ts";

export interface FraudFetchOptions {
  readonly config: string;
  readonly endpoints: string;
  readonly organism: Organism;
  readonly out: string;
  readonly json: boolean;
}

/** @returns the exit code: 0 all that f + 1 members call blocked is proven, 1 not, 5 the kit or the folder is not as it must be */
export async function runFraudFetch(options: FraudFetchOptions, output: Output = STANDARD): Promise<number> {
  const { organism, out, json } = options;
  try {
    const view = await look(options);
    const proven = new Set<string>();
    const isNew = (key: Uint8Array): boolean => !proven.has(toHex(key));
    for await (const { proof, fraud } of provenFrauds(view, isNew)) {
      proven.add(toHex(fraud.memberKey));
      const hash = toHex(fraudProofHash(proof));
      const path = join(out, hash);
      makeFolder(out);
      writeWhole(path, proof);
      if (json) output.data(JSON.stringify({ schema_version: 1, file: path, ...accusedToJson(organism, hash, fraud) }));
      else output.data(`${path}: ${sayAccused(organism, fraud)}`);
    }
    const called = new Map(view.answers.flatMap(({ blocked = [] }) => blocked.map((key) => [toHex(key), key])));
    const unproven = [...called].filter(
      ([name, key]) => !proven.has(name) && isCalledBlocked(view.answers, view.quorum, key),
    );
    for (const [name] of unproven) output.problem(`fraud fetch: nobody shows a proof against the key ${name}`);
    for (const { index, address, problem } of view.answers) {
      if (problem !== undefined) output.problem(`fraud fetch: member ${index} at ${address}: ${problem}`);
    }
    if (called.size === 0) output.problem(`${organism}: no key is blocked`);
    return unproven.length === 0 ? EXIT.ok : EXIT.failed;
  } catch (error) {
    if (error instanceof CeremonyProblem) {
      output.problem(error.message);
      return EXIT.failed;
    }
    if (error instanceof KitProblem) {
      output.problem(error.message);
      return EXIT.precondition;
    }
    if (error instanceof Error && "syscall" in error) {
      output.problem(`fraud fetch: cannot write to ${out}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
      return EXIT.precondition;
    }
    throw error;
  }
}
