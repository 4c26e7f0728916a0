/**
 * Asks every builder for a slot's payload, as rollup-boost does: forkchoice with attributes, then the payload, each
 * call under its deadline, until one gives a payload that is exactly what was asked for and that the judge finds valid.
 */
import type { EngineClient } from "./engine-client.ts";
import type { ForkchoiceState, PayloadAttributes, PayloadEnvelope } from "./execution-payload.ts";
import { CallFailure } from "./json-rpc-call.ts";
import type { Deviation } from "./slot-attributes.ts";

export interface Builder {
  /** For messages: `relay 0`. */
  readonly name: string;
  readonly engine: EngineClient;
}

/** Why a slot has no payload of the lattice; the last is the strongest. Stable words. */
export const REFUSALS = [
  "BUILDERS_UNREACHABLE",
  "BUILDERS_UNAUTHORIZED",
  "NO_PAYLOAD",
  "PAYLOAD_MALFORMED",
  "PAYLOAD_DEVIATES",
  "PAYLOAD_INVALID",
] as const;
export type Refusal = (typeof REFUSALS)[number];

export type Verdict = { readonly valid: true } | { readonly valid: false; readonly problem: string };

export interface RaceOptions {
  readonly builders: readonly Builder[];
  readonly state: ForkchoiceState;
  readonly attributes: PayloadAttributes;
  readonly deviation: (envelope: PayloadEnvelope) => Deviation | undefined;
  /** Called for one payload at a time. What it throws ends the race and is thrown to the caller. */
  readonly judge: (envelope: PayloadEnvelope) => Promise<Verdict>;
  /** Aborts when the slot's window is over. */
  readonly window: AbortSignal;
  /** Builder i starts this much later than builder i − 1, so that one answer usually suffices. */
  readonly staggerMs: number;
  /** Between two tries of the same builder. */
  readonly retryMs: number;
  /** One readable line for every payload or answer that is refused. */
  readonly refused: (line: string) => void;
}

export type RaceResult =
  | { readonly envelope: PayloadEnvelope; readonly builder: string }
  | { readonly envelope: undefined; readonly refusal: Refusal };

export async function raceBuilders(options: RaceOptions): Promise<RaceResult> {
  const ended = new AbortController();
  const signal = AbortSignal.any([options.window, ended.signal]);
  let winner: { envelope: PayloadEnvelope; builder: string } | undefined;
  let strongest = 0;
  let judging: Promise<void> = Promise.resolve();
  let broken: { readonly error: unknown } | undefined;

  const refuse = (builder: Builder, refusal: Refusal, problem: string): void => {
    strongest = Math.max(strongest, REFUSALS.indexOf(refusal));
    if (refusal !== "BUILDERS_UNREACHABLE" && refusal !== "NO_PAYLOAD") options.refused(`${builder.name}: ${problem}`);
  };

  /** True when this builder is not to be asked again in this slot. */
  const askOnce = async (builder: Builder): Promise<boolean> => {
    const { payloadId, payloadStatus } = await builder.engine.forkchoiceUpdated(
      options.state,
      options.attributes,
      signal,
    );
    if (payloadId === undefined) {
      refuse(builder, "NO_PAYLOAD", `no payload id, status ${payloadStatus.status}`);
      return false;
    }
    const envelope = await builder.engine.getPayload(payloadId, signal);
    const deviation = options.deviation(envelope);
    if (deviation !== undefined) {
      refuse(
        builder,
        "PAYLOAD_DEVIATES",
        `payload refused: ${deviation.field} is ${deviation.got}, the attributes say ${deviation.wanted}`,
      );
      return true;
    }
    judging = judging.then(async () => {
      if (winner !== undefined || broken !== undefined || options.window.aborted) return;
      const verdict = await options.judge(envelope).catch((error: unknown) => {
        broken = { error };
        return undefined;
      });
      if (verdict === undefined) return;
      if (verdict.valid) winner = { envelope, builder: builder.name };
      else refuse(builder, "PAYLOAD_INVALID", `payload refused: the execution client says ${verdict.problem}`);
    });
    await judging;
    if (winner !== undefined || broken !== undefined) ended.abort();
    return true;
  };

  const ask = async (builder: Builder, delayMs: number): Promise<void> => {
    let silent = true;
    await pause(delayMs, signal);
    while (!signal.aborted) {
      try {
        if (await askOnce(builder)) return;
      } catch (error) {
        if (!(error instanceof CallFailure)) throw error;
        if (signal.aborted) {
          // Nothing is known against it but that it is slow.
          if (silent) refuse(builder, "NO_PAYLOAD", "no answer in the slot's window");
          return;
        }
        silent = false;
        if (error.reason === "UNAUTHORIZED") return refuse(builder, "BUILDERS_UNAUTHORIZED", error.message);
        if (error.reason === "MALFORMED" || error.reason === "TOO_LARGE") {
          return refuse(builder, "PAYLOAD_MALFORMED", `payload refused: ${error.message}`);
        }
        refuse(builder, error.reason === "UNREACHABLE" ? "BUILDERS_UNREACHABLE" : "NO_PAYLOAD", error.message);
      }
      await pause(options.retryMs, signal);
    }
  };

  await Promise.all(options.builders.map((builder, index) => ask(builder, index * options.staggerMs)));
  if (broken !== undefined) throw (broken as { error: unknown }).error;
  return winner ?? { envelope: undefined, refusal: REFUSALS[strongest] ?? "NO_PAYLOAD" };
}

/** Resolves after `ms`, or as soon as `signal` aborts. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || ms <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done, { once: true });
  });
}
