/**
 * Opening sealed messages: the opening pool against the npm package tlock-js (scheme `pedersen-bls-unchained`, keys
 * in G2), both over their own ciphertexts of 32 bytes, interleaved in one run; medians per message.
 * Run: `node services/organism/src/crypto/ibe.bench.ts`.
 */
import { createHash, randomBytes } from "node:crypto";
import { availableParallelism } from "node:os";
import { performance } from "node:perf_hooks";
import tlock from "tlock-js/crypto/ibe.js";
import { initCrypto } from "./engine.ts";
import { IDENTITY_KEY_BYTES, identityShare, openIbe, openWithSigma, sealIbe, verifyIdentityKey } from "./ibe.ts";
import { createOpeningPool, type SigmaTask } from "./opening-pool.ts";
import { NOBLE_PAIRINGS } from "./pairing-noble.ts";
import { generateSecret, publicOf } from "./shamir.ts";

export interface IbeBench {
  readonly name: "ibe";
  readonly messages: number;
  readonly workers: number;
  readonly repeats: number;
  readonly peer: string;
  /** Median over the repeats, in ms per message. */
  readonly rows: readonly { readonly what: string; readonly msPerMessage: number }[];
  /** tlock-js's time per message over the pool's; above 1 the pool is faster. */
  readonly ratio: number;
  /** The same with one thread on either side. */
  readonly ratioOneThread: number;
}

const CONTENT_BYTES = 32;
const random = (count: number): Uint8Array => new Uint8Array(randomBytes(count));

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** `peerMessages` of tlock-js's are timed a repeat: it takes some 30 times as long for each. */
export async function bench(
  options: {
    readonly messages?: number;
    readonly peerMessages?: number;
    readonly repeats?: number;
    readonly workers?: number;
  } = {},
): Promise<IbeBench> {
  const { messages = 256, peerMessages = 32, repeats = 5, workers = Math.min(availableParallelism(), 8) } = options;
  await initCrypto();
  const secret = generateSecret(random);
  const sealingKey = publicOf(secret);

  const suite = "unseal-slot";
  const identity = random(32);
  const identityKey = identityShare(secret, suite, identity, random);
  if (!verifyIdentityKey(sealingKey, suite, identity, identityKey)) throw new Error("the identity key is wrong");
  const aad = random(48);
  const sealed = Array.from({ length: messages }, () =>
    sealIbe({ suite, sealingKey, identity, aad, content: random(CONTENT_BYTES), random }),
  );
  const hints = sealed.map((message): SigmaTask => {
    const opened = openIbe({ identityKey, aad, sealed: message });
    if (!("sigma" in opened)) throw new Error("a message did not open");
    return { suite, sealingKey, identity, aad, sealed: message, sigma: opened.sigma };
  });

  // drand: the key of a round is the signature of sha256(round).
  const round = createHash("sha256").update(Buffer.from("000000000000002a", "hex")).digest();
  const beacon = identityShare(secret, "drand-beacon", round, random);
  if (beacon.length !== IDENTITY_KEY_BYTES) throw new Error("the beacon is wrong");
  const theirs: Awaited<ReturnType<typeof tlock.encryptOnG1>>[] = [];
  for (let i = 0; i < peerMessages; i++) {
    theirs.push(await tlock.encryptOnG1(sealingKey, round, random(CONTENT_BYTES)));
  }

  const pool = createOpeningPool({ workers });
  const tasks = sealed.map((message) => ({ identityKey, aad, sealed: message }));
  const all = (results: readonly object[]): void => {
    if (results.some((result) => "failure" in result)) throw new Error("a message did not open");
  };
  const runs: { readonly what: string; readonly count: number; readonly work: () => Promise<void> }[] = [
    {
      what: `tlock-js 0.9.0, one thread`,
      count: peerMessages,
      work: async () => {
        for (const ciphertext of theirs) await tlock.decryptOnG1(beacon, ciphertext);
      },
    },
    {
      what: `pool, ${workers} workers`,
      count: messages,
      work: async () => all(await pool.open(tasks)),
    },
    {
      what: "fast engine, one thread",
      count: messages,
      work: async () => all(tasks.map((task) => openIbe(task))),
    },
    {
      what: "fast engine with published sigma, one thread",
      count: messages,
      work: async () => all(hints.map((task) => openWithSigma(task))),
    },
    {
      what: "reference engine, one thread",
      count: Math.min(messages, peerMessages),
      work: async () => all(tasks.slice(0, peerMessages).map((task) => openIbe(task, NOBLE_PAIRINGS))),
    },
  ];
  const times = runs.map((): number[] => []);
  try {
    all(await pool.open(tasks.slice(0, 8 * workers)));
    for (let repeat = 0; repeat < repeats; repeat++) {
      for (const [index, { work, count }] of runs.entries()) {
        const start = performance.now();
        await work();
        times[index]?.push((performance.now() - start) / count);
      }
    }
  } finally {
    await pool.close();
  }
  const rows = runs.map(({ what }, index) => ({ what, msPerMessage: median(times[index] ?? []) }));
  const [peer, ours, oneThread] = rows.map(({ msPerMessage }) => msPerMessage);
  if (peer === undefined || ours === undefined || oneThread === undefined) throw new Error("no rows");
  return {
    name: "ibe",
    messages,
    workers,
    repeats,
    peer: "tlock-js 0.9.0 decryptOnG1 on its own ciphertexts, one thread",
    rows,
    ratio: peer / ours,
    ratioOneThread: peer / oneThread,
  };
}

if (import.meta.main) console.log(JSON.stringify(await bench(), undefined, 2));
