import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { blake3 as noble } from "@noble/hashes/blake3.js";
import { goldenConfig } from "../../test/golden-config.ts";
import { CodecError, fromHex, toHex } from "../codec/codec.ts";
import {
  aclFingerprint,
  ConfigProblems,
  committeeId,
  configFromHex,
  configProblems,
  configToHex,
  contentFingerprint,
  encodeConfig,
  type LatticeConfig,
  latticeId,
  slotAt,
  slotStartMs,
} from "./lattice-config.ts";
import { isOrganism, ORGANISMS, type Organism } from "./organisms.ts";
import { derive, id, latticeRoot, organismRoot, organismRoots, UNIVERSE } from "./unique-id.ts";

interface Derivation {
  readonly id: Readonly<Record<string, string>>;
  readonly lattices: readonly {
    readonly name: string;
    readonly chainId: number;
    readonly lattice: string;
    readonly roots?: Readonly<Record<string, string>>;
  }[];
}
interface Golden {
  readonly derivation: Derivation;
  readonly config: {
    readonly hex: string;
    readonly latticeId: string;
    readonly committees: Readonly<Record<Organism, string>>;
  };
}

const GOLDEN = JSON.parse(readFileSync(new URL("vectors/identity.json", import.meta.url), "utf8")) as Golden;

function checkDerivation({ id: ids, lattices }: Derivation): void {
  for (const [text, expected] of Object.entries(ids)) assert.equal(toHex(id(text)), expected);
  for (const { name, chainId, lattice, roots } of lattices) {
    const root = latticeRoot(name, BigInt(chainId));
    assert.equal(toHex(root), lattice);
    for (const [organism, expected] of Object.entries(roots ?? {})) {
      assert.ok(isOrganism(organism));
      assert.equal(toHex(organismRoot(root, organism)), expected);
      assert.deepEqual(organismRoots(root).get(organism), organismRoot(root, organism));
    }
  }
}

describe("derivation", () => {
  test("golden vectors", () => checkDerivation(GOLDEN.derivation));

  const folder = process.env["LATTICE_VECTORS"];
  const file = folder === undefined ? undefined : join(folder, "identity", "derivation.json");
  const absent = file !== undefined && existsSync(file) ? false : "LATTICE_VECTORS names no identity/derivation.json";
  test("vectors of the folder LATTICE_VECTORS", { skip: absent }, () => {
    checkDerivation(JSON.parse(readFileSync(file ?? "", "utf8")) as Derivation);
  });

  test("the rules, spelled out with another library", () => {
    const utf8 = new TextEncoder();
    const plain = (...parts: Uint8Array[]): string => toHex(noble(new Uint8Array(Buffer.concat(parts))));
    assert.equal(toHex(UNIVERSE), plain(utf8.encode("mosaik.universe")));
    assert.equal(toHex(latticeRoot("a", 5n)), plain(utf8.encode("builder|a|chain=5")));
    assert.equal(toHex(derive(UNIVERSE, "x")), plain(UNIVERSE, utf8.encode("x")));
  });

  test("nearby names do not meet", () => {
    const near = [latticeRoot("a", 1n), latticeRoot("a", 11n), latticeRoot("a|chain=1", 1n), latticeRoot("b", 1n)];
    assert.equal(new Set(near.map(toHex)).size, near.length);
  });
});

