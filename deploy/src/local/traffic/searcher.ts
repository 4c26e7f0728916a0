/**
 * One sample searcher. A blind one bids for the top of the block before anything of the slot is opened; a seen one
 * watches what senders disclosed and bids to follow one of those transactions. Both pay real bids from real accounts.
 */

import { readFileSync } from "node:fs";
import { Bidder } from "@lattice/gateway/bids.ts";
import { fromHex, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { signTicket } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { committeeId, type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { EraWatch } from "@lattice/organism/node/era-watch.ts";
import { readEndpoints, readRosters } from "@lattice/organism/node/kit.ts";
import { OutcomeFollower } from "@lattice/organism/node/outcome-follower.ts";
import { RosterWatch } from "@lattice/organism/node/roster-watch.ts";
import { UNSEALED } from "@lattice/organism/outcomes/unseal.ts";
import { SETTLEMENT_ABI } from "@lattice/tally/contract/settlement-abi.ts";
import { encodeFunctionData } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import type { SampleAccount } from "../accounts.ts";
import type { Layout } from "../layout.ts";
import type { GatewayClient } from "./gateway-client.ts";
import type { Ledger } from "./ledger.ts";

const ESCROW_WEI = 10n ** 18n;
const PRIORITY_WEI = 2_000_000_000n;
const DEPOSIT_GAS = 120_000n;
const BID_GAS = 90_000n;

export interface SearcherOptions {
  readonly account: SampleAccount;
  readonly class: "blind" | "seen";
  readonly gateway: GatewayClient;
  readonly ledger: Ledger;
  readonly config: LatticeConfig;
  readonly layout: Layout;
  readonly settlement: `0x${string}`;
  readonly clock: () => number;
}

export class Searcher {
  readonly #options: SearcherOptions;
  readonly #account;
  readonly #bidder: Bidder;
  readonly #rosters: RosterWatch;
  #chain: { readonly nonce: number; readonly baseFee: bigint } | undefined;

  constructor(options: SearcherOptions) {
    this.#options = options;
    this.#account = privateKeyToAccount(`0x${options.account.secret}`);
    const { config, layout, clock } = options;
    const issuer = generateSigningKey(
      fromHex((JSON.parse(readFileSync(layout.path("admission", "issuer.json"), "utf8")) as { seed: string }).seed),
    );
    const where = { config, endpoints: () => readEndpoints(layout.endpoints), clock: { nowMs: clock } };
    const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
    this.#rosters = new RosterWatch({
      ...where,
      rosters: readRosters(layout.rosters, config),
      organisms: ["offer"],
      log: silent,
    });
    this.#bidder = new Bidder({
      ...where,
      rosters: this.#rosters,
      searcherKey: fromHex(options.account.secret),
      tickets: (searcher) => [
        signTicket(issuer, { audience: committeeId(config, "offer"), subject: searcher, expSlot: 1n << 40n }),
      ],
    });
  }

  /** Deposits escrow through a transaction like any other. */
  async fundEscrow(): Promise<void> {
    const { gateway, ledger, settlement } = this.#options;
    const nonce = await gateway.nonce(this.#account.address);
    if (nonce > 0) return;
    const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "deposit" });
    const raw = await this.#sign({ nonce, to: settlement, value: ESCROW_WEI, gas: DEPOSIT_GAS, data });
    const hash = await gateway.sendRaw(raw, "nothing");
    ledger.note({
      type: "transaction",
      hash,
      sender: this.#account.address,
      nonce,
      slot: this.#slot(),
      bootstrap: true,
    });
  }

  async escrowReady(): Promise<boolean> {
    const { gateway, settlement } = this.#options;
    try {
      const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "escrowOf", args: [this.#account.address] });
      const held = BigInt(await gateway.call<string>("eth_call", [{ to: settlement, data }, "latest"])) > 0n;
      if (held) await this.#bidder.register();
      return held;
    } catch {
      return false;
    }
  }

  #slot(): number {
    const { config, clock } = this.#options;
    return Math.floor((clock() - config.genesisMs) / config.slotMs);
  }

  async #sign(transaction: {
    nonce: number;
    to: `0x${string}`;
    value: bigint;
    gas: bigint;
    data: `0x${string}`;
  }): Promise<`0x${string}`> {
    const { baseFee } = this.#chain ?? (await this.#refresh());
    return this.#account.signTransaction({
      type: "eip1559",
      chainId: Number(this.#options.config.chainId),
      maxPriorityFeePerGas: PRIORITY_WEI,
      maxFeePerGas: baseFee * 2n + PRIORITY_WEI,
      ...transaction,
    });
  }

  /** Bids every slot until told to stop. */
  async run(stopped: () => boolean): Promise<void> {
    try {
      await (this.#options.class === "blind" ? this.#runBlind(stopped) : this.#runSeen(stopped));
    } finally {
      this.#rosters.close();
    }
  }

  async #runBlind(stopped: () => boolean): Promise<void> {
    const { config, clock } = this.#options;
    let last = 0n;
    while (!stopped()) {
      const slot = this.#bidder.openSlot("blind");
      // The parent's block must stand before the nonce is known: bid after the slot before has begun.
      const at = slotStartMs(config, slot) - config.offer.content.blindCloseMs - config.slotMs * 0.25;
      await new Promise((resolve) => setTimeout(resolve, Math.min(Math.max(at - clock(), 20), config.slotMs)));
      if (slot <= last || clock() < at) continue;
      last = slot;
      await this.#attempt(() => this.#bid(slot, []));
    }
  }

  /** Follows certified UnsealedRounds and bids to stand behind the first disclosed message. */
  async #runSeen(stopped: () => boolean): Promise<void> {
    const { config, layout } = this.#options;
    const silent = { debug: () => undefined, info: () => undefined, warn: () => undefined, error: () => undefined };
    let newest = BigInt(this.#slot());
    const eras = new EraWatch({ config, addresses: (organism) => readEndpoints(layout.endpoints)[organism] });
    const follower = new OutcomeFollower({
      config,
      rosters: readRosters(layout.rosters, config),
      endpoints: () => readEndpoints(layout.endpoints),
      log: silent,
      offset: 1,
      eras: eras.of,
      onUnverified: (organism) => void eras.ask(organism),
      fromSlot: () => newest + 1n,
      known: () => false,
      onOutcome: (_organism, { outcome }) => {
        if (outcome.slot <= newest) return;
        newest = outcome.slot;
        const unsealed = outcome.kind === "result" ? tryDecode(UNSEALED, outcome.commitment) : undefined;
        const target = unsealed?.messages.find(({ disclosed }) => disclosed.rawTransaction !== undefined);
        if (target !== undefined) void this.#attempt(() => this.#bid(outcome.slot, [target.messageId]));
      },
    });
    follower.follow([{ organism: "unseal", stage: "unsealed" }]);
    while (!stopped()) {
      // What a bid needs of the chain is fetched once the slot before has its block: the seen window is short.
      const nextMs = slotStartMs(config, BigInt(this.#slot() + 1)) + config.slotMs * 0.3;
      await this.#attempt(async () => {
        await this.#refresh();
      });
      while (!stopped() && this.#options.clock() < nextMs) await new Promise((resolve) => setTimeout(resolve, 100));
    }
    await follower.close();
  }

  /** The account's nonce and the base fee, as they stand now. */
  async #refresh(): Promise<{ readonly nonce: number; readonly baseFee: bigint }> {
    const { gateway } = this.#options;
    const [nonce, baseFee] = await Promise.all([gateway.nonce(this.#account.address), gateway.baseFee()]);
    this.#chain = { nonce, baseFee };
    return this.#chain;
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      process.stderr.write(
        `searcher (${this.#options.class}): ${error instanceof Error ? error.message : String(error)}\n`,
      );
    }
  }

  /** One bid: the referenced message, if any, and a transaction that pays what is bid. */
  async #bid(slot: bigint, references: readonly Uint8Array[]): Promise<void> {
    const { ledger, settlement } = this.#options;
    const { nonce } = this.#options.class === "seen" && this.#chain !== undefined ? this.#chain : await this.#refresh();
    const amountWei = 10n ** 15n + BigInt(slot) * 10n ** 9n;
    const { nonce: bidNonce, paymentId } = this.#bidder.reserve(this.#options.class, slot);
    const data = encodeFunctionData({
      abi: SETTLEMENT_ABI,
      functionName: "payBid",
      args: [slot, `0x${toHex(paymentId)}`],
    });
    const own = await this.#sign({ nonce, to: settlement, value: amountWei, gas: BID_GAS, data });
    const { bidId, slot: sealedFor } = await this.#bidder.bid({
      slot,
      class: this.#options.class,
      nonce: bidNonce,
      amountWei,
      capWei: undefined,
      items: [
        ...references.map((messageId) => ({ type: "reference", messageId }) as const),
        { type: "transaction", raw: fromHex(own) },
      ],
    });
    ledger.note({ type: "bid", bidId: toHex(bidId), class: this.#options.class, slot: Number(sealedFor) });
  }
}
