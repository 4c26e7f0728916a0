/**
 * Guests of all six committees of a running lattice: each begins with a certified collapsed state, follows until a quorum
 * has certified its own, and holds nothing of what is over, searched by the bytes that the logs carried. Meanwhile an
 * owner exports a log and has it verified offline.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { withDefinition } from "@lattice/deploy/cli/definitions.ts";
import type { Output } from "@lattice/deploy/cli/fraud-verify.ts";
import { runGuestFollow, runGuestKey, runGuestTicket } from "@lattice/deploy/cli/guest.ts";
import { readGuestState } from "@lattice/deploy/cli/guest-files.ts";
import { runLogExport } from "@lattice/deploy/cli/log-export.ts";
import { runLogVerify } from "@lattice/deploy/cli/log-verify.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { decodeEntry } from "@lattice/organism/committee/entry.ts";
import { decodeState, lowestUndecided } from "@lattice/organism/committee/guest-view.ts";
import { type LogRecord, LogRecordReader } from "@lattice/organism/committee/log-export.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { Duty, Machine } from "@lattice/organism/machine.ts";
import { readRosters } from "@lattice/organism/node/kit.ts";
import { AHEAD, type Canary, canariesOf, remains } from "../invariants/guest-remains.ts";
import { eventually, firstComplete, statusOf } from "./lattice-tools.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";

/** Until every committee has a first certified checkpoint, and guests another one: 16 slots each, and some. */
const FIRST_SLOTS = 45;
const FOLLOW_SLOTS = 60;
const CANARIES_MAX = 20_000;

interface Said {
  readonly lines: string[];
  readonly problems: string[];
  readonly output: Output;
}
function listener(): Said {
  const lines: string[] = [];
  const problems: string[] = [];
  return { lines, problems, output: { data: (line) => lines.push(line), problem: (line) => problems.push(line) } };
}

function machineOf(lattice: LocalLattice, organism: Organism, roster: Roster): Machine<unknown, unknown, Duty> {
  return withDefinition(
    organism,
    (definition) => definition.createMachine(lattice.config, roster) as unknown as Machine<unknown, unknown, Duty>,
  );
}

/** What a log carried, by the slot in which it was written. */
function plantedIn(
  lattice: LocalLattice,
  machine: Machine<unknown, unknown, Duty>,
  records: readonly LogRecord[],
): { readonly slot: bigint; readonly canary: Canary }[] {
  return records.flatMap((record) => {
    if (record.type !== "entry") return [];
    try {
      const slot = slotAt(lattice.config, Number(decodeEntry(record.raw).body.clockMs));
      return canariesOf(machine, record.raw).map((canary) => ({ slot, canary }));
    } catch {
      return [];
    }
  });
}

