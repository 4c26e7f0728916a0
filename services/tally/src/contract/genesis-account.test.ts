import assert from "node:assert/strict";
import test from "node:test";
import { fromHex } from "@lattice/organism/codec/codec.ts";
import { clients, startAnvil, WITHOUT_ANVIL } from "../../test/anvil.ts";
import { testKey } from "../../test/keys.ts";
import {
  ATTESTERS,
  account,
  Bench,
  CHAIN_ID,
  ETHER,
  LATTICE_ID,
  PARAMETERS,
  signatures,
} from "../../test/settlement-bench.ts";
import { attestationDigest, settlementDomain } from "../core/attestation.ts";
import { domainSeparator } from "../core/eip712.ts";
import { merkleRoot, merkleTree } from "../core/merkle.ts";
import { settlementArtifact } from "./artifact.ts";
import { type GenesisAccount, settlementGenesisAccount } from "./genesis-account.ts";
import { SETTLEMENT_ABI } from "./settlement-abi.ts";
import { attestationArgument, type Hex, hex } from "./settlement-call.ts";

const ADDRESS = new Uint8Array(20).fill(0x5e);
const anyone = testKey("anyone");

function genesis(chainId: bigint, alloc: Record<string, object>): object {
  return {
    config: { chainId: Number(chainId) },
    gasLimit: "0x1c9c380",
    difficulty: "0x0",
    timestamp: "0x0",
    alloc: { [hex(anyone.address)]: { balance: `0x${(100n * ETHER).toString(16)}` }, ...alloc },
  };
}

test("deployed and computed are the same account", { skip: WITHOUT_ANVIL }, async () => {
  const bench = await Bench.start();
  try {
    const computed = await settlementGenesisAccount({
      ...PARAMETERS,
      chainId: CHAIN_ID,
      address: fromHex(bench.settlement),
    });
    assert.equal(computed.code, await bench.clients.reader.getCode({ address: bench.settlement }));
    for (const [slot, value] of Object.entries(computed.storage)) {
      assert.equal(await bench.clients.reader.getStorageAt({ address: bench.settlement, slot: slot as Hex }), value);
    }
    // Same storage root: nothing is missing, nothing is too much.
    const deployed = await bench.clients.reader.getProof({ address: bench.settlement, storageKeys: [] });
    const copy = hex(ADDRESS);
    await bench.clients.tester.setCode({ address: copy, bytecode: computed.code });
    for (const [index, value] of Object.entries(computed.storage)) {
      await bench.clients.tester.setStorageAt({ address: copy, index: index as Hex, value });
    }
    const rebuilt = await bench.clients.reader.getProof({ address: copy, storageKeys: [] });
    assert.equal(rebuilt.storageHash, deployed.storageHash);
    assert.equal(rebuilt.codeHash, deployed.codeHash);
  } finally {
    await bench.chain.stop();
  }
});

test("a chain that starts with the contract in its genesis settles", { skip: WITHOUT_ANVIL }, async () => {
  const chainId = 80_085n;
  const placed = await settlementGenesisAccount({ ...PARAMETERS, chainId, address: ADDRESS });
  const chain = await startAnvil(genesis(chainId, { [hex(ADDRESS)]: { balance: "0x0", ...placed } }));
  try {
    const { reader, sender } = clients(chain.url, Number(chainId));
    const at = { address: hex(ADDRESS), abi: SETTLEMENT_ABI } as const;
    assert.equal(await reader.getChainId(), Number(chainId));
    assert.equal(await reader.readContract({ ...at, functionName: "latticeId" }), hex(LATTICE_ID));
    const [signers, threshold] = await reader.readContract({ ...at, functionName: "signersOf", args: [0] });
    assert.deepEqual(
      signers.map((signer) => signer.toLowerCase()),
      ATTESTERS.map((key) => hex(key.address)),
    );
    assert.equal(threshold, 3n);
    const domain = settlementDomain(chainId, ADDRESS);
    assert.equal(await reader.readContract({ ...at, functionName: "domainSeparator" }), hex(domainSeparator(domain)));

    const from = { account: account(anyone), ...at };
    const paid = await sender.writeContract({
      ...from,
      functionName: "payBid",
      args: [1n, hex(LATTICE_ID)],
      value: 10n,
    });
    await reader.waitForTransactionReceipt({ hash: paid });
    const recipient = testKey("recipient").address;
    const tree = merkleTree([{ recipient, lifetimeTotal: 10n }]);
    const block = await reader.getBlock();
    const attestation = {
      latticeId: LATTICE_ID,
      batch: 1n,
      lastBlockNumber: block.number,
      lastBlockHash: fromHex(block.hash),
      root: merkleRoot(tree),
      total: 10n,
      charges: [],
      poster: new Uint8Array(20),
      posterReimbursement: 0n,
    };
    const signed = signatures(attestationDigest(domain, attestation), ATTESTERS.slice(1));
    const posted = await sender.writeContract({
      ...from,
      functionName: "post",
      args: [attestationArgument(attestation), signed],
    });
    assert.equal((await reader.waitForTransactionReceipt({ hash: posted })).status, "success");
    const claimed = await sender.writeContract({ ...from, functionName: "claim", args: [hex(recipient), 10n, []] });
    assert.equal((await reader.waitForTransactionReceipt({ hash: claimed })).status, "success");
    assert.equal(await reader.getBalance({ address: hex(recipient) }), 10n);
  } finally {
    await chain.stop();
  }
});

test("the account depends on everything it is bound to, and on nothing else", async () => {
  const base = { ...PARAMETERS, chainId: CHAIN_ID, address: ADDRESS };
  const account = await settlementGenesisAccount(base);
  assert.deepEqual(await settlementGenesisAccount({ ...base, signers: [...base.signers].reverse() }), account);
  assert.equal(account.code.length, settlementArtifact().deployedBytecode.length);
  const differs = async (over: Partial<typeof base>, what: keyof GenesisAccount): Promise<void> => {
    assert.notDeepEqual((await settlementGenesisAccount({ ...base, ...over }))[what], account[what]);
  };
  await differs({ chainId: 1n }, "code");
  await differs({ address: new Uint8Array(20).fill(1) }, "code");
  await differs({ latticeId: new Uint8Array(32) }, "code");
  await differs({ withdrawalDelay: 6n }, "code");
  await differs({ threshold: 4 }, "storage");
  await differs({ signers: base.signers.slice(1), threshold: 3 }, "storage");
});

test("arguments the constructor refuses are refused here", async () => {
  const base = { ...PARAMETERS, chainId: CHAIN_ID, address: ADDRESS };
  for (const wrong of [
    { threshold: 2 },
    { threshold: 5 },
    { signers: [], threshold: 0 },
    { signers: [...base.signers, base.signers[0] ?? ADDRESS] },
    { signers: [...base.signers, new Uint8Array(20)] },
  ]) {
    await assert.rejects(settlementGenesisAccount({ ...base, ...wrong }), /settlement constructor: revert/);
  }
});
