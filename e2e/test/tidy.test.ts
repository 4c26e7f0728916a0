/** The repository's own rules: they hold here, and each finds what is planted for it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { SETTINGS as UNSEAL } from "@lattice/unseal/config.ts";
import { z } from "zod";
import { GENERATED_PAGES } from "../src/docs/generated-pages.ts";
import { code, markdownTable } from "../src/docs/markdown-table.ts";
import { settingsOf } from "../src/docs/settings-page.ts";
import { TIDY_CHECKS } from "../src/tidy/checks.ts";
import {
  anchorsOf,
  calls,
  decisions,
  generatedPages,
  links,
  mentions,
  methods,
  metrics,
  processProblems,
  reasons,
  settings,
  tags,
} from "../src/tidy/documentation.ts";
import { contents, environment, fileNames, SKELETON, secrets, skeleton } from "../src/tidy/files.ts";
import {
  declaredImports,
  direction,
  doubles,
  exactVersions,
  importsOf,
  layers,
  lockfile,
} from "../src/tidy/packages.ts";
import { IGNORED_FOLDERS, plantedRepository, readRepository, type TidyCheck } from "../src/tidy/repository.ts";

const ROOT = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const repository = readRepository(ROOT);

for (const check of TIDY_CHECKS) {
  test(check.name, () => {
    const problems = check.problems(repository);
    assert.deepEqual(problems, [], problems.join("\n"));
  });
}

test("the walk leaves out what git does", () => {
  const lines = readFileSync(join(ROOT, ".gitignore"), "utf8").trim().split("\n");
  assert.deepEqual(lines, [...IGNORED_FOLDERS.map((folder) => `${folder}/`), "*.log"]);
  assert.ok(repository.files.includes("package.json"));
  assert.ok(repository.files.includes("e2e/test/tidy.test.ts"));
  assert.ok(!repository.files.some((path) => path.includes("node_modules/")));
});

/** Problems that a check finds in planted files. */
function found(check: TidyCheck, files: Readonly<Record<string, string>>): readonly string[] {
  return check.problems(plantedRepository(files));
}

const ROOT_PACKAGE = JSON.stringify({
  name: "lattice",
  workspaces: ["services/organism", "services/zipnet", "gateway"],
});
const PACKAGES = {
  "package.json": ROOT_PACKAGE,
  "services/organism/package.json": JSON.stringify({ name: "@lattice/organism" }),
  "services/zipnet/package.json": JSON.stringify({
    name: "@lattice/zipnet",
    dependencies: { "@lattice/organism": "0.1.0", zod: "4.4.3" },
    devDependencies: { "fast-check": "4.10.2" },
  }),
  "gateway/package.json": JSON.stringify({ name: "@lattice/gateway", dependencies: { "@lattice/zipnet": "0.1.0" } }),
};
const zipnet = (text: string, name = "services/zipnet/src/node/wire.ts") => ({ ...PACKAGES, [name]: text });

test("a service without one file of the skeleton is named", () => {
  const whole = Object.fromEntries(
    ["zipnet", "unseal", "offer", "atelier", "relay", "tally"].flatMap((service) => [
      ...SKELETON.map((name) => [`services/${service}/${name}`, ""]),
      [`services/${service}/src/core/machine.test.ts`, ""],
      [`docs/protocol/${service}.md`, ""],
    ]),
  );
  assert.deepEqual(found(skeleton, whole), []);
  const { "services/relay/src/node/wire.ts": _, ...rest } = whole;
  assert.deepEqual(found(skeleton, rest), ["services/relay/src/node/wire.ts: missing"]);
  const { "services/relay/src/core/machine.test.ts": __, ...untested } = whole;
  assert.deepEqual(found(skeleton, untested), ["services/relay: no test"]);
  assert.equal(found(skeleton, { ...whole, "services/relay/src/main.ts": "\n".repeat(31) }).length, 1);
  assert.equal(found(skeleton, { ...whole, "services/relay/src/main.ts": "\n".repeat(30) }).length, 0);
});

