/**
 * Exports a committee's log from its members into records that anybody can judge offline (committee/log-export.ts).
 * Members are asked in turn; nothing that they say is believed here beyond what is needed to write it down.
 */
import { equalBytes } from "../codec/codec.ts";
import { type CertifiedCheckpoint, checkCheckpoint, stateHash } from "../committee/checkpoint.ts";
import { genesisHead, nextHead } from "../committee/entry.ts";
import type { Eras } from "../committee/eras.ts";
import type { LogRecord } from "../committee/log-export.ts";
import { signReader } from "../committee/reader.ts";
import { checkRoster } from "../committee/roster.ts";
import type { SigningKey } from "../crypto/ed25519.ts";
import { Fault } from "../fault.ts";
import { committeeId, type LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Clock, LogMessage } from "../ports.ts";
import { fromWireCheckpoint, fromWireOutcome, rostersTold } from "./committee-wire.ts";
import { EraWatch } from "./era-watch.ts";
import { fromWireHead } from "./integrity-wire.ts";
import { type CommitteeClient, type ConnectCommittee, connectOverGrpc } from "./outcome-follower.ts";
import { peerSource } from "./snapshot-fetcher.ts";

/** It cannot be exported as asked. One readable line. */
export class ExportProblem extends Error {
  override readonly name = "ExportProblem";
}

export interface LogExportOptions {
  readonly config: LatticeConfig;
  readonly organism: Organism;
  /** `host:port` of members, asked in this order. */
  readonly addresses: readonly string[];
  /** A member of this committee: its key and its index. */
  readonly memberKey: SigningKey;
  readonly index: number;
  readonly clock: Clock;
  /** `start`: from position 1 of the generation that runs. `checkpoint`: from the oldest certified one that the log continues. `auto`: the first that goes. */
  readonly from: "start" | "checkpoint" | "auto";
  /** The last position; what the first member to answer has applied when left out. */
  readonly until?: bigint;
  readonly connect?: ConnectCommittee;
}

/** The longest silence of a stream: members say that they are alive each slot. */
const IDLE_SLOTS = 3;

interface Peer {
  readonly address: string;
  readonly client: CommitteeClient;
}

/**
 * All records, in the order of the format.
 * @throws ExportProblem; Fault when no member serves what is needed
 */
export async function* exportLog(options: LogExportOptions): AsyncGenerator<LogRecord, void, void> {
  const { config, organism, addresses, connect = connectOverGrpc } = options;
  const committee = committeeId(config, organism);
  const peers = addresses.map((address) => ({ address, client: connect(address, committee) }));
  let records = 1;
  const reached = options.connect === undefined ? {} : { connect: options.connect };
  const watch = new EraWatch({ config, addresses: () => addresses, ...reached });
  try {
    await watch.ask(organism);
    const eras = watch.of(organism);
    const status = await firstOf(peers, ({ client }) => client.getStatus({}));
    const { generation, decidedSlot } = status;
    const until = options.until ?? status.position;
    if (until > status.position) {
      throw new ExportProblem(`position ${until} is not there yet; the member has applied ${status.position}`);
    }
    yield { type: "header", version: 1, config, organism, generation };
    for (const certified of await rosters(options, peers, eras)) {
      records += 1;
      yield { type: "roster", certified };
    }
    const { held, start, first, rest } = await opened(options, peers, status, eras, until);
    let head = start?.certified.checkpoint.head ?? genesisHead(committee, generation);
    let position = start?.certified.checkpoint.position ?? 0n;
    if (start !== undefined) {
      records += 1;
      yield { type: "start", ...start };
    }
    let entries = 0n;
    for (let next = first; next.done !== true; next = await rest.next()) {
      const { raw } = next.value;
      ({ position } = next.value);
      head = nextHead(head, position, raw);
      entries += 1n;
      records += 1;
      yield { type: "entry", position, raw };
    }
    for await (const record of witnesses(options, peers, held, position, decidedSlot)) {
      records += 1;
      yield record;
    }
    yield { type: "end", position, head, entries, records };
  } finally {
    for (const { client } of peers) client.close();
  }
}

/** Where the export starts, with the first message that follows: by then it is known that the log still has it. */
async function opened(
  options: LogExportOptions,
  peers: readonly Peer[],
  { generation, logFirstPosition }: { readonly generation: bigint; readonly logFirstPosition: bigint },
  eras: Eras,
  until: bigint,
) {
  for (let from = logFirstPosition; ; ) {
    const held = await checkpoints(options, peers, generation, eras);
    const start = await startOf(options, peers, held, from, generation);
    const position = start?.certified.checkpoint.position ?? 0n;
    if (until < position) throw new ExportProblem(`position ${until} lies before the checkpoint at ${position}`);
    const rest = messages(options, peers, generation, position + 1n, until);
    try {
      return { held, start, first: await rest.next(), rest };
    } catch (error) {
      // Trimmed since that member looked, or it does not know.
      const trimmedTo = firstServed(error);
      if (options.from === "start" || trimmedTo === undefined || trimmedTo <= from) throw error;
      from = trimmedTo;
    }
  }
}

/** The first position that a member still serves, where that is why it refused. */
function firstServed(error: unknown): bigint | undefined {
  if (!(error instanceof Fault) || error.reason !== "LOG_TOO_OLD") return undefined;
  const first = error.metadata["first_position"];
  return first !== undefined && /^\d{1,20}$/.test(first) ? BigInt(first) : undefined;
}

