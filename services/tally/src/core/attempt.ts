/**
 * Which topic a member speaks under. A member may speak once per topic and slot, so when members' words differ for a
 * while (an endpoint on another fork, two versions during an upgrade), there must be a next topic. Its number follows
 * from the clock in periods that double, so it is the same for all but a moment. The first period is several times as
 * long as finality takes, the thirtieth longer than anybody lives.
 */
import { type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import type { Topic } from "./types.ts";

const FIRST_PERIOD_MS = 10_000;
/** Times finality, in slots. */
const FIRST_PERIOD_FINALITIES = 4;
/** A slot keeps 64 topics; two kinds share them. */
const ATTEMPTS_MAX = 30;

/** The topic under which `topic` is said of `slot` now. */
export function topicOf(config: LatticeConfig, topic: Topic, slot: bigint, nowMs: number): string {
  const finalityMs = (config.tally.content.finalityDepth + 2) * config.slotMs;
  const periodMs = FIRST_PERIOD_MS + FIRST_PERIOD_FINALITIES * finalityMs;
  const periods = Math.max(0, nowMs - slotStartMs(config, slot)) / periodMs;
  const attempt = Math.min(ATTEMPTS_MAX, Math.floor(Math.log2(1 + periods)));
  return attempt === 0 ? topic : `${topic}/${attempt}`;
}

/** Which kind of fact a topic is about; undefined for none of ours. */
export function topicKind(topic: string): Topic | undefined {
  const [kind, attempt, more] = topic.split("/");
  if (more !== undefined || (attempt !== undefined && !/^[1-9]\d?$/.test(attempt))) return undefined;
  return kind === "chain" || kind === "attributed" ? kind : undefined;
}
