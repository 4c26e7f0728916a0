/**
 * The sequencer of the local chain: the other side of relay's `l2-sequencer` policy (protocols.md §5).
 *
 * Per slot it signs attributes, asks the lattice's relay members for a payload at the slot's start, refuses whatever
 * departs from the attributes or does not execute, puts its own empty block in the gap (or holds still, by policy),
 * journals the decision, moves the head, signs an acknowledgement. One slot at a time; a slot that it could not decide
 * in its time is passed over.
 */
import { encode } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret } from "@lattice/organism/crypto/secp256k1.ts";
import { errorFields, type Logger } from "@lattice/organism/observe/logger.ts";
import {
  SEQUENCER_ACKNOWLEDGEMENT,
  SEQUENCER_ATTRIBUTES,
  type SequencerAcknowledgement,
  type SequencerAttributes,
  signAcknowledgement,
  signAttributes,
} from "@lattice/organism/outcomes/sequencer.ts";
import { BlockStore, type SlotRecord, type StoreRecord } from "./block-store.ts";
import { type Builder, pause, raceBuilders } from "./builder-race.ts";
import { CanonicalChain } from "./canonical-chain.ts";
import type { EngineClient } from "./engine-client.ts";
import { type BlockInput, data, type Hex, type PayloadEnvelope, quantity } from "./execution-payload.ts";
import { CallFailure, callJsonRpc, isRecord } from "./json-rpc-call.ts";
import { RpcRefusal } from "./json-rpc-server.ts";
import {
  type AttributeRules,
  alternativeAttributes,
  type BlockReference,
  builderAttributes,
  deviationOf,
  engineAttributes,
  hex,
  slotAttributes,
  startOfSlotMs,
} from "./slot-attributes.ts";

export type FallbackPolicy = "import" | "hold";
export type SlotOutcome = SequencerAcknowledgement["outcome"];

export interface SequencerOptions {
  readonly rules: AttributeRules;
  /** 32 bytes: signs attributes and acknowledgements. */
  readonly secret: Uint8Array;
  readonly engine: EngineClient;
  /** The same client's public RPC. */
  readonly rpcUrl: string;
  readonly builders: readonly Builder[];
  readonly storeFile: string;
  readonly fallback: FallbackPolicy;
  /** Blocks below the head that are called safe and final; nothing deeper is ever reorganised. */
  readonly finalityDepth: number;
  /** How long after the slot's start a payload is waited for. */
  readonly windowMs: number;
  readonly staggerMs: number;
  readonly retryMs: number;
  readonly logger: Logger;
  readonly nowMs?: () => number;
}

/** Signed bytes, as they are served. */
export interface SignedMessage {
  readonly canonical: Hex;
  readonly signature: Hex;
}

/** `lattice_status`. Slots and numbers fit a JavaScript number for as long as anybody will wait. */
export interface SequencerStatus {
  /** The address that signs. */
  readonly sequencer: Hex;
  readonly head: { readonly number: number; readonly hash: Hex };
  readonly finalized: { readonly number: number; readonly hash: Hex };
  readonly lastDecidedSlot: number;
  /** The slot whose attributes are out. */
  readonly nextSlot: number | null;
  /** Since the process started. */
  readonly slots: Readonly<Record<SlotOutcome, number>>;
  readonly fallback: FallbackPolicy;
  readonly clientAligned: boolean;
}

interface Pending {
  readonly slot: bigint;
  readonly attributes: SequencerAttributes;
  readonly canonical: Uint8Array;
  readonly signature: Uint8Array;
}

/** Signed messages of so many slots are kept for those who poll. */
const KEPT_SLOTS = 512;
const NOT_YET = -32_001;
const FORGOTTEN = -32_002;
const REFUSED = -32_003;
const CLIENT_RETRY_MS = 200;

export class Sequencer {
  readonly address: Uint8Array;
  readonly #options: SequencerOptions;
  readonly #chain: CanonicalChain;
  readonly #store: BlockStore;
  readonly #log: Logger;
  readonly #nowMs: () => number;
  readonly #stop = new AbortController();
  readonly #attributes = new Map<bigint, SignedMessage>();
  readonly #acknowledgements: Map<bigint, SignedMessage>;
  readonly #counts: Record<SlotOutcome, number> = { accepted: 0, fallback: 0, none: 0 };
  #fallback: FallbackPolicy;
  #lastDecided: bigint;
  #pending: Pending | undefined;
  /** Whether the client is known to stand on our head. */
  #aligned = false;
  #turn: Promise<unknown> = Promise.resolve();
  #running: Promise<void> | undefined;

