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

export interface HealthOptions {
  /** Is the member fit to be sent work? Asked when somebody asks, and every `pollMs` while somebody watches. */
  ready(): boolean;
  /** Full names that share that answer, e.g. "lattice.zipnet.v1.ZipnetService"; "" always does. */
  readonly services?: readonly string[];
  readonly pollMs?: number;
}

export interface HealthState {
  readonly service: GrpcService;
  /** Overrides `ready` for one service, or for all without a name. */
  set(state: ServingState, name?: string): void;
  /** NOT_SERVING from now on, whatever `ready` says: call it before the server drains. */
  drain(): void;
}

/** The health service of one process. */
export function healthService(options: HealthOptions): HealthState {
  const names = new Set(["", ...(options.services ?? [])]);
  const fixed = new Map<string, ServingState>();
  const watchers = new Set<() => void>();
  let poll: NodeJS.Timeout | undefined;
  let draining = false;
  const tellWatchers = (): void => {
    for (const changed of watchers) changed();
  };
  const statusOf = (name: string): HealthCheckResponse_ServingStatus => {
    if (!names.has(name)) return Status.SERVICE_UNKNOWN;
    if (draining) return Status.NOT_SERVING;
    return Status[fixed.get(name) ?? (options.ready() ? "SERVING" : "NOT_SERVING")];
  };
  const service = defineService(
    Health,
    {
      check: async (request) => {
        if (!names.has(request.service)) throw fault("SERVICE_UNKNOWN");
        return { status: statusOf(request.service) };
      },
      watch: async function* (request, call) {
        // One event at most waits: the state is read when the event is, so that only the newest counts.
        const changes = new LiveQueue<true>(1, call.signal);
        let pending = false;
        const changed = (): void => {
          if (!pending) changes.push(true);
          pending = true;
        };
        watchers.add(changed);
        poll ??= setInterval(tellWatchers, options.pollMs ?? 500);
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
          if (watchers.size === 0) {
            clearInterval(poll);
            poll = undefined;
          }
        }
      },
    },
    false,
  );
  return {
    service,
    set(state, name) {
      if (name !== undefined) names.add(name);
      for (const known of name === undefined ? names : [name]) fixed.set(known, state);
      tellWatchers();
    },
    drain() {
      draining = true;
      tellWatchers();
    },
  };
}
