/** Everything that e2e/test/tidy.test.ts asserts about the repository. */
import {
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
} from "./documentation.ts";
import { contents, environment, fileNames, secrets, skeleton } from "./files.ts";
import { declaredImports, direction, doubles, exactVersions, layers, lockfile } from "./packages.ts";
import type { TidyCheck } from "./repository.ts";

export const TIDY_CHECKS: readonly TidyCheck[] = [
  skeleton,
  fileNames,
  contents,
  secrets,
  environment,
  declaredImports,
  exactVersions,
  direction,
  layers,
  doubles,
  lockfile,
  links,
  mentions,
  generatedPages,
  reasons,
  processProblems,
  settings,
  metrics,
  calls,
  methods,
  tags,
  decisions,
];
