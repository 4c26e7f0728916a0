/**
 * Puts the fast doubles in the place of `crypto/` for this thread: a hook on module resolution, which must be
 * registered before anything of the runtime is imported. No module of the runtime knows of it, and there is no setting
 * for it: a process that does not import this file cannot get them.
 */
import { registerHooks } from "node:module";

/** Files of `crypto/` that are replaced. */
export const DOUBLED: readonly string[] = [
  "bls",
  "threshold",
  "shamir",
  "ed25519",
  "x25519",
  "box",
  "identity-key",
  "ibe",
  "secp256k1",
  "engine",
];

const REAL = new Map(
  DOUBLED.map((name) => [
    new URL(`../../crypto/${name}.ts`, import.meta.url).href,
    new URL(`./${name}.ts`, import.meta.url).href,
  ]),
);

/** @returns what takes them away again; modules that are loaded stay loaded */
export function useFastCrypto(): () => void {
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      const resolved = next(specifier, context);
      const double = REAL.get(resolved.url);
      return double === undefined ? resolved : { ...resolved, url: double };
    },
  });
  return () => hooks.deregister();
}
