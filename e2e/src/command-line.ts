/** What the commands of this folder have in common: `--help`, and one readable line for arguments that make no sense. */
import { type ParseArgsConfig, parseArgs } from "node:util";
import { EXIT } from "@lattice/organism/node/exit.ts";

/** Says what is wrong and how the command is used, on stderr, and ends the process with 2. */
export function usageError(usage: string, problem: string): never {
  process.stderr.write(`${problem}\n${usage}\n`);
  process.exit(EXIT.usage);
}

// Whoever reads our output may have enough of it (`| head`): that is not an error of ours.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  process.exit(EXIT.ok);
});

/** `node:util`'s parseArgs with `--help`, which prints the usage on stdout and ends the process with 0. */
export function readArguments<const Config extends ParseArgsConfig>(usage: string, config: Config) {
  const args = config.args ?? process.argv.slice(2);
  if (args.includes("--help") || args.includes("-h")) {
    process.stdout.write(`${usage}\n`);
    process.exit(EXIT.ok);
  }
  try {
    return parseArgs(config);
  } catch (error) {
    // Node's advice on how to pass such a word as a positional helps nobody here: its first sentence is the problem.
    const [problem = ""] = (error instanceof Error ? error.message : String(error)).split(". ");
    return usageError(usage, problem);
  }
}

/** A whole number of at least `least`, or a usage error that names the option. */
export function wholeNumber(usage: string, name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() === "" || !Number.isSafeInteger(value) || value < least)
    usageError(usage, `--${name}: a whole number from ${least} on is expected`);
  return value;
}
