/**
 * What a member keeps of outcomes: the certificates of its own committee, made as soon as q shares are in the log, and the
 * bodies that it made, or that others have handed it. Each goes when nobody can ask for it any more.
 */
import { tryDecode } from "../codec/codec.ts";
import type { Committee } from "../committee/committee.ts";
import type { CertifiedOutcome, Outcome } from "../committee/outcome.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Duty } from "../machine.ts";
import { errorFields, type Logger } from "../observe/logger.ts";
import { ATTRIBUTION } from "../outcomes/tally.ts";
import type { BodyFetcher } from "./body-fetcher.ts";
import type { OutcomeArchive } from "./outcome-archive.ts";
import type { OutcomeHandover } from "./outcome-handover.ts";
import type { KeptBodies } from "./storage.ts";

export interface KeptOutcomesOptions {
  readonly committee: Pick<
    Committee<unknown, unknown, Duty>,
    "complete" | "votes" | "signature" | "floor" | "newestObserved"
  > & { readonly machine: { readonly stages: readonly string[] } };
  readonly archive: OutcomeArchive;
  readonly bodies: KeptBodies;
  /** Certificates go there too. */
  readonly outside: Pick<OutcomeHandover, "hand"> | undefined;
  /** Where bodies are that this member does not have. */
  readonly others: Pick<BodyFetcher, "fetch">;
  readonly logger: Logger;
}

export class KeptOutcomes {
  readonly #options: KeptOutcomesOptions;

  constructor(options: KeptOutcomesOptions) {
    this.#options = options;
  }

  /** A crash may have kept the state that completed a certificate, and not the certificate. */
  certifyMissing(): void {
    const { committee, archive } = this.#options;
    for (const outcome of committee.complete()) {
      if (!archive.has(outcome.stage, outcome.slot)) this.certify(outcome);
    }
  }

  /** q shares are in the log: combine them, keep and publish the certificate. */
  certify(outcome: Outcome): void {
    const { committee, archive, outside, logger } = this.#options;
    const votes = committee.votes(outcome.stage, outcome.slot);
    const signature = committee.signature(outcome);
    if (signature === undefined) return;
    const certified: CertifiedOutcome = {
      outcome,
      signature,
      signers: [...votes.keys()].sort((a, b) => a - b),
    };
    archive.put(certified).catch((error: unknown) => logger.error("the outcome archive failed", errorFields(error)));
    outside?.hand(certified);
  }

  /** Bodies of a slot that is on chain may be shown to everybody. */
  upstream(organism: Organism, outcome: Outcome): void {
    const { bodies, logger } = this.#options;
    if (organism !== "tally" || outcome.stage !== "attribution" || outcome.kind === "skipped") return;
    if (tryDecode(ATTRIBUTION, outcome.commitment)?.landed !== true) return;
    bodies.markLanded(outcome.slot).catch((error: unknown) => {
      logger.error("the body store failed", errorFields(error));
    });
  }

  /** The body of an outcome of this or another committee. @throws Fault UPSTREAM_UNREACHABLE */
  async body(organism: Organism, outcome: Outcome): Promise<Uint8Array> {
    const { bodies, others } = this.#options;
    const kept = outcome.bodyHash === undefined ? undefined : await bodies.get(outcome.bodyHash);
    if (kept !== undefined) return kept;
    const body = await others.fetch(organism, outcome);
    await bodies.put(outcome.slot, body);
    return body;
  }

  /** @param now the slot by the clock: nobody's word, not even a quorum's, makes a member drop what is younger */
  async prune(now: bigint): Promise<void> {
    const { committee, bodies, archive } = this.#options;
    const decided = committee.floor(committee.machine.stages.at(-1) ?? "") - 1n;
    await bodies.prune(decided < now ? decided : now);
    await archive.prune(committee.newestObserved("tally", "attribution"));
  }
}
