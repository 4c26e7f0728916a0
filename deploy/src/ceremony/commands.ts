/** What `builder ceremony …` does. Every function returns the exit code; data goes to stdout, everything else to stderr. */
import { randomBytes } from "node:crypto";
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Blame, Ceremony } from "@lattice/organism/ceremony/ceremony.ts";
import {
  type Founding,
  foundedKeys,
  foundingPlan,
  foundingPublication,
  foundingRoster,
  namedShares,
} from "@lattice/organism/ceremony/founding.ts";
import { type Phase, signMessage } from "@lattice/organism/ceremony/message.ts";
import { ceremonyId, planProblems } from "@lattice/organism/ceremony/plan.ts";
import { runCeremony } from "@lattice/organism/ceremony/run-ceremony.ts";
import { equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { configToHex, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { JetStreamLog } from "@lattice/organism/log/jetstream-log.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { type KeyFile, rostersToJson } from "@lattice/organism/node/kit.ts";
import { makeFolder } from "@lattice/organism/node/make-folder.ts";
import { z } from "zod";
import { expectedProblem } from "../cli/expected.ts";
import { writeWhole } from "../cli/whole-file.ts";
import {
  assemble,
  memberToJson,
  parseFile,
  type ResultFile,
  readFounding,
  readResult,
  rosterHex,
} from "./founding-file.ts";
import { CeremonyProblem, type KeptKeys, MemberFolder, type OwnKeys, publicOf } from "./member-folder.ts";

export const say = (line: string): void => {
  process.stderr.write(`${line}\n`);
};

/** One readable line for what is expected to go wrong. */
export async function readably(work: () => Promise<number>): Promise<number> {
  try {
    return await work();
  } catch (error) {
    const expected = expectedProblem(error);
    if (expected === undefined) throw error;
    say(expected.line);
    return expected.code;
  }
}

/** What a seat keeps when it changes hands. */
const KEPT_KEYS = z.looseObject({
  organism: z.enum(ORGANISMS),
  signerKey: z.string().length(64).optional(),
  operatorKey: z.string().length(64).optional(),
});

/** Of the seat's holder so far: a file without them would give the newcomer fresh ones, unnoticed. @throws CeremonyProblem */
export function keptKeys(path: string, organism: Organism): KeptKeys {
  const { organism: made, signerKey, operatorKey } = parseFile(KEPT_KEYS, path, "key file");
  if (made !== organism) throw new CeremonyProblem(`key file: ${path}: made for ${made}, not for ${organism}`);
  const missing =
    (organism === "tally" && signerKey === undefined) || (organism === "zipnet" && operatorKey === undefined);
  if (missing)
    throw new CeremonyProblem(
      `key file: ${path}: holds no ${organism === "tally" ? "signerKey" : "operatorKey"}, which the seat keeps`,
    );
  return {
    ...(signerKey === undefined ? {} : { signerKey }),
    ...(operatorKey === undefined ? {} : { operatorKey }),
  };
}

/** Makes one member's own keys and prints the public half for the founding file. */
export function createMember(options: {
  readonly organism: Organism;
  readonly directory: string;
  readonly keep?: string;
}): Promise<number> {
  return readably(async () => {
    const kept = options.keep === undefined ? {} : keptKeys(options.keep, options.organism);
    const keys = await new MemberFolder(options.directory).create(options.organism, kept);
    process.stdout.write(`${JSON.stringify({ organism: keys.organism, ...memberToJson(publicOf(keys)) })}\n`);
    return EXIT.ok;
  });
}

/** Shows what a founding file says, so that operators can compare it. */
export function showFounding(options: { readonly founding: string }): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const founding = readFounding(options.founding);
    const organisms = Object.keys(founding.members) as Organism[];
    process.stdout.write(
      `${JSON.stringify(
        {
          name: founding.draft.name,
          chain_id: founding.draft.chainId.toString(),
          ceremonies: Object.fromEntries(
            organisms.map((organism) => {
              const plan = foundingPlan(founding, organism);
              return [
                organism,
                {
                  id: toHex(ceremonyId(plan)),
                  members: plan.participants.length,
                  keys: Object.fromEntries(plan.keys.map(({ name, threshold }) => [name, threshold])),
                },
              ];
            }),
          ),
        },
        null,
        2,
      )}\n`,
    );
    return EXIT.ok;
  });
}