/** @throws what the last one failed with */
async function firstOf<T>(peers: readonly Peer[], ask: (peer: Peer) => Promise<T>): Promise<T> {
  let failure: unknown = new ExportProblem("no member's address is known");
  for (const peer of peers) {
    try {
      return await ask(peer);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

async function rosters({ config, organism }: LogExportOptions, peers: readonly Peer[], eras: Eras) {
  const { rosters: found } = await firstOf(peers, ({ client }) => client.getRosters({}));
  const certified = rostersTold(found);
  const bad = certified.find((each) => "problem" in checkRoster(config, organism, each, eras));
  if (certified.length === 0 || bad !== undefined) throw new ExportProblem("the member's rosters do not verify");
  return certified.sort((a, b) => (a.outcome.epoch < b.outcome.epoch ? -1 : 1));
}

/** Of one generation, the oldest first; each position once. */
async function checkpoints(
  { config, organism }: LogExportOptions,
  peers: readonly Peer[],
  generation: bigint,
  eras: Eras,
): Promise<CertifiedCheckpoint[]> {
  const found = new Map<bigint, CertifiedCheckpoint>();
  for (const { client } of peers) {
    try {
      const { held } = await client.getCheckpoint({});
      for (const wire of held) {
        const certified = fromWireCheckpoint(wire);
        if (certified === undefined || certified.checkpoint.generation !== generation) continue;
        if (checkCheckpoint(config, organism, certified, eras) === undefined) {
          found.set(certified.checkpoint.position, certified);
        }
      }
    } catch {
      // One that does not answer is not needed.
    }
  }
  return [...found.values()].sort((a, b) => (a.checkpoint.position < b.checkpoint.position ? -1 : 1));
}

async function startOf(
  { config, organism, from, index, memberKey, clock, connect }: LogExportOptions,
  peers: readonly Peer[],
  held: readonly CertifiedCheckpoint[],
  first: bigint,
  generation: bigint,
): Promise<{ readonly certified: CertifiedCheckpoint; readonly state: Uint8Array } | undefined> {
  // 0: not known; then the member says so when it is asked for position 1.
  if (generation === 0n && (from === "start" || (from === "auto" && first <= 1n))) return undefined;
  // A later generation starts with the state that it was agreed to begin with.
  const starts = held.filter(({ checkpoint: { position } }) =>
    from === "start" ? position === 0n : position + 1n >= first,
  );
  for (const certified of starts) {
    for (const { address } of peers) {
      const source = peerSource({
        config,
        organism,
        self: index,
        memberKey,
        clock,
        address,
        ...(connect === undefined ? {} : { connect }),
      });
      const state = await source.state(certified).catch(() => undefined);
      if (state !== undefined && equalBytes(stateHash(state), certified.checkpoint.stateHash)) {
        return { certified, state };
      }
    }
  }
  throw new ExportProblem("no member gave the state of a certified checkpoint that the log continues");
}

/** Goes on with the next member where one breaks off. */
async function* messages(
  { config, organism, memberKey, clock }: LogExportOptions,
  peers: readonly Peer[],
  generation: bigint,
  from: bigint,
  until: bigint,
): AsyncGenerator<LogMessage, void, void> {
  const committee = committeeId(config, organism);
  let next = from;
  let failure: unknown = new ExportProblem("the log ended early");
  for (const { client } of peers) {
    if (next > until) return;
    const signedAtMs = BigInt(clock.nowMs());
    const key = memberKey.publicKey;
    const signature = signReader(memberKey, { committee, what: "log", position: next, key, signedAtMs });
    const reader = { key, tickets: [], signedAtMs, signature };
    const stream = client.readLog(
      { fromPosition: next, untilPosition: until, generation, reader },
      { idleMs: IDLE_SLOTS * config.slotMs },
    );
    try {
      for await (const { event } of stream) {
        if (event.case !== "message") continue;
        if (event.value.position !== next)
          throw new ExportProblem(`position ${event.value.position} after ${next - 1n}`);
        yield { position: next, raw: event.value.raw.slice() };
        next += 1n;
        // Whoever goes on unasked would never end.
        if (next > until) return;
      }
    } catch (error) {
      failure = error;
    }
  }
  if (next <= until) throw failure;
}

/** What members certified and signed about these entries. */
async function* witnesses(
  { config }: LogExportOptions,
  peers: readonly Peer[],
  held: readonly CertifiedCheckpoint[],
  position: bigint,
  decidedSlot: bigint,
): AsyncGenerator<LogRecord, void, void> {
  for (const certified of held) yield { type: "checkpoint", certified };
  for (const { client } of peers) {
    try {
      const signed = fromWireHead(await client.getHead({ position }));
      if (signed !== undefined) yield { type: "head", ...signed };
    } catch {
      // One head less.
    }
  }
  for (const { client } of peers) {
    let fromSlot = 1n;
    try {
      let quiet = 0;
      for (;;) {
        try {
          for await (const { event } of client.watchOutcomes(
            { stage: "", fromSlot },
            { idleMs: IDLE_SLOTS * config.slotMs },
          )) {
            if (event.case === "heartbeatSlot") quiet += 1;
            // The first heartbeat comes before what is held.
            if (quiet > 2) return;
            if (event.case !== "outcome") continue;
            quiet = 1;
            const certified = fromWireOutcome(event.value);
            if (certified === undefined) continue;
            if (certified.outcome.slot > decidedSlot) return;
            yield { type: "outcome", certified };
          }
        } catch (error) {
          const oldest = error instanceof Fault ? error.metadata["oldest_slot"] : undefined;
          // Stages may begin at different slots, so this may be said more than once.
          const from = oldest !== undefined && /^\d{1,20}$/.test(oldest) ? BigInt(oldest) : 0n;
          if (from <= fromSlot || from > decidedSlot) throw error;
          fromSlot = from;
          continue;
        }
        return;
      }
    } catch {
      // Another member's archive, from the beginning: the same outcome twice does no harm.
    }
  }
}
