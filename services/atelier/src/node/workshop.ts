/** Building and judging candidates, one at a time: both are long computations that share a processor with the log. */
import { equalBytes, toHex } from "@lattice/organism/codec/codec.ts";
import { openAsOne, sealToAll } from "@lattice/organism/crypto/box.ts";
import { blake3 } from "@lattice/organism/crypto/hash.ts";
import type { AgreementKey } from "@lattice/organism/crypto/x25519.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import type { Candidate } from "../core/candidate.ts";
import { BODY_BOX_INFO, bodyAad } from "../core/codec.ts";
import type { Proposal, ProposalCommand } from "../core/types.ts";
import { buildCandidate } from "../evm/build.ts";
import type { Executor } from "../evm/executor.ts";
import { type SlotSources, slotInputs } from "../evm/slot-inputs.ts";
import { type RefusalReason, verifyCandidate } from "../evm/verify.ts";
import type { AtelierHost } from "./feed.ts";

/** Why a proposal gets no vote: what its body is refused for, or that there is no such body. */
export type Objection = RefusalReason | "BODY_UNREADABLE" | "BODY_HASH" | "COMMITMENT_DIFFERS";

export type Judgement =
  | { readonly right: true; readonly bodyBytes: Uint8Array }
  | { readonly right: false; readonly objection: Objection; readonly detail: string };

const CANDIDATES_KEPT = 8;

export class Workshop {
  readonly #host: AtelierHost;
  readonly #executor: Executor;
  readonly #boxKey: AgreementKey;
  /** What this member itself executed, by commitment: needs no second execution. */
  readonly #known = new Map<string, Uint8Array>();
  #turn: Promise<unknown> = Promise.resolve();

  constructor(host: AtelierHost, executor: Executor) {
    this.#host = host;
    this.#executor = executor;
    this.#boxKey = agreementKey(host.secrets.boxKey);
  }

  /** Runs when everything before it has ended. */
  inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work, work);
    this.#turn = result.catch(() => undefined);
    return result;
  }

  /** @throws ChainError UNKNOWN_PARENT */
  async build(sources: SlotSources): Promise<Candidate> {
    const startedAt = performance.now();
    const candidate = await buildCandidate(this.#executor, await slotInputs(this.#executor, sources));
    this.#remember(candidate.commitmentBytes, candidate.bodyBytes);
    this.#host.meters.record("lattice_atelier_build_seconds", (performance.now() - startedAt) / 1000);
    return candidate;
  }

  /** The candidate as this member proposes it: the body is readable by members alone. */
  propose({ commitment, commitmentBytes, bodyBytes }: Candidate): ProposalCommand {
    const { committee, self, random } = this.#host;
    const { slot, parentHash, candidateVersion, bodyHash } = commitment;
    const recipients = this.#host.rosterAt(slot).members.map(({ index, boxKey }) => ({ index, publicKey: boxKey }));
    const aad = bodyAad({ committee, slot, parentHash, candidateVersion, author: self, bodyHash });
    const sealedBody = sealToAll(recipients, BODY_BOX_INFO, aad, bodyBytes, random);
    return { type: "proposal", slot, parentHash, candidateVersion, commitment: commitmentBytes, bodyHash, sealedBody };
  }

  /**
   * Opens the body and executes it, from its bytes alone. A body that is known to be right is not executed again.
   * @throws ChainError UNKNOWN_PARENT: this member cannot judge yet
   */
  async judge(sources: SlotSources, proposal: Proposal, bodyHash: Uint8Array): Promise<Judgement> {
    const own = this.#known.get(toHex(proposal.commitment));
    if (own !== undefined) return { right: true, bodyBytes: own };
    const bodyBytes = this.#open(sources.slot, proposal, bodyHash);
    if (bodyBytes === undefined) return objection("BODY_UNREADABLE", "not sealed to this member");
    if (!equalBytes(blake3(bodyBytes), bodyHash)) return objection("BODY_HASH", "the body is another one");
    const startedAt = performance.now();
    const verdict = await verifyCandidate(this.#executor, await slotInputs(this.#executor, sources), bodyBytes);
    this.#host.meters.record("lattice_atelier_verify_seconds", (performance.now() - startedAt) / 1000);
    if (!verdict.accepted) return objection(verdict.reason, verdict.detail);
    if (!equalBytes(verdict.candidate.commitmentBytes, proposal.commitment)) {
      return objection("COMMITMENT_DIFFERS", "the commitment does not follow from the body");
    }
    this.#remember(proposal.commitment, bodyBytes);
    return { right: true, bodyBytes };
  }

  #open(slot: bigint, proposal: Proposal, bodyHash: Uint8Array): Uint8Array | undefined {
    const { committee, self } = this.#host;
    const { parentHash, candidateVersion, author, sealedBody } = proposal;
    const aad = bodyAad({ committee, slot, parentHash, candidateVersion, author, bodyHash });
    return openAsOne(self, this.#boxKey, BODY_BOX_INFO, aad, sealedBody);
  }

  #remember(commitment: Uint8Array, bodyBytes: Uint8Array): void {
    this.#known.set(toHex(commitment), bodyBytes);
    for (const oldest of this.#known.keys()) {
      if (this.#known.size <= CANDIDATES_KEPT) break;
      this.#known.delete(oldest);
    }
  }
}

function objection(reason: Objection, detail: string): Judgement {
  return { right: false, objection: reason, detail };
}