const CREDENTIALS = z.strictObject({
  user: z.string(),
  password: z.string(),
  stream: z.string(),
  subject: z.string(),
  inboxPrefix: z.string(),
});

export interface TakePartOptions {
  readonly directory: string;
  readonly founding: string;
  readonly nats: readonly string[];
  /** Default: `nats-ceremony.json` in the member's folder. */
  readonly credentials?: string;
  /** For how long others may be absent before this member asks to go on without them. */
  readonly patienceS: number;
  readonly retry?: boolean;
}

interface Place {
  readonly folder: MemberFolder;
  readonly keys: OwnKeys;
  readonly founding: Founding;
  readonly self: number;
}

function placeOf(options: Pick<TakePartOptions, "directory" | "founding">): Place {
  const folder = new MemberFolder(options.directory);
  const keys = folder.ownKeys();
  const founding = readFounding(options.founding);
  const own = publicOf(keys);
  const self = founding.members[keys.organism].findIndex(({ memberKey }) => equalBytes(memberKey, own.memberKey));
  const listed = founding.members[keys.organism][self];
  if (listed === undefined)
    throw new CeremonyProblem(
      `${options.founding}: ${keys.organism} has no member with the keys of ${folder.directory}`,
    );
  if (JSON.stringify(memberToJson(listed)) !== JSON.stringify(memberToJson(own)))
    throw new CeremonyProblem(
      `${options.founding}: member ${self} of ${keys.organism} has other keys than ${folder.directory}`,
    );
  return { folder, keys, founding, self };
}

export function openLog(
  options: Pick<TakePartOptions, "credentials" | "nats">,
  { folder, self }: Pick<Place, "folder" | "self">,
  tell = say,
): Promise<JetStreamLog> {
  const file = options.credentials ?? join(folder.directory, "nats-ceremony.json");
  if (existsSync(file) && (statSync(file).mode & 0o077) !== 0)
    throw new CeremonyProblem(`${file} is open to others; mode 400 expected`);
  const credentials = parseFile(CREDENTIALS, file, "NATS credentials");
  return JetStreamLog.open({ servers: options.nats, ...credentials, member: self, onEvent: tell });
}

export function blameLine({ participant, attempt, reason, detail }: Blame): string {
  return `  member ${participant}, attempt ${attempt}: ${reason}: ${detail}`;
}

/** Takes this member's part until its organism's keys stand and it holds its shares, or the attempt has failed. */
export function takePart(options: TakePartOptions): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const folder = new MemberFolder(options.directory);
    if (folder.hasKeys && !existsSync(folder.ceremony)) {
      say(`${folder.directory}: has its keys from an earlier run; nothing to do`);
      await folder.wipe();
      return EXIT.ok;
    }
    const place = placeOf(options);
    const { keys, founding, self } = place;
    const { organism } = keys;
    const plan = foundingPlan(founding, organism);
    const problems = planProblems(plan);
    if (problems.length > 0) throw new CeremonyProblem(`${options.founding}: ${organism}: ${problems.join("; ")}`);
    const log = await openLog(options, place);
    const journal = await FileJournal.open(folder.ceremony);
    const stop = new AbortController();
    const interrupt = (): void => stop.abort();
    process.on("SIGTERM", interrupt).on("SIGINT", interrupt);
    try {
      const end = await runCeremony({
        plan,
        publication: foundingPublication(founding, organism),
        self,
        memberKey: generateSigningKey(fromHex(keys.memberKey)),
        log,
        journal,
        random: (count) => new Uint8Array(randomBytes(count)),
        clock: { nowMs: () => Date.now() },
        patienceMs: () => options.patienceS * 1000,
        keep: ({ transcript }, shares) => folder.keepShares(transcript, hexShares(shares)),
        retry: options.retry ?? false,
        signal: stop.signal,
        onApplied: progressOf(organism, self),
      });
      if (end.type === "aborted") {
        say(`${organism}: attempt ${end.attempt} has failed: ${end.failure}`);
        for (const blame of end.blames) say(blameLine(blame));
        say("open another attempt with: builder ceremony retry (a majority of the members must)");
        return EXIT.failed;
      }
      const { shares, publication, result } = end;
      const own = shares === undefined ? undefined : hexShares(shares);
      if (own?.certificateShare === undefined || publication === undefined) {
        say(`${organism}: the keys stand, but this member holds no share of them`);
        return EXIT.failed;
      }
      const founded = foundedKeys(result);
      const file: ResultFile = {
        organism,
        attempt: result.attempt,
        transcript: toHex(result.transcript),
        certificateKey: toHex(founded.certificateKey),
        ...(founded.secondKey === undefined ? {} : { secondKey: toHex(founded.secondKey) }),
        roster: rosterHex(foundingRoster(founding, organism, { result, publication, holders: end.holders })),
        holders: [...end.holders],
      };
      await journal.close();
      await folder.finish(keyFileOf(keys, self, own.certificateShare, own.secondShare), file);
      say(`${organism}: member ${self} holds its shares; the certificate key is ${file.certificateKey}`);
      process.stdout.write(`${JSON.stringify(file)}\n`);
      return EXIT.ok;
    } finally {
      process.off("SIGTERM", interrupt).off("SIGINT", interrupt);
      await journal.close();
      await log.close();
    }
  });
}

