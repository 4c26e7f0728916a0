/** `builder log …`: a committee's log for its owners. */
import { type Command, InvalidArgumentError } from "commander";
import type { LogExportCommand } from "./log-export.ts";
import type { LogVerifyOptions } from "./log-verify.ts";

function beginning(text: string): LogExportCommand["from"] {
  if (text !== "start" && text !== "checkpoint" && text !== "auto") {
    throw new InvalidArgumentError("start, checkpoint or auto expected");
  }
  return text;
}

function position(text: string): bigint {
  if (!/^[1-9][0-9]{0,18}$/.test(text)) throw new InvalidArgumentError("a position, 1 or more, expected");
  return BigInt(text);
}

const collect = (text: string, earlier: readonly string[] = []): string[] => [...earlier, text];

export function addLogCommands(program: Command): void {
  const log = program.command("log").description("a committee's log: export and verify");

  log
    .command("export")
    .description("writes a committee's log, with what it takes to check it offline, to a file")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .requiredOption("--key <file>", "key file of a member of the committee: its log is for its members")
    .requiredOption("--endpoints <file>", "where members answer")
    .requiredOption("--out <file>", "the file to write")
    .option("--member <host:port>", "ask this member only; may be given more than once", collect)
    .option("--from <where>", "start, checkpoint, or auto: the start if the log still has it", beginning, "auto")
    .option("--until <position>", "the last position; default: the newest", position)
    .option("--json", "one JSON object on stdout", false)
    .action(async (options: LogExportCommand) => {
      process.exitCode = await (await import("./log-export.ts")).runLogExport(options);
    });

  log
    .command("verify")
    .description(
      "judges an exported log, offline, by the lattice config alone; exits 0 when it holds, 1 when it does not",
    )
    .argument("<file>", "the exported log")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .option("--json", "one JSON object on stdout", false)
    .action(async (file: string, options: LogVerifyOptions) => {
      process.exitCode = await (await import("./log-verify.ts")).runLogVerify(file, options);
    });
}
