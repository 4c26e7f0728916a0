/** `builder roster …`: a committee's members, and the epoch that changes them. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { type Command, InvalidArgumentError, Option } from "commander";
import { organism } from "../cli/organism-option.ts";
import type { KitOptions, ProposeOptions, RosterOptions, StatusOptions } from "./commands.ts";
import type { StandbyOptions } from "./standby-command.ts";

function slots(text: string): bigint {
  if (!/^[1-9]\d{0,17}$/.test(text)) throw new InvalidArgumentError("a number of slots, 1 or more, expected");
  return BigInt(text);
}

function member(text: string): number {
  if (!/^\d{1,2}$/.test(text)) throw new InvalidArgumentError("a member's index expected");
  return Number(text);
}

function seconds(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new InvalidArgumentError("seconds expected");
  return Number(text);
}

export function addRosterCommands(program: Command): void {
  const roster = program.command("roster").description("a committee's members, and the epoch that changes them");
  const commands = () => import("./commands.ts");
  const asked = (command: Command): Command =>
    command
      .requiredOption("--config <file>", "the lattice config (one line of hex)")
      .requiredOption("--endpoints <file>", "where members answer")
      .requiredOption("--organism <name>", ORGANISMS.join(", "), organism);

  asked(roster.command("show").description("the roster in force, who speaks, and whether it may be changed now"))
    .option("--json", "one JSON object on stdout", false)
    .action(async (options: RosterOptions) => {
      process.exitCode = await (await commands()).showRoster(options);
    });

  asked(roster.command("propose").description("writes the succession file of the next epoch, if there may be one"))
    .option("--replace <index>", "the member that gives up its seat; default: the one whose key is blocked", member)
    .option("--with <file>", "public half of whoever takes it: what `ceremony member` printed")
    .option("--add", "--with takes a further seat, at the end, instead of another's", false)
    .option("--drop", "the last seat is given up", false)
    .option("--threshold <t>", "shares that open a slot from then on (unseal, offer); default: as before", member)
    .option("--refresh", "the same members with fresh shares", false)
    .option("--new-era", "another certificate key from then on, certified by the one before", false)
    .option("--activation-slot <slot>", "the first slot of the epoch", slots)
    .addOption(new Option("--in-slots <n>", "or so many slots from now").argParser(slots).default(300n, "300"))
    .option("--every-slots <n>", "or the next multiple of n at least --in-slots ahead: alike for all operators", slots)
    .requiredOption("--out <file>", "where the succession file goes")
    .action(async (options: ProposeOptions) => {
      process.exitCode = await (await commands()).proposeRoster(options);
    });

  roster
    .command("kit")
    .description("rosters for new kits: as they are, with the links of every era that members tell of")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .requiredOption("--endpoints <file>", "where members answer")
    .requiredOption("--rosters <file>", "those of the kit so far")
    .requiredOption("--out <file>", "where the new ones go")
    .action(async (options: KitOptions) => {
      process.exitCode = await (await commands()).writeKit(options);
    });

  roster
    .command("standby")
    .description("makes keys that take a seat once its key is blocked; prints what the operators give one another")
    .requiredOption("--config <file>", "the lattice config (one line of hex)")
    .requiredOption("--organism <name>", ORGANISMS.join(", "), organism)
    .requiredOption("--member <folder>", "of the member that holds the seat: its key vouches")
    .requiredOption("--directory <folder>", "the standby's; its keys stay there")
    .action(async (options: StandbyOptions) => {
      process.exitCode = await (await import("./standby-command.ts")).makeStandbyKeys(options);
    });

  roster
    .command("status")
    .description(
      "how far a proposed epoch has come; exits 0 when all of it is done, 3 while not, 1 when it never will be",
    )
    .requiredOption("--succession <file>", "the succession file")
    .requiredOption("--endpoints <file>", "where members answer")
    .option("--wait-s <s>", "asks again for so long", seconds, 0)
    .option("--json", "one JSON object on stdout", false)
    .action(async (options: StatusOptions) => {
      process.exitCode = await (await commands()).rosterStatus(options);
    });
}
