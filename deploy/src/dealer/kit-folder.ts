/** What a local lattice's folder begins with, whoever made its keys: config, rosters, identity, and the secrets of no committee. */
import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { toHex } from "@lattice/organism/codec/codec.ts";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId, configToHex, type LatticeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { rostersToJson } from "@lattice/organism/node/kit.ts";

export interface Kit {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: CertifiedOutcome };
  /** Addresses of tally's attesters, ascending. */
  readonly signers: readonly Uint8Array[];
  /** Of the admission tickets' issuer. */
  readonly issuerSeed: Uint8Array;
  readonly sequencerKey: Uint8Array;
}

/** Where one member's things are, below the lattice's folder. */
export function memberFolder(directory: string, organism: Organism, index: number): string {
  return join(directory, "members", `${organism}-${index}`);
}

/** @throws Error EEXIST: secrets are never overwritten */
export function writeSecret(path: string, content: string): void {
  writeFileSync(path, content, { mode: 0o400, flag: "wx" });
}

/** Refuses to write over an earlier kit. */
export function writeKit(directory: string, { config, rosters, signers, issuerSeed, sequencerKey }: Kit): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, "lattice.hex"), `${configToHex(config)}\n`, { flag: "wx" });
  writeFileSync(join(directory, "rosters.json"), rostersToJson(rosters), { flag: "wx" });
  for (const folder of ["admission", "sequencer"]) mkdirSync(join(directory, folder), { recursive: true, mode: 0o700 });
  writeSecret(join(directory, "admission", "issuer.json"), `${JSON.stringify({ seed: toHex(issuerSeed) })}\n`);
  writeSecret(join(directory, "sequencer", "key.json"), `${JSON.stringify({ secret: toHex(sequencerKey) })}\n`);
  const identity = {
    name: config.name,
    chain_id: Number(config.chainId),
    lattice_id: toHex(latticeId(config)),
    keys: config.keys,
    throw_away: config.throwAway,
    committees: Object.fromEntries(ORGANISMS.map((organism) => [organism, toHex(committeeId(config, organism))])),
    tally_signers: signers.map(toHex),
    tally_threshold: config.tally.content.threshold,
    sequencer: toHex(addressOfSecret(sequencerKey)),
  };
  writeFileSync(join(directory, "identity.json"), `${JSON.stringify(identity, null, 2)}\n`, { flag: "wx" });
}

/** A secp256k1 key: any 32 bytes in range; out of range is a one in 2^128 event, tried again. */
export function secp256k1Secret(): Uint8Array {
  for (;;) {
    const secret = new Uint8Array(randomBytes(32));
    try {
      addressOfSecret(secret);
      return secret;
    } catch {
      // Out of range: draw again.
    }
  }
}
