/** `builder ceremony …`: the commands by which operators make a lattice's keys among themselves. */
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { type Command, InvalidArgumentError } from "commander";
import { organism } from "../cli/organism-option.ts";

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new InvalidArgumentError("1 or more expected");
  return value;
}

function port(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 65_535) throw new InvalidArgumentError("1 to 65535 expected");
  return value;
}

/** As many as a ceremony may have: PARTICIPANTS_MAX, whose module loads more than a help text needs. */
function participants(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 2 || value > 16) throw new InvalidArgumentError("2 to 16 expected");
  return value;
}

const servers = (text: string): string[] => text.split(",");
const collect = (text: string, earlier: readonly string[]): string[] => [...earlier, text];

/** The options of everything that a member says in a ceremony. */
function member(command: Command): Command {
  return command
    .requiredOption("--directory <path>", "the member's folder")
    .requiredOption("--founding <file>", "the founding file, the same for everybody")
    .requiredOption("--nats <urls>", "the ceremony's nats-servers, comma-separated", servers)
    .option("--credentials <file>", "default: nats-ceremony.json in the member's folder");
}

export function addCeremonyCommands(program: Command): void {
  const ceremony = program.command("ceremony").description("makes a lattice's keys among its members");
  const commands = () => import("./commands.ts");

  ceremony
    .command("member")
    .description("makes one member's own keys; prints the public half for the founding file")
    .requiredOption("--organism <name>", ORGANISMS.join(", "), organism)
    .requiredOption("--directory <path>", "the member's folder")
    .option("--keep <key file>", "of the seat's holder so far: keeps tally's signer and zipnet's operator key")
    .action(async (options: { organism: Organism; directory: string; keep?: string }) => {
      process.exitCode = await (await commands()).createMember(options);
    });

  ceremony
    .command("show")
    .description("prints ids, members and thresholds of a founding file: operators compare them first")
    .requiredOption("--founding <file>", "the founding file")
    .action(async (options: { founding: string }) => {
      process.exitCode = await (await commands()).showFounding(options);
    });

  for (const [name, retry, description] of [
    ["run", false, "takes this member's part; start it again after a crash"],
    ["retry", true, "asks for another attempt after a failed one, and takes part in it"],
  ] as const) {
    member(ceremony.command(name).description(description))
      .option("--patience-s <s>", "how long others may be absent before they are left out", positive, 600)
      .action(async (options: { directory: string; founding: string; nats: string[]; patienceS: number }) => {
        process.exitCode = await (await commands()).takePart({ ...options, retry });
      });
  }

  member(ceremony.command("abort").description("takes this member out of an attempt, which fails with that"))
    .option("--attempt <n>", "which attempt", positive, 1)
    .option("--reason <text>", "for the others' logs", "the operator aborted it")
    .action(
      async (options: { directory: string; founding: string; nats: string[]; attempt: number; reason: string }) => {
        process.exitCode = await (await commands()).abortAttempt(options);
      },
    );

  ceremony
    .command("reshare")
    .description("takes this member's part between two epochs: the same public keys, other or fresh shares")
    .requiredOption("--directory <path>", "the member's folder")
    .requiredOption("--succession <file>", "the succession file, the same for everybody")
    .requiredOption("--nats <urls>", "the ceremony's nats-servers, comma-separated", servers)
    .option("--credentials <file>", "default: nats-ceremony.json in the member's folder")
    .option("--patience-s <s>", "how long others may be absent before they are left out", positive, 600)
    .option("--retry", "asks for another attempt when the newest one has failed", false)
    .option("--discard", "erases shares of an earlier proposal for the same epoch that came too late", false)
    .action(
      async (options: {
        directory: string;
        succession: string;
        nats: string[];
        patienceS: number;
        retry: boolean;
        discard: boolean;
      }) => {
        process.exitCode = await (await import("./reshare.ts")).reshare(options);
      },
    );

  ceremony
    .command("broker")
    .description("runs a nats-server for ceremonies until it is stopped, with a credential a participant")
    .requiredOption("--directory <path>", "where participant-<i>.json and the log lie")
    .requiredOption("--participants <n>", "of a resharing: the old members, then whoever is new", participants)
    .option("--host <address>", "where it listens", "127.0.0.1")
    .option("--port <port>", "default: any free one", port)
    .action(async (options: { directory: string; participants: number; host: string; port?: number }) => {
      process.exitCode = await (await import("./broker.ts")).runCeremonyBroker(options);
    });

  ceremony
    .command("assemble")
    .description("writes config and rosters from the results of all six ceremonies")
    .requiredOption("--founding <file>", "the founding file")
    .requiredOption("--result <file>", "a member's ceremony.json; at least one of each organism", collect, [])
    .requiredOption("--directory <path>", "where lattice.hex and rosters.json go")
    .action(async (options: { founding: string; result: string[]; directory: string }) => {
      process.exitCode = await (await commands()).assembleLattice({ ...options, results: options.result });
    });
}
