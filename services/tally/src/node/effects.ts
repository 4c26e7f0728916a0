/** tally's node half: what members do about their duties. */
import { setTimeout as pause } from "node:timers/promises";
import { encode, tryDecode } from "@lattice/organism/codec/codec.ts";
import type { Outcome } from "@lattice/organism/committee/outcome.ts";
import { signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { CANDIDATE_BODY } from "@lattice/organism/outcomes/atelier.ts";
import { ATTRIBUTION } from "@lattice/organism/outcomes/tally.ts";
import type { MemberHost, OrganismNode } from "@lattice/organism/service.ts";
import type { TallySettings } from "../config.ts";
import { batchDigest, openBatch, signaturesOf } from "../core/batch.ts";
import { attributeLanded, candidateIn } from "../core/slot-attribution.ts";
import type {
  AttestDuty,
  AttributeDuty,
  KeepBodyDuty,
  PostDuty,
  ReadChainDuty,
  TallyCommand,
  TallyDuty,
  TallyState,
} from "../core/types.ts";
import { readChainFact } from "./chain-watcher.ts";
import { ChainClient, ChainUnavailable } from "./clients.ts";
import { Poster, readPosterKey } from "./poster.ts";
import { tallyService } from "./service.ts";

type Host = MemberHost<TallyState, TallyCommand, TallySettings>;

/** How long one attempt waits for finality before it gives its place back, and how often it looks meanwhile. */
const FINALITY_WAIT_MS = 30_000;
const LOOK_EVERY_MIN_MS = 100;
const LOOK_EVERY_MAX_MS = 2000;

export function createNode(host: Host): OrganismNode<TallyCommand, TallyDuty> {
  const effects = new Effects(host);
  return {
    execute: (duty) => effects.execute(duty),
    services: [tallyService(host, effects.chain)],
    bodies: {},
    decided: (outcome) => effects.decided(outcome),
    start: () => effects.start(),
    stop: async () => effects.stop(),
  };
}

class Effects {
  readonly chain: ChainClient;
  readonly #host: Host;
  readonly #stop = new AbortController();
  /** Slots whose bodies are here. */
  readonly #kept = new Set<bigint>();
  #poster: Poster | undefined;
  #complaint: string | undefined;

  constructor(host: Host) {
    this.#host = host;
    const { settings, config } = host;
    this.chain = new ChainClient(
      { url: settings.TALLY_CHAIN_RPC, timeoutMs: settings.TALLY_CHAIN_TIMEOUT_MS, signal: this.#stop.signal },
      config.tally.content.settlement,
    );
  }

  /** @throws KitProblem when the poster's key cannot be used */
  async start(): Promise<void> {
    const { settings, config, log } = this.#host;
    const { TALLY_SUBMIT_URL: url, TALLY_POSTER_KEY_FILE: file, TALLY_CHAIN_TIMEOUT_MS: timeoutMs } = settings;
    if (url === undefined || file === undefined) {
      log.info("this member posts no batches: TALLY_SUBMIT_URL and TALLY_POSTER_KEY_FILE are not set");
      return;
    }
    this.#poster = new Poster({
      chain: this.chain,
      submit: { url, timeoutMs, signal: this.#stop.signal },
      chainId: config.chainId,
      secret: readPosterKey(file),
      resendMs: settings.TALLY_RESEND_SLOTS * config.slotMs,
    });
  }

  stop(): void {
    this.#stop.abort();
  }

  async execute(duty: TallyDuty): Promise<Submission<TallyCommand> | undefined> {
    try {
      switch (duty.type) {
        case "read-chain":
          return await this.#readChain(duty);
        case "attribute":
          return await this.#attribute(duty);
        case "keep-body":
          await this.#keepBody(duty);
          return undefined;
        case "attest":
          return this.#attest(duty);
        case "post":
          await this.#post(duty);
          return undefined;
      }
    } catch (error) {
      if (!(error instanceof ChainUnavailable)) throw error;
      if (!this.#stop.signal.aborted) this.#complain(error);
      return undefined;
    }
  }

  /** Waits for finality here rather than in the runtime's growing pauses, so that slots follow one another closely. */
  async #readChain({ slot, topic }: ReadChainDuty): Promise<Submission<TallyCommand> | undefined> {
    const { config, clock } = this.#host;
    const { finalityDepth } = config.tally.content;
    const candidate = candidateIn(this.#host.observed("atelier", "candidate", slot));
    if (candidate === undefined) return undefined;
    const lookEveryMs = Math.min(Math.max(config.slotMs / 4, LOOK_EVERY_MIN_MS), LOOK_EVERY_MAX_MS);
    const untilMs = clock.nowMs() + FINALITY_WAIT_MS;
    while (this.#host.state().next === slot && !this.#stop.signal.aborted) {
      const fact = await readChainFact(this.chain, this.#host.state().scanned, candidate, finalityDepth);
      this.#complaint = undefined;
      if (fact !== undefined) return { type: "saw", topic, slot, fact };
      if (clock.nowMs() >= untilMs) return undefined;
      await pause(lookEveryMs, undefined, { signal: this.#stop.signal }).catch(() => undefined);
    }
    return undefined;
  }

  async #attribute({ slot, topic }: AttributeDuty): Promise<Submission<TallyCommand> | undefined> {
    const { log, meters, config } = this.#host;
    const outcome = this.#host.observed("atelier", "candidate", slot);
    const candidate = candidateIn(outcome);
    if (outcome === undefined || candidate === undefined) return undefined;
    const body = tryDecode(CANDIDATE_BODY, await this.#host.fetchBody("atelier", outcome));
    if (body === undefined) {
      log.error("the certified candidate's body does not decode: is this member older than atelier?", { slot });
      return undefined;
    }
    const state = this.#host.state();
    if (state.next !== slot || state.chain === undefined) return undefined;
    const auction = this.#host.observed("offer", "auction", slot);
    const { collected } = state;
    const { commitment, problem } = attributeLanded({ config, slot, candidate, body, auction, collected });
    if (problem !== undefined) {
      meters.count("lattice_tally_attribution_problems_total", 1, { problem });
      log.error("certified inputs contradict each other: what they do not settle goes to the remainder", {
        slot,
        problem,
      });
    }
    return { type: "saw", topic, slot, fact: encode(ATTRIBUTION, commitment) };
  }

  async #keepBody({ slot }: KeepBodyDuty): Promise<void> {
    const outcome = this.#host.observed("atelier", "candidate", slot);
    if (this.#kept.has(slot) || outcome === undefined) return;
    await this.#host.fetchBody("atelier", outcome);
    this.#kept.add(slot);
    for (const old of this.#kept) if (old < this.#host.state().next) this.#kept.delete(old);
  }

  #attest({ batch }: AttestDuty): Submission<TallyCommand> | undefined {
    const { config, secrets, log } = this.#host;
    const open = openBatch(this.#host.state());
    if (open?.attestation.batch !== batch) return undefined;
    if (secrets.signerKey === undefined) {
      log.error("this member's key file has no signer key: it cannot attest", { batch });
      return undefined;
    }
    const signature = signDigest(secrets.signerKey, batchDigest(config, open.attestation));
    return { type: "machine", command: { type: "attestationShare", batch, signature } };
  }

  async #post({ batch }: PostDuty): Promise<void> {
    const { config, roster, log, meters, clock } = this.#host;
    const open = openBatch(this.#host.state());
    if (this.#poster === undefined || open?.attestation.batch !== batch) return;
    const signatures = signaturesOf(config, roster, open);
    if (signatures === undefined) return;
    const attended = await this.#poster.attend(open.attestation, signatures, clock.nowMs());
    if (attended.state === "sent") {
      meters.count("lattice_tally_posts_sent_total", 1, { action: attended.action });
      log.info("batch sent to the settlement contract", { batch, action: attended.action });
    } else if (attended.state === "refused") {
      log.error("the settlement contract would refuse the batch", { batch, problem: attended.error });
    }
  }

  /** Once per kind of trouble: a dead endpoint only delays. */
  #complain(error: ChainUnavailable): void {
    this.#host.meters.count("lattice_tally_chain_failures_total");
    if (this.#complaint === error.reason) return;
    this.#complaint = error.reason;
    this.#host.log.warn("the chain cannot be read; it is asked again", errorFields(error));
  }

  /** The chain decides; where relay's record says otherwise, somebody should know. */
  decided({ slot, commitment }: Outcome): void {
    const attribution = tryDecode(ATTRIBUTION, commitment);
    const accepted = this.#host.observed("relay", "accepted", slot);
    if (attribution?.landed !== false || accepted?.kind !== "result") return;
    this.#host.meters.count("lattice_tally_won_but_not_landed_total");
    this.#host.log.error("won but not landed: the sequencer acknowledged this slot's block, the chain has another", {
      slot,
      block_number: attribution.blockNumber,
    });
  }
}
