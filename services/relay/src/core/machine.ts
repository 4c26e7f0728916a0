/**
 * relay's machine: records, per slot, what became of the candidate. It only records: no outcome of relay makes a
 * block valid or takes one back.
 */
import { equalBytes, tryDecode } from "@lattice/organism/codec/codec.ts";
import { type LatticeConfig, slotStartMs } from "@lattice/organism/identity/lattice-config.ts";
import { type Machine, refuse } from "@lattice/organism/machine.ts";
import { CANDIDATE } from "@lattice/organism/outcomes/atelier.ts";
import { RELAY_STAGES } from "@lattice/organism/outcomes/relay.ts";
import { decisionOf, judgeFact } from "./acknowledgement.ts";
import { COMMAND, STATE } from "./codec.ts";
import { ACKNOWLEDGEMENT_TOPIC, type RelayCommand, type RelayDuty, type RelayState } from "./types.ts";

/** Slots past their start for which a member still asks the sequencer. */
const SLOTS_ASKED = 8n;

export function createMachine(config: LatticeConfig): Machine<RelayState, RelayCommand, RelayDuty> {
  if (config.relay.content.policy !== "l2-sequencer") {
    throw new Error(`relay policy ${config.relay.content.policy} is not built yet; l2-sequencer is`);
  }
  const { acceptedAfterMs, patienceMs } = config.relay.content;
  return {
    organism: "relay",
    stages: RELAY_STAGES,
    upstream: [
      { organism: "atelier", stage: "candidate" },
      { organism: "tally", stage: "attribution" },
    ],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ shipped: new Map() }),

    apply(state, event, context) {
      switch (event.type) {
        case "command": {
          const { slot, blockHash } = event.command;
          const candidate = context.observed("atelier", "candidate", slot);
          const certified = candidate?.kind === "result" ? tryDecode(CANDIDATE, candidate.commitment) : undefined;
          if (certified === undefined) return refuse("NO_CANDIDATE", `slot ${slot} has no certified candidate`);
          if (!equalBytes(certified.blockHash, blockHash))
            return refuse("OTHER_BLOCK", `slot ${slot} has another candidate`);
          const shipped = state.shipped.get(slot) ?? { blockHash, members: [] };
          if (shipped.members.includes(event.author)) return refuse("DUPLICATE", `member ${event.author} has said so`);
          shipped.members.push(event.author);
          state.shipped.set(slot, shipped);
          return undefined;
        }
        case "agreed": {
          if (event.topic !== ACKNOWLEDGEMENT_TOPIC) return refuse("MALFORMED", `no topic ${event.topic}`);
          const judged = judgeFact(config, event.slot, event.fact);
          if (judged === undefined) return refuse("BAD_ACKNOWLEDGEMENT", "not a pinned sequencer's word on this slot");
          if (!context.open("accepted", event.slot)) return refuse("SLOT_DECIDED", `slot ${event.slot} is decided`);
          const candidate = context.observed("atelier", "candidate", event.slot);
          context.decide(decisionOf(event.slot, candidate, judged.signed, judged.sequencer));
          return undefined;
        }
        case "observed":
          // Without a candidate there is nothing to hand over, and nothing to wait for.
          if (event.outcome.stage === "candidate" && event.outcome.kind === "skipped") {
            context.decide({
              stage: "accepted",
              slot: event.outcome.slot,
              kind: "skipped",
              commitment: new Uint8Array(),
            });
          }
          return undefined;
        case "closed":
        case "skipped":
          return undefined;
      }
    },

    duties(_state, view) {
      const duties: RelayDuty[] = [];
      const first = view.floor("accepted");
      for (let slot = first; slot < first + SLOTS_ASKED && slotStartMs(config, slot) <= view.nowMs; slot++) {
        const known = view.observed("atelier", "candidate", slot) !== undefined;
        const open =
          view.outcome("accepted", slot) === undefined && view.said(ACKNOWLEDGEMENT_TOPIC, slot) === undefined;
        if (known && open) duties.push({ type: "acknowledge", key: `acknowledge/${slot}`, slot, promise: false });
      }
      return duties;
    },

    skipAtMs: (_stage, slot) => slotStartMs(config, slot) + acceptedAfterMs + 2 * patienceMs,
    hasInput: () => false,
    forGuests: (state, below) => ({ shipped: new Map([...state.shipped].filter(([slot]) => slot >= below)) }),
    collapse(state, slot) {
      for (const key of [...state.shipped.keys()]) if (key < slot) state.shipped.delete(key);
    },
  };
}
