/** `builder log verify` and `builder log export` as their user meets them: files, output and exit codes. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { concat } from "@lattice/organism/codec/codec.ts";
import type { CommitteeCommand } from "@lattice/organism/committee/commands.ts";
import { genesisHead, nextHead } from "@lattice/organism/committee/entry.ts";
import { frameRecord, LOG_EXPORT_MAGIC, type LogRecord } from "@lattice/organism/committee/log-export.ts";
import { RULES } from "@lattice/organism/committee/rules.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { CommitteeDriver } from "@lattice/organism/testing/committee-driver.ts";
import { definition as relay } from "@lattice/relay/definition.ts";
import { dealCommittee } from "../../services/organism/test/test-lattice.ts";
import { runLogExport } from "../src/cli/log-export.ts";
import { runLogVerify } from "../src/cli/log-verify.ts";

describe("builder log", () => {
  const dealt = dealCommittee(3);
  const { config, certifiedRoster } = dealt;
  let folder: string;
  before(async () => {
    await initCrypto();
    folder = mkdtempSync(join(tmpdir(), "lattice-log-"));
    writeFileSync(join(folder, "lattice.hex"), configToHex(config));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  const raw = new TextEncoder().encode("not an entry");
  const head = nextHead(genesisHead(committeeId(config, "relay"), 0n), 1n, raw);
  const records: readonly LogRecord[] = [
    { type: "header", version: 1, config, organism: "relay", generation: 0n },
    { type: "roster", certified: certifiedRoster },
    { type: "end", position: 0n, head: genesisHead(committeeId(config, "relay"), 0n), entries: 0n, records: 2 },
  ];
  const withEntry: readonly LogRecord[] = [
    ...records.slice(0, 2),
    { type: "entry", position: 1n, raw },
    { type: "end", position: 1n, head, entries: 1n, records: 3 },
  ];

  async function verify(
    content: Uint8Array,
    json = true,
  ): Promise<{ code: number; data: string[]; problems: string[] }> {
    const file = join(folder, "log");
    writeFileSync(file, content);
    const data: string[] = [];
    const problems: string[] = [];
    const output = { data: (line: string) => data.push(line), problem: (line: string) => problems.push(line) };
    const code = await runLogVerify(file, { config: join(folder, "lattice.hex"), json }, output);
    return { code, data, problems };
  }
  const fileOf = (found: readonly LogRecord[]): Uint8Array => concat(LOG_EXPORT_MAGIC, ...found.map(frameRecord));

  test("an empty log holds, with the organism's real machine", async () => {
    const { code, data } = await verify(fileOf(records));
    assert.equal(code, 0);
    const found = JSON.parse(data[0] ?? "") as Record<string, unknown>;
    assert.deepEqual([found["holds"], found["organism"], found["to_position"]], [true, "relay", "0"]);
    assert.match((await verify(fileOf(records), false)).data[0] ?? "", /^holds: relay, positions 1 to 0/);
  });

  test("what is wrong first is named, on standard error and in the object", async () => {
    const { code, data, problems } = await verify(fileOf(withEntry));
    assert.equal(code, 1);
    const found = JSON.parse(data[0] ?? "") as { holds: boolean; wrong: Record<string, unknown> };
    assert.equal(found.holds, false);
    assert.deepEqual([found.wrong["reason"], found.wrong["position"]], ["BAD_ENTRY", "1"]);
    assert.match(problems[0] ?? "", /^does not hold: BAD_ENTRY at position 1: /);
  });

  test("a log under rules that this build lacks is not called wrong", async () => {
    const { config, certifiedRoster, rosters, secrets } = dealt;
    const newer = RULES.highest + 1;
    const driver = new CommitteeDriver({
      config,
      roster: rosters.relay,
      secrets,
      createMachine: () => relay.createMachine(config, rosters.relay),
      replicas: 1,
      rules: { lowest: RULES.lowest, highest: newer },
    });
    driver.nowMs = config.genesisMs;
    driver.joinAll();
    const says: CommitteeCommand = { type: "rules", highest: newer, build: "newer" };
    for (const author of driver.authors) author.say(says);
    // What nobody vouches for yet: whoever can go on finds it cleared by a later certificate, or not.
    driver.apply(raw);
    while (driver.committee.rules.active < newer) driver.author(0).say(says);
    const entries = driver.log.map(
      (each, index) => ({ type: "entry", position: BigInt(index + 1), raw: each }) as const,
    );
    const position = BigInt(entries.length);
    const end = { type: "end", position, head: driver.committee.head, entries: position } as const;
    const { code, data, problems } = await verify(
      fileOf([
        { type: "header", version: 1, config, organism: "relay", generation: 0n },
        { type: "roster", certified: certifiedRoster },
        ...entries,
        { ...end, records: entries.length + 2 },
      ]),
    );
    assert.equal(code, 5);
    const found = JSON.parse(data[0] ?? "") as { holds: boolean; wrong: Record<string, unknown> };
    assert.deepEqual([found.holds, found.wrong["reason"]], [false, "RULES_UNKNOWN"]);
    assert.match(problems[0] ?? "", new RegExp(`^cannot be judged: RULES_UNKNOWN at position .*rules ${newer} govern`));
  });

  test("files that are none, cut or of another version are refused", async () => {
    const whole = fileOf(records);
    for (const [content, reason] of [
      [new Uint8Array(), "MALFORMED"],
      [new Uint8Array(100), "MALFORMED"],
      [concat(new TextEncoder().encode("lattice-log/2\0\0\0"), whole.subarray(16)), "MALFORMED"],
      [whole.subarray(0, -1), "TRUNCATED"],
      [concat(whole, new Uint8Array(3)), "TRUNCATED"],
      [fileOf(records.slice(0, 2)), "TRUNCATED"],
      [fileOf(records.slice(1)), "MALFORMED"],
    ] as const) {
      const { code, problems } = await verify(content);
      assert.equal(code, 1);
      assert.match(problems[0] ?? "", new RegExp(`^does not hold: ${reason}`));
    }
  });

  test("a kit that cannot be read is said in one line", async () => {
    const problems: string[] = [];
    const output = { data: () => assert.fail("no data"), problem: (line: string) => problems.push(line) };
    assert.equal(await runLogVerify("/nowhere", { config: join(folder, "lattice.hex"), json: false }, output), 5);
    assert.equal(await runLogVerify("/nowhere", { config: "/nowhere", json: false }, output), 5);
    const options = {
      config: join(folder, "lattice.hex"),
      key: "/nowhere",
      endpoints: "/nowhere",
      from: "auto",
      out: "x",
      json: false,
    } as const;
    assert.equal(await runLogExport(options, output), 5);
    assert.deepEqual(
      problems.map((line) => line.split(":")[0]),
      ["exported log", "lattice config", "key file"],
    );
  });
});
