/**
 * The fault matrix: each cell makes one thing go wrong in the running lattice, holds it for some slots and mends it. What
 * must hold is the same for all and is judged elsewhere (`run-cells.ts`); a cell says only how soon slots go through again.
 */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import type { Conditions, LinkCounts } from "./fault-link.ts";
import type { MemberId } from "./fault-network.ts";
import { DISK_MEMBER, NATS_SERVERS, type World } from "./world.ts";

export interface Cell {
  readonly name: string;
  /** Row of the fault matrix: F1 … F18, or F0 for none. */
  readonly family: string;
  readonly injects: string;
  readonly holdSlots: number;
  /** Slots after mending within which one goes through all five organisms again. */
  readonly bound: number;
  /** What the links must have done, or the cell was void. */
  readonly effect?: keyof LinkCounts;
  /** Needs disks that can be filled. */
  readonly smallDisks?: boolean;
  /** Makes it wrong. @returns what mends it */
  inject(world: World): Promise<() => Promise<void> | void>;
}

/** Nothing goes wrong in it: what a machine loses by itself, for comparison. */
export const BASELINE: Cell = {
  name: "baseline",
  family: "F0",
  injects: "nothing: what this machine loses without a fault",
  holdSlots: 5,
  bound: 4,
  async inject() {
    return () => undefined;
  },
};

const victim = (organism: Organism, index = 1): MemberId => ({ organism, index });
const HOLD = 2;

/** Sets conditions on links, and mends the whole network afterwards. */
function onLinks(pick: (world: World) => readonly { set(conditions: Conditions): void }[], conditions: Conditions) {
  return async (world: World) => {
    for (const link of pick(world)) link.set(conditions);
    return () => world.network.mend();
  };
}

async function backAgain(world: World, member: MemberId): Promise<void> {
  world.start(member);
  if (!(await world.ready(member))) throw new Error(`${member.organism}-${member.index} is not ready again`);
}

function killCells(): Cell[] {
  const singles = ORGANISMS.map(
    (organism): Cell => ({
      name: `kill-${organism}`,
      family: "F1",
      injects: `kill -9 of ${organism}-1, started again after the hold`,
      holdSlots: HOLD,
      bound: 6,
      async inject(world) {
        await world.kill(victim(organism));
        return () => backAgain(world, victim(organism));
      },
    }),
  );
  const phases = [0, 20, 40, 60, 80].map((percent, turn): Cell => {
    const organism = ORGANISMS[turn] ?? "zipnet";
    return {
      name: `kill-phase-${percent}`,
      family: "F2",
      injects: `kill -9 of ${organism}-0 at ${percent} % of a slot, started again at once`,
      holdSlots: 1,
      bound: 6,
      async inject(world) {
        const { slotMs, genesisMs } = world.lattice.config;
        const into = (((Date.now() - genesisMs) % slotMs) + slotMs) % slotMs;
        await world.ms((slotMs - into + (slotMs * percent) / 100) % slotMs);
        await world.kill(victim(organism, 0));
        await backAgain(world, victim(organism, 0));
        return () => undefined;
      },
    };
  });
  const loops = ORGANISMS.map(
    (organism): Cell => ({
      name: `crash-loop-${organism}`,
      family: "F3",
      injects: `kill -9 of ${organism}-2 every 1.5 s, started again each time`,
      holdSlots: HOLD,
      bound: 6,
      async inject(world) {
        let over = false;
        const looping = (async () => {
          while (!over) {
            await world.kill(victim(organism, 2));
            world.start(victim(organism, 2));
            await world.ms(1500);
          }
        })();
        return async () => {
          over = true;
          await looping;
          await backAgain(world, victim(organism, 2));
        };
      },
    }),
  );
  return [...singles, ...phases, ...loops];
}

