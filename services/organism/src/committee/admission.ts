/**
 * Admission: whether a message of the log is its author's next entry (log.md §2), and the place that it then takes in
 * its author's lane. What is not changes nothing, and its author may say it again.
 */
import { equalBytes } from "../codec/codec.ts";
import { verifyTagged } from "../crypto/ed25519.ts";
import { type Refusal, refuse } from "../machine.ts";
import { isBlockedKey } from "./blocked-keys.ts";
import { type CommitteeCommand, type ReadCommand, readCommand } from "./commands.ts";
import { ENTRY_TAG, type EntryBody, JOIN_BYTES_MAX, type ReadEntry, ZERO_HASH } from "./entry.ts";
import type { Epochs } from "./epochs.ts";
import type { Roster } from "./roster.ts";
import { type AuthorState, emptyAuthor, headAt, type SharedState } from "./state.ts";

/** An entry that is not taken. No author: its signature does not say whose it is. */
export interface Refused {
  readonly author?: number;
  readonly refusal: Refusal;
}

/** An entry that has taken its place, whatever it carries. */
export interface Admitted {
  readonly author: AuthorState;
  readonly command: ReadCommand;
}

type Join = Extract<CommitteeCommand, { readonly type: "join" }>;

/** Who an entry says that it is from. */
interface Speaker {
  readonly roster: Roster;
  readonly memberKey: Uint8Array;
  readonly author: AuthorState;
}

function refused(reason: string, detail: string, author?: number): Refused {
  return { refusal: refuse(reason, detail), ...(author === undefined ? {} : { author }) };
}

export class Admission {
  readonly #committee: Uint8Array;
  readonly #shared: SharedState;
  readonly #epochs: Epochs;

  constructor(committee: Uint8Array, shared: SharedState, epochs: Epochs) {
    this.#committee = committee;
    this.#shared = shared;
    this.#epochs = epochs;
  }

  /** @param raw what `entry` was read from */
  take(position: bigint, raw: Uint8Array, entry: ReadEntry): Admitted | Refused {
    const { body, hash } = entry;
    const { author: index, lane } = body;
    const speaker = this.#speaker(body);
    if ("refusal" in speaker) return speaker;
    const command = readCommand(body.command);
    const join = "command" in command && command.command.type === "join" ? command.command : undefined;
    const problem =
      join === undefined ? this.#judgeNext(entry, speaker) : this.#judgeJoin(entry, raw.length, join, speaker);
    if (problem !== undefined) return problem;
    const unseen = this.#checkHead(position, body);
    if (unseen !== undefined) return { author: index, refusal: unseen };

    const author = join === undefined ? speaker.author : joined(speaker, join, raw);
    this.#shared.authors[index] = author;
    author[lane] = { sequence: body.sequence, previous: hash };
    return { author, command };
  }

  #speaker({ committee, generation, epoch, author: index }: EntryBody): Speaker | Refused {
    if (!equalBytes(committee, this.#committee))
      return refused("ORGANISM_MISMATCH", "the entry belongs to another committee");
    if (generation !== this.#shared.generation)
      return refused("OUT_OF_ORDER", "the entry belongs to another generation");
    const author = this.#shared.authors[index];
    const roster = this.#epochs.of(epoch);
    if (roster === undefined) return refused("OUT_OF_ORDER", "the entry belongs to another epoch");
    const memberKey = roster.members[index]?.memberKey;
    if (author === undefined || memberKey === undefined) return refused("NOT_AUTHOR", "no such member");
    // All incarnations: the proof is against the key that admits them. What it said before still counts.
    if (isBlockedKey(this.#shared.blocked, memberKey))
      return refused("KEY_BLOCKED", `member ${index} was proven to say two things`);
    if (roster.epoch < this.#epochs.current.epoch && this.#epochs.hasLeft(index))
      return refused("NOT_AUTHOR", `member ${index} has left the committee`);
    return { roster, memberKey, author };
  }

  /** A Join: an incarnation of the member key, above all before, opens its lanes. */
  #judgeJoin(
    { body, bodyBytes, signature }: ReadEntry,
    length: number,
    join: Join,
    { roster, memberKey, author }: Speaker,
  ): Refused | undefined {
    const { author: index } = body;
    if (!verifyTagged(memberKey, ENTRY_TAG, bodyBytes, signature)) {
      return refused("NOT_AUTHOR", "the join is not signed by the member key");
    }
    if (!this.#mayFollow(author, index, roster)) {
      return refused("NOT_AUTHOR", "another member has taken this one's place", index);
    }
    if (join.incarnation !== body.incarnation || join.incarnation <= author.incarnation) {
      return refused("NOT_AUTHOR", "this incarnation or a higher one has joined already", index);
    }
    if (body.lane !== "ctl" || body.sequence !== 1n || !equalBytes(body.previous, ZERO_HASH)) {
      return refused("OUT_OF_ORDER", "a join opens the ctl lane", index);
    }
    if (length > JOIN_BYTES_MAX) return refused("TOO_LARGE", "a join is short", index);
    return undefined;
  }

  /** Whoever has taken a member's place keeps it: a join under `roster` may not bring back one whom a later roster replaced. */
  #mayFollow({ memberKey }: AuthorState, index: number, roster: Roster): boolean {
    if (memberKey === undefined) return true;
    const holder = roster.members[index]?.memberKey;
    if (holder !== undefined && equalBytes(holder, memberKey)) return true;
    return this.#epochs.held(index, memberKey).every((epoch) => epoch < roster.epoch);
  }

  /** Anything else: the next of the current incarnation in its lane. */
  #judgeNext(
    { body, bodyBytes, signature, verifiedBy }: ReadEntry,
    { memberKey, author }: Speaker,
  ): Refused | undefined {
    const own = author.memberKey !== undefined && equalBytes(author.memberKey, memberKey);
    if (author.key === undefined || !own || body.incarnation !== author.incarnation) {
      return refused("NOT_AUTHOR", "not the member's current incarnation");
    }
    const known = verifiedBy !== undefined && equalBytes(verifiedBy, author.key);
    if (!known && !verifyTagged(author.key, ENTRY_TAG, bodyBytes, signature)) {
      return refused("NOT_AUTHOR", "the entry is not signed by the incarnation key");
    }
    const lane = author[body.lane];
    if (body.sequence !== lane.sequence + 1n || !equalBytes(body.previous, lane.previous)) {
      const detail = `sequence ${body.sequence} after ${lane.sequence}, or another predecessor`;
      return refused("OUT_OF_ORDER", detail, body.author);
    }
    return undefined;
  }

  /** A stated head must be in this chain: a fork shows at the first entry that crosses it (log.md §2). */
  #checkHead(position: bigint, body: EntryBody): Refusal | undefined {
    const ahead = body.seenPosition >= position || body.seenPosition > this.#shared.position;
    if (ahead) return refuse("FORKED_HEAD", "the author saw what is not yet here");
    const seen = headAt(this.#shared, body.seenPosition);
    if (seen === undefined) return refuse("VIEW_TOO_OLD", "the author's view of the log is too old to compare");
    if (!equalBytes(seen, body.seenHead)) {
      return refuse("FORKED_HEAD", `at position ${body.seenPosition} member ${body.author} saw another chain`);
    }
    return undefined;
  }
}

/** Lanes and half-told commands begin anew; the clock and what it let expire stay the member's. */
function joined({ memberKey, author }: Speaker, { incarnation, key }: Join, raw: Uint8Array): AuthorState {
  const { clockMs, skips } = author;
  return { ...emptyAuthor(), memberKey, incarnation, key, join: raw.slice(), clockMs, skips };
}
