/** The workspaces and what they may import. */
import { isBuiltin } from "node:module";
import { isSource, isTest, lineOf, type Repository, type TidyCheck } from "./repository.ts";

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly workspaces?: readonly string[];
}

export interface Workspace {
  /** `services/zipnet`; "" is the root. */
  readonly folder: string;
  readonly manifest: Manifest;
}

/** Lower stands below: a package imports only from lower ranks. */
const RANKS: readonly (readonly [pattern: RegExp, rank: number])[] = [
  [/^proto$/, 0],
  [/^services\/organism$/, 1],
  [/^services\/[a-z]+$/, 2],
  [/^gateway$/, 3],
  [/^deploy$/, 4],
  [/^e2e$/, 5],
];

export function workspaces(repository: Repository): readonly Workspace[] {
  return repository.files
    .filter((path) => path === "package.json" || path.endsWith("/package.json"))
    .map((path) => ({
      folder: path.split("/").slice(0, -1).join("/"),
      manifest: JSON.parse(repository.text(path)) as Manifest,
    }));
}

function ownerOf(all: readonly Workspace[], path: string): Workspace | undefined {
  return all.find(({ folder }) => folder !== "" && path.startsWith(`${folder}/`));
}

function rankOf(folder: string): number {
  return RANKS.find(([pattern]) => pattern.test(folder))?.[1] ?? Number.POSITIVE_INFINITY;
}

export interface Import {
  readonly file: string;
  readonly line: number;
  readonly specifier: string;
}

const FROM = /^(?:import|export)\b[^"';]*?\bfrom\s+"([^"\n]+)"|^import\s+"([^"\n]+)"/gm;
const CALLED = /(?:^|[^\w.])(?:import|require\.resolve|import\.meta\.resolve)\(\s*"([^"\n]+)"\s*[,)]/g;

/** Every import that a reader of the file sees: static, dynamic, or a module that is only resolved. */
export function importsOf(repository: Repository, file: string): readonly Import[] {
  const text = repository.text(file);
  return [FROM, CALLED].flatMap((pattern) =>
    [...text.matchAll(pattern)].flatMap((match) => {
      const specifier = match[1] ?? match[2];
      return specifier === undefined ? [] : [{ file, line: lineOf(text, match.index), specifier }];
    }),
  );
}

/** `@scope/name` or `name`; undefined for relative paths and Node's own modules. */
export function packageOf(specifier: string): string | undefined {
  if (specifier.startsWith(".") || specifier.startsWith("node:") || isBuiltin(specifier)) return undefined;
  const parts = specifier.split("/");
  return specifier.startsWith("@") ? parts.slice(0, 2).join("/") : parts[0];
}

const where = ({ file, line }: Import): string => `${file}:${line}`;

/** Named in text rather than imported: resolved at run time by the platform's name, or a contract's import. */
function isNamed(repository: Repository, folder: string, name: string): boolean {
  return repository.files.some(
    (path) =>
      /\.(?:ts|sol)$/.test(path) &&
      path.startsWith(`${folder}/`) &&
      repository.text(path).includes(name.replace(/-(?:linux|darwin)-.*$/, "")),
  );
}

export const declaredImports: TidyCheck = {
  name: "every import is declared by its package, and every declared package is used",
  problems(repository) {
    const all = workspaces(repository);
    const problems: string[] = [];
    for (const workspace of all) {
      const { folder, manifest } = workspace;
      const { dependencies = {}, devDependencies = {}, optionalDependencies = {} } = manifest;
      const used = new Set<string>();
      for (const file of repository.files) {
        if (!/\.m?ts$|\.mjs$/.test(file) || ownerOf(all, file) !== workspace) continue;
        for (const each of importsOf(repository, file)) {
          const name = packageOf(each.specifier);
          if (name === undefined || name === manifest.name) continue;
          used.add(name);
          const declared = name in dependencies || name in optionalDependencies;
          if (!declared && !(name in devDependencies))
            problems.push(`${where(each)}: ${name} is not in ${folder}/package.json`);
          else if (!declared && !isTest(file))
            problems.push(`${where(each)}: ${name} is a devDependency, used outside tests`);
        }
      }
      if (folder === "") continue;
      for (const name of Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies })) {
        if (!used.has(name) && !isNamed(repository, folder, name))
          problems.push(`${folder}/package.json: ${name} is not used`);
      }
    }
    return problems;
  },
};

