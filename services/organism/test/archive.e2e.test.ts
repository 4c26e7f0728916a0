/** Both archives pass one conformance suite: a folder, and a bucket of a real S3-compatible server. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { initCrypto } from "../src/crypto/engine.ts";
import { ArchiveBucket } from "../src/node/archive-bucket.ts";
import { ArchiveDirectory } from "../src/node/archive-directory.ts";
import { KitProblem } from "../src/node/kit.ts";
import { nodeTimers } from "../src/node/node-timers.ts";
import { openArchive } from "../src/node/open-archive.ts";
import { OutcomeArchive } from "../src/node/outcome-archive.ts";
import { OutcomeHandover } from "../src/node/outcome-handover.ts";
import { S3Client, S3Problem } from "../src/node/s3-client.ts";
import { SettingsProblems } from "../src/node/settings.ts";
import { createNoMeters } from "../src/observe/meters.ts";
import { ManualTimers } from "../src/testing/manual-timers.ts";
import { archiveConformance, outcomeOf } from "./archive-conformance.ts";
import { PATIENCE_MS } from "./patience.ts";
import { findS3Server, S3_TEST_CREDENTIALS, type S3Server, startS3Server } from "./s3-server.ts";
import { dealCommittee } from "./test-lattice.ts";

before(initCrypto);

describe("an archive in a folder", () => {
  const folders: string[] = [];
  after(() => {
    for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  });
  archiveConformance(async () => {
    const folder = mkdtempSync(join(tmpdir(), "lattice-archive-"));
    folders.push(folder);
    const committee = dealCommittee(3);
    return {
      committee,
      open: (of = committee) => ArchiveDirectory.open(folder, of.config, "relay"),
      async damage(ending, change) {
        const [name] = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((each) =>
          each.endsWith(ending),
        );
        assert.ok(name !== undefined, ending);
        const path = join(folder, name);
        writeFileSync(path, change(new Uint8Array(readFileSync(path))));
      },
    };
  });
});

const server = await findS3Server();

describe("an archive in a bucket", { skip: "missing" in server ? server.missing : false }, () => {
  let running: S3Server;
  const nowMs = (): number => Date.now();
  before(async () => {
    assert.ok("path" in server);
    running = await startS3Server(server.path);
  });
  after(() => running?.stop());

  const client = (prefix: string, credentials: typeof S3_TEST_CREDENTIALS = S3_TEST_CREDENTIALS): S3Client =>
    new S3Client({ url: `${running.url}/${prefix}`, region: "us-east-1", credentials, nowMs, timeoutMs: 10_000 });

  archiveConformance(async () => {
    const prefix = `a place/${randomBytes(6).toString("hex")}`;
    const committee = dealCommittee(3);
    return {
      committee,
      open: async (of = committee) => new ArchiveBucket(client(prefix), of.config, "relay", nodeTimers),
      async damage(ending, change) {
        const [found] = (await client(prefix).list("")).filter(({ key }) => key.endsWith(ending));
        assert.ok(found !== undefined, ending);
        const bytes = await client(prefix).get(found.key, 1 << 20);
        await client(prefix).put(found.key, change(bytes ?? new Uint8Array()));
      },
    };
  });

  test("a wrong secret is refused, and named nowhere", async () => {
    const wrong = {
      ...S3_TEST_CREDENTIALS,
      secretAccessKey: "not-the-secret-at-all",
    } as unknown as typeof S3_TEST_CREDENTIALS;
    const committee = dealCommittee(3);
    const archive = new ArchiveBucket(client("wrong", wrong), committee.config, "relay", nodeTimers);
    await assert.rejects(archive.putOutcome(outcomeOf(committee, 1n)), (error: unknown) => {
      assert.ok(error instanceof S3Problem);
      assert.equal(error.status, 403);
      assert.equal(error.passing, false);
      assert.doesNotMatch(`${error.message}${error.stack}`, /not-the-secret|archive-test/);
      return true;
    });
    assert.equal(await archive.outcome("accepted", 1n), undefined);
    await assert.rejects(archive.snapshots.refresh(), S3Problem);
  });

  test("a store that is away for longer than one outcome waits for it gets everything once it is back", async () => {
    const committee = dealCommittee(3);
    const store = new URL(running.url);
    let away = false;
    const open = new Set<Socket>();
    const way = createServer((socket) => {
      if (away) {
        socket.destroy();
        return;
      }
      const beyond = connect(Number(store.port), store.hostname);
      for (const each of [socket, beyond]) {
        open.add(each);
        each.on("error", () => undefined).on("close", () => open.delete(each));
      }
      socket.pipe(beyond).pipe(socket);
    });
    await once(way.listen(0, "127.0.0.1"), "listening");
    const folder = mkdtempSync(join(tmpdir(), "lattice-archive-"));
    const own = await OutcomeArchive.open(folder, "relay");
    const timers = new ManualTimers();
    const url = `http://127.0.0.1:${(way.address() as AddressInfo).port}${store.pathname}/away`;
    const options = { region: "us-east-1", credentials: S3_TEST_CREDENTIALS, nowMs };
    const bucket = new ArchiveBucket(new S3Client({ url, ...options }), committee.config, "relay", timers);
    const said: string[] = [];
    const say = (line: string): void => void said.push(line);
    const logger = { debug: say, info: say, warn: say, error: say };
    const meters = createNoMeters();
    const handover = new OutcomeHandover({ outside: bucket, own, stages: ["accepted"], timers, logger, meters });
    const certify = async (slot: bigint): Promise<void> => {
      const certified = outcomeOf(committee, slot);
      const kept = own.put(certified);
      handover.hand(certified);
      await kept;
    };
    const until = async (condition: () => boolean | Promise<boolean>): Promise<void> => {
      const deadline = Date.now() + PATIENCE_MS;
      while (!(await condition())) {
        assert.ok(Date.now() < deadline, said.join());
        await timers.advance(1000);
      }
    };
    const isOutside = async (slot: bigint): Promise<boolean> => (await bucket.outcome("accepted", slot)) !== undefined;
    try {
      await certify(1n);
      await until(() => isOutside(1n));
      away = true;
      for (const each of open) each.destroy();
      await certify(2n);
      await until(() => said.length === 1);
      for (let slot = 3n; slot <= 12n; slot++) await certify(slot);
      const awayForMs = timers.elapsedMs() + 600_000;
      await until(() => timers.elapsedMs() > awayForMs);
      away = false;
      await until(() => said.length === 2);
      for (let slot = 1n; slot <= 12n; slot++) assert.ok(await isOutside(slot), `slot ${slot}`);
      assert.match(said.join(), /does not take outcomes.*has all outcomes again$/);
    } finally {
      await handover.close();
      await own.close();
      for (const each of open) each.destroy();
      way.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });

  test("settings open it: both or none, private credentials, and no folder beside it", async () => {
    const { config } = dealCommittee(3);
    const folder = mkdtempSync(join(tmpdir(), "lattice-archive-"));
    const file = join(folder, "s3.json");
    writeFileSync(file, JSON.stringify(S3_TEST_CREDENTIALS), { mode: 0o400 });
    const settings = {
      LATTICE_ARCHIVE_DIR: undefined,
      LATTICE_ARCHIVE_S3_URL: `${running.url}/settings`,
      LATTICE_ARCHIVE_S3_REGION: "us-east-1",
      LATTICE_ARCHIVE_S3_CREDENTIALS_FILE: file,
    };
    try {
      const archive = await openArchive(settings, config, "relay");
      assert.ok(archive instanceof ArchiveBucket);
      await archive.snapshots.refresh();
      await assert.rejects(
        openArchive({ ...settings, LATTICE_ARCHIVE_DIR: folder }, config, "relay"),
        SettingsProblems,
      );
      const without = { ...settings, LATTICE_ARCHIVE_S3_CREDENTIALS_FILE: undefined };
      await assert.rejects(openArchive(without, config, "relay"), SettingsProblems);
      const noBucket = { ...settings, LATTICE_ARCHIVE_S3_URL: new URL(running.url).origin };
      await assert.rejects(openArchive(noBucket, config, "relay"), SettingsProblems);
      chmodSync(file, 0o444);
      await assert.rejects(openArchive(settings, config, "relay"), KitProblem);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe("a store that is not there", () => {
  test("is said without credentials, and nothing is made of it", async () => {
    const options = { url: "http://127.0.0.1:9/bucket", region: "r", credentials: S3_TEST_CREDENTIALS, nowMs: () => 0 };
    await assert.rejects(new S3Client(options).get("key", 10), (error: unknown) => {
      return error instanceof S3Problem && error.passing && !error.message.includes("archive-test");
    });
    const { config } = dealCommittee(3);
    const archive = new ArchiveBucket(new S3Client(options), config, "relay", nodeTimers);
    assert.equal(await archive.outcome("accepted", 1n), undefined);
  });
});
