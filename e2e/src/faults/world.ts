/** A running lattice on three nats-servers with a fault link on every hop and a ledger beside it: what cells act on. */
import { appendFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { Layout } from "@lattice/deploy/local/layout.ts";
import type { Session } from "@lattice/deploy/local/session.ts";
import type { NatsCluster } from "@lattice/deploy/nats/nats-cluster.ts";
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { eventually, isReady, slotNow, statusOf } from "../scenarios/lattice-tools.ts";
import { type ScenarioContext, ScenarioFailure } from "../scenarios/scenario.ts";
import { FaultNetwork, type MemberId, memberName } from "./fault-network.ts";
import { LogLedger } from "./log-ledger.ts";
import type { PacketFilter } from "./packet-filter.ts";
import { SmallDisk } from "./small-disk.ts";

export const NATS_SERVERS = 3;
const MEMBERS = 3;
const LEDGER = "ledger";
const LEDGER_EVERY_MS = 40;
const NATS_DISK_MB = 900;
const MEMBER_DISK_MB = 160;
/** The member whose folder lies on a disk that can be filled. */
export const DISK_MEMBER: MemberId = { organism: "relay", index: 2 };
const READY_MS = 60_000;

export interface WorldOptions {
  readonly seed: number;
  /** Stores on disks that can be filled, where this user may mount such. */
  readonly smallDisks: boolean;
  /** Where the run has a network namespace of its own. */
  readonly filter?: PacketFilter;
}

export class World {
  readonly context: ScenarioContext;
  readonly session: Session;
  readonly network: FaultNetwork;
  readonly ledger: LogLedger;
  /** Of the nats-servers, then of DISK_MEMBER; empty where there are none. */
  readonly natsDisks: readonly SmallDisk[];
  readonly memberDisk: SmallDisk | undefined;

  private constructor(parts: {
    context: ScenarioContext;
    session: Session;
    network: FaultNetwork;
    ledger: LogLedger;
    natsDisks: readonly SmallDisk[];
    memberDisk: SmallDisk | undefined;
  }) {
    this.context = parts.context;
    this.session = parts.session;
    this.network = parts.network;
    this.ledger = parts.ledger;
    this.natsDisks = parts.natsDisks;
    this.memberDisk = parts.memberDisk;
  }

  static async start(context: ScenarioContext, { seed, smallDisks, filter }: WorldOptions): Promise<World> {
    const mode = await context.natsOnly();
    const directory = join(context.directory, "lattice");
    const layout = new Layout(directory);
    const network = await FaultNetwork.open({
      directory,
      members: MEMBERS,
      natsServers: NATS_SERVERS,
      seed,
      ...(filter === undefined ? {} : { filter }),
    });
    context.onEnd(() => network.close());
    const disks = smallDisks ? await mountDisks(context, layout) : { nats: [], member: undefined };
    const session = await context.start({
      mode,
      directory,
      natsServers: NATS_SERVERS,
      extraLogs: [LEDGER],
      memberSettings: (organism, index) => {
        const own = { organism, index };
        const onDisk = disks.member !== undefined && memberName(own) === memberName(DISK_MEMBER);
        return {
          ...network.settings(own),
          ...(onDisk ? { LATTICE_DATA_DIR: join(disks.member?.path ?? "", "data") } : {}),
        };
      },
      ...(disks.nats.length === 0 ? {} : { natsStoreDir: (index: number) => disks.nats[index]?.path ?? "" }),
    });
    const { lattice } = session;
    const broker = lattice.broker;
    const account = broker?.deal.accounts.find(({ organism }) => organism === LEDGER);
    if (broker === undefined || account === undefined) throw new Error("a lattice without a broker");
    const ledger = await LogLedger.start({
      credentials: account.members,
      admin: account.admin,
      servers: broker.cluster.urls,
      directory: join(context.directory, LEDGER),
      everyMs: LEDGER_EVERY_MS,
      onEvent: (event) => appendFileSync(layout.log(LEDGER), `${new Date().toISOString()} ${event}\n`),
    }).catch((error: unknown) => {
      throw new ScenarioFailure(`the ledger does not start: ${error instanceof Error ? error.message : String(error)}`);
    });
    context.onEnd(() => ledger.close());
    // First of all when it ends: members drain while there is still a network.
    context.onEnd(async () => {
      await session.stop();
      context.ended(session);
    });
    return new World({ context, session, network, ledger, natsDisks: disks.nats, memberDisk: disks.member });
  }

  get lattice(): LocalLattice {
    return this.session.lattice;
  }
  get nats(): NatsCluster {
    const { broker } = this.lattice;
    if (broker === undefined) throw new Error("a lattice without a broker");
    return broker.cluster;
  }
  get slot(): bigint {
    return slotNow(this.lattice);
  }

  async slots(count: number): Promise<void> {
    await this.ms(count * this.context.slotMs);
  }

  async ms(ms: number): Promise<void> {
    const until = Date.now() + ms;
    while (Date.now() < until && this.context.signal?.aborted !== true)
      await new Promise((resolve) => setTimeout(resolve, Math.min(50, until - Date.now() + 1)));
  }

  dataOf(member: MemberId): string {
    const onDisk = this.memberDisk !== undefined && memberName(member) === memberName(DISK_MEMBER);
    return onDisk ? join(this.memberDisk?.path ?? "", "data") : this.lattice.layout.data(member.organism, member.index);
  }

  async kill(member: MemberId): Promise<void> {
    await this.lattice.process(memberName(member)).kill();
  }
  start(member: MemberId): void {
    if (!this.running(member)) this.lattice.startMember(member.organism, member.index);
  }
  running(member: MemberId): boolean {
    return this.lattice.process(memberName(member)).running;
  }
  signal(member: MemberId, signal: "SIGSTOP" | "SIGCONT"): void {
    const { pid, running } = this.lattice.process(memberName(member));
    if (running && pid !== undefined) process.kill(pid, signal);
  }
  ready(member: MemberId): Promise<boolean> {
    return eventually(READY_MS, () => isReady(this.lattice, member.organism, member.index));
  }
  logOf(member: MemberId): string {
    return readFileSync(this.lattice.layout.log(memberName(member)), "utf8");
  }
  setClock(member: MemberId, text: string): void {
    writeFileSync(this.network.clockFile(member), text);
  }

  /** Files below a member's folder, newest name last. */
  filesOf(member: MemberId, folder: string): string[] {
    const directory = join(this.dataOf(member), folder);
    return readdirSync(directory)
      .sort()
      .map((name) => join(directory, name));
  }

  /** Whether all members of each committee have the same chain head and state at one position. @returns who differs */
  async differing(): Promise<string[]> {
    const organisms = [...new Set(this.network.members.map(({ organism }) => organism))];
    const found = await Promise.all(
      organisms.map(async (organism) => {
        let problem: string | undefined = `${organism}: not all members answered at one position`;
        await eventually(READY_MS, async () => {
          const statuses = await Promise.all(
            Array.from({ length: MEMBERS }, (_, index) => statusOf(this.lattice, organism, index)),
          );
          const [first] = statuses;
          if (first === undefined) return false;
          const same = statuses.every((each) => each !== undefined && each.position === first.position);
          if (!same) return false;
          const agreed = statuses.every(
            (each) =>
              each !== undefined &&
              equalBytes(each.chainHead, first.chainHead) &&
              equalBytes(each.stateHash, first.stateHash),
          );
          problem = agreed ? undefined : `${organism}: members differ at position ${first.position}`;
          return true;
        });
        return problem;
      }),
    );
    return found.flatMap((problem) => problem ?? []);
  }
}

async function mountDisks(
  context: ScenarioContext,
  layout: Layout,
): Promise<{ readonly nats: readonly SmallDisk[]; readonly member: SmallDisk | undefined }> {
  const mount = async (name: string, megabytes: number): Promise<SmallDisk | undefined> => {
    const disk = await SmallDisk.mount(layout.path("disks", name), megabytes);
    if (disk !== undefined) context.onEnd(() => disk.unmount());
    return disk;
  };
  const nats: SmallDisk[] = [];
  for (let index = 0; index < NATS_SERVERS; index++) {
    const disk = await mount(`nats-${index}`, NATS_DISK_MB);
    if (disk !== undefined) nats.push(disk);
  }
  return { nats: nats.length === NATS_SERVERS ? nats : [], member: await mount("member", MEMBER_DISK_MB) };
}
