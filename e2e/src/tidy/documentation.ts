/** What the documentation promises about the code, and the code about the documentation. */
import { METRICS } from "@lattice/organism/observe/metric-catalogue.ts";
import { CATALOGUES, reasonsOf } from "../docs/catalogues.ts";
import { GENERATED_PAGES } from "../docs/generated-pages.ts";
import { PROCESS_PROBLEMS } from "../docs/process-problems.ts";
import { SETTINGS_GROUPS } from "../docs/settings-page.ts";
import { workspaces } from "./packages.ts";
import { isSource, isTest, lineOf, type Repository, type TidyCheck, withoutComments } from "./repository.ts";

/** GitHub's anchors of a page's headings. */
export function anchorsOf(markdown: string): ReadonlySet<string> {
  const anchors = new Set<string>();
  const times = new Map<string, number>();
  for (const [, title = ""] of withoutCode(markdown).matchAll(/^#{1,6} +(.+?) *#*$/gm)) {
    const slug = title
      .replace(/\[([^\]]*)\]\([^)]*\)/g, "$1")
      .toLowerCase()
      .replace(/[^\p{L}\p{N}\p{M}_ -]/gu, "")
      .replaceAll(" ", "-");
    const seen = times.get(slug) ?? 0;
    times.set(slug, seen + 1);
    anchors.add(seen === 0 ? slug : `${slug}-${seen}`);
  }
  return anchors;
}

/** Fenced blocks blanked, so that lines keep their numbers. */
function withoutCode(markdown: string): string {
  return markdown.replace(/^(```|~~~)[\s\S]*?^\1 *$/gm, (block) => block.replace(/[^\n]/g, ""));
}

const LINK = /!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+"[^"]*")?\s*\)/g;

export const links: TidyCheck = {
  name: "every relative link in a page resolves",
  problems(repository) {
    const files = new Set(repository.files);
    const folders = new Set(
      repository.files.flatMap((path) => path.split("/").map((_, index, parts) => parts.slice(0, index).join("/"))),
    );
    const problems: string[] = [];
    for (const page of repository.files.filter((path) => path.endsWith(".md"))) {
      const text = withoutCode(repository.text(page));
      for (const match of text.matchAll(LINK)) {
        const target = match[1] ?? "";
        if (/^[a-z]+:/.test(target)) continue;
        const [path = "", anchor] = target.split("#", 2);
        const resolved =
          path === "" ? page : decodeURI(new URL(path, `file:///${page}`).pathname.slice(1)).replace(/\/$/, "");
        const where = `${page}:${lineOf(text, match.index)}`;
        if (!files.has(resolved) && !folders.has(resolved)) problems.push(`${where}: ${target} is not there`);
        else if (anchor !== undefined && resolved.endsWith(".md") && !anchorsOf(repository.text(resolved)).has(anchor))
          problems.push(`${where}: ${target}: no such heading`);
      }
    }
    return problems;
  },
};

export const mentions: TidyCheck = {
  name: "every page that a source names is there",
  problems(repository) {
    const files = new Set(repository.files);
    const named = /\bdocs\/[a-z0-9-]+(?:\/[a-z0-9-]+)*\.(?:md|svg)\b/g;
    return repository.files
      .filter(
        (path) => !path.endsWith(".md") && !/^(?:package-lock\.json|e2e\/test\/tidy\.test\.ts|proto\/gen\/)/.test(path),
      )
      .filter((path) => /\.(?:ts|mjs|proto|ya?ml|sh|json)$|Dockerfile$/.test(path))
      .flatMap((path) => {
        const text = repository.text(path);
        return [...text.matchAll(named)]
          .filter(([page]) => !files.has(page))
          .map((match) => `${path}:${lineOf(text, match.index)}: ${match[0]} is not there`);
      });
  },
};

export const generatedPages: TidyCheck = {
  name: "generated pages and files are current",
  problems(repository) {
    return GENERATED_PAGES.filter(
      ({ path, render }) => !repository.files.includes(path) || repository.text(path) !== render(),
    ).map(({ path }) => `${path}: not current; run \`npm run generate\``);
  },
};