describe("the handshake", () => {
  const golden = goldenConfig();

  test("golden config: bytes, lattice id, six committee ids", () => {
    assert.deepEqual(configProblems(golden), []);
    assert.equal(configToHex(golden), GOLDEN.config.hex);
    assert.equal(toHex(latticeId(golden)), GOLDEN.config.latticeId);
    for (const organism of ORGANISMS) {
      assert.equal(toHex(committeeId(golden, organism)), GOLDEN.config.committees[organism], organism);
    }
  });

  test("relay's committee id, put together by hand", () => {
    const u64 = (value: number | bigint): Buffer => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigUInt64BE(BigInt(value));
      return bytes;
    };
    const u32 = (value: number): Buffer => u64(value).subarray(4);
    const text = (value: string): Buffer => Buffer.concat([u32(Buffer.byteLength(value)), Buffer.from(value)]);
    const hash = (...parts: Uint8Array[]): Uint8Array => noble(new Uint8Array(Buffer.concat(parts)));
    const { policy, content } = golden.relay;
    const clock = [text("relay/1"), u64(golden.genesisMs), u64(golden.slotMs), u64(golden.pipelineDepth)];
    const rules = [u64(4), u64(7), Buffer.from([1]), policy.certificateKey];
    const own = [Buffer.from([0]), u32(1), ...content.sequencers, u64(8000), u64(250)];
    const contentHash = hash(text("lattice/fingerprint/content/v1"), ...clock, ...rules, ...own);
    const aclHash = hash(text("lattice/fingerprint/acl/v1"), u32(0));
    const root = hash(hash(Buffer.from("builder|acme.ethereum.mainnet|chain=1")), Buffer.from("relay"));
    const committee = hash(hash(root, contentHash, aclHash), Buffer.from("committee"));
    assert.equal(toHex(contentFingerprint(golden, "relay")), toHex(contentHash));
    assert.equal(toHex(aclFingerprint(golden, "relay")), toHex(aclHash));
    assert.equal(toHex(committee), GOLDEN.config.committees.relay);
    const all = hash(Buffer.from("lattice/config/v1"), fromHex(GOLDEN.config.hex));
    assert.equal(toHex(all), GOLDEN.config.latticeId);
  });

  test("fromHex(toHex(c)) is c, toHex(fromHex(h)) is h", () => {
    assert.deepEqual(configFromHex(configToHex(golden)), golden);
    assert.equal(configToHex(configFromHex(GOLDEN.config.hex)), GOLDEN.config.hex);
  });

  test("every changed byte is refused or another lattice", () => {
    const bytes = encodeConfig(golden);
    const own = GOLDEN.config.latticeId;
    for (let at = 0; at < bytes.length; at++) {
      for (const change of [1, 0x80, 0xff]) {
        const changed = bytes.slice();
        changed[at] = (changed[at] ?? 0) ^ change;
        const hex = toHex(changed);
        let config: LatticeConfig;
        try {
          config = configFromHex(hex);
        } catch (error) {
          assert.ok(error instanceof CodecError || error instanceof ConfigProblems, `byte ${at}: ${String(error)}`);
          continue;
        }
        assert.equal(configToHex(config), hex, `byte ${at}`);
        assert.notEqual(toHex(latticeId(config)), own, `byte ${at}`);
      }
    }
  });

  test("every cut and every extra byte is refused", () => {
    for (let length = 0; length < GOLDEN.config.hex.length; length++) {
      assert.throws(() => configFromHex(GOLDEN.config.hex.slice(0, length)), CodecError, `${length} digits`);
    }
    for (const extra of ["0", "00", "ff", " ", "\n"]) {
      assert.throws(() => configFromHex(GOLDEN.config.hex + extra), CodecError);
      assert.throws(() => configFromHex(extra + GOLDEN.config.hex), CodecError);
    }
  });

  test("one spelling only: no prefix, no upper case", () => {
    assert.throws(() => configFromHex(`0x${GOLDEN.config.hex}`), CodecError);
    assert.throws(() => configFromHex(GOLDEN.config.hex.toUpperCase()), CodecError);
  });
});

type Mutable<T> = T extends Uint8Array | bigint | string | number | boolean
  ? T
  : { -readonly [K in keyof T]: Mutable<T[K]> };
type MutableConfig = Mutable<LatticeConfig>;

function changed(change: (config: MutableConfig) => void): LatticeConfig {
  const config = structuredClone(goldenConfig()) as MutableConfig;
  change(config);
  return config as LatticeConfig;
}

/** Changes every scalar below `value`, one at a time, by path. */
function* leaves(value: unknown, path: readonly string[] = []): Generator<readonly string[]> {
  if (value instanceof Uint8Array || value === null || typeof value !== "object") {
    yield path;
    return;
  }
  for (const [key, each] of Object.entries(value)) yield* leaves(each, [...path, key]);
}

