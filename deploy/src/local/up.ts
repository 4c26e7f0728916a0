/** `npm start`: a whole lattice on this machine until Ctrl-C, with sample users and a live table of slots. */
import { resolve } from "node:path";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";
import { ProgramFailure } from "../chain/child-process.ts";
import { UsageProblem } from "../cli/expected.ts";
import { type LocalLattice, StartFailure } from "./lattice.ts";
import {
  Interrupted,
  newDirectory,
  onInterrupt,
  Precondition,
  prepareDirectory,
  Session,
  shownPath,
} from "./session.ts";
import { REFRESH_EVERY_SLOTS, type StewardOptions } from "./stewards.ts";
import { SlotTable } from "./table.ts";

export interface UpOptions {
  /** Where it lies; a lattice found there is started again. Default: a new folder below `.lattice`. */
  readonly directory?: string;
  readonly slotMs: number;
  readonly gatewayPort?: number;
  readonly embedded: boolean;
  readonly keys: LatticeConfig["keys"];
  /** nats-servers of a new lattice. */
  readonly nats: number;
  /** A steward of each seat. */
  readonly stewards: boolean;
  /** Their schedule; given alone it asks for them. */
  readonly refreshEverySlots?: number;
  /** With `refreshEverySlots` or its default. */
  readonly eraEverySlots?: number;
}

/** Slots kept for the table. */
const KEEP_SLOTS = 64;

/** Who this lattice is and where it answers: lines for people. */
export function identityLines(lattice: LocalLattice): string[] {
  const { config, gatewayUrl, chainRpc, layout } = lattice;
  return [
    `lattice    ${config.name}, chain id ${config.chainId}, slots of ${config.slotMs} ms`,
    `lattice id ${toHex(latticeId(config))}`,
    `keys       ${config.keys === "dealer" ? "dealt by one process, throw-away: for this machine only" : "from a ceremony"}`,
    `gateway    ${gatewayUrl}  (JSON-RPC, Connect, gRPC, gRPC-Web)`,
    `chain RPC  ${chainRpc}`,
    `logs       ${shownPath(layout.path("logs"))}`,
  ];
}

/** @throws UsageProblem */
function stewardsOf({ stewards, refreshEverySlots, eraEverySlots }: UpOptions): StewardOptions | undefined {
  if (!stewards && refreshEverySlots === undefined && eraEverySlots === undefined) return undefined;
  const refreshes = refreshEverySlots ?? REFRESH_EVERY_SLOTS;
  if (eraEverySlots === undefined) return { refreshEverySlots: refreshes };
  if (eraEverySlots < refreshes) {
    throw new UsageProblem(`--era-every-slots: eras begin with refreshes, ${refreshes} or more expected`);
  }
  return { refreshEverySlots: refreshes, eraEverySlots };
}
function stewardLine({ refreshEverySlots, eraEverySlots }: StewardOptions): string {
  const eras = eraEverySlots === undefined ? "" : `, another certificate key every ${eraEverySlots}`;
  return `stewards   one a seat: fresh shares every ${refreshEverySlots} slots${eras}, a standby for a key that said two things`;
}

/** One readable line and the exit code for what is expected to go wrong; undefined for everything else. */
export function readable(error: unknown): { readonly line: string; readonly code: number } | undefined {
  if (error instanceof Interrupted) return { line: "interrupted", code: EXIT.interrupted };
  if (error instanceof Precondition || error instanceof CeremonyProblem)
    return { line: error.message, code: EXIT.precondition };
  if (error instanceof ProgramFailure)
    return { line: error.message, code: error.reason === "PORT_IN_USE" ? EXIT.precondition : EXIT.failed };
  if (error instanceof StartFailure) return { line: error.message, code: EXIT.failed };
  return undefined;
}

/** @returns the exit code: 0 after a clean stop, 130 when it had to be killed or was interrupted while starting */
export async function runUp(options: UpOptions): Promise<number> {
  const stewards = stewardsOf(options);
  const abort = new AbortController();
  const stream = process.stdout;
  let table: SlotTable | undefined;
  const say = (line: string): void => {
    if (table === undefined) process.stderr.write(`${line}\n`);
    else table.say(line);
  };
  const off = onInterrupt(abort, say);
  try {
    const directory = options.directory === undefined ? newDirectory("local") : resolve(options.directory);
    const mode = await prepareDirectory(directory, options, say);
    if (stewards !== undefined && mode !== "nats") {
      throw new Precondition("stewards need a process a member, and so nats-server; the embedded log has one");
    }
    const session = await Session.start({
      directory,
      mode,
      ...(stewards === undefined ? {} : { stewards }),
      slotMs: options.slotMs,
      ...(options.gatewayPort === undefined ? {} : { gatewayPort: options.gatewayPort }),
      natsServers: options.nats,
      keys: options.keys,
      keepSlots: KEEP_SLOTS,
      progress: say,
      signal: abort.signal,
    });
    const { lattice, collector } = session;
    const lines = [...identityLines(lattice), ...(stewards === undefined ? [] : [stewardLine(stewards)])];
    stream.write(`${lines.join("\n")}\n`);
    table = new SlotTable({ collector, stream, footer: () => `gateway ${lattice.gatewayUrl} · Ctrl-C stops` });
    table.start();
    await new Promise<void>((stop) => {
      if (abort.signal.aborted) stop();
      abort.signal.addEventListener("abort", () => stop());
    });
    table.stop();
    table = undefined;
    await session.stop();
    say(`stopped; \`npm start -- --directory ${shownPath(directory)}\` starts this lattice again`);
    return EXIT.ok;
  } catch (error) {
    const known = readable(error);
    if (known === undefined) throw error;
    say(known.line);
    return known.code;
  } finally {
    off();
  }
}
