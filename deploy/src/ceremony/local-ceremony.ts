/**
 * The keys of a local lattice from ceremonies instead of the dealer: every member a process of its own on a broker of
 * the ceremonies' own, as operators would run it. This process launches them and puts the public results together; it
 * never sees a member's secret.
 */
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { draftOf, type FoundingMember } from "@lattice/organism/ceremony/founding.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { G1_BYTES, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { memberFolder, secp256k1Secret, writeKit } from "../dealer/kit-folder.ts";
import { freePorts } from "../local/free-ports.ts";
import { guarded } from "../local/orphan-guard.ts";
import { localConfig, type ProfileOptions } from "../local/profile.ts";
import { dealNats, writeCredentials } from "../nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../nats/nats-process.ts";
import { assemble, foundingToJson, memberFromJson, PUBLIC_MEMBER, parseFile, readResult } from "./founding-file.ts";
import { MemberFolder } from "./member-folder.ts";

/** The command line. */
export const BUILDER = join(dirname(dirname(fileURLToPath(import.meta.url))), "cli", "main.ts");
/** A crowded machine starts eighteen processes slowly; nobody is left out for that. */
const PATIENCE_S = 120;

/** A member's process ended badly. One readable line with the end of what it said. */
export class LocalCeremonyFailure extends Error {
  override readonly name = "LocalCeremonyFailure";
}

export interface LocalCeremonyOptions {
  readonly directory: string;
  readonly profile: ProfileOptions;
  /** The nats-server program. */
  readonly binary: string;
  readonly progress?: (line: string) => void;
}

const perOrganism = <T>(make: (organism: Organism) => T): Record<Organism, T> =>
  Object.fromEntries(ORGANISMS.map((organism) => [organism, make(organism)])) as Record<Organism, T>;

/** One run of `builder`, its output in a log file; resolves to its exit code. */
export function runBuilder(args: readonly string[], logFile: string, stdoutFile?: string): Promise<number> {
  mkdirSync(dirname(logFile), { recursive: true, mode: 0o700 });
  const log = openSync(logFile, "a", 0o600);
  const out = stdoutFile === undefined ? log : openSync(stdoutFile, "w", 0o600);
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", BUILDER, ...args], {
      stdio: ["ignore", out, log],
    });
    guarded(child);
    const end = (): void => {
      closeSync(log);
      if (out !== log) closeSync(out);
    };
    child.once("error", (error) => {
      end();
      reject(error);
    });
    child.once("exit", (code) => {
      end();
      resolve(code ?? 1);
    });
  });
}

/** Everything of a local ceremony's folder that stands before anybody speaks. */
export interface PreparedCeremony {
  readonly foundingFile: string;
  readonly server: NatsServer;
  readonly issuerSeed: Uint8Array;
  readonly sequencerKey: Uint8Array;
  readonly members: Readonly<Record<Organism, readonly FoundingMember[]>>;
  readonly draft: LatticeConfig;
  /** Arguments of `builder ceremony run` of one member. */
  takePart(organism: Organism, index: number, patienceS?: number, command?: "run" | "retry"): readonly string[];
  logFile(organism: Organism, index: number): string;
}

