/**
 * Checkpoints as they are made and voted on: when one is due, what it states, whose shares it has. q members that signed
 * this replica's state certify it; those that signed another are named.
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import { blsVerify } from "../crypto/bls.ts";
import { type Refusal, refuse } from "../machine.ts";
import type { Certifier } from "./certifier.ts";
import { type Checkpoint, checkpointDigest, guestHash, stateHash } from "./checkpoint.ts";
import type { CommitteeCommand } from "./commands.ts";
import type { Effects } from "./effects.ts";
import type { Epochs } from "./epochs.ts";
import type { SlotWindow } from "./slot-window.ts";
import { CHECKPOINTS_KEPT, type CheckpointRecord, type SharedState } from "./state.ts";

/** A checkpoint is due after so many entries, or when the lowest undecided slot has come so far. */
export interface CheckpointSchedule {
  readonly entries: bigint;
  readonly slots: bigint;
}

/** One state, as members keep it and as guests get it, canonically. */
export interface Snapshots {
  readonly state: Uint8Array;
  readonly guest: Uint8Array;
}

export class CheckpointVotes {
  readonly #committee: Uint8Array;
  readonly #schedule: CheckpointSchedule;
  readonly #shared: SharedState;
  readonly #window: SlotWindow;
  readonly #epochs: Epochs;
  readonly #certifier: Certifier;
  /** By position and hash: who signed another state. What this replica has seen of others, and no part of its state. */
  readonly #dissenters = new Map<bigint, Map<string, Set<number>>>();
  /** A guest's: by position and what was signed of the full state, which a guest cannot know, the shares. */
  readonly #guestVotes = new Map<bigint, Map<string, Map<number, Uint8Array>>>();

  constructor(
    committee: Uint8Array,
    schedule: CheckpointSchedule,
    shared: SharedState,
    { window, epochs, certifier }: { window: SlotWindow; epochs: Epochs; certifier: Certifier },
  ) {
    this.#committee = committee;
    this.#schedule = schedule;
    this.#shared = shared;
    this.#window = window;
    this.#epochs = epochs;
    this.#certifier = certifier;
  }

  /** The state has become another, or another generation's: what was seen of others does not concern it. */
  forget(): void {
    this.#dissenters.clear();
    this.#guestVotes.clear();
  }

  /** True when a checkpoint is due here; the next one is then counted from here. */
  takeDue(): boolean {
    const shared = this.#shared;
    const { entries, slots } = this.#schedule;
    const lowest = this.#window.lowest;
    if (shared.position < shared.checkpointAt + entries && lowest / slots <= shared.checkpointSlot / slots) {
      return false;
    }
    shared.checkpointAt = shared.position;
    shared.checkpointSlot = lowest;
    return true;
  }

  /** What there is to certify of the state here. */
  stated({ state, guest }: Snapshots): Checkpoint {
    return this.#checkpoint(this.#shared.position, this.#record({ state, guest }));
  }

