/**
 * Tickets: who may write to a committee (protocols.md §7). Pure, because `apply` is what judges them.
 *
 * A policy is a list of rules and all must pass, with one ticket per rule in the policy's order. Of the kinds that a
 * config can name, this version judges `jwt` (RFC 7519 over EdDSA, RFC 8037) and, in throw-away lattices only, `mock`;
 * the others are refused until their issue comes. An empty policy admits everybody in a throw-away lattice, and
 * nobody elsewhere. Expiry is in slots, never in somebody's wall clock.
 */
import { createPublicKey, sign, verify } from "node:crypto";
import { equalBytes, toHex } from "../codec/codec.ts";
import { isSigningPublicKey, type SigningKey } from "../crypto/ed25519.ts";
import type { FaultCatalogue } from "../fault.ts";
import type { AdmissionRule } from "../identity/lattice-config.ts";
import { type Refusal, refuse } from "../machine.ts";

/** The largest ticket. */
export const TICKET_BYTES_MAX = 2048;

/** Reasons that every organism which takes tickets can give; part of its own catalogue. */
export const TICKET_FAULTS = {
  TICKET_REFUSED: {
    code: "PERMISSION_DENIED",
    meaning: "The ticket does not admit this key to this committee.",
    remedy: "Ask the issuer named in the lattice config for a ticket for this committee and key.",
    retry: false,
  },
  TICKET_EXPIRED: {
    code: "PERMISSION_DENIED",
    meaning: "The ticket's last slot has passed.",
    remedy: "Ask the issuer for a new ticket.",
    retry: false,
  },
  ADMISSION_UNSUPPORTED: {
    code: "UNIMPLEMENTED",
    meaning: "The lattice demands a kind of admission that this version cannot judge.",
    remedy: "Use a lattice config whose admission rules this version knows.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

/** What a ticket is judged against. */
export interface TicketSubject {
  /** COMMITTEE id, 32 bytes: the only audience that counts. */
  readonly audience: Uint8Array;
  /** The key that is to be admitted, 32 bytes. */
  readonly subject: Uint8Array;
  /** Log time's slot: where `apply` stands. */
  readonly slot: bigint;
  readonly throwAway: boolean;
}

/** What a ticket says. */
export interface TicketClaims {
  readonly audience: Uint8Array;
  readonly subject: Uint8Array;
  /** The last slot in which it admits. */
  readonly expSlot: bigint;
}

export type Admission =
  | {
      readonly admitted: true /** The last slot admitted; undefined: the policy sets no end. */;
      readonly expSlot: bigint | undefined;
    }
  | { readonly admitted: false; readonly refusal: Refusal };

const HEADER = base64url(Buffer.from(JSON.stringify({ alg: "EdDSA", typ: "JWT" })));
const SLOT = /^(?:0|[1-9][0-9]{0,19})$/;
const MAX_SLOT = (1n << 64n) - 1n;

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}

/** Strict RFC 4648 §5 without padding; undefined for anything else. */
function fromBase64url(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9_-]*$/.test(text)) return undefined;
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? bytes : undefined;
}

/** A JWT: `iss` the issuer's key, `aud` the committee id, `sub` the admitted key (all hex), `exp_slot` in decimal. */
export function signTicket(issuer: SigningKey, { audience, subject, expSlot }: TicketClaims): Uint8Array {
  const claims = { iss: toHex(issuer.publicKey), aud: toHex(audience), sub: toHex(subject), exp_slot: String(expSlot) };
  const signed = `${HEADER}.${base64url(Buffer.from(JSON.stringify(claims)))}`;
  return new Uint8Array(Buffer.from(`${signed}.${base64url(sign(null, Buffer.from(signed), issuer.privateKey))}`));
}

function parseObject(part: string): Readonly<Record<string, unknown>> | undefined {
  const bytes = fromBase64url(part);
  if (bytes === undefined) return undefined;
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : undefined;
  } catch {
    return undefined;
  }
}

