/** How members agree in the log on the rules to go on by (rules.ts): what each can follow, the plan, the change. */
import { equalBytes } from "../codec/codec.ts";
import { type Refusal, refuse } from "../machine.ts";
import { isBlockedKey } from "./blocked-keys.ts";
import type { Effects } from "./effects.ts";
import type { Epochs } from "./epochs.ts";
import { agreedRules, type RulePlan, type RuleRange, type RulesSaid, RulesUnknown, speaks } from "./rules.ts";
import type { SharedState } from "./state.ts";

export class RuleActivation {
  readonly #shared: SharedState;
  readonly #epochs: Epochs;
  readonly #speaks: RuleRange;
  readonly #ahead: bigint;

  /**
   * @param range what this build can follow
   * @param ahead how many entries lie between the quorum and the first entry under new rules
   */
  constructor(shared: SharedState, epochs: Epochs, range: RuleRange, ahead: bigint) {
    this.#shared = shared;
    this.#epochs = epochs;
    this.#speaks = range;
    this.#ahead = ahead;
  }

  /**
   * Rules that the next entry needs and this build does not have: it must stop here. Undefined while it may go on.
   * Until the very position a plan may lapse.
   */
  get unknown(): RulesUnknown | undefined {
    const { active, since, next } = this.#shared.rules;
    if (!speaks(this.#speaks, active)) return new RulesUnknown(active, this.#speaks, since, this.#builds(active));
    if (next === undefined || next.from > this.#shared.position + 1n || !this.#stands(next)) return undefined;
    if (speaks(this.#speaks, next.version)) return undefined;
    return new RulesUnknown(next.version, this.#speaks, next.from, this.#builds(next.version));
  }

  /** Builds whose processes say that they can follow `version`, without repetition. */
  #builds(version: number): string[] {
    const said = this.#shared.authors.flatMap(({ rules }) =>
      rules === undefined || rules.highest < version ? [] : [rules.build],
    );
    return [...new Set(said)].sort();
  }

  /** What each member's process can follow, as far as it may be counted on: 0 for the others. */
  #said(): number[] {
    const { members } = this.#epochs.current;
    return this.#shared.authors.map(({ memberKey, rules }, index) => {
      const current = members[index]?.memberKey;
      const counts =
        rules !== undefined && memberKey !== undefined && current !== undefined && equalBytes(memberKey, current);
      return counts && !isBlockedKey(this.#shared.blocked, memberKey) ? rules.highest : 0;
    });
  }

  #stands({ version }: RulePlan): boolean {
    return this.#said().filter((highest) => highest >= version).length >= this.#epochs.quorum.quorum;
  }

  #plan(position: bigint, effects: Effects): void {
    const { rules } = this.#shared;
    if (rules.next !== undefined) return;
    const version = agreedRules(this.#said(), this.#epochs.quorum.quorum, rules.active);
    if (version === undefined) return;
    rules.next = { version, from: position + this.#ahead };
    effects.planned = rules.next;
  }

  /** Before an entry is applied: the rules that were planned for it govern it. @throws RulesUnknown, nothing is changed */
  takeUp(position: bigint, effects: Effects): void {
    const unknown = this.unknown;
    if (unknown !== undefined) throw unknown;
    const { rules } = this.#shared;
    const { next } = rules;
    if (next === undefined || position < next.from) return;
    rules.next = undefined;
    if (this.#stands(next)) {
      rules.active = next.version;
      rules.since = position;
      effects.activated = next.version;
    }
    this.#plan(position, effects);
  }

  /** A member's process says what it can follow. */
  say(position: bigint, author: number, { highest, build }: RulesSaid, effects: Effects): Refusal | undefined {
    const state = this.#shared.authors[author];
    if (state === undefined) return refuse("NOT_AUTHOR", "no such member");
    if (state.rules !== undefined && highest <= state.rules.highest) return refuse("DUPLICATE", "said already");
    state.rules = { highest, build };
    this.#plan(position, effects);
    return undefined;
  }
}
