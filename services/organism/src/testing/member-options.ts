/** What members of a dealt committee are started with, in process: their keys, a folder each, and each other. */
import { join } from "node:path";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { RuleRange } from "../committee/rules.ts";
import { verifyTaggedElsewhere } from "../crypto/ed25519.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import type { Archive } from "../node/archive.ts";
import type { EpochKeys } from "../node/epoch-keys.ts";
import type { EraBook } from "../node/era-book.ts";
import { FileJournal } from "../node/file-journal.ts";
import type { ConnectCommittee } from "../node/outcome-follower.ts";
import type { MemberStorage } from "../node/storage.ts";
import type { Logger } from "../observe/logger.ts";
import type { Meters } from "../observe/meters.ts";
import type { Clock, Log, MemberJournal } from "../ports.ts";
import type { MemberSecrets } from "../service.ts";
import { random, type TestCommittee } from "./dealt-committee.ts";
import type { DirectCalls } from "./direct-calls.ts";

export const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };

export interface StartOptions {
  readonly committee: TestCommittee;
  readonly index: number;
  readonly log: Log;
  readonly directory: string;
  readonly clock: Clock;
  readonly journalIsOld?: boolean;
  /** Where members of this committee find each other; nowhere when left out. */
  readonly calls?: DirectCalls;
  readonly logger?: Logger;
  readonly meters?: Meters;
  readonly onProof?: (hash: string, proof: Uint8Array) => void;
  /** Other keys than the ones that were dealt: a newcomer's. */
  readonly secrets?: MemberSecrets;
  readonly epochKeys?: EpochKeys;
  readonly eras?: EraBook;
  readonly onFatal?: (reason: string, detail: string) => void;
  /** Where members of `relay` answer. */
  readonly endpoints?: readonly string[];
  readonly connect?: ConnectCommittee;
  readonly archive?: Archive;
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  readonly storage?: MemberStorage;
  /** The logs of later generations. */
  readonly nextLog?: (generation: bigint) => Promise<Log>;
  readonly endPatience?: { readonly roundMs: number; readonly graceMs: number };
  /** What the member uses in the place of its own journal. */
  readonly wrapJournal?: (journal: MemberJournal) => MemberJournal;
  readonly rules?: RuleRange;
  readonly activationEntries?: bigint;
}

/** Everything that a member of `relay` is started with but its definition. */
export async function memberOptions(options: StartOptions) {
  const { committee, index, log, clock } = options;
  const directory = join(options.directory, `member-${index}`);
  const secrets = options.secrets ?? committee.secrets[index];
  if (secrets === undefined) throw new Error(`no member ${index}`);
  const { calls } = options;
  const addresses = calls === undefined ? [] : committee.secrets.map((_, member) => `relay-${member}`);
  const endpoints = Object.fromEntries(
    ORGANISMS.map((organism) => [organism, organism === "relay" ? addresses : []]),
  ) as unknown as { [O in Organism]: string[] };
  const own = await FileJournal.open(directory);
  const journal = options.wrapJournal?.(own) ?? own;
  return {
    config: committee.config,
    self: index,
    rosters: committee.rosters,
    certifiedRoster: committee.certifiedRoster,
    secrets,
    ...(options.epochKeys === undefined ? {} : { epochKeys: options.epochKeys }),
    ...(options.eras === undefined ? {} : { eras: options.eras }),
    endpoints: () => (options.endpoints === undefined ? endpoints : { ...endpoints, relay: options.endpoints }),
    ...(calls === undefined ? {} : { connect: calls.connect(CommitteeService) }),
    ...(options.connect === undefined ? {} : { connect: options.connect }),
    ...(options.onProof === undefined ? {} : { onProof: options.onProof }),
    ...(options.archive === undefined ? {} : { archive: options.archive }),
    ...(options.storage === undefined ? {} : { storage: options.storage }),
    ...(options.checkpointEvery === undefined ? {} : { checkpointEvery: options.checkpointEvery }),
    ...(options.nextLog === undefined ? {} : { nextLog: options.nextLog }),
    ...(options.endPatience === undefined ? {} : { endPatience: options.endPatience }),
    ...(options.rules === undefined ? {} : { rules: options.rules }),
    ...(options.activationEntries === undefined ? {} : { activationEntries: options.activationEntries }),
    log,
    journal,
    journalIsOld: options.journalIsOld ?? false,
    directory,
    clock,
    random,
    verify: verifyTaggedElsewhere,
    logger: options.logger ?? SILENT,
    meters: options.meters ?? NO_METERS,
    tracer: { span: () => undefined, root: () => undefined, close: async () => undefined },
    onFatal:
      options.onFatal ??
      ((reason, detail) => {
        throw new Error(`${reason}: ${detail}`);
      }),
  };
}
