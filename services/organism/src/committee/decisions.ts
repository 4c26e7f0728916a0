/**
 * Decisions: each stage of each slot ends once, in an outcome that members then certify by their votes. A vote is a share
 * of the certificate; those of q members of the slot's epoch make it complete.
 */
import { blsVerify } from "../crypto/bls.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { invariant } from "../fault.ts";
import { type Decision, type Refusal, refuse } from "../machine.ts";
import type { Certifier } from "./certifier.ts";
import type { Effects } from "./effects.ts";
import type { Epochs } from "./epochs.ts";
import { COMMITMENT_BYTES_MAX, type Outcome, outcomeDigest } from "./outcome.ts";
import type { SlotWindow } from "./slot-window.ts";
import type { SharedState, StageRecord } from "./state.ts";

export interface Vote {
  readonly stage: string;
  readonly slot: bigint;
  readonly share: Uint8Array;
}

export class Decisions {
  readonly #committee: Uint8Array;
  readonly #shared: SharedState;
  readonly #window: SlotWindow;
  readonly #epochs: Epochs;
  readonly #certifier: Certifier;
  /** Those without a certificate, by slot: members look at them all the time. Undefined after any of them changed. */
  #uncertified: readonly StageRecord[] | undefined;
  /** Of decisions whose shares were combined here. */
  readonly #signatures = new WeakMap<StageRecord, Uint8Array>();

  constructor(
    committee: Uint8Array,
    shared: SharedState,
    { window, epochs, certifier }: { window: SlotWindow; epochs: Epochs; certifier: Certifier },
  ) {
    this.#committee = committee;
    this.#shared = shared;
    this.#window = window;
    this.#epochs = epochs;
    this.#certifier = certifier;
  }

  /** The state has become another: what was derived of it is looked up anew. */
  reread(): void {
    this.#uncertified = undefined;
  }

  of(stage: string, slot: bigint): Readonly<StageRecord> | undefined {
    return this.#shared.slots.get(slot)?.stages.get(stage);
  }

  /** Those of slots from `fromSlot` on that are still held, in slot order. */
  from(fromSlot: bigint): Readonly<StageRecord>[] {
    const slots = [...this.#shared.slots].sort(([a], [b]) => (a < b ? -1 : 1));
    return slots.flatMap(([slot, { stages }]) => (slot < fromSlot ? [] : [...stages.values()]));
  }

  /** The first decision of a stage stands. @returns false where it is not for the machine to decide, or not any more */
  decide({ stage, slot, kind, commitment, bodyHash }: Decision, effects: Effects): boolean {
    const known = this.#shared.floors.has(stage);
    if (!known || !this.#window.contains(slot) || slot < this.#window.floor(stage)) return false;
    invariant(commitment.length <= COMMITMENT_BYTES_MAX, "a commitment fits its limit");
    invariant(kind !== "skipped" || commitment.length === 0, "a skipped stage commits to nothing");
    const record = this.#window.record(slot);
    if (record.stages.has(stage)) return false;
    const { generation } = this.#shared;
    const { epoch } = this.#epochs.at(slot);
    const named = { version: 1, committee: this.#committee, generation, epoch, slot, stage } as const;
    const outcome: Outcome = { ...named, kind, commitment, bodyHash };
    record.stages.set(stage, { outcome, certified: false, votes: new Map() });
    this.#uncertified = undefined;
    let floor = this.#window.floor(stage);
    while (this.#shared.slots.get(floor)?.stages.has(stage) === true) floor += 1n;
    this.#shared.floors.set(stage, floor);
    effects.decided.push(outcome);
    return true;
  }

  vote(author: number, votes: readonly Vote[], effects: Effects): Refusal | undefined {
    // All or none: what is refused here changes nothing. Shares that nobody has looked at yet are struck out singly below.
    const added: { readonly record: StageRecord; readonly share: Uint8Array }[] = [];
    const seen = new Set<StageRecord>();
    for (const { stage, slot, share } of votes) {
      const record = this.#shared.slots.get(slot)?.stages.get(stage);
      if (record === undefined) return refuse("OUTCOME_UNKNOWN", `nothing is decided for ${stage} of slot ${slot}`);
      // Certified already: a further share adds nothing and costs a pairing. Who voted may be forgotten.
      if (record.certified) continue;
      if (record.votes.has(author) || seen.has(record)) {
        return refuse("DUPLICATE", `member ${author} has voted for ${stage} of slot ${slot}`);
      }
      seen.add(record);
      const member = this.#epochs.of(record.outcome.epoch)?.members[author];
      if (member === undefined) return refuse("NOT_AUTHOR", "no such member");
      if (!this.#certifier.together && !blsVerify(member.certificateShare, outcomeDigest(record.outcome), share)) {
        return refuse("BAD_SHARE", `member ${author}'s share for ${stage} of slot ${slot} does not verify`);
      }
      added.push({ record, share });
    }
    let own: string | undefined;
    for (const { record, share } of added) {
      const { outcome, votes: held } = record;
      held.set(author, share);
      if (held.size < this.#quorum(outcome)) continue;
      if (this.#certifier.together) {
        const what = `${outcome.stage} of slot ${outcome.slot}`;
        const signed = { digest: outcomeDigest(outcome), epoch: outcome.epoch, what };
        const settled = this.#certifier.settle(held, signed, effects);
        if ("bad" in settled) {
          if (settled.bad.includes(author)) own ??= what;
          continue;
        }
        if (settled.signature !== undefined) this.#signatures.set(record, settled.signature);
      }
      record.certified = true;
      this.#uncertified = undefined;
      effects.certified.push(outcome);
    }
    return own === undefined ? undefined : refuse("BAD_SHARE", `member ${author}'s share for ${own} does not verify`);
  }

  /** Those that this member has not voted for and that still need votes, oldest first. */
  unvoted(self: number): Outcome[] {
    this.#uncertified ??= this.#findUncertified();
    return this.#uncertified.filter(({ votes }) => !votes.has(self)).map(({ outcome }) => outcome);
  }

  /** The lowest slot from `fromSlot` on with a decision that still needs votes. */
  lowestUncertified(fromSlot: bigint): bigint | undefined {
    this.#uncertified ??= this.#findUncertified();
    return this.#uncertified.find(({ outcome }) => outcome.slot >= fromSlot)?.outcome.slot;
  }

  #findUncertified(): StageRecord[] {
    const found: StageRecord[] = [];
    for (const { stages } of this.#shared.slots.values()) {
      for (const record of stages.values()) if (!record.certified) found.push(record);
    }
    return found.sort(({ outcome: a }, { outcome: b }) => (a.slot < b.slot ? -1 : a.slot > b.slot ? 1 : 0));
  }

  /** The certificate's signature over a decision, once it is complete. */
  signature(stage: string, slot: bigint): Uint8Array | undefined {
    const record = this.#shared.slots.get(slot)?.stages.get(stage);
    if (record?.certified !== true) return undefined;
    const known = this.#signatures.get(record);
    if (known !== undefined) return known;
    const quorum = this.#quorum(record.outcome);
    return combineSignatures(
      [...record.votes].slice(0, quorum).map(([index, share]) => ({ index, signature: share })),
      quorum,
    );
  }

  #quorum({ epoch }: Outcome): number {
    return this.#epochs.quorumOf(epoch).quorum;
  }
}
