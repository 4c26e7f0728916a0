/** A machine that writes down every event it is given, and does as its commands say: for tests of what a machine is shown. */
import { bytes, fixed, list, oneOf, struct, text, toHex, u64, union } from "../src/codec/codec.ts";
import { type Duty, type Machine, type MachineEvent, refuse } from "../src/machine.ts";

const COMMAND = union({
  /** Something happened; refused when the text is "refuse". */
  note: struct({ text: text(64) }),
  /** Puts an input on the table, for closes that wait for it. */
  input: struct({ hash: fixed(32) }),
  decide: struct({
    stage: text(32),
    slot: u64,
    kind: oneOf("result", "empty"),
    commitment: bytes(64),
  }),
});
export type ProbeCommand =
  | { readonly type: "note"; readonly text: string }
  | { readonly type: "input"; readonly hash: Uint8Array }
  | {
      readonly type: "decide";
      readonly stage: string;
      readonly slot: bigint;
      readonly kind: "result" | "empty";
      readonly commitment: Uint8Array;
    };

const STATE = struct({ events: list(text(512), 100_000), inputs: list(fixed(32), 10_000), collapsed: u64 });
export interface ProbeState {
  events: string[];
  inputs: Uint8Array[];
  collapsed: bigint;
}

export const PROBE_STAGES = ["first", "second"] as const;

function describe(event: MachineEvent<ProbeCommand>): string {
  switch (event.type) {
    case "command":
      return `command ${event.author} ${event.command.type}`;
    case "closed":
      return `closed ${event.stage} ${event.slot}`;
    case "agreed":
      return `agreed ${event.topic} ${event.slot} ${toHex(event.fact)}`;
    case "observed":
      return `observed ${event.organism} ${event.outcome.stage} ${event.outcome.slot}`;
    case "skipped":
      return `skipped ${event.stage} ${event.slot}`;
  }
}

export function probeMachine(): Machine<ProbeState, ProbeCommand, Duty> {
  return {
    organism: "relay",
    stages: PROBE_STAGES,
    upstream: [{ organism: "atelier", stage: "candidate" }],
    state: STATE,
    command: COMMAND,
    genesis: () => ({ events: [], inputs: [], collapsed: 0n }),
    apply(state, event, context) {
      if (event.type === "command" && event.command.type === "note" && event.command.text === "refuse") {
        return refuse("MALFORMED", "as asked");
      }
      let suffix = "";
      if (event.type === "command" && event.command.type === "input") state.inputs.push(event.command.hash);
      if (event.type === "command" && event.command.type === "note") suffix = ` ${event.command.text}`;
      if (event.type === "command" && event.command.type === "decide") {
        const { stage, slot, kind, commitment } = event.command;
        suffix = ` ${stage} ${slot} ${context.decide({ stage, slot, kind, commitment })}`;
      }
      state.events.push(`${context.position}@${context.nowMs} ${describe(event)}${suffix}`);
      return undefined;
    },
    duties: () => [],
    skipAtMs: () => undefined,
    hasInput: (state, _stage, _slot, hash) => state.inputs.some((each) => toHex(each) === toHex(hash)),
    forGuests: (state) => state,
    collapse(state, slot) {
      state.collapsed = slot;
    },
  };
}