function hexShares(shares: ReadonlyMap<number, Uint8Array>): {
  readonly certificateShare: string | undefined;
  readonly secondShare: string | undefined;
} {
  const { certificateShare, secondShare } = namedShares(shares);
  const hex = (share: Uint8Array | undefined): string | undefined => (share === undefined ? undefined : toHex(share));
  return { certificateShare: hex(certificateShare), secondShare: hex(secondShare) };
}

function keyFileOf(
  { organism, boxKey, memberKey, signerKey, serverKey, operatorKey }: OwnKeys,
  index: number,
  certificateShare: string,
  secondShare: string | undefined,
): KeyFile {
  return {
    organism,
    index,
    boxKey,
    memberKey,
    certificateShare,
    ...(secondShare === undefined ? {} : { secondShare }),
    ...(signerKey === undefined ? {} : { signerKey }),
    ...(serverKey === undefined ? {} : { serverKey }),
    ...(operatorKey === undefined ? {} : { operatorKey }),
  };
}

/** One line whenever the phase changes or somebody is named. */
export function progressOf(organism: Organism, self: number, tell = say): (ceremony: Ceremony) => void {
  let phase: string | undefined;
  let blames = 0;
  return (ceremony) => {
    const { attempt, state } = ceremony;
    for (const blame of state.blames.slice(blames)) tell(blameLine(blame));
    blames = state.blames.length;
    const now: Phase | "done" | "aborted" = attempt.phase;
    if (`${attempt.number} ${now}` === phase) return;
    phase = `${attempt.number} ${now}`;
    tell(`${organism}: member ${self}: attempt ${attempt.number}: ${now}`);
  };
}

/** Takes this member out of the running attempt, which then fails for everybody. The member's own process may be down. */
export function abortAttempt(
  options: Omit<TakePartOptions, "patienceS"> & { readonly attempt: number; readonly reason: string },
): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const place = placeOf(options);
    const plan = foundingPlan(place.founding, place.keys.organism);
    const log = await openLog(options, place);
    try {
      const raw = signMessage(generateSigningKey(fromHex(place.keys.memberKey)), {
        version: 1,
        ceremony: ceremonyId(plan),
        attempt: options.attempt,
        author: place.self,
        command: { type: "abort", reason: options.reason },
      });
      const fate = await log.append("ctl", raw, `abort/${options.attempt}/${randomBytes(8).toString("hex")}`);
      if (fate === "stored") return EXIT.ok;
      say("the broker did not answer: look whether the attempt has ended, and repeat it if not");
      return EXIT.timedOut;
    } finally {
      await log.close();
    }
  });
}

/** Writes config and rosters from the results of all six ceremonies into a new folder. */
export function assembleLattice(options: {
  readonly founding: string;
  readonly results: readonly string[];
  readonly directory: string;
}): Promise<number> {
  return readably(async () => {
    await initCrypto();
    const { config, rosters } = assemble(readFounding(options.founding), options.results.map(readResult));
    makeFolder(options.directory);
    for (const [name, content] of [
      ["lattice.hex", `${configToHex(config)}\n`],
      ["rosters.json", rostersToJson(rosters)],
    ] as const) {
      const path = join(options.directory, name);
      if (existsSync(path)) throw new CeremonyProblem(`${path} exists already`);
      writeWhole(path, content, 0o644, "new");
    }
    process.stdout.write(`${JSON.stringify({ lattice_id: toHex(latticeId(config)), keys: config.keys })}\n`);
    return EXIT.ok;
  });
}
