/** `builder fraud …`: proofs that a member said two things. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import type { Command } from "commander";
import type { FraudFetchOptions } from "./fraud-fetch.ts";
import type { FraudVerifyOptions } from "./fraud-verify.ts";
import { organism } from "./organism-option.ts";

export function addFraudCommands(program: Command): void {
  const fraud = program.command("fraud").description("proofs that a member said two things");

  fraud
    .command("fetch")
    .description(
      "asks a committee's members for the proofs by which keys are blocked, judges them and writes them down",
    )
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .requiredOption("--endpoints <file>", "where members answer")
    .requiredOption("--organism <name>", ORGANISMS.join(", "), organism)
    .option("--out <folder>", "where the proofs go, one file each, named by their hash", "frauds")
    .option("--json", "one JSON object a line on stdout", false)
    .action(async (options: FraudFetchOptions) => {
      process.exitCode = await (await import("./fraud-fetch.ts")).runFraudFetch(options);
    });

  fraud
    .command("verify")
    .description("judges a proof, offline, by the lattice config alone; exits 0 when it holds, 1 when it does not")
    .argument("<file>", "the proof, as `fraud fetch` writes it or a member leaves it in frauds/")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .option("--rosters <file>", "the kit's rosters: needed once the committee's certificate key has changed")
    .option("--json", "one JSON object on stdout", false)
    .action(async (file: string, options: FraudVerifyOptions) => {
      process.exitCode = await (await import("./fraud-verify.ts")).runFraudVerify(file, options);
    });
}
