/** `builder guest …`: for auditors and integrators that follow a committee. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { type Command, InvalidArgumentError, Option } from "commander";
import type { GuestFollowCommand, GuestTicketCommand } from "./guest.ts";
import { organism } from "./organism-option.ts";

function publicKey(text: string): string {
  if (!/^[0-9a-f]{64}$/.test(text)) throw new InvalidArgumentError("32 bytes of lower-case hex expected");
  return text;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new InvalidArgumentError("1 or more expected");
  return value;
}

const collect = (text: string, earlier: readonly string[]): string[] => [...earlier, text];

export function addGuestCommands(program: Command): void {
  const guest = program.command("guest").description("follows a committee without being of it");
  const commands = () => import("./guest.ts");

  guest
    .command("key")
    .description("makes a guest's own key; prints the public half for whoever issues tickets")
    .requiredOption("--out <file>", "the new key file, mode 0400")
    .action(async (options: { out: string }) => {
      process.exitCode = await (await commands()).runGuestKey(options);
    });

  guest
    .command("ticket")
    .description("for issuers: prints a ticket that admits one key to read one committee's log")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .requiredOption("--issuer <file>", "the issuer's key")
    .requiredOption("--organism <name>", ORGANISMS.join(", "), organism)
    .requiredOption("--guest <hex>", "the guest's public key", publicKey)
    .addOption(
      new Option("--slots <n>", "for how many slots from now")
        .argParser((text) => BigInt(positive(text)))
        .default(100_000n, "100000"),
    )
    .action(async (options: GuestTicketCommand) => {
      process.exitCode = await (await commands()).runGuestTicket(options);
    });

  guest
    .command("follow")
    .description("begins with a certified collapsed state, applies what follows, and prints certified outcomes")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .requiredOption("--organism <name>", ORGANISMS.join(", "), organism)
    .requiredOption("--endpoints <file>", "where members answer")
    .requiredOption("--key <file>", "the guest's key")
    .option("--ticket <file>", "a ticket for that key; one for each admission rule of the config", collect, [])
    .option("--state <file>", "where the newest certified state is kept, and gone on from")
    .option("--checkpoints <n>", "ends after so many certified states; default: Ctrl-C", positive)
    .option("--json", "one JSON object a line on stdout", false)
    .action(async (options: GuestFollowCommand) => {
      process.exitCode = await (await commands()).runGuestFollow(options);
    });
}
