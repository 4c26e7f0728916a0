/** A real committee for tests: three members on the embedded log, each with its own folder and gRPC port. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Roster } from "@lattice/organism/committee/roster.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { generateSecret, publicOf, splitSecret } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EmbeddedLog } from "@lattice/organism/log/embedded-log.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { Member } from "@lattice/organism/node/member.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import type { MemberSecrets } from "@lattice/organism/service.ts";
import { random, testConfig } from "../../organism/test/test-lattice.ts";
import { SETTINGS, type Settings } from "../src/config.ts";
import type { Command, State, ZipnetDuty } from "../src/core/types.ts";
import { definition } from "../src/definition.ts";
import { SILENT } from "./world.ts";

const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };

export interface RunningMember {
  readonly member: Member<State, Command, ZipnetDuty, Settings>;
  readonly server: RunningServer;
}

export class TestCommittee {
  readonly config: LatticeConfig;
  readonly rosters: { readonly [O in Organism]: Roster };
  readonly secrets: readonly MemberSecrets[];
  readonly directory: string;
  readonly log: EmbeddedLog;
  readonly running = new Map<number, RunningMember>();
  readonly ports = new Map<number, number>();

  private constructor(directory: string, log: EmbeddedLog, overrides: Partial<LatticeConfig>) {
    this.directory = directory;
    this.log = log;
    const secret = generateSecret(random);
    const certificate = publicOf(secret);
    const dealing = splitSecret({ secret, threshold: 2, count: 3, random });
    const keys = Object.fromEntries(ORGANISMS.map((organism) => [organism, certificate])) as Record<
      Organism,
      Uint8Array
    >;
    const base = testConfig(keys, overrides);
    this.secrets = dealing.shares.map((certificateShare) => ({
      boxKey: random(32),
      memberKey: random(32),
      certificateShare,
      serverKey: random(32),
      operatorKey: random(32),
    }));
    const operators = this.secrets.map(({ operatorKey }) => generateSigningKey(operatorKey ?? random(32)).publicKey);
    const content = { ...base.zipnet.content, operators, participantsMin: 2, cells: 32, cellBytes: 512 };
    const { slotMs } = base;
    const times = { roundOpenMs: Math.round(slotMs * 1.45), roundCloseMs: Math.round(slotMs * 0.55) };
    const patienceMs = Math.round(slotMs * 0.15);
    this.config = { ...base, zipnet: { ...base.zipnet, content: { ...content, ...times, patienceMs } } };
    const roster = (organism: Organism): Roster => ({
      version: 1,
      committee: committeeId(this.config, organism),
      epoch: 0n,
      activationSlot: 1n,
      members: this.secrets.map(({ memberKey, boxKey }, index) => ({
        index,
        memberKey: generateSigningKey(memberKey).publicKey,
        boxKey: agreementKey(boxKey).publicKey,
        certificateShare: dealing.publicShares[index] ?? new Uint8Array(),
        secondShare: undefined,
        signer: undefined,
      })),
      sealingKey: undefined,
      sealingUntilSlot: 0n,
    });
    this.rosters = Object.fromEntries(ORGANISMS.map((organism) => [organism, roster(organism)])) as Record<
      Organism,
      Roster
    >;
  }

  static async create(overrides: Partial<LatticeConfig>): Promise<TestCommittee> {
    await initCrypto();
    const directory = await mkdtemp(join(tmpdir(), "lattice-zipnet-"));
    return new TestCommittee(directory, await EmbeddedLog.open(join(directory, "log")), overrides);
  }

  get addresses(): string[] {
    return [0, 1, 2].map((index) => `127.0.0.1:${this.ports.get(index) ?? 1}`);
  }

  async start(
    index: number,
    journalIsOld = false,
    settings: Readonly<Record<string, string>> = {},
  ): Promise<RunningMember> {
    const secrets = this.secrets[index];
    if (secrets === undefined) throw new Error(`no member ${index}`);
    const directory = join(this.directory, `member-${index}`);
    const none = Object.fromEntries(ORGANISMS.map((organism) => [organism, []])) as unknown as {
      [O in Organism]: string[];
    };
    const member = await Member.start<State, Command, ZipnetDuty, Settings>({
      definition,
      settings: SETTINGS.parse(settings),
      config: this.config,
      self: index,
      rosters: this.rosters,
      secrets,
      endpoints: () => none,
      log: this.log.member(index),
      journal: await FileJournal.open(directory),
      journalIsOld,
      directory,
      clock: { nowMs: () => Date.now() },
      random,
      logger: SILENT,
      meters: NO_METERS,
      tracer: { span: () => undefined, root: () => undefined, close: async () => undefined },
      onFatal: (reason, detail) => {
        throw new Error(`${reason}: ${detail}`);
      },
    });
    const server = await startServer({
      address: `127.0.0.1:${this.ports.get(index) ?? 0}`,
      services: [...member.services],
      committee: member.committee.id,
      domain: "zipnet",
      log: SILENT,
      meters: NO_METERS,
    });
    this.ports.set(index, server.port);
    const running = { member, server };
    this.running.set(index, running);
    return running;
  }

  async stop(index: number): Promise<void> {
    const running = this.running.get(index);
    this.running.delete(index);
    await running?.server.drain(200);
    await running?.member.stop(200);
  }

  async close(): Promise<void> {
    for (const index of [...this.running.keys()]) await this.stop(index);
    await this.log.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