test("names: kebab-case, and none that says nothing", () => {
  assert.deepEqual(found(fileNames, { "a/slot-book.ts": "", "a/slot-book.test.ts": "", "README.md": "" }), []);
  for (const path of ["a/slotBook.ts", "a/slot_book.ts", "a/.hidden", "a/utils.ts", "a/index.ts", "a/types.ts"]) {
    assert.equal(found(fileNames, { [path]: "" }).length, 1, path);
  }
  assert.deepEqual(found(fileNames, { "services/zipnet/src/core/types.ts": "" }), []);
});

test("contents: marks, paths and hosts", () => {
  const slash = "/";
  for (const [text, problems] of [
    ["// done", 0],
    [`// ${"TO"}${"DO"}: later`, 1],
    [`const at = "${slash}tmp${slash}x";`, 1],
    [`const at = "${slash}home${slash}me";`, 1],
    ["const at = tmpdir();", 0],
    ['const url = "http://127.0.0.1:1/";', 0],
    ['const url = "http://[::1]:1/";', 0],
    [`const url = "https:${slash}${slash}mirror.internal/x";`, 1],
    [`test.${"only"}("x", () => {});`, 1],
  ] as const) {
    assert.equal(found(contents, { "a/b.ts": text }).length, problems, text);
  }
});

test("secrets: long hex under a telling name, outside vectors", () => {
  const hex = "ab".repeat(32);
  const planted = JSON.stringify({ privateKey: `0x${hex}` });
  assert.equal(found(secrets, { "a/fixture.json": planted }).length, 1);
  assert.equal(found(secrets, { "a/vectors/fixture.json": planted }).length, 0);
  assert.equal(found(secrets, { "a/fixture.json": JSON.stringify({ blockHash: hex }) }).length, 0);
});

test("environment: entry points only", () => {
  assert.equal(found(environment, { "gateway/src/bids.ts": "process.env.X" }).length, 1);
  assert.equal(found(environment, { "gateway/src/main.ts": "process.env.X" }).length, 0);
});

test("doubles: tests and the simulator only", () => {
  const hooks = "@lattice/organism/testing/fast-crypto/hooks.ts";
  for (const [file, specifier, problems] of [
    ["services/relay/src/main.ts", hooks, 1],
    ["deploy/src/cli/main.ts", hooks, 1],
    ["services/organism/src/node/run-member.ts", "../testing/fast-crypto/hooks.ts", 1],
    ["e2e/src/run-scenario.ts", "./sim/main.ts", 1],
    ["gateway/src/main.ts", "@lattice/e2e/sim/world.ts", 1],
    ["e2e/src/faults/log-ledger.ts", hooks, 1],
    ["e2e/src/faults/log-ledger.ts", "@lattice/organism/testing/member-options.ts", 0],
    ["e2e/src/scenarios/kill-one.ts", "@lattice/organism/testing/member-options.ts", 1],
    ["e2e/src/sim/seed-worker.ts", hooks, 0],
    ["services/relay/test/fixture.ts", hooks, 0],
    ["services/relay/src/core/machine.test.ts", hooks, 0],
    ["services/relay/src/main.ts", "@lattice/organism/node/run-member.ts", 0],
  ] as const) {
    assert.equal(
      found(doubles, { [file]: `import { x } from "${specifier}";` }).length,
      problems,
      `${file}: ${specifier}`,
    );
  }
});

