/** The invariants that concern one committee and its log, as checkers. */
import { equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { checkpointDigest } from "@lattice/organism/committee/checkpoint.ts";
import { type CommitteeCommand, decodeCommand } from "@lattice/organism/committee/commands.ts";
import { Committee } from "@lattice/organism/committee/committee.ts";
import { ENTRY_TAG, type EntryBody, LANES, nextHead, readEntry } from "@lattice/organism/committee/entry.ts";
import { type CertifiedOutcome, outcomeDigest, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { blsVerify } from "@lattice/organism/crypto/bls.ts";
import { verifyTagged } from "@lattice/organism/crypto/ed25519.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import { Broken } from "../observer.ts";
import type { LogClients } from "./clients.ts";
import { eraCheckers } from "./era-checkers.ts";
import type { LogChecker, LogReplica } from "./observer.ts";
import { COMMAND, INPUT, INPUT_COMMITMENT, makeMachine, OPENED, ORGANISM } from "./organism.ts";
import { type LogMember, type LogWorld, SLOT_MS } from "./world.ts";

const HASHED_EVERY = 64n;
/** Before there is much to encode, and before members compare for themselves. */
const HASHED_EARLY = 8n;
const EARLY = 32n;
/** Slots after which members that are shown different logs have found out. */
const FOUND_AFTER_SLOTS = 6;

function chainOf({ generation, position, head }: LogReplica): string {
  return `${generation}/${position}/${toHex(head)}`;
}

function quorumOfSize(members: number): number {
  const faults = members > 3 ? Math.floor((members - 1) / 3) : 0;
  return Math.floor((members + faults) / 2) + 1;
}

/** I5: one history at one position, in order. Not where the broker lies: there the others judge. */
function history(world: () => LogWorld): LogChecker {
  const name = "same history";
  const heads = new Map<string, string>();
  const positions = new Map<string, { readonly generation: bigint; readonly position: bigint }>();
  return {
    name,
    applied({ run }, { generation, position, head }) {
      const before = positions.get(run);
      positions.set(run, { generation, position });
      if (before?.generation === generation && position !== before.position + 1n) {
        throw new Broken(name, `${run} went from position ${before.position} to ${position}`);
      }
      if (world().lies.length > 0) return;
      const key = `${generation}/${position}`;
      const hex = toHex(head);
      const known = heads.get(key);
      if (known === undefined) heads.set(key, hex);
      else if (known !== hex) throw new Broken(name, `${run} has another chain head at position ${key}`);
    },
  };
}

/** I4: one state at one point of one chain, whoever came there, from whatever snapshot. */
function sameState(): LogChecker {
  const name = "same state";
  const hashes = new Map<string, { readonly hash: string; readonly by: string }>();
  return {
    name,
    applied({ run }, replica) {
      const { position } = replica;
      if (position % (position <= EARLY ? HASHED_EARLY : HASHED_EVERY) !== 0n) return;
      const key = chainOf(replica);
      const hash = toHex(hashBytes("lattice/state/v1", replica.snapshot()));
      const known = hashes.get(key);
      if (known === undefined) hashes.set(key, { hash, by: run });
      else if (known.hash !== hash) throw new Broken(name, `${run} and ${known.by} differ at ${key.slice(0, 24)}`);
    },
  };
}

/** From somewhere in the log a replica goes on from a member's snapshot: at every position it has that member's state. */
function goesOn(world: () => LogWorld): LogChecker {
  const name = "a restored state goes on alike";
  const LASTS = 40;
  let follower: { readonly run: string; readonly replica: LogReplica; left: number } | undefined;
  let begins: number | undefined;
  let messages = 0;
  const raws = new Map<string, Uint8Array>();
  return {
    name,
    stored(generation, position, raw) {
      messages += 1;
      if (follower !== undefined) raws.set(`${generation}/${position}`, raw);
    },
    applied({ run, honest, host }, replica) {
      if (!honest) return;
      begins ??= world().random.fork("follower").below(250);
      if (follower === undefined) {
        if (messages < begins || host.shown !== undefined || world().lies.length > 0) return;
        // Begins where the newest message is: what follows it will be noted.
        if (Number(replica.position) !== world().current.trunk.messages.length) return;
        const { config, rosters } = world().dealt;
        const begun: LogReplica = new Committee({
          config,
          roster: rosters[ORGANISM],
          machine: makeMachine(config),
          checkpointEvery: world().checkpointEvery,
          activationEntries: world().activationEntries,
        });
        begun.restore(replica.snapshot());
        follower = { run, replica: begun, left: LASTS };
        return;
      }
      if (follower.run !== run || follower.left <= 0 || follower.replica.generation !== replica.generation) return;
      follower.left -= 1;
      const { generation, position } = replica;
      const raw = raws.get(`${generation}/${position}`);
      if (raw === undefined || world().lies.length > 0 || position !== follower.replica.position + 1n) {
        follower.left = 0;
        return;
      }
      if (follower.replica.unknownRules !== undefined) {
        follower.left = 0;
        return;
      }
      follower.replica.apply(position, raw);
      if (follower.left % 10 !== 0) return;
      if (!equalBytes(follower.replica.snapshot(), replica.snapshot())) {
        throw new Broken(name, `from ${run}, at position ${generation}/${position}`);
      }
    },
  };
}

/** An author's entries take their places one after the other, each naming the one before it (log.md §2). */
function lanes(): LogChecker {
  const name = "entries follow one another";
  const previous = new Map<string, Uint8Array>();
  interface Place {
    readonly incarnation: bigint;
    readonly sequence: bigint;
    readonly entry: Uint8Array;
  }
  const places = new Map<string, { generation: bigint; readonly by: Place[] }>();
  return {
    name,
    stored(_generation, _position, raw) {
      const { body, hash } = readEntry(raw);
      previous.set(toHex(hash), body.previous);
    },
    applied({ run }, replica) {
      const known = places.get(run) ?? { generation: replica.generation, by: [] };
      places.set(run, known);
      const turned = known.generation !== replica.generation;
      known.generation = replica.generation;
      for (let author = 0; ; author++) {
        const state = replica.author(author);
        if (state === undefined) return;
        for (const [at, lane] of LANES.entries()) {
          const { incarnation } = state;
          const { sequence, previous: entry } = state[lane];
          const place = author * LANES.length + at;
          const before = known.by[place];
          if (before !== undefined && before.sequence === sequence && before.incarnation === incarnation) continue;
          known.by[place] = { incarnation, sequence, entry };
          if (before === undefined || turned || incarnation > before.incarnation) continue;
          const follows =
            incarnation === before.incarnation &&
            sequence === before.sequence + 1n &&
            equalBytes(previous.get(toHex(entry)) ?? new Uint8Array(), before.entry);
          if (follows) continue;
          const detail = `${incarnation}.${sequence} after ${before.incarnation}.${before.sequence}`;
          throw new Broken(name, `${run} ${author}/${lane}: ${detail}`);
        }
      }
    },
  };
}

function frauds(world: () => LogWorld): LogChecker {
  const name = "no honest member is taken for a fraud";
  const told = new Set<string>();
  return {
    name,
    applied(_place, { blocked }) {
      for (const { member, kind, memberKey } of blocked) {
        if (world().keepsItsWord(member)) throw new Broken(name, `member ${member}: ${kind}`);
        const key = toHex(memberKey);
        if (!told.has(key)) world().count("corrupt key blocked");
        told.add(key);
      }
    },
  };
}

function certificates(world: () => LogWorld): readonly LogChecker[] {
  const single = "one certificate per stage and slot";
  const quorum = "a certificate has a quorum";
  const valid = "a certificate verifies";
  const digests = new Map<string, string>();
  return [
    {
      name: single,
      certified(_place, { outcome }) {
        const key = `${outcome.stage}/${outcome.slot}`;
        const digest = toHex(outcomeDigest(outcome));
        const known = digests.get(key);
        if (known === undefined) digests.set(key, digest);
        else if (known !== digest) throw new Broken(single, key);
      },
    },
    {
      name: valid,
      certified({ run }, { outcome, signature }) {
        // Its own epoch's: whether that one may speak for the slot is judged in era-checkers.ts.
        const epoch = world().epochs.find(({ roster }) => roster.epoch === outcome.epoch);
        if (epoch === undefined || !verifyCertificate(epoch.certificateKey, outcome, signature)) {
          throw new Broken(valid, `${run}: ${outcome.stage} of slot ${outcome.slot}`);
        }
      },
    },
    {
      name: quorum,
      certified({ run }, { outcome, signers }) {
        const size = world().epochs.find(({ roster }) => roster.epoch === outcome.epoch)?.roster.members.length ?? 0;
        const needed = quorumOfSize(size);
        if (new Set(signers).size >= needed) return;
        const detail = `${outcome.stage} of slot ${outcome.slot} has ${signers.length} of ${needed}`;
        throw new Broken(quorum, `${run}: ${detail}`);
      },
    },
  ];
}

function promisesOf(
  command: CommitteeCommand,
  { author, generation }: EntryBody,
  world: LogWorld,
): readonly { readonly key: string; readonly value: Uint8Array }[] {
  if (command.type === "vote") {
    return command.votes.map(({ stage, slot, share }) => ({ key: `vote/${stage}/${slot}`, value: share }));
  }
  if (command.type === "checkpoint") {
    // One that had not landed is said again in the next generation, where its share is of nothing: it does not count.
    const { position, stateHash, stateBytes, guestHash, guestBytes, share } = command;
    const counts = world.hosts.some(({ replica }) => {
      if (replica?.generation !== generation) return false;
      const open = replica.unvotedCheckpoints(-1).find((checkpoint) => checkpoint.position === position);
      const key = world.epochs.find(({ roster }) => roster.epoch === open?.epoch)?.roster.members[author];
      if (open === undefined || key === undefined) return false;
      const claimed = { ...open, stateHash, stateBytes, guestHash, guestBytes };
      return blsVerify(key.certificateShare, checkpointDigest(claimed), share);
    });
    return counts ? [{ key: `checkpoint/${generation}/${position}`, value: share }] : [];
  }
  if (command.type === "close") {
    const value = hashBytes("sim/close", Buffer.concat(command.inputs.map((each) => Buffer.from(each))));
    return [{ key: `close/${command.stage}/${command.slot}`, value }];
  }
  if (command.type !== "machine") return [];
  const said = tryDecode(COMMAND, command.command);
  return said?.type === "share" ? [{ key: `share/${said.slot}`, value: said.signature }] : [];
}

/** I8: an honest member never says two things, whatever it lost, in whatever log, in whatever generation. */
function oneWord(world: () => LogWorld): readonly LogChecker[] {
  const bodiesName = "one body per place in a lane";
  const words = "one word per promise";
  const early = "no share is said before its close";
  const bodies = new Map<string, string>();
  /** Keys that Joins of a number would admit: two processes that take one number have a key each, and one of them loses it. */
  const joins = new Map<string, Uint8Array[]>();
  const promises = new Map<string, string>();
  /** By generation and member, the highest number that a Join named so far. */
  const newest = new Map<string, bigint>();
  return [
    {
      name: bodiesName,
      stored(generation, _position, raw) {
        const { body, bodyBytes, signature, hash: entry } = readEntry(raw);
        if (!world().keepsItsWord(body.author)) return;
        const number = `${generation}/${body.epoch}/${body.author}/${body.incarnation}`;
        const command = decodeCommand(body.command);
        if (command.type === "join") joins.set(number, [...(joins.get(number) ?? []), command.key]);
        if (command.type === "join") return;
        const by = joins.get(number)?.findIndex((each) => verifyTagged(each, ENTRY_TAG, bodyBytes, signature)) ?? -1;
        const key = `${number} (${by})/${body.lane}/${body.sequence}`;
        const hash = toHex(entry);
        const known = bodies.get(key);
        if (known === undefined) bodies.set(key, hash);
        else if (known !== hash) throw new Broken(bodiesName, key);
      },
    },
    {
      name: words,
      stored(_generation, position, raw) {
        const { body } = readEntry(raw);
        if (!world().keepsItsWord(body.author)) return;
        const command = decodeCommand(body.command);
        const member = `${body.generation}/${body.author}`;
        const joined = newest.get(member) ?? 0n;
        if (command.type === "join" && body.incarnation > joined) newest.set(member, body.incarnation);
        // What an older process still says after the Join of a newer one, nobody takes and the newer one cannot have
        // known. Its votes count against it all the same: two of them would be taken for a fraud.
        if (command.type === "close" && body.incarnation < joined) return;
        for (const { key, value } of promisesOf(command, body, world())) {
          const name = `member ${body.author} ${key}`;
          const hash = toHex(hashBytes("sim/promise", value));
          const known = promises.get(name);
          if (known === undefined) promises.set(name, hash);
          else if (known !== hash) throw new Broken(words, `${name}, again at position ${position}`);
        }
      },
    },
    {
      name: early,
      applied({ run }, replica) {
        for (const [slot, { shares }] of replica.state.slots) {
          if (shares.size === 0 || replica.outcome(INPUT, slot) !== undefined) continue;
          throw new Broken(early, `${run} has taken shares of slot ${slot}, which is open`);
        }
      },
    },
  ];
}

/** What was certified once stands for ever, in every generation; a decision is the one that was certified. */
function stands(world: () => LogWorld): LogChecker {
  const name = "what was certified stands";
  const judged = new Map<string, bigint>();
  const judge = (replica: LogReplica, who: string): void => {
    for (const certified of world().certificates.values()) judgeOne(replica, who, certified);
  };
  const judgeOne = (replica: LogReplica, who: string, { outcome }: CertifiedOutcome): void => {
    const { stage, slot } = outcome;
    if (slot < replica.collapsedBelow) return;
    const own = replica.outcome(stage, slot);
    if (own === undefined || equalBytes(outcomeDigest(own), outcomeDigest(outcome))) return;
    throw new Broken(name, `${who} has another ${stage} of slot ${slot} than the certified one`);
  };
  return {
    name,
    applied({ run, honest }, replica) {
      if (!honest) return;
      const { generation } = replica;
      if (generation === 0n || judged.get(run) === generation) return;
      judged.set(run, generation);
      judge(replica, run);
      // All that was certified before the generation began was decided in what it began with.
      for (const { outcome } of world().certificates.values()) {
        if (outcome.generation >= generation || outcome.slot < replica.collapsedBelow) continue;
        if (replica.outcome(outcome.stage, outcome.slot) !== undefined) continue;
        throw new Broken(name, `generation ${generation} has lost ${outcome.stage} of slot ${outcome.slot}`);
      }
    },
    finished(each) {
      for (const host of each.ready) {
        if (host.honest && host.replica !== undefined && host.replica.generation === each.generation) {
          if (!onTrunk(each, host)) continue;
          judge(host.replica, host.name);
        }
      }
    },
  };
}

/** True for members that read what everybody is shown now. */
function onTrunk(world: LogWorld, { replica, index, process }: LogMember): boolean {
  if (replica === undefined || process === undefined) return false;
  const broker = world.broker(replica.generation);
  return broker.branchOf(index, process) === broker.trunk;
}

/** I1, I2, I14: what a client was told is in is in, once; and nothing is in that no client put there. */
function additions(clients: () => LogClients): readonly LogChecker[] {
  const kept = "what was acknowledged is kept";
  const once = "nothing is in twice, or that nobody put in";
  const seen = new WeakMap<LogReplica, number>();
  return [
    {
      name: kept,
      applied({ honest, host }, replica) {
        const { ledger } = replica.state;
        const from = seen.get(replica) ?? 0;
        if (ledger.length === from) return;
        seen.set(replica, ledger.length);
        if (!honest || ledger.length !== from + 1) return;
        const addition = clients().additions.get(toHex(ledger.at(-1)?.id ?? new Uint8Array()));
        if (addition === undefined || host.disk.full || host.disk.tailFailed) return;
        const chain = chainOf(replica);
        const by = addition.appliedBy.get(chain) ?? new Map<LogMember, number>();
        addition.appliedBy.set(chain, by.set(host, host.memory));
      },
      finished(each) {
        const atEnd = each.ready.filter(
          (host) => host.honest && host.replica?.generation === each.generation && caughtUp(each, host),
        );
        const lied = each.lies.length > 0;
        // Where logs differ, only a quorum's counts: whoever is shown one of its own says nothing for the others.
        const quorum = quorumOfSize(each.rosterAt(0n).members.length) - each.corrupt;
        const alike = ({ replica }: LogMember): number =>
          atEnd.filter(
            (other) =>
              replica !== undefined && other.replica !== undefined && chainOf(other.replica) === chainOf(replica),
          ).length;
        const judges = lied ? atEnd.filter((host) => alike(host) >= quorum) : atEnd;
        for (const { acknowledged, id, slot, appliedBy } of clients().additions.values()) {
          if (lied ? !durable(each, slot, appliedBy) : !acknowledged) continue;
          for (const { replica, name: by } of judges) {
            if (replica?.state.ledger.some((entry) => toHex(entry.id) === id) === true) continue;
            throw new Broken(kept, `${by} does not have ${id.slice(0, 12)}, added to slot ${slot}`);
          }
        }
      },
    },
    {
      name: once,
      certified({ run }, { outcome }) {
        if (outcome.stage !== INPUT || outcome.kind === "skipped") return;
        for (const id of tryDecode(INPUT_COMMITMENT, outcome.commitment) ?? []) {
          const addition = clients().additions.get(toHex(id));
          if (addition === undefined) throw new Broken(once, `${run}: nobody added ${toHex(id).slice(0, 12)}`);
          if (addition.slot !== outcome.slot) throw new Broken(once, `${run}: added to slot ${addition.slot}`);
        }
      },
      finished(each) {
        for (const { replica, honest, name: by } of each.ready) {
          if (!honest || replica === undefined) continue;
          const ids = replica.state.ledger.map(({ id }) => toHex(id));
          if (new Set(ids).size !== ids.length) throw new Broken(once, `${by} has an addition twice`);
        }
      },
    },
  ];
}

/** A quorum may have signed over it: all of one but the corrupt members have read it on one chain, and have not forgotten it. */
function durable(
  world: LogWorld,
  slot: bigint,
  appliedBy: ReadonlyMap<string, ReadonlyMap<LogMember, number>>,
): boolean {
  if (world.epochs.length > 1) return false;
  const { members } = world.rosterAt(slot);
  const needed = quorumOfSize(members.length) - world.corrupt;
  for (const by of appliedBy.values()) {
    const still = new Set([...by].filter(([host, memory]) => host.memory === memory).map(([host]) => host.index));
    if (still.size >= needed) return true;
  }
  return false;
}

function caughtUp(world: LogWorld, host: LogMember): boolean {
  const { replica } = host;
  if (replica === undefined || !onTrunk(world, host)) return false;
  return Number(replica.position) === world.broker(replica.generation).trunk.messages.length;
}

/** log.md §3: members that are shown different logs do not all go on along them. */
function liedTo(): LogChecker {
  const name = "whoever is shown another log stops";
  return {
    name,
    finished(world) {
      const newest = world.lies.at(-1);
      if (newest === undefined || world.time.nowMs < newest.atMs + FOUND_AFTER_SLOTS * SLOT_MS) return;
      const reading = world.ready.flatMap(({ name: host, honest, replica }) =>
        honest && replica !== undefined && replica.generation === world.generation ? [{ host, replica }] : [],
      );
      for (const { host, replica } of reading) {
        const apart = reading.flatMap((other) => {
          const at = other.replica.position < replica.position ? other.replica.position : replica.position;
          const [a, b] = [replica.headAt(at), other.replica.headAt(at)];
          return a === undefined || b === undefined || equalBytes(a, b) ? [] : [`${other.host} from position ${at}`];
        });
        // It can know once no quorum may be on its own side (ForkWatch): with fewer there that show it, it waits for one.
        const { members, quorum } = replica.quorum;
        if (apart.length <= members - quorum) continue;
        throw new Broken(name, `${host} goes on along another log than ${apart.join(", ")}`);
      }
    },
  };
}

export function logCheckers(world: () => LogWorld, clients: () => LogClients): readonly LogChecker[] {
  return [
    // First: they say who has been misled, of whom the others ask nothing.
    ...eraCheckers(world),
    history(world),
    sameState(),
    goesOn(world),
    lanes(),
    frauds(world),
    ...certificates(world),
    ...oneWord(world),
    stands(world),
    ...additions(clients),
    liedTo(),
  ];
}

/**
 * A quorum goes on along a chain that no log holds: the broker had shown it entries of its own, and went over to the log of all.
 * Whoever reads that one cannot follow before they are started again (docs/testing.md, limit (c)).
 */
function leftOnTheLog(world: LogWorld, host: LogMember): boolean {
  const { replica } = host;
  if (replica === undefined || !onTrunk(world, host)) return false;
  const { messages } = world.broker(replica.generation).trunk;
  const away = world.ready.filter((other) => {
    if (!other.honest || other.replica?.generation !== replica.generation) return false;
    const parted = partedAt(replica, other.replica);
    const [before, raw] = [replica.headAt((parted ?? 0n) - 1n), messages[Number(parted ?? 0n) - 1]];
    if (parted === undefined || before === undefined || raw === undefined) return false;
    return equalBytes(nextHead(before, parted, raw), replica.headAt(parted) ?? before);
  });
  return new Set(away.map(({ index }) => index)).size >= world.quorumAt(world.slot);
}

/** The first position at which two chains differ, as far as both are known. */
function partedAt(one: LogReplica, other: LogReplica): bigint | undefined {
  let parted: bigint | undefined;
  for (let at = one.position < other.position ? one.position : other.position; at >= 0n; at--) {
    const [a, b] = [one.headAt(at), other.headAt(at)];
    if (a === undefined || b === undefined) return undefined;
    if (equalBytes(a, b)) return parted;
    parted = at;
  }
  return parted;
}

/** I15: once all is well again, the committee decides slots, and every honest member takes part. */
export function missingLogLiveness(world: LogWorld, fromSlot: number, toSlot: number): string | undefined {
  if (world.undecidable) {
    world.count("undecidable end");
    return undefined;
  }
  if (world.lostForAll) {
    world.count("lost for all");
    return undefined;
  }
  for (const host of world.hosts) {
    if (!host.honest || host.ended || host.run === 0 || world.seat(host.index) !== host) continue;
    if (world.epochs.length > 1 && host.replica?.hasSeat(host.index, world.slot) === false) continue;
    if (!(host.alive && host.member?.ready() === true)) {
      if (!leftOnTheLog(world, host)) return `${host.name} is not ready`;
      world.count("left on the log by a quorum");
      continue;
    }
    if (host.replica?.generation !== world.generation) return `${host.name} is in another generation`;
  }
  let good = 0;
  let all = 0;
  for (let slot = fromSlot; slot < toSlot; slot++) {
    for (const stage of [INPUT, OPENED]) {
      const kind = world.certificates.get(`${stage}/${slot}`)?.outcome.kind;
      all += 1;
      if (kind === "result" || kind === "empty") good += 1;
    }
  }
  const most = world.corrupt === 0 ? 0.8 : 0.3;
  return good < all * most ? `${good} of ${all} stages from slot ${fromSlot} on` : undefined;
}
