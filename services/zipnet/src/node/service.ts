/** `lattice.zipnet.v1.ZipnetService`: decode → check → log → answer. No handler logs who called. */
import { encode, toHex } from "@lattice/organism/codec/codec.ts";
import { checkTickets } from "@lattice/organism/committee/ticket.ts";
import { slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { toWireOutcome } from "@lattice/organism/node/committee-wire.ts";
import { BROADCAST_BODY } from "@lattice/organism/outcomes/zipnet.ts";
import { defineService, type GrpcService } from "@lattice/organism/rpc/define.ts";
import { withHeartbeat } from "@lattice/organism/rpc/heartbeat.ts";
import { ZipnetService } from "@lattice/proto/lattice/zipnet/v1/zipnet_service_pb.ts";
import { fault, faultOf } from "../core/faults.ts";
import { checkRegistration } from "../core/registration.ts";
import { BROADCAST_STAGE, HEADER } from "../core/types.ts";
import type { Effects, Host } from "./effects.ts";
import { fromWireAggregate, fromWireRegistration, toWireClient, toWireServerKey } from "./wire.ts";

export function zipnetService(host: Host, effects: Effects): GrpcService {
  const { config, committee, clock } = host;
  const servers = config.zipnet.content.operators.length;

  /** The body of a broadcast: from the store, or from state while it is there. */
  async function bodyOf(slot: bigint, bodyHash: Uint8Array | undefined): Promise<Uint8Array> {
    if (bodyHash === undefined) return new Uint8Array();
    const messages = host.state().broadcasts.get(slot);
    if (messages !== undefined) return encode(BROADCAST_BODY, messages);
    return (await host.bodies.get(bodyHash)) ?? new Uint8Array();
  }

  return defineService(ZipnetService, {
    async getServers() {
      const keys = [...host.state().servers.values()].sort((a, b) => a.member - b.member);
      return { servers: keys.map(toWireServerKey) };
    },

    async register(request) {
      const registration = fromWireRegistration(request);
      // Judged here first, so that strangers cannot fill the log; `apply` judges again.
      const wrong = checkRegistration(committee, servers, registration);
      if (wrong !== undefined) throw faultOf(wrong);
      const admission = checkTickets(config.zipnet.acl, registration.tickets, {
        audience: committee,
        subject: registration.envelopeKey,
        slot: slotAt(config, clock.nowMs()),
        throwAway: config.throwAway,
      });
      if (!admission.admitted) throw faultOf(admission.refusal);
      const refusal = await host.submit({ type: "machine", command: { type: "register", registration } });
      if (refusal !== undefined && refusal.reason !== "DUPLICATE") throw faultOf(refusal);
      const client = host.state().clients.get(toHex(registration.envelopeKey));
      if (client === undefined) throw fault("NOT_REGISTERED", "the registration has expired meanwhile");
      const { id, fromRho, afterSlot, expSlot } = client;
      return { clientId: id, fromRho, afterSlot, expiresSlot: expSlot };
    },

    async getRoster({ slot }) {
      const state = host.state();
      const round = state.rounds.get(slot);
      if (round === undefined) throw fault("NO_ROUND", `no round is open for slot ${slot}`);
      const byId = new Map([...state.clients.values()].map((client) => [toHex(client.id), client]));
      const clients = round.roster.map((id) => {
        const client = byId.get(toHex(id));
        if (client === undefined) throw fault("NO_ROUND", "a client of the round is no longer registered");
        return toWireClient(client);
      });
      return { rho: round.rho, clients };
    },

    async *watchRounds({ fromSlot }, { signal }) {
      for await (const beat of withHeartbeat(host.watch(HEADER, fromSlot, signal), config, clock, signal)) {
        if (beat.type === "heartbeat") yield { event: { case: "heartbeatSlot", value: beat.slot } };
        else yield { event: { case: "header", value: toWireOutcome(beat.item) } };
      }
    },

    async *watchBroadcasts({ fromSlot }, { signal }) {
      for await (const beat of withHeartbeat(host.watch(BROADCAST_STAGE, fromSlot, signal), config, clock, signal)) {
        if (beat.type === "heartbeat") {
          yield { event: { case: "heartbeatSlot", value: beat.slot } };
          continue;
        }
        const { outcome } = beat.item;
        const body = await bodyOf(outcome.slot, outcome.bodyHash);
        yield { event: { case: "broadcast", value: { outcome: toWireOutcome(beat.item), body } } };
      }
    },

    async submitAggregate({ aggregate }) {
      const refusal = await effects.forward(fromWireAggregate(aggregate));
      if (refusal !== undefined && refusal.reason !== "DUPLICATE") throw faultOf(refusal);
      return { known: refusal !== undefined };
    },
  });
}
