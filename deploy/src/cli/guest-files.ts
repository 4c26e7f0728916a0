/** What a guest keeps: its own key, its tickets, and the newest state that a quorum certified for it. */
import { randomBytes } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { encode, fromHex, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { type CertifiedCheckpoint, checkCheckpoint, guestHash } from "@lattice/organism/committee/checkpoint.ts";
import type { Eras } from "@lattice/organism/committee/eras.ts";
import { GUEST_STATE } from "@lattice/organism/committee/guest-view.ts";
import { generateSigningKey, type SigningKey } from "@lattice/organism/crypto/ed25519.ts";
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { z } from "zod";
import { writeWhole } from "./whole-file.ts";

const SEED_FILE = z.looseObject({ seed: z.string().regex(/^[0-9a-f]{64}$/) });

/** `{"seed": 32 bytes of hex}`, mode 0400 or 0600: a guest's key, or a ticket issuer's. @throws KitProblem */
export function readSeed(path: string, what: string): SigningKey {
  let mode: number;
  try {
    mode = statSync(path).mode;
  } catch {
    throw new KitProblem(`${what}: cannot read ${path}`);
  }
  if ((mode & 0o077) !== 0) throw new KitProblem(`${what}: ${path} is open to others; mode 400 expected`);
  try {
    return generateSigningKey(fromHex(SEED_FILE.parse(JSON.parse(readFileSync(path, "utf8"))).seed));
  } catch {
    throw new KitProblem(`${what}: ${path} does not hold a 32-byte seed in lower-case hex`);
  }
}

/** A new key in a new file. @throws KitProblem when there is one already */
export function writeSeed(path: string): SigningKey {
  const seed = new Uint8Array(randomBytes(32));
  try {
    writeWhole(path, `${JSON.stringify({ seed: toHex(seed) })}\n`, 0o400, "new");
  } catch (error) {
    throw new KitProblem(`guest key: cannot make ${path}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
  }
  return generateSigningKey(seed);
}

/** Each file one ticket, as its issuer made it. @throws KitProblem */
export function readTickets(paths: readonly string[]): Uint8Array[] {
  return paths.map((path) => {
    try {
      return new TextEncoder().encode(readFileSync(path, "utf8").trim());
    } catch (error) {
      throw new KitProblem(`ticket: cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
    }
  });
}

export interface GuestState {
  readonly certified: CertifiedCheckpoint;
  readonly view: Uint8Array;
}

/** Undefined when there is none yet. @throws KitProblem for a file that is not one, or not of this committee */
export function readGuestState(
  path: string,
  config: LatticeConfig,
  organism: Organism,
  eras?: Eras,
): GuestState | undefined {
  let raw: Uint8Array;
  try {
    raw = new Uint8Array(readFileSync(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw new KitProblem(`guest state: cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? "error"}`);
  }
  const state = tryDecode(GUEST_STATE, raw);
  if (state === undefined) throw new KitProblem(`guest state: ${path} is not one of this version`);
  const refusal = checkCheckpoint(config, organism, state.certified, eras);
  if (refusal !== undefined) throw new KitProblem(`guest state: ${path}: ${refusal.detail}`);
  const { checkpoint } = state.certified;
  if (Buffer.compare(guestHash(state.view), checkpoint.guestHash) !== 0) {
    throw new KitProblem(`guest state: ${path} is damaged`);
  }
  return state;
}

/** The newer replaces the older one whole. */
export function writeGuestState(path: string, { certified, view }: GuestState): void {
  writeWhole(path, encode(GUEST_STATE, { version: 1, certified, view }), 0o600);
}
