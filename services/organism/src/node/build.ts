/** What this build calls itself when members compare which rules they can follow: name and version of the runtime. */
import { readFileSync } from "node:fs";
import { z } from "zod";

const PACKAGE = z.object({ version: z.string().max(24) });

export const BUILD_NAME = `lattice ${
  PACKAGE.parse(JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8"))).version
}`;
