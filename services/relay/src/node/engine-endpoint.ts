/**
 * The builder's side of the Engine API, as rollup-boost speaks it: forkchoice with attributes → payload id → payload.
 *
 * A payload is handed over only when it is the certified candidate of its slot, on exactly the parent and attributes
 * asked for, and only after "this block, no other" is in this member's journal.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { decode, equalBytes, fromHex, toHex } from "@lattice/organism/codec/codec.ts";
import { hashBytes } from "@lattice/organism/crypto/hash.ts";
import { Fault, faultsOf } from "@lattice/organism/fault.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import {
  type BlockAttributes,
  CANDIDATE,
  CANDIDATE_BODY,
  type CandidateBody,
} from "@lattice/organism/outcomes/atelier.ts";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import { PromiseConflict, PromiseWithheld } from "@lattice/organism/ports.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { z } from "zod";
import type { RelaySettings } from "../config.ts";
import type { SignedAcknowledgement } from "../core/codec.ts";
import { FAULTS } from "../core/faults.ts";
import type { RelayCommand, RelayState } from "../core/types.ts";
import { parseAcknowledgement } from "./clients.ts";

const BODY_BYTES_MAX = 1 << 20;
/** Engine API authentication: `iat` within 60 s. */
const TOKEN_DRIFT_S = 60;
const PAYLOADS_KEPT = 64;
const POLL_MS = 15;
/** How long getPayload waits for a candidate that is not certified yet, as a share of the slot. */
const WAIT_SHARE = 0.4;

const HEX = z.string().regex(/^0x[0-9a-fA-F]*$/);
const HASH = z.string().regex(/^0x[0-9a-fA-F]{64}$/);
const QUANTITY = z.string().regex(/^0x[0-9a-fA-F]{1,16}$/);
/** PayloadAttributesV3 with what an L2 adds (evm.md §4). */
const PAYLOAD_ATTRIBUTES = z.object({
  timestamp: QUANTITY,
  prevRandao: HASH,
  suggestedFeeRecipient: z.string().regex(/^0x[0-9a-fA-F]{40}$/),
  withdrawals: z.array(z.unknown()).max(0),
  parentBeaconBlockRoot: HASH,
  gasLimit: QUANTITY.optional(),
  extraData: HEX.optional(),
});
const REQUEST = z.object({
  jsonrpc: z.literal("2.0"),
  id: z.union([z.string(), z.number(), z.null()]).optional(),
  method: z.string().max(100),
  params: z.array(z.unknown()).max(8).default([]),
});

interface BegunPayload {
  readonly parentHash: Uint8Array;
  readonly attributes: z.infer<typeof PAYLOAD_ATTRIBUTES>;
}

/** A JSON-RPC error with its code. */
class RpcError extends Error {
  readonly code: number;
  readonly reason: string | undefined;
  constructor(code: number, message: string, reason?: string) {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

export class EngineEndpoint {
  readonly #host: MemberHost<RelayState, RelayCommand, RelaySettings>;
  readonly #hear: (signed: SignedAcknowledgement) => void;
  readonly #fault = faultsOf("relay", FAULTS);
  readonly #begun = new Map<string, BegunPayload>();
  readonly #server: Server;
  readonly #jwtSecret: Uint8Array;

  constructor(
    host: MemberHost<RelayState, RelayCommand, RelaySettings>,
    options: { readonly hear: (signed: SignedAcknowledgement) => void },
  ) {
    this.#host = host;
    this.#hear = options.hear;
    this.#jwtSecret = readJwtSecret(host.settings.RELAY_ENGINE_JWT_FILE);
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch(() => response.destroy());
    });
    this.#server.requestTimeout = 10_000;
  }