function natsCells(): Cell[] {
  const servers = Array.from({ length: NATS_SERVERS }, (_, index) => index);
  const leaderOf = async (world: World, organism: Organism): Promise<number> => {
    const account = world.lattice.broker?.deal.accounts.find((each) => each.organism === organism);
    return (account === undefined ? undefined : await world.nats.leaderOf(account.admin)) ?? 0;
  };
  return [
    ...servers.map(
      (server): Cell => ({
        name: `kill-nats-${server + 1}`,
        family: "F4",
        injects: `kill -9 of nats-server ${server + 1} of 3, which leads two of the streams`,
        holdSlots: 4,
        bound: 8,
        async inject(world) {
          await world.nats.killServer(server);
          return () => world.nats.start(server);
        },
      }),
    ),
    {
      name: "kill-nats-leader",
      family: "F4",
      injects: "kill -9 of the nats-server that leads zipnet's stream, whichever it is by then",
      holdSlots: 4,
      bound: 8,
      async inject(world) {
        const server = await leaderOf(world, "zipnet");
        await world.nats.killServer(server);
        return () => world.nats.start(server);
      },
    },
    ...servers.map(
      (left): Cell => ({
        name: `nats-only-${left + 1}`,
        family: "F5",
        injects: `kill -9 of two nats-servers, ${left + 1} is left`,
        holdSlots: HOLD,
        bound: 12,
        async inject(world) {
          await Promise.all(servers.filter((each) => each !== left).map((each) => world.nats.killServer(each)));
          return () => world.nats.startAll();
        },
      }),
    ),
    {
      name: "nats-all-killed",
      family: "F6",
      injects: "kill -9 of all three nats-servers at once",
      holdSlots: HOLD,
      bound: 15,
      async inject(world) {
        await Promise.all(servers.map((each) => world.nats.killServer(each)));
        return () => world.nats.startAll();
      },
    },
    ...servers.map(
      (server): Cell => ({
        name: `stop-nats-${server + 1}`,
        family: "F15",
        injects: `SIGSTOP of nats-server ${server + 1} of 3: it keeps its connections and says nothing`,
        holdSlots: 4,
        bound: 8,
        async inject(world) {
          world.nats.signal(server, "SIGSTOP");
          return () => world.nats.signal(server, "SIGCONT");
        },
      }),
    ),
    {
      name: "stop-nats-leader",
      family: "F15",
      injects: "SIGSTOP of the nats-server that leads the ledger's and relay's streams' committee unseal",
      holdSlots: 4,
      bound: 8,
      async inject(world) {
        const server = await leaderOf(world, "unseal");
        world.nats.signal(server, "SIGSTOP");
        return () => world.nats.signal(server, "SIGCONT");
      },
    },
    ...([50, 500] as const).map(
      (ms): Cell => ({
        name: `slow-nats-${ms}`,
        family: "F17",
        injects: `all nats-servers are stopped for ${ms} ms of every ${2 * ms} ms, as by a slow disk`,
        holdSlots: HOLD,
        bound: 8,
        async inject(world) {
          let over = false;
          const turns = (async () => {
            while (!over) {
              for (const server of servers) world.nats.signal(server, "SIGSTOP");
              await world.ms(ms);
              for (const server of servers) world.nats.signal(server, "SIGCONT");
              await world.ms(ms);
            }
          })();
          return async () => {
            over = true;
            await turns;
          };
        },
      }),
    ),
  ];
}

function partitionCells(): Cell[] {
  const cut: Conditions = { cut: "both" };
  // Between committees of which one follows the other.
  const edges: readonly (readonly [Organism, Organism])[] = [
    ["zipnet", "unseal"],
    ["offer", "unseal"],
    ["offer", "tally"],
    ["unseal", "atelier"],
    ["offer", "atelier"],
    ["atelier", "relay"],
    ["relay", "tally"],
  ];
  return [
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `minority-${organism}`,
        family: "F8",
        injects: `${organism}-1 is cut off from the broker and from every other member`,
        holdSlots: HOLD,
        bound: 8,
        effect: "held",
        inject: onLinks((world) => world.network.linksOf(victim(organism)), cut),
      }),
    ),
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `majority-${organism}`,
        family: "F8",
        injects: `${organism}-0 and ${organism}-1 are cut off from the broker and from every other member`,
        holdSlots: HOLD,
        bound: 10,
        effect: "held",
        inject: onLinks((world) => [0, 1].flatMap((index) => world.network.linksOf(victim(organism, index))), cut),
      }),
    ),
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `deaf-${organism}`,
        family: "F9",
        injects: `${organism}-2 can send to the broker and hears nothing from it`,
        holdSlots: HOLD,
        bound: 8,
        effect: "held",
        inject: onLinks((world) => world.network.natsOf(victim(organism, 2)), { cut: "down" }),
      }),
    ),
    ...edges.map(
      ([from, to]): Cell => ({
        name: `edge-${from}-${to}`,
        family: "F10",
        injects: `no member of ${to} reaches any of ${from}, nor the other way round`,
        holdSlots: HOLD,
        bound: 8,
        effect: "held",
        inject: onLinks((world) => [...world.network.edge(from, to), ...world.network.edge(to, from)], cut),
      }),
    ),
  ];
}

