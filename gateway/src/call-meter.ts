/** How long users' calls take and what comes of them. Method names are what somebody sent: only known ones become labels. */
import { Fault } from "@lattice/organism/fault.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";

/** Runs a call and measures it. */
export type CallMeter = <T>(method: string, known: boolean, work: () => Promise<T>) => Promise<T>;

/** @param isForwarded methods that the node answers */
export function callMeter(meters: Meters, isForwarded: (method: string) => boolean = () => false): CallMeter {
  return async (method, known, work) => {
    const startMs = performance.now();
    let result = "ok";
    try {
      return await work();
    } catch (error) {
      result = error instanceof Fault ? error.reason : "error";
      throw error;
    } finally {
      const label = known || isForwarded(method) ? method : "other";
      const seconds = (performance.now() - startMs) / 1000;
      meters.record("lattice_gateway_calls_seconds", seconds, { method: label, result });
    }
  };
}