async function guestOf(context: ScenarioContext, lattice: LocalLattice, organism: Organism): Promise<void> {
  const { layout, config } = lattice;
  const path = (name: string): string => layout.path(`guest-${organism}-${name}`);
  const made = listener();
  await runGuestKey({ out: path("key.json") }, made.output);
  const tickets: string[] = [];
  for (const _ of config[organism].acl) {
    const said = listener();
    await runGuestTicket(
      {
        config: layout.config,
        issuer: layout.path("admission", "issuer.json"),
        organism,
        guest: made.lines[0] ?? "",
        slots: 1000n,
      },
      said.output,
    );
    writeFileSync(path("ticket"), said.lines.join("\n"));
    tickets.push(path("ticket"));
  }
  const follow = {
    config: layout.config,
    organism,
    endpoints: layout.endpoints,
    key: path("key.json"),
    state: path("state"),
    checkpoints: 1,
    json: true,
  };
  if (tickets.length > 0) {
    const refused = await runGuestFollow({ ...follow, ticket: [] }, listener().output);
    context.check(`${organism}: no guest without a ticket`, refused === 1);
  }
  const said = listener();
  const deadline = AbortSignal.timeout(FOLLOW_SLOTS * context.slotMs);
  const code = await runGuestFollow({ ...follow, ticket: tickets }, said.output, deadline);
  const events = said.lines.map((line) => JSON.parse(line) as { event: string });
  const outcomes = events.filter(({ event }) => event === "outcome").length;
  const problem = said.problems.join("; ");
  context.check(`${organism}: a quorum certified the guest's own state`, code === 0, `${outcomes} outcomes ${problem}`);
  context.check(`${organism}: certified outcomes came by`, outcomes > 0, `${outcomes}`);

  const exported = path("log");
  const logged = await runLogExport(
    {
      config: layout.config,
      key: layout.key(organism, 0),
      endpoints: layout.endpoints,
      from: "auto",
      out: exported,
      json: true,
    },
    said.output,
  );
  if (!context.check(`${organism}: an owner exports the log`, logged === 0, said.problems.join("; "))) return;
  const verified = listener();
  const held = await runLogVerify(exported, { config: layout.config, json: true }, verified.output);
  context.check(
    `${organism}: it holds offline`,
    held === 0,
    (verified.problems[0] ?? verified.lines[0] ?? "").slice(0, 300),
  );

  const state = readGuestState(path("state"), config, organism);
  if (!context.check(`${organism}: the guest kept its state`, state !== undefined) || state === undefined) return;
  const machine = machineOf(lattice, organism, readRosters(layout.rosters, config)[organism]);
  const { shared } = decodeState(machine.state, state.view);
  const decidedBelow = lowestUndecided(shared.floors, 1n);
  const records = [...new LogRecordReader().push(new Uint8Array(readFileSync(exported)))];
  const planted = plantedIn(lattice, machine, records)
    .filter(({ slot }) => slot + AHEAD < decidedBelow)
    .slice(-CANARIES_MAX)
    .map(({ canary }) => canary);
  const kinds = [...new Set(planted.map(({ kind }) => kind))].sort().join(", ");
  const left = remains(organism, machine, state.view, planted);
  const found = left.length === 0 ? `${planted.length} looked for: ${kinds}` : `${left[0]?.kind} remains`;
  context.check(`${organism}: nothing of what is over is in it`, left.length === 0 && planted.length > 100, found);
  const status = await statusOf(lattice, organism, 0);
  const numbers = shared.authors.map(({ incarnation }) => incarnation).join(",");
  const theirs = status?.members.map(({ incarnation }) => incarnation).join(",");
  context.check(`${organism}: the authors' numbers were handed over`, numbers === theirs, `${numbers} / ${theirs}`);
}

/** One changed byte of an entry is named. */
async function changed(context: ScenarioContext, lattice: LocalLattice, organism: Organism): Promise<void> {
  const file = lattice.layout.path(`guest-${organism}-log`);
  const bytes = new Uint8Array(readFileSync(file));
  const at = Math.floor(bytes.length / 2);
  bytes[at] = (bytes[at] ?? 0) ^ 1;
  writeFileSync(`${file}.changed`, bytes);
  const said = listener();
  const code = await runLogVerify(`${file}.changed`, { config: lattice.layout.config, json: true }, said.output);
  context.check("a changed export does not hold", code === 1, said.problems[0]?.slice(0, 200));
}

export const scenario: Scenario = {
  name: "guest-view",
  description:
    "guests follow all six committees from a collapsed state in which nothing of what is over remains; owners export and verify",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    context.say("waiting for certified checkpoints of all six committees");
    const held = async (): Promise<boolean> => {
      const all = await Promise.all(ORGANISMS.map((organism) => statusOf(lattice, organism, 0)));
      return all.every((status) => (status?.snapshotPosition ?? 0n) > 0n);
    };
    if (!context.check("every committee has a checkpoint", await eventually(FIRST_SLOTS * context.slotMs, held)))
      return;
    await Promise.all(ORGANISMS.map((organism) => guestOf(context, lattice, organism)));
    await changed(context, lattice, "offer");
  },
};
