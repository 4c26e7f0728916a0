/**
 * One trace per slot, without passing any context: every member of every organism computes the same trace id, so a lost
 * message cannot break it (architecture.md §7). Spans of replayed entries are the caller's to leave out. Single calls can
 * be traced too, below a caller's W3C context, but never into or out of zipnet: nothing may join a client to a slot.
 *
 * Without a collector or a file nothing is loaded and a span costs a function call. The OpenTelemetry SDK is imported
 * only when OTEL_EXPORTER_OTLP_ENDPOINT is set; spans are then batched, and dropped rather than waited for.
 */
import { randomFillSync } from "node:crypto";
import { createWriteStream } from "node:fs";
import { concat, encode, toHex, u64 } from "../codec/codec.ts";
import { blake3 } from "../crypto/hash.ts";
import type { UniqueId } from "../identity/unique-id.ts";
import type { CallTracer } from "../rpc/server.ts";

export type SpanAttributes = Readonly<Record<string, string | number | boolean | bigint>>;

/** The ids of a slot's trace: 16 and 8 bytes, as lower-case hex. */
export interface SlotTraceIds {
  readonly traceId: string;
  readonly rootSpanId: string;
}

const TAG = new TextEncoder().encode("lattice/slot-trace/v1");

/** h = blake3(tag ‖ lattice id, 32 bytes ‖ slot, u64 big-endian); trace id = h[0..16], root span id = h[16..24]. */
export function slotTraceIds(lattice: UniqueId, slot: bigint): SlotTraceIds {
  const hash = blake3(concat(TAG, lattice, encode(u64, slot)));
  return { traceId: toHex(hash.subarray(0, 16)), rootSpanId: toHex(hash.subarray(16, 24)) };
}

/** What a member needs of it. */
export interface SlotTracer {
  /** A span of the slot's trace, below its root. Attributes are ids, numbers and words; never content. Times in Unix ms. */
  span(slot: bigint, name: string, attributes: SpanAttributes, startMs: number, endMs: number): void;
  /** The root of a slot's trace itself; one member of the last organism emits it, once the slot is final. */
  root(slot: bigint, attributes: SpanAttributes, startMs: number, endMs: number): void;
  /** Writes out what is waiting. */
  close(): Promise<void>;
}

/** The whole of it. */
export interface LatticeTracer extends SlotTracer, CallTracer {}

/** One finished span, on its way out; the JSON lines of the trace file have these fields. */
export interface FinishedSpan {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
  readonly kind: "internal" | "server";
  readonly startMs: number;
  readonly endMs: number;
  readonly attributes: Readonly<Record<string, string | number | boolean>>;
}

interface SpanSink {
  emit(span: FinishedSpan): void;
  close(): Promise<void>;
}

export interface SlotTracerOptions {
  /** The lattice id, 32 bytes. */
  readonly latticeId: UniqueId;
  /** The organism. */
  readonly service: string;
  /** Of the process: lattice, chain_id, organism, role, member. */
  readonly attributes: Readonly<Record<string, string>>;
  /** Appends spans as JSON lines. */
  readonly file?: string;
  /** OTLP over HTTP, protobuf: base URL. Default: OTEL_EXPORTER_OTLP_ENDPOINT. */
  readonly endpoint?: string;
}

function fileSink(path: string, common: SpanAttributes): SpanSink {
  const stream = createWriteStream(path, { flags: "a", mode: 0o600 });
  // A full disk must not stop a member.
  stream.on("error", () => undefined);
  return {
    emit(span) {
      if (!stream.errored) stream.write(`${JSON.stringify({ ...span, resource: common })}\n`);
    },
    close: () => new Promise((resolve) => (stream.errored ? resolve() : stream.end(() => resolve()))),
  };
}