test("imports: undeclared, unused, and development packages outside tests", () => {
  const use = 'import { z } from "zod";\nimport { x } from "@lattice/organism/x.ts";\n';
  const uses = {
    "services/zipnet/src/a.test.ts": 'import fc from "fast-check";',
    "gateway/src/a.ts": 'import "@lattice/zipnet/client/a.ts";',
  };
  assert.deepEqual(found(declaredImports, { ...zipnet(use), ...uses }), []);
  assert.deepEqual(found(declaredImports, { ...zipnet(`${use}import { p } from "pino";\n`), ...uses }), [
    "services/zipnet/src/node/wire.ts:3: pino is not in services/zipnet/package.json",
  ]);
  assert.deepEqual(found(declaredImports, { ...zipnet('import { z } from "zod";'), ...uses }), [
    "services/zipnet/package.json: @lattice/organism is not used",
  ]);
  assert.deepEqual(found(declaredImports, { ...zipnet(`${use}import fc from "fast-check";`), ...uses }), [
    "services/zipnet/src/node/wire.ts:3: fast-check is a devDependency, used outside tests",
  ]);
  const planted = plantedRepository({
    "a.ts":
      'import {\n  b,\n} from "b";\nexport * from "c/d.js";\nconst e = await import("@lattice/organism/g.ts");\nimport "./h.ts";\nimport type { I } from "i";\n',
  });
  assert.deepEqual(
    importsOf(planted, "a.ts")
      .map(({ specifier }) => specifier)
      .sort(),
    ["./h.ts", "@lattice/organism/g.ts", "b", "c/d.js", "i"],
  );
});

test("versions: exact, alike, and every package a workspace", () => {
  assert.deepEqual(found(exactVersions, PACKAGES), []);
  const other = (version: string) => ({
    ...PACKAGES,
    "gateway/package.json": JSON.stringify({ name: "@lattice/gateway", dependencies: { zod: version } }),
  });
  assert.equal(found(exactVersions, other("^4.4.3")).length, 2);
  assert.equal(found(exactVersions, other("4.4.2")).length, 1);
  assert.equal(found(exactVersions, { ...PACKAGES, "other/package.json": JSON.stringify({ name: "x" }) }).length, 1);
});

test("direction: up, sideways, out of the package, and through a service's back door", () => {
  assert.deepEqual(
    found(direction, zipnet('import { a } from "@lattice/organism/a.ts";\nimport { b } from "../core/b.ts";')),
    [],
  );
  assert.equal(found(direction, zipnet('import { a } from "@lattice/gateway/a.ts";')).length, 1);
  assert.equal(found(direction, zipnet('import { a } from "../../../organism/src/a.ts";')).length, 1);
  const fromTest = (specifier: string) =>
    found(direction, zipnet(`import { a } from "${specifier}";`, "services/zipnet/test/a.ts"));
  assert.equal(fromTest("../../organism/test/a.ts").length, 0);
  assert.equal(fromTest("../../organism/src/a.ts").length, 1);
  assert.equal(fromTest("../../../gateway/test/a.ts").length, 1);
  const sideways = {
    ...zipnet('import { a } from "@lattice/unseal/client/a.ts";'),
    "services/unseal/package.json": JSON.stringify({ name: "@lattice/unseal" }),
  };
  assert.deepEqual(found(direction, sideways), [
    "services/zipnet/src/node/wire.ts:1: services/zipnet may not import services/unseal",
  ]);
  assert.deepEqual(found(direction, { ...PACKAGES, "gateway/src/a.ts": 'import "@lattice/zipnet/client/a.ts";' }), []);
  assert.equal(found(direction, { ...PACKAGES, "gateway/src/a.ts": 'import "@lattice/zipnet/node/a.ts";' }).length, 1);
});

test("layers: core is pure, client does without node", () => {
  const core = (text: string) => found(layers, { "services/zipnet/src/core/a.ts": text });
  assert.deepEqual(core('import { hash } from "@lattice/organism/crypto/hash.ts";\nimport { b } from "./b.ts";'), []);
  assert.equal(core('import { readFileSync } from "node:fs";').length, 1);
  assert.equal(core('import { a } from "../node/a.ts";').length, 1);
  assert.equal(core('import { a } from "@lattice/organism/node/kit.ts";').length, 1);
  assert.equal(found(layers, { "services/zipnet/src/client/a.ts": 'import { a } from "../node/a.ts";' }).length, 1);
});

