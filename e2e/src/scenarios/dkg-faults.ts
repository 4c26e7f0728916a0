/** Ceremonies of processes with one faulty member: silent, killed in every phase, lying about shares; named or survived. */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { type PreparedCeremony, prepareCeremony, runBuilder } from "@lattice/deploy/ceremony/local-ceremony.ts";
import { MemberFolder } from "@lattice/deploy/ceremony/member-folder.ts";
import { memberFolder } from "@lattice/deploy/dealer/kit-folder.ts";
import { provideNatsServer } from "@lattice/deploy/local/broker.ts";
import { ROOT } from "@lattice/deploy/local/session.ts";
import { Ceremony } from "@lattice/organism/ceremony/ceremony.ts";
import { makeComplaint } from "@lattice/organism/ceremony/dealing.ts";
import { foundingPlan, foundingPublication } from "@lattice/organism/ceremony/founding.ts";
import { type CeremonyCommand, signMessage } from "@lattice/organism/ceremony/message.ts";
import { nextCommand } from "@lattice/organism/ceremony/participant.ts";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import type { Scenario } from "./scenario.ts";

const CORRUPT = 2;
const PATIENCE_S = 60;

type Lie = (
  command: CeremonyCommand,
  ceremony: Ceremony,
  secrets: Parameters<typeof makeComplaint>[4],
) => CeremonyCommand[];

/** Member 2 speaks as `lie` has it, with its own keys and credentials, until the attempt is over. */
async function corruptMember(
  prepared: PreparedCeremony,
  directory: string,
  organism: Organism,
  lie: Lie,
): Promise<void> {
  const folder = memberFolder(directory, organism, CORRUPT);
  const founding = { draft: prepared.draft, members: prepared.members };
  const ceremony = new Ceremony(foundingPlan(founding, organism), foundingPublication(founding, organism));
  const key = generateSigningKey(fromHex(new MemberFolder(folder).ownKeys().memberKey));
  const credentials = JSON.parse(readFileSync(join(folder, "nats-ceremony.json"), "utf8"));
  const log = await JetStreamLog.open({ servers: [prepared.server.url], ...credentials, member: CORRUPT });
  const secrets = { seed: new Uint8Array(randomBytes(32)), oldShares: new Map<number, Uint8Array>() };
  const stop = new AbortController();
  const said = new Set<string>();
  let saying: Promise<unknown> = Promise.resolve();
  const speak = (): void => {
    const { phase, number } = ceremony.attempt;
    if (phase === "aborted" || phase === "done") {
      stop.abort();
      return;
    }
    const command = nextCommand(ceremony, CORRUPT, secrets);
    if (command === undefined || said.has(command.type)) return;
    said.add(command.type);
    for (const each of lie(command, ceremony, secrets)) {
      const raw = signMessage(key, {
        version: 1,
        ceremony: ceremony.id,
        attempt: number,
        author: CORRUPT,
        command: each,
      });
      saying = saying.then(() => log.append("ctl", raw, randomBytes(8).toString("hex")));
    }
  };
  speak();
  await log.consume(
    1n,
    ({ raw }) => {
      ceremony.apply(raw);
      speak();
    },
    stop.signal,
  );
  await saying;
  await log.close();
}

const flipped = (deal: CeremonyCommand & { type: "deal" }): CeremonyCommand => ({
  ...deal,
  boxes: deal.boxes.map((box, i) => (i === 0 ? { ...box, sealed: box.sealed.map((byte) => byte ^ 1) } : box)),
});

/** One lie an organism: a liar stays out of its ceremony for good. */
const LIES: readonly { readonly organism: Organism; readonly word: string; readonly lie: Lie }[] = [
  { organism: "unseal", word: "BAD_SHARE", lie: (said) => [said.type === "deal" ? flipped(said) : said] },
  { organism: "offer", word: "TWO_VOICES", lie: (said) => (said.type === "deal" ? [said, flipped(said)] : [said]) },
  {
    organism: "atelier",
    word: "FALSE_COMPLAINT",
    lie: (said, { scene, attempt }, secrets) => {
      const deal = attempt.deals.get(0);
      if (said.type !== "verdict" || deal === undefined) return [said];
      return [{ type: "verdict", complaints: [makeComplaint(scene, 0, CORRUPT, deal, secrets)] }];
    },
  },
];

