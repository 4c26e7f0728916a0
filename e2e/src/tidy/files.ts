/** Names and contents of files. */
import { isSource, lineOf, type TidyCheck } from "./repository.ts";

/** Files of one service, the same in all six. */
export const SKELETON: readonly string[] = [
  "README.md",
  "package.json",
  "src/main.ts",
  "src/config.ts",
  "src/definition.ts",
  "src/core/types.ts",
  "src/core/machine.ts",
  "src/core/codec.ts",
  "src/core/faults.ts",
  "src/node/service.ts",
  "src/node/wire.ts",
  "src/node/effects.ts",
  "src/node/clients.ts",
];
const SERVICES = ["zipnet", "unseal", "offer", "atelier", "relay", "tally"] as const;
const MAIN_LINES_MAX = 30;

export const skeleton: TidyCheck = {
  name: "six services of one skeleton",
  problems(repository) {
    const files = new Set(repository.files);
    return SERVICES.flatMap((service) => {
      const folder = `services/${service}`;
      const missing = SKELETON.filter((name) => !files.has(`${folder}/${name}`)).map(
        (name) => `${folder}/${name}: missing`,
      );
      if (!repository.files.some((path) => path.startsWith(`${folder}/`) && /\.test\.ts$/.test(path)))
        missing.push(`${folder}: no test`);
      if (!files.has(`docs/protocol/${service}.md`)) missing.push(`docs/protocol/${service}.md: missing`);
      const main = `${folder}/src/main.ts`;
      const lines = files.has(main) ? repository.text(main).split("\n").length - 1 : 0;
      return lines > MAIN_LINES_MAX ? [...missing, `${main}: ${lines} lines, at most ${MAIN_LINES_MAX}`] : missing;
    });
  },
};

/** Names that other tools or conventions give. */
const GIVEN_NAMES =
  /^(?:README\.md|LICENSE|Dockerfile|\.gitignore|\.dockerignore|\.npmrc|\.nvmrc|[A-Z][A-Za-z]*\.sol|Settlement\.json|[a-z0-9_]+\.proto|[a-z0-9_]+_pb\.ts)$/;
const KEBAB = /^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z0-9]+(?:-[a-z0-9]+)*)*$/;
/** A helper without a name of its own has not been understood yet. */
const NAMELESS = /^(?:index|utils?|helpers?|common|misc|shared|types?)\.[a-z.]+$/;

export const fileNames: TidyCheck = {
  name: "files are named in kebab-case after the idea in them",
  problems(repository) {
    return repository.files.flatMap((path) => {
      const name = path.split("/").at(-1) ?? "";
      if (path.includes("/vectors/")) return [];
      if (!KEBAB.test(name) && !GIVEN_NAMES.test(name)) return [`${path}: not kebab-case`];
      // A service's vocabulary is core/types.ts, by the skeleton.
      return isSource(path) && NAMELESS.test(name) && !/\/core\/types\.ts$/.test(path)
        ? [`${path}: a name of its own is missing`]
        : [];
    });
  },
};

interface Pattern {
  readonly pattern: RegExp;
  readonly why: string;
  /** Files in which it means something else. */
  readonly unless?: RegExp;
}

