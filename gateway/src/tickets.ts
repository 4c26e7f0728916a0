/** Admission tickets and secret files of this gateway. */
import { readFileSync, statSync } from "node:fs";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId, type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import type { Clock } from "@lattice/organism/ports.ts";
import { z } from "zod";
import type { GatewaySettings } from "./config.ts";

/** How long the gateway's own tickets admit. */
const TICKET_SLOTS = 1_000_000n;

/** 32 bytes from a JSON file that only its owner may read. @throws KitProblem, which never quotes the file */
export function readSecretFile(path: string, what: string, field: "seed" | "secret"): Uint8Array {
  let mode: number;
  try {
    mode = statSync(path).mode;
  } catch {
    throw new KitProblem(`${what}: cannot read ${path}`);
  }
  if ((mode & 0o077) !== 0) throw new KitProblem(`${what}: ${path} is open to others; mode 400 expected`);
  const schema = z.object({ [field]: z.string().regex(/^[0-9a-f]{64}$/) });
  try {
    return fromHex(String(schema.parse(JSON.parse(readFileSync(path, "utf8")))[field]));
  } catch {
    throw new KitProblem(`${what}: ${path} does not hold a 32-byte ${field} in lower-case hex`);
  }
}

/** One ticket per admission rule of an organism, for a key of this gateway. */
export type TicketMaker = (organism: Organism, subject: Uint8Array) => readonly Uint8Array[];

/**
 * Tickets from a file that an operator handed out, or, in a throw-away lattice, made with the issuer's key.
 * @throws KitProblem
 */
export function ticketMaker(settings: GatewaySettings, config: LatticeConfig, clock: Clock): TicketMaker {
  const { GATEWAY_ISSUER_FILE: issuerFile, GATEWAY_TICKETS_FILE: ticketsFile } = settings;
  if (issuerFile !== undefined) {
    if (!config.throwAway)
      throw new KitProblem("GATEWAY_ISSUER_FILE: only throw-away lattices let a gateway write its own tickets");
    const issuer = generateSigningKey(readSecretFile(issuerFile, "ticket issuer", "seed"));
    return (organism, subject) =>
      config[organism].acl
        .filter(({ kind }) => kind === "jwt")
        .map(() =>
          signTicket(issuer, {
            audience: committeeId(config, organism),
            subject,
            expSlot: slotAt(config, clock.nowMs()) + TICKET_SLOTS,
          }),
        );
  }
  if (ticketsFile !== undefined) {
    let lines: string[];
    try {
      lines = readFileSync(ticketsFile, "utf8").split("\n");
    } catch {
      throw new KitProblem(`tickets: cannot read ${ticketsFile}`);
    }
    const tickets = lines.flatMap((line) => (line.trim() === "" ? [] : [new TextEncoder().encode(line.trim())]));
    return () => tickets;
  }
  return () => [];
}