  /** Opens the vote on the state here. Its record is no part of the state that it hashes: a restored state adds it again. */
  open({ state, guest }: Snapshots): Checkpoint {
    const { checkpoints, position } = this.#shared;
    const record = this.#record({ state, guest });
    checkpoints.set(position, record);
    const old = [...checkpoints.keys()].sort((a, b) => (a < b ? 1 : -1)).slice(CHECKPOINTS_KEPT);
    for (const each of old) checkpoints.delete(each);
    for (const each of this.#dissenters.keys()) if (!checkpoints.has(each)) this.#dissenters.delete(each);
    for (const each of this.#guestVotes.keys()) if (!checkpoints.has(each)) this.#guestVotes.delete(each);
    return this.#checkpoint(position, record);
  }

  #record({ state, guest }: Snapshots): CheckpointRecord {
    return {
      epoch: this.#epochs.current.epoch,
      rules: this.#shared.rules.active,
      head: this.#shared.heads.at(-1) ?? new Uint8Array(32),
      stateHash: stateHash(state),
      stateBytes: state.length,
      guestHash: guestHash(guest),
      guestBytes: guest.length,
      votes: new Map(),
    };
  }

  #checkpoint(position: bigint, record: Omit<CheckpointRecord, "votes">): Checkpoint {
    const { epoch, rules, head, stateHash, stateBytes, guestHash, guestBytes } = record;
    const { generation } = this.#shared;
    const state = { stateHash, stateBytes, guestHash, guestBytes };
    return { version: 3, committee: this.#committee, generation, epoch, rules, position, head, ...state };
  }

  vote(
    author: number,
    said: Extract<CommitteeCommand, { readonly type: "checkpoint" }>,
    effects: Effects,
  ): Refusal | undefined {
    const { position, share } = said;
    const record = this.#shared.checkpoints.get(position);
    if (record === undefined) return refuse("CHECKPOINT_UNKNOWN", `no checkpoint is open at position ${position}`);
    const { epoch, rules, head } = record;
    const member = this.#epochs.of(epoch)?.members[author];
    if (member === undefined) return refuse("NOT_AUTHOR", "no such member");
    const quorum = this.#quorum(record);
    if (record.votes.has(author)) return refuse("DUPLICATE", `member ${author} has voted for position ${position}`);
    const isGuest = this.#shared.view === "guest";
    const sameGuest = equalBytes(said.guestHash, record.guestHash) && said.guestBytes === record.guestBytes;
    const sameState = equalBytes(said.stateHash, record.stateHash) && said.stateBytes === record.stateBytes;
    const same = sameGuest && (isGuest || sameState);
    // Certified already: a further share adds nothing and costs a pairing.
    if (same && record.votes.size >= quorum) return undefined;
    const claimed = this.#checkpoint(position, { ...said, epoch, rules, head });
    const digest = checkpointDigest(claimed);
    const together = same && this.#certifier.together;
    if (!together && !blsVerify(member.certificateShare, digest, share)) {
      return refuse("BAD_SHARE", `member ${author}'s share for position ${position} does not verify`);
    }
    if (!same) {
      this.#noteDissent(author, claimed, effects);
      return refuse("STATE_DIFFERS", `member ${author} has another state at position ${position}`);
    }
    const votes = isGuest ? this.#guestVotesFor(claimed) : record.votes;
    votes.set(author, share);
    if (votes.size < quorum) return undefined;
    if (together) {
      const settled = this.#certifier.settle(votes, { digest, epoch, what: `position ${position}` }, effects);
      if ("bad" in settled) {
        if (!settled.bad.includes(author)) return undefined;
        return refuse("BAD_SHARE", `member ${author}'s share for position ${position} does not verify`);
      }
    }
    if (isGuest) {
      record.stateHash = claimed.stateHash;
      record.stateBytes = claimed.stateBytes;
      record.votes = votes;
    }
    effects.certifiedCheckpoint = this.#checkpoint(position, record);
    return undefined;
  }

  #noteDissent(author: number, claimed: Checkpoint, effects: Effects): void {
    const { position } = claimed;
    const byHash = this.#dissenters.get(position) ?? new Map<string, Set<number>>();
    const key = `${toHex(claimed.stateHash)}/${claimed.stateBytes}/${toHex(claimed.guestHash)}/${claimed.guestBytes}`;
    const authors = (byHash.get(key) ?? new Set()).add(author);
    this.#dissenters.set(position, byHash.set(key, authors));
    effects.dissent = { position, stateHash: claimed.stateHash, authors: [...authors].sort((a, b) => a - b) };
  }

  /** A guest takes from members what the full state is, once q of them have signed the same together with its own. */
  #guestVotesFor({ position, stateHash: full, stateBytes }: Checkpoint): Map<number, Uint8Array> {
    const byState = this.#guestVotes.get(position) ?? new Map<string, Map<number, Uint8Array>>();
    const key = `${toHex(full)}/${stateBytes}`;
    const votes = byState.get(key) ?? new Map<number, Uint8Array>();
    this.#guestVotes.set(position, byState.set(key, votes));
    return votes;
  }

  /** Checkpoints that this member has not voted for and that still need votes, oldest first. */
  unvoted(self: number): Checkpoint[] {
    const open: Checkpoint[] = [];
    for (const [position, record] of [...this.#shared.checkpoints].sort(([a], [b]) => (a < b ? -1 : 1))) {
      if (record.votes.size < this.#quorum(record) && !record.votes.has(self)) {
        open.push(this.#checkpoint(position, record));
      }
    }
    return open;
  }

  #quorum({ epoch }: CheckpointRecord): number {
    return this.#epochs.quorumOf(epoch).quorum;
  }
}