function linkCells(): Cell[] {
  const slow: Conditions = { delayMs: 400, jitterMs: 100, bytesPerSecond: 125_000 };
  const everyNats = (world: World) => world.network.members.flatMap((member) => world.network.natsOf(member));
  return [
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `slow-link-${organism}`,
        family: "F11",
        injects: `${organism}-1: 400 to 500 ms each way and 1 Mbit/s on every link`,
        holdSlots: HOLD,
        bound: 6,
        effect: "delayed",
        inject: onLinks((world) => world.network.linksOf(victim(organism)), slow),
      }),
    ),
    ...ORGANISMS.map(
      (organism): Cell => ({
        name: `resets-${organism}`,
        family: "F12",
        injects: `every connection of ${organism}-0 is reset every 2 s`,
        holdSlots: HOLD,
        bound: 6,
        effect: "reset",
        inject: onLinks((world) => world.network.linksOf(victim(organism, 0)), { resetEveryMs: 2000 }),
      }),
    ),
    {
      name: "loss-everywhere",
      family: "F12",
      injects: "5 % of the chunks between all members and the broker are sent again 300 ms later",
      holdSlots: HOLD,
      bound: 6,
      effect: "delayed",
      inject: onLinks(everyNats, { loss: 0.05 }),
    },
    {
      name: "duplicates-in",
      family: "F13",
      injects:
        "each message of all members is put into the log twice, the second time under an id that the broker does not know",
      holdSlots: HOLD,
      bound: 4,
      effect: "duplicated",
      inject: onLinks(everyNats, { messages: { direction: "up", duplicate: 1 } }),
    },
    {
      name: "duplicates-out",
      family: "F13",
      injects: "each message is delivered to each member twice",
      holdSlots: HOLD,
      bound: 8,
      effect: "duplicated",
      inject: onLinks(everyNats, { messages: { direction: "down", duplicate: 0.2 } }),
    },
    {
      name: "reorder-in",
      family: "F13",
      injects: "what a member publishes goes into the log in another order, over a window of 8",
      holdSlots: HOLD,
      bound: 8,
      effect: "reordered",
      inject: onLinks(everyNats, { messages: { direction: "up", reorderWindow: 8 } }),
    },
    {
      name: "reorder-out",
      family: "F13",
      injects: "relay's members are delivered the log in another order, over a window of 4",
      holdSlots: HOLD,
      bound: 8,
      effect: "reordered",
      inject: onLinks((world) => [0, 1, 2].flatMap((index) => world.network.natsOf(victim("relay", index))), {
        messages: { direction: "down", reorderWindow: 4 },
      }),
    },
    {
      name: "drop-in",
      family: "F12",
      injects: "every tenth message of all members vanishes on its way into the log, on a connection that lives",
      holdSlots: HOLD,
      bound: 8,
      effect: "dropped",
      inject: onLinks(everyNats, { messages: { direction: "up", drop: 0.1 } }),
    },
    {
      name: "corrupt-in",
      family: "F18",
      injects: "one bit of every tenth message of all members is another when it enters the log",
      holdSlots: HOLD,
      bound: 8,
      effect: "corrupted",
      inject: onLinks(everyNats, { messages: { direction: "up", corrupt: 0.1 } }),
    },
    {
      name: "corrupt-out",
      family: "F18",
      injects:
        "one bit of every tenth message is another when relay-2 is delivered it; what stops over another chain is started again",
      holdSlots: HOLD,
      bound: 8,
      effect: "corrupted",
      async inject(world) {
        const committee = [0, 1, 2].map((index) => victim("relay", index));
        const damaged = victim("relay", 2);
        const before = world.logOf(damaged).length;
        for (const link of world.network.natsOf(damaged)) link.set({ messages: { direction: "down", corrupt: 0.1 } });
        let over = false;
        const again = (async () => {
          while (!over) {
            for (const member of committee) world.start(member);
            await world.ms(1000);
          }
        })();
        return async () => {
          // Its own links only now mended: until then it reads another chain whenever it comes back.
          world.network.mend();
          await world.slots(2);
          over = true;
          await again;
          for (const member of committee) await backAgain(world, member);
          if (!/another chain|LOG_FORKED/.test(world.logOf(damaged).slice(before)))
            throw new Error("it did not say that it read another chain");
        };
      },
    },
  ];
}

