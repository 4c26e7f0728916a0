import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { compareBytes } from "@lattice/organism/codec/codec.ts";
import { addressOfSecret, keccak256, signDigest } from "@lattice/organism/crypto/secp256k1.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import { latticeRoot } from "@lattice/organism/identity/unique-id.ts";
import { defineService } from "@lattice/organism/rpc/define.ts";
import { type RunningServer, startServer } from "@lattice/organism/rpc/server.ts";
import {
  type AttestationSchema,
  type GetClaimResponseSchema,
  TallyService,
} from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import { type Attestation, attestationDigest, settlementDomain } from "@lattice/tally/core/attestation.ts";
import { uintWord } from "@lattice/tally/core/eip712.ts";
import { merkleProof, merkleRoot, merkleTree } from "@lattice/tally/core/merkle.ts";
import { dealtLattice, LogBook } from "../test/fixture.ts";
import { Refunds } from "./refunds.ts";

const { config, rosters } = dealtLattice();
const NO_METERS = { count: () => undefined, gauge: () => undefined, record: () => undefined };
const signers = [0, 1, 2]
  .map((index) => keccak256(new Uint8Array([index])))
  .sort((a, b) => compareBytes(addressOfSecret(a), addressOfSecret(b)));
const STRANGER = keccak256(new Uint8Array([99]));

const OWED = { recipient: new Uint8Array(20).fill(1), lifetimeTotal: 700n };
const tree = merkleTree([OWED, { recipient: new Uint8Array(20).fill(2), lifetimeTotal: 300n }]);
const ATTESTATION: Attestation = {
  latticeId: latticeRoot(config.name, config.chainId),
  batch: 4n,
  lastBlockNumber: 12n,
  lastBlockHash: new Uint8Array(32).fill(3),
  root: merkleRoot(tree),
  total: 1000n,
  charges: [{ bidId: new Uint8Array(32).fill(5), account: new Uint8Array(20).fill(6), wei: 7n }],
  poster: new Uint8Array(20),
  posterReimbursement: 0n,
};

/** As tally's members answer. */
function wire(attestation: Attestation, keys: readonly Uint8Array[]): MessageInitShape<typeof AttestationSchema> {
  const digest = attestationDigest(settlementDomain(config.chainId, config.tally.content.settlement), attestation);
  return {
    latticeId: attestation.latticeId,
    batch: attestation.batch,
    lastBlock: { number: attestation.lastBlockNumber, hash: attestation.lastBlockHash },
    root: attestation.root,
    totalWei: uintWord(attestation.total),
    charges: attestation.charges.map(({ bidId, account, wei }) => ({ bidId, amount: { account, wei: uintWord(wei) } })),
    reimbursement: { account: attestation.poster, wei: uintWord(attestation.posterReimbursement) },
    signatures: keys.map((key) => signDigest(key, digest)),
  };
}

describe("refunds", () => {
  const two = signers.slice(0, 2);
  let server: RunningServer;
  let refunds: Refunds;
  let claim: MessageInitShape<typeof GetClaimResponseSchema>;
  let attestation: MessageInitShape<typeof AttestationSchema>;

  before(async () => {
    const none = async (): Promise<never> => {
      throw new Error("not asked for");
    };
    server = await startServer({
      address: "127.0.0.1:0",
      services: [
        defineService(TallyService, {
          getAttribution: none,
          getBalance: none,
          async *watchAttributions() {},
          async *watchAttestations() {},
          getClaim: async () => claim,
          getAttestation: async () => ({ attestation }),
        }),
      ],
      committee: committeeId(config, "tally"),
      domain: "tally",
      log: new LogBook(),
      meters: NO_METERS,
    });
    const members = rosters.tally.members.map((member, index) => ({
      ...member,
      signer: addressOfSecret(signers[index] ?? STRANGER),
    }));
    refunds = new Refunds({
      config,
      rosters: { tally: { ...rosters.tally, members } },
      endpoints: () => ({ tally: [`127.0.0.1:${server.port}`] }),
    });
  });
  after(() => {
    refunds.close();
    server.close();
  });
  beforeEach(() => {
    claim = {
      lifetimeTotalWei: uintWord(OWED.lifetimeTotal),
      proof: merkleProof(tree, OWED) ?? [],
      batch: 4n,
      root: ATTESTATION.root,
    };
    attestation = wire(ATTESTATION, two);
  });

  test("what t members have signed is passed on", async () => {
    const { lifetimeWei, proof, batch } = await refunds.of(OWED.recipient);
    assert.deepEqual(Buffer.from(lifetimeWei), Buffer.from(uintWord(700n)));
    assert.equal(proof.length, 1);
    assert.equal(batch, 4n);
  });

  test("anything else is not", async () => {
    const refused = async (what: string): Promise<void> => {
      await assert.rejects(refunds.of(OWED.recipient), { reason: "BAD_CLAIM" }, what);
    };
    claim = { ...claim, lifetimeTotalWei: uintWord(701n) };
    await refused("another amount");
    claim = { ...claim, lifetimeTotalWei: uintWord(700n), proof: [] };
    await refused("no proof");
    claim = { ...claim, proof: merkleProof(tree, OWED) ?? [], batch: 5n };
    await refused("another batch");
    claim = { ...claim, batch: 4n };
    await assert.rejects(refunds.of(new Uint8Array(20).fill(9)), { reason: "BAD_CLAIM" });
    for (const [what, given] of Object.entries({
      "one signature": wire(ATTESTATION, two.slice(0, 1)),
      "the same twice": wire(ATTESTATION, [two[0] ?? STRANGER, two[0] ?? STRANGER]),
      "a stranger's": wire(ATTESTATION, [two[0] ?? STRANGER, STRANGER]),
      "signed over another total": { ...wire(ATTESTATION, two), totalWei: uintWord(1n) },
      "another lattice's": wire({ ...ATTESTATION, latticeId: new Uint8Array(32) }, two),
      "of a wrong length": { ...wire(ATTESTATION, two), root: new Uint8Array(31) },
    })) {
      attestation = given;
      await refused(what);
    }
    attestation = wire(ATTESTATION, two);
    assert.equal((await refunds.of(OWED.recipient)).batch, 4n);
  });
});
