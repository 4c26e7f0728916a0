/**
 * The same as log.bench.ts on a cluster of three nats-servers, a replica of each stream on each, every message synced by
 * each: the production form, with all three on one disk here. Aimed at: throughput with 64 in flight.
 */
import { bench as logBench } from "./log.bench.ts";

export async function bench() {
  const measured = await logBench({ servers: 3, entries: 50, repeats: 7 });
  return { ...measured, name: "log-cluster", ratioOneByOne: measured.ratio, ratio: 1 / measured.ratioAtOnce };
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