function timeCells(): Cell[] {
  const clock = (name: string, member: MemberId, injects: string, text: () => string): Cell => ({
    name,
    family: "F14",
    injects,
    holdSlots: HOLD,
    bound: 8,
    async inject(world) {
      world.setClock(member, text());
      return () => world.setClock(member, "0");
    },
  });
  const skews: readonly (readonly [string, number, Organism])[] = [
    ["+0.5 s", 500, "zipnet"],
    ["-0.5 s", -500, "unseal"],
    ["+5 s", 5000, "offer"],
    ["-5 s", -5000, "atelier"],
    ["+1 h", 3_600_000, "relay"],
    ["-1 h", -3_600_000, "tally"],
  ];
  const pauses: readonly (readonly [Organism, number])[] = [
    ["zipnet", 1],
    ["unseal", 1],
    ["offer", 5],
    ["atelier", 5],
    ["relay", 30],
  ];
  return [
    ...skews.map(([label, ms, organism]) =>
      clock(
        `clock-${label.replaceAll(" ", "")}-${organism}`,
        victim(organism, 2),
        `the clock of ${organism}-2 jumps by ${label} and back after the hold`,
        () => `${ms}`,
      ),
    ),
    clock("clock-frozen-offer", victim("offer", 0), "the clock of offer-0 stands still", () => `=${Date.now()}`),
    ...pauses.map(
      ([organism, seconds]): Cell => ({
        name: `pause-${organism}-${seconds}s`,
        family: "F15",
        injects: `SIGSTOP of ${organism}-0 for ${seconds} s, then it goes on as if nothing had been`,
        holdSlots: 0,
        bound: 8,
        async inject(world) {
          world.signal(victim(organism, 0), "SIGSTOP");
          await world.ms(seconds * 1000);
          return () => world.signal(victim(organism, 0), "SIGCONT");
        },
      }),
    ),
  ];
}

