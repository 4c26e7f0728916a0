/** What an account is owed, asked of tally and checked before it is passed on: signatures, root and proof. */
import { equalBytes } from "@lattice/organism/codec/codec.ts";
import { committeeId, type LatticeConfig } from "@lattice/organism/identity/lattice-config.ts";
import { latticeRoot } from "@lattice/organism/identity/unique-id.ts";
import type { Rosters } from "@lattice/organism/node/kit.ts";
import type { Endpoints } from "@lattice/organism/node/outcome-follower.ts";
import { type Client, connectAny } from "@lattice/organism/rpc/client.ts";
import { TallyService, type Attestation as WireAttestation } from "@lattice/proto/lattice/tally/v1/tally_service_pb.ts";
import {
  type Attestation,
  attestationDigest,
  judgeSignatures,
  settlementDomain,
} from "@lattice/tally/core/attestation.ts";
import { verifyMerkleProof } from "@lattice/tally/core/merkle.ts";
import { gatewayFault } from "./faults.ts";

export interface RefundsOptions {
  readonly config: LatticeConfig;
  readonly rosters: Pick<Rosters, "tally">;
  readonly endpoints: () => Pick<Endpoints, "tally">;
}

/** Arguments of the settlement contract's `claim`. */
export interface Claim {
  /** 32 bytes big-endian. */
  readonly lifetimeWei: Uint8Array;
  readonly proof: Uint8Array[];
  readonly batch: bigint;
}

const wei = (bytes: Uint8Array | undefined): bigint =>
  bytes === undefined || bytes.length === 0 ? 0n : BigInt(`0x${Buffer.from(bytes).toString("hex")}`);

export class Refunds {
  readonly #options: RefundsOptions;
  #tally: { readonly addresses: string; readonly client: Client<typeof TallyService> } | undefined;

  constructor(options: RefundsOptions) {
    this.#options = options;
  }

  /** @throws Fault BAD_CLAIM, or what tally says (NOTHING_ATTESTED when nothing is owed) */
  async of(recipient: Uint8Array): Promise<Claim> {
    const tally = this.#connection();
    const { lifetimeTotalWei, proof, batch, root } = await tally.getClaim({ recipient });
    const { attestation } = await tally.getAttestation({ batch });
    const attestedRoot = attestation === undefined ? undefined : this.#verifiedRoot(attestation);
    if (attestation?.batch !== batch || attestedRoot === undefined || !equalBytes(attestedRoot, root))
      throw gatewayFault("BAD_CLAIM", `batch ${batch} is not attested by the committee`);
    if (!verifyMerkleProof(attestedRoot, { recipient, lifetimeTotal: wei(lifetimeTotalWei) }, proof))
      throw gatewayFault("BAD_CLAIM", `the proof does not lead to the root of batch ${batch}`);
    return { lifetimeWei: lifetimeTotalWei, proof, batch };
  }

  /** The root that t members of tally's certified roster have signed; undefined when they have not. */
  #verifiedRoot(wire: WireAttestation): Uint8Array | undefined {
    const { config, rosters } = this.#options;
    const { settlement, threshold } = config.tally.content;
    const attestation: Attestation = {
      latticeId: latticeRoot(config.name, config.chainId),
      batch: wire.batch,
      lastBlockNumber: wire.lastBlock?.number ?? 0n,
      lastBlockHash: wire.lastBlock?.hash ?? new Uint8Array(),
      root: wire.root,
      total: wei(wire.totalWei),
      charges: wire.charges.map(({ bidId, amount }) => ({
        bidId,
        account: amount?.account ?? new Uint8Array(),
        wei: wei(amount?.wei),
      })),
      poster: wire.reimbursement?.account ?? new Uint8Array(20),
      posterReimbursement: wei(wire.reimbursement?.wei),
    };
    const signers = rosters.tally.members.flatMap(({ signer }) => (signer === undefined ? [] : [signer]));
    try {
      const digest = attestationDigest(settlementDomain(config.chainId, settlement), attestation);
      return judgeSignatures(digest, wire.signatures, { signers, threshold }).ok ? wire.root : undefined;
    } catch {
      // Fields of a wrong length: nothing that anybody signed.
      return undefined;
    }
  }

  /** To wherever tally's members are now. */
  #connection(): Client<typeof TallyService> {
    const { config, endpoints } = this.#options;
    const { tally } = endpoints();
    const addresses = tally.join();
    if (this.#tally?.addresses !== addresses) {
      this.#tally?.client.close();
      const client = connectAny(TallyService, tally, { committee: committeeId(config, "tally") });
      this.#tally = { addresses, client };
    }
    return this.#tally.client;
  }

  close(): void {
    this.#tally?.client.close();
  }
}
