/**
 * `grpc.health.v1.Health`: what load balancers and orchestrators ask. Our own forty lines instead of
 * grpc-health-check, which brings protobufjs (protobufjs#2121: a small message overflows the stack).
 */
import {
  Health,
  type HealthCheckResponse_ServingStatus,
  HealthCheckResponse_ServingStatus as Status,
} from "@lattice/proto/grpc/health/v1/health_pb.ts";
import type { FaultCatalogue } from "../fault.ts";
import { faultsOf } from "../fault.ts";
import { defineService, type GrpcService } from "./define.ts";
import { LiveQueue } from "./live-queue.ts";

export const HEALTH_FAULTS = {
  SERVICE_UNKNOWN: {
    code: "NOT_FOUND",
    meaning: "This process does not serve that service.",
    remedy: "Ask for one that reflection lists, or for the empty name.",
    retry: false,
  },
} as const satisfies FaultCatalogue;

const fault = faultsOf("rpc", HEALTH_FAULTS);

export type ServingState = "SERVING" | "NOT_SERVING";

export interface HealthState {
  readonly service: GrpcService;
  /** Sets the state of one service, or of the whole process under "", or of everything without a name. */
  set(state: ServingState, name?: string): void;
  /** The state of "" or of one service; undefined for a name that is not served. */
  state(name?: string): ServingState | undefined;
}

/** @param services full names, e.g. "lattice.zipnet.v1.ZipnetService"; everything starts as NOT_SERVING */
export function createHealth(services: readonly string[]): HealthState {
  const states = new Map<string, ServingState>(["", ...services].map((name) => [name, "NOT_SERVING"]));
  const watchers = new Set<() => void>();
  const statusOf = (name: string): HealthCheckResponse_ServingStatus => Status[states.get(name) ?? "SERVICE_UNKNOWN"];
  const service = defineService(
    Health,
    {
      check: async (request) => {
        if (!states.has(request.service)) throw fault("SERVICE_UNKNOWN");
        return { status: statusOf(request.service) };
      },
      watch: async function* (request, call) {
        // Room for one event: the state is read when the event is, so that only the newest counts.
        const changes = new LiveQueue<true>(1, call.signal);
        let pending = false;
        const changed = (): void => {
          if (!pending) changes.push(true);
          pending = true;
        };
        watchers.add(changed);
        try {
          changed();
          let last: HealthCheckResponse_ServingStatus | undefined;
          for await (const _ of changes) {
            pending = false;
            const status = statusOf(request.service);
            if (status !== last) yield { status };
            last = status;
          }
        } finally {
          watchers.delete(changed);
        }
      },
    },
    false,
  );
  return {
    service,
    set(state, name) {
      for (const known of name === undefined ? [...states.keys()] : [name]) states.set(known, state);
      for (const changed of watchers) changed();
    },
    state: (name = "") => states.get(name),
  };
}
