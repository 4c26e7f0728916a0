import assert from "node:assert/strict";
import test from "node:test";
import { decode, encode } from "@lattice/organism/codec/codec.ts";
import { ConfigProblems } from "@lattice/organism/identity/lattice-config.ts";
import { ROUND_HEADER, type RoundHeader, type ServerKey } from "@lattice/organism/outcomes/zipnet.ts";
import { World } from "../../test/world.ts";
import { checkHeader, type HeaderView } from "./header.ts";
import { createMachine } from "./machine.ts";
import { signServerKey } from "./server-key.ts";

async function opened() {
  const world = new World();
  world.publishServerKeys();
  await world.join("a");
  await world.join("b");
  const certified = world.open(5n);
  const header = decode(ROUND_HEADER, certified.outcome.commitment);
  const view: HeaderView = { rho: 0n, slot: 0n, serials: [1n, 1n, 1n], mustInclude: [0, 1, 2], nowMs: world.nowMs };
  const reason = (
    changed: Partial<RoundHeader>,
    seen: Partial<HeaderView> = {},
    outcome = certified.outcome,
  ): string => {
    const commitment = encode(ROUND_HEADER, { ...header, ...changed });
    const checked = checkHeader(world.config, { ...view, ...seen }, { ...outcome, commitment });
    return checked.ok ? "ok" : checked.refusal.reason;
  };
  return { world, certified, header, view, reason };
}

test("a header stands up to its client, and each single change does not", async () => {
  const { world, certified, header, reason } = await opened();
  assert.equal(reason({}), "ok");
  const [first, second, third] = header.servers as [ServerKey, ServerKey, ServerKey];
  const { outcome } = certified;
  assert.equal(reason({}, {}, { ...outcome, committee: new Uint8Array(32) }), "HEADER_COMMITTEE");
  assert.equal(reason({}, {}, { ...outcome, stage: "broadcast" }), "HEADER_SHAPE");
  assert.equal(reason({}, {}, { ...outcome, kind: "empty" }), "HEADER_SHAPE");
  assert.equal(reason({}, {}, { ...outcome, slot: 6n }), "HEADER_SHAPE");
  assert.equal(reason({ cells: header.cells + 1 }), "HEADER_SHAPE");
  assert.equal(reason({ closeMs: header.closeMs + 1n }), "HEADER_SHAPE");
  assert.equal(reason({ mode: "scheduled" }), "HEADER_SHAPE");
  assert.equal(reason({ subround: 1 }), "HEADER_SHAPE");
  assert.equal(reason({ servers: [first, second] }), "HEADER_OPERATOR");
  assert.equal(reason({ servers: [second, first, third] }), "HEADER_OPERATOR");
  assert.equal(reason({ servers: [{ ...first, operator: second.operator }, second, third] }), "HEADER_OPERATOR");
  assert.equal(reason({ servers: [{ ...first, serial: 2n }, second, third] }), "BAD_SIGNATURE");
  assert.equal(reason({ clientsCount: 1 }), "HEADER_ROSTER");
  assert.equal(reason({ rho: 6n }), "HEADER_RHO");
  assert.equal(reason({ rho: 5n }), "ok");
  assert.equal(reason({}, { rho: 1n }), "HEADER_RHO");
  assert.equal(reason({}, { slot: 5n }), "HEADER_RHO");
  assert.equal(reason({}, { nowMs: Number(header.closeMs) }), "HEADER_CLOCK");
  assert.equal(reason({}, { nowMs: Number(header.openMs) - world.config.slotMs - 1 }), "HEADER_CLOCK");
  assert.equal(reason({}, { mustInclude: [3] }), "HEADER_OPERATOR");
});

test("a lower serial is never answered; a higher one asks for a new registration; ranges bind", async () => {
  const { world, header, reason } = await opened();
  const [first, second, third] = header.servers as [ServerKey, ServerKey, ServerKey];
  assert.equal(reason({}, { serials: [2n, 1n, 1n] }), "HEADER_SERIAL");
  const [operator] = world.operators;
  assert.ok(operator !== undefined);
  const resigned = (changed: Partial<ServerKey>) => [
    signServerKey(operator, world.committee, { ...first, ...changed }),
    second,
    third,
  ];
  assert.equal(reason({ servers: resigned({ serial: 2n }) }), "HEADER_SERIAL");
  assert.equal(reason({ servers: resigned({ toSlot: 4n }) }), "HEADER_SERIAL");
  assert.equal(reason({ servers: resigned({ toSlot: 5n }) }), "ok");
});

test("what this version cannot run is refused with the config, in readable lines", () => {
  const world = new World();
  const { zipnet } = world.config;
  const variant = (content: Partial<typeof zipnet.content>) => ({
    ...world.config,
    zipnet: { ...zipnet, content: { ...zipnet.content, ...content } },
  });
  assert.throws(
    () => createMachine(variant({ mode: "scheduled" }), world.roster),
    (error: unknown) => {
      assert.ok(error instanceof ConfigProblems);
      assert.match(error.message, /zipnet\.mode: "scheduled" is not part of this version/);
      return true;
    },
  );
  assert.throws(
    () => createMachine(variant({ operators: zipnet.content.operators.slice(1) }), world.roster),
    ConfigProblems,
  );
  assert.throws(() => createMachine(variant({ cellBytes: 60 }), world.roster), ConfigProblems);
});
