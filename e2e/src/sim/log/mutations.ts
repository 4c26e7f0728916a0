/** Broken builds that the checkers of one committee must catch, as `../mutations.ts` for those of six. */
import type { Edit, Mutation } from "../mutations.ts";

const COMMITTEE = "organism/src/committee/committee.ts";
const ADMISSION = "organism/src/committee/admission.ts";
const ENDS = "organism/src/committee/generation-end.ts";
const ORGANISM = "../e2e/src/sim/log/organism.ts";
const calm = { mode: "log-calm", slots: 10, seeds: 2, members: 3 } as const;
const usual = { mode: "log", slots: 12, seeds: 30 } as const;

const QUORUM: Edit = {
  file: "organism/src/committee/quorum.ts",
  find: "Math.floor((members + faults) / 2) + 1",
  replace: "Math.floor((members + faults) / 2)",
};
/** Ends the generation as early as any report does, whatever others have read. */
const SHORTEST: readonly Edit[] = [
  {
    file: ENDS,
    find: "return reports.every((other) => {",
    replace: "return reports.length > 0 || reports.every((other) => {",
  },
  {
    file: ENDS,
    find: "return a.end.position < b.end.position ? -1 : 1;",
    replace: "return a.end.position < b.end.position ? 1 : -1;",
  },
];
const ANY_NUMBER: Edit = {
  file: ADMISSION,
  find: "if (body.sequence !== lane.sequence + 1n || !equalBytes(body.previous, lane.previous)) {",
  replace: "if (false) {",
};