export const scenario: Scenario = {
  name: "dkg-faults",
  description:
    "key generation with one member silent, killed in each phase, or lying: named by the others, or survived",
  async run(context) {
    await context.natsOnly();
    const directory = join(context.directory, "ceremony");
    const prepared = await prepareCeremony({
      directory,
      profile: {
        name: "faults",
        chainId: 31_337n,
        genesisMs: Date.now(),
        slotMs: context.slotMs,
        members: 3,
        settlement: new Uint8Array(20).fill(17),
      },
      binary: (await provideNatsServer()).path,
      progress: context.say,
    });
    context.onEnd(() => prepared.server.stop());
    const takePart = (organism: Organism, index: number, patienceS = PATIENCE_S, command?: "run" | "retry") =>
      runBuilder(prepared.takePart(organism, index, patienceS, command), prepared.logFile(organism, index));
    const logOf = (organism: Organism, index: number): string =>
      existsSync(prepared.logFile(organism, index)) ? readFileSync(prepared.logFile(organism, index), "utf8") : "";
    const keyOf = (organism: Organism, index: number): boolean =>
      existsSync(join(memberFolder(directory, organism, index), "key.json"));

    context.say("a silent member");
    const silent = await Promise.all([0, 1].map((index) => takePart("relay", index, 2)));
    context.check(
      "the attempt ends for those present",
      silent.every((code) => code === EXIT.failed),
    );
    context.check(
      "they name the silent one",
      [0, 1].every((i) => /member 2, attempt 1: SILENT/.test(logOf("relay", i))),
    );
    const again = await Promise.all([0, 1, 2].map((index) => takePart("relay", index, PATIENCE_S, "retry")));
    context.check(
      "with it back the next attempt succeeds",
      again.every((code) => code === EXIT.ok),
    );

    for (const { organism, word, lie } of LIES) {
      context.say(`a liar: ${word}`);
      const liar = corruptMember(prepared, directory, organism, lie);
      const codes = await Promise.all([0, 1].map((index) => takePart(organism, index)));
      await liar;
      context.check(`${word}: the honest abort`, codes.every((code) => code === EXIT.failed) && !keyOf(organism, 0));
      const named = new RegExp(`member ${CORRUPT}, attempt 1: ${word}`);
      context.check(
        `${word}: both name the liar`,
        [0, 1].every((index) => named.test(logOf(organism, index))),
      );
      const wrong = /member [01], attempt/;
      context.check(
        `${word}: nobody honest is named`,
        [0, 1].every((index) => !wrong.test(logOf(organism, index))),
      );
    }

    context.say("kill -9 in each phase");
    const others = [1, 2].map((index) => takePart("tally", index, 600));
    for (const phase of ["deal", "judge", "confirm"]) {
      const child = spawn(
        process.execPath,
        [
          "--disable-warning=ExperimentalWarning",
          join(ROOT, "deploy", "src", "cli", "main.ts"),
          ...prepared.takePart("tally", 0, 600),
        ],
        { stdio: ["ignore", "ignore", "pipe"] },
      );
      let text = "";
      child.stderr.on("data", (chunk: Buffer) => {
        text += chunk.toString();
        if (text.includes(`attempt 1: ${phase}`)) child.kill("SIGKILL");
      });
      await new Promise((resolve) => child.once("exit", resolve));
      // In the last phase it may be through before the signal arrives.
      const through = phase === "confirm" && child.exitCode === EXIT.ok;
      context.check(
        `killed in phase ${phase}`,
        child.signalCode === "SIGKILL" || through,
        `exit code ${child.exitCode}`,
      );
    }
    const codes = await Promise.all([takePart("tally", 0, 600), ...others]);
    context.check(
      "started again, all three hold their shares",
      codes.every((code) => code === EXIT.ok) && [0, 1, 2].every((i) => keyOf("tally", i)),
    );
    context.check(
      "nobody is named",
      [0, 1, 2].every((index) => !/attempt \d+: [A-Z_]+:/.test(logOf("tally", index))),
    );
  },
};
