/**
 * What ends a process, or keeps it from starting, under a stable word: for operators, in logs and on standard error.
 * The words are in the sources below; a repository check compares.
 */

export interface ProcessProblem {
  readonly reason: string;
  readonly meaning: string;
  readonly remedy: string;
}

export interface ProblemGroup {
  readonly title: string;
  /** Source files in which exactly these words stand: in a `reason:` union, or as what a member falls silent with. */
  readonly files: readonly string[];
  readonly about: string;
  readonly problems: readonly ProcessProblem[];
}

export const PROCESS_PROBLEMS: readonly ProblemGroup[] = [
  {
    title: "A broker that cannot be used",
    files: ["services/organism/src/log/fit-server.ts"],
    about: "`UnfitServer`: the member says so in one line and exits with 5.",
    problems: [
      {
        reason: "NATS_TOO_OLD",
        meaning: "nats-server is older than 2.10.23, which loses streams when its process crashes.",
        remedy: "Upgrade nats-server.",
      },
      {
        reason: "NATS_LAZY_SYNC",
        meaning: "The server acknowledges before it syncs.",
        remedy: "Set `jetstream.sync_interval: always`.",
      },
      {
        reason: "NATS_UNREACHABLE",
        meaning: "Nobody answers at LATTICE_NATS_SERVERS, JetStream is off, or the monitoring endpoint is silent.",
        remedy: "Start the server, check the addresses.",
      },
      {
        reason: "NATS_PAYLOAD_TOO_SMALL",
        meaning: "`max_payload` is below 2 MiB.",
        remedy: "Set `max_payload: 4MB`.",
      },
      {
        reason: "NATS_AUTHORIZATION",
        meaning: "The server refuses this member's credential.",
        remedy: "Compare LATTICE_NATS_CREDENTIALS_FILE with the server's users.",
      },
    ],
  },
  {
    title: "A member that must stop",
    files: [
      "services/organism/src/node/member.ts",
      "services/organism/src/node/own-standing.ts",
      "services/organism/src/node/log-reading.ts",
      "services/organism/src/node/generations.ts",
      "services/organism/src/node/appender.ts",
    ],
    about:
      "Logged as `this member must stop` with the reason; the process exits with 1, with 5 for `RULES_UNKNOWN`, with 6 for `HISTORY_GONE` and `OTHERS_GO_ON`.",
    problems: [
      {
        reason: "LOG_ROLLED_BACK",
        meaning: "The log ends before what this member has applied: the broker lost entries that it had acknowledged.",
        remedy:
          "Nothing, if a quorum runs: the members agree where the log ended and go on in its next generation (docs/operators.md). Keep their data folders.",
      },
      {
        reason: "LOG_FORKED",
        meaning:
          "So many members read another chain that no quorum can be on this one: the broker shows members different logs, or this member was given damaged entries. The detail names them and the positions.",
        remedy:
          "Leave it down; stop the broker, compare GetHead of all members, go on with the log that a quorum reads.",
      },
      {
        reason: "LOG_HOLE",
        meaning: "The log delivered a position that does not follow the last one.",
        remedy: "Look at the broker's store; start the member again.",
      },
      {
        reason: "APPLY_FAILED",
        meaning:
          "An entry of the log cannot be applied: a fault of this build, or of its machine. The detail names the position.",
        remedy:
          "Keep its data folder and report the line; start the member again. Where all members stop with it, install a build without the fault.",
      },
      {
        reason: "KEY_BLOCKED",
        meaning: "The committee has a proof that this member's key said two things.",
        remedy:
          "Read the proof (`ListFrauds`, `GetFraud`); find out who else holds the key. Come back with a new key in a new roster epoch.",
      },
      {
        reason: "HISTORY_GONE",
        meaning: "The log starts after what this member needs.",
        remedy:
          "It ends with exit code 6: start it again at once, and it goes on from the snapshot of a peer or of the archive.",
      },
      {
        reason: "OTHERS_GO_ON",
        meaning: "This member's own view of the log was lost or damaged; a quorum of others reads on.",
        remedy: "It ends with exit code 6: start it again at once, and it reads anew. Look at its line to the broker.",
      },
      {
        reason: "LOG_REPLACED",
        meaning: "The log holds something else than when this member last read it, up to a position that it had noted.",
        remedy:
          "As for `LOG_ROLLED_BACK`. If this member alone sees it, it ends with `OTHERS_GO_ON` once it has seen that a quorum reads on.",
      },
      {
        reason: "STATE_DIVERGED",
        meaning: "A quorum certified another state than this member's at a checkpoint.",
        remedy: "Compare its version with the others'; started again, it goes on from the newest certified snapshot.",
      },
      {
        reason: "RULES_UNKNOWN",
        meaning:
          "The committee has agreed on a rule version that this build does not have; the detail names it and the position.",
        remedy: "Install a build that speaks it and start the member again: it goes on where it stopped.",
      },
      {
        reason: "LOG_LOST",
        meaning: "The log has lost what was read of it, or does not admit this member any more.",
        remedy:
          "As for `LOG_ROLLED_BACK`. A member that stops with it was shut out: look at nats-server's log, start the member again.",
      },
      {
        reason: "JOIN_REFUSED",
        meaning: "The committee did not admit this incarnation, or takes nothing from it any more.",
        remedy: "See the detail: the key file is not the roster's, or another process speaks for this member.",
      },
      {
        reason: "JOURNAL_LOST",
        meaning:
          "The journal cannot be written: the disk failed or is full, or another process has taken the folder over. A gateway ends with it as well.",
        remedy:
          "Look at the disk, and for a second process on this data folder; start the member, or the gateway, again.",
      },
      {
        reason: "SUCCEEDED",
        meaning: "A newer process speaks for this member.",
        remedy: "Nothing, if it was meant; otherwise find out who runs a second copy.",
      },
      {
        reason: "SEAT_GIVEN_UP",
        meaning: "The committee has fewer seats from this epoch on, and this member's was the last.",
        remedy: "Nothing: it is no member any more, and its shares are erased.",
      },
    ],
  },
  {
    title: "A log that takes no more",
    files: ["services/organism/src/ports.ts"],
    about: "`LogRefusal`: the member goes on, tells clients `LOG_REFUSED`, and sets the metric `lattice_log_refusing`.",
    problems: [
      {
        reason: "LOG_FULL",
        meaning: "The stream or this author's quota is used up.",
        remedy: "See that the trimmer runs and that a quorum holds snapshots; give the account more room.",
      },
      {
        reason: "ENTRY_TOO_LARGE",
        meaning: "The server takes no message of this size.",
        remedy: "Raise `max_payload`.",
      },
      {
        reason: "NOT_PERMITTED",
        meaning: "The credential may not publish under this author's subject.",
        remedy: "Compare the server's permissions with the member's index.",
      },
    ],
  },
  {
    title: "A participant whom a ceremony leaves out",
    files: ["services/organism/src/ceremony/ceremony.ts"],
    about:
      "Named by `builder ceremony run` with the attempt. The first three end with the attempt; the others are proved by signed messages, and their author stays out of every later attempt.",
    problems: [
      {
        reason: "SILENT",
        meaning: "It said nothing until the others closed the phase.",
        remedy: "Start its process, then open another attempt with `builder ceremony retry`.",
      },
      {
        reason: "WITHDREW",
        meaning: "It took itself out: its operator aborted, it has lost its journal, or it runs twice.",
        remedy: "Open another attempt.",
      },
      {
        reason: "OTHER_TRANSCRIPT",
        meaning: "It confirmed another ceremony than this log shows: the broker forks, or it lies.",
        remedy: "Compare `ceremony.json` and the founding file with its operator; use another broker.",
      },
      {
        reason: "TWO_VOICES",
        meaning: "Two different messages of one kind in one attempt. Two enrolments are none: the first binds.",
        remedy: "Somebody else has its key, or it is corrupt: found the lattice with another member key.",
      },
      {
        reason: "BAD_DEAL",
        meaning: "It dealt what everybody can see to be wrong.",
        remedy: "Found the lattice without it.",
      },
      {
        reason: "BAD_SHARE",
        meaning: "It dealt a share that is not on its polynomial, as its receiver has shown.",
        remedy: "Found the lattice without it.",
      },
      {
        reason: "FALSE_COMPLAINT",
        meaning: "It complained about a good share.",
        remedy: "Found the lattice without it.",
      },
      {
        reason: "BAD_CONFIRMATION",
        meaning: "It confirmed shares that it does not hold.",
        remedy: "Look at its disk; found the lattice without it.",
      },
    ],
  },
  {
    title: "No nats-server for the local lattice",
    files: ["deploy/src/nats/nats-server.ts"],
    about: "`npm start` and the demo then run on the embedded log and say so.",
    problems: [
      {
        reason: "NATS_SERVER_BIN_UNFIT",
        meaning: "NATS_SERVER_BIN names something that does not run or is too old.",
        remedy: "Name another program, or unset it.",
      },
      {
        reason: "NATS_SERVER_MISSING",
        meaning: "None was found, and none could be fetched.",
        remedy: "Install nats-server 2.10.23 or newer, or be content with the embedded log.",
      },
    ],
  },
];
