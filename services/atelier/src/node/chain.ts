/** This member's own view of the chain: executed block by block from genesis, as the execution client hands them out. */
import { readFileSync } from "node:fs";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import type { Meters } from "@lattice/organism/observe/meters.ts";
import { ChainState } from "../evm/chain-state.ts";
import { type Genesis, genesisFrom } from "../evm/genesis.ts";
import { JsonRpcChain } from "./chain-source.ts";

const RPC_DEADLINE_MS = 2000;
/** While nobody waits for a block, the chain is looked at this often. */
const IDLE_MS = 500;
/** A client that fails is named in the log this often. */
const COMPLAIN_EVERY_MS = 10_000;

export interface ChainOptions {
  readonly rpcUrl: string;
  readonly genesisFile: string;
  readonly chainId: bigint;
  readonly log: Logger;
  readonly meters: Meters;
}

export class Chain {
  readonly state: ChainState;
  readonly #options: ChainOptions;
  readonly #source: JsonRpcChain;
  #following: Promise<void> | undefined;
  #followedAtMs = Number.NEGATIVE_INFINITY;
  #complainedAtMs = Number.NEGATIVE_INFINITY;

  private constructor(options: ChainOptions, genesis: Genesis, state: ChainState, signal: AbortSignal) {
    this.#options = options;
    this.state = state;
    const { rpcUrl: url } = options;
    this.#source = new JsonRpcChain({ url, common: genesis.common, deadlineMs: RPC_DEADLINE_MS, signal });
  }

  /** @throws KitProblem when the genesis file is not the genesis of this lattice's chain */
  static async open(options: ChainOptions, signal: AbortSignal): Promise<Chain> {
    const genesis = readGenesis(options.genesisFile);
    const state = await ChainState.open(genesis);
    if (state.chainId !== options.chainId) {
      throw new KitProblem(`ATELIER_GENESIS_FILE: chain ${state.chainId}, the config says ${options.chainId}`);
    }
    return new Chain(options, genesis, state, signal);
  }

  /** Executes what the client has and this state lacks. One at a time; a failure is counted and tried again later. */
  follow(wanted: Uint8Array | undefined): Promise<void> {
    const idle = wanted === undefined || this.state.has(wanted);
    if (idle && performance.now() - this.#followedAtMs < IDLE_MS) return Promise.resolve();
    this.#following ??= this.#follow().finally(() => {
      this.#following = undefined;
      this.#followedAtMs = performance.now();
    });
    return this.#following;
  }

  async #follow(): Promise<void> {
    const { log, meters } = this.#options;
    try {
      const { removed, added } = await this.state.follow(this.#source);
      if (removed.length > 0) {
        log.warn("the chain was reorganised", { removed: removed.length, added: added.length });
      }
      meters.gauge("lattice_atelier_chain_head", Number(this.state.head().number));
    } catch (error) {
      meters.count("lattice_atelier_chain_failures_total");
      const now = performance.now();
      if (now - this.#complainedAtMs < COMPLAIN_EVERY_MS) return;
      this.#complainedAtMs = now;
      log.warn("the chain cannot be followed; it is tried again", errorFields(error));
    }
  }
}

function readGenesis(path: string): Genesis {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new KitProblem(`ATELIER_GENESIS_FILE: cannot read ${path}`);
  }
  try {
    return genesisFrom(JSON.parse(text));
  } catch (error) {
    throw new KitProblem(`ATELIER_GENESIS_FILE: ${error instanceof Error ? error.message : "not a genesis"}`);
  }
}
