/** Round headers: what the committee certifies before anybody sends, and what a client refuses to answer. */
import { equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { committeeId, type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { type Refusal, refuse } from "@lattice/organism/machine.ts";
import { headerDigest, ROUND_HEADER, type RoundHeader, type ServerKey } from "@lattice/organism/outcomes/zipnet.ts";
import type { VectorShape } from "./pads.ts";
import { rosterRoot } from "./registration.ts";
import { checkServerKey, servesSlot } from "./server-key.ts";

/** When clients may answer: from `openMs` to `closeMs`, Unix ms. */
export function roundTimes(config: LatticeConfig, slot: bigint): { readonly openMs: number; readonly closeMs: number } {
  const { roundOpenMs, roundCloseMs } = config.zipnet.content;
  const startMs = slotStartMs(config, slot);
  return { openMs: Math.max(0, startMs - roundOpenMs), closeMs: Math.max(0, startMs - roundCloseMs) };
}

/** The message vector of this lattice. */
export function shapeOf(config: LatticeConfig): VectorShape {
  const { cells, cellBytes, segments } = config.zipnet.content;
  return { cells, cellBytes, segments };
}

/** A header is a function of state: whoever proposes it, `apply` computes the same. */
export function buildHeader(
  config: LatticeConfig,
  round: {
    readonly rho: bigint;
    readonly slot: bigint;
    /** Client ids, ascending. */
    readonly roster: readonly Uint8Array[];
    readonly servers: readonly ServerKey[];
  },
): RoundHeader {
  const { openMs, closeMs } = roundTimes(config, round.slot);
  return {
    version: 1,
    rho: round.rho,
    slot: round.slot,
    subround: 0,
    ...shapeOf(config),
    mode: config.zipnet.content.mode,
    clientsRoot: rosterRoot(committeeId(config, "zipnet"), round.roster),
    clientsCount: round.roster.length,
    servers: [...round.servers],
    openMs: BigInt(openMs),
    closeMs: BigInt(closeMs),
  };
}

/** What a client knows before it looks at a header. */
export interface HeaderView {
  /** The newest ρ it has answered or registered after, and the slot of that header. */
  readonly rho: bigint;
  readonly slot: bigint;
  /** Serials of the server keys it agreed with, in member order. */
  readonly serials: readonly bigint[];
  /** Members without which it does not answer. */
  readonly mustInclude: readonly number[];
  readonly nowMs: number;
}

export type CheckedHeader =
  | { readonly ok: true; readonly header: RoundHeader; readonly digest: Uint8Array }
  | { readonly ok: false; readonly refusal: Refusal };

const no = (reason: string, detail: string): CheckedHeader => ({ ok: false, refusal: refuse(reason, detail) });

/**
 * Reads the certified outcome of stage `header` as a client does. The certificate itself is the caller's to verify.
 * Refuses with HEADER_COMMITTEE, HEADER_SHAPE, HEADER_OPERATOR, HEADER_SERIAL, HEADER_RHO, HEADER_CLOCK, HEADER_ROSTER
 * and what `checkServerKey` says.
 */
export function checkHeader(config: LatticeConfig, view: HeaderView, outcome: Outcome): CheckedHeader {
  const committee = committeeId(config, "zipnet");
  const { content } = config.zipnet;
  if (!equalBytes(outcome.committee, committee)) return no("HEADER_COMMITTEE", "the header is of another committee");
  if (outcome.stage !== "header" || outcome.kind !== "result") return no("HEADER_SHAPE", "no round was opened");
  const header = tryDecode(ROUND_HEADER, outcome.commitment);
  if (header === undefined) return no("HEADER_SHAPE", "the commitment is not a round header");
  const { openMs, closeMs } = roundTimes(config, outcome.slot);
  if (
    header.slot !== outcome.slot ||
    header.subround !== 0 ||
    header.cells !== content.cells ||
    header.cellBytes !== content.cellBytes ||
    header.segments !== content.segments ||
    header.mode !== content.mode ||
    header.openMs !== BigInt(openMs) ||
    header.closeMs !== BigInt(closeMs)
  ) {
    return no("HEADER_SHAPE", "the header does not follow from the lattice config");
  }
  const { servers } = header;
  if (servers.length !== content.operators.length || !servers.every(({ member }, index) => member === index)) {
    return no("HEADER_OPERATOR", "one key per pinned operator, in member order, expected");
  }
  if (!view.mustInclude.every((member) => servers[member] !== undefined)) {
    return no("HEADER_OPERATOR", "a server that this client insists on is missing");
  }
  for (const server of servers) {
    const refusal = checkServerKey(committee, content.operators, server);
    if (refusal !== undefined) return { ok: false, refusal };
    if (!servesSlot(server, header.slot)) {
      return no("HEADER_SERIAL", `the key of server ${server.member} does not serve slot ${header.slot}`);
    }
    const known = view.serials[server.member];
    if (known === undefined || server.serial < known) {
      return no("HEADER_SERIAL", `server ${server.member} went back to serial ${server.serial}`);
    }
    if (server.serial > known) {
      return no("HEADER_SERIAL", `server ${server.member} has a new key, serial ${server.serial}: register again`);
    }
  }
  // One header a slot opens at most one ρ: a larger step than slots have passed is somebody's invention.
  if (header.rho <= view.rho || header.slot <= view.slot || header.rho - view.rho > header.slot - view.slot) {
    return no("HEADER_RHO", `round ${header.rho} of slot ${header.slot} after ${view.rho} of slot ${view.slot}`);
  }
  if (view.nowMs >= closeMs || view.nowMs < openMs - config.slotMs) {
    return no("HEADER_CLOCK", `slot ${header.slot} is not open by this client's clock`);
  }
  if (header.clientsCount < content.participantsMin) {
    return no("HEADER_ROSTER", `${header.clientsCount} clients, at least ${content.participantsMin} expected`);
  }
  return { ok: true, header, digest: headerDigest(committee, header) };
}
