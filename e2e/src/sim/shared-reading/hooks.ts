/** Puts the modules of this folder in the place of the runtime's, for this thread: before anything of it is imported. */
import { registerHooks } from "node:module";

const NAMES = ["entry", "commands"];
const COMMITTEE = new URL("../../../../services/organism/src/committee/", import.meta.url);
const SHARED = new Map(
  NAMES.map((name) => [new URL(`${name}.ts`, COMMITTEE).href, new URL(`./${name}.ts`, import.meta.url).href]),
);

export function shareReading(): void {
  const own = new Set(SHARED.values());
  registerHooks({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      const shared = SHARED.get(resolved.url);
      return shared === undefined || own.has(context.parentURL ?? "") ? resolved : { ...resolved, url: shared };
    },
  });
}
