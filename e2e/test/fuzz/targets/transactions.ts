/**
 * Raw transactions, before three parsers that must agree: what the gateway takes over, atelier executes and tally
 * refunds is one transaction of one sender, in its only encoding. And the Engine API's payloads.
 */
import { TransactionDecoder } from "@lattice/atelier/evm/transaction.ts";
import { MalformedPayload, parseEnvelope, parsePayloadStatus } from "@lattice/deploy/chain/execution-payload.ts";
import { checkTransaction } from "@lattice/gateway/transaction-check.ts";
import { equalBytes, fromHex } from "@lattice/organism/codec/codec.ts";
import { Fault } from "@lattice/organism/fault.ts";
import { enginePayload } from "@lattice/organism/outcomes/execution-payload.ts";
import { sentTransaction } from "@lattice/tally/core/transaction-sender.ts";
import { privateKeyToAccount } from "viem/accounts";
import { CHAIN_ID, devnetGenesis } from "../../../../services/atelier/test/devnet.ts";
import { candidateBody } from "../../../../services/relay/test/fixture.ts";
import { mutateJson } from "../mutate.ts";
import { Finding, type Target } from "../target.ts";
import { rlpLayout } from "../wire-layout.ts";
import { byteTarget } from "./bytes.ts";

async function signedSamples(): Promise<Uint8Array[]> {
  const account = privateKeyToAccount(`0x${"5a".repeat(32)}`);
  const to = `0x${"11".repeat(20)}` as const;
  const chainId = Number(CHAIN_ID);
  const common = { chainId, to, nonce: 3, gas: 90_000n, value: 7n, data: "0x1234567800" as const };
  const accessList = [{ address: to, storageKeys: [`0x${"22".repeat(32)}` as const] }];
  const raws = await Promise.all([
    account.signTransaction({
      ...common,
      type: "eip1559",
      maxFeePerGas: 10n ** 10n,
      maxPriorityFeePerGas: 1n,
      accessList,
    }),
    account.signTransaction({ ...common, type: "legacy", gasPrice: 10n ** 10n }),
    account.signTransaction({ ...common, type: "eip2930", gasPrice: 10n ** 10n, accessList }),
    account.signTransaction({ type: "eip1559", chainId, gas: 21_000n, nonce: 0, maxFeePerGas: 1n }),
  ]);
  return raws.map(fromHex);
}

const transactions = byteTarget("transaction", async () => {
  const decoder = new TransactionDecoder(devnetGenesis().common);
  const raws = await signedSamples();
  const samples = raws.map((bytes) => ({ bytes, fields: rlpLayout(bytes) }));
  for (const raw of raws) await checkTransaction(raw, CHAIN_ID);
  return {
    samples,
    async judge(bytes) {
      const decoding = decoder.decode(bytes);
      const sent = sentTransaction(bytes);
      const facts = "transaction" in decoding ? decoding.transaction.facts : undefined;
      if (facts !== undefined) {
        if (sent === undefined) throw new Finding("atelier executes what tally cannot attribute");
        if (!equalBytes(facts.sender, sent.sender)) throw new Finding("atelier and tally recover other senders");
        if (!equalBytes(facts.hash, sent.hash)) throw new Finding("atelier and tally have other hashes");
      }
      try {
        const { sender, nonce } = await checkTransaction(bytes, CHAIN_ID);
        if (facts === undefined) throw new Finding("the gateway takes over what atelier does not execute");
        if (!equalBytes(sender, facts.sender)) throw new Finding("gateway and atelier recover other senders");
        if (nonce !== facts.nonce) throw new Finding("gateway and atelier read other nonces");
        return "accepted";
      } catch (error) {
        if (error instanceof Fault) return "refused";
        throw error;
      }
    },
  };
});

/** The types of a JSON value that came from `JSON.parse`. */
type Json = Parameters<typeof mutateJson>[1];

const payloads: Target = {
  name: "execution-payload",
  async open() {
    const { executionPayload, executionRequests } = enginePayload(candidateBody());
    const samples: readonly Json[] = [
      JSON.parse(JSON.stringify({ executionPayload, executionRequests })) as Json,
      { status: "VALID", latestValidHash: `0x${"ab".repeat(32)}`, validationError: null },
    ];
    let last = "";
    return {
      run(dice) {
        const at = dice.below(samples.length);
        let value = samples[at] ?? null;
        for (let more = 1 + dice.below(3); more > 0; more--) value = mutateJson(dice, value);
        last = JSON.stringify(value);
        try {
          if (at === 0) {
            const parsed = parseEnvelope(value);
            // What is accepted is passed on as it was parsed: it must be what stood there, in whichever case of hex.
            const stood = (value as { executionPayload: Record<string, Json> }).executionPayload;
            for (const [name, part] of Object.entries(parsed.executionPayload)) {
              if (JSON.stringify(stood[name]).toLowerCase() !== JSON.stringify(part).toLowerCase())
                throw new Finding(`${name} changed its meaning`);
            }
          } else parsePayloadStatus(value);
          return "accepted";
        } catch (error) {
          if (error instanceof MalformedPayload) return "refused";
          throw error;
        }
      },
      lastInput: () => last,
    };
  },
};

export function transactionTargets(): Target[] {
  return [transactions, payloads];
}
