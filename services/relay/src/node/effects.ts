/** relay's node half: serves the sequencer, and says in the log what the sequencer said. */
import { encode, equalBytes } from "@lattice/organism/codec/codec.ts";
import { faultsOf } from "@lattice/organism/fault.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import type { MemberHost, OrganismNode } from "@lattice/organism/service.ts";
import type { RelaySettings } from "../config.ts";
import { acknowledgingSequencer } from "../core/acknowledgement.ts";
import { SIGNED_ACKNOWLEDGEMENT, type SignedAcknowledgement } from "../core/codec.ts";
import { FAULTS } from "../core/faults.ts";
import { ACKNOWLEDGEMENT_TOPIC, type RelayCommand, type RelayDuty, type RelayState } from "../core/types.ts";
import { fetchAcknowledgement } from "./clients.ts";
import { EngineEndpoint } from "./engine-endpoint.ts";
import { relayService } from "./service.ts";

/** How long one attempt waits for the sequencer's push before it asks. */
const PUSH_PATIENCE_MS = 400;
const KEPT = 64;

export function createNode(
  host: MemberHost<RelayState, RelayCommand, RelaySettings>,
): OrganismNode<RelayCommand, RelayDuty> {
  const fault = faultsOf("relay", FAULTS);
  const heard = new Map<bigint, SignedAcknowledgement>();
  const waiting = new Map<bigint, () => void>();

  /** @throws Fault BAD_ACKNOWLEDGEMENT */
  const hear = (signed: SignedAcknowledgement): void => {
    const { slot } = signed.acknowledgement;
    if (acknowledgingSequencer(host.config, slot, signed) === undefined) throw fault("BAD_ACKNOWLEDGEMENT");
    const known = heard.get(slot);
    if (known !== undefined && !equalBytes(known.acknowledgement.blockHash, signed.acknowledgement.blockHash)) {
      host.log.warn("the sequencer acknowledges a second block for one slot; the first stands", { slot });
      return;
    }
    heard.set(slot, signed);
    for (const old of heard.keys()) if (heard.size > KEPT) heard.delete(old);
    waiting.get(slot)?.();
    host.wake();
  };

  const pushed = (slot: bigint): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(done, PUSH_PATIENCE_MS);
      function done(): void {
        clearTimeout(timer);
        waiting.delete(slot);
        resolve();
      }
      waiting.set(slot, done);
    });

  const engine = new EngineEndpoint(host, { hear });

  return {
    async execute(duty): Promise<Submission<RelayCommand> | undefined> {
      const { slot } = duty;
      if (!heard.has(slot)) await pushed(slot);
      let signed = heard.get(slot);
      if (signed === undefined) {
        signed = await fetchAcknowledgement(host.settings.RELAY_SEQUENCER_URL, slot);
        if (signed !== undefined) {
          try {
            hear(signed);
          } catch (error) {
            host.log.warn("the sequencer's answer is not its own", { slot, ...errorFields(error) });
            return undefined;
          }
        }
      }
      if (signed === undefined) return undefined;
      return { type: "saw", topic: ACKNOWLEDGEMENT_TOPIC, slot, fact: encode(SIGNED_ACKNOWLEDGEMENT, signed) };
    },
    services: [relayService(host)],
    bodies: {},
    start: () => engine.start(),
    stop: () => engine.stop(),
  };
}