  private constructor(
    options: SequencerOptions,
    chain: CanonicalChain,
    store: BlockStore,
    lastDecided: bigint,
    acknowledgements: Map<bigint, SignedMessage>,
  ) {
    this.#options = options;
    this.#chain = chain;
    this.#store = store;
    this.#lastDecided = lastDecided;
    this.#acknowledgements = acknowledgements;
    this.#log = options.logger;
    this.#fallback = options.fallback;
    this.#nowMs = options.nowMs ?? Date.now;
    this.address = addressOfSecret(options.secret);
  }

  /**
   * Reads genesis from the client and its own decisions from the store.
   * @throws CallFailure when the client does not answer, CorruptStore or ForeignChain when the store does not fit it
   */
  static async open(options: SequencerOptions): Promise<Sequencer> {
    const chain = new CanonicalChain(await readGenesis(options.rpcUrl), options.finalityDepth);
    const acknowledgements = new Map<bigint, SignedMessage>();
    let lastDecided = 0n;
    const store = await BlockStore.open(options.storeFile, (record, position) => {
      if (record.chosen !== undefined) chain.push(record.chosen, position);
      if (record.type !== "slot") return;
      lastDecided = BigInt(record.slot);
      keep(acknowledgements, lastDecided, { canonical: record.acknowledgement, signature: record.signature });
    });
    return new Sequencer(options, chain, store, lastDecided, acknowledgements);
  }

  /** Decides slots until `close`. */
  start(): void {
    this.#running ??= this.#run();
  }