async function otlpSink(endpoint: string, service: string, common: SpanAttributes): Promise<SpanSink> {
  const [{ ROOT_CONTEXT, SpanKind, TraceFlags, trace }, sdk, { OTLPTraceExporter }, { resourceFromAttributes }] =
    await Promise.all([
      import("@opentelemetry/api"),
      import("@opentelemetry/sdk-trace-node"),
      import("@opentelemetry/exporter-trace-otlp-proto"),
      import("@opentelemetry/resources"),
    ]);
  const exporter = new OTLPTraceExporter({ url: `${endpoint.replace(/\/+$/, "")}/v1/traces`, timeoutMillis: 2000 });
  let next: FinishedSpan | undefined;
  const provider = new sdk.BasicTracerProvider({
    resource: resourceFromAttributes({ "service.name": `lattice-${service}`, ...common }),
    spanProcessors: [new sdk.BatchSpanProcessor(exporter, { maxQueueSize: 4096, scheduledDelayMillis: 1000 })],
    // A provider of our own, never registered: foreign spans cannot land in a slot's trace.
    idGenerator: { generateTraceId: () => next?.traceId ?? "", generateSpanId: () => next?.spanId ?? "" },
  });
  const tracer = provider.getTracer("lattice");
  return {
    emit(span) {
      next = span;
      const { traceId, parentSpanId } = span;
      const context =
        parentSpanId === undefined
          ? ROOT_CONTEXT
          : trace.setSpanContext(ROOT_CONTEXT, {
              traceId,
              spanId: parentSpanId,
              traceFlags: TraceFlags.SAMPLED,
              isRemote: true,
            });
      const kind = span.kind === "server" ? SpanKind.SERVER : SpanKind.INTERNAL;
      tracer
        .startSpan(span.name, { kind, startTime: span.startMs, attributes: { ...span.attributes } }, context)
        .end(span.endMs);
    },
    close: () => provider.shutdown().catch(() => undefined),
  };
}

/** W3C trace context, version 00 and what later versions keep of it. */
const TRACEPARENT = /^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-|$)/;

function randomSpanId(): string {
  return randomFillSync(Buffer.allocUnsafe(8)).toString("hex");
}

const NO_TRACER: LatticeTracer = {
  span: () => undefined,
  root: () => undefined,
  call: () => undefined,
  close: async () => undefined,
};

/** Traces nothing. */
export function createNoTracer(): LatticeTracer {
  return NO_TRACER;
}

export async function createSlotTracer(options: SlotTracerOptions): Promise<LatticeTracer> {
  const { latticeId, service, file, attributes: common } = options;
  const endpoint = options.endpoint ?? process.env["OTEL_EXPORTER_OTLP_ENDPOINT"];
  const sinks: SpanSink[] = [];
  if (file !== undefined) sinks.push(fileSink(file, common));
  if (endpoint !== undefined && endpoint !== "") sinks.push(await otlpSink(endpoint, service, common));
  if (sinks.length === 0) return NO_TRACER;

  let last: { readonly slot: bigint; readonly ids: SlotTraceIds } | undefined;
  const idsOf = (slot: bigint): SlotTraceIds => {
    if (last?.slot !== slot) last = { slot, ids: slotTraceIds(latticeId, slot) };
    return last.ids;
  };
  const emit = (span: Omit<FinishedSpan, "attributes">, attributes: SpanAttributes): void => {
    const plain = Object.entries(attributes).map(([key, value]) => [
      key,
      typeof value === "bigint" ? value.toString() : value,
    ]);
    const finished = { ...span, endMs: Math.max(span.startMs, span.endMs), attributes: Object.fromEntries(plain) };
    for (const sink of sinks) sink.emit(finished);
  };
  return {
    span(slot, name, attributes, startMs, endMs) {
      const { traceId, rootSpanId } = idsOf(slot);
      const span = { traceId, spanId: randomSpanId(), parentSpanId: rootSpanId, name, kind: "internal" as const };
      emit({ ...span, startMs, endMs }, { ...attributes, "lattice.slot": slot });
    },
    root(slot, attributes, startMs, endMs) {
      const { traceId, rootSpanId } = idsOf(slot);
      const span = { traceId, spanId: rootSpanId, name: "slot", kind: "internal" as const };
      emit({ ...span, startMs, endMs }, { ...attributes, "lattice.slot": slot });
    },
    call(traceparent, name, startMs, endMs, code) {
      const [, traceId, parentSpanId, flags] = TRACEPARENT.exec(traceparent) ?? [];
      if (traceId === undefined || parentSpanId === undefined || flags === undefined) return;
      if (/^0+$/.test(traceId) || /^0+$/.test(parentSpanId) || (Number.parseInt(flags, 16) & 1) === 0) return;
      const span = { traceId, spanId: randomSpanId(), parentSpanId, name, kind: "server" as const, startMs, endMs };
      emit(span, { "rpc.system.name": "grpc", "rpc.method": name, "rpc.response.status_code": code });
    },
    async close() {
      await Promise.all(sinks.map((sink) => sink.close()));
    },
  };
}
