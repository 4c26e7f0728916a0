/**
 * What the log shows of this very member that it must not go on after: its key is proven to say two things, a newer process
 * speaks for it, its seat is given up, a quorum has another state, or what follows is beyond its build.
 */
import { equalBytes, toHex } from "../codec/codec.ts";
import type { Applied } from "../committee/committee.ts";
import type { Dissent } from "../committee/effects.ts";
import type { BlockedKey } from "../committee/state.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { EpochKeys } from "./epoch-keys.ts";
import type { Halt } from "./halt.ts";

/** What is asked of the committee, by the log as far as it was applied. */
interface OwnCommittee {
  readonly roster: { readonly epoch: bigint; readonly members: { readonly length: number } };
  readonly quorum: { readonly quorum: number };
  readonly unknownRules: { readonly message: string } | undefined;
  /** Keys that were proven to say two things. */
  readonly blocked: readonly Pick<BlockedKey, "memberKey" | "kind" | "position" | "proof">[];
  /** The newest epoch in which that member has that key. */
  epochOf(index: number, key: Uint8Array): bigint | undefined;
  hasLeft(index: number): boolean;
  author(index: number): { readonly incarnation: bigint } | undefined;
}

export interface OwnStandingOptions {
  readonly self: number;
  /** The member key, 32 bytes. */
  readonly publicKey: Uint8Array;
  readonly committee: OwnCommittee;
  /** What this process speaks as; undefined or 0 before it has said anything. */
  readonly incarnation: () => bigint | undefined;
  readonly keys: Pick<EpochKeys, "erase">;
  readonly halt: Pick<Halt, "silent" | "fail">;
  readonly logger: Logger;
  readonly meters: Meters;
}

export class OwnStanding {
  readonly #options: OwnStandingOptions;

  constructor(options: OwnStandingOptions) {
    this.#options = options;
  }

  checkKey(): void {
    const { committee, publicKey, halt } = this.#options;
    const found = committee.blocked.find(({ memberKey }) => equalBytes(memberKey, publicKey));
    if (found === undefined) return;
    const what = found.kind === "votes" ? "two votes" : "two entries in one place";
    // By its hash the proof is asked for (GetFraud), and named in the others' data folders.
    const where = `committed at position ${found.position}, proof ${toHex(found.proof)}`;
    halt.fail("KEY_BLOCKED", `this member's own key was proven to say two things: ${what}, ${where}`);
  }

  /** What follows is beyond this build: whoever goes on would guess. */
  checkRules(): void {
    const { committee, halt } = this.#options;
    const unknown = committee.unknownRules;
    if (unknown !== undefined) halt.fail("RULES_UNKNOWN", unknown.message);
  }

  /** To be shown everything that was applied, in order. */
  applied({ author }: Pick<Applied, "author">): void {
    if (author === this.#options.self) this.#checkSucceeded();
    this.#checkLeft();
  }

  /** A higher incarnation of this member means a newer process: this one must fall silent. */
  #checkSucceeded(): void {
    const { committee, self, incarnation, halt } = this.#options;
    // While its own number is being journaled, it is the older process's words that still land.
    const own = incarnation() ?? 0n;
    if (own === 0n) return;
    const current = committee.author(self)?.incarnation ?? 0n;
    if (current > own) halt.fail("SUCCEEDED", "a newer process speaks for this member");
  }

  /** The committee has given up this member's seat, and needs nothing from it any more: its shares go with it. */
  #checkLeft(): void {
    const { committee, self, publicKey, keys, halt, logger } = this.#options;
    if (self < committee.roster.members.length || committee.epochOf(self, publicKey) === undefined) return;
    if (halt.silent || !committee.hasLeft(self)) return;
    const { epoch } = committee.roster;
    keys.erase(epoch).catch((error: unknown) => {
      logger.error("the shares of a member that left cannot be erased: remove them", errorFields(error));
    });
    halt.fail("SEAT_GIVEN_UP", `epoch ${epoch} has no member ${self}`);
  }

  /** Members that certified another state are many enough: this one has diverged and must not speak. */
  dissent({ position, authors, stateHash }: Dissent): void {
    const { committee, halt, logger, meters } = this.#options;
    const hash = toHex(stateHash);
    logger.error("members have another state than this one", { position, authors: authors.join(), state_hash: hash });
    meters.count("lattice_checkpoint_dissent_total", 1, { author: String(authors.at(-1)) });
    if (authors.length < committee.quorum.quorum) return;
    halt.fail("STATE_DIVERGED", `at position ${position} members ${authors.join(", ")} certified state ${hash}`);
  }
}