/** Members' own keys, the founding file, and a broker for the ceremonies. @throws LocalCeremonyFailure, ProgramFailure */
export async function prepareCeremony(options: LocalCeremonyOptions): Promise<PreparedCeremony> {
  const { directory, profile, binary } = options;
  await initCrypto();
  const folder = (organism: Organism, index: number): string => memberFolder(directory, organism, index);
  const logFile = (organism: Organism, index: number): string =>
    join(directory, "logs", `ceremony-${organism}-${index}.log`);
  const everybody = ORGANISMS.flatMap((organism) =>
    Array.from({ length: profile.members }, (_, index) => ({ organism, index })),
  );
  const published = join(directory, "ceremony");
  mkdirSync(published, { recursive: true, mode: 0o700 });
  await Promise.all(
    everybody.map(async ({ organism, index }) => {
      const args = ["ceremony", "member", "--organism", organism, "--directory", folder(organism, index)];
      const code = await runBuilder(args, logFile(organism, index), join(published, `${organism}-${index}.json`));
      if (code !== 0) throw failure(`member ${index} of ${organism} could not make its keys`, logFile(organism, index));
    }),
  );
  const members = perOrganism((organism) =>
    Array.from({ length: profile.members }, (_, index) =>
      memberFromJson(parseFile(PUBLIC_MEMBER, join(published, `${organism}-${index}.json`), "member")),
    ),
  );
  const issuerSeed = new Uint8Array(randomBytes(32));
  const sequencerKey = secp256k1Secret();
  const none = new Uint8Array(G1_BYTES);
  const draft = draftOf(
    localConfig(
      { ...profile, keys: "ceremony" },
      {
        certificateKeys: perOrganism(() => none),
        builderKey: none,
        operators: members.zipnet.map(({ operator }) => operator ?? new Uint8Array()),
        issuer: generateSigningKey(issuerSeed).publicKey,
        sequencer: addressOfSecret(sequencerKey),
      },
    ),
  );
  const foundingFile = join(directory, "founding.json");
  writeFileSync(foundingFile, foundingToJson({ draft, members }), { flag: "wx" });
  const deal = dealNats(ORGANISMS.map((organism) => ({ organism: `ceremony-${organism}`, members: profile.members })));
  for (const [position, account] of deal.accounts.entries()) {
    const organism = ORGANISMS[position];
    for (const [index, credentials] of account.members.entries())
      if (organism !== undefined) writeCredentials(join(folder(organism, index), "nats-ceremony.json"), credentials);
  }
  const [port = 0, monitorPort = 0] = await freePorts(2);
  const server = await startNatsServer({ binary, directory: join(published, "nats"), deal, port, monitorPort });
  try {
    for (const { admin } of deal.accounts) await createCommitteeStream(server.url, admin);
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    foundingFile,
    server,
    issuerSeed,
    sequencerKey,
    members,
    draft,
    logFile,
    takePart: (organism, index, patienceS = PATIENCE_S, command = "run") => [
      "ceremony",
      command,
      "--directory",
      folder(organism, index),
      "--founding",
      foundingFile,
      "--nats",
      server.url,
      "--patience-s",
      String(patienceS),
    ],
  };
}

/** Runs all six ceremonies and writes the kit. @returns addresses of tally's attesters, ascending */
export async function foundLocally(options: LocalCeremonyOptions): Promise<Uint8Array[]> {
  const { directory, profile, progress = () => undefined } = options;
  progress(`ceremonies: ${ORGANISMS.length * profile.members} members make their keys`);
  const prepared = await prepareCeremony(options);
  try {
    progress("ceremonies: group keys are generated among the members");
    await Promise.all(
      ORGANISMS.flatMap((organism) =>
        Array.from({ length: profile.members }, async (_, index) => {
          const code = await runBuilder(prepared.takePart(organism, index), prepared.logFile(organism, index));
          if (code !== 0)
            throw failure(`the ceremony of ${organism} failed for member ${index}`, prepared.logFile(organism, index));
        }),
      ),
    );
  } finally {
    await prepared.server.stop();
  }
  const { members, draft, issuerSeed, sequencerKey } = prepared;
  const results = ORGANISMS.flatMap((organism) =>
    members[organism].map((_, index) =>
      readResult(new MemberFolder(memberFolder(directory, organism, index)).resultFile),
    ),
  );
  const { config, rosters } = assemble({ draft, members }, results);
  const signers = members.tally.map(({ signer }) => signer ?? new Uint8Array()).sort((a, b) => Buffer.compare(a, b));
  writeKit(directory, { config, rosters, signers, issuerSeed, sequencerKey });
  return signers;
}

function failure(what: string, logFile: string): LocalCeremonyFailure {
  const tail = readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-3).join(" | ");
  return new LocalCeremonyFailure(`${what}: ${tail}`);
}