  /** Lets the slot under way end, then stops. */
  async close(): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#turn;
    await this.#store.close();
  }

  /** One line when the chain cannot move. */
  problem(): string | undefined {
    if (this.#stop.signal.aborted) return "draining";
    return this.#aligned ? undefined : "the execution client does not stand on the sequencer's head";
  }

  /** @throws RpcRefusal NOT_YET until the slot before it is decided */
  attributes(slot: bigint): SignedMessage {
    return this.#served(this.#attributes, slot);
  }

  /** @throws RpcRefusal NOT_YET until the slot is decided */
  acknowledgement(slot: bigint): SignedMessage {
    return this.#served(this.#acknowledgements, slot);
  }

  #served(messages: ReadonlyMap<bigint, SignedMessage>, slot: bigint): SignedMessage {
    const message = messages.get(slot);
    if (message !== undefined) return message;
    if (slot > this.#lastDecided) throw new RpcRefusal(NOT_YET, "NOT_YET", `slot ${slot} has not come so far`);
    throw new RpcRefusal(FORGOTTEN, "FORGOTTEN", `slot ${slot} was passed over, or is too old`);
  }

  setFallback(policy: FallbackPolicy): void {
    this.#fallback = policy;
    this.#log.info("fallback policy set", { policy });
  }

  status(): SequencerStatus {
    const { head, finalized } = this.#chain;
    return {
      sequencer: hex(this.address),
      head: { number: Number(head.number), hash: head.hash },
      finalized: { number: Number(finalized.number), hash: finalized.hash },
      lastDecidedSlot: Number(this.#lastDecided),
      nextSlot: this.#pending === undefined ? null : Number(this.#pending.slot),
      slots: { ...this.#counts },
      fallback: this.#fallback,
      clientAligned: this.#aligned,
    };
  }

  /** One thing at a time: a decision and a reorg never overlap. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const slot = this.#nextSlot();
      await this.#exclusive(async () => {
        this.#prepare(slot);
        await this.#align();
      });
      await pause(startOfSlotMs(this.#options.rules, slot) - this.#nowMs(), signal);
      if (signal.aborted) return;
      await this.#exclusive(() => this.#decide()).catch((error: unknown) => {
        this.#log.error(`slot ${slot}: not decided`, errorFields(error));
        this.#aligned = false;
      });
      // A decision that failed outright is not tried again in a tight loop: its slot is over.
      if (this.#lastDecided < slot) this.#lastDecided = slot;
    }
  }

  /** The first slot that is neither decided nor so far gone that its window is half over. */
  #nextSlot(): bigint {
    const { rules, windowMs } = this.#options;
    const elapsed = this.#nowMs() - windowMs / 2 - rules.genesisMs;
    const current = BigInt(Math.max(0, Math.ceil(elapsed / rules.slotMs)));
    const after = this.#lastDecided + 1n;
    return current > after ? current : after;
  }

  #prepare(slot: bigint): void {
    const attributes = slotAttributes(this.#options.rules, slot, this.#chain.head);
    const canonical = encode(SEQUENCER_ATTRIBUTES, attributes);
    const signature = signAttributes(this.#options.secret, attributes);
    this.#pending = { slot, attributes, canonical, signature };
    keep(this.#attributes, slot, { canonical: hex(canonical), signature: hex(signature) });
  }

  async #decide(): Promise<void> {
    const { rules, windowMs, builders, staggerMs, retryMs } = this.#options;
    const pending = this.#pending;
    if (pending === undefined) return;
    const { slot, attributes } = pending;
    const parent = this.#chain.head;
    const endMs = Math.max(startOfSlotMs(rules, slot), this.#nowMs()) + windowMs;
    if (!this.#aligned) await this.#align();
    if (!this.#aligned) return this.#conclude(pending, "none", "CLIENT_DOWN", undefined);

    const local = this.#startLocalBlock(attributes, parent);
    const turn = Number(slot % BigInt(Math.max(1, builders.length)));
    const race = raceBuilders({
      builders: [...builders.slice(turn), ...builders.slice(0, turn)],
      state: this.#chain.forkchoice(parent),
      attributes: builderAttributes(attributes, pending.canonical, pending.signature),
      deviation: (envelope) => deviationOf(attributes, envelope),
      judge: (envelope) => this.#judge(attributes, envelope),
      window: AbortSignal.timeout(Math.max(1, endMs - this.#nowMs())),
      staggerMs,
      retryMs,
      refused: (line) => this.#log.warn(`slot ${slot}: ${line}`),
    });
    const [result, payloadId] = await Promise.all([
      race.catch((error: unknown) => {
        this.#clientFailed(error);
        return undefined;
      }),
      local,
    ]);
    if (result === undefined) return this.#conclude(pending, "none", "CLIENT_DOWN", undefined);
    if (result.envelope !== undefined)
      return this.#conclude(pending, "accepted", "", blockOf(attributes, result.envelope));

    this.#log.warn(`slot ${slot}: no block of the lattice`, { reason: result.refusal });
    if (this.#fallback === "hold") return this.#conclude(pending, "none", result.refusal, undefined);
    const fallback = payloadId === undefined ? undefined : await this.#finishLocalBlock(attributes, payloadId);
    if (fallback === undefined) return this.#conclude(pending, "none", "CLIENT_DOWN", undefined);
    return this.#conclude(pending, "fallback", result.refusal, fallback);
  }

  async #judge(attributes: SequencerAttributes, envelope: PayloadEnvelope) {
    const status = await this.#options.engine.newPayload(blockOf(attributes, envelope));
    if (status.status === "VALID") return { valid: true } as const;
    return { valid: false, problem: `${status.status} ${status.validationError ?? ""}`.trim() } as const;
  }

  /** The client's own empty block on `parent`; undefined when the client does not answer. */
  async #startLocalBlock(attributes: SequencerAttributes, parent: BlockReference): Promise<Hex | undefined> {
    try {
      const state = this.#chain.forkchoice(parent);
      return (await this.#options.engine.forkchoiceUpdated(state, engineAttributes(attributes))).payloadId;
    } catch (error) {
      this.#clientFailed(error);
      return undefined;
    }
  }

  async #finishLocalBlock(attributes: SequencerAttributes, payloadId: Hex): Promise<BlockInput | undefined> {
    try {
      const envelope = await this.#options.engine.getPayload(payloadId);
      // The Engine API has no extra data among its attributes: the client's own block has none.
      const deviation = deviationOf({ ...attributes, extraData: new Uint8Array() }, envelope);
      if (deviation !== undefined) throw new Error(`the client's own block has another ${deviation.field}`);
      const verdict = await this.#judge(attributes, envelope);
      if (!verdict.valid) throw new Error(`the client refuses its own block: ${verdict.problem}`);
      return blockOf(attributes, envelope);
    } catch (error) {
      this.#clientFailed(error);
      return undefined;
    }
  }

  /** Journal, then the head, then the word. */
  async #conclude(
    { slot, attributes }: Pending,
    outcome: SlotOutcome,
    reason: string,
    block: BlockInput | undefined,
  ): Promise<void> {
    const blockHash = block === undefined ? new Uint8Array(32) : bytesOf(block.executionPayload.blockHash);
    const acknowledgement: SequencerAcknowledgement = {
      version: 1,
      latticeId: attributes.latticeId,
      slot,
      parentHash: attributes.parentHash,
      blockHash,
      outcome,
      reason,
    };
    const message: SignedMessage = {
      canonical: hex(encode(SEQUENCER_ACKNOWLEDGEMENT, acknowledgement)),
      signature: hex(signAcknowledgement(this.#options.secret, acknowledgement)),
    };
    const record: SlotRecord = {
      type: "slot",
      slot: slot.toString(),
      ...(block === undefined ? {} : { chosen: { parentHash: hex(attributes.parentHash), block } }),
      acknowledgement: message.canonical,
      signature: message.signature,
    };
    const position = await this.#store.append(record);
    if (record.chosen !== undefined) {
      this.#chain.push(record.chosen, position);
      await this.#moveHead();
    }
    this.#lastDecided = slot;
    this.#counts[outcome] += 1;
    keep(this.#acknowledgements, slot, message);
    this.#log.info(`slot ${slot}: ${outcome}`, {
      slot,
      number: this.#chain.head.number,
      hash: this.#chain.head.hash,
      transactions: block?.executionPayload.transactions.length ?? 0,
      ...(reason === "" ? {} : { reason }),
    });
    this.#tell(message);
  }

  /** Every builder hears of it once; who misses it polls. */
  #tell({ canonical, signature }: SignedMessage): void {
    for (const { name, engine } of this.#options.builders) {
      engine.call("lattice_acknowledge", [canonical, signature]).catch((error: unknown) => {
        this.#log.debug(`${name}: acknowledgement not delivered`, errorFields(error));
      });
    }
  }

  async #moveHead(): Promise<void> {
    try {
      const result = await this.#options.engine.forkchoiceUpdated(this.#chain.forkchoice(this.#chain.head));
      this.#aligned = result.payloadStatus.status === "VALID";
      if (!this.#aligned) this.#log.warn("the client does not take the head", { status: result.payloadStatus.status });
    } catch (error) {
      this.#clientFailed(error);
    }
  }

  #clientFailed(error: unknown): void {
    this.#aligned = false;
    this.#log.warn("the execution client fails", errorFields(error));
  }

  /** Brings the client to our head: at once when it has the block, else by feeding it what it lacks. */
  async #align(): Promise<void> {
    if (this.#aligned) return;
    try {
      await this.#moveHead();
      if (this.#aligned || this.#chain.head.number === 0n) return;
      const from = await this.#commonAncestor();
      this.#log.info("the client is fed blocks that it lacks", { from: from + 1n, to: this.#chain.head.number });
      for (let number = from + 1n; number <= this.#chain.head.number; number++) {
        const block = await this.#storedBlock(number);
        const { status } = await this.#options.engine.newPayload(block);
        if (status !== "VALID") throw new Error(`block ${number} of the store is ${status} to the client`);
        // Head by head: the client executes on its head only. What is final comes with the last one.
        const { hash } = this.#chain.block(number);
        const zero: Hex = `0x${"0".repeat(64)}`;
        const state = { headBlockHash: hash, safeBlockHash: zero, finalizedBlockHash: zero };
        await this.#options.engine.forkchoiceUpdated(state);
      }
      await this.#moveHead();
    } catch (error) {
      this.#clientFailed(error);
      await pause(CLIENT_RETRY_MS, this.#stop.signal);
    }
  }

  /** The highest of our blocks that the client has as canonical. */
  async #commonAncestor(): Promise<bigint> {
    const latest = BigInt(quantity(await this.#rpc("eth_blockNumber", []), "eth_blockNumber"));
    const { head } = this.#chain;
    for (let number = latest < head.number ? latest : head.number; number > 0n; number--) {
      const block = await this.#rpc("eth_getBlockByNumber", [`0x${number.toString(16)}`, false]);
      if (isRecord(block) && block["hash"] === this.#chain.block(number).hash) return number;
    }
    return 0n;
  }

  #rpc(method: string, params: readonly unknown[]): Promise<unknown> {
    return callJsonRpc({ url: this.#options.rpcUrl }, method, params, { deadlineMs: 2000 });
  }

  async #storedBlock(number: bigint): Promise<BlockInput> {
    const position = this.#chain.position(number);
    if (position === undefined) throw new Error(`block ${number} is not in the store`);
    const record: StoreRecord = await this.#store.read(position);
    if (record.chosen === undefined) throw new Error(`block ${number} is not in the store`);
    return record.chosen.block;
  }

  /**
   * Puts an empty block in the place of the block `depth − 1` below the head, on that block's parent, and makes it the
   * head. The slot to come gets new attributes.
   * @throws RpcRefusal when the depth reaches below what is final, or the client refuses
   */
  reorg(
    depth: bigint,
  ): Promise<{ readonly number: number; readonly replaced: Hex; readonly head: Hex; readonly parent: Hex }> {
    return this.#exclusive(async () => {
      const old = this.#chain.head;
      const number = old.number - depth + 1n;
      if (depth < 1n || number <= this.#chain.finalized.number) {
        throw new RpcRefusal(REFUSED, "TOO_DEEP", `depth must be 1 to ${old.number - this.#chain.finalized.number}`);
      }
      const parent = this.#chain.block(number - 1n);
      const replaced = this.#chain.block(number);
      const attributes = alternativeAttributes(this.#options.rules, this.#lastDecided, parent, replaced);
      const payloadId = await this.#startLocalBlock(attributes, parent);
      const block = payloadId === undefined ? undefined : await this.#finishLocalBlock(attributes, payloadId);
      if (block === undefined) {
        await this.#align();
        throw new RpcRefusal(REFUSED, "CLIENT_DOWN", "the execution client builds no block there");
      }
      const record: StoreRecord = { type: "reorg", chosen: { parentHash: parent.hash, block } };
      this.#chain.push(record.chosen, await this.#store.append(record));
      await this.#moveHead();
      if (this.#pending !== undefined && this.#pending.slot > this.#lastDecided) this.#prepare(this.#pending.slot);
      const { head } = this.#chain;
      this.#log.warn("reorg on demand", { depth, number: head.number, replaced: replaced.hash, hash: head.hash });
      return { number: Number(head.number), replaced: replaced.hash, head: head.hash, parent: parent.hash };
    });
  }
}

function blockOf(
  attributes: SequencerAttributes,
  { executionPayload, executionRequests }: PayloadEnvelope,
): BlockInput {
  return { executionPayload, executionRequests, parentBeaconBlockRoot: hex(attributes.parentBeaconBlockRoot) };
}

function bytesOf(value: Hex): Uint8Array {
  return new Uint8Array(Buffer.from(value.slice(2), "hex"));
}

function keep(messages: Map<bigint, SignedMessage>, slot: bigint, message: SignedMessage): void {
  messages.set(slot, message);
  if (messages.size <= KEPT_SLOTS) return;
  for (const oldest of messages.keys()) {
    messages.delete(oldest);
    return;
  }
}

async function readGenesis(rpcUrl: string): Promise<BlockReference> {
  const method = "eth_getBlockByNumber";
  const block = await callJsonRpc({ url: rpcUrl }, method, ["0x0", false], { deadlineMs: 5000 });
  if (!isRecord(block)) throw new CallFailure("MALFORMED", method, "the client has no genesis block");
  return {
    number: 0n,
    hash: data(block["hash"], "hash", 32, 32),
    timestampS: BigInt(quantity(block["timestamp"], "timestamp")),
    gasLimit: BigInt(quantity(block["gasLimit"], "gasLimit")),
  };
}
