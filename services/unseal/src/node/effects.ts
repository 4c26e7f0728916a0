/** Carrying out unseal's duties: freeze record, NoBlind, the member's share, and opening a slot. */
import { encode } from "@lattice/organism/codec/codec.ts";
import { sealingThreshold } from "@lattice/organism/committee/roster.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { createOpeningPool, type OpeningPool } from "@lattice/organism/crypto/opening-pool.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { assertNever } from "@lattice/organism/fault.ts";
import type { Submission } from "@lattice/organism/machine.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { unsealIdentity } from "@lattice/organism/outcomes/unseal.ts";
import type { MemberHost } from "@lattice/organism/service.ts";
import { messageAad } from "../client/seal.ts";
import type { Settings } from "../config.ts";
import { NO_BLIND_FACT, OPENED_FACT } from "../core/codec.ts";
import { FAULTS } from "../core/faults.ts";
import { assembleRound, distinctMessages, type OpenedMessage } from "../core/round.ts";
import { NO_BLIND_TOPIC, OPENED_TOPIC, type UnsealCommand, type UnsealDuty, type UnsealState } from "../core/types.ts";
import { Broadcasts } from "./clients.ts";
import { type Opening, Openings } from "./openings.ts";
import { makeSealedShare, SlotKeys } from "./slot-key.ts";

export type UnsealHost = MemberHost<UnsealState, UnsealCommand, Settings>;

/** Every cell of the largest vector, twice: a slot is never refused for its size. */
const QUEUE_MAX = 2 * 65_536;

export class Effects {
  readonly #host: UnsealHost;
  readonly #broadcasts: Broadcasts;
  readonly #slotKeys: SlotKeys;
  readonly #pool: OpeningPool;
  readonly #reported = new Set<string>();
  #openings: Openings | undefined;

  /** @throws KitProblem when the key file or the roster is not unseal's */
  constructor(host: UnsealHost) {
    const { roster, self, secrets, config, settings } = host;
    const complete = roster.members.every(({ secondShare }) => secondShare !== undefined);
    if (roster.sealingKey === undefined || !complete) throw new KitProblem("roster of unseal: holds no sealing key");
    this.#host = host;
    this.#broadcasts = new Broadcasts(host);
    this.#pool = createOpeningPool({ workers: settings.UNSEAL_OPENING_WORKERS, queueMax: QUEUE_MAX });
    this.#slotKeys = new SlotKeys({
      rosterAt: (slot) => host.rosterAt(slot),
      self,
      thresholdOf: (roster) => sealingThreshold(config, "unseal", roster),
      boxKey: agreementKey(secrets.boxKey),
      onBadShare: (slot, member, problem) => {
        const reason = "SHARE_UNUSABLE";
        host.log.error(FAULTS[reason].meaning, { reason, slot, author: member, problem });
        host.meters.count("lattice_unseal_unusable_shares_total", 1, { author: member.toString(), problem });
      },
    });
  }

  /** Openings that may be served; undefined before `start`. */
  get openings(): Openings | undefined {
    return this.#openings;
  }

  async start(): Promise<void> {
    await initCrypto();
    this.#pool.warm();
    const { directory, settings } = this.#host;
    this.#openings = await Openings.open(directory, settings.UNSEAL_OPENINGS_KEEP_SLOTS);
  }

  stop(): Promise<void> {
    return this.#pool.close();
  }

  async execute(duty: UnsealDuty): Promise<Submission<UnsealCommand> | undefined> {
    const { slot } = duty;
    const { self, random } = this.#host;
    const roster = this.#host.rosterAt(slot);
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
        const freeze = this.#host.state().slots.get(slot)?.freeze;
        const sealingShare = this.#host.sharesAt(slot)?.secondShare;
        if (freeze === undefined || sealingShare === undefined) return undefined;
        this.#broadcasts.prefetch(slot, freeze.broadcast);
        const sealed = makeSealedShare({ roster, self, sealingShare, random }, slot);
        return { type: "machine", command: { type: "share", slot, epoch, sealed } };
      }
      case "open":
        return this.#open(slot);
      default:
        return assertNever(duty);
    }
  }

  async #open(slot: bigint): Promise<Submission<UnsealCommand> | undefined> {
    const host = this.#host;
    const startedMs = host.clock.nowMs();
    const freeze = host.state().slots.get(slot)?.freeze;
    if (freeze === undefined || this.#openings === undefined) return undefined;
    const body = await this.#broadcasts.messages(slot, freeze.broadcast);
    const slotKey = this.#slotKeys.find(slot, new Map(host.state().slots.get(slot)?.shares));
    if (slotKey === undefined) return undefined;

    const { messages, repeats } = distinctMessages(body);
    const identity = unsealIdentity(host.committee, host.rosterAt(slot).epoch, slot);
    const results = await this.#pool.open(
      messages.map(({ messageId, sealed }) => ({
        identityKey: slotKey,
        aad: messageAad(identity, messageId),
        sealed,
      })),
    );
    const opened = messages.map((message, index): OpenedMessage => {
      const result = results[index];
      return { message, content: result !== undefined && "content" in result ? result.content : undefined };
    });
    const round = assembleRound(freeze, slotKey, opened, repeats);
    const counted = new Set(round.cells);
    const openings = messages.flatMap(({ messageId, cell }, index): Opening[] => {
      const result = results[index];
      if (!counted.has(cell) || result === undefined || !("sigma" in result)) return [];
      return [{ messageId, cell, sigma: result.sigma }];
    });
    await this.#openings.keep(slot, openings);
    if (round.body !== undefined) await host.bodies.put(slot, round.body);
    host.meters.record("lattice_unseal_open_seconds", (host.clock.nowMs() - startedMs) / 1000);
    host.meters.count("lattice_unseal_messages_opened_total", round.commitment.messages.length);
    host.meters.count("lattice_unseal_messages_failed_total", round.commitment.failures.length);
    return { type: "saw", topic: OPENED_TOPIC, slot, fact: encode(OPENED_FACT, round.fact) };
  }

  /** After each decision: publishes σ of what has landed, forgets what is over, reports frauds. */
  decided(slot: bigint): void {
    const { log, meters } = this.#host;
    const { slots, retainedFrom } = this.#host.state();
    this.#broadcasts.forget(slot + 1n);
    this.#slotKeys.forget(retainedFrom);
    if (this.#reported.size > 4096) this.#reported.clear();
    for (const [where, { evidence }] of slots) {
      for (const { member, kind, position } of evidence) {
        const key = `${where}/${member}/${kind}`;
        if (this.#reported.has(key)) continue;
        this.#reported.add(key);
        const reason = kind === "share-conflict" ? "SHARE_CONFLICT" : "SHARE_BEFORE_FREEZE";
        log.error(FAULTS[reason].meaning, { reason, slot: where, author: member, position });
        meters.count("lattice_unseal_frauds_total", 1, { author: member.toString(), kind });
      }
    }
    const landed = new Map([...slots].map(([where, record]) => [where, [...record.landed]]));
    this.#openings
      ?.sweep(retainedFrom, (where) => landed.get(where))
      .catch((error: unknown) => log.error("the openings cannot be kept", errorFields(error)));
  }
}