/** The next value of an enumeration. */
const WORDS: Readonly<Record<string, string>> = {
  "one-shot": "scheduled",
  members: "public",
  "second-price": "first-price",
  "l1-mev-boost": "l2-sequencer",
  third: "none",
  jwt: "software",
  tdx: "tpm2",
  software: "tpm2",
  ceremony: "dealer",
};

function nudged(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.length === 0 ? new Uint8Array(1) : value.map((byte) => byte ^ 1);
  if (typeof value === "number") return value + 1;
  if (typeof value === "bigint") return value + 1n;
  if (typeof value === "boolean") return !value;
  if (typeof value === "string" && WORDS[value] !== undefined) return WORDS[value];
  throw new Error(`no other value for ${String(value)}`);
}

/** The golden config with the scalar at `path` changed. */
function nudge(path: readonly string[]): LatticeConfig {
  return changed((config) => {
    let at = config as unknown as Record<string, unknown>;
    for (const key of path.slice(0, -1)) at = at[key] as Record<string, unknown>;
    const last = path.at(-1) ?? "";
    at[last] = nudged(at[last]);
  });
}

function idsOf(config: LatticeConfig): Record<Organism, string> {
  return Object.fromEntries(ORGANISMS.map((organism) => [organism, toHex(committeeId(config, organism))])) as Record<
    Organism,
    string
  >;
}

describe("fingerprints", () => {
  const golden = goldenConfig();
  const before = idsOf(golden);
  const differing = (config: LatticeConfig): Organism[] => {
    const after = idsOf(config);
    return ORGANISMS.filter((organism) => after[organism] !== before[organism]);
  };

  for (const organism of ORGANISMS) {
    for (const part of ["content", "policy", "acl"] as const) {
      test(`every field of ${organism}.${part} changes ${organism}'s committee and no other`, () => {
        for (const path of leaves(golden[organism][part])) {
          const config = nudge([organism, part, ...path]);
          assert.deepEqual(differing(config), [organism], path.join("."));
          assert.notEqual(toHex(latticeId(config)), GOLDEN.config.latticeId);
        }
      });
    }
    test(`an admission rule more or fewer changes ${organism}'s committee and no other`, () => {
      const more = changed((config) => config[organism].acl.push({ kind: "build", parameters: new Uint8Array(1) }));
      assert.deepEqual(differing(more), [organism]);
      if (golden[organism].acl.length === 0) return;
      assert.deepEqual(differing(changed((config) => config[organism].acl.pop())), [organism]);
    });
  }

  for (const field of ["genesisMs", "slotMs", "pipelineDepth", "chainId"] as const) {
    test(`${field} changes all six`, () => assert.deepEqual(differing(nudge([field])), [...ORGANISMS]));
  }

  test("the name changes all six", () => {
    const other = changed((config) => {
      config.name = "acme.ethereum.testnet";
    });
    assert.deepEqual(differing(other), [...ORGANISMS]);
  });

  test("throwAway and the origin of the keys are facts about the lattice, not about what its members compute", () => {
    for (const field of ["throwAway", "keys"] as const) {
      const config = nudge([field]);
      assert.deepEqual(differing(config), [], field);
      assert.notEqual(toHex(latticeId(config)), GOLDEN.config.latticeId, field);
    }
  });

  test("no two of all these fields meet in one lattice id", () => {
    const paths = [...leaves(golden)].filter(([first]) => first !== "version" && first !== "name");
    const ids = paths.map((path) => toHex(latticeId(nudge(path))));
    assert.equal(new Set([...ids, GOLDEN.config.latticeId]).size, paths.length + 1);
  });
});

