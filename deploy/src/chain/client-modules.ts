/**
 * Preloaded (`--import`) into the execution client's process: its siblings import one another as the client imports
 * them.
 *
 * The client pins version 10.0.0 of its siblings, atelier uses 10.1.3. npm nests most of the old set below the client
 * but hoists the four that atelier does not use, and these then see atelier's `@ethereumjs/block`: two `Block` classes
 * in one process, `instanceof` fails, no block can be stored. Nothing of the client's own code is changed.
 */
import { registerHooks } from "node:module";

const client = import.meta.resolve("@ethereumjs/client");
const HOISTED = /\/node_modules\/@ethereumjs\/(blockchain|devp2p|ethash|genesis)\//;

registerHooks({
  resolve(specifier, context, nextResolve) {
    const misplaced = specifier.startsWith("@ethereumjs/") && HOISTED.test(context.parentURL ?? "");
    return nextResolve(specifier, misplaced ? { ...context, parentURL: client } : context);
  },
});