function diskCells(): Cell[] {
  // As docs/operators.md says: a server that has put JetStream out stays so until it is started again, and none gets well
  // while it is the only one, so all that are ill are started together.
  const restartUnhealthy = async (world: World): Promise<void> => {
    const ill: number[] = [];
    for (const [index, { monitorUrl }] of world.nats.servers.entries()) {
      try {
        if ((await fetch(new URL("/healthz", monitorUrl), { signal: AbortSignal.timeout(2000) })).ok) continue;
      } catch {
        // Not answering is not healthy.
      }
      ill.push(index);
    }
    await Promise.all(ill.map((index) => world.nats.servers[index]?.program.stop()));
    await Promise.all(ill.map((index) => world.nats.start(index)));
  };
  const full = (name: string, injects: string, servers: readonly number[], bound: number): Cell => ({
    name,
    family: "F16",
    injects,
    holdSlots: HOLD,
    bound,
    smallDisks: true,
    async inject(world) {
      for (const server of servers) world.natsDisks[server]?.fill();
      return async () => {
        for (const server of servers) world.natsDisks[server]?.free();
        await restartUnhealthy(world);
      };
    },
  });
  const damage = (
    name: string,
    injects: string,
    member: MemberId,
    harm: (world: World) => void,
    { refused, needs = () => true }: { readonly refused?: RegExp; readonly needs?: (world: World) => boolean } = {},
  ): Cell => ({
    name,
    family: "F18",
    injects,
    holdSlots: 1,
    bound: 8,
    async inject(world) {
      for (let turn = 0; !needs(world); turn++) {
        if (turn === 600) throw new Error("there is nothing to damage");
        await world.ms(100);
      }
      await world.kill(member);
      harm(world);
      const before = world.logOf(member).length;
      world.start(member);
      return async () => {
        if (refused === undefined) return backAgain(world, member);
        // It says in one line why it does not start; its operator takes the file away, and it comes back without.
        for (let turn = 0; world.running(member) && turn < 100; turn++) await world.ms(100);
        const said = world.logOf(member).slice(before);
        if (world.running(member) || !refused.test(said)) throw new Error(`not refused: ${said.slice(-300)}`);
        rmSync(join(world.dataOf(member), "journal"));
        await backAgain(world, member);
      };
    },
  });
  const newest = (world: World, member: MemberId): string => world.filesOf(member, "snapshots").at(-1) ?? "";
  const afterSnapshot = (member: MemberId) => ({ needs: (world: World) => newest(world, member) !== "" });
  return [
    full("disk-full-nats-one", "the disk of one nats-server is full", [1], 12),
    full("disk-full-nats-all", "the disks of all nats-servers are full", [0, 1, 2], 20),
    {
      name: "disk-full-member",
      family: "F16",
      injects: "the disk of relay-2's folder is full; it is started again whenever it ends",
      holdSlots: HOLD,
      bound: 8,
      smallDisks: true,
      async inject(world) {
        const before = world.logOf(DISK_MEMBER).length;
        world.memberDisk?.fill();
        let over = false;
        const again = (async () => {
          while (!over) {
            world.start(DISK_MEMBER);
            await world.ms(1000);
          }
        })();
        return async () => {
          world.memberDisk?.free();
          over = true;
          await again;
          await backAgain(world, DISK_MEMBER);
          const said = world.logOf(DISK_MEMBER).slice(before);
          if (!/ENOSPC|no space left/i.test(said)) throw new Error("it did not say that its disk was full");
        };
      },
    },
    damage(
      "snapshot-bit",
      "one bit of unseal-0's newest snapshot is another at its next start",
      victim("unseal", 0),
      (world) => flipBit(newest(world, victim("unseal", 0)), 0.5),
      afterSnapshot(victim("unseal", 0)),
    ),
    damage(
      "snapshot-cut",
      "tally-2's newest snapshot ends in the middle at its next start",
      victim("tally", 2),
      (world) => {
        const file = newest(world, victim("tally", 2));
        truncateSync(file, Math.floor(statSync(file).size / 2));
      },
      afterSnapshot(victim("tally", 2)),
    ),
    damage(
      "snapshots-gone",
      "offer-1's snapshots are gone at its next start",
      victim("offer", 1),
      (world) => {
        for (const file of world.filesOf(victim("offer", 1), "snapshots")) rmSync(file);
      },
      afterSnapshot(victim("offer", 1)),
    ),
    damage(
      "journal-torn",
      "half a record stands at the end of relay-0's journal at its next start",
      victim("relay", 0),
      (world) => {
        const file = join(world.dataOf(victim("relay", 0)), "journal");
        writeFileSync(file, readFileSync(file).subarray(0, 9), { flag: "a" });
      },
    ),
    damage(
      "journal-bit",
      "one bit in the middle of atelier-0's journal is another at its next start: refused, then taken away",
      victim("atelier", 0),
      (world) => flipBit(join(world.dataOf(victim("atelier", 0)), "journal"), 0.5),
      { refused: /damaged/ },
    ),
    {
      name: "nats-store-bit",
      family: "F18",
      injects: "one bit in the newest block of relay's stream on one nats-server is another at its next start",
      holdSlots: 2,
      bound: 12,
      async inject(world) {
        const account = world.lattice.broker?.deal.accounts.find(({ organism }) => organism === "relay");
        const leader = (account === undefined ? undefined : await world.nats.leaderOf(account.admin)) ?? 0;
        const server = (leader + 1) % NATS_SERVERS;
        await world.nats.killServer(server);
        const block = filesBelow(world.nats.storeDir(server))
          .filter((file) => file.includes("RELAY") && file.includes("/streams/") && file.endsWith(".blk"))
          .sort((a, b) => statSync(a).mtimeMs - statSync(b).mtimeMs)
          .at(-1);
        if (block === undefined) throw new Error("no block of the stream was found");
        flipBit(block, 0.5);
        return () => world.nats.start(server);
      },
    },
  ];
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name));
}

/** Flips one bit at a share of the file's length. */
export function flipBit(path: string, share: number): void {
  const file = openSync(path, "r+");
  try {
    const at = Math.floor(statSync(path).size * share);
    const byte = Buffer.alloc(1);
    readSync(file, byte, 0, 1, at);
    byte[0] = (byte[0] ?? 0) ^ 0x10;
    writeSync(file, byte, 0, 1, at);
  } finally {
    closeSync(file);
  }
}

/** Every cell, by family. */
export const CELLS: readonly Cell[] = [
  BASELINE,
  ...killCells(),
  ...natsCells(),
  ...partitionCells(),
  ...linkCells(),
  ...timeCells(),
  ...diskCells(),
];