test("lockfile: links only, no registry", () => {
  const lock = (resolved: string, link: boolean) => ({
    "package-lock.json": JSON.stringify({ packages: { "node_modules/a": { resolved, link } } }),
  });
  assert.deepEqual(found(lockfile, lock("services/a", true)), []);
  assert.equal(found(lockfile, lock("registry/a.tgz", false)).length, 1);
});

test("links: files, folders, headings; not code", () => {
  const pages = (text: string) => ({
    "docs/a.md": text,
    "docs/b.md": "# Two words\n\n## `Code` & more\n\n## Two words\n",
    "src/c.ts": "",
  });
  assert.deepEqual(
    found(links, pages("[b](b.md) [c](../src/c.ts) [d](../src/) [e](b.md#two-words-1) [w](https://www.w3.org)")),
    [],
  );
  assert.deepEqual(found(links, pages("```\n[b](gone.md)\n```\n")), []);
  assert.deepEqual(found(links, pages("\n[b](gone.md)")), ["docs/a.md:2: gone.md is not there"]);
  assert.deepEqual(found(links, pages("[b](b.md#three)")), ["docs/a.md:1: b.md#three: no such heading"]);
  assert.deepEqual([...anchorsOf(pages("")["docs/b.md"])], ["two-words", "code--more", "two-words-1"]);
});

test("mentions: a page that a source names", () => {
  assert.deepEqual(found(mentions, { "a/b.ts": "// see docs/a.md", "docs/a.md": "" }), []);
  assert.deepEqual(found(mentions, { "a/b.ts": "\n// see docs/b.md", "docs/a.md": "" }), [
    "a/b.ts:2: docs/b.md is not there",
  ]);
});

test("generated pages: one changed letter is seen", () => {
  const pages = Object.fromEntries(GENERATED_PAGES.map(({ path, render }) => [path, render()]));
  assert.deepEqual(found(generatedPages, pages), []);
  assert.deepEqual(found(generatedPages, { ...pages, "docs/errors.md": `${pages["docs/errors.md"]} ` }), [
    "docs/errors.md: not current; run `npm run generate`",
  ]);
});

test("reasons: known ones, own ones, and nobody else's", () => {
  assert.deepEqual(found(reasons, zipnet('throw fault("NO_ROUND");\nreturn refuse("MALFORMED", "x");')), []);
  assert.deepEqual(found(reasons, zipnet('\nreturn refuse("FREEZE_MISSING", "x");')), [
    "services/zipnet/src/node/wire.ts:2: FREEZE_MISSING is in no catalogue of services/zipnet",
  ]);
  assert.equal(found(reasons, zipnet('throw faultsOf("zipnet", COMMON)("NO_SUCH_REASON");')).length, 1);
  assert.deepEqual(found(reasons, zipnet('/** `throw fault("NO_SUCH_REASON")` */')), []);
});

test("process problems: in the source and on the page", () => {
  const file = "services/organism/src/ports.ts";
  const documented = '  readonly reason: "LOG_FULL" | "ENTRY_TOO_LARGE" | "NOT_PERMITTED";';
  const about = (text: string) => found(processProblems, { [file]: text }).filter((line) => line.includes(file));
  assert.deepEqual(about(documented), []);
  assert.deepEqual(about(`${documented}\n  readonly reason: "LOG_ODD";`), [
    `${file}: LOG_ODD is not in process-problems.ts`,
  ]);
  assert.equal(about('  readonly reason: "LOG_FULL";').length, 2);
});

test("settings: read, named and told", () => {
  const read = (text: string) => found(settings, { "gateway/src/main.ts": text });
  assert.deepEqual(read('process.env["GATEWAY_LISTEN"]; process.env.PATH'), []);
  assert.equal(read('process.env["GATEWAY_SECRET_DOOR"]').length, 2);
  assert.equal(read("process.env.SECRET_DOOR").length, 1);
  const page = Object.keys(UNSEAL.shape)
    .map((name) => `\`${name}\``)
    .join(" ");
  assert.deepEqual(found(settings, { "services/unseal/README.md": page }), []);
  assert.equal(found(settings, { "services/unseal/README.md": "" }).length, Object.keys(UNSEAL.shape).length);
});

