/** A second broker shows one member a copy of the log that goes on differently: that member stops and names the others. */

import { ACCOUNT_BYTES, localQuotas, provideNatsServer } from "@lattice/deploy/local/broker.ts";
import { freePorts } from "@lattice/deploy/local/free-ports.ts";
import { at, http } from "@lattice/deploy/local/layout.ts";
import { NatsCluster } from "@lattice/deploy/nats/nats-cluster.ts";
import { acknowledgedIsKept, certifiedSoFar, historyIsKept, nobodyIsBlamed, oneHistory } from "./integrity-checks.ts";
import {
  agree,
  completeFrom,
  eventually,
  firstComplete,
  goesOn,
  isReady,
  logLines,
  slotNow,
  statusOf,
} from "./lattice-tools.ts";
import { openMemberLog } from "./member-log.ts";
import { type Scenario, ScenarioFailure } from "./scenario.ts";

const ORGANISM = "relay";
const MISLED = 2;
const HONEST = [0, 1];

export const scenario: Scenario = {
  name: "fork-broker",
  description:
    "one member is shown another log than the others: it stops and says where and from whom; no second outcome",
  async run(context) {
    let elsewhere: Readonly<Record<string, string>> = {};
    const session = await context.start({
      mode: await context.natsOnly(),
      memberSettings: (organism, index) => (organism === ORGANISM && index === MISLED ? elsewhere : {}),
    });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    const first = slotNow(lattice);
    const known = certifiedSoFar(session);
    await lattice.process(`${ORGANISM}-${MISLED}`).kill();

    const broker = lattice.broker;
    if (broker === undefined) throw new ScenarioFailure("there is no broker");
    const [client = 0, monitor = 0, route = 0] = await freePorts(3);
    const second = await NatsCluster.start({
      binary: (await provideNatsServer()).path,
      directory: lattice.layout.path("second-nats"),
      deal: broker.deal,
      ports: [{ client, monitor, route }],
      accountBytes: ACCOUNT_BYTES,
    });
    context.onEnd(() => second.kill());
    await second.makeStreams(
      broker.deal.accounts.map(({ admin }) => admin),
      localQuotas(lattice.rosters[ORGANISM].members.length),
    );
    const honest = await openMemberLog(lattice, ORGANISM, 0);
    const forked = await openMemberLog(lattice, ORGANISM, 1, [`nats://${at(client)}`]);
    context.onEnd(() => honest.close());
    context.onEnd(() => forked.close());
    const last = await honest.lastPosition();
    const stop = new AbortController();
    const copied: Uint8Array[] = [];
    await honest.consume(
      1n,
      ({ position, raw }) => {
        copied.push(raw);
        if (position === last) stop.abort();
      },
      stop.signal,
    );
    for (const [index, raw] of copied.entries()) await forked.append("ctl", raw, `copy.${index}`);
    context.say(
      `${copied.length} entries are shown to ${ORGANISM}-${MISLED} as they are, and one that nobody else sees`,
    );
    await forked.append("ctl", new Uint8Array([1]), "fork");
    const length = await forked.lastPosition();

    const name = `${ORGANISM}-${MISLED}`;
    elsewhere = {
      LATTICE_NATS_SERVERS: `nats://${at(client)}`,
      LATTICE_NATS_MONITOR_URL: http(monitor),
    };
    // Others must have gone past the fork: until then its log is only longer than theirs.
    await goesOn(context, session, ORGANISM, slotNow(lattice) + 1n, "the others go on on the true log");
    lattice.startMember(ORGANISM, MISLED);
    const process = lattice.process(name);
    context.check("the misled member stops", await eventually(30_000, async () => !process.running));
    const said = logLines(lattice, /"reason":"LOG_FORKED"/).filter((line) => line.startsWith(`${name}:`));
    context.check(
      "it says that the log is forked, from whom and where",
      said.some((line) => /member [01] at position \d+/.test(line)),
      said[0],
    );
    context.check("it is not up any more", (await statusOf(lattice, ORGANISM, MISLED)) === undefined);
    context.check("it has not said a word on the other log", (await forked.lastPosition()) === length);
    const others = logLines(lattice, /LOG_FORKED|"msg":"this member must stop"/).filter(
      (line) => !line.startsWith(`${name}:`),
    );
    context.check("nobody else stops", others.length === 0, others[0]);
    for (const index of HONEST) {
      context.check(`${ORGANISM}-${index} goes on`, await isReady(lattice, ORGANISM, index));
    }
    context.check("they have one history", await agree(lattice, ORGANISM, 0, 1));
    await goesOn(context, session, ORGANISM, slotNow(lattice) + 1n, "they go on without it");
    elsewhere = {};
    context.say(`${name} is given the true log again`);
    lattice.startMember(ORGANISM, MISLED);
    context.check(
      `${name} is ready on the true log`,
      await eventually(60_000, () => isReady(lattice, ORGANISM, MISLED)),
    );
    context.check("it has the others' history", await agree(lattice, ORGANISM, MISLED, 0));
    await completeFrom(context, session, slotNow(lattice) + 1n, "slots go on with it", 30);
    await historyIsKept(context, session, known, [ORGANISM]);
    await nobodyIsBlamed(context, lattice);
    await acknowledgedIsKept(context, session);
    await oneHistory(context, session, first);
  },
};
