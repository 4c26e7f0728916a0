/** The committed settlement contract: what stands in a genesis and what is deployed. Reads one file, compiles nothing. */
import { readFileSync } from "node:fs";
import type { Artifact } from "./compile.ts";

let cached: Artifact | undefined;

/** `contracts/Settlement.json`. */
export function settlementArtifact(): Artifact {
  cached ??= JSON.parse(readFileSync(new URL("../../contracts/Settlement.json", import.meta.url), "utf8")) as Artifact;
  return cached;
}
