/** A member loses everything while the log is trimmed, and joins from its peers; once more with a peer that serves garbage. */
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import type { LocalLattice } from "@lattice/deploy/local/lattice.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import { connectService } from "@lattice/organism/rpc/client.ts";
import { defineService, type Handlers } from "@lattice/organism/rpc/define.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { acknowledgedIsKept, certifiedSoFar, historyIsKept, nobodyIsBlamed, oneHistory } from "./integrity-checks.ts";
import {
  agree,
  completeFrom,
  eventually,
  firstComplete,
  isReady,
  logLines,
  slotNow,
  statusOf,
} from "./lattice-tools.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";

const ORGANISM: Organism = "unseal";
/** Never touched: the others are compared with it. */
const HONEST = 0;
/** Two checkpoints of 16 slots each, and what certifies them. */
const TRIM_SLOTS = 50;

/** Every method, refused as by a member that is starting. */
function unserved(): Handlers<typeof CommitteeService> {
  const refuse = (): never => {
    throw faultsOf(ORGANISM, COMMON_FAULTS)("NOT_READY");
  };
  const methods = CommitteeService.methods.map(({ localName, methodKind }) => [
    localName,
    methodKind === "unary" ? async () => refuse() : refuse,
  ]);
  return Object.fromEntries(methods) as unknown as Handlers<typeof CommitteeService>;
}

/** Says what an honest member says, and serves bytes that nobody certified. */
async function startLiar(context: ScenarioContext, lattice: LocalLattice, honest: string): Promise<string> {
  const committee = committeeId(lattice.config, ORGANISM);
  const client = connectService(CommitteeService, honest, { committee });
  let asked = 0;
  const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [
      defineService(CommitteeService, {
        ...unserved(),
        getCheckpoint: () => client.getCheckpoint({}),
        async *fetchSnapshot() {
          asked += 1;
          const data = new Uint8Array(1 << 16).fill(7);
          for (let at = 0; at < 1 << 20; at += data.length) yield { offset: BigInt(at), data };
        },
      }),
    ],
    committee,
    domain: ORGANISM,
    log: silent,
    meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
  });
  context.onEnd(() => {
    client.close();
    server.close();
    context.check("the lying peer was asked", asked > 0, `${asked} times`);
  });
  return `127.0.0.1:${server.port}`;
}

export const scenario: Scenario = {
  name: "checkpoint-join",
  description: "a member loses its disk while the log is trimmed: it joins from peers, also when one of them lies",
  async run(context) {
    const session = await context.start({ mode: await context.natsOnly() });
    const { lattice } = session;
    if (!(await firstComplete(context, session))) return;
    context.say("waiting until the trimmer has trimmed");
    const trimmed = async (): Promise<boolean> => ((await statusOf(lattice, ORGANISM, 0))?.logFirstPosition ?? 0n) > 1n;
    if (!context.check("the log is trimmed", await eventually(TRIM_SLOTS * context.slotMs, trimmed))) return;

    const first = slotNow(lattice);
    const known = certifiedSoFar(session);
    const join = async (index: number, what: string): Promise<void> => {
      const name = `${ORGANISM}-${index}`;
      context.say(`kill -9 ${name}, its disk is gone`);
      await lattice.process(name).kill();
      rmSync(lattice.layout.data(ORGANISM, index), { recursive: true, force: true });
      const startedAt = Date.now();
      lattice.startMember(ORGANISM, index);
      context.check(`${what}: ready`, await eventually(60_000, () => isReady(lattice, ORGANISM, index)));
      context.say(`${name} is ready after ${Date.now() - startedAt} ms`);
      context.check(
        `${what}: from a snapshot`,
        logLines(lattice, /joined from a snapshot/).some((line) => line.startsWith(name)),
      );
      context.check(`${what}: the others' state`, await agree(lattice, ORGANISM, index, HONEST));
      // Without its journal it makes no promise for slots that were in flight: a second loss before that is over is more
      // than three members bear.
      const free = slotNow(lattice) + BigInt(lattice.config.pipelineDepth) + 2n;
      await completeFrom(context, session, free, `${what}: slots go on, with its votes`, 30);
    };
    await join(2, "joined");

    const endpoints = readFileSync(lattice.layout.endpoints, "utf8");
    const peer = readEndpoints(lattice.layout.endpoints)[ORGANISM][2] ?? "";
    const liar = await startLiar(context, lattice, peer);
    // Member 1 asks member 2 first.
    writeFileSync(lattice.layout.endpoints, endpoints.replace(peer, liar));
    try {
      await join(1, "with a lying peer");
      const refused = logLines(lattice, /not what its certificate says|could not be fetched/);
      context.check(
        "the lie is named",
        refused.some((line) => line.startsWith(`${ORGANISM}-1`)),
      );
    } finally {
      writeFileSync(lattice.layout.endpoints, endpoints);
    }
    await historyIsKept(context, session, known, [ORGANISM], [`${ORGANISM}-1`, `${ORGANISM}-2`]);
    await nobodyIsBlamed(context, lattice);
    await acknowledgedIsKept(context, session);
    await oneHistory(context, session, first);
  },
};
