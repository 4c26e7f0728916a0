// Starts a command of this project under Node 24, from whatever Node (20 or newer) npm was started with.
// Installs what is missing first: the packages (only when the lockfile changed) bring Node 24 with them.
// Plain JavaScript, no imports from the project: it runs before anything is installed.
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const modules = join(root, "node_modules");
const stamp = join(modules, ".lattice-installed");
const lockfile = join(root, "package-lock.json");
const lock = createHash("sha256").update(readFileSync(lockfile)).digest("hex");
const say = (line) => process.stderr.write(`${line}\n`);
const bundledNode = () =>
  [`node-${process.platform}-${process.arch}`, "node"]
    .map((name) => join(modules, name, "bin", "node"))
    .find((path) => existsSync(path));

/** What npm itself notes in node_modules once all of it is there: somebody has run `npm ci` without us. */
function isInstalled() {
  const packagesOf = (path) => {
    try {
      return JSON.parse(readFileSync(path, "utf8")).packages ?? {};
    } catch {
      return {};
    }
  };
  const there = packagesOf(join(modules, ".package-lock.json"));
  const wanted = Object.entries(packagesOf(lockfile)).filter(([name, { optional }]) => name !== "" && !optional);
  const same = ([name, { version, integrity }]) =>
    name in there && there[name].version === version && there[name].integrity === integrity;
  return bundledNode() !== undefined && wanted.every(same);
}

if (!existsSync(stamp) || readFileSync(stamp, "utf8") !== lock) {
  if (!isInstalled()) {
    say("installing packages (npm ci); needed once, and again when package-lock.json changes");
    const npm = process.env.npm_execpath;
    const [command, args] = npm?.endsWith(".js") ? [process.execPath, [npm]] : ["npm", []];
    const result = spawnSync(command, [...args, "ci", "--no-audit", "--no-fund", "--loglevel=error"], {
      cwd: root,
      stdio: ["ignore", 2, 2],
    });
    if (result.status !== 0) {
      say("npm ci failed; see above");
      process.exit(1);
    }
  }
  mkdirSync(modules, { recursive: true });
  writeFileSync(stamp, lock);
}

const bundled = bundledNode();
const node = bundled ?? process.execPath;
if (bundled === undefined && Number(process.versions.node.split(".")[0]) < 24) {
  say(
    `Node 24 or newer is needed; no bundled one for ${process.platform}-${process.arch}, and this is ${process.version}`,
  );
  process.exit(5);
}

// Children find `node` on their PATH too.
const env = { ...process.env, PATH: `${dirname(node)}:${process.env.PATH ?? ""}` };
const child = spawn(node, ["--disable-warning=ExperimentalWarning", ...process.argv.slice(2)], {
  cwd: root,
  stdio: "inherit",
  env,
});
// Ctrl-C reaches the whole group; a signal sent to this process alone is handed on.
for (const signal of ["SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
process.on("SIGINT", () => {});
child.on("exit", (code, signal) => process.exit(code ?? (signal === "SIGINT" ? 130 : 1)));