export const LOG_MUTATIONS: readonly Mutation[] = [
  {
    name: "one committee: a quorum one too few certifies two things in a fork",
    caughtBy: "one certificate per stage and slot",
    edits: [QUORUM],
    ...usual,
    seeds: 40,
    members: 4,
    behaviours: ["delay"],
    faults: ["fork"],
  },
  { name: "one committee: a quorum one too few", caughtBy: "a certificate has a quorum", edits: [QUORUM], ...calm },
  {
    name: "one committee: shares are not verified",
    caughtBy: "a certificate verifies",
    edits: [
      {
        file: "organism/src/committee/decisions.ts",
        find: "if (!this.#certifier.together && !blsVerify(member.certificateShare, outcomeDigest(record.outcome), share)) {",
        replace: "if (false) {",
      },
      {
        file: "organism/src/committee/certifier.ts",
        find: "if (signature !== undefined && blsVerify(certificateKey, digest, signature)) return { signature };",
        replace: "return { signature };",
      },
    ],
    ...usual,
    members: 4,
    behaviours: ["invalid-shares"],
  },
  {
    name: "one committee: any number is taken in a lane",
    caughtBy: "entries follow one another",
    edits: [ANY_NUMBER],
    ...usual,
  },
  {
    name: "one committee: any number is taken in a lane, so that copies count",
    caughtBy: "nothing is in twice, or that nobody put in",
    edits: [ANY_NUMBER],
    ...usual,
    faults: ["old messages again", "broker weather"],
  },
  {
    name: "one committee: somebody else's key is blocked for a fraud",
    caughtBy: "no honest member is taken for a fraud",
    edits: [
      {
        file: COMMITTEE,
        find: "blockKey(this.#shared.blocked, verdict.fraud,",
        replace:
          "blockKey(this.#shared.blocked, { ...verdict.fraud, member: (verdict.fraud.member + 1) % this.roster.members.length },",
      },
    ],
    ...usual,
    members: 4,
    behaviours: ["equivocate"],
  },
  {
    name: "one committee: the chain head depends on chance",
    caughtBy: "same history",
    edits: [
      {
        file: COMMITTEE,
        find: "const head = nextHead(this.head, position, raw);",
        replace: "const head = nextHead(this.head, position, Math.random() < 0.05 ? raw.slice(1) : raw);",
      },
    ],
    ...calm,
  },
  {
    name: "one committee: log time depends on chance",
    caughtBy: "same state",
    edits: [
      {
        file: COMMITTEE,
        find: "if (median > this.#shared.logTimeMs) this.#shared.logTimeMs = median;",
        replace:
          "if (median > this.#shared.logTimeMs) this.#shared.logTimeMs = median - (Math.random() < 0.5 ? 1n : 0n);",
      },
    ],
    ...calm,
    slots: 24,
    seeds: 6,
  },
  {
    name: "one committee: a restart forgets who has voted",
    caughtBy: "a restored state goes on alike",
    edits: [
      {
        file: COMMITTEE,
        find: "    this.#inner = inner;",
        replace:
          "    this.#inner = inner;\n    for (const { stages } of shared.slots.values()) for (const each of stages.values()) each.votes.clear();",
      },
    ],
    ...calm,
    seeds: 6,
  },
  {
    name: "one committee: two entries take one number",
    caughtBy: "one body per place in a lane",
    edits: [
      {
        file: "organism/src/node/appender.ts",
        find: "    lane.sequence += 1n;\n    lane.previous = signed.hash;\n",
        replace: "",
      },
    ],
    ...calm,
  },
  {
    name: "one committee: what is promised is not journaled, so that it is said anew",
    caughtBy: "one word per promise",
    edits: [
      {
        file: "organism/src/node/duty-round.ts",
        find: "const promised = duty.promise ? journal.promised(duty.key) : undefined;",
        replace: "const promised = undefined;",
      },
      {
        file: "organism/src/node/duty-round.ts",
        find: "if (duty.promise) await journal.promise(duty.key, duty.slot, command);",
        replace: "",
      },
    ],
    ...usual,
    seeds: 60,
    faults: ["rollback", "loss", "kill", "kill several"],
  },
  {
    name: "one committee: shares are taken before anything is closed",
    caughtBy: "no share is said before its close",
    edits: [
      {
        file: ORGANISM,
        find: 'if (input?.kind !== "result") return',
        replace: "if (false) return",
      },
      {
        file: ORGANISM,
        find: "const digest = openingDigest(slot, input.commitment);",
        replace:
          "const digest = openingDigest(slot, input?.commitment ?? encode(INPUT_COMMITMENT, [...inputs(state, slot)]));",
      },
    ],
    ...usual,
    members: 4,
    behaviours: ["early-shares"],
  },
  {
    name: "one committee: a generation begins where the shortest report ends",
    caughtBy: "what was certified stands",
    edits: SHORTEST,
    ...usual,
    faults: ["rollback", "loss", "kill"],
  },
  {
    name: "one committee: a generation begins where the shortest report ends, and clients are not asked",
    caughtBy: "what was acknowledged is kept",
    edits: SHORTEST,
    ...usual,
    faults: ["rollback", "loss", "kill"],
  },
  {
    name: "one committee: another chain stops nobody",
    caughtBy: "whoever is shown another log stops",
    edits: [
      {
        file: "organism/src/committee/heads.ts",
        find: "return this.#differing.size > members - quorum;",
        replace: "return false;",
      },
    ],
    ...usual,
    slots: 16,
    faults: ["fork"],
  },
  {
    name: "one committee: whoever alone has lost its view waits for ever",
    caughtBy: "it comes back",
    edits: [
      {
        file: "organism/src/node/others-go-on.ts",
        find: "return this.#advances >= ADVANCES;",
        replace: "return false;",
      },
    ],
    ...usual,
    live: true,
    members: 3,
    faults: ["fork"],
  },
  {
    name: "one committee: a restored member forgets its organism's state",
    caughtBy: "no honest member stops",
    edits: [
      { file: COMMITTEE, find: "    this.#inner = inner;", replace: "    this.#inner = this.machine.genesis();" },
    ],
    ...usual,
    faults: ["kill", "power cut"],
    slots: 24,
  },
];
