/** Carrying out atelier's duties: propose a block, and judge the blocks that are proposed. */
import { setTimeout as pause } from "node:timers/promises";
import { decode, equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { assertNever } from "@lattice/organism/fault.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import type { OrganismNode } from "@lattice/organism/service.ts";
import { blockAttributes } from "../core/attributes.ts";
import { CANDIDATE } from "../core/candidate.ts";
import { candidateFact } from "../core/codec.ts";
import { FAULTS } from "../core/faults.ts";
import {
  type AtelierCommand,
  type AtelierDuty,
  CANDIDATE_TOPIC,
  type JudgeDuty,
  type Proposal,
  type ProposeDuty,
  STAGE,
} from "../core/types.ts";
import { ChainError } from "../evm/chain-state.ts";
import type { SlotSources } from "../evm/slot-inputs.ts";
import { Chain } from "./chain.ts";
import { type AtelierHost, Feed } from "./feed.ts";
import { atelierService } from "./service.ts";
import { Sources } from "./sources.ts";
import { Workshop } from "./workshop.ts";

const POLL_MS = 15;
/** After a failed fetch. */
const RETRY_MS = 100;
/** Slots after its own for which a slot is still looked at. */
const SLOTS_WORKED = 2n;

interface Parts {
  readonly chain: Chain;
  readonly sources: Sources;
  readonly workshop: Workshop;
  readonly feed: Feed;
}

class Effects {
  readonly #host: AtelierHost;
  readonly #stop = new AbortController();
  /** Slots for which this member has found a right candidate. */
  readonly #settled = new Set<bigint>();
  readonly #reported = new Set<string>();
  #parts: Parts | undefined;

  constructor(host: AtelierHost) {
    this.#host = host;
  }

  async start(): Promise<void> {
    await initCrypto();
    const { settings, config, log, meters } = this.#host;
    const { signal } = this.#stop;
    const options = {
      rpcUrl: settings.ATELIER_CHAIN_RPC,
      genesisFile: settings.ATELIER_GENESIS_FILE,
      chainId: config.chainId,
      log,
      meters,
    };
    const chain = await Chain.open(options, signal);
    const sources = new Sources(this.#host, (raws) => chain.state.decoder.prepare(raws));
    const feed = new Feed(this.#host, chain, sources, signal);
    this.#parts = { chain, sources, workshop: new Workshop(this.#host, chain.state), feed };
    feed.start();
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await this.#parts?.feed.stopped();
  }

  async execute(duty: AtelierDuty): Promise<Submission<AtelierCommand> | undefined> {
    switch (duty.type) {
      case "propose":
        return this.#propose(duty);
      case "judge":
        return this.#judge(duty);
      default:
        return assertNever(duty);
    }
  }

  async #propose({ slot, parentHash }: ProposeDuty): Promise<Submission<AtelierCommand> | undefined> {
    const wanted = (): boolean =>
      !this.#over(slot) &&
      !this.#settled.has(slot) &&
      this.#host.outcome(STAGE, slot) === undefined &&
      this.#isCurrent(slot, parentHash);
    for (;;) {
      const sources = await this.#sourcesOf(slot, wanted);
      const { workshop } = this.#parts ?? {};
      if (sources === undefined || workshop === undefined) return undefined;
      const built = await workshop.inTurn(async () =>
        wanted() ? await whenKnown(workshop.build(sources)) : undefined,
      );
      if (built !== undefined) return { type: "machine", command: workshop.propose(built) };
      await pause(POLL_MS);
    }
  }

  /** Goes through the proposals in log order until one is right; waits for what it cannot judge yet. */
  async #judge({ slot }: JudgeDuty): Promise<Submission<AtelierCommand> | undefined> {
    const refused = new Set<string>();
    const wanted = (): boolean => !this.#over(slot) && this.#host.outcome(STAGE, slot)?.kind !== "skipped";
    for (;;) {
      const sources = await this.#sourcesOf(slot, wanted);
      const { workshop } = this.#parts ?? {};
      if (sources === undefined || workshop === undefined) return undefined;
      const next = this.#host
        .state()
        .slots.get(slot)
        ?.proposals.find(
          (proposal) =>
            proposal.sealedBody.length > 0 &&
            equalBytes(proposal.parentHash, sources.attributes.parentHash) &&
            !refused.has(nameOf(proposal)),
        );
      if (next === undefined) {
        await pause(POLL_MS);
        continue;
      }
      const { commitment, author } = next;
      const { bodyHash } = decode(CANDIDATE, commitment);
      const judgement = await whenKnown(workshop.inTurn(() => workshop.judge(sources, next, bodyHash)));
      if (judgement === undefined) {
        await pause(POLL_MS);
      } else if (judgement.right) {
        await this.#host.bodies.put(slot, judgement.bodyBytes);
        this.#settled.add(slot);
        return { type: "saw", topic: CANDIDATE_TOPIC, slot, fact: candidateFact(commitment) };
      } else {
        refused.add(nameOf(next));
        const { objection } = judgement;
        const reason = "CANDIDATE_REFUSED";
        this.#host.log.error(FAULTS[reason].meaning, { reason, slot, author, objection });
        this.#host.meters.count("lattice_atelier_candidates_refused_total", 1, {
          author: author.toString(),
          objection,
        });
      }
    }
  }

  #over(slot: bigint): boolean {
    const { config, clock } = this.#host;
    return this.#stop.signal.aborted || slotAt(config, clock.nowMs()) > slot + SLOTS_WORKED;
  }

  #isCurrent(slot: bigint, parentHash: Uint8Array): boolean {
    const current = this.#host.state().slots.get(slot)?.attributes.at(-1)?.parentHash;
    return current !== undefined && equalBytes(current, parentHash);
  }

  /** Waits until the agreed parent has been executed here and every body has been fetched, as long as it is `wanted`. */
  async #sourcesOf(slot: bigint, wanted: () => boolean): Promise<SlotSources | undefined> {
    while (wanted()) {
      const attributes = this.#host.state().slots.get(slot)?.attributes.at(-1);
      const { chain, sources } = this.#parts ?? {};
      if (attributes !== undefined && chain?.state.has(attributes.parentHash) === true) {
        try {
          const gathered = await sources?.gather(slot, blockAttributes(attributes));
          if (gathered !== undefined) return gathered;
        } catch (error) {
          this.#host.log.warn("a body cannot be had; it is tried again", { slot, ...errorFields(error) });
          await pause(RETRY_MS);
        }
      }
      await pause(POLL_MS);
    }
    return undefined;
  }

  /** After each decision: forgets what is over, reports frauds. */
  decided(slot: bigint): void {
    const { log, meters } = this.#host;
    for (const old of this.#settled) if (old + SLOTS_WORKED < slot) this.#settled.delete(old);
    if (this.#reported.size > 4096) this.#reported.clear();
    for (const [where, { evidence }] of this.#host.state().slots) {
      for (const { member, first, second } of evidence) {
        const key = `${where}/${member}`;
        if (this.#reported.has(key)) continue;
        this.#reported.add(key);
        const reason = "PROPOSAL_CONFLICT";
        log.error(FAULTS[reason].meaning, { reason, slot: where, author: member, first, second });
        meters.count("lattice_atelier_frauds_total", 1, { author: member.toString() });
      }
    }
  }
}

/** Which proposal of a slot: positions begin again with every generation of the log. */
function nameOf({ position, author, commitment }: Proposal): string {
  return `${position}/${author}/${toHex(commitment)}`;
}

/** Undefined instead of UNKNOWN_PARENT: the chain has moved on below our feet, or is not there yet. */
async function whenKnown<T>(work: Promise<T>): Promise<T | undefined> {
  try {
    return await work;
  } catch (error) {
    if (error instanceof ChainError && error.reason === "UNKNOWN_PARENT") return undefined;
    throw error;
  }
}

export function createNode(host: AtelierHost): OrganismNode<AtelierCommand, AtelierDuty> {
  const effects = new Effects(host);
  return {
    execute: (duty) => effects.execute(duty),
    services: [atelierService(host)],
    bodies: { [STAGE]: { readers: ["atelier", "relay", "tally"], publicWhenLanded: true } },
    decided: ({ slot }) => effects.decided(slot),
    start: () => effects.start(),
    stop: () => effects.stop(),
  };
}
