/** `builder log verify`: judges an exported log, offline, by the lattice config alone. */
import { createReadStream } from "node:fs";
import { CodecError, toHex } from "@lattice/organism/codec/codec.ts";
import { type LogRecord, LogRecordReader } from "@lattice/organism/committee/log-export.ts";
import { type LogFindings, type LogProblem, LogVerifier } from "@lattice/organism/committee/log-verify.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty } from "@lattice/organism/machine.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem, readConfig } from "@lattice/organism/node/kit.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { withDefinition } from "./definitions.ts";
import type { Output } from "./fraud-verify.ts";

export interface LogVerifyOptions {
  readonly config: string;
  readonly json: boolean;
}

const STANDARD: Output = {
  data: (line) => process.stdout.write(`${line}\n`),
  problem: (line) => process.stderr.write(`${line}\n`),
};

/** Whatever the organism, a judge of its log. */
export type AnyLogVerifier = Pick<LogVerifier<unknown, unknown, Duty>, "take" | "finish">;

/** @param checkpointEvery other than usual in tests only */
export function verifierOf(
  config: LatticeConfig,
  organism: Organism,
  checkpointEvery?: { readonly entries: bigint; readonly slots: bigint },
): AnyLogVerifier {
  return withDefinition(
    organism,
    <S, C, D extends Duty, T>(definition: OrganismDefinition<S, C, D, T>): AnyLogVerifier =>
      new LogVerifier<S, C, D>({
        config,
        createMachine: (_, roster) => definition.createMachine(config, roster),
        ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
      }),
  );
}

/** Feeds a file to a judge. @throws whatever reading it throws, CodecError included */
export async function judgeLog(
  pieces: AsyncIterable<Uint8Array>,
  open: (organism: Organism) => AnyLogVerifier,
): Promise<{ readonly holds: LogFindings } | { readonly wrong: LogProblem }> {
  const reader = new LogRecordReader();
  let verifier: AnyLogVerifier | undefined;
  const take = (record: LogRecord): LogProblem | undefined => {
    if (record.type === "header") verifier ??= open(record.organism);
    return verifier === undefined ? malformed("the first record is not a header") : verifier.take(record);
  };
  try {
    for await (const piece of pieces) {
      for (const record of reader.push(piece)) {
        const wrong = take(record);
        if (wrong !== undefined) return { wrong };
      }
    }
  } catch (error) {
    if (!(error instanceof CodecError)) throw error;
    return { wrong: malformed(error.message) };
  }
  if (verifier === undefined) return { wrong: malformed("there is nothing in the file") };
  if (!reader.whole) return { wrong: { ...malformed("the file ends within a record"), reason: "TRUNCATED" } };
  return verifier.finish();
}

function malformed(detail: string): LogProblem {
  return { reason: "MALFORMED", position: undefined, author: undefined, detail };
}

/** @returns the exit code: 0 it holds, 1 it does not, 5 a file cannot be read, or this build lacks the log's rules */
export async function runLogVerify(
  file: string,
  options: LogVerifyOptions,
  output: Output = STANDARD,
): Promise<number> {
  let config: LatticeConfig;
  try {
    config = readConfig(options.config);
  } catch (error) {
    if (!(error instanceof KitProblem)) throw error;
    output.problem(error.message);
    return EXIT.precondition;
  }
  await initCrypto();
  let verdict: Awaited<ReturnType<typeof judgeLog>>;
  try {
    verdict = await judgeLog(createReadStream(file, { highWaterMark: 1 << 20 }), (organism) =>
      verifierOf(config, organism),
    );
  } catch (error) {
    if (!(error instanceof Error && "syscall" in error)) throw error;
    output.problem(`exported log: cannot read ${file}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
    return EXIT.precondition;
  }
  if ("wrong" in verdict) {
    const { reason, position, author, detail } = verdict.wrong;
    const at = position === undefined ? "" : ` at position ${position}`;
    const by = author === undefined ? "" : ` by member ${author}`;
    if (options.json) {
      const place = { position: position?.toString(), author };
      output.data(JSON.stringify({ schema_version: 1, holds: false, wrong: { reason, ...place, detail } }));
    }
    // Nothing is wrong with the log: a newer build can judge it.
    const unknown = reason === "RULES_UNKNOWN";
    output.problem(`${unknown ? "cannot be judged" : "does not hold"}: ${reason}${at}${by}: ${detail}`);
    return unknown ? EXIT.precondition : EXIT.failed;
  }
  const found = verdict.holds;
  if (options.json) output.data(JSON.stringify({ schema_version: 1, holds: true, ...findingsToJson(found) }));
  else {
    const { organism, fromPosition, toPosition, checkpoints, decided, outcomes, refused, heads, vouchedTo } = found;
    output.data(`holds: ${organism}, positions ${fromPosition} to ${toPosition}, vouched for up to ${vouchedTo}`);
    output.data(`  ${checkpoints} certified states and ${outcomes} certificates of ${decided} decisions fit`);
    output.data(`  ${refused} entries had no effect; signed by members ${heads.join(", ") || "none"}`);
    output.data(`  chain head ${toHex(found.head)}, state ${toHex(found.stateHash)}`);
  }
  return EXIT.ok;
}

export function findingsToJson(found: LogFindings): Record<string, unknown> {
  return {
    organism: found.organism,
    generation: found.generation.toString(),
    from_position: found.fromPosition.toString(),
    to_position: found.toPosition.toString(),
    vouched_to: found.vouchedTo.toString(),
    chain_head: toHex(found.head),
    state_hash: toHex(found.stateHash),
    refused: found.refused,
    checkpoints: found.checkpoints,
    decided: found.decided,
    outcomes: found.outcomes,
    not_covered: found.notCovered,
    heads: found.heads,
  };
}
