/** Broken builds that the checkers of one committee must catch, as `../mutations.ts` for those of six. */
import {
  ANOTHER_BLOCKED,
  ANY_NUMBER,
  CHAINS_IGNORED,
  CHANCY_TIME,
  type Edit,
  type Mutation,
  NUMBER_TWICE,
  QUORUM_TOO_SMALL,
  SHARES_TAKEN_UNSEEN,
  STATE_FORGOTTEN,
  VOTES_FORGOTTEN,
} from "../mutations.ts";

const COMMITTEE = "organism/src/committee/committee.ts";
const ENDS = "organism/src/committee/generation-end.ts";
const ORGANISM = "../e2e/src/sim/log/organism.ts";
const calm = { mode: "log-calm", slots: 10, seeds: 2, members: 3 } as const;
/** Somebody has the old key. */
const stolen = {
  mode: "log",
  slots: 26,
  seeds: 20,
  members: 4,
  behaviours: ["old-key"],
  eras: true,
} as const;
const usual = { mode: "log", slots: 12, seeds: 30 } as const;

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
/** Takes snapshots of any era that is wanted, whatever the others show. */
const ANY_ERA: Edit = {
  file: "organism/src/node/snapshot-fetcher.ts",
  find: "era === newest && wanted(certified)",
  replace: "wanted(certified)",
};

export const LOG_MUTATIONS: readonly Mutation[] = [
  {
    name: "one committee: a quorum one too few certifies two things in a fork",
    caughtBy: "one certificate per stage and slot",
    edits: QUORUM_TOO_SMALL,
    ...usual,
    seeds: 40,
    members: 4,
    behaviours: ["delay"],
    faults: ["fork"],
  },
  {
    name: "one committee: a quorum one too few",
    caughtBy: "a certificate has a quorum",
    edits: QUORUM_TOO_SMALL,
    ...calm,
  },
  {
    name: "one committee: shares are not verified",
    caughtBy: "a certificate verifies",
    edits: SHARES_TAKEN_UNSEEN,
    ...usual,
    members: 4,
    behaviours: ["invalid-shares"],
  },
  {
    name: "one committee: any number is taken in a lane",
    caughtBy: "entries follow one another",
    edits: ANY_NUMBER,
    ...usual,
  },
  {
    name: "one committee: any number is taken in a lane, so that copies count",
    caughtBy: "nothing is in twice, or that nobody put in",
    edits: ANY_NUMBER,
    ...usual,
    faults: ["old messages again", "broker weather"],
  },
  {
    name: "one committee: somebody else's key is blocked for a fraud",
    caughtBy: "no honest member is taken for a fraud",
    edits: ANOTHER_BLOCKED,
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
    edits: CHANCY_TIME,
    ...calm,
    slots: 24,
    seeds: 6,
  },
  {
    name: "one committee: a restart forgets who has voted",
    caughtBy: "a restored state goes on alike",
    edits: VOTES_FORGOTTEN,
    ...calm,
    seeds: 6,
  },
  {
    name: "one committee: two entries take one number",
    caughtBy: "one body per place in a lane",
    edits: NUMBER_TWICE,
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
    edits: CHAINS_IGNORED,
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
    edits: STATE_FORGOTTEN,
    ...usual,
    faults: ["kill", "power cut"],
    slots: 24,
  },
  {
    name: "one committee: slots after the border are decided in the era before",
    caughtBy: "a slot is certified in its own era",
    edits: [
      {
        file: "organism/src/committee/decisions.ts",
        find: "const { epoch } = this.#epochs.at(slot);",
        replace: "const epoch = this.#shared.rosters[0]?.epoch ?? 0n;",
      },
    ],
    ...calm,
    eras: true,
  },
  {
    name: "one committee: a slot before the border is decided in the era after it",
    caughtBy: "a slot is certified in its own era",
    edits: [
      {
        file: "organism/src/committee/epochs.ts",
        find: "|| roster.activationSlot <= slot) found",
        replace: "|| roster.activationSlot <= slot + 1n) found",
      },
    ],
    ...calm,
    eras: true,
  },
  {
    name: "one committee: states and generations under a key that is over are taken",
    caughtBy: "a key that is over is believed by nobody",
    edits: [
      ANY_ERA,
      {
        file: "organism/src/node/era-mark.ts",
        find: "this.#committee.keyIsOver(epoch) || eraOfEpoch(",
        replace: "epoch < 0n && eraOfEpoch(",
      },
    ],
    ...stolen,
    faults: ["kill", "isolated"],
  },
  {
    name: "one committee: a restart forgets that a key is over",
    caughtBy: "a key that is over is believed by nobody",
    edits: [
      ANY_ERA,
      {
        file: "organism/src/node/era-mark.ts",
        find: "if (stands <= this.#stoodIn) return undefined;",
        replace: "if (stands >= 0) return undefined;",
      },
    ],
    ...stolen,
    seeds: 60,
  },
  {
    name: "one committee: the pinned key goes on certifying rosters",
    caughtBy: "a key that is over is believed by nobody",
    edits: [
      {
        file: "organism/src/committee/roster.ts",
        find: "newestEra(erasBefore(eras, outcome.epoch))",
        replace: "newestEra(eras.slice(0, 1))",
      },
    ],
    ...stolen,
    faults: ["kill", "isolated"],
  },
  {
    name: "one committee: shares of the old key are kept",
    caughtBy: "shares of an epoch that is over are erased",
    edits: [{ file: "organism/src/node/succession.ts", find: "keys.erase(oldest.epoch)", replace: "keys.erase(0n)" }],
    ...calm,
    slots: 80,
    eras: true,
  },
];
