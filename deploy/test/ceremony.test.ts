/** Ceremonies as operators run them: a process a member, on a broker of their own; killed, aborted, retried. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { foundedConfig } from "@lattice/organism/ceremony/founding.ts";
import { decode, fromHex } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED } from "@lattice/organism/committee/outcome.ts";
import { checkRoster } from "@lattice/organism/committee/roster.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { publicOf, recoverSecret } from "@lattice/organism/crypto/shamir.ts";
import { configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readConfig, readKeyFile, readRosters, verifyKeys } from "@lattice/organism/node/kit.ts";
import { memberToJson, readResult } from "../src/ceremony/founding-file.ts";
import { foundLocally, type PreparedCeremony, prepareCeremony, runBuilder } from "../src/ceremony/local-ceremony.ts";
import { memberFolder } from "../src/dealer/kit-folder.ts";
import { provideNatsServer } from "../src/local/broker.ts";

const BUILDER = join(dirname(dirname(fileURLToPath(import.meta.url))), "src", "cli", "main.ts");
const MEMBERS = 3;
const scratch = mkdtempSync(join(tmpdir(), "lattice-founding-"));
const profile = {
  name: "founded",
  chainId: 31_337n,
  genesisMs: 1_790_000_000_000,
  slotMs: 4000,
  members: MEMBERS,
  settlement: new Uint8Array(20).fill(17),
};

const binary = await provideNatsServer().then(
  (found) => found.path,
  () => undefined,
);

describe("ceremonies of processes", { skip: binary === undefined ? "no nats-server here" : false }, () => {
  before(initCrypto);
  after(() => rmSync(scratch, { recursive: true, force: true }));
  const nats = binary ?? "";

  test("eighteen members found a lattice: config, rosters, one share each; nobody's secret is left behind", async () => {
    const directory = join(scratch, "whole");
    const signers = await foundLocally({ directory, profile, binary: nats });
    assert.equal(signers.length, MEMBERS);
    const config = readConfig(join(directory, "lattice.hex"));
    assert.equal(config.keys, "ceremony");
    const rosters = readRosters(join(directory, "rosters.json"), config);
    for (const organism of ORGANISMS) {
      const shares: Uint8Array[] = [];
      for (let index = 0; index < MEMBERS; index++) {
        const folder = memberFolder(directory, organism, index);
        const { secrets } = readKeyFile(join(folder, "key.json"));
        verifyKeys(rosters[organism], organism, index, secrets);
        shares.push(secrets.certificateShare);
        assert.equal(statSync(join(folder, "key.json")).mode & 0o777, 0o400);
        // The ceremony's own secrets are gone, and so is the file that the key file replaces.
        assert.deepEqual(readdirSync(folder).sort(), ["ceremony.json", "key.json", "nats-ceremony.json"]);
      }
      const { certificateKey } = config[organism].policy;
      for (const [a, b] of [
        [0, 1],
        [0, 2],
        [1, 2],
      ] as const) {
        const two = [a, b].map((index) => ({ index, share: shares[index] ?? new Uint8Array(32) }));
        assert.deepEqual(publicOf(recoverSecret(two)), certificateKey);
      }
    }
    const founding = join(directory, "founding.json");
    const log = join(scratch, "assemble.log");
    const shown = join(scratch, "shown.json");
    assert.equal(await runBuilder(["ceremony", "show", "--founding", founding], log, shown), EXIT.ok);
    const { ceremonies } = JSON.parse(readFileSync(shown, "utf8")) as { ceremonies: Record<string, unknown> };
    assert.deepEqual(Object.keys(ceremonies), [...ORGANISMS]);
    const results = ORGANISMS.flatMap((name) => ["--result", join(memberFolder(directory, name, 1), "ceremony.json")]);
    const kit = join(scratch, "a new folder");
    const command = ["ceremony", "assemble", "--founding", founding, "--directory", kit];
    // Without tally's: nothing is written.
    assert.equal(await runBuilder([...command, ...results.slice(0, -2)], log), EXIT.precondition);
    assert.match(readFileSync(log, "utf8"), /tally: no result of its ceremony/);
    assert.equal(existsSync(kit), false);
    assert.equal(await runBuilder([...command, ...results], log), EXIT.ok, readFileSync(log, "utf8"));
    assert.equal(configToHex(readConfig(join(kit, "lattice.hex"))), configToHex(config));
    assert.deepEqual(readRosters(join(kit, "rosters.json"), config), rosters);
    assert.equal(await runBuilder([...command, ...results], log), EXIT.precondition);
    assert.match(readFileSync(log, "utf8"), /lattice\.hex exists already/);
  });

  describe("one organism's", () => {
    let ceremony: PreparedCeremony;
    const directory = join(scratch, "tally");
    before(async () => {
      ceremony = await prepareCeremony({ directory, profile, binary: nats });
    });
    after(() => ceremony.server.stop());

    const takePart = (index: number, patienceS?: number, command?: "run" | "retry"): Promise<number> =>
      runBuilder(ceremony.takePart("tally", index, patienceS, command), ceremony.logFile("tally", index));
    const logOf = (index: number): string => readFileSync(ceremony.logFile("tally", index), "utf8");

    test("with an absent member ends for those present, and names it", async () => {
      const codes = await Promise.all([takePart(0, 1), takePart(1, 1)]);
      assert.deepEqual(codes, [EXIT.failed, EXIT.failed]);
      for (const index of [0, 1]) assert.match(logOf(index), /member 2, attempt 1: SILENT: silent in phase enrol/);
    });

    test("is aborted by an operator, and named", async () => {
      const waiting = [takePart(0, 300, "retry"), takePart(1, 300, "retry")];
      for (;;) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        if (/attempt 2: enrol/.test(logOf(0))) break;
      }
      const [, , ...shared] = ceremony.takePart("tally", 2);
      const args = ["ceremony", "abort", ...shared.slice(0, 6), "--attempt", "2", "--reason", "the wrong room"];
      assert.equal(await runBuilder(args, ceremony.logFile("tally", 2)), EXIT.ok, logOf(2));
      assert.deepEqual(await Promise.all(waiting), [EXIT.failed, EXIT.failed]);
      assert.match(logOf(1), /member 2, attempt 2: WITHDREW: the wrong room/);
    });

    test("with another participant's credential, or another broker's, is refused in one line", async () => {
      const log = join(scratch, "credential.log");
      const said = (): string[] => readFileSync(log, "utf8").trim().split("\n");
      const [, , ...shared] = ceremony.takePart("tally", 1);
      const abort = ["ceremony", "abort", ...shared.slice(0, 6), "--credentials"];
      const other = join(memberFolder(directory, "tally", 2), "nats-ceremony.json");
      assert.equal(await runBuilder([...abort, other], log), EXIT.precondition);
      assert.deepEqual(said(), [
        "NATS credentials: this credential may not publish there; each participant has its own",
      ]);
      const foreign = join(scratch, "foreign.json");
      const credential = JSON.parse(readFileSync(other, "utf8")) as Record<string, string>;
      writeFileSync(foreign, JSON.stringify({ ...credential, password: "of another broker" }), { mode: 0o400 });
      assert.equal(await runBuilder([...abort, foreign], log), EXIT.precondition);
      assert.equal(said()[1], "nats-server refuses this member's credential");
    });

    test("survives kill -9 of a member in the middle; a second run finds its keys and does nothing", async () => {
      const others = [takePart(1, 300, "retry"), takePart(2, 300, "retry")];
      const child = spawn(
        process.execPath,
        ["--disable-warning=ExperimentalWarning", BUILDER, ...ceremony.takePart("tally", 0, 300, "retry")],
        { stdio: ["ignore", "ignore", "pipe"] },
      );
      await new Promise<void>((resolve) => {
        let said = "";
        child.stderr.on("data", (chunk: Buffer) => {
          said += chunk.toString();
          // It has enrolled and the others too: it dies with its deal on the way.
          if (said.includes("attempt 3: deal")) child.kill("SIGKILL");
        });
        child.once("exit", () => resolve());
      });
      assert.equal(child.signalCode, "SIGKILL");
      assert.equal(existsSync(join(memberFolder(directory, "tally", 0), "key.json")), false);
      const again = takePart(0, 300);
      assert.deepEqual(await Promise.all([again, ...others]), [EXIT.ok, EXIT.ok, EXIT.ok], logOf(0));
      const results = [0, 1, 2].map((index) =>
        readResult(join(memberFolder(directory, "tally", index), "ceremony.json")),
      );
      assert.deepEqual(results[1]?.roster.length, results[0]?.roster.length);
      assert.deepEqual(new Set(results.map(({ certificateKey }) => certificateKey)).size, 1);
      assert.equal(await takePart(0), EXIT.ok);
      assert.match(logOf(0), /nothing to do/);
    });

    test("key is refreshed: new shares of the same key in shares/1.json, with the next roster", async () => {
      const folder = (index: number): string => memberFolder(directory, "tally", index);
      const founded = readResult(join(folder(0), "ceremony.json"));
      const certificateKey = fromHex(founded.certificateKey);
      const config = foundedConfig(ceremony.draft, { tally: { certificateKey, secondKey: undefined } });
      const file = join(directory, "succession.json");
      const succession = {
        version: 1,
        config: configToHex(config),
        organism: "tally",
        roster: founded.roster,
        members: ceremony.members.tally.map(memberToJson),
        activationSlot: "500",
        sealingUntilSlot: "1000",
      };
      writeFileSync(file, JSON.stringify(succession));
      const reshare = (index: number): Promise<number> =>
        runBuilder(
          ["ceremony", "reshare", "--directory", folder(index), "--succession", file, "--nats", ceremony.server.url],
          ceremony.logFile("tally", index),
        );
      assert.deepEqual(await Promise.all([0, 1, 2].map(reshare)), [EXIT.ok, EXIT.ok, EXIT.ok], logOf(0));
      const fresh = [0, 1, 2].map((index) => {
        const path = join(folder(index), "shares", "1.json");
        assert.equal(statSync(path).mode & 0o777, 0o400);
        return JSON.parse(readFileSync(path, "utf8")) as { certificateShare: string; roster: string; index: number };
      });
      const checked = checkRoster(config, "tally", decode(CERTIFIED, fromHex(fresh[0]?.roster ?? "")));
      assert.ok("roster" in checked);
      assert.equal(checked.roster.epoch, 1n);
      const shares = fresh.map(({ certificateShare }, index) => ({ index, share: fromHex(certificateShare) }));
      assert.deepEqual(publicOf(recoverSecret(shares.slice(1))), certificateKey);
      for (const { index, share } of shares) {
        assert.deepEqual(publicOf(share), checked.roster.members[index]?.certificateShare);
        const old = readKeyFile(join(folder(index), "key.json")).secrets.certificateShare;
        assert.notDeepEqual(share, old);
        assert.equal(existsSync(join(folder(index), "ceremony")), false);
      }
      assert.equal(await reshare(0), EXIT.ok);
      assert.match(logOf(0), /is there already/);
    });

    test("is refused to whoever is not in the founding file, in one line", async () => {
      const folder = join(scratch, "stranger");
      const log = join(scratch, "stranger.log");
      assert.equal(
        await runBuilder(["ceremony", "member", "--organism", "tally", "--directory", folder], log),
        EXIT.ok,
      );
      const args = ["ceremony", "run", "--directory", folder, "--founding", ceremony.foundingFile];
      assert.equal(await runBuilder([...args, "--nats", ceremony.server.url], log), EXIT.precondition);
      assert.match(readFileSync(log, "utf8"), /tally has no member with the keys of/);
    });
  });
});
