/**
 * The replicated half of zipnet: who is registered, which round is open, which aggregate stands, and what all partials
 * together say (protocols.md §1). What a server must judge for itself, because a corrupt majority *is* `apply`, is in
 * node/effects.ts.
 *
 * Per slot: `header` is decided when a server proposes the round (Empty when the roster is below the minimum: there is
 * nobody to hide among), `broadcast` when the last partial arrives (Empty when no cell held a message). A round that a
 * quorum closes with too few participants, or that one server withholds from, is aborted: Skipped, and final.
 */
import { encode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { checkTickets } from "@lattice/organism/committee/ticket.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import { ConfigProblems, committeeId, type LatticeConfig, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import {
  type Context,
  type Machine,
  type MachineEvent,
  type Refusal,
  refuse,
  type View,
} from "@lattice/organism/machine.ts";
import {
  BROADCAST,
  BROADCAST_BODY,
  headerDigest,
  ROUND_HEADER,
  type ServerKey,
  ZIPNET_STAGES,
} from "@lattice/organism/outcomes/zipnet.ts";
import { type AggregateRound, aggregateDigest, checkAggregate, standsBefore } from "./aggregate.ts";
import { readVector, sealedBytesMax } from "./cell.ts";
import { COMMAND, STATE } from "./codec.ts";
import { buildHeader, roundTimes, shapeOf } from "./header.ts";
import { vectorBytes, xorInto } from "./pads.ts";
import { checkRegistration, clientId, type Registration } from "./registration.ts";
import { checkServerKey, servesSlot } from "./server-key.ts";
import {
  BROADCAST_STAGE,
  type Client,
  type Command,
  FOLD,
  HEADER,
  type Round,
  type State,
  type ZipnetDuty,
} from "./types.ts";

/** Slots that a registration without an expiring ticket lasts: a day of four-second slots. */
const REGISTRATION_SLOTS = 21_600n;
/** Expired clients are forgotten this many slots later: their rounds are over by then. */
const EXPIRED_KEPT_SLOTS = 16n;
/** Decided broadcasts whose bodies stay in state, for members that were catching up when they were decided. */
const BODIES_KEPT_SLOTS = 8n;
/** After this many patience intervals without a broadcast the round is let expire. */
const BROADCAST_PATIENCE = 3;
const NO_DIGEST = new Uint8Array(32);

/** Everything that this version cannot run, as readable lines. */
export function zipnetProblems(config: LatticeConfig, roster: Roster): string[] {
  const { content } = config.zipnet;
  const problems: string[] = [];
  if (content.mode !== "one-shot") {
    problems.push(`zipnet.mode: "${content.mode}" is not part of this version; use "one-shot"`);
  }
  if (content.operators.length !== roster.members.length) {
    problems.push(`zipnet.operators: ${content.operators.length} keys for ${roster.members.length} servers`);
  }
  if (sealedBytesMax(content.cellBytes) <= 0) {
    problems.push(`zipnet.cellBytes: no message fits ${content.cellBytes} bytes`);
  }
  return problems;
}