describe("what cannot describe a lattice", () => {
  const MiB = 1 << 20;
  /** One wrong thing each, and the one line that names it; `near` is the nearest config that stands. */
  const cases: readonly {
    readonly line: RegExp;
    readonly wrong: (config: MutableConfig) => void;
    readonly near?: (config: MutableConfig) => void;
  }[] = [
    { line: /^name:/, wrong: (c) => (c.name = ""), near: (c) => (c.name = "a") },
    { line: /^name:/, wrong: (c) => (c.name = "-a"), near: (c) => (c.name = "a-a") },
    { line: /^name:/, wrong: (c) => (c.name = "a|chain=1"), near: (c) => (c.name = "a.chain-1") },
    { line: /^name:/, wrong: (c) => (c.name = "A"), near: (c) => (c.name = "a".repeat(64)) },
    { line: /^chainId:/, wrong: (c) => (c.chainId = 0n), near: (c) => (c.chainId = 2n ** 64n - 1n) },
    { line: /^genesisMs:/, wrong: (c) => (c.genesisMs = 0), near: (c) => (c.genesisMs = 1) },
    { line: /^slotMs:/, wrong: (c) => (c.slotMs = 199), near: (c) => (c.slotMs = 200) },
    { line: /^slotMs:/, wrong: (c) => (c.slotMs = 60_001), near: (c) => (c.slotMs = 60_000) },
    { line: /^pipelineDepth:/, wrong: (c) => (c.pipelineDepth = 0), near: (c) => (c.pipelineDepth = 1) },
    { line: /^pipelineDepth:/, wrong: (c) => (c.pipelineDepth = 17), near: (c) => (c.pipelineDepth = 16) },
    ...ORGANISMS.flatMap((o) => [
      {
        line: new RegExp(`^${o}.policy:`),
        wrong: (c: MutableConfig) => (c[o].policy.membersMin = 2),
        near: (c: MutableConfig) => (c[o].policy.membersMin = 3),
      },
      {
        line: new RegExp(`^${o}.policy:`),
        wrong: (c: MutableConfig) => (c[o].policy.membersMax = 8),
        near: (c: MutableConfig) => (c[o].policy.membersMax = 4),
      },
      {
        line: new RegExp(`^${o}.acl: mock`),
        wrong: (c: MutableConfig) => c[o].acl.push({ kind: "mock", parameters: new Uint8Array() }),
        near: (c: MutableConfig) => {
          c.throwAway = true;
          c[o].acl.push({ kind: "mock", parameters: new Uint8Array() });
        },
      },
      {
        line: new RegExp(`^${o}.acl: a jwt`),
        wrong: (c: MutableConfig) => c[o].acl.push({ kind: "jwt", parameters: new Uint8Array(31) }),
        near: (c: MutableConfig) => c[o].acl.push({ kind: "jwt", parameters: new Uint8Array(32) }),
      },
    ]),
    {
      line: /^keys:/,
      wrong: (c) => (c.keys = "dealer"),
      near: (c) => {
        c.keys = "dealer";
        c.throwAway = true;
      },
    },
    { line: /^zipnet.cells:/, wrong: (c) => (c.zipnet.content.cells = 0), near: (c) => (c.zipnet.content.cells = 1) },
    {
      line: /^zipnet.cellBytes:/,
      wrong: (c) => (c.zipnet.content.cellBytes = 255),
      near: (c) => (c.zipnet.content.cellBytes = 256),
    },
    {
      line: /^zipnet: a message vector/,
      wrong: (c) => (c.zipnet.content.cells = (8 * MiB) / 1024 + 1),
      near: (c) => (c.zipnet.content.cells = (8 * MiB) / 1024),
    },
    {
      line: /^zipnet.segments:/,
      wrong: (c) => (c.zipnet.content.segments = 65),
      near: (c) => (c.zipnet.content.segments = 64),
    },
    {
      line: /^zipnet.clientsMax:/,
      wrong: (c) => (c.zipnet.content.clientsMax = 1_000_001),
      near: (c) => (c.zipnet.content.clientsMax = 1_000_000),
    },
    {
      line: /^zipnet.participantsMin:/,
      wrong: (c) => (c.zipnet.content.participantsMin = 10_001),
      near: (c) => (c.zipnet.content.participantsMin = 10_000),
    },
    {
      line: /^zipnet: roundOpenMs/,
      wrong: (c) => (c.zipnet.content.roundOpenMs = 2000),
      near: (c) => (c.zipnet.content.roundOpenMs = 2001),
    },
    {
      line: /^zipnet.operators:/,
      wrong: (c) => c.zipnet.content.operators.splice(2),
      near: (c) => c.zipnet.content.operators.splice(3),
    },
    {
      line: /^zipnet.operators:/,
      wrong: (c) => c.zipnet.content.operators.push(new Uint8Array(32).fill(0x31)),
      near: (c) => c.zipnet.content.operators.push(new Uint8Array(32).fill(0x30)),
    },
    ...(["unseal", "offer", "tally"] as const).flatMap((o) => [
      {
        line: new RegExp(`^${o}.threshold:`),
        wrong: (c: MutableConfig) => (c[o].content.threshold = 1),
        near: (c: MutableConfig) => (c[o].content.threshold = 2),
      },
      {
        line: new RegExp(`^${o}.threshold:`),
        wrong: (c: MutableConfig) => (c[o].content.threshold = 8),
        near: (c: MutableConfig) => (c[o].content.threshold = 7),
      },
    ]),
    {
      line: /^unseal: sharesMs/,
      wrong: (c) => (c.unseal.content.sharesMs = 1500),
      near: (c) => (c.unseal.content.sharesMs = 1501),
    },
    {
      line: /^offer: blindCloseMs/,
      wrong: (c) => (c.offer.content.blindCloseMs = 1100),
      near: (c) => (c.offer.content.blindCloseMs = 1101),
    },
    {
      line: /^offer.bundleBytes:/,
      wrong: (c) => (c.offer.content.bundleBytes = 262_145),
      near: (c) => (c.offer.content.bundleBytes = 262_144),
    },
    {
      line: /^atelier.blindGasBps:/,
      wrong: (c) => (c.atelier.content.blindGasBps = 10_001),
      near: (c) => (c.atelier.content.blindGasBps = 10_000),
    },
    {
      line: /^tally.refundShareBps:/,
      wrong: (c) => (c.tally.content.refundShareBps = 10_001),
      near: (c) => (c.tally.content.refundShareBps = 10_000),
    },
    {
      line: /^tally.attestEverySlots:/,
      wrong: (c) => (c.tally.content.attestEverySlots = 0),
      near: (c) => (c.tally.content.attestEverySlots = 1),
    },
    { line: /^relay.sequencers:/, wrong: (c) => c.relay.content.sequencers.pop() },
  ];

  test("each wrong field is named, and only that; the nearest right one stands", () => {
    for (const { line, wrong, near } of cases) {
      const problems = configProblems(changed((config) => void wrong(config)));
      assert.equal(problems.length, 1, problems.join("; "));
      assert.match(problems[0] ?? "", line);
      if (near !== undefined) assert.deepEqual(configProblems(changed((config) => void near(config))), []);
    }
  });

  test("all of them at once are all named, also by fromHex", () => {
    const all = changed((config) => {
      for (const { line, wrong } of cases) if (line.source !== "^keys:") wrong(config);
      config.keys = "dealer";
      // Where one wrong value would hide another.
      config.zipnet.content.cells = 0;
      config.zipnet.content.participantsMin = 0;
      for (const organism of ["unseal", "offer", "tally"] as const) config[organism].content.threshold = 1;
    });
    const problems = configProblems(all);
    for (const { line } of cases) {
      // A vector of no cells is not too large as well.
      if (/a message vector/.test(line.source)) continue;
      assert.ok(
        problems.some((problem) => line.test(problem)),
        `${line.source} in ${problems.join("; ")}`,
      );
    }
    assert.throws(
      () => configFromHex(configToHex(all)),
      (error: unknown) => error instanceof ConfigProblems && error.problems.length === problems.length,
    );
  });
});

describe("the slot clock", () => {
  const config = goldenConfig();
  test("a slot begins at its start and ends a millisecond before the next", () => {
    assert.equal(slotStartMs(config, 5n), config.genesisMs + 60_000);
    assert.equal(slotAt(config, slotStartMs(config, 5n)), 5n);
    assert.equal(slotAt(config, slotStartMs(config, 5n) - 1), 4n);
    assert.equal(slotAt(config, config.genesisMs - 1), 0n);
    assert.equal(slotAt(config, 0), 0n);
  });
});
