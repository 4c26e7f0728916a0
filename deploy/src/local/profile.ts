/** The shape of a throw-away local lattice: sizes and times as architecture §6 gives them for an L2 of slot length S. */
import type { LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import type { Organism } from "@lattice/organism/identity/organisms.ts";

/** What the dealer contributes: keys and addresses that exist only after it has dealt. */
export interface DealtKeys {
  readonly certificateKeys: Readonly<Record<Organism, Uint8Array>>;
  readonly builderKey: Uint8Array;
  readonly operators: readonly Uint8Array[];
  /** Ed25519 key of the admission tickets' issuer. */
  readonly issuer: Uint8Array;
  readonly sequencer: Uint8Array;
}

export interface ProfileOptions {
  readonly name: string;
  readonly chainId: bigint;
  readonly genesisMs: number;
  readonly slotMs: number;
  readonly members: number;
  /** Where the group keys come from; dealt unless said otherwise. */
  readonly keys?: LatticeConfig["keys"];
  /** Address of the settlement contract, which stands in the chain's genesis. */
  readonly settlement: Uint8Array;
}

/** Share of the slot before its start, in ms. */
const before = (slotMs: number, share: number): number => Math.round(slotMs * share);

export function localConfig(options: ProfileOptions, keys: DealtKeys): LatticeConfig {
  const { slotMs, members, settlement } = options;
  const threshold = Math.floor(members / 2) + 1;
  const patienceMs = before(slotMs, 0.15);
  const policy = (organism: Organism): LatticeConfig[Organism]["policy"] => ({
    membersMin: members,
    membersMax: Math.max(members, 7),
    faults: "none",
    certificateKey: keys.certificateKeys[organism],
  });
  const mock = [{ kind: "mock", parameters: new Uint8Array() } as const];
  const tickets = [{ kind: "jwt", parameters: keys.issuer } as const];
  const roundCloseMs = before(slotMs, 0.55);
  return {
    version: 1,
    name: options.name,
    chainId: options.chainId,
    genesisMs: options.genesisMs,
    slotMs,
    pipelineDepth: 4,
    throwAway: true,
    keys: options.keys ?? "dealer",
    zipnet: {
      policy: policy("zipnet"),
      acl: tickets,
      content: {
        cells: 128,
        cellBytes: 2048,
        segments: 4,
        mode: "one-shot",
        clientsMax: 4096,
        participantsMin: 2,
        operators: [...keys.operators],
        roundOpenMs: roundCloseMs + before(slotMs, 0.9),
        roundCloseMs,
        patienceMs,
        blameWindowSlots: 8,
      },
    },
    unseal: {
      policy: policy("unseal"),
      acl: mock,
      content: {
        threshold,
        sharesMs: before(slotMs, 0.45),
        poolMs: before(slotMs, 0.35),
        patienceMs,
        gapSlots: 16,
        exposure: "members",
      },
    },
    offer: {
      policy: policy("offer"),
      acl: tickets,
      content: {
        threshold,
        blindCloseMs: before(slotMs, 0.5),
        seenCloseMs: before(slotMs, 0.25),
        patienceMs,
        rule: "first-price",
        reserveWei: 1n,
        blindWinnersMax: 1,
        seenWinnersMax: 4,
        bidsPerSearcherMax: 8,
        bundleBytes: 4096,
        settlement,
      },
    },
    atelier: {
      policy: policy("atelier"),
      acl: mock,
      content: {
        builderKey: keys.builderKey,
        candidateMs: before(slotMs, 0.1),
        patienceMs,
        blindGasBps: 3000,
        carrySlots: 5,
        settlement,
      },
    },
    relay: {
      policy: policy("relay"),
      acl: mock,
      content: {
        policy: "l2-sequencer",
        sequencers: [keys.sequencer],
        acceptedAfterMs: before(slotMs, 0.6),
        patienceMs,
      },
    },
    tally: {
      policy: policy("tally"),
      acl: mock,
      // A claim is proven under the root that it meets: posted, seen at finality, sealed and landed takes about five slots.
      content: { threshold, settlement, refundShareBps: 9000, attestEverySlots: 8, finalityDepth: 2, patienceMs },
    },
  };
}
