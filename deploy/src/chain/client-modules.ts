/**
 * Preloaded (`--import`) into the execution client's process: makes every `@ethereumjs/*` import resolve as the client
 * itself resolves it.
 *
 * The client pins version 10.0.0 of its siblings, atelier uses 10.1.3. npm nests most of the old set below the client
 * but hoists those of which there is one version only (`@ethereumjs/blockchain`), and these then see the new
 * `@ethereumjs/block`: two `Block` classes in one process, `instanceof` fails, no block can be stored. Nothing of the
 * client's code is changed.
 */
import { registerHooks } from "node:module";

const client = import.meta.resolve("@ethereumjs/client");

registerHooks({
  resolve(specifier, context, nextResolve) {
    if (!specifier.startsWith("@ethereumjs/")) return nextResolve(specifier, context);
    return nextResolve(specifier, { ...context, parentURL: client });
  },
});