export const exactVersions: TidyCheck = {
  name: "versions are exact and the same everywhere",
  problems(repository) {
    const seen = new Map<string, { readonly version: string; readonly file: string }>();
    const problems: string[] = [];
    for (const { folder, manifest } of workspaces(repository)) {
      const file = folder === "" ? "package.json" : `${folder}/package.json`;
      const { dependencies = {}, devDependencies = {}, optionalDependencies = {} } = manifest;
      for (const group of [dependencies, devDependencies, optionalDependencies]) {
        for (const [name, version] of Object.entries(group)) {
          if (!/^\d+\.\d+\.\d+(?:-[0-9a-z.-]+)?$/.test(version))
            problems.push(`${file}: ${name} ${version} is not one exact version`);
          const earlier = seen.get(name);
          if (earlier === undefined) seen.set(name, { version, file });
          else if (earlier.version !== version)
            problems.push(`${file}: ${name} ${version}, but ${earlier.version} in ${earlier.file}`);
        }
      }
    }
    const root = workspaces(repository).find(({ folder }) => folder === "");
    const listed = new Set(root?.manifest.workspaces ?? []);
    for (const { folder } of workspaces(repository)) {
      if (folder !== "" && !listed.has(folder))
        problems.push(`${folder}/package.json: not among the root's workspaces`);
    }
    return problems;
  },
};

/** Parts of a service that others may name; the rest is its own. */
const DOORS: readonly { readonly from: RegExp; readonly to: RegExp; readonly why: string }[] = [
  {
    from: /^gateway\/src\//,
    to: /^[a-z]+\/(?:client|core)\//,
    why: "the gateway does without a service's node half",
  },
];

export const direction: TidyCheck = {
  name: "dependencies point one way, and services do not import each other",
  problems(repository) {
    const all = workspaces(repository);
    const byName = new Map(all.map((workspace) => [workspace.manifest.name, workspace]));
    const problems: string[] = [];
    for (const file of repository.files) {
      const owner = ownerOf(all, file);
      if (!isSource(file) || owner === undefined) continue;
      for (const each of importsOf(repository, file)) {
        const { specifier } = each;
        if (specifier.startsWith(".")) {
          const target = new URL(specifier, `file:///${file}`).pathname.slice(1);
          // A package's tests are in no exports; those of packages below may lend what they have built.
          const lender = ownerOf(all, target);
          const lent =
            isTest(file) &&
            lender !== undefined &&
            target.startsWith(`${lender.folder}/test/`) &&
            rankOf(lender.folder) < rankOf(owner.folder);
          if (!target.startsWith(`${owner.folder}/`) && !lent)
            problems.push(`${where(each)}: ${specifier} leaves the package; import it by name`);
          continue;
        }
        const name = packageOf(specifier);
        const target = name === undefined ? undefined : byName.get(name);
        if (target === undefined || target === owner) continue;
        if (rankOf(target.folder) >= rankOf(owner.folder))
          problems.push(`${where(each)}: ${owner.folder} may not import ${target.folder}`);
        if (!/^services\/(?!organism$)/.test(target.folder)) continue;
        const inside = `${target.folder.split("/")[1] ?? ""}/${specifier.slice((name?.length ?? 0) + 1)}`;
        for (const door of DOORS) {
          if (door.from.test(file) && !door.to.test(inside)) problems.push(`${where(each)}: ${specifier}: ${door.why}`);
        }
      }
    }
    return problems;
  },
};

