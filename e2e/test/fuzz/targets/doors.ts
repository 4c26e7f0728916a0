/**
 * What anybody may send over the network: protobuf to a member's server, JSON-RPC and JSON to the gateway. Every call
 * ends with an answer or a refusal that has a reason; the server is as well afterwards as before.
 */
import { type ClientHttp2Session, connect } from "node:http2";
import {
  create,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescService,
  ScalarType,
  toBinary,
} from "@bufbuild/protobuf";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { createLogger } from "@lattice/organism/observe/logger.ts";
import { createNoMeters } from "@lattice/organism/observe/meters.ts";
import { ORGANISM_HEADER } from "@lattice/organism/rpc/binding.ts";
import type { GrpcService } from "@lattice/organism/rpc/define.ts";
import { startServer } from "@lattice/organism/rpc/server.ts";
import { AtelierService } from "@lattice/proto/lattice/atelier/v1/atelier_service_pb.ts";
import { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import { OfferService } from "@lattice/proto/lattice/offer/v1/offer_service_pb.ts";
import { RelayService } from "@lattice/proto/lattice/relay/v1/relay_service_pb.ts";
import { TallyService } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { UnsealService } from "@lattice/proto/lattice/unseal/v1/unseal_service_pb.ts";
import { AggregatorService } from "@lattice/proto/lattice/zipnet/v1/aggregator_service_pb.ts";
import { ZipnetService } from "@lattice/proto/lattice/zipnet/v1/zipnet_service_pb.ts";
import { openDoor } from "../../../../gateway/test/door.ts";
import { ALICE, transfer } from "../../../../gateway/test/fixture.ts";
import type { Dice } from "../dice.ts";
import { flipAt, mutateBytes, mutateJson, mutateText } from "../mutate.ts";
import { Finding, shown, type Target, type Verdict } from "../target.ts";
import { protobufLayout } from "../wire-layout.ts";

const SERVICES: readonly DescService[] = [
  AggregatorService,
  AtelierService,
  CommitteeService,
  OfferService,
  RelayService,
  TallyService,
  UnsealService,
  ZipnetService,
];
const OK = 0;
/** CANCELLED, UNKNOWN, INTERNAL, DATA_LOSS: what no request may bring about. */
const NEVER: ReadonlySet<number> = new Set([1, 2, 13, 15]);

function scalar(dice: Dice, type: ScalarType): unknown {
  switch (type) {
    case ScalarType.BYTES:
      return dice.bytes(dice.pick([0, 1, 16, 20, 32, 48, 64, 65, 96]));
    case ScalarType.STRING:
      return dice.pick(["", "relay", "accepted", "blind", "\u00e9"]);
    case ScalarType.BOOL:
      return dice.chance(2);
    case ScalarType.UINT64:
    case ScalarType.INT64:
      return BigInt(dice.small(1000));
    default:
      return dice.small(1000);
  }
}

function single(dice: Dice, field: DescField, depth: number): unknown {
  if (field.message !== undefined) return made(dice, field.message, depth + 1);
  if (field.enum !== undefined) return dice.pick(field.enum.values).number;
  return field.scalar === undefined ? undefined : scalar(dice, field.scalar);
}

/** A message of made-up fields; a oneof has its first. */
function made(dice: Dice, schema: DescMessage, depth = 0): Record<string, unknown> {
  const init: Record<string, unknown> = {};
  for (const field of schema.fields) {
    if (depth > 3 || field.oneof !== undefined) continue;
    if (field.fieldKind === "map") continue;
    init[field.localName] =
      field.fieldKind === "list"
        ? Array.from({ length: dice.small(3) }, () => single(dice, field, depth))
        : single(dice, field, depth);
  }
  for (const oneof of schema.oneofs) {
    const field = dice.pick(oneof.fields);
    if (depth <= 3) init[oneof.localName] = { case: field.localName, value: single(dice, field, depth) };
  }
  return init;
}

/** One call on an open session: its status and whether there was a reason with it. */
function call(
  session: ClientHttp2Session,
  path: string,
  message: Uint8Array,
  headers: Record<string, string>,
): Promise<{ status: number; reasoned: boolean }> {
  return new Promise((resolve, reject) => {
    const stream = session.request({
      ":method": "POST",
      ":path": path,
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    const take = (given: Readonly<Record<string, unknown>>): void => {
      const status = given["grpc-status"];
      if (typeof status !== "string") return;
      resolve({ status: Number(status), reasoned: typeof given["grpc-status-details-bin"] === "string" });
    };
    stream.on("response", take);
    stream.on("trailers", take);
    stream.once("error", reject);
    stream.once("close", () => reject(new Finding("the call ended without a status")));
    stream.resume();
    const frame = Buffer.alloc(5 + message.length);
    frame.writeUInt32BE(message.length, 1);
    frame.set(message, 5);
    stream.end(frame);
  });
}

const protobuf: Target = {
  name: "protobuf",
  async open(dice) {
    const committee = new Uint8Array(32).fill(7);
    const methods: { readonly service: DescService; readonly method: DescMethod; readonly samples: Uint8Array[] }[] =
      [];
    const services = SERVICES.map((service): GrpcService => {
      const handlers: Record<string, (request: never) => unknown> = {};
      for (const method of service.methods) {
        // Whatever has been understood can be said again.
        const echo = (request: never): void => void toBinary(method.input, request);
        handlers[method.localName] =
          method.methodKind === "unary"
            ? async (request: never) => {
                echo(request);
                return {};
              }
            : async function* (request: never) {
                echo(request);
                yield {};
              };
        const samples = Array.from({ length: 4 }, () => {
          const init = made(dice, method.input) as Parameters<typeof create>[1];
          return new Uint8Array(toBinary(method.input, create(method.input, init)));
        });
        methods.push({ service, method, samples });
      }
      return { descriptor: service, handlers, bound: true };
    });
    const server = await startServer({
      address: "127.0.0.1:0",
      services,
      committee,
      domain: "relay",
      log: createLogger("silent", {}),
      meters: createNoMeters(),
    });
    const session = connect(`http://127.0.0.1:${server.port}`);
    session.on("error", () => undefined);
    const headers = { [ORGANISM_HEADER]: Buffer.from(committee).toString("base64") };
    let last = "";
    return {
      async run(caseDice, n): Promise<Verdict> {
        const { service, method, samples } = caseDice.pick(methods);
        const sample = caseDice.pick(samples);
        const other = caseDice.pick(samples);
        const turn = flipAt(n, sample.length) === undefined ? 1 : n;
        const bytes = mutateBytes(caseDice, turn, sample, protobufLayout(sample), other);
        last = `${service.typeName}/${method.name} ${shown(bytes)}`;
        const { status, reasoned } = await call(session, `/${service.typeName}/${method.name}`, bytes, headers);
        if (NEVER.has(status)) throw new Finding(`status ${status}`);
        if (status !== OK && !reasoned) throw new Finding(`status ${status} without a reason`);
        return status === OK ? "accepted" : "refused";
      },
      lastInput: () => last,
      close() {
        session.destroy();
        server.close();
      },
    };
  },
};

type Json = Parameters<typeof mutateJson>[1];

const jsonRpc: Target = {
  name: "json-rpc",
  async open() {
    await initCrypto();
    const door = openDoor(async () => "0x1", { searcherKey: new Uint8Array(32).fill(7) });
    const raw = `0x${Buffer.from((await transfer(ALICE, 0)).raw).toString("hex")}`;
    const hash = `0x${"ab".repeat(32)}`;
    const request = (method: string, ...params: Json[]): Json => ({ jsonrpc: "2.0", id: 1, method, params });
    const samples: readonly Json[] = [
      request("eth_sendRawTransaction", raw, { disclosure: "hash" }),
      request("eth_sendRawTransaction", raw, {
        refund: { recipient: `0x${"11".repeat(20)}`, signature: `0x${"22".repeat(65)}` },
      }),
      request("eth_sendPrivateTransaction", {
        tx: raw,
        maxBlockNumber: "0x7e",
        preferences: { privacy: { hints: [] } },
      }),
      request("lattice_reserveBid", { class: "blind", slot: "0x1" }),
      request("eth_sendBundle", { txs: [raw], blockNumber: "0x70", lattice: { class: "seen", amountWei: "1" } }),
      request("eth_getTransactionCount", `0x${"11".repeat(20)}`, "pending"),
      request("eth_getTransactionReceipt", hash),
      request("web3_sha3", "0x1234"),
      request("lattice_getSubmission", hash),
      [request("eth_chainId"), request("net_version")],
    ];
    let last = "";
    return {
      async run(dice, n): Promise<Verdict> {
        const sample = dice.pick(samples);
        let value = sample;
        for (let more = dice.below(3); more > 0; more--) value = mutateJson(dice, value);
        last = dice.chance(3) ? mutateText(dice, n, JSON.stringify(value)) : JSON.stringify(value);
        const answer = await door.jsonRpc.answer(last);
        if (answer === undefined) return "accepted";
        const parsed = JSON.parse(answer) as Json;
        let refused = false;
        for (const each of Array.isArray(parsed) ? (parsed as readonly Json[]) : [parsed]) {
          const { jsonrpc, error } = each as { jsonrpc?: Json; error?: { code?: Json; message?: Json } };
          if (jsonrpc !== "2.0") throw new Finding("an answer that is no JSON-RPC");
          if (error === undefined) continue;
          refused = true;
          if (typeof error.code !== "number" || typeof error.message !== "string") throw new Finding("an odd error");
          if (error.message === "internal error") throw new Finding("internal error");
        }
        return refused ? "refused" : "accepted";
      },
      lastInput: () => last,
      close: () => door.close(0),
    };
  },
};

const connectJson: Target = {
  name: "connect-json",
  async open() {
    await initCrypto();
    const door = openDoor(async () => "0x1", { searcherKey: new Uint8Array(32).fill(7) });
    const port = await door.port.listen("127.0.0.1:0");
    const raw = Buffer.from((await transfer(ALICE, 0)).raw).toString("base64");
    const samples: readonly (readonly [string, Json])[] = [
      ["SubmitTransaction", { rawTransaction: raw, disclosure: { hash: true } }],
      ["SubmitTransaction", { rawTransaction: raw, refund: { recipient: "AAAA", signature: "AAAA" } }],
      ["GetSubmission", { transactionHash: "q6urq6urq6urq6urq6urq6urq6urq6urq6urq6urq6s=" }],
      ["ReserveBid", { slot: "0", bidClass: "blind" }],
      ["SubmitBid", { slot: "0", bidClass: "seen", amountWei: "AQ==", items: [{ rawTransaction: raw }], nonce: "0" }],
      ["GetSlot", { slot: "8" }],
      ["GetRefunds", { recipient: "ERERERERERERERERERERERERERE=" }],
      ["GetLattice", {}],
    ];
    let last = "";
    return {
      async run(dice, n): Promise<Verdict> {
        const [method, sample] = dice.pick(samples);
        let value = sample;
        for (let more = 1 + dice.below(2); more > 0; more--) value = mutateJson(dice, value);
        const text = dice.chance(3) ? mutateText(dice, n, JSON.stringify(value)) : JSON.stringify(value);
        last = `${method} ${text}`;
        const response = await fetch(`http://127.0.0.1:${port}/lattice.gateway.v1.GatewayService/${method}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: text,
        });
        const body = await response.text();
        if (response.ok) return "accepted";
        const { code, details } = JSON.parse(body) as { code?: string; details?: unknown };
        if (code === undefined || (details === undefined && ["internal", "unknown", "data_loss"].includes(code)))
          throw new Finding(`${code}: ${body}`);
        return "refused";
      },
      lastInput: () => last,
      close: () => door.close(0),
    };
  },
};

export function doorTargets(): Target[] {
  return [protobuf, jsonRpc, connectJson];
}
