/** Three members in one process: real machine, real node halves, real cryptography; only log and network are short. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { CertifiedOutcome, Outcome } from "@lattice/organism/committee/outcome.ts";
import type { Refusal } from "@lattice/organism/machine.ts";
import { FileBodyStore } from "@lattice/organism/node/file-body-store.ts";
import { nodeTimers } from "@lattice/organism/node/node-timers.ts";
import type { Fields } from "@lattice/organism/observe/logger.ts";
import { metricEntry } from "@lattice/organism/observe/metric-catalogue.ts";
import type { Journal } from "@lattice/organism/ports.ts";
import { SETTINGS } from "../src/config.ts";
import type { UnsealDuty } from "../src/core/types.ts";
import { definition } from "../src/definition.ts";
import type { UnsealHost } from "../src/node/effects.ts";
import { CommitteeDriver } from "./committee-driver.ts";
import { MEMBERS, random, type TestLattice } from "./lattice.ts";

export interface TestMember {
  readonly self: number;
  readonly node: ReturnType<typeof definition.createNode>;
  readonly bodies: FileBodyStore;
  readonly directory: string;
  /** Everything logged or counted, as text. */
  readonly said: string[];
}

export interface Running {
  readonly driver: CommitteeDriver;
  readonly members: readonly TestMember[];
  /** Bodies that neighbours serve, by slot. */
  readonly broadcastBodies: Map<bigint, Uint8Array>;
  /** Certified outcomes of this committee that the archive would hold. */
  readonly certified: CertifiedOutcome[];
  /** Carries out duties of `who` until nobody has one; refusals in order. */
  settle(who?: readonly number[], only?: (duty: UnsealDuty) => boolean): Promise<Refusal[]>;
  stop(): Promise<void>;
}

const noJournal: Journal = {
  nextIncarnation: async () => 1n,
  promise: async () => undefined,
  promised: () => undefined,
  entry: async () => undefined,
  put: async () => undefined,
  get: () => undefined,
  trim: async () => undefined,
  close: async () => undefined,
};

export async function startMembers(lattice: TestLattice, workers = 0): Promise<Running> {
  const { config, roster } = lattice;
  const driver = new CommitteeDriver(lattice);
  const broadcastBodies = new Map<bigint, Uint8Array>();
  const certified: CertifiedOutcome[] = [lattice.certifiedRoster];
  const parent = await mkdtemp(join(tmpdir(), "lattice-unseal-"));
  const settings = SETTINGS.parse({ UNSEAL_OPENING_WORKERS: workers });

  const start = async (self: number): Promise<TestMember> => {
    const directory = join(parent, `member-${self}`);
    const bodies = await FileBodyStore.open(directory);
    const said: string[] = [];
    const say = (message: string, fields: Fields = {}): void => {
      said.push(`${message} ${Object.entries(fields).join(" ")}`);
    };
    const meter =
      (type: "counter" | "gauge" | "histogram") =>
      (name: string, value = 1, labels: Readonly<Record<string, string>> = {}): void => {
        metricEntry(name, type, labels);
        said.push(`${name} ${value} ${JSON.stringify(labels)}`);
      };
    const secrets = lattice.secrets[self];
    if (secrets === undefined) throw new Error(`no member ${self}`);
    const outcome = (_stage: string, slot: bigint): Outcome | undefined => driver.outcomes.get(slot);
    const host: UnsealHost = {
      config,
      organism: "unseal",
      committee: roster.committee,
      self,
      roster,
      rosterAt: () => roster,
      sharesAt: () => secrets,
      rosters: { zipnet: roster, unseal: roster, offer: roster, atelier: roster, relay: roster, tally: roster },
      settings,
      secrets,
      clock: { nowMs: () => driver.nowMs },
      timers: nodeTimers,
      random,
      journal: noJournal,
      log: { debug: say, info: say, warn: say, error: say },
      meters: { count: meter("counter"), gauge: meter("gauge"), record: meter("histogram") },
      bodies,
      directory,
      state: () => driver.state,
      caughtUp: () => true,
      submit: async (submission) => driver.submit(self, submission),
      outcome,
      certified: (stage, slot) => certified.find((each) => each.outcome.stage === stage && each.outcome.slot === slot),
      async *watch(stage, fromSlot) {
        yield* certified.filter((each) => each.outcome.stage === stage && each.outcome.slot >= fromSlot);
      },
      observed: (organism, stage, slot) => driver.observed(organism, stage, slot),
      fetchBody: async (_organism, { slot }) => {
        const body = broadcastBodies.get(slot);
        if (body === undefined) throw new Error("nobody has this body");
        return body;
      },
      wake: () => undefined,
    };
    const node = definition.createNode(host);
    await node.start?.();
    return { self, node, bodies, directory, said };
  };
  const members = await Promise.all(Array.from({ length: MEMBERS }, (_, self) => start(self)));

  return {
    driver,
    members,
    broadcastBodies,
    certified,
    async settle(who = [0, 1, 2], only = () => true) {
      const refusals: Refusal[] = [];
      for (let worked = true; worked; ) {
        worked = false;
        for (const member of members.filter(({ self }) => who.includes(self))) {
          for (const duty of driver.duties(member.self).filter(only)) {
            const before = driver.outcomes.size;
            const submission = await member.node.execute(duty);
            if (submission === undefined) continue;
            worked = true;
            const refusal = driver.submit(member.self, submission);
            if (refusal !== undefined) refusals.push(refusal);
            if (driver.outcomes.size === before) continue;
            const decided = [...driver.outcomes.values()].at(-1);
            if (decided !== undefined) for (const { node } of members) node.decided?.(decided);
          }
        }
      }
      return refusals;
    },
    async stop() {
      await Promise.all(members.map(({ node }) => node.stop?.()));
      await rm(parent, { recursive: true, force: true });
    },
  };
}
