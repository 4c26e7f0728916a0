/** `builder`, the operator's command line: its commands and their options. */
import { EXIT } from "@lattice/organism/node/exit.ts";
import { Command, InvalidArgumentError } from "commander";
import { addCeremonyCommands } from "../ceremony/cli.ts";
import type { runDemo } from "../local/demo.ts";
import type { runUp } from "../local/up.ts";
import { addRosterCommands } from "../roster/cli.ts";
import { addFraudCommands } from "./fraud-commands.ts";
import { addGuestCommands } from "./guest-commands.ts";
import { addLogCommands } from "./log-commands.ts";

function integer(minimum: number, maximum: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < minimum || value > maximum) {
      throw new InvalidArgumentError(`${minimum} to ${maximum} expected`);
    }
    return value;
  };
}

function servers(text: string): number {
  if (text !== "1" && text !== "3") throw new InvalidArgumentError("1 or 3 expected");
  return Number(text);
}

function keyOrigin(text: string): "dealer" | "ceremony" {
  if (text !== "dealer" && text !== "ceremony") throw new InvalidArgumentError("dealer or ceremony expected");
  return text;
}

/** On which log, and on whose keys: what every lattice of this machine is asked. */
function whereItRuns(command: Command): Command {
  return command
    .option("--nats <n>", "nats-servers: 1, or a cluster of 3", servers, 1)
    .option("--embedded", "all members in one process on the embedded log, no NATS", false)
    .option("--keys <origin>", "a new lattice's keys: dealer, or ceremony among the members", keyOrigin, "dealer");
}

/** A usage error ends the process with exit code 2. */
export function makeProgram(): Command {
  const program = new Command("builder").description("operates a lattice");
  // One line; the whole help would push it off the screen.
  program.configureOutput({
    outputError: (text, write) => write(`${text.trim().replaceAll(/\s*\n\s*/g, " ")} (--help shows what there is)\n`),
  });
  program.exitOverride((error) => process.exit(error.exitCode === 0 ? EXIT.ok : EXIT.usage));

  const local = program.command("local").description("a throw-away lattice on this machine");

  whereItRuns(local.command("up"))
    .description("starts a whole lattice and keeps sample wallets and searchers sending until Ctrl-C")
    .option("--directory <path>", "where it lies; a lattice found there is started again")
    .option("--slot-ms <ms>", "slot length", integer(1000, 60_000), 4000)
    .option("--gateway-port <port>", "port of the gateway", integer(1, 65_535))
    .option("--stewards", "a steward of each seat: epochs that start by themselves", false)
    .option("--refresh-every-slots <n>", "the stewards' schedule, 900 when left out", integer(24, 1_000_000_000))
    .option(
      "--era-every-slots <n>",
      "they begin an era so often as well, as a refresh; never when left out",
      integer(24, 1_000_000_000),
    )
    .action(async (options: Parameters<typeof runUp>[0]) => {
      process.exitCode = await (await import("../local/up.ts")).runUp(options);
    });

  whereItRuns(local.command("demo"))
    .description("the same for N slots, then down; exits 0 only if every slot and invariant holds")
    .option("--slots <n>", "slots to run", integer(1, 10_000), 10)
    .option("--slot-ms <ms>", "slot length", integer(1000, 60_000), 4000)
    .option("--json", "one JSON object on stdout", false)
    .option("--keep", "keep the lattice's folder", false)
    .action(async (options: Parameters<typeof runDemo>[0]) => {
      process.exitCode = await (await import("../local/demo.ts")).runDemo(options);
    });

  addCeremonyCommands(program);
  addRosterCommands(program);
  addLogCommands(program);
  addGuestCommands(program);

  addFraudCommands(program);
  return program;
}
