/** unseal in a simulation: real shares, slot keys and rounds; no worker threads, and σ is kept nowhere. */
import { encode } from "@lattice/organism/codec/codec.ts";
import { sealingThreshold } from "@lattice/organism/committee/roster.ts";
import { openIbe } from "@lattice/organism/crypto/ibe.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { unsealIdentity } from "@lattice/organism/outcomes/unseal.ts";
import type { OrganismDefinition } from "@lattice/organism/service.ts";
import { messageAad } from "@lattice/unseal/client/seal.ts";
import type { Settings } from "@lattice/unseal/config.ts";
import { NO_BLIND_FACT, OPENED_FACT } from "@lattice/unseal/core/codec.ts";
import { createMachine, STAGE } from "@lattice/unseal/core/machine.ts";
import { assembleRound, distinctMessages, type OpenedMessage } from "@lattice/unseal/core/round.ts";
import {
  NO_BLIND_TOPIC,
  OPENED_TOPIC,
  type UnsealCommand,
  type UnsealDuty,
  type UnsealState,
} from "@lattice/unseal/core/types.ts";
import { definition as real } from "@lattice/unseal/definition.ts";
import { Broadcasts } from "@lattice/unseal/node/clients.ts";
import type { UnsealHost } from "@lattice/unseal/node/effects.ts";
import { makeSealedShare, SlotKeys } from "@lattice/unseal/node/slot-key.ts";

export function simUnseal(): OrganismDefinition<UnsealState, UnsealCommand, UnsealDuty, Settings> {
  return {
    organism: "unseal",
    settings: real.settings,
    createMachine,
    createNode(host) {
      const effects = new SimUnseal(host);
      return {
        execute: (duty) => effects.execute(duty),
        services: [],
        bodies: { [STAGE]: { readers: ["atelier"], publicWhenLanded: false } },
        decided: ({ slot }) => effects.decided(slot),
      };
    },
  };
}

class SimUnseal {
  readonly #host: UnsealHost;
  readonly #broadcasts: Broadcasts;
  readonly #slotKeys: SlotKeys;

  constructor(host: UnsealHost) {
    this.#host = host;
    this.#broadcasts = new Broadcasts(host);
    this.#slotKeys = new SlotKeys({
      rosterAt: (slot) => host.rosterAt(slot),
      self: host.self,
      thresholdOf: (roster) => sealingThreshold(host.config, "unseal", roster),
      boxKey: agreementKey(host.secrets.boxKey),
      onBadShare: () => undefined,
    });
  }

  async execute(duty: UnsealDuty): Promise<Submission<UnsealCommand> | undefined> {
    const { slot } = duty;
    const { roster, self, random, secrets } = this.#host;
    const { epoch } = roster;
    switch (duty.kind) {
      case "freeze":
        this.#broadcasts.prefetch(slot, duty.broadcast);
        return {
          type: "machine",
          command: { type: "freeze", slot, epoch, broadcast: duty.broadcast, blind: duty.blind },
        };
      case "no-blind":
        return { type: "saw", topic: NO_BLIND_TOPIC, slot, fact: NO_BLIND_FACT };
      case "share": {
        const sealingShare = secrets.secondShare ?? new Uint8Array();
        const sealed = makeSealedShare({ roster, self, sealingShare, random }, slot);
        return { type: "machine", command: { type: "share", slot, epoch, sealed } };
      }
      case "open":
        return this.#open(slot);
    }
  }

  async #open(slot: bigint): Promise<Submission<UnsealCommand> | undefined> {
    const host = this.#host;
    const freeze = host.state().slots.get(slot)?.freeze;
    if (freeze === undefined) return undefined;
    const body = await this.#broadcasts.messages(slot, freeze.broadcast);
    const slotKey = this.#slotKeys.find(slot, new Map(host.state().slots.get(slot)?.shares));
    if (slotKey === undefined) return undefined;
    const { messages, repeats } = distinctMessages(body);
    const identity = unsealIdentity(host.committee, host.roster.epoch, slot);
    const opened = messages.map((message): OpenedMessage => {
      const aad = messageAad(identity, message.messageId);
      const result = openIbe({ identityKey: slotKey, aad, sealed: message.sealed });
      return { message, content: "content" in result ? result.content : undefined };
    });
    const round = assembleRound(freeze, slotKey, opened, repeats);
    if (round.body !== undefined) await host.bodies.put(slot, round.body);
    return { type: "saw", topic: OPENED_TOPIC, slot, fact: encode(OPENED_FACT, round.fact) };
  }

  decided(slot: bigint): void {
    this.#broadcasts.forget(slot + 1n);
    this.#slotKeys.forget(this.#host.state().retainedFrom);
  }
}