/** @throws ConfigProblems when this version cannot run such a lattice */
export function createMachine(config: LatticeConfig, roster: Roster): Machine<State, Command, ZipnetDuty> {
  const problems = zipnetProblems(config, roster);
  if (problems.length > 0) throw new ConfigProblems(problems);
  const { content, acl } = config.zipnet;
  const committee = committeeId(config, "zipnet");
  const shape = shapeOf(config);
  const servers = content.operators.length;

  /** Clients that may be in a round of `slot`, ids ascending. */
  function rosterAt(state: State, slot: bigint): Client[] {
    const current = [...state.clients.values()].filter(
      ({ expSlot, serials }) =>
        slot <= expSlot && serials.every((serial, member) => state.servers.get(member)?.serial === serial),
    );
    return current.sort((a, b) => Buffer.compare(a.id, b.id));
  }

  function serverKeys(state: State, slot: bigint): ServerKey[] | undefined {
    const keys: ServerKey[] = [];
    for (let member = 0; member < servers; member++) {
      const key = state.servers.get(member);
      if (key === undefined || !servesSlot(key, slot)) return undefined;
      keys.push(key);
    }
    return keys;
  }

  function aggregateRound(slot: bigint, round: Round): AggregateRound {
    return {
      slot,
      rho: round.rho,
      headerDigest: round.headerDigest,
      clients: round.roster.length,
      servers,
      vectorBytes: vectorBytes(shape),
    };
  }

  function applyRegister(state: State, registration: Registration, context: Context): Refusal | undefined {
    const slot = slotAt(config, context.nowMs);
    const key = toHex(registration.envelopeKey);
    if (state.struck.has(key)) return refuse("CLIENT_STRUCK", "this envelope key was struck from the roster");
    const wrong = checkRegistration(committee, servers, registration);
    if (wrong !== undefined) return wrong;
    const stale = registration.serials.findIndex((serial, member) => state.servers.get(member)?.serial !== serial);
    if (stale >= 0) return refuse("SERVER_KEY_STALE", `server ${stale} has another serial, or none`);
    const subject = { audience: committee, subject: registration.envelopeKey, slot, throwAway: config.throwAway };
    const admission = checkTickets(acl, registration.tickets, subject);
    if (!admission.admitted) return admission.refusal;
    const expSlot = admission.expSlot ?? slot + REGISTRATION_SLOTS;
    const id = clientId(committee, registration);
    const known = state.clients.get(key);
    if (known !== undefined && equalBytes(known.id, id)) {
      if (known.expSlot >= expSlot) return refuse("DUPLICATE", "this client is registered");
      // A newer ticket for the same keys: the ratchet goes on where it is.
      state.clients.set(key, { ...known, expSlot });
      return undefined;
    }
    const live = known !== undefined && slot <= known.expSlot;
    if (live && known.serials.every((serial, member) => state.servers.get(member)?.serial === serial)) {
      return refuse("ALREADY_REGISTERED", "this envelope key is registered with other agreement keys");
    }
    if (known === undefined && state.clients.size >= content.clientsMax) {
      return refuse("ROSTER_FULL", `${content.clientsMax} clients are registered`);
    }
    state.clients.set(key, {
      id,
      envelopeKey: registration.envelopeKey,
      agreementKeys: registration.agreementKeys,
      serials: registration.serials,
      fromRho: state.rho + 1n,
      afterSlot: state.lastSlot,
      expSlot,
    });
    return undefined;
  }

  function applyServerKey(state: State, author: number, key: ServerKey): Refusal | undefined {
    if (key.member !== author) return refuse("BAD_KEY", `member ${author} cannot speak for server ${key.member}`);
    const wrong = checkServerKey(committee, content.operators, key);
    if (wrong !== undefined) return wrong;
    const known = state.servers.get(author);
    if (known !== undefined && key.serial <= known.serial) {
      return refuse("DUPLICATE", `server ${author} is at serial ${known.serial}`);
    }
    state.servers.set(author, key);
    return undefined;
  }

  function forgetExpired(state: State, slot: bigint): void {
    for (const [key, { expSlot }] of state.clients) {
      if (expSlot + EXPIRED_KEPT_SLOTS < slot) state.clients.delete(key);
    }
    for (const [key, until] of state.struck) if (until < slot) state.struck.delete(key);
  }

  function applyOpenRound(state: State, slot: bigint, context: Context): Refusal | undefined {
    if (!context.open(HEADER, slot)) return refuse("SLOT_DECIDED", `the header of slot ${slot} is decided`);
    if (slot <= state.lastSlot)
      return refuse("ROUND_TOO_LATE", `the round of slot ${state.lastSlot} was opened before`);
    const { openMs, closeMs } = roundTimes(config, slot);
    // Log time trails real time by as much as members are silent: one slot is granted.
    if (openMs > context.nowMs + config.slotMs) return refuse("ROUND_TOO_EARLY", `slot ${slot} opens at ${openMs}`);
    forgetExpired(state, slot);
    const roster = rosterAt(state, slot);
    if (roster.length < content.participantsMin) {
      state.lastSlot = slot;
      context.decide({ stage: HEADER, slot, kind: "empty", commitment: new Uint8Array() });
      const commitment = encode(BROADCAST, {
        version: 1,
        rho: state.rho,
        headerDigest: NO_DIGEST,
        participants: 0,
        messages: 0,
      });
      context.decide({ stage: BROADCAST_STAGE, slot, kind: "empty", commitment });
      return undefined;
    }
    if (context.nowMs >= closeMs) return refuse("ROUND_TOO_LATE", `the round of slot ${slot} closed at ${closeMs}`);
    const keys = serverKeys(state, slot);
    if (keys === undefined) return refuse("SERVER_KEYS_MISSING", "a server has no key that serves this slot");
    if (state.rounds.size >= config.pipelineDepth) {
      return refuse("ROUNDS_IN_FLIGHT", `${state.rounds.size} rounds are open`);
    }
    const ids = roster.map(({ id }) => id);
    const rho = state.rho + 1n;
    const header = buildHeader(config, { rho, slot, roster: ids, servers: keys });
    if (!context.decide({ stage: HEADER, slot, kind: "result", commitment: encode(ROUND_HEADER, header) })) {
      return refuse("SLOT_DECIDED", `the header of slot ${slot} is decided`);
    }
    state.rho = rho;
    state.lastSlot = slot;
    state.rounds.set(slot, {
      rho,
      headerDigest: headerDigest(committee, header),
      header,
      roster: ids,
      aggregates: [],
      folded: false,
      partials: new Map(),
    });
    return undefined;
  }

  function applyAggregate(
    state: State,
    author: number,
    aggregate: Extract<Command, { type: "aggregate" }>["aggregate"],
  ): Refusal | undefined {
    const round = state.rounds.get(aggregate.slot);
    if (round === undefined) return refuse("NO_ROUND", `no round is open for slot ${aggregate.slot}`);
    if (round.folded) return refuse("ROUND_CLOSED", `the fold of slot ${aggregate.slot} is closed`);
    const wrong = checkAggregate(aggregateRound(aggregate.slot, round), aggregate);
    if (wrong !== undefined) return wrong;
    const digest = aggregateDigest(aggregate);
    if (round.aggregates.some((held) => equalBytes(held.digest, digest))) {
      return refuse("DUPLICATE", "this aggregate is in the log");
    }
    if (round.aggregates.some((held) => held.author === author)) {
      return refuse("DUPLICATE", `member ${author} has forwarded an aggregate of this round`);
    }
    round.aggregates.push({ author, digest, aggregate });
    return undefined;
  }

  function abort(state: State, slot: bigint, context: Context): void {
    state.rounds.delete(slot);
    context.decide({ stage: BROADCAST_STAGE, slot, kind: "skipped", commitment: new Uint8Array() });
  }

  function applyClosed(state: State, slot: bigint, context: Context): Refusal | undefined {
    const round = state.rounds.get(slot);
    if (round === undefined || round.folded) return refuse("NO_ROUND", `no fold is open for slot ${slot}`);
    const [first, ...others] = round.aggregates.map((held) => ({
      held,
      participants: held.aggregate.proofs.length,
      digest: held.digest,
    }));
    const standing = others.reduce((a, b) => (a === undefined || standsBefore(b, a) ? b : a), first);
    if (standing === undefined || standing.participants < content.participantsMin) {
      abort(state, slot, context);
      return undefined;
    }
    round.aggregates = [standing.held];
    round.folded = true;
    return undefined;
  }

  /** The round and its standing aggregate, when this is the author's first word on it. */
  function contributing(
    state: State,
    author: number,
    { slot, rho, aggregate }: { readonly slot: bigint; readonly rho: bigint; readonly aggregate: Uint8Array },
  ): Round | Refusal {
    const round = state.rounds.get(slot);
    if (round === undefined) return refuse("NO_ROUND", `no round is open for slot ${slot}`);
    const [standing] = round.aggregates;
    if (!round.folded || standing === undefined) return refuse("PARTIAL_UNEXPECTED", "the fold is not closed");
    if (round.rho !== rho || !equalBytes(standing.digest, aggregate)) {
      return refuse("PARTIAL_UNEXPECTED", "the partial is for another aggregate");
    }
    if (round.partials.has(author)) return refuse("DUPLICATE", `member ${author} has contributed to round ${rho}`);
    return round;
  }

  function applyPartial(
    state: State,
    author: number,
    command: Extract<Command, { type: "partial" }>,
    context: Context,
  ): Refusal | undefined {
    const round = contributing(state, author, command);
    if ("reason" in round) return round;
    if (command.vector.length !== vectorBytes(shape)) {
      return refuse("BAD_VECTOR", `${command.vector.length} bytes of partial, ${vectorBytes(shape)} expected`);
    }
    round.partials.set(author, command.vector);
    if (round.partials.size === servers) finalise(state, command.slot, round, context);
    return undefined;
  }

  function finalise(state: State, slot: bigint, round: Round, context: Context): void {
    const [standing] = round.aggregates;
    if (standing === undefined) return;
    const vector = standing.aggregate.vector.slice();
    for (const partial of round.partials.values()) xorInto(vector, partial);
    const { messages } = readVector(shape, round.headerDigest, vector);
    const commitment = encode(BROADCAST, {
      version: 1,
      rho: round.rho,
      headerDigest: round.headerDigest,
      participants: standing.aggregate.proofs.length,
      messages: messages.length,
    });
    state.rounds.delete(slot);
    if (messages.length === 0) {
      context.decide({ stage: BROADCAST_STAGE, slot, kind: "empty", commitment });
      return;
    }
    const bodyHash = blake3(encode(BROADCAST_BODY, messages));
    if (!context.decide({ stage: BROADCAST_STAGE, slot, kind: "result", commitment, bodyHash })) return;
    state.broadcasts.set(slot, messages);
    for (const kept of state.broadcasts.keys()) if (kept + BODIES_KEPT_SLOTS <= slot) state.broadcasts.delete(kept);
  }

  /** One server's word ends a round, since nothing can be read without it; named clients leave the roster. */
  function applyWithhold(
    state: State,
    author: number,
    command: Extract<Command, { type: "withhold" }>,
    context: Context,
  ): Refusal | undefined {
    const round = contributing(state, author, command);
    if ("reason" in round) return round;
    const inRound = new Set(round.roster.map(toHex));
    if (!command.clients.every((id) => inRound.has(toHex(id)))) {
      return refuse("PARTIAL_UNEXPECTED", "a client that is not in the round is named");
    }
    const named = new Set(command.clients.map(toHex));
    for (const [key, client] of state.clients) {
      if (!named.has(toHex(client.id))) continue;
      state.clients.delete(key);
      state.struck.set(key, client.expSlot);
    }
    abort(state, command.slot, context);
    return undefined;
  }

  function applyCommand(state: State, author: number, command: Command, context: Context): Refusal | undefined {
    switch (command.type) {
      case "register":
        return applyRegister(state, command.registration, context);
      case "serverKey":
        return applyServerKey(state, author, command.key);
      case "openRound":
        return applyOpenRound(state, command.slot, context);
      case "aggregate":
        return applyAggregate(state, author, command.aggregate);
      case "partial":
        return applyPartial(state, author, command, context);
      case "withhold":
        return applyWithhold(state, author, command, context);
    }
  }

  function duties(state: State, view: View): ZipnetDuty[] {
    const found: ZipnetDuty[] = [];
    const current = slotAt(config, view.nowMs);
    const own = state.servers.get(view.self);
    if (own === undefined || own.toSlot < current) {
      found.push({ type: "serverKey", key: `serverKey/${own?.serial ?? 0n}`, slot: current, promise: false });
    }
    const opening = nextOpening(state, view);
    if (opening !== undefined) found.push(opening);
    for (const [slot, round] of state.rounds) {
      const { closeMs } = roundTimes(config, slot);
      if (!round.folded && !view.hasClosed(FOLD, slot)) {
        const everybody = round.aggregates.some(({ aggregate }) => aggregate.proofs.length === round.roster.length);
        const inTime = round.aggregates.length > 0 && view.nowMs >= closeMs;
        if (everybody || inTime || view.nowMs >= closeMs + content.patienceMs) {
          found.push({ type: "closeFold", key: `closeFold/${slot}`, slot, promise: true });
        }
      }
      if (round.folded && !round.partials.has(view.self)) {
        const { rho } = round;
        found.push({ type: "partial", key: `partial/${slot}/${rho}`, slot, rho, promise: true, lane: "bulk" });
      }
    }
    return found;
  }

  /** The lowest slot whose round should be opened now, when it is this member's turn. */
  function nextOpening(state: State, view: View): ZipnetDuty | undefined {
    // Slots before this one have closed: only expiry is left for them.
    let slot = slotAt(config, view.nowMs + content.roundCloseMs);
    for (const least of [view.floor(HEADER), state.lastSlot + 1n]) if (slot < least) slot = least;
    for (; roundTimes(config, slot).openMs <= view.nowMs; slot++) {
      const { openMs, closeMs } = roundTimes(config, slot);
      if (view.nowMs >= closeMs || view.outcome(HEADER, slot) !== undefined) continue;
      const rank = (view.self + servers - Number(slot % BigInt(servers))) % servers;
      if (view.nowMs < openMs + rank * content.patienceMs) return undefined;
      return { type: "openRound", key: `openRound/${slot}`, slot, promise: false, opens: true };
    }
    return undefined;
  }

  return {
    organism: "zipnet",
    stages: ZIPNET_STAGES,
    upstream: [],
    state: STATE,
    command: COMMAND,
    genesis: () => ({
      version: 1,
      rho: 0n,
      lastSlot: 0n,
      clients: new Map(),
      struck: new Map(),
      servers: new Map(),
      rounds: new Map(),
      broadcasts: new Map(),
    }),
    apply(state, event: MachineEvent<Command>, context) {
      switch (event.type) {
        case "command":
          return applyCommand(state, event.author, event.command, context);
        case "closed":
          return event.stage === FOLD ? applyClosed(state, event.slot, context) : undefined;
        case "skipped":
          if (event.stage === HEADER) abort(state, event.slot, context);
          else state.rounds.delete(event.slot);
          return undefined;
        case "agreed":
        case "observed":
          return undefined;
      }
    },
    duties,
    skipAtMs(stage, slot) {
      const { closeMs } = roundTimes(config, slot);
      return stage === HEADER ? closeMs : closeMs + BROADCAST_PATIENCE * content.patienceMs;
    },
    hasInput(state, stage, slot, hash) {
      const round = state.rounds.get(slot);
      if (stage !== FOLD || round === undefined || round.folded) return true;
      return round.aggregates.some(({ digest }) => equalBytes(digest, hash));
    },
    bodyOf(state, stage, slot) {
      const messages = stage === BROADCAST_STAGE ? state.broadcasts.get(slot) : undefined;
      return messages === undefined ? undefined : encode(BROADCAST_BODY, messages);
    },
    // Rounds are of slots that are still being decided; clients are registered until their slots are over.
    forGuests: (state, below) => ({
      ...state,
      rounds: new Map([...state.rounds].filter(([slot]) => slot >= below)),
      broadcasts: new Map([...state.broadcasts].filter(([slot]) => slot >= below)),
    }),
    collapse(state, slot) {
      for (const kept of state.broadcasts.keys()) if (kept < slot) state.broadcasts.delete(kept);
      for (const open of state.rounds.keys()) if (open < slot) state.rounds.delete(open);
    },
  };
}
