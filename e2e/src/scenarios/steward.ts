/** A committee whose epochs start by themselves: stewards refresh it on a schedule, and replace a stolen key by its standby. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, realpathSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { BUILDER, runBuilder } from "@lattice/deploy/ceremony/local-ceremony.ts";
import { memberFolder } from "@lattice/deploy/dealer/kit-folder.ts";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { ManagedProcess } from "@lattice/deploy/local/processes.ts";
import { askCommittee, type CommitteeView, judgeCommittee } from "@lattice/deploy/roster/committee-view.ts";
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { latticeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig, readEndpoints } from "@lattice/organism/node/kit.ts";
import { completeFrom, eventually, firstComplete, goesOn, slotNow, statusOf } from "./lattice-tools.ts";
import { committeeClient, openMemberLog, StolenVoice } from "./member-log.ts";
import { firstLine } from "./next-epoch.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";

const ORGANISM: Organism = "relay";
const SEATS = [0, 1, 2];
const LIAR = 2;
const NAME = `${ORGANISM}-${LIAR}`;
const SCRIPT = fileURLToPath(import.meta.resolve("@lattice/deploy/roster/steward-main.ts"));
/** In slots. */
const REFRESH_EVERY = 30;
const GATHER = 6;
const CEREMONY = 8;
const PATIENCE = REFRESH_EVERY + 20;

export const scenario: Scenario = {
  name: "steward",
  description: "epochs start by themselves: refreshes on a schedule, and a standby for a key that said two things",
  async run(context) {
    const place = (...parts: string[]): string => join(context.directory, ...parts);
    const seat = (index: number): string => place(`seat-${index}`);
    for (const index of SEATS) symlinkSync(memberFolder(place("lattice"), ORGANISM, index), seat(index));
    const session = await context.start({
      mode: await context.natsOnly(),
      memberSettings: (organism, index) =>
        organism !== ORGANISM
          ? {}
          : {
              LATTICE_KEY_FILE: join(seat(index), "key.json"),
              LATTICE_DATA_DIR: join(seat(index), "data"),
              LATTICE_NATS_CREDENTIALS_FILE: join(seat(index), "nats.json"),
            },
    });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const id = toHex(latticeId(lattice.config));
    const stewards = await startStewards(context, lattice, place);
    if (stewards === undefined) return;
    const said = (index: number): string => stewards[index]?.tail(4) ?? "";

    const inMiddle = await eventually(PATIENCE * context.slotMs, async () => /attempt \d+: deal/.test(logOf(1)));
    await stewards[1]?.kill();
    stewards[1]?.start();
    context.check("a refresh begins with nobody typing; a steward is killed in the middle of it", inMiddle, said(1));
    const first = await reached("a refreshed epoch is in force", ({ roster }) => roster.epoch >= 1n);
    if (first === undefined) return;
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go through in it", 16);

    const status = await statusOf(lattice, ORGANISM, LIAR);
    const incarnation = status?.members.find(({ index }) => index === LIAR)?.incarnation ?? 0n;
    await lattice.process(NAME).kill();
    context.say(`${NAME} is corrupt from here on`);
    const seed = new Uint8Array(randomBytes(32));
    const voice = new StolenVoice(lattice, ORGANISM, LIAR, incarnation + 1n, seed, first.roster.epoch);
    const log = await openMemberLog(lattice, ORGANISM, LIAR);
    const asks = committeeClient(lattice, ORGANISM, 0);
    try {
      const head = await asks.getHead({ position: (1n << 63n) - 1n });
      const skip = (toSlot: bigint) => ({ type: "skip", stage: "accepted", toSlot }) as const;
      const entries = [voice.join(head), voice.say(skip(0n), head, false), voice.say(skip(1n), head, true)];
      for (const [index, raw] of entries.entries()) await log.append("ctl", raw, `corrupt.${incarnation}.${index}`);
    } finally {
      asks.close();
      await log.close();
    }
    // As a supervisor does: whatever ends is started again after a pause.
    const supervisor = setInterval(() => {
      if (!lattice.process(NAME).running) lattice.startMember(ORGANISM, LIAR);
    }, 3000);
    context.onEnd(() => clearInterval(supervisor));
    await reached("its key is blocked", ({ seats }) => seats[LIAR]?.blocked === true);
    await goesOn(context, session, ORGANISM, slotNow(lattice) + 1n, "slots go on without it");
    const was = lattice.rosters[ORGANISM].members[LIAR]?.memberKey ?? new Uint8Array();
    const next = await reached("its standby holds the seat, in force and with its margin back", (view) => {
      const { roster, margin } = view;
      return !equalBytes(roster.members[LIAR]?.memberKey ?? was, was) && margin === 1;
    });
    if (next === undefined) return;
    context.check(
      "the seat's link leads to the standby",
      realpathSync(seat(LIAR)) === realpathSync(place(`standby-${LIAR}`)),
    );
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go through in it", 16);
    await reached("the next refresh follows", ({ roster }) => roster.epoch > next.roster.epoch);
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go on", 16);
    context.check("the lattice id is the same", toHex(latticeId(readConfig(lattice.layout.config))) === id);
    for (const steward of stewards) {
      const before = steward.running;
      await steward.stop();
      context.check(`${steward.name} ends as it is asked to`, before && !/"level":"error"/.test(steward.tail(400)));
    }

    function logOf(index: number): string {
      const file = place("logs", `steward-${index}.log`);
      return existsSync(file) ? readFileSync(file, "utf8") : "";
    }

    /** Until the newest roster is in force and `holds`. */
    async function reached(name: string, holds: (view: CommitteeView) => boolean): Promise<CommitteeView | undefined> {
      let found: CommitteeView | undefined;
      await eventually(PATIENCE * context.slotMs, async () => {
        const addresses = readEndpoints(lattice.layout.endpoints)[ORGANISM];
        const view = judgeCommittee(lattice.config, ORGANISM, await askCommittee(lattice.config, ORGANISM, addresses));
        if (!("problem" in view) && view.decidedSlot >= view.roster.activationSlot && holds(view)) found = view;
        return found !== undefined;
      });
      context.check(name, found !== undefined, found === undefined ? SEATS.map(said).join(" | ") : undefined);
      return found;
    }
  },
};

