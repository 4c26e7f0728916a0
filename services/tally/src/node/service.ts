/** `lattice.tally.v1.TallyService` of one member. */
import { setTimeout as pause } from "node:timers/promises";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { COMMON_FAULTS, faultsOf } from "@lattice/organism/fault.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { withHeartbeat } from "@lattice/organism/rpc/heartbeat.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { TallyService } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { decodeFunctionResult, encodeFunctionData } from "viem";
import type { TallySettings } from "../config.ts";
import { SETTLEMENT_ABI } from "../contract/settlement-abi.ts";
import { hex } from "../contract/settlement-call.ts";
import { batchDigest, signaturesOf } from "../core/batch.ts";
import { FAULTS } from "../core/faults.ts";
import { lifetimeTotal } from "../core/ledger.ts";
import { type Batch, STAGE, type TallyCommand, type TallyState } from "../core/types.ts";
import { Claims } from "./claims.ts";
import type { ChainClient } from "./clients.ts";
import { addressFromWire, statusOf, toWireAttestation, toWireAttribution, toWireCollected, weiToWire } from "./wire.ts";

/** How soon a watcher learns that a batch has changed. */
const WATCH_EVERY_MS = 200;

type ServiceHost = Pick<
  MemberHost<TallyState, TallyCommand, TallySettings>,
  "config" | "clock" | "roster" | "state" | "certified" | "watch" | "log"
>;

export function tallyService(host: ServiceHost, chain: Pick<ChainClient, "call">): GrpcService {
  const fault = faultsOf("tally", { ...COMMON_FAULTS, ...FAULTS });
  const claims = new Claims();

  const recipientOf = (wire: Uint8Array): Uint8Array => {
    const address = addressFromWire(wire);
    if (address === undefined) throw fault("BAD_ADDRESS", `${wire.length} bytes`);
    return address;
  };
  const attestationOf = (batch: Batch) =>
    toWireAttestation(
      batch,
      batchDigest(host.config, batch.attestation),
      signaturesOf(host.config, host.roster, batch) ?? [],
    );
  /** What the contract has paid; undefined when the chain does not answer. */
  const claimedBy = async (recipient: Uint8Array): Promise<bigint | undefined> => {
    try {
      const data = encodeFunctionData({ abi: SETTLEMENT_ABI, functionName: "claimed", args: [hex(recipient)] });
      const answer = await chain.call(data);
      return decodeFunctionResult({ abi: SETTLEMENT_ABI, functionName: "claimed", data: answer });
    } catch (error) {
      host.log.debug("the chain cannot be asked what was claimed", errorFields(error));
      return undefined;
    }
  };

  /** Batches from `fromBatch` (0: the newest) on, each whenever its status has changed. */
  async function* changes(fromBatch: bigint, signal: AbortSignal): AsyncGenerator<Batch> {
    const told = new Map<bigint, number>();
    let from = fromBatch;
    while (!signal.aborted) {
      const { batches } = host.state();
      if (from === 0n) from = batches.at(-1)?.attestation.batch ?? 0n;
      for (const batch of batches) {
        const { batch: number } = batch.attestation;
        if (from === 0n || number < from || told.get(number) === statusOf(batch)) continue;
        told.set(number, statusOf(batch));
        yield batch;
      }
      for (const number of told.keys()) if (told.size > batches.length) told.delete(number);
      await pause(WATCH_EVERY_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  return defineService(TallyService, {
    async getAttribution({ slot }) {
      const certified = host.certified(STAGE, slot);
      if (certified === undefined) throw fault("OUTCOME_UNKNOWN", `slot ${slot} has no certified attribution here`);
      const kept = host.state().slots.get(slot);
      return {
        attribution: toWireAttribution(certified),
        collected: kept?.collected.map(toWireCollected) ?? [],
        scannedBlock: kept?.scanned ?? 0n,
      };
    },

    async *watchAttributions({ fromSlot }, call) {
      const { config, clock } = host;
      const attributed = host.watch(STAGE, fromSlot, call.signal);
      for await (const beat of withHeartbeat(attributed, config, clock, call.signal)) {
        yield beat.type === "heartbeat"
          ? { event: { case: "heartbeatSlot", value: beat.slot } }
          : { event: { case: "attribution", value: toWireAttribution(beat.item) } };
      }
    },

    async getBalance({ recipient: wire }) {
      const recipient = recipientOf(wire);
      const { ledger, postedLedger, next } = host.state();
      const owed = lifetimeTotal(ledger, recipient);
      const attested = postedLedger === undefined ? 0n : lifetimeTotal(postedLedger, recipient);
      const claimed = await claimedBy(recipient);
      return {
        owedWei: weiToWire(owed),
        attestedWei: weiToWire(attested),
        claimedWei: claimed === undefined ? new Uint8Array() : weiToWire(claimed),
        nextSlot: next,
      };
    },

    async getClaim({ recipient: wire }) {
      const recipient = recipientOf(wire);
      const claim = claims.of(host.state(), recipient);
      if (claim === undefined) throw fault("NOTHING_ATTESTED", `nothing for ${toHex(recipient)}`);
      return {
        lifetimeTotalWei: weiToWire(claim.lifetimeTotal),
        proof: [...claim.proof],
        batch: claim.batch,
        root: claim.root,
        settlement: host.config.tally.content.settlement,
      };
    },

    async getAttestation({ batch: number }) {
      const { batches } = host.state();
      const batch = number === 0n ? batches.at(-1) : batches.find(({ attestation }) => attestation.batch === number);
      if (batch === undefined) throw fault("BATCH_UNKNOWN", number === 0n ? "no batch yet" : `batch ${number}`);
      return { attestation: attestationOf(batch) };
    },

    async *watchAttestations({ fromBatch }, call) {
      const { config, clock } = host;
      for await (const beat of withHeartbeat(changes(fromBatch, call.signal), config, clock, call.signal)) {
        yield beat.type === "heartbeat"
          ? { event: { case: "heartbeatSlot", value: beat.slot } }
          : { event: { case: "attestation", value: attestationOf(beat.item) } };
      }
    },
  });
}