function slotOf(value: unknown): bigint | undefined {
  const text = typeof value === "number" && Number.isSafeInteger(value) ? String(value) : value;
  if (typeof text !== "string" || !SLOT.test(text)) return undefined;
  const slot = BigInt(text);
  return slot > MAX_SLOT ? undefined : slot;
}

function refused(detail: string, reason = "TICKET_REFUSED"): Admission {
  return { admitted: false, refusal: refuse(reason, detail) };
}

/** One JWT under one issuer. @param issuer Ed25519 public key, 32 bytes */
export function checkJwt(issuer: Uint8Array, ticket: Uint8Array, expected: TicketSubject): Admission {
  if (ticket.length > TICKET_BYTES_MAX) return refused(`${ticket.length} bytes of ticket, at most ${TICKET_BYTES_MAX}`);
  if (!isSigningPublicKey(issuer)) return refused("the issuer in the lattice config is not an Ed25519 key");
  const parts = Buffer.from(ticket).toString("latin1").split(".");
  const [header, payload, signature] = parts;
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined) {
    return refused("not a JWT");
  }
  // The algorithm is ours to say, not the ticket's (RFC 8725 §3.1).
  if (parseObject(header)?.["alg"] !== "EdDSA") return refused("the ticket is not signed with EdDSA");
  const signatureBytes = fromBase64url(signature);
  const key = createPublicKey({ key: { kty: "OKP", crv: "Ed25519", x: base64url(issuer) }, format: "jwk" });
  if (signatureBytes?.length !== 64 || !verify(null, Buffer.from(`${header}.${payload}`), key, signatureBytes)) {
    return refused("the ticket is not signed by the issuer in the lattice config");
  }
  const claims = parseObject(payload);
  if (claims === undefined) return refused("the ticket's claims are not an object");
  if (claims["iss"] !== undefined && claims["iss"] !== toHex(issuer)) return refused("the ticket names another issuer");
  if (claims["aud"] !== toHex(expected.audience)) return refused("the ticket is for another audience");
  if (claims["sub"] !== toHex(expected.subject)) return refused("the ticket is for another key");
  const expSlot = slotOf(claims["exp_slot"]);
  if (expSlot === undefined) return refused("the ticket has no exp_slot");
  if (expSlot < expected.slot) return refused(`the ticket ended with slot ${expSlot}`, "TICKET_EXPIRED");
  return { admitted: true, expSlot };
}

/** Judges tickets under a policy: all rules must pass; the earliest expiry counts. */
export function checkTickets(
  policy: readonly AdmissionRule[],
  tickets: readonly Uint8Array[],
  expected: TicketSubject,
): Admission {
  if (policy.length === 0) {
    if (!expected.throwAway) return refused("the lattice config names no issuer, so it admits nobody");
    return tickets.length === 0 ? { admitted: true, expSlot: undefined } : refused("no ticket expected");
  }
  if (tickets.length !== policy.length) return refused(`${tickets.length} tickets, ${policy.length} expected`);
  let expSlot: bigint | undefined;
  for (const [index, rule] of policy.entries()) {
    const ticket = tickets[index] ?? new Uint8Array();
    const admission = checkRule(rule, ticket, expected);
    if (!admission.admitted) return admission;
    if (admission.expSlot !== undefined && (expSlot === undefined || admission.expSlot < expSlot)) {
      expSlot = admission.expSlot;
    }
  }
  return { admitted: true, expSlot };
}

function checkRule(rule: AdmissionRule, ticket: Uint8Array, expected: TicketSubject): Admission {
  switch (rule.kind) {
    case "jwt":
      return checkJwt(rule.parameters, ticket, expected);
    case "mock":
      if (!expected.throwAway) return refused("mock admission is for throw-away lattices only");
      return equalBytes(ticket, rule.parameters)
        ? { admitted: true, expSlot: undefined }
        : refused("not the mock ticket");
    default:
      return refused(`admission of kind ${rule.kind} is not judged by this version`, "ADMISSION_UNSUPPORTED");
  }
}