/** Pieces are put together here, so that this file does not find itself. */
const FORBIDDEN: readonly Pattern[] = [
  {
    pattern: new RegExp(
      `\\b(?:${["TO", "FIX"].map((start) => `${start}${start === "TO" ? "DO" : "ME"}`).join("|")})\\b`,
    ),
    why: "unfinished work belongs into an issue",
  },
  {
    pattern: /(?:^|[\s"'`(=:])\/(?:work|tmp|home|root|Users|mnt)(?:\/|["'`])/m,
    why: "a path of somebody's machine",
    unless: /(?:^|\/)(?:Dockerfile|compose\.yaml)$/,
  },
  { pattern: /\.only\(/, why: "a test that hides the others" },
  { pattern: /@ts-(?:ignore|expect-error|nocheck)/, why: "types are not to be silenced" },
];

/** Hosts that may be named: this machine and its containers (no dot), and where specifications are. */
const HOSTS =
  /^(?:127\.0\.0\.1|0\.0\.0\.0|\[::1\]|[a-z0-9-]+|…,?|www\.w3\.org|github\.com|eips\.ethereum\.org|eprint\.iacr\.org|datatracker\.ietf\.org|www\.rfc-editor\.org|(?:.+\.)?example(?:\.org|\.com)?|\$\{.*)$/;
/** Licence and funding links of packages, and formats made by others. */
const FOREIGN = /^package-lock\.json$|\/vectors\/|^proto\/(?:gen|google|grpc)\/|\.sol$|^services\/tally\/contracts\//;

export const contents: TidyCheck = {
  name: "no unfinished marks, machine paths, foreign hosts or silenced types",
  problems(repository) {
    const problems: string[] = [];
    for (const path of repository.files) {
      if (/\.(?:gz|png|ssz|wasm)$/.test(path) || path.startsWith("proto/gen/")) continue;
      const text = repository.text(path);
      if (path !== "package-lock.json" && path !== "e2e/src/tidy/files.ts" && path !== "e2e/test/tidy.test.ts") {
        for (const { pattern, why, unless } of FORBIDDEN) {
          const found = unless?.test(path) === true ? null : pattern.exec(text);
          if (found !== null) problems.push(`${path}:${lineOf(text, found.index)}: ${found[0].trim()}: ${why}`);
        }
      }
      if (FOREIGN.test(path)) continue;
      for (const match of text.matchAll(/\bhttps?:\/\/(\[[0-9a-f:]+\]|[^\s/:"'`)>\\]+)/g)) {
        const host = match[1] ?? "";
        if (!HOSTS.test(host))
          problems.push(`${path}:${lineOf(text, match.index)}: the host ${host} is not to be named here`);
      }
    }
    return problems;
  },
};

export const secrets: TidyCheck = {
  name: "no secrets in fixtures",
  problems(repository) {
    const problems: string[] = [];
    for (const path of repository.files) {
      if (!/\.(?:json|ya?ml|toml|env|txt)$/.test(path) || /\/vectors\/|^package-lock\.json$/.test(path)) continue;
      const text = repository.text(path);
      for (const match of text.matchAll(
        /"?([A-Za-z_.-]*(?:key|secret|seed|password|share|token|mnemonic)[A-Za-z_.-]*)"?\s*[:=]\s*"?(?:0x)?[0-9a-fA-F]{32,}/gi,
      )) {
        problems.push(`${path}:${lineOf(text, match.index)}: ${match[1]} looks like a secret`);
      }
      const pem = /-----BEGIN [A-Z ]*PRIVATE KEY-----/.exec(text);
      if (pem !== null) problems.push(`${path}:${lineOf(text, pem.index)}: a private key`);
    }
    return problems;
  },
};

/** Files that may read the environment: entry points, and what a library asks for there. */
const ENVIRONMENT_READERS: readonly RegExp[] = [
  /(?:^|\/)(?:main|[a-z-]+-main|run-[a-z-]+|generate)\.ts$/,
  /^deploy\/bin\//,
  /^e2e\//,
  /\.test\.ts$|\/test\/|\.bench\.ts$/,
  // Handed on to children, or asked for a program's place.
  /^deploy\/src\/local\/(?:broker|compile-cache|processes)\.ts$/,
  // What OpenTelemetry, grpc-js and Node themselves read.
  /^services\/organism\/src\/(?:observe\/(?:metric-catalogue|tracing)|rpc\/server)\.ts$/,
];

export const environment: TidyCheck = {
  name: "only entry points read the environment",
  problems(repository) {
    return repository.files
      .filter((path) => /\.(?:ts|mjs)$/.test(path) && !path.startsWith("proto/gen/"))
      .filter((path) => /\bprocess\.env\b/.test(repository.text(path)))
      .filter((path) => !ENVIRONMENT_READERS.some((pattern) => pattern.test(path)))
      .map((path) => `${path}: reads process.env; take a setting instead`);
  },
};
