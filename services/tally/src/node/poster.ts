/**
 * Gets a signed batch onto the chain. The transaction is this member's own, from its own funded account, and travels
 * like any user's: to a gateway or node that takes raw transactions. Whether it arrived, the chain says.
 */
import { readFileSync, statSync } from "node:fs";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { decodeErrorResult, decodeFunctionResult, encodeFunctionData } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { z } from "zod";
import { SETTLEMENT_ABI } from "../contract/settlement-abi.ts";
import { attestationArgument, hex } from "../contract/settlement-call.ts";
import type { Attestation } from "../core/attestation.ts";
import { CallRefused, type ChainClient, callMethod, type EndpointOptions } from "./clients.ts";

/** What `attend` found or did. */
export type Attended =
  /** The contract has it already. */
  | { readonly state: "posted" }
  /** Sent now. */
  | { readonly state: "sent"; readonly action: "post" | "stage"; readonly transaction: `0x${string}` }
  /** On its way, or waiting out the delay of a stale block. */
  | { readonly state: "waiting" }
  /** The contract would refuse it; the name of its error. */
  | { readonly state: "refused"; readonly error: string };

const TIP_WEI = 1_000_000_000n;
/** docs/settlement.md measures 68,000 to 127,000, 7,750 a signature, 28,000 a charge; unused gas is not paid. */
const GAS_BASE = 200_000n;
const GAS_A_SIGNATURE = 12_000n;
const GAS_A_CHARGE = 45_000n;

const TRANSACTION_HASH = z.templateLiteral(["0x", z.string().regex(/^[0-9a-fA-F]{64}$/)]);

/** @throws KitProblem when the file is missing, open to others, or not 32 bytes of hex */
export function readPosterKey(path: string): Uint8Array {
  try {
    if ((statSync(path).mode & 0o077) !== 0) {
      throw new KitProblem("TALLY_POSTER_KEY_FILE: the file is open to others; mode 400 expected");
    }
    const text = readFileSync(path, "utf8").trim().replace(/^0x/, "");
    if (!/^[0-9a-fA-F]{64}$/.test(text)) throw new KitProblem("TALLY_POSTER_KEY_FILE: 32 bytes of hex expected");
    return new Uint8Array(Buffer.from(text, "hex"));
  } catch (error) {
    if (error instanceof KitProblem) throw error;
    throw new KitProblem("TALLY_POSTER_KEY_FILE: the file cannot be read");
  }
}

export class Poster {
  readonly #chain: ChainClient;
  readonly #submit: EndpointOptions;
  readonly #chainId: number;
  readonly #account: ReturnType<typeof privateKeyToAccount>;
  readonly #resendMs: number;
  #sent: { readonly batch: bigint; readonly action: string; readonly atMs: number } | undefined;

  constructor(options: {
    readonly chain: ChainClient;
    readonly submit: EndpointOptions;
    readonly chainId: bigint;
    /** 32 bytes. */
    readonly secret: Uint8Array;
    readonly resendMs: number;
  }) {
    this.#chain = options.chain;
    this.#submit = options.submit;
    this.#chainId = Number(options.chainId);
    this.#account = privateKeyToAccount(`0x${toHex(options.secret)}`);
    this.#resendMs = options.resendMs;
  }

  /**
   * Looks whether the contract has the batch, and sends what is needed next, not more often than `resendMs`.
   * @param signatures ascending by signer, as many as the threshold
   * @throws ChainUnavailable, CallRefused when the submission is refused
   */
  async attend(attestation: Attestation, signatures: readonly Uint8Array[], nowMs: number): Promise<Attended> {
    if ((await this.#lastBatch()) >= attestation.batch) return { state: "posted" };
    const args = [attestationArgument(attestation), signatures.map(hex)] as const;
    const post = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "post", args });
    const refusal = await this.#refusal(post);
    let action: "post" | "stage" = "post";
    let data = post;
    if (refusal === "StillStaged") return { state: "waiting" };
    if (refusal === "BlockOutOfRange") {
      action = "stage";
      data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "stage", args });
      const second = await this.#refusal(data);
      if (second !== undefined) return { state: "refused", error: second };
    } else if (refusal !== undefined) return { state: "refused", error: refusal };

    const sent = this.#sent;
    const underway = sent?.batch === attestation.batch && sent.action === action && nowMs < sent.atMs + this.#resendMs;
    if (underway) return { state: "waiting" };
    const gas =
      GAS_BASE + GAS_A_SIGNATURE * BigInt(signatures.length) + GAS_A_CHARGE * BigInt(attestation.charges.length);
    const transaction = await this.#send(data, gas);
    this.#sent = { batch: attestation.batch, action, atMs: nowMs };
    return { state: "sent", action, transaction };
  }

  async #lastBatch(): Promise<bigint> {
    const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "lastBatch" });
    const answer = await this.#chain.call(data);
    return decodeFunctionResult({ abi: SETTLEMENT_ABI, functionName: "lastBatch", data: answer });
  }

  /** The contract's error when this were executed now; undefined when it would go through. */
  async #refusal(data: `0x${string}`): Promise<string | undefined> {
    try {
      await this.#chain.call(data, this.#account.address);
      return undefined;
    } catch (error) {
      if (!(error instanceof CallRefused)) throw error;
      return errorName(error.data) ?? error.message;
    }
  }

  /** The nonce is the chain's: a transaction that never arrived is replaced by the next, not followed by it. */
  async #send(data: `0x${string}`, gas: bigint): Promise<`0x${string}`> {
    const [nonce, block] = await Promise.all([this.#chain.nonce(this.#account.address), this.#chain.block("latest")]);
    const raw = await this.#account.signTransaction({
      type: "eip1559",
      chainId: this.#chainId,
      to: this.#chain.settlement,
      data,
      gas,
      nonce: Number(nonce),
      maxPriorityFeePerGas: TIP_WEI,
      maxFeePerGas: 2n * (block?.baseFeeWei ?? 0n) + TIP_WEI,
    });
    return callMethod(this.#submit, "eth_sendRawTransaction", [raw], TRANSACTION_HASH);
  }
}

function errorName(data: `0x${string}` | undefined): string | undefined {
  if (data === undefined || data.length < 10) return undefined;
  try {
    return decodeErrorResult({ abi: SETTLEMENT_ABI, data }).errorName;
  } catch {
    return undefined;
  }
}
