/** A committee next door, as one gRPC server: it streams the certified outcomes and serves the bodies it is given. */
import { once } from "node:events";
import type { CertifiedOutcome } from "@lattice/organism/committee/outcome.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { defineSome } from "@lattice/organism/testing/some-methods.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";

export interface Neighbour {
  readonly address: string;
  publish(certified: CertifiedOutcome, body?: Uint8Array): void;
  close(): void;
}

export async function startNeighbour(config: LatticeConfig, organism: Organism): Promise<Neighbour> {
  const fault = faultsOf(organism, COMMON_FAULTS);
  const outcomes: CertifiedOutcome[] = [];
  const bodies = new Map<string, Uint8Array>();
  const news = new EventTarget();
  const service = defineSome(CommitteeService, {
    async *watchOutcomes({ fromSlot }, { signal }) {
      yield { event: { case: "heartbeatSlot", value: 0n } };
      for (let at = 0; !signal.aborted; at++) {
        const next = outcomes[at];
        if (next === undefined) {
          at--;
          await once(news, "published", { signal }).catch(() => undefined);
        } else if (next.outcome.slot >= fromSlot) {
          yield { event: { case: "outcome", value: toWireOutcome(next) } };
        }
      }
    },
    async getBody({ stage, slot }) {
      const body = bodies.get(`${stage}/${slot}`);
      if (body === undefined) throw fault("OUTCOME_UNKNOWN");
      return { body };
    },
  });
  const server = await startServer({
    address: "127.0.0.1:0",
    services: [service],
    committee: committeeId(config, organism),
    domain: organism,
    log: createLogger("silent", {}),
    meters: { count: () => undefined, gauge: () => undefined, record: () => undefined },
  });
  return {
    address: `127.0.0.1:${server.port}`,
    publish(certified, body) {
      const { stage, slot } = certified.outcome;
      if (body !== undefined) bodies.set(`${stage}/${slot}`, body);
      outcomes.push(certified);
      news.dispatchEvent(new Event("published"));
    },
    close: () => server.close(),
  };
}
