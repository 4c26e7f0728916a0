/** The project's files as the checks see them: real ones here, planted ones in the checks' own tests. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Repository {
  /** Paths below the project's folder, `/` between parts, ascending. */
  readonly files: readonly string[];
  /** The text of one of `files`. */
  text(path: string): string;
}

/** One rule. Its problems are lines that name a file; none means that the rule holds. */
export interface TidyCheck {
  readonly name: string;
  readonly problems: (repository: Repository) => readonly string[];
}

/** What .gitignore leaves out; a test compares. */
export const IGNORED_FOLDERS: readonly string[] = ["node_modules", ".tools", ".lattice"];
const IGNORED_SUFFIX = ".log";

function walk(root: string, folder: string, into: string[]): void {
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory()) {
      if (entry.name !== ".git" && !IGNORED_FOLDERS.includes(entry.name)) walk(root, path, into);
    } else if (entry.name !== ".git" && !entry.name.endsWith(IGNORED_SUFFIX)) into.push(path);
  }
}

/** Everything below `root` that git would keep. */
export function readRepository(root: string): Repository {
  const files: string[] = [];
  walk(root, "", files);
  files.sort();
  const texts = new Map<string, string>();
  return {
    files,
    text(path) {
      const known = texts.get(path);
      if (known !== undefined) return known;
      const text = readFileSync(join(root, path), "utf8");
      texts.set(path, text);
      return text;
    },
  };
}

/** A repository that exists only here. */
export function plantedRepository(contents: Readonly<Record<string, string>>): Repository {
  return { files: Object.keys(contents).sort(), text: (path) => contents[path] ?? "" };
}

/** TypeScript that people wrote. */
export function isSource(path: string): boolean {
  return path.endsWith(".ts") && !path.startsWith("proto/gen/");
}

/** Tests, benchmarks and what stands only in their folders. */
export function isTest(path: string): boolean {
  return /\.(?:test|bench|e2e)\.ts$/.test(path) || /(?:^|\/)(?:test|testing)\//.test(path);
}

export function lineOf(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

/** Comments blanked, so that lines keep their numbers. Good enough for our style: no comment marks inside strings. */
export function withoutComments(text: string): string {
  const blank = (comment: string): string => comment.replace(/[^\n]/g, " ");
  return text.replace(/\/\*\*?[\s\S]*?\*\//g, blank).replace(/^\s*\/\/.*$/gm, blank);
}
