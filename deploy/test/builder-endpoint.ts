/**
 * What a relay member looks like to the sequencer, for tests: Engine-API-shaped HTTP with JWT in front of a
 * `VmBuilder` that follows the chain through the execution client's RPC. Its honesty is a setting.
 */
import { createHmac } from "node:crypto";
import { decode, fromHex } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import {
  SEQUENCER_ATTRIBUTES,
  type SequencerAttributes,
  verifyAttributes,
} from "@lattice/organism/outcomes/sequencer.ts";
import type { Hex, PayloadEnvelope } from "../src/chain/execution-payload.ts";
import { callJsonRpc, isRecord } from "../src/chain/json-rpc-call.ts";
import { RpcRefusal, type RpcServer, serveJsonRpc } from "../src/chain/json-rpc-server.ts";
import { hex } from "../src/chain/slot-attributes.ts";
import type { BuildFields, VmBuilder } from "./vm-builder.ts";

/** Turns what was asked for into what is built, or what was built into what is given. */
export interface Dishonesty {
  readonly fields?: (fields: BuildFields) => BuildFields | Promise<BuildFields>;
  readonly envelope?: (envelope: PayloadEnvelope) => unknown;
}

export interface EndpointOptions {
  readonly builder: VmBuilder;
  readonly rpcUrl: string;
  readonly jwtSecret: Uint8Array;
  /** 20 bytes: whose attributes are built. */
  readonly sequencer: Uint8Array;
  /** Signs the one transfer that every block carries. */
  readonly secret: Uint8Array;
}

export class BuilderEndpoint {
  dishonesty: Dishonesty | undefined;
  readonly acknowledged: { readonly canonical: string; readonly signature: string }[] = [];
  readonly #options: EndpointOptions;
  readonly #payloads = new Map<string, Promise<unknown>>();
  #server: RpcServer | undefined;

  constructor(options: EndpointOptions) {
    this.#options = options;
  }

  get url(): string {
    return `http://127.0.0.1:${this.#server?.port ?? 0}`;
  }

  async start(): Promise<void> {
    this.#server = await serveJsonRpc({
      host: "127.0.0.1",
      port: 0,
      admit: (header) => admits(this.#options.jwtSecret, header),
      methods: {
        engine_forkchoiceUpdatedV3: ([, attributes]) => this.#begin(attributes),
        engine_getPayloadV4: ([id]) => {
          const payload = this.#payloads.get(String(id));
          if (payload === undefined) throw new RpcRefusal(-38_001, "UNKNOWN_PAYLOAD", "unknown payload");
          return payload;
        },
        lattice_acknowledge: ([canonical, signature]) => {
          this.acknowledged.push({ canonical: String(canonical), signature: String(signature) });
          return true;
        },
      },
    });
  }

  async stop(): Promise<void> {
    await this.#server?.close();
  }

  #begin(given: unknown): object {
    const lattice = isRecord(given) && isRecord(given["lattice"]) ? given["lattice"] : {};
    const canonical = fromHex(String(lattice["attributes"]));
    const attributes = decode(SEQUENCER_ATTRIBUTES, canonical);
    if (!verifyAttributes(this.#options.sequencer, attributes, fromHex(String(lattice["signature"])))) {
      throw new RpcRefusal(-38_003, "BAD_SIGNATURE", "these attributes are not the sequencer's");
    }
    const id = `0x${attributes.slot.toString(16).padStart(16, "0")}`;
    const key = `${id}${hex(attributes.parentHash)}`;
    const payload = this.#payloads.get(key) ?? this.#build(attributes);
    payload.catch(() => undefined);
    this.#payloads.set(key, payload).set(id, payload);
    return { payloadStatus: { status: "VALID", latestValidHash: null, validationError: null }, payloadId: id };
  }

  async #build(attributes: SequencerAttributes): Promise<unknown> {
    const { builder, secret } = this.#options;
    const { dishonesty } = this;
    const asked: BuildFields = {
      parentHash: hex(attributes.parentHash),
      timestamp: attributes.timestampS,
      prevRandao: hex(attributes.prevRandao),
      feeRecipient: hex(attributes.feeRecipient),
      gasLimit: attributes.gasLimit,
      parentBeaconBlockRoot: hex(attributes.parentBeaconBlockRoot),
      extraData: hex(attributes.extraData),
    };
    await this.follow(asked.parentHash);
    const fields = (await dishonesty?.fields?.(asked)) ?? asked;
    const nonce = await builder.nonce(hex(addressOfSecret(secret)), fields.parentHash);
    const envelope = await builder.build(fields, [builder.transfer(secret, nonce, `0x${"aa".repeat(20)}`)]);
    return dishonesty?.envelope?.(envelope) ?? envelope;
  }

  /** Rebuilds the empty blocks that it did not build itself, back to one that it knows. */
  async follow(hash: Hex): Promise<void> {
    const { builder, rpcUrl } = this.#options;
    if (builder.knows(hash)) return;
    const block = await callJsonRpc({ url: rpcUrl }, "eth_getBlockByHash", [hash, false], { deadlineMs: 5000 });
    const header = block as Record<string, Hex>;
    const parentHash = header["parentHash"] ?? "0x";
    await this.follow(parentHash);
    const field = (name: string): Hex => header[name] ?? "0x";
    const rebuilt = await builder.build(
      {
        parentHash,
        timestamp: BigInt(field("timestamp")),
        prevRandao: field("mixHash"),
        feeRecipient: field("miner"),
        gasLimit: BigInt(field("gasLimit")),
        parentBeaconBlockRoot: field("parentBeaconBlockRoot"),
        extraData: field("extraData"),
      },
      [],
    );
    if (rebuilt.executionPayload.blockHash !== hash) throw new Error(`block ${hash} is not an empty block`);
  }
}

function admits(secret: Uint8Array, header: string | undefined): boolean {
  const [head, claims, signature] = (header ?? "").replace(/^Bearer /, "").split(".");
  const wanted = createHmac("sha256", secret).update(`${head}.${claims}`).digest("base64url");
  if (claims === undefined || signature !== wanted) return false;
  const { iat } = JSON.parse(Buffer.from(claims, "base64url").toString("utf8")) as { iat: number };
  return Math.abs(Date.now() / 1000 - iat) < 60;
}
