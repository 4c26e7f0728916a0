/** The part of CommitteeService by which members watch each other: heads, votes, frauds. */
import type { CommitteeService } from "@lattice/proto/lattice/committee/v1/committee_service_pb.ts";
import type { Committee } from "../committee/committee.ts";
import { signHead } from "../committee/heads.ts";
import type { SigningKey } from "../crypto/ed25519.ts";
import { COMMON_FAULTS, faultsOf } from "../fault.ts";
import { G2_BYTES } from "../identity/lattice-config.ts";
import type { Duty } from "../machine.ts";
import type { Handlers } from "../rpc/define.ts";
import type { DecisionVotes } from "./fraud-collector.ts";
import type { FraudProofs } from "./fraud-proofs.ts";
import { toWireDecision, toWireHead } from "./integrity-wire.ts";

/** A page of decisions ends with the slot in which it grows beyond this. */
const PAGE_BYTES = 1024 * 1024;

type IntegrityMethods = Pick<Handlers<typeof CommitteeService>, "getHead" | "listVotes" | "listFrauds" | "getFraud">;

export interface IntegrityServiceOptions<State, Command, D extends Duty> {
  readonly committee: Committee<State, Command, D>;
  readonly self: number;
  readonly memberKey: SigningKey;
  readonly proofs: FraudProofs;
}

export function integrityMethods<State, Command, D extends Duty>({
  committee,
  self,
  memberKey,
  proofs,
}: IntegrityServiceOptions<State, Command, D>): IntegrityMethods {
  const fault = faultsOf(committee.organism, COMMON_FAULTS);
  return {
    async getHead({ position: asked }) {
      const newest = committee.position;
      const position = asked < newest ? asked : newest;
      const head = committee.headAt(position);
      if (head === undefined) throw fault("VIEW_TOO_OLD", `the head at position ${position} is not kept any more`);
      const { id, generation } = committee;
      return toWireHead(
        signHead(memberKey, { version: 1, committee: id, generation, member: self, position, head, newest }),
      );
    },

    async listVotes({ fromSlot }) {
      const page: DecisionVotes[] = [];
      let bytes = 0;
      let slot = fromSlot;
      for (const decision of committee.decisions(fromSlot)) {
        if (bytes > PAGE_BYTES && decision.outcome.slot !== slot) break;
        slot = decision.outcome.slot;
        bytes += decision.outcome.commitment.length + decision.votes.size * G2_BYTES;
        page.push(decision);
      }
      return { decisions: page.map(toWireDecision) };
    },

    async listFrauds() {
      return {
        frauds: committee.blocked.map(({ member, memberKey: key, epoch, kind, position, proof }) => ({
          memberIndex: member,
          memberKey: key,
          epoch,
          kind,
          position,
          proofHash: proof,
        })),
      };
    },

    async getFraud({ proofHash }) {
      const proof = proofHash.length === 32 ? proofs.get(proofHash) : undefined;
      if (proof === undefined) throw fault("OUTCOME_UNKNOWN", "this member does not hold that proof");
      return { proof };
    },
  };
}
