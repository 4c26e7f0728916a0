/** Stands in for `crypto/engine.ts` in simulations: there is nothing to load. */
export function initCrypto(): Promise<void> {
  return Promise.resolve();
}

export function fastEngine(): never {
  throw new Error("simulated cryptography has no pairing engine");
}
