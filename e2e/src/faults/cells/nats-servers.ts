/** nats-servers that are killed, stopped or slow (F4 to F6, F15, F17). */
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { type Cell, HOLD } from "../cell.ts";
import { NATS_SERVERS, type World } from "../world.ts";

export function natsCells(): Cell[] {
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
