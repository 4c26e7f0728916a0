import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { findNatsServer, NatsServerMissing } from "./nats-server.ts";

let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "lattice-nats-find-"));
});
after(async () => {
  await rm(folder, { recursive: true });
});

/** A program that answers `--version` like a nats-server of that version. */
function program(name: string, output: string): Promise<string> {
  return script(name, `echo '${output}'`);
}

async function script(name: string, lines: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, `#!/bin/sh\n${lines}\n`);
  await chmod(path, 0o755);
  return path;
}

test("NATS_SERVER_BIN is taken when it is new enough, and refused rather than replaced when it is not", async () => {
  const find = (binary: string) =>
    findNatsServer({
      toolsDir: join(folder, "none"),
      environment: { NATS_SERVER_BIN: binary, PATH: folder },
      download: false,
    });
  const good = await program("good", "nats-server: v2.10.23");
  assert.deepEqual(await find(good), { path: good, version: "2.10.23", source: "environment" });
  for (const [binary, problem] of [
    [await program("old", "nats-server: v2.10.22"), /2\.10\.22, too old/],
    [await program("odd", "hello"), /does not say its version/],
    [join(folder, "absent"), /does not run/],
  ] as const) {
    await assert.rejects(find(binary), (error) => {
      assert.ok(error instanceof NatsServerMissing);
      assert.equal(error.reason, "NATS_SERVER_BIN_UNFIT");
      assert.match(error.message, problem);
      assert.ok(!error.message.includes("\n"), "one line");
      return true;
    });
  }
});

test("PATH is searched; an old server there is passed by, and without any there is one readable line", async () => {
  await program("nats-server", "nats-server: v2.9.10");
  const options = { toolsDir: join(folder, "none"), download: false } as const;
  await assert.rejects(findNatsServer({ ...options, environment: { PATH: folder } }), {
    reason: "NATS_SERVER_MISSING",
    message: /2\.9\.10, too old.*NATS_SERVER_BIN.*--embedded/,
  });
  await assert.rejects(findNatsServer({ ...options, environment: {} }), { reason: "NATS_SERVER_MISSING" });
  const path = await program("nats-server", "nats-server: v2.15.1");
  const found = await findNatsServer({ ...options, environment: { PATH: `/nonexistent:${folder}` } });
  assert.deepEqual(found, { path, version: "2.15.1", source: "path" });
});

const KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

test("two commands that fetch at the same time both get the newest suite's", {
  skip: !existsSync(KEYRING),
}, async (context) => {
  const tools = join(folder, "apt");
  await mkdir(tools);
  await script(
    "apt/apt-get",
    `case "$*" in
*indextargets*) echo "Packages main trixie http://127.0.0.1/debian" ;;
*nats-server/*) echo "\${*##*nats-server/}" > nats-server.deb ;;
esac`,
  );
  await script(
    "apt/dpkg-deb",
    `mkdir -p "$3/usr/sbin"
case "$(cat "$2")" in forky) version=2.15.1 ;; *) version=2.10.27 ;; esac
printf '#!/bin/sh\\necho nats-server: v%s\\n' $version > "$3/usr/sbin/nats-server"
chmod 755 "$3/usr/sbin/nats-server"`,
  );
  const { PATH } = process.env;
  process.env["PATH"] = `${tools}:${PATH}`;
  context.after(() => {
    process.env["PATH"] = PATH;
  });
  const toolsDir = join(folder, "fetched");
  const find = () => findNatsServer({ toolsDir, environment: {}, download: true });
  const found = await Promise.all([find(), find(), find()]);
  assert.deepEqual(new Set(found.map(({ version }) => version)), new Set(["2.15.1"]));
  assert.deepEqual(await readdir(toolsDir), ["nats"]);
});
