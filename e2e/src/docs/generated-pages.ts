/** Pages and files that are made from the code. */
import { composeYaml } from "@lattice/deploy/container/compose.ts";
import { errorsPage } from "./errors-page.ts";
import { metricsPage } from "./metrics-page.ts";
import { settingsPage } from "./settings-page.ts";

export interface GeneratedPage {
  /** Below the project's folder. */
  readonly path: string;
  readonly render: () => string;
}

export const GENERATED_PAGES: readonly GeneratedPage[] = [
  { path: "docs/errors.md", render: errorsPage },
  { path: "docs/metrics.md", render: metricsPage },
  { path: "docs/settings.md", render: settingsPage },
  { path: "compose.yaml", render: composeYaml },
];
