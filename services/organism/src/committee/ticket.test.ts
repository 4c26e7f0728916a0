import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { generateSigningKey } from "../crypto/ed25519.ts";
import { checkJwt, checkTickets, signTicket, TICKET_BYTES_MAX, type TicketSubject } from "./ticket.ts";

const issuer = generateSigningKey(new Uint8Array(32).fill(1));
const other = generateSigningKey(new Uint8Array(32).fill(2));
const audience = new Uint8Array(32).fill(3);
const subject = new Uint8Array(32).fill(4);
const expected: TicketSubject = { audience, subject, slot: 100n, throwAway: false };
const jwtRule = { kind: "jwt", parameters: issuer.publicKey } as const;

const reasonOf = (admission: ReturnType<typeof checkJwt>): string =>
  admission.admitted ? "admitted" : admission.refusal.reason;

test("a ticket admits its key to its committee up to its last slot", () => {
  const ticket = signTicket(issuer, { audience, subject, expSlot: 100n });
  assert.deepEqual(checkJwt(issuer.publicKey, ticket, expected), { admitted: true, expSlot: 100n });
  assert.equal(reasonOf(checkJwt(issuer.publicKey, ticket, { ...expected, slot: 101n })), "TICKET_EXPIRED");
});

test("another issuer, audience, key or length is refused", () => {
  const ticket = signTicket(issuer, { audience, subject, expSlot: 100n });
  assert.equal(reasonOf(checkJwt(other.publicKey, ticket, expected)), "TICKET_REFUSED");
  assert.equal(reasonOf(checkJwt(issuer.publicKey, ticket, { ...expected, audience: subject })), "TICKET_REFUSED");
  assert.equal(reasonOf(checkJwt(issuer.publicKey, ticket, { ...expected, subject: audience })), "TICKET_REFUSED");
  assert.equal(reasonOf(checkJwt(new Uint8Array(32), ticket, expected)), "TICKET_REFUSED");
  assert.equal(reasonOf(checkJwt(issuer.publicKey, new Uint8Array(TICKET_BYTES_MAX + 1), expected)), "TICKET_REFUSED");
});

test("the algorithm is not the ticket's to choose", () => {
  const [, payload, signature] = Buffer.from(signTicket(issuer, { audience, subject, expSlot: 100n }))
    .toString()
    .split(".");
  for (const alg of ["none", "HS256", "ES256", "eddsa"]) {
    const header = Buffer.from(JSON.stringify({ alg, typ: "JWT" })).toString("base64url");
    const forged = new Uint8Array(Buffer.from(`${header}.${payload}.${signature}`));
    assert.equal(reasonOf(checkJwt(issuer.publicKey, forged, expected)), "TICKET_REFUSED");
  }
});

test("no changed byte is admitted, and nothing throws", () => {
  const ticket = signTicket(issuer, { audience, subject, expSlot: 100n });
  fc.assert(
    fc.property(fc.nat(ticket.length - 1), fc.integer({ min: 1, max: 255 }), (at, change) => {
      const changed = ticket.slice();
      changed[at] = (changed[at] ?? 0) ^ change;
      return !checkJwt(issuer.publicKey, changed, expected).admitted;
    }),
  );
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (noise) => !checkJwt(issuer.publicKey, noise, expected).admitted),
  );
});

test("all rules of a policy must pass and the earliest expiry counts", () => {
  const second = { kind: "jwt", parameters: other.publicKey } as const;
  const early = signTicket(other, { audience, subject, expSlot: 120n });
  const late = signTicket(issuer, { audience, subject, expSlot: 200n });
  assert.deepEqual(checkTickets([jwtRule, second], [late, early], expected), { admitted: true, expSlot: 120n });
  assert.equal(reasonOf(checkTickets([jwtRule, second], [early, late], expected)), "TICKET_REFUSED");
  assert.equal(reasonOf(checkTickets([jwtRule, second], [late], expected)), "TICKET_REFUSED");
});

test("an empty policy and mock tickets are for throw-away lattices", () => {
  const mock = { kind: "mock", parameters: new Uint8Array([7]) } as const;
  const local = { ...expected, throwAway: true };
  assert.deepEqual(checkTickets([], [], local), { admitted: true, expSlot: undefined });
  assert.equal(reasonOf(checkTickets([], [], expected)), "TICKET_REFUSED");
  assert.equal(checkTickets([mock], [new Uint8Array([7])], local).admitted, true);
  assert.equal(checkTickets([mock], [new Uint8Array([8])], local).admitted, false);
  assert.equal(checkTickets([mock], [new Uint8Array([7])], expected).admitted, false);
});

test("kinds that this version does not judge are refused", () => {
  const tdx = { kind: "tdx", parameters: new Uint8Array() } as const;
  assert.equal(reasonOf(checkTickets([tdx], [new Uint8Array()], expected)), "ADMISSION_UNSUPPORTED");
});