test("metrics, calls, tags, decisions", () => {
  assert.deepEqual(found(metrics, { "a/src/b.ts": 'count("lattice_outcomes_total")' }), []);
  assert.equal(found(metrics, { "a/src/b.ts": 'count("lattice_outcome_total")' }).length, 1);

  const proto = {
    "proto/lattice/relay/v1/relay_service.proto": "service RelayService {\n  rpc WatchAccepted(A) returns (B);\n}\n",
  };
  assert.deepEqual(found(calls, { ...proto, "services/relay/README.md": "`WatchAccepted`" }), []);
  assert.equal(found(calls, proto).length, 1);

  const gateway = { "gateway/src/chain-reads.ts": '"eth_call",' };
  assert.deepEqual(found(methods, { ...gateway, "docs/integrators.md": "`eth_call`" }), []);
  assert.equal(found(methods, { ...gateway, "docs/integrators.md": "`eth_callMany`" }).length, 1);

  const crypto = { "docs/cryptography.md": "## Tags\n\n| x | `entry/v1` |\n\n## Other\n\n`state/v1`\n" };
  assert.deepEqual(found(tags, { ...crypto, "services/a/src/b.ts": 'hash("lattice/entry/v1")' }), []);
  assert.deepEqual(found(tags, { ...crypto, "services/a/src/b.ts": 'hash("lattice/entry/v1", "lattice/state/v1")' }), [
    "services/a/src/b.ts:1: tag lattice/state/v1 is not listed in docs/cryptography.md",
  ]);
  assert.deepEqual(found(tags, crypto), ["docs/cryptography.md: tag entry/v1 is used nowhere"]);

  const page = "# 1. X\n\n## Context\n\n## Choice\n\n`zod` and `@noble/*`\n\n## Consequence\n";
  const manifest = (name: string) => ({
    "a/package.json": JSON.stringify({ name: "a", dependencies: { [name]: "1.0.0" } }),
  });
  assert.deepEqual(found(decisions, { "docs/decisions/0001-x.md": page, ...manifest("zod") }), []);
  assert.deepEqual(found(decisions, { "docs/decisions/0001-x.md": page, ...manifest("@noble/curves") }), []);
  assert.equal(found(decisions, { "docs/decisions/0001-x.md": page, ...manifest("pino") }).length, 1);
  assert.equal(found(decisions, { "docs/decisions/0002-x.md": page }).length, 1);
  assert.equal(found(decisions, { "docs/decisions/0001-x.md": page.replace("## Choice", "") }).length, 1);
});

test("pages: schemas become rows", () => {
  const schema = z.object({
    A_COUNT: z.coerce.number().int().min(0).max(16).default(1).describe("how many"),
    A_FILE: z.string().describe("where"),
    A_KIND: z.enum(["b", "c"]).optional().describe("which"),
    A_LISTEN: z.string().regex(/^x$/, "host:port expected").describe("at"),
    A_MUTE: z.string(),
  });
  assert.deepEqual(settingsOf(schema), [
    { name: "A_COUNT", byDefault: "`1`", takes: "0 to 16", meaning: "how many" },
    { name: "A_FILE", byDefault: "required", takes: "path", meaning: "where" },
    { name: "A_KIND", byDefault: "none", takes: "`b`, `c`", meaning: "which" },
    { name: "A_LISTEN", byDefault: "required", takes: "host:port", meaning: "at" },
    { name: "A_MUTE", byDefault: "required", takes: "text", meaning: undefined },
  ]);
  assert.equal(markdownTable(["a"], [[code("b|c")]]), "| a |\n| --- |\n| `b\\|c` |");
});
