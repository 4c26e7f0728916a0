/**
 * Deliberately broken builds: each replaces a few characters of one source file as it is loaded, and names the checker
 * that must notice. So every checker is shown to be able to fail, against the real code.
 */
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import type { Behaviour } from "./byzantine.ts";

export interface Edit {
  /** Below `services/`. */
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Mutation {
  readonly name: string;
  /** The checker that must complain. */
  readonly caughtBy: string;
  readonly edits: readonly Edit[];
  readonly mode: "safety" | "liveness" | "calm" | "lying" | "log" | "log-calm";
  readonly slots: number;
  readonly seeds: number;
  readonly behaviours?: readonly Behaviour[];
  /** In every committee; drawn from the seed when left out. */
  readonly members?: number;
  /** The only faults there are. */
  readonly faults?: readonly string[];
  readonly live?: boolean;
  readonly eras?: boolean;
}

const COMMITTEE = "organism/src/committee/committee.ts";
const ADMISSION = "organism/src/committee/admission.ts";
const DECISIONS = "organism/src/committee/decisions.ts";
const KEPT_OUTCOMES = "organism/src/node/kept-outcomes.ts";
const DUTIES = "organism/src/node/duty-round.ts";
/** Edits that break builds of six committees and of one (`log/mutations.ts`). */
export const SHARES_TAKEN_UNSEEN: readonly Edit[] = [
  {
    file: DECISIONS,
    find: "if (!this.#certifier.together && !blsVerify(member.certificateShare, outcomeDigest(record.outcome), share)) {",
    replace: "if (false) {",
  },
  {
    file: "organism/src/committee/certifier.ts",
    find: "if (signature !== undefined && blsVerify(certificateKey, digest, signature)) return { signature };",
    replace: "return { signature };",
  },
];
export const ANOTHER_BLOCKED: readonly Edit[] = [
  {
    file: COMMITTEE,
    find: "blockKey(this.#shared.blocked, verdict.fraud,",
    replace:
      "blockKey(this.#shared.blocked, { ...verdict.fraud, member: (verdict.fraud.member + 1) % this.roster.members.length },",
  },
];
export const CHANCY_TIME: readonly Edit[] = [
  {
    file: COMMITTEE,
    find: "if (median > this.#shared.logTimeMs) this.#shared.logTimeMs = median;",
    replace: "if (median > this.#shared.logTimeMs) this.#shared.logTimeMs = median - (Math.random() < 0.5 ? 1n : 0n);",
  },
];
export const STATE_FORGOTTEN: readonly Edit[] = [
  { file: COMMITTEE, find: "    this.#inner = inner;", replace: "    this.#inner = this.machine.genesis();" },
];
export const NUMBER_TWICE: readonly Edit[] = [
  {
    file: "organism/src/node/appender.ts",
    find: "    lane.sequence += 1n;\n    lane.previous = signed.hash;\n",
    replace: "",
  },
];
export const VOTES_FORGOTTEN: readonly Edit[] = [
  {
    file: COMMITTEE,
    find: "    this.#inner = inner;",
    replace:
      "    this.#inner = inner;\n    for (const { stages } of shared.slots.values()) for (const each of stages.values()) each.votes.clear();",
  },
];
export const CHAINS_IGNORED: readonly Edit[] = [
  {
    file: "organism/src/committee/heads.ts",
    find: "return this.#differing.size > members - quorum;",
    replace: "return false;",
  },
];
export const QUORUM_TOO_SMALL: readonly Edit[] = [
  {
    file: "organism/src/committee/quorum.ts",
    find: "Math.floor((members + faults) / 2) + 1",
    replace: "Math.floor((members + faults) / 2)",
  },
];
export const ANY_NUMBER: readonly Edit[] = [
  {
    file: ADMISSION,
    find: "if (body.sequence !== lane.sequence + 1n || !equalBytes(body.previous, lane.previous)) {",
    replace: "if (false) {",
  },
];

const quick = { mode: "calm", slots: 8, seeds: 2, members: 3 } as const;
const hostile = { mode: "safety", slots: 15, seeds: 12 } as const;
const lied = { mode: "lying", slots: 14, seeds: 8, members: 4 } as const;
const corrupt = { mode: "safety", slots: 12, seeds: 8, members: 4 } as const;

export const MUTATIONS: readonly Mutation[] = [
  {
    name: "a quorum is one member too few",
    caughtBy: "a certificate has a quorum",
    edits: QUORUM_TOO_SMALL,
    ...quick,
  },
  {
    name: "a certificate names fewer signers than made it",
    caughtBy: "a certificate has a quorum",
    edits: [
      {
        file: KEPT_OUTCOMES,
        find: "signers: [...votes.keys()]",
        replace: "signers: [...votes.keys()].slice(1)",
      },
    ],
    ...quick,
  },
  {
    name: "each member keeps a certificate of its own",
    caughtBy: "one certificate per stage and slot",
    edits: [
      {
        file: KEPT_OUTCOMES,
        find: "    const certified: CertifiedOutcome = {\n      outcome,",
        replace:
          "    const certified: CertifiedOutcome = {\n      outcome: { ...outcome, generation: BigInt(Math.floor(Math.random() * 2 ** 40)) },",
      },
    ],
    ...quick,
  },
  {
    name: "vote shares are not verified",
    caughtBy: "a certificate verifies",
    edits: SHARES_TAKEN_UNSEEN,
    ...corrupt,
    behaviours: ["invalid-shares"],
  },
  {
    name: "any number is taken in a lane",
    caughtBy: "entries follow one another",
    edits: ANY_NUMBER,
    ...hostile,
  },
  {
    name: "a wrong previous hash is taken",
    caughtBy: "entries follow one another",
    edits: [
      {
        file: ADMISSION,
        find: "if (body.sequence !== lane.sequence + 1n || !equalBytes(body.previous, lane.previous)) {",
        replace: "if (body.sequence !== lane.sequence + 1n) {",
      },
    ],
    ...corrupt,
  },
  {
    name: "somebody else's key is blocked for a fraud",
    caughtBy: "no honest member is taken for a fraud",
    edits: ANOTHER_BLOCKED,
    ...corrupt,
    behaviours: ["equivocate"],
  },
  {
    name: "a decided stage can be decided again",
    caughtBy: "one outcome per stage and slot",
    edits: [
      { file: DECISIONS, find: "if (record.stages.has(stage)) return false;", replace: "" },
      {
        file: DECISIONS,
        find: "!this.#window.contains(slot) || slot < this.#window.floor(stage)) return false;",
        replace: "!this.#window.contains(slot)) return false;",
      },
      {
        file: COMMITTEE,
        find: "this.#window.contains(slot) && this.outcome(stage, slot) === undefined && slot >= this.floor(stage),",
        replace: "this.#window.contains(slot),",
      },
    ],
    ...hostile,
  },
  {
    name: "old slots are never forgotten",
    caughtBy: "bounded state",
    edits: [
      {
        file: "organism/src/committee/slot-window.ts",
        find: "if (below <= shared.collapsedBelow) return undefined;",
        replace: "return undefined;",
      },
    ],
    ...quick,
    slots: 60,
    seeds: 1,
  },
  {
    name: "the chain head depends on chance",
    caughtBy: "same history",
    edits: [
      {
        file: COMMITTEE,
        find: "const head = nextHead(this.head, position, raw);",
        replace: "const head = nextHead(this.head, position, Math.random() < 0.01 ? raw.slice(1) : raw);",
      },
    ],
    ...quick,
  },
  {
    name: "log time depends on chance",
    caughtBy: "same state",
    edits: CHANCY_TIME,
    ...quick,
  },
  {
    name: "each build goes by the newest rules that it has",
    caughtBy: "same state",
    edits: [
      {
        file: COMMITTEE,
        find: "this.#shared.rules.active >= NEWEST_CLOCKS",
        replace: "this.speaks.highest >= NEWEST_CLOCKS",
      },
    ],
    ...hostile,
  },
  {
    name: "a restored member forgets its organism's state",
    caughtBy: "no honest member stops",
    edits: STATE_FORGOTTEN,
    ...hostile,
    slots: 40,
  },
  {
    name: "unseal takes shares before the freeze",
    caughtBy: "no share is taken before its close",
    edits: [
      {
        file: "unseal/src/core/machine.ts",
        find: "if (known?.freeze === undefined) {\n      const digest",
        replace: "if (known === undefined) {\n      const digest",
      },
    ],
    ...corrupt,
    behaviours: ["early-shares"],
  },
  {
    name: "unseal freezes without waiting for the blind close",
    caughtBy: "nothing is frozen before the blind close",
    edits: [
      {
        file: "unseal/src/core/machine.ts",
        find: "} else if (command.blind !== undefined || known?.noBlind !== true) {",
        replace: "} else if (false) {",
      },
      {
        file: "unseal/src/core/machine.ts",
        find: "if (blind === undefined && !known.noBlind) {\n      if (nowMs",
        replace: "if (false) {\n      if (nowMs",
      },
    ],
    ...quick,
  },
  {
    name: "offer shares keys of losing bundles",
    caughtBy: "no share is said before its close",
    edits: [
      {
        file: "offer/src/core/duties.ts",
        find: "const shares = slotState.opened.flatMap(",
        replace: "const shares = [...slotState.opened, ...slotState.contestants].flatMap(",
      },
      {
        file: "offer/src/node/effects.ts",
        find: "if (bid === undefined || !due) return undefined;",
        replace: "if (bid === undefined) return undefined;",
      },
    ],
    ...quick,
    slots: 14,
    seeds: 4,
  },
  {
    name: "the lowest bid wins",
    caughtBy: "the auction follows from its bids",
    edits: [
      {
        file: "offer/src/core/auction.ts",
        find: "return a.amountWei > b.amountWei ? -1 : 1;",
        replace: "return a.amountWei > b.amountWei ? 1 : -1;",
      },
    ],
    ...quick,
    slots: 14,
    seeds: 4,
  },
  {
    name: "BlindClosed leaves a bid out",
    caughtBy: "what was acknowledged is kept",
    edits: [
      {
        file: "offer/src/core/machine.ts",
        find: "    bidIds.sort(compareBytes);\n",
        replace: "    bidIds.sort(compareBytes);\n    bidIds.pop();\n",
      },
    ],
    ...quick,
  },
  {
    name: "unseal reports messages that nobody sent",
    caughtBy: "nothing comes out that nobody put in",
    edits: [
      {
        file: "unseal/src/core/round.ts",
        find: "valid.set(key, { messageId, content,",
        replace: "valid.set(key, { messageId: messageId.map((byte) => byte ^ 1), content,",
      },
    ],
    ...quick,
  },
  {
    name: "a slot is credited twice",
    caughtBy: "refunds sum exactly",
    edits: [
      {
        file: "tally/src/core/machine.ts",
        find: "  credit(state.ledger, attribution);\n",
        replace: "  credit(state.ledger, attribution);\n  credit(state.ledger, attribution);\n",
      },
    ],
    ...quick,
    slots: 14,
  },
  {
    name: "a slot's attribution is said of the next slot too",
    caughtBy: "nothing is refunded or charged twice",
    edits: [
      {
        file: "tally/src/core/machine.ts",
        find: "  const slot = state.next;\n  context.decide(",
        replace:
          "  const slot = state.next;\n  context.decide({ stage: STAGE, slot: slot + 1n, kind: kindOf(attribution), commitment: encode(ATTRIBUTION, attribution) });\n  context.decide(",
      },
    ],
    ...quick,
    slots: 14,
  },
  {
    name: "more is distributed than was paid",
    caughtBy: "only what the chain paid is distributed",
    edits: [
      {
        file: "tally/src/core/slot-attribution.ts",
        find: "(total, charge) => total + charge.wei, candidate.paymentsWei)",
        replace: "(total, charge) => total + charge.wei, candidate.paymentsWei + 1n)",
      },
    ],
    ...quick,
    slots: 14,
  },
  {
    name: "a member forgets what it has just said, and says it again",
    caughtBy: "one word per promise",
    edits: [
      {
        file: DUTIES,
        find: "const promised = duty.promise ? journal.promised(duty.key) : undefined;",
        replace: "const promised = undefined;",
      },
      { file: DUTIES, find: "if (duty.promise) await journal.promise(duty.key, duty.slot, command);", replace: "" },
      { file: DUTIES, find: "if (this.#busy.has(key) || (pausing", replace: "if ((pausing" },
    ],
    ...quick,
  },
  {
    name: "two entries take one number",
    caughtBy: "one body per place in a lane",
    edits: NUMBER_TWICE,
    ...quick,
  },
  {
    name: "guests are not given the numbers of authors",
    caughtBy: "guests have what members would give them",
    edits: [
      {
        file: "organism/src/committee/guest-view.ts",
        find: "({ ...author, join: undefined })",
        replace: "({ ...author, join: undefined, incarnation: 0n })",
      },
    ],
    ...quick,
  },
  {
    name: "guests are not given rounds in flight",
    caughtBy: "guests have what members would give them",
    edits: [
      {
        file: "zipnet/src/core/machine.ts",
        find: "rounds: new Map([...state.rounds].filter(([slot]) => slot >= below)),",
        replace: "rounds: new Map(),",
      },
    ],
    ...quick,
  },
  {
    name: "guests are given what was listed for slots that are decided",
    caughtBy: "guests are given nothing of what is over",
    edits: [
      {
        file: "organism/src/committee/guest-view.ts",
        find: "closes: decided ? new Map() : record.closes,",
        replace: "closes: record.closes,",
      },
      // As before rules 7, by which members themselves forget what was listed.
      {
        file: "organism/src/committee/closes.ts",
        find: "if (once) this.#forget();",
        replace: "if (false) this.#forget();",
      },
    ],
    mode: "calm",
    slots: 24,
    seeds: 2,
    members: 3,
  },
  {
    name: "guests are given shares of decided slots",
    caughtBy: "guests are given nothing of what is over",
    edits: [{ file: "unseal/src/core/machine.ts", find: "slot < below ? emptyRecord() : known]", replace: "known]" }],
    mode: "calm",
    slots: 24,
    seeds: 2,
    members: 3,
  },
  {
    name: "a restart forgets who has voted",
    caughtBy: "a restored state goes on alike",
    edits: VOTES_FORGOTTEN,
    ...quick,
  },
  {
    name: "another chain stops nobody",
    caughtBy: "whoever is shown another log stops",
    edits: CHAINS_IGNORED,
    ...lied,
  },
  {
    name: "a log that lost its end is taken for an outage",
    caughtBy: "whoever is shown another log stops",
    edits: [
      {
        file: "organism/src/node/log-reading.ts",
        find: 'else if (error instanceof LogLost && error.history) onLost({ reason: "LOG_LOST", detail: error.message });',
        replace: "else if (error instanceof LogLost && error.history) return;",
      },
    ],
    ...lied,
  },
  {
    name: "nothing ever expires",
    caughtBy: "it comes back",
    edits: [
      {
        file: DUTIES,
        find: "if (at === undefined || at > now || slot > limit) break;",
        replace: "break;",
      },
    ],
    mode: "liveness",
    slots: 36,
    seeds: 6,
  },
];

const SERVICES = new URL("../../../services/", import.meta.url);

/** Every place that an edit names must be there, once: a mutation that changes nothing proves nothing. */
export function editProblems({ name, edits }: Mutation): string[] {
  return edits.flatMap(({ file, find }) => {
    const times = readFileSync(new URL(file, SERVICES), "utf8").split(find).length - 1;
    return times === 1 ? [] : [`${name}: ${file} holds it ${times} times: ${find}`];
  });
}

/** Breaks this thread's build: before anything of the runtime is imported. */
export function useMutation({ edits }: Mutation): void {
  registerHooks({
    load(url, context, next) {
      const loaded = next(url, context);
      const own = edits.filter(({ file }) => new URL(file, SERVICES).href === url);
      if (own.length === 0) return loaded;
      let source = Buffer.from(loaded.source as Uint8Array | string).toString();
      for (const { find, replace } of own) source = source.replace(find, () => replace);
      return { ...loaded, source };
    },
  });
}
