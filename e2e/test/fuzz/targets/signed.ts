/** What is signed or sealed: a changed one must not verify or open as anything else than what it was made from. */

import { sealBid } from "@lattice/offer/client/bid.ts";
import { parseBid } from "@lattice/offer/core/bid.ts";
import { encode, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { CERTIFIED_CHECKPOINT, checkCheckpoint } from "@lattice/organism/committee/checkpoint.ts";
import { encodeEntry } from "@lattice/organism/committee/entry.ts";
import { proveEntries, verifyFraudProof } from "@lattice/organism/committee/fraud.ts";
import { HEAD_STATEMENT, signHead, verifyHead } from "@lattice/organism/committee/heads.ts";
import { CERTIFIED, OUTCOME, verifyCertificate } from "@lattice/organism/committee/outcome.ts";
import { checkRoster } from "@lattice/organism/committee/roster.ts";
import { checkJwt, signTicket } from "@lattice/organism/committee/ticket.ts";
import { blsPublicKey, blsSign, blsVerify } from "@lattice/organism/crypto/bls.ts";
import { openFrom, sealTo } from "@lattice/organism/crypto/box.ts";
import { generateSigningKey, signTagged, verifyTagged } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { openIbe, openWithSigma, sealIbe } from "@lattice/organism/crypto/ibe.ts";
import { identityShare } from "@lattice/organism/crypto/identity-key.ts";
import { addressOfSecret, recoverAddress } from "@lattice/organism/crypto/secp256k1.ts";
import { generateSecret, publicOf } from "@lattice/organism/crypto/shamir.ts";
import { agreementKey } from "@lattice/organism/crypto/x25519.ts";
import { committeeId, encodeConfig, latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { KitProblem, parseConfigHex } from "@lattice/organism/node/kit.ts";
import { CommitteeDriver } from "@lattice/organism/testing/committee-driver.ts";
import { createMachine as createRelay } from "@lattice/relay/core/machine.ts";
import { ENVELOPE, proofOf, sealEnvelope, verifyProof } from "@lattice/zipnet/core/envelope.ts";
import { dealCommittee } from "../../../../services/organism/test/test-lattice.ts";
import { draw } from "../layout.ts";
import { Finding, type Target, type Verdict } from "../target.ts";
import { byteTarget, sampleOf } from "./bytes.ts";

const TEXT = new TextEncoder();

/** What verifies must be what was signed, byte by byte. */
function onlyItself(holds: boolean, same: boolean, what: string): Verdict {
  if (holds && !same) throw new Finding(`${what}: a changed one verifies`);
  return holds ? "accepted" : "refused";
}

function relayDriver() {
  const dealt = dealCommittee(3);
  const driver = new CommitteeDriver({
    config: dealt.config,
    roster: dealt.rosters.relay,
    secrets: dealt.secrets,
    createMachine: () => createRelay(dealt.config),
    replicas: 1,
  });
  driver.joinAll();
  return { ...dealt, driver };
}

const certificate = byteTarget("signed/certificate", async (dice) => {
  await initCrypto();
  const { config, driver } = relayDriver();
  const { certificateKey } = config.relay.policy;
  const samples = Array.from({ length: 6 }, () => {
    const bytes = draw(OUTCOME, dice);
    if (bytes === undefined) throw new Error("no outcome");
    const outcome = tryDecode(OUTCOME, bytes);
    if (outcome === undefined) throw new Error("no outcome");
    return sampleOf(CERTIFIED, encode(CERTIFIED, driver.certify(outcome)));
  });
  return {
    samples,
    judge(bytes, sample) {
      const certified = tryDecode(CERTIFIED, bytes);
      const original = tryDecode(CERTIFIED, sample);
      if (certified === undefined || original === undefined) return "refused";
      const { outcome, signature } = certified;
      // Who signed is informative; the rest is not.
      const same = samples.some(({ bytes: known }) => {
        const other = tryDecode(CERTIFIED, known);
        return other !== undefined && equalBytes(encode(OUTCOME, other.outcome), encode(OUTCOME, outcome));
      });
      return onlyItself(verifyCertificate(certificateKey, outcome, signature), same, "certificate");
    },
  };
});

const roster = byteTarget("signed/roster", async () => {
  await initCrypto();
  const { config, certifiedRoster } = dealCommittee(3);
  const original = encode(OUTCOME, certifiedRoster.outcome);
  return {
    samples: [sampleOf(CERTIFIED, encode(CERTIFIED, certifiedRoster))],
    judge(bytes) {
      const certified = tryDecode(CERTIFIED, bytes);
      if (certified === undefined) return "refused";
      const holds = "roster" in checkRoster(config, "relay", certified);
      return onlyItself(holds, equalBytes(encode(OUTCOME, certified.outcome), original), "roster");
    },
  };
});

const checkpoint = byteTarget("signed/checkpoint", async () => {
  await initCrypto();
  const { config, driver } = relayDriver();
  const certified = driver.certifyCheckpoint({
    version: 3,
    committee: committeeId(config, "relay"),
    generation: 0n,
    epoch: 0n,
    rules: 1,
    position: 64n,
    head: new Uint8Array(32).fill(3),
    stateHash: new Uint8Array(32).fill(4),
    stateBytes: 4096,
    guestHash: new Uint8Array(32).fill(5),
    guestBytes: 2048,
  } as Parameters<typeof driver.certifyCheckpoint>[0]);
  const original = encode(CERTIFIED_CHECKPOINT, certified);
  return {
    samples: [sampleOf(CERTIFIED_CHECKPOINT, original)],
    judge(bytes) {
      const given = tryDecode(CERTIFIED_CHECKPOINT, bytes);
      if (given === undefined) return "refused";
      const same = equalBytes(encode(CERTIFIED_CHECKPOINT, { ...given, signers: certified.signers }), original);
      return onlyItself(checkCheckpoint(config, "relay", given) === undefined, same, "checkpoint");
    },
  };
});

const fraudProof = byteTarget("signed/fraud-proof", async () => {
  await initCrypto();
  const { config, certifiedRoster, driver } = relayDriver();
  const author = driver.author(1);
  const join = driver.log[1];
  if (join === undefined) throw new Error("no join");
  const one = author.sign({ type: "skip", stage: "accepted", toSlot: 1n }, "ctl", { aside: true });
  const other = author.sign({ type: "skip", stage: "accepted", toSlot: 2n }, "ctl", { aside: true });
  const proof = proveEntries(certifiedRoster, join, one, other);
  const verdict = verifyFraudProof(config, "relay", proof);
  if ("refusal" in verdict) throw new Error(`the sample is refused: ${verdict.refusal.reason}`);
  const proven = toHex(verdict.fraud.memberKey);
  return {
    samples: [{ bytes: proof }],
    judge(bytes) {
      const judged = verifyFraudProof(config, "relay", bytes);
      if ("refusal" in judged) return "refused";
      const { member, memberKey } = judged.fraud;
      if (member !== 1 || toHex(memberKey) !== proven) throw new Finding("a changed proof accuses somebody else");
      return "accepted";
    },
  };
});

const config = byteTarget("signed/config", async () => {
  await initCrypto();
  const dealt = dealCommittee(4).config;
  const original = encodeConfig(dealt);
  return {
    samples: [{ bytes: original }],
    judge(bytes) {
      try {
        const parsed = parseConfigHex(toHex(bytes));
        if (!equalBytes(encodeConfig(parsed), bytes)) throw new Finding("parses, and re-encodes to other bytes");
        const same = equalBytes(bytes, original);
        if (equalBytes(latticeId(parsed), latticeId(dealt)) !== same) throw new Finding("another config, the same id");
        return "accepted";
      } catch (error) {
        if (error instanceof KitProblem) return "refused";
        throw error;
      }
    },
  };
});

const ticket = byteTarget("signed/ticket", () => {
  const issuer = generateSigningKey(new Uint8Array(32).fill(1));
  const [audience, subject] = [new Uint8Array(32).fill(2), new Uint8Array(32).fill(3)];
  const original = signTicket(issuer, { audience, subject, expSlot: 900n });
  return {
    samples: [{ bytes: original }],
    judge(bytes) {
      const admission = checkJwt(issuer.publicKey, bytes, { audience, subject, slot: 5n, throwAway: false });
      if (admission.admitted && admission.expSlot !== 900n) throw new Finding("admitted for another time");
      // The header and the claims are inside the signature, so nothing of it may change at all.
      return onlyItself(admission.admitted, equalBytes(bytes, original), "ticket");
    },
  };
});

const head = byteTarget("signed/head", () => {
  const { rosters, secrets, config: dealt } = dealCommittee(3);
  const key = generateSigningKey(secrets[1]?.memberKey ?? new Uint8Array(32));
  const signed = signHead(key, {
    version: 1,
    committee: committeeId(dealt, "relay"),
    generation: 0n,
    member: 1,
    position: 7n,
    head: new Uint8Array(32).fill(6),
    newest: 9n,
  });
  const statement = encode(HEAD_STATEMENT, signed.statement);
  const original = encodeEntry(statement, signed.signature);
  return {
    samples: [{ bytes: original, fields: [{ kind: "raw", at: 4 + statement.length, length: 64 }] }],
    judge(bytes) {
      const given = tryDecode(HEAD_STATEMENT, bytes.subarray(4, Math.max(4, bytes.length - 64)));
      if (given === undefined || bytes.length < 68) return "refused";
      const holds = verifyHead(rosters.relay, { statement: given, signature: bytes.slice(-64) });
      return onlyItself(holds, equalBytes(encode(HEAD_STATEMENT, given), statement), "head");
    },
  };
});

const envelope = byteTarget("signed/envelope", (dice) => {
  const key = generateSigningKey(new Uint8Array(32).fill(8));
  const subject = {
    committee: new Uint8Array(32).fill(1),
    rho: 3n,
    headerDigest: new Uint8Array(32).fill(2),
    client: key.publicKey,
  };
  const commitments = [1, 2, 3].map((byte) => new Uint8Array(32).fill(byte));
  const original = encode(ENVELOPE, sealEnvelope(key, subject, dice.bytes(600), commitments));
  return {
    samples: [sampleOf(ENVELOPE, original)],
    judge(bytes) {
      const given = tryDecode(ENVELOPE, bytes);
      if (given === undefined) return "refused";
      const { rho, headerDigest, client } = given;
      const holds = verifyProof(key.publicKey, { ...subject, rho, headerDigest, client }, proofOf(given));
      return onlyItself(holds, equalBytes(bytes, original), "envelope");
    },
  };
});

const bid = byteTarget("signed/bid", async (dice) => {
  await initCrypto();
  const { config: dealt } = dealCommittee(3);
  const random = (count: number): Uint8Array => dice.bytes(count);
  const searcherKey = new Uint8Array(32).fill(7);
  const { bid: original } = sealBid({
    config: dealt,
    sealingKey: publicOf(generateSecret(random)),
    epoch: 0n,
    slot: 5n,
    class: "seen",
    nonce: 1n,
    searcherKey,
    escrowAccount: addressOfSecret(searcherKey),
    amountWei: 5n,
    capWei: 8n,
    references: [],
    bundle: {
      version: 1,
      items: [{ type: "transaction", raw: dice.bytes(90) }],
      mayRevert: [],
      refundRecipient: undefined,
    },
    random,
  } as Parameters<typeof sealBid>[0]);
  if (parseBid(original) === undefined) throw new Error("the sample is no bid");
  return {
    samples: [{ bytes: original, fields: [{ kind: "raw", at: original.length - 65, length: 65 }] }],
    judge(bytes) {
      const parsed = parseBid(bytes);
      if (parsed === undefined) return "refused";
      const signer = recoverAddress(parsed.id, parsed.signature);
      const holds = signer !== undefined && equalBytes(signer, addressOfSecret(searcherKey));
      return onlyItself(holds, equalBytes(bytes, original), "bid");
    },
  };
});

const ed25519 = byteTarget("signed/ed25519", () => {
  const key = generateSigningKey(new Uint8Array(32).fill(9));
  const message = TEXT.encode("a message of some bytes");
  const signature = signTagged(key, "fuzz", message);
  const original = new Uint8Array([...key.publicKey, ...signature, ...message]);
  return {
    samples: [
      {
        bytes: original,
        fields: [
          { kind: "raw", at: 0, length: 32 },
          { kind: "raw", at: 32, length: 64 },
        ],
      },
    ],
    judge: (bytes) =>
      onlyItself(
        verifyTagged(bytes.subarray(0, 32), "fuzz", bytes.subarray(96), bytes.subarray(32, 96)),
        equalBytes(bytes, original),
        "Ed25519",
      ),
  };
});

const bls = byteTarget("signed/bls", async (dice) => {
  await initCrypto();
  const secret = generateSecret((count) => dice.bytes(count));
  const message = new Uint8Array(32).fill(7);
  const original = new Uint8Array([...blsPublicKey(secret), ...blsSign(secret, message), ...message]);
  return {
    samples: [
      {
        bytes: original,
        fields: [
          { kind: "raw", at: 0, length: 48 },
          { kind: "raw", at: 48, length: 96 },
        ],
      },
    ],
    judge: (bytes) =>
      onlyItself(
        blsVerify(bytes.slice(0, 48), bytes.slice(144), bytes.slice(48, 144)),
        equalBytes(bytes, original),
        "BLS",
      ),
  };
});

const box = byteTarget("sealed/box", (dice) => {
  const key = agreementKey(new Uint8Array(32).fill(5));
  const [info, aad] = [TEXT.encode("fuzz"), TEXT.encode("aad")];
  const original = sealTo(key.publicKey, info, aad, dice.bytes(200), (count) => dice.bytes(count));
  return {
    samples: [{ bytes: original, fields: [{ kind: "raw", at: 0, length: 32 }] }],
    judge: (bytes) => onlyItself(openFrom(key, info, aad, bytes) !== undefined, equalBytes(bytes, original), "box"),
  };
});

const sealed = byteTarget("sealed/message", async (dice) => {
  await initCrypto();
  const random = (count: number): Uint8Array => dice.bytes(count);
  const secret = generateSecret(random);
  const sealingKey = publicOf(secret);
  const identity = new Uint8Array(32).fill(4);
  const identityKey = identityShare(secret, "unseal-slot", identity, random);
  const aad = new Uint8Array(48).fill(6);
  const suite = "unseal-slot" as const;
  const content = TEXT.encode("what is inside");
  const original = sealIbe({ suite, sealingKey, identity, aad, content, random });
  const right = openIbe({ identityKey, aad, sealed: original });
  if (!("sigma" in right)) throw new Error("the sample does not open");
  return {
    samples: [
      {
        bytes: original,
        fields: [
          { kind: "u8", at: 0, length: 1 },
          { kind: "raw", at: 1, length: 48 },
          { kind: "raw", at: 49, length: 32 },
        ],
      },
    ],
    judge(bytes) {
      const opened = openIbe({ identityKey, aad, sealed: bytes });
      const shared = openWithSigma({ suite, sealingKey, identity, aad, sigma: right.sigma, sealed: bytes });
      if ("content" in opened !== "content" in shared) throw new Finding("opens with the key or with σ, not with both");
      return onlyItself("content" in opened, equalBytes(bytes, original), "sealed message");
    },
  };
});

export function signedTargets(): Target[] {
  return [certificate, roster, checkpoint, fraudProof, config, ticket, head, envelope, bid, ed25519, bls, box, sealed];
}
