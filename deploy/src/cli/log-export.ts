/** `builder log export`: writes a committee's log to a file that `builder log verify` judges offline. */
import { randomBytes } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { frameRecord, LOG_EXPORT_MAGIC } from "@lattice/organism/committee/log-export.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { Fault } from "@lattice/organism/fault.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem, readConfig, readEndpoints, readKeyFile } from "@lattice/organism/node/kit.ts";
import { ExportProblem, exportLog } from "@lattice/organism/node/log-exporter.ts";
import type { Output } from "./fraud-verify.ts";

export interface LogExportCommand {
  readonly config: string;
  readonly key: string;
  readonly endpoints: string;
  /** Instead of the endpoints file's. */
  readonly member?: readonly string[];
  readonly from: "start" | "checkpoint" | "auto";
  readonly until?: bigint;
  readonly out: string;
  readonly json: boolean;
}

const STANDARD: Output = {
  data: (line) => process.stdout.write(`${line}\n`),
  problem: (line) => process.stderr.write(`${line}\n`),
};

/** @returns the exit code: 0 written, 1 no member served it, 5 the kit or the file is not as it must be */
export async function runLogExport(options: LogExportCommand, output: Output = STANDARD): Promise<number> {
  try {
    const config = readConfig(options.config);
    const { organism, index, secrets } = readKeyFile(options.key);
    const endpoints = readEndpoints(options.endpoints)[organism];
    // Itself last: it may be the one that is being looked into.
    const others = endpoints.flatMap((address, member) => (member === index ? [] : [address]));
    const addresses = options.member ?? [...others, ...endpoints.filter((_, member) => member === index)];
    await initCrypto();
    const records = exportLog({
      config,
      organism,
      index,
      addresses,
      memberKey: generateSigningKey(secrets.memberKey),
      clock: { nowMs: () => Date.now() },
      from: options.from,
      ...(options.until === undefined ? {} : { until: options.until }),
    });
    const written = await write(options.out, organism, records);
    if (options.json) output.data(JSON.stringify({ schema_version: 1, ...written }));
    else {
      const { entries, from_position, to_position, bytes } = written;
      output.data(`${options.out}: ${entries} entries, positions ${from_position} to ${to_position}, ${bytes} bytes`);
    }
    return EXIT.ok;
  } catch (error) {
    if (error instanceof KitProblem) {
      output.problem(error.message);
      return EXIT.precondition;
    }
    if (error instanceof ExportProblem || error instanceof Fault) {
      output.problem(`log export: ${error instanceof Fault ? `${error.reason}: ` : ""}${error.message}`);
      return EXIT.failed;
    }
    if (error instanceof Error && "syscall" in error) {
      output.problem(`log export: cannot write ${options.out}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
      return EXIT.precondition;
    }
    throw error;
  }
}

/** The file is there whole or not at all. */
async function write(path: string, organism: Organism, records: ReturnType<typeof exportLog>) {
  const unfinished = `${path}.${randomBytes(6).toString("hex")}.new`;
  const file = await open(unfinished, "wx", 0o600);
  let bytes = LOG_EXPORT_MAGIC.length;
  let first: bigint | undefined;
  let start = 0n;
  let last = 0n;
  let entries = 0;
  let outcomes = 0;
  let checkpoints = 0;
  try {
    await file.writeFile(LOG_EXPORT_MAGIC);
    for await (const record of records) {
      const framed = frameRecord(record);
      await file.writeFile(framed);
      bytes += framed.length;
      if (record.type === "start") start = record.certified.checkpoint.position;
      if (record.type === "outcome") outcomes += 1;
      if (record.type === "checkpoint") checkpoints += 1;
      if (record.type !== "entry") continue;
      first ??= record.position;
      last = record.position;
      entries += 1;
    }
    await file.sync();
    await file.close();
    await rename(unfinished, path);
  } catch (error) {
    await file.close().catch(() => undefined);
    await rm(unfinished, { force: true });
    throw error;
  }
  return {
    organism,
    entries,
    from_position: (first ?? start + 1n).toString(),
    to_position: (first === undefined ? start : last).toString(),
    outcomes,
    checkpoints,
    bytes,
  };
}
