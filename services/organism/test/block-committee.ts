/** Three members of the block organism as they run, on one embedded log, with gRPC between them: what is measured. */
import { join } from "node:path";
import type { Checkpoint } from "../src/committee/checkpoint.ts";
import { trimmableBelow } from "../src/committee/trim.ts";
import { committeeId, slotStartMs } from "../src/identity/lattice-config.ts";
import { EmbeddedLog } from "../src/log/embedded-log.ts";
import { Member } from "../src/node/member.ts";
import { OutcomeArchive } from "../src/node/outcome-archive.ts";
import { FileSnapshotStore } from "../src/node/snapshot-store.ts";
import { fileStorage } from "../src/node/storage.ts";
import { createNoMeters, type MeterRegistry } from "../src/observe/meters.ts";
import { type RunningServer, startServer } from "../src/rpc/server.ts";
import { type BlockCommand, type BlockDuty, type BlockState, blockDefinition } from "./block-organism.ts";
import { memberOptions, type TestCommittee } from "./test-lattice.ts";

export type BlockMember = Member<BlockState, BlockCommand, BlockDuty, Record<string, never>>;
const SILENT = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };

export interface BlockOptions {
  readonly dealt: TestCommittee;
  readonly directory: string;
  readonly nowMs?: number;
  readonly checkpointEvery?: { readonly entries: bigint; readonly slots: bigint };
  /** Slots of outcomes that are kept, and outcomes in a file; as in production when left out. */
  readonly outcomes?: { readonly keptSlots: bigint; readonly segmentRecords: number };
  readonly segmentMessages?: number;
}

export class BlockCommittee {
  readonly log: EmbeddedLog;
  readonly members = new Map<number, BlockMember>();
  readonly meters = new Map<number, MeterRegistry>();
  readonly #options: BlockOptions;
  readonly #servers = new Map<number, RunningServer>();
  readonly #addresses: string[] = [];
  nowMs: number;

  private constructor(options: BlockOptions, log: EmbeddedLog) {
    this.#options = options;
    this.log = log;
    this.nowMs = options.nowMs ?? options.dealt.config.genesisMs;
  }

  static async open(options: BlockOptions): Promise<BlockCommittee> {
    const { segmentMessages } = options;
    const log = await EmbeddedLog.open(
      join(options.directory, "log"),
      segmentMessages === undefined ? {} : { segmentMessages },
    );
    return new BlockCommittee(options, log);
  }

  /** Starts a member, and serves it; resolves once it is ready. */
  async start(index: number): Promise<BlockMember> {
    const { dealt, directory, checkpointEvery, outcomes } = this.#options;
    const meters = createNoMeters();
    const folder = join(directory, `member-${index}`);
    const member = await Member.start<BlockState, BlockCommand, BlockDuty, Record<string, never>>({
      definition: blockDefinition,
      settings: {},
      ...(await memberOptions({
        committee: dealt,
        index,
        log: this.log.member(index),
        directory,
        clock: { nowMs: () => this.nowMs },
        journalIsOld: true,
        endpoints: this.#addresses,
        meters,
        ...(checkpointEvery === undefined ? {} : { checkpointEvery }),
        ...(outcomes === undefined
          ? {}
          : {
              storage: {
                ...fileStorage(folder),
                outcomes: (organism: string) => OutcomeArchive.open(folder, organism, outcomes),
              },
            }),
      })),
    });
    const server = await startServer({
      address: "127.0.0.1:0",
      services: member.services,
      committee: committeeId(dealt.config, "relay"),
      domain: "relay",
      log: SILENT,
      meters: createNoMeters(),
    });
    this.members.set(index, member);
    this.meters.set(index, meters);
    this.#servers.set(index, server);
    this.#addresses[index] = `127.0.0.1:${server.port}`;
    return member;
  }

  async stop(index: number): Promise<void> {
    this.#servers.get(index)?.close();
    this.#servers.delete(index);
    await this.members.get(index)?.stop(100);
    this.members.delete(index);
  }

  async close(): Promise<void> {
    for (const index of [...this.members.keys()]) await this.stop(index);
    await this.log.close();
  }

  /** Members say `count` blocks in turn, `atOnce` on their way at a time; resolves when all were applied. */
  async say(count: number, blockBytes: number, atOnce = 64): Promise<void> {
    const members = [...this.members.values()];
    const block = new Uint8Array(blockBytes).fill(7);
    let left = count;
    const worker = async (): Promise<void> => {
      while (left-- > 0) {
        const refusal = await members[left % members.length]?.host.submit({ type: "machine", command: { block } });
        if (refusal !== undefined) throw new Error(refusal.detail);
      }
    };
    await Promise.all(Array.from({ length: atOnce }, worker));
  }

  /** Time passes until `slot`, and all members have decided it. */
  async decide(slot: bigint): Promise<void> {
    this.nowMs = slotStartMs(this.#options.dealt.config, slot);
    for (const { host } of this.members.values()) host.wake();
    await this.until(`slot ${slot} is decided`, () => this.#all((each) => each.committee.floor("accepted") > slot));
  }

  #all(holds: (member: BlockMember) => boolean): boolean {
    return [...this.members.values()].every(holds);
  }

  async until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
    const deadline = performance.now() + 60_000;
    while (!(await holds())) {
      if (performance.now() > deadline) throw new Error(`not within a minute: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Newest first, as on this member's disk. */
  async held(index: number): Promise<Checkpoint[]> {
    const { dealt, directory } = this.#options;
    const store = await FileSnapshotStore.open(join(directory, `member-${index}`, "snapshots"), dealt.config, "relay");
    return store.held().map(({ checkpoint }) => checkpoint);
  }

  /** As the trimmer does, by what members have on disk. @returns the first position that is left */
  async trim(): Promise<bigint> {
    const held = await Promise.all([...this.members.keys()].map((index) => this.held(index)));
    const below = trimmableBelow(held, 2);
    if (below !== undefined) await this.log.trim(below.position + 1n);
    return this.log.firstPosition;
  }
}
