/** Disks that are full, and files that are damaged, cut or gone (F16, F18). */
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
import { backAgain, type Cell, HOLD, victim } from "../cell.ts";
import type { MemberId } from "../fault-network.ts";
import { DISK_MEMBER, NATS_SERVERS, type World } from "../world.ts";

export function diskCells(): Cell[] {
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
function flipBit(path: string, share: number): void {
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
