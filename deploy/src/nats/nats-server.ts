/**
 * Finds a nats-server that is new enough, or fetches one from the machine's own Debian mirror without touching the
 * system: `NATS_SERVER_BIN`, then the project's `.tools`, then `PATH`, then apt (field-notes/nats.md §1).
 */
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { access, constants, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { olderThan, SERVER_VERSION_MIN } from "@lattice/organism/log/fit-server.ts";

const run = promisify(execFile);

export interface NatsServerBinary {
  readonly path: string;
  /** `2.15.1` */
  readonly version: string;
  readonly source: "environment" | "tools" | "path" | "apt";
}

export interface FindOptions {
  /** The project's `.tools`. */
  readonly toolsDir: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  /** May apt be asked? */
  readonly download: boolean;
  /** One line while something takes long. */
  readonly progress?: (line: string) => void;
}

/** No usable server. The message is one line that says what was tried and what to do. */
export class NatsServerMissing extends Error {
  override readonly name = "NatsServerMissing";
  readonly reason: "NATS_SERVER_BIN_UNFIT" | "NATS_SERVER_MISSING";
  readonly tried: readonly string[];
  constructor(reason: NatsServerMissing["reason"], tried: readonly string[]) {
    const remedy = `install nats-server ${SERVER_VERSION_MIN} or newer and set NATS_SERVER_BIN, or run with --embedded`;
    super(`no usable nats-server: ${tried.join("; ")}; ${remedy}`);
    this.reason = reason;
    this.tried = tried;
  }
}

const VERSION_DEADLINE_MS = 10_000;
const APT_DEADLINE_MS = 180_000;
/** The newest first: 2.15 commits groups of entries with one fsync. Both have `sync_interval: always`. */
const SUITES = ["forky", "trixie"] as const;
const PROGRAM = join("usr", "sbin", "nats-server");
const DEBIAN_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg";

/** @throws NatsServerMissing */
export async function findNatsServer(options: FindOptions): Promise<NatsServerBinary> {
  const tried: string[] = [];
  const { NATS_SERVER_BIN: chosen, PATH: path = "" } = options.environment;
  if (chosen !== undefined && chosen !== "") {
    const version = await fitVersion(chosen, tried);
    // Somebody's explicit wish is not silently replaced by something else.
    if (version === undefined) throw new NatsServerMissing("NATS_SERVER_BIN_UNFIT", tried);
    return { path: chosen, version, source: "environment" };
  }
  const tool = toolPath(options.toolsDir);
  if (existsSync(tool)) {
    const version = await fitVersion(tool, tried);
    if (version !== undefined) return { path: tool, version, source: "tools" };
  }
  for (const folder of path.split(delimiter).filter((each) => each !== "")) {
    const candidate = join(folder, "nats-server");
    if (!existsSync(candidate)) continue;
    const version = await fitVersion(candidate, tried);
    if (version !== undefined) return { path: candidate, version, source: "path" };
  }
  if (tried.length === 0) tried.push("none in NATS_SERVER_BIN, .tools or PATH");
  if (options.download) {
    for (const suite of SUITES) {
      options.progress?.(`fetching nats-server from Debian ${suite}`);
      try {
        await fetchFromDebian(options.toolsDir, suite);
      } catch (error) {
        tried.push(`apt, Debian ${suite}: ${lastLine(error)}`);
        continue;
      }
      const version = await fitVersion(tool, tried);
      if (version !== undefined) return { path: tool, version, source: "apt" };
    }
  }
  throw new NatsServerMissing("NATS_SERVER_MISSING", tried);
}

function toolPath(toolsDir: string): string {
  return join(toolsDir, "nats", PROGRAM);
}

/** The version, when the program runs and is new enough; otherwise a line in `tried`. */
async function fitVersion(path: string, tried: string[]): Promise<string | undefined> {
  try {
    await access(path, constants.X_OK);
    const { stdout, stderr } = await run(path, ["--version"], { timeout: VERSION_DEADLINE_MS });
    const version = /v(\d+\.\d+\.\d+)/.exec(`${stdout} ${stderr}`)?.[1];
    if (version === undefined) tried.push(`${path} does not say its version`);
    else if (olderThan(version, SERVER_VERSION_MIN)) tried.push(`${path} is ${version}, too old`);
    else return version;
  } catch (error) {
    tried.push(`${path} does not run: ${lastLine(error)}`);
  }
  return undefined;
}

/**
 * Downloads and unpacks Debian's package below `toolsDir`. apt works on lists and caches of its own there, as any
 * user, and checks signatures as always; the mirror is the one this machine is configured for. Nothing is installed.
 */
async function fetchFromDebian(toolsDir: string, suite: string): Promise<void> {
  await access(DEBIAN_KEYRING).catch(() => {
    throw new Error("this machine has no Debian archive keyring");
  });
  const mirrors = await debianMirrors();
  if (mirrors.length === 0) throw new Error("apt is configured for no Debian mirror");
  // Another command may be fetching too: each does so in a folder of its own.
  const work = join(toolsDir, `apt-${suite}-${randomBytes(6).toString("hex")}`);
  try {
    await fetchInto(work, mirrors, suite, join(toolsDir, "nats"));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

async function fetchInto(work: string, mirrors: readonly string[], suite: string, target: string): Promise<void> {
  for (const folder of ["lists/partial", "cache/archives/partial", "parts", "download"]) {
    await mkdir(join(work, folder), { recursive: true });
  }
  const sources = mirrors.map((mirror) => `deb [signed-by=${DEBIAN_KEYRING}] ${mirror} ${suite} main\n`);
  await writeFile(join(work, "sources.list"), sources.join(""));
  const settings = {
    "Dir::Etc::sourcelist": join(work, "sources.list"),
    "Dir::Etc::sourceparts": join(work, "parts"),
    "Dir::State": work,
    "Dir::State::lists": join(work, "lists"),
    "Dir::State::status": "/var/lib/dpkg/status",
    "Dir::Cache": join(work, "cache"),
    "APT::Sandbox::User": "",
    "Acquire::Retries": "2",
    "Acquire::Languages": "none",
  };
  const flags = Object.entries(settings).flatMap(([name, value]) => ["-o", `${name}=${value}`]);
  const download = join(work, "download");
  const options = { timeout: APT_DEADLINE_MS, cwd: download };
  await run("apt-get", [...flags, "-qq", "update"], options);
  // The suite is named, or apt takes whichever version it likes best.
  await run("apt-get", [...flags, "-qq", "download", `nats-server/${suite}`], options);
  const archive = (await readdir(download)).find((name) => name.endsWith(".deb"));
  if (archive === undefined) throw new Error("apt downloaded nothing");
  const unpacked = join(work, "unpacked");
  await run("dpkg-deb", ["-x", join(download, archive), unpacked], options);
  await rename(unpacked, target).catch(async () => {
    // There is one by now, or one that is too old.
    if ((await fitVersion(join(target, PROGRAM), [])) !== undefined) return;
    await rm(target, { recursive: true, force: true });
    await rename(unpacked, target);
  });
}

/** The archives that this machine's own apt gets Debian from, security and third parties left out. */
async function debianMirrors(): Promise<string[]> {
  const format = "$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)";
  const { stdout } = await run("apt-get", ["indextargets", "--format", format], { timeout: APT_DEADLINE_MS });
  const uris = stdout.split("\n").flatMap((line) => {
    const [kind, component, release = "", uri = ""] = line.split(" ");
    const usable = kind === "Packages" && component === "main" && !release.includes("security");
    return usable && /\/debian\/?$/.test(uri) ? [uri.replace(/\/$/, "")] : [];
  });
  return [...new Set(uris)];
}

function lastLine(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const output = "stderr" in error && typeof error.stderr === "string" ? error.stderr.trim() : "";
  const text = output === "" ? error.message : output;
  return (text.split("\n").at(-1) ?? "").slice(0, 200);
}