/** Functions whose first argument is a reason, and objects that carry one. */
const REASON_USES: readonly RegExp[] = [
  /\b(?:fault|refuse|refused|unfit|reject|given|[a-z]+Fault)\(\s*"([A-Z][A-Z0-9_]*)"/g,
  /\bfaultOf\(\{\s*reason:\s*"([A-Z][A-Z0-9_]*)"/g,
  /\bfaultsOf\([^)]*\)\(\s*"([A-Z][A-Z0-9_]*)"/g,
];

function packageFolder(repository: Repository, path: string): string {
  const folders = workspaces(repository).map(({ folder }) => folder);
  return (
    folders.filter((folder) => folder !== "" && path.startsWith(`${folder}/`)).sort((a, b) => b.length - a.length)[0] ??
    ""
  );
}

export const reasons: TidyCheck = {
  name: "every reason that code gives is in a catalogue, and every reason of a catalogue is given somewhere",
  problems(repository) {
    const problems: string[] = [];
    const given = new Set<string>();
    for (const file of repository.files) {
      if (!isSource(file) || isTest(file) || file.startsWith("e2e/")) continue;
      const text = withoutComments(repository.text(file));
      const folder = packageFolder(repository, file);
      const known = reasonsOf(folder);
      for (const match of REASON_USES.flatMap((pattern) => [...text.matchAll(pattern)])) {
        const reason = match[1] ?? "";
        if (!known.has(reason))
          problems.push(`${file}:${lineOf(text, match.index)}: ${reason} is in no catalogue of ${folder}`);
      }
      // Looser on this side: a reason may travel through a table or a conditional.
      const own = CATALOGUES.some((each) => each.file === file)
        ? text.replace(/^ {2}[A-Z][A-Z0-9_]*: \{$/gm, "")
        : text;
      for (const [, word = ""] of own.matchAll(/["'.]([A-Z][A-Z0-9_]+)\b/g)) given.add(word);
    }
    for (const { file, catalogue } of CATALOGUES) {
      if (!repository.files.includes(file)) continue;
      for (const [reason, { meaning, remedy }] of Object.entries(catalogue)) {
        if (!given.has(reason)) problems.push(`${file}: ${reason} is given nowhere`);
        for (const sentence of [meaning, remedy]) {
          if (!/^\S.*\.$/s.test(sentence)) problems.push(`${file}: ${reason}: "${sentence}" is not a sentence`);
        }
      }
    }
    return problems;
  },
};

/** The words of a `reason:` union, and those that a member falls silent with. */
function processReasons(text: string): ReadonlySet<string> {
  const found = new Set<string>();
  for (const [union = ""] of text.matchAll(/\breason:(?:\s*\|?\s*"[A-Z_]+")+/g)) {
    for (const [, word = ""] of union.matchAll(/"([A-Z_]+)"/g)) found.add(word);
  }
  for (const [, word = ""] of text.matchAll(/\b(?:onFatal|onLost|fail|lose)\??\.?\(\s*"([A-Z_]+)"/g)) found.add(word);
  return found;
}

export const processProblems: TidyCheck = {
  name: "what ends a process is documented, word for word",
  problems(repository) {
    return PROCESS_PROBLEMS.flatMap(({ files, problems: group }) => {
      const documented = new Set(group.map(({ reason }) => reason));
      const inSource = new Set(
        files.flatMap((file) => (repository.files.includes(file) ? [...processReasons(repository.text(file))] : [])),
      );
      return [
        ...[...inSource]
          .filter((word) => !documented.has(word))
          .map((word) => `${files[0]}: ${word} is not in process-problems.ts`),
        ...[...documented]
          .filter((word) => !inSource.has(word))
          .map((word) => `process-problems.ts: ${word} is not in ${files.join(", ")}`),
      ];
    });
  },
};

/** Prefixes of environment variables that are ours. */
const OWN_VARIABLE =
  /["'`]((?:LATTICE|ZIPNET|UNSEAL|OFFER|ATELIER|RELAY|TALLY|GATEWAY|AGGREGATOR|SEQUENCER|NATS)_[A-Z0-9_]+)["'`]/g;
const READ_FROM_ENVIRONMENT = /\b(?:process\.env|environment)(?:\.|\[")([A-Z][A-Z0-9_]*)/g;
/** Read by name, but the operating system's or npm's. */
const FOREIGN_VARIABLES = new Set(["PATH", "HOME", "npm_execpath"]);

export const settings: TidyCheck = {
  name: "every setting is documented, in the generated page and in its service's own",
  problems(repository) {
    const documented = new Set(SETTINGS_GROUPS.flatMap(({ settings: group }) => group.map(({ name }) => name)));
    const problems = SETTINGS_GROUPS.flatMap(({ title, settings: group }) =>
      group
        .filter(({ meaning }) => meaning === undefined || meaning === "")
        .map(({ name }) => `${title}: ${name}: .describe() is missing`),
    );
    for (const file of repository.files) {
      if (!/\.(?:ts|mjs)$/.test(file) || /^(?:proto\/gen|e2e)\//.test(file) || isTest(file)) continue;
      const text = repository.text(file);
      for (const match of text.matchAll(READ_FROM_ENVIRONMENT)) {
        const name = match[1] ?? "";
        if (!documented.has(name) && !FOREIGN_VARIABLES.has(name))
          problems.push(`${file}:${lineOf(text, match.index)}: ${name} is not documented`);
      }
      for (const match of file.startsWith("services/") || file.startsWith("gateway/")
        ? text.matchAll(OWN_VARIABLE)
        : []) {
        const name = match[1] ?? "";
        if (!documented.has(name) && !isReason(repository, name))
          problems.push(`${file}:${lineOf(text, match.index)}: ${name} is not documented`);
      }
    }
    for (const { title, settings: group } of SETTINGS_GROUPS) {
      const page = `services/${title}/README.md`;
      if (!repository.files.includes(page)) continue;
      const text = repository.text(page);
      for (const { name } of group) if (!text.includes(`\`${name}\``)) problems.push(`${page}: ${name} is missing`);
    }
    return problems;
  },
};

/** Reasons look like variables (`NATS_TOO_OLD`). */
function isReason(repository: Repository, word: string): boolean {
  return (
    PROCESS_PROBLEMS.some(({ problems }) => problems.some(({ reason }) => reason === word)) ||
    workspaces(repository).some(({ folder }) => reasonsOf(folder).has(word))
  );
}

export const metrics: TidyCheck = {
  name: "every metric that code names is in the catalogue",
  problems(repository) {
    return repository.files
      .filter((file) => isSource(file) && !isTest(file) && !file.startsWith("e2e/"))
      .flatMap((file) => {
        const text = repository.text(file);
        return [
          ...text.matchAll(/"(lattice_[a-z0-9_]+_(?:total|seconds|bytes|position|refusing|participants|streams))"/g),
        ]
          .filter((match) => !((match[1] ?? "") in METRICS))
          .map((match) => `${file}:${lineOf(text, match.index)}: ${match[1]} is not in the catalogue`);
      });
  },
};

/** Where a service's calls are told: its own page; the gateway's are the integrators'. */
function pageOf(protoFile: string): string | undefined {
  const organism = /^proto\/lattice\/([a-z]+)\/v1\//.exec(protoFile)?.[1];
  if (organism === undefined) return undefined;
  if (organism === "gateway") return "docs/integrators.md";
  return organism === "committee" ? "docs/operators.md" : `services/${organism}/README.md`;
}

export const calls: TidyCheck = {
  name: "every RPC is told on its page",
  problems(repository) {
    const problems: string[] = [];
    for (const file of repository.files.filter((path) => path.endsWith(".proto"))) {
      const page = pageOf(file);
      if (page === undefined) continue;
      const text = repository.files.includes(page) ? repository.text(page) : "";
      for (const [, name = ""] of repository.text(file).matchAll(/^ {2}rpc (\w+)\(/gm)) {
        if (!text.includes(name)) problems.push(`${page}: ${name} of ${file} is missing`);
      }
    }
    return problems;
  },
};

const METHOD = /"((?:eth|net|web3|lattice)_[A-Za-z0-9]+)"/g;
const METHOD_FILES = ["gateway/src/rpc-methods.ts", "gateway/src/chain-reads.ts"];

export const methods: TidyCheck = {
  name: "every JSON-RPC method of the gateway is told to integrators",
  problems(repository) {
    const page = repository.files.includes("docs/integrators.md") ? repository.text("docs/integrators.md") : "";
    const told = new Set([...page.matchAll(/\b((?:eth|net|web3|lattice)_[A-Za-z0-9]+)\b/g)].map(([, name]) => name));
    return METHOD_FILES.filter((file) => repository.files.includes(file)).flatMap((file) =>
      [...withoutComments(repository.text(file)).matchAll(METHOD)]
        .filter(([, name]) => !told.has(name))
        .map(([, name]) => `docs/integrators.md: ${name} of ${file} is missing`),
    );
  },
};

const TAG = /["'`]((?:lattice|zipnet)\/[a-z0-9-]+(?:\/[a-z0-9-]+)*\/v\d+)["'`]/g;
const SUITE = /["'`]([A-Z][A-Z0-9-]*-V\d+_(?:BLS12381|XMD)[A-Z0-9:_-]*|BLS_SIG_[A-Z0-9:_-]+)["'`]/g;
const CRYPTOGRAPHY = "docs/cryptography.md";

/** Tags that the page lists: code spans in its table of tags, where `lattice/` goes without saying. */
function listedTags(page: string): ReadonlySet<string> {
  const section = /^## Tags\n([\s\S]*?)(?=^## |(?![\s\S]))/m.exec(page)?.[1] ?? "";
  return new Set([...section.matchAll(/`([a-z0-9-]+(?:\/[a-z0-9-]+)*\/v\d+)`/g)].map(([, tag = ""]) => tag));
}

export const tags: TidyCheck = {
  name: "every hash and signature tag is listed in docs/cryptography.md, and every listed one is in use",
  problems(repository) {
    const page = repository.files.includes(CRYPTOGRAPHY) ? repository.text(CRYPTOGRAPHY) : "";
    const listed = listedTags(page);
    const used = new Set<string>();
    const problems: string[] = [];
    for (const file of repository.files) {
      if (!isSource(file) || isTest(file) || /^(?:e2e|proto)\//.test(file)) continue;
      const text = repository.text(file);
      for (const match of text.matchAll(TAG)) {
        const tag = (match[1] ?? "").replace(/^lattice\//, "");
        used.add(tag);
        if (!listed.has(tag))
          problems.push(`${file}:${lineOf(text, match.index)}: tag ${match[1]} is not listed in ${CRYPTOGRAPHY}`);
      }
      for (const match of text.matchAll(SUITE)) {
        if (!page.includes(match[1] ?? ""))
          problems.push(`${file}:${lineOf(text, match.index)}: suite ${match[1]} is not listed in ${CRYPTOGRAPHY}`);
      }
    }
    for (const tag of listed) if (!used.has(tag)) problems.push(`${CRYPTOGRAPHY}: tag ${tag} is used nowhere`);
    return problems;
  },
};

const DECISION = /^docs\/decisions\/(\d{4})-[a-z0-9-]+\.md$/;
const DECISION_PARTS = ["Context", "Choice", "Consequence"];

export const decisions: TidyCheck = {
  name: "decisions are numbered and whole, and every runtime dependency has its sentence",
  problems(repository) {
    const problems: string[] = [];
    const pages = repository.files.filter((path) => DECISION.test(path));
    for (const [index, page] of pages.entries()) {
      if (Number(DECISION.exec(page)?.[1]) !== index + 1) problems.push(`${page}: number ${index + 1} expected`);
      const text = repository.text(page);
      for (const part of DECISION_PARTS)
        if (!text.includes(`\n## ${part}\n`)) problems.push(`${page}: "${part}" is missing`);
    }
    const told = pages.map((page) => repository.text(page)).join("\n");
    for (const { folder, manifest } of workspaces(repository)) {
      for (const name of Object.keys(manifest.dependencies ?? {})) {
        if (name.startsWith("@lattice/") || told.includes(`\`${name}\``)) continue;
        const scope = name.startsWith("@") ? `\`${name.split("/")[0]}/*\`` : undefined;
        if (scope === undefined || !told.includes(scope))
          problems.push(`${folder}/package.json: ${name} has no sentence in docs/decisions/`);
      }
    }
    return problems;
  },
};
