/** One sample wallet: sends a transfer at a time, with a data tag so that no two are alike, and keeps its nonce. */
import { privateKeyToAccount } from "viem/accounts";
import type { SampleAccount } from "../accounts.ts";
import type { GatewayClient } from "./gateway-client.ts";
import type { Ledger } from "./ledger.ts";

const GAS = 40_000n;
const PRIORITY_WEI = 1_000_000_000n;
/** Transfers in flight per wallet. */
const IN_FLIGHT_MAX = 4;

export interface WalletOptions {
  readonly account: SampleAccount;
  readonly gateway: GatewayClient;
  readonly ledger: Ledger;
  readonly chainId: number;
  readonly slot: () => bigint;
}

export class Wallet {
  readonly #options: WalletOptions;
  readonly #account;
  #next: number | undefined;

  constructor(options: WalletOptions) {
    this.#options = options;
    this.#account = privateKeyToAccount(`0x${options.account.secret}`);
  }

  get address(): `0x${string}` {
    return this.#account.address;
  }

  /** Sends one transfer unless too many are on their way. */
  async send(to: `0x${string}`): Promise<void> {
    const { gateway, ledger, chainId, slot } = this.#options;
    const landed = await gateway.nonce(this.address);
    const nonce = Math.max(this.#next ?? landed, landed);
    if (nonce - landed >= IN_FLIGHT_MAX) return;
    const baseFee = await gateway.baseFee();
    const raw = await this.#account.signTransaction({
      type: "eip1559",
      chainId,
      nonce,
      to,
      value: 10n ** 14n + BigInt(nonce),
      gas: GAS,
      maxPriorityFeePerGas: PRIORITY_WEI,
      maxFeePerGas: baseFee * 2n + PRIORITY_WEI,
    });
    const at = Number(slot());
    const hash = await gateway.sendRaw(raw, "everything");
    this.#next = nonce + 1;
    ledger.note({ type: "transaction", hash, sender: this.address, nonce, slot: at, bootstrap: false });
  }
}
