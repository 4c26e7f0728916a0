/** Claims refunds for the sample wallets: asks tally what is owed under the last posted batch, and sends `claim`. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import { type Client, connectAny } from "@lattice/organism/rpc/client.ts";
import { type GetClaimResponse, TallyService } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { SETTLEMENT_ABI } from "@lattice/tally/contract/settlement-abi.ts";
import { encodeFunctionData } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import type { SampleAccount } from "../accounts.ts";
import type { GatewayClient } from "./gateway-client.ts";
import type { Ledger } from "./ledger.ts";

const CLAIM_GAS = 200_000n;
const PRIORITY_WEI = 2_000_000_000n;

export interface ClaimantOptions {
  /** Pays the gas; the money goes to the recipient whoever calls. */
  readonly payer: SampleAccount | undefined;
  readonly gateway: GatewayClient;
  readonly ledger: Ledger;
  readonly config: LatticeConfig;
  readonly endpointsFile: string;
  readonly settlement: `0x${string}`;
  readonly recipients: readonly Uint8Array[];
}

export class Claimant {
  readonly #options: ClaimantOptions;
  readonly #tally: Client<typeof TallyService>;
  #open: string | undefined;

  constructor(options: ClaimantOptions) {
    this.#options = options;
    const { config, endpointsFile } = options;
    this.#tally = connectAny(TallyService, readEndpoints(endpointsFile).tally, {
      committee: committeeId(config, "tally"),
    });
  }

  /** Sends at most one claim at a time, for the first recipient with something due. */
  async look(): Promise<void> {
    const { gateway, recipients, settlement } = this.#options;
    if (this.#open !== undefined) {
      const { status } = await gateway.submission(this.#open);
      if (status !== "landed" && status !== "failed") return;
      this.#open = undefined;
    }
    for (const recipient of recipients) {
      let claim: GetClaimResponse;
      try {
        claim = await this.#tally.getClaim({ recipient });
      } catch {
        continue;
      }
      const lifetime = BigInt(`0x${toHex(claim.lifetimeTotalWei) || "0"}`);
      const address: `0x${string}` = `0x${toHex(recipient)}`;
      const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "claimed", args: [address] });
      const claimed = BigInt(await gateway.call<string>("eth_call", [{ to: settlement, data }, "latest"]));
      if (lifetime <= claimed) continue;
      await this.#claim(address, lifetime, lifetime - claimed, claim.proof);
      return;
    }
  }

  async #claim(recipient: `0x${string}`, lifetime: bigint, due: bigint, proof: readonly Uint8Array[]): Promise<void> {
    const { payer, gateway, ledger, settlement, config } = this.#options;
    if (payer === undefined) return;
    const account = privateKeyToAccount(`0x${payer.secret}`);
    const data = encodeFunctionData({
      abi: SETTLEMENT_ABI,
      functionName: "claim",
      args: [recipient, lifetime, proof.map((node): `0x${string}` => `0x${toHex(node)}`)],
    });
    const baseFee = await gateway.baseFee();
    const raw = await account.signTransaction({
      type: "eip1559",
      chainId: Number(config.chainId),
      nonce: await gateway.nonce(account.address),
      to: settlement,
      data,
      gas: CLAIM_GAS,
      maxPriorityFeePerGas: PRIORITY_WEI,
      maxFeePerGas: baseFee * 2n + PRIORITY_WEI,
    });
    const txHash = await gateway.sendRaw(raw, "nothing");
    this.#open = txHash;
    ledger.note({ type: "claim", recipient, amountWei: due.toString(), txHash });
  }
}