/** Files that a layer's rule does not hold for, and why. */
const LAYER_EXCEPTIONS: Readonly<Record<string, string>> = {
  "services/zipnet/src/client/round-feed.ts":
    "the running client: it needs connections; the pure one is zipnet-client.ts",
  "services/zipnet/src/client/submit.ts": "the running client, as round-feed.ts",
};

/** Inside a service: core ← client, node ← main. The runtime's own I/O is not core's either. */
const LAYERS: readonly { readonly from: RegExp; readonly never: RegExp; readonly why: string }[] = [
  {
    from: /^services\/(?!organism\/)[a-z]+\/src\/core\//,
    never:
      /\/(?:node|aggregator|evm|contract|client)\/|^node:(?!crypto$|util$|assert)|\/organism\/src\/(?:node|log|rpc|observe)\/|^@grpc\/|^@connectrpc\//,
    why: "core/ is pure",
  },
  {
    from: /^services\/(?!organism\/)[a-z]+\/src\/client\//,
    never: /^services\/(?!organism\/)[a-z]+\/src\/node\//,
    why: "client/ does without the node half",
  },
  {
    from: /^services\/(?!organism\/)[a-z]+\/src\/(?:core|node|client)\//,
    never: /\/src\/(?:main|definition)\.ts$/,
    why: "main.ts and definition.ts are on top",
  },
];

export const layers: TidyCheck = {
  name: "inside a service, core does not reach I/O and nothing reaches up",
  problems(repository) {
    const problems: string[] = [];
    for (const file of repository.files) {
      if (!isSource(file) || isTest(file) || file in LAYER_EXCEPTIONS) continue;
      for (const { from, never, why } of LAYERS) {
        if (!from.test(file)) continue;
        for (const each of importsOf(repository, file)) {
          const { specifier } = each;
          const target = specifier.startsWith(".")
            ? new URL(specifier, `file:///${file}`).pathname.slice(1)
            : specifier.replace(/^@lattice\/(organism)\//, "services/$1/src/");
          if (never.test(target)) problems.push(`${where(each)}: ${specifier}: ${why}`);
        }
      }
    }
    return problems;
  },
};

/** What stands in for the real thing, and who may have it: tests, and the simulator. */
const DOUBLES = /(?:^|\/)testing\//;
const SIMULATOR = /^e2e\/src\/sim\//;
/** The fault cells run real members of a committee that is dealt in memory; nothing in them stands in for anything. */
const CELLS = /^e2e\/src\/faults\//;
const DEALT = /\/testing\/(?:dealt-committee|member-options)\.ts$/;

export const doubles: TidyCheck = {
  name: "what is for tests is reached by tests and the simulator alone, and nothing else reaches the simulator",
  problems(repository) {
    const problems: string[] = [];
    for (const file of repository.files) {
      if (!isSource(file) || isTest(file) || SIMULATOR.test(file)) continue;
      for (const each of importsOf(repository, file)) {
        const target = each.specifier.startsWith(".")
          ? new URL(each.specifier, `file:///${file}`).pathname.slice(1)
          : each.specifier.replace(/^@lattice\/e2e\//, "e2e/src/");
        if (CELLS.test(file) && DEALT.test(target)) continue;
        if (DOUBLES.test(target)) problems.push(`${where(each)}: ${each.specifier} is for tests`);
        if (SIMULATOR.test(target)) problems.push(`${where(each)}: ${each.specifier} is the simulator's`);
      }
    }
    return problems;
  },
};

export const lockfile: TidyCheck = {
  name: "the lockfile names no registry",
  problems(repository) {
    if (!repository.files.includes("package-lock.json")) return ["package-lock.json: missing"];
    const lock = JSON.parse(repository.text("package-lock.json")) as {
      readonly packages?: Readonly<Record<string, { readonly resolved?: string; readonly link?: boolean }>>;
    };
    return Object.entries(lock.packages ?? {})
      .filter(([, { resolved, link }]) => resolved !== undefined && link !== true)
      .map(([path, { resolved }]) => `package-lock.json: ${path} is pinned to ${resolved}`);
  },
};