  async start(): Promise<void> {
    const [host = "127.0.0.1", port = "0"] = this.#host.settings.RELAY_ENGINE_LISTEN.split(":");
    await new Promise<void>((resolve, reject) => {
      this.#server.once("error", (error: NodeJS.ErrnoException) => {
        reject(error.code === "EADDRINUSE" ? new KitProblem(`RELAY_ENGINE_LISTEN: port ${port} is in use`) : error);
      });
      this.#server.listen(Number(port), host, resolve);
    });
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { "content-type": "application/json" });
      response.end(JSON.stringify(body));
    };
    if (!this.#authentic(request.headers.authorization)) {
      send(401, { error: "a fresh HS256 token of this endpoint's secret is needed" });
      return;
    }
    let id: string | number | null = null;
    try {
      const parsed = REQUEST.safeParse(await readJson(request));
      if (!parsed.success) throw new RpcError(-32_600, "not a JSON-RPC 2.0 request");
      id = parsed.data.id ?? null;
      send(200, { jsonrpc: "2.0", id, result: await this.#dispatch(parsed.data.method, parsed.data.params) });
    } catch (error) {
      if (error instanceof RpcError) {
        send(200, {
          jsonrpc: "2.0",
          id,
          error: { code: error.code, message: error.message, data: { reason: error.reason } },
        });
      } else if (error instanceof Fault) {
        send(200, {
          jsonrpc: "2.0",
          id,
          error: { code: -32_000, message: error.message, data: { reason: error.reason } },
        });
      } else {
        this.#host.log.error("the engine endpoint failed", errorFields(error));
        send(200, { jsonrpc: "2.0", id, error: { code: -32_603, message: "internal error" } });
      }
    }
  }

  #authentic(header: string | undefined): boolean {
    const [head, payload, signature] = header?.startsWith("Bearer ") === true ? header.slice(7).split(".") : [];
    if (head === undefined || payload === undefined || signature === undefined) return false;
    const expected = createHmac("sha256", this.#jwtSecret).update(`${head}.${payload}`).digest();
    const given = Buffer.from(signature, "base64url");
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) return false;
    try {
      const { alg } = JSON.parse(Buffer.from(head, "base64url").toString()) as { alg?: unknown };
      const { iat } = JSON.parse(Buffer.from(payload, "base64url").toString()) as { iat?: unknown };
      return (
        alg === "HS256" && typeof iat === "number" && Math.abs(iat - this.#host.clock.nowMs() / 1000) <= TOKEN_DRIFT_S
      );
    } catch {
      return false;
    }
  }

  async #dispatch(method: string, params: readonly unknown[]): Promise<unknown> {
    switch (method) {
      case "engine_exchangeCapabilities":
        return ["engine_forkchoiceUpdatedV3", "engine_getPayloadV4"];
      case "engine_forkchoiceUpdatedV3":
        return this.#forkchoice(params);
      case "engine_getPayloadV4":
        return this.#payload(params);
      case "lattice_acknowledge": {
        const signed = parseAcknowledgement({ acknowledgement: params[0], signature: params[1] });
        if (signed === undefined) throw this.#fault("BAD_ACKNOWLEDGEMENT");
        this.#hear(signed);
        return true;
      }
      default:
        throw new RpcError(-32_601, `no method ${method}`);
    }
  }

  #forkchoice(params: readonly unknown[]): unknown {
    const state = z.object({ headBlockHash: HASH }).safeParse(params[0]);
    if (!state.success) throw new RpcError(-38_002, "not a forkchoice state");
    const payloadStatus = { status: "VALID", latestValidHash: state.data.headBlockHash, validationError: null };
    if (params[1] === undefined || params[1] === null) return { payloadStatus, payloadId: null };
    const attributes = PAYLOAD_ATTRIBUTES.safeParse(params[1]);
    if (!attributes.success)
      throw new RpcError(-38_003, `payload attributes: ${attributes.error.issues[0]?.path.join(".") ?? "malformed"}`);
    const parentHash = fromHex(state.data.headBlockHash);
    const identity = new TextEncoder().encode(JSON.stringify([state.data.headBlockHash, attributes.data]));
    const payloadId = `0x${toHex(hashBytes("lattice/relay/payload-id/v1", identity).subarray(0, 8))}`;
    this.#begun.set(payloadId, { parentHash, attributes: attributes.data });
    for (const old of this.#begun.keys()) if (this.#begun.size > PAYLOADS_KEPT) this.#begun.delete(old);
    return { payloadStatus, payloadId };
  }

  async #payload(params: readonly unknown[]): Promise<unknown> {
    const begun = typeof params[0] === "string" ? this.#begun.get(params[0]) : undefined;
    if (begun === undefined) throw new RpcError(-38_001, "unknown payload", "UNKNOWN_PAYLOAD");
    const body = await this.#candidate(begun);
    const { slot, blockHash } = body;
    try {
      await this.#host.journal.promise(`ship/${slot}`, slot, blockHash);
    } catch (error) {
      if (error instanceof PromiseConflict)
        throw this.#fault("OTHER_BLOCK", `another block was handed over for slot ${slot}`);
      if (error instanceof PromiseWithheld) throw this.#fault("ABSTAINS");
      throw error;
    }
    this.#record(slot, blockHash);
    const payload = enginePayload(body);
    return {
      executionPayload: payload.executionPayload,
      blockValue: `0x${body.feesWei.toString(16)}`,
      blobsBundle: { commitments: [], proofs: [], blobs: [] },
      executionRequests: payload.executionRequests,
      shouldOverrideBuilder: false,
    };
  }

  /** The log follows the hand-over: who shipped what, for everyone to see. */
  #record(slot: bigint, blockHash: Uint8Array): void {
    if (this.#host.state().shipped.get(slot)?.members.includes(this.#host.self) === true) return;
    this.#host.submit({ type: "machine", command: { type: "shipped", slot, blockHash } }).catch((error: unknown) => {
      this.#host.log.warn("a hand-over could not be recorded", { slot, ...errorFields(error) });
    });
  }

  /** Waits for the certified candidate on this parent with these attributes. @throws Fault */
  async #candidate(begun: BegunPayload): Promise<CandidateBody> {
    const { clock, config } = this.#host;
    const until = clock.nowMs() + config.slotMs * WAIT_SHARE;
    let differs = false;
    for (;;) {
      const now = slotAt(config, clock.nowMs());
      for (const slot of [now + 1n, now, now - 1n]) {
        const outcome = this.#host.observed("atelier", "candidate", slot);
        if (outcome?.kind !== "result") continue;
        if (!equalBytes(decode(CANDIDATE, outcome.commitment).parentHash, begun.parentHash)) continue;
        const body = decode(CANDIDATE_BODY, await this.#host.fetchBody("atelier", outcome));
        if (matches(body.attributes, begun)) return body;
        differs = true;
      }
      if (clock.nowMs() >= until) throw this.#fault(differs ? "ATTRIBUTES_DIFFER" : "NO_CANDIDATE");
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
  }
}

