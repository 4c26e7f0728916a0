/** A config whose every field has a value of its own: for golden vectors and for tests that change one at a time. */
import type { LatticeConfig } from "../src/identity/lattice-config.ts";

const bytes = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value);

const policy = (key: number): LatticeConfig["relay"]["policy"] => ({
  membersMin: 4,
  membersMax: 7,
  faults: "third",
  certificateKey: bytes(48, key),
});

export function goldenConfig(): LatticeConfig {
  return {
    version: 1,
    name: "acme.ethereum.mainnet",
    chainId: 1n,
    genesisMs: 1_790_000_000_000,
    slotMs: 12_000,
    pipelineDepth: 3,
    throwAway: false,
    keys: "ceremony",
    zipnet: {
      policy: policy(0x11),
      acl: [{ kind: "jwt", parameters: bytes(32, 0x21) }],
      content: {
        cells: 1024,
        cellBytes: 1024,
        segments: 16,
        mode: "one-shot",
        clientsMax: 10_000,
        participantsMin: 5,
        operators: [0x31, 0x32, 0x33, 0x34].map((value) => bytes(32, value)),
        roundOpenMs: 9000,
        roundCloseMs: 2000,
        patienceMs: 400,
        blameWindowSlots: 8,
      },
    },
    unseal: {
      policy: policy(0x12),
      acl: [],
      content: { threshold: 3, sharesMs: 1800, poolMs: 1500, patienceMs: 300, gapSlots: 6, exposure: "members" },
    },
    offer: {
      policy: policy(0x13),
      acl: [
        { kind: "jwt", parameters: bytes(32, 0x22) },
        { kind: "software", parameters: new Uint8Array() },
      ],
      content: {
        threshold: 3,
        blindCloseMs: 2000,
        seenCloseMs: 1100,
        patienceMs: 200,
        rule: "second-price",
        reserveWei: 1_000_000_000_000n,
        blindWinnersMax: 2,
        seenWinnersMax: 16,
        bidsPerSearcherMax: 4,
        bundleBytes: 16_384,
        settlement: bytes(20, 0x41),
      },
    },
    atelier: {
      policy: policy(0x14),
      acl: [{ kind: "tdx", parameters: bytes(48, 0x23) }],
      content: {
        builderKey: bytes(48, 0x42),
        candidateMs: 600,
        patienceMs: 150,
        blindGasBps: 3000,
        carrySlots: 4,
        settlement: bytes(20, 0x41),
      },
    },
    relay: {
      policy: policy(0x15),
      acl: [],
      content: { policy: "l1-mev-boost", sequencers: [bytes(20, 0x43)], acceptedAfterMs: 8000, patienceMs: 250 },
    },
    tally: {
      policy: policy(0x16),
      acl: [],
      content: {
        threshold: 3,
        settlement: bytes(20, 0x41),
        refundShareBps: 9000,
        attestEverySlots: 32,
        finalityDepth: 64,
        patienceMs: 1000,
      },
    },
  };
}