/** What operators do once: standbys for all seats, a broker for the ceremonies, a steward of each seat. */
async function startStewards(
  context: ScenarioContext,
  lattice: LocalLattice,
  place: (...parts: string[]) => string,
): Promise<ManagedProcess[] | undefined> {
  const { layout } = lattice;
  mkdirSync(place("standbys"));
  for (const index of SEATS) {
    const folders = ["--member", place(`seat-${index}`), "--directory", place(`standby-${index}`)];
    const code = await runBuilder(
      ["roster", "standby", "--config", layout.config, "--organism", ORGANISM, ...folders],
      place("logs", "standby.log"),
      place("standbys", `${ORGANISM}-${index}.json`),
    );
    if (!context.check(`roster standby: seat ${index} has keys in reserve`, code === EXIT.ok)) return undefined;
  }
  const args = ["ceremony", "broker", "--directory", place("broker"), "--participants", String(SEATS.length)];
  const broker = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", BUILDER, ...args], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  context.onEnd(async () => {
    if (broker.exitCode !== null || broker.signalCode !== null) return;
    broker.kill("SIGTERM");
    await once(broker, "exit");
  });
  const { url } = JSON.parse(await firstLine(broker)) as { url: string };
  return SEATS.map((index) => {
    const steward = new ManagedProcess({
      name: `steward-${index}`,
      script: SCRIPT,
      logFile: place("logs", `steward-${index}.log`),
      environment: {
        STEWARD_CONFIG_FILE: layout.config,
        STEWARD_ENDPOINTS_FILE: layout.endpoints,
        STEWARD_ORGANISM: ORGANISM,
        STEWARD_MEMBER_DIR: place(`seat-${index}`),
        STEWARD_STANDBY_DIR: place(`standby-${index}`),
        STEWARD_STANDBYS_DIR: place("standbys"),
        STEWARD_STATE_DIR: place(`steward-${index}`),
        STEWARD_NATS_SERVERS: url,
        STEWARD_CREDENTIALS_FILE: place("broker", `participant-${index}.json`),
        STEWARD_REFRESH_EVERY_SLOTS: String(REFRESH_EVERY),
        STEWARD_GATHER_SLOTS: String(GATHER),
        STEWARD_CEREMONY_SLOTS: String(CEREMONY),
        STEWARD_EVERY_MS: "1000",
      },
    });
    context.onEnd(() => steward.kill());
    steward.start();
    return steward;
  });
}