/** Exactly the attributes' values: fee recipient, gas limit, time, randomness, beacon root, extra data. */
function matches(built: BlockAttributes, { parentHash, attributes }: BegunPayload): boolean {
  return (
    equalBytes(built.parentHash, parentHash) &&
    built.timestamp === BigInt(attributes.timestamp) &&
    equalBytes(built.prevRandao, fromHex(attributes.prevRandao)) &&
    equalBytes(built.feeRecipient, fromHex(attributes.suggestedFeeRecipient)) &&
    equalBytes(built.parentBeaconBlockRoot, fromHex(attributes.parentBeaconBlockRoot)) &&
    built.withdrawals.length === 0 &&
    (attributes.gasLimit === undefined || built.gasLimit === BigInt(attributes.gasLimit)) &&
    (attributes.extraData === undefined || equalBytes(built.extraData, fromHex(attributes.extraData)))
  );
}

function readJwtSecret(path: string): Uint8Array {
  let text: string;
  try {
    text = readFileSync(path, "utf8").trim();
  } catch {
    throw new KitProblem(`RELAY_ENGINE_JWT_FILE: cannot read ${path}`);
  }
  if (!/^(0x)?[0-9a-fA-F]{64}$/.test(text)) throw new KitProblem("RELAY_ENGINE_JWT_FILE: 32 bytes of hex expected");
  return fromHex(text);
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > BODY_BYTES_MAX) throw new RpcError(-32_600, `the request is larger than ${BODY_BYTES_MAX} bytes`);
    parts.push(part);
  }
  try {
    return JSON.parse(Buffer.concat(parts).toString("utf8"));
  } catch {
    throw new RpcError(-32_700, "not JSON");
  }
}
