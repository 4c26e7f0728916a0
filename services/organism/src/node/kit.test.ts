import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { goldenConfig } from "../../test/golden-config.ts";
import { dealCommittee, random, type TestCommittee } from "../../test/test-lattice.ts";
import { encode, toHex } from "../codec/codec.ts";
import { type CertifiedOutcome, type Outcome, outcomeDigest } from "../committee/outcome.ts";
import { ROSTER, ROSTER_STAGE, type Roster } from "../committee/roster.ts";
import { blsSign } from "../crypto/bls.ts";
import { initCrypto } from "../crypto/engine.ts";
import { combineSignatures } from "../crypto/threshold.ts";
import { committeeId, configToHex } from "../identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "../identity/organisms.ts";
import { firstEpoch, nextEpoch } from "../testing/dealt-eras.ts";
import {
  type KeyFile,
  KitProblem,
  parseConfigHex,
  readConfig,
  readEndpoints,
  readEras,
  readKeyFile,
  readRosters,
  rostersToJson,
  verifyKeys,
  verifyRoster,
} from "./kit.ts";

let directory: string;
let dealt: TestCommittee;
let files = 0;

before(async () => {
  await initCrypto();
  directory = mkdtempSync(join(tmpdir(), "lattice-kit-"));
  dealt = dealCommittee(3);
});
after(() => rmSync(directory, { recursive: true, force: true }));

function file(text: string, mode = 0o400): string {
  const path = join(directory, `file-${files++}`);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

/** Refused in one readable line that says `what`, and never shows `secret`. */
function problem(run: () => unknown, what: RegExp, secret?: string): void {
  assert.throws(run, (error: unknown) => {
    assert.ok(error instanceof KitProblem, String(error));
    assert.match(error.message, what);
    assert.ok(!error.message.includes("\n"), "one line");
    if (secret !== undefined) assert.ok(!error.message.includes(secret), error.message);
    return true;
  });
}

function certify(organism: Organism, roster: unknown, changes: Partial<Outcome> = {}): CertifiedOutcome {
  const outcome: Outcome = {
    version: 1,
    committee: committeeId(dealt.config, organism),
    generation: 0n,
    epoch: 0n,
    slot: 1n,
    stage: ROSTER_STAGE,
    kind: "result",
    commitment: roster instanceof Uint8Array ? roster : encode(ROSTER, roster as Roster),
    bodyHash: undefined,
    ...changes,
  };
  const digest = outcomeDigest(outcome);
  const shares = [0, 1].map((index) => ({
    index,
    signature: blsSign(dealt.secrets[index]?.certificateShare ?? new Uint8Array(), digest),
  }));
  return { outcome, signature: combineSignatures(shares, 2), signers: [0, 1] };
}

const allRosters = (): { [O in Organism]: CertifiedOutcome } =>
  Object.fromEntries(ORGANISMS.map((organism) => [organism, certify(organism, dealt.rosters[organism])])) as {
    [O in Organism]: CertifiedOutcome;
  };

describe("the lattice config of a kit", () => {
  test("is read with a line's end; anything else beside it is refused", () => {
    const hex = configToHex(goldenConfig());
    assert.deepEqual(readConfig(file(`${hex}\n`)), goldenConfig());
    problem(() => parseConfigHex(`${hex}00`), /^lattice config: 1 trailing bytes/);
    problem(() => parseConfigHex(hex.slice(2)), /^lattice config: /);
    problem(() => parseConfigHex(""), /^lattice config: /);
    problem(() => parseConfigHex(configToHex({ ...goldenConfig(), slotMs: 1 })), /slotMs/);
    problem(() => readConfig(join(directory, "absent")), /^lattice config: cannot read .*ENOENT/);
  });
});

describe("certified rosters", () => {
  test("are read and verified under the config alone", () => {
    const rosters = readRosters(file(rostersToJson(allRosters())), dealt.config);
    assert.deepEqual(rosters, dealt.rosters);
  });

  test("are all needed, as hex of whole outcomes", () => {
    const { tally: _, ...five } = JSON.parse(rostersToJson(allRosters())) as Record<string, string>;
    problem(() => readRosters(file(JSON.stringify(five)), dealt.config), /^rosters: \S+: tally/);
    problem(() => readRosters(file(JSON.stringify({ ...five, tally: "00" })), dealt.config), /^roster of tally: /);
    problem(() => readRosters(file(JSON.stringify({ ...five, tally: "xyz" })), dealt.config), /^rosters: \S+: tally/);
    problem(() => readRosters(file(JSON.stringify({ ...five, tally: "0" })), dealt.config), /^roster of tally: /);
    problem(() => readRosters(file("{"), dealt.config), /is not JSON/);
    // A kit of a later era: the chain leads from the config's key to the roster's.
    const one = nextEpoch(firstEpoch(dealt, "relay", 2), { activationSlot: 100n, newEra: true });
    const two = nextEpoch(one, { activationSlot: 200n });
    const later = { ...allRosters(), relay: two.certified };
    const whole = rostersToJson(later, { relay: [one.certified] });
    assert.deepEqual(readRosters(file(whole), dealt.config).relay, two.roster);
    assert.equal(readEras(file(whole), dealt.config).of("relay").length, 2);
    problem(() => readRosters(file(rostersToJson(later)), dealt.config), /does not verify under the lattice config/);
    problem(() => readRosters(file(rostersToJson(later, { tally: [one.certified] })), dealt.config), /eras of tally/);
    problem(() => readEras(file(rostersToJson(later, { relay: [two.certified] })), dealt.config), /eras of relay/);
    problem(() => readRosters(join(directory, "absent"), dealt.config), /^rosters: cannot read/);
  });

  test("of another committee, stage, epoch or kind", () => {
    const roster = dealt.rosters.relay;
    assert.deepEqual(verifyRoster(dealt.config, "relay", certify("relay", roster)), roster);
    problem(() => verifyRoster(dealt.config, "tally", certify("relay", roster)), /another committee/);
    problem(() => verifyRoster(dealt.config, "relay", certify("relay", roster, { stage: "x" })), /another committee/);
    problem(() => verifyRoster(dealt.config, "relay", certify("relay", roster, { epoch: 1n })), /not a roster/);
    problem(() => verifyRoster(dealt.config, "relay", certify("relay", roster, { kind: "empty" })), /not a roster/);
    const foreign = { ...roster, committee: new Uint8Array(32) };
    problem(() => verifyRoster(dealt.config, "relay", certify("relay", foreign)), /does not fit/);
    problem(() => verifyRoster(dealt.config, "relay", certify("relay", roster, { slot: 2n })), /not a roster/);
  });

  test("changed after they were certified", () => {
    const certified = certify("relay", dealt.rosters.relay);
    const commitment = certified.outcome.commitment.slice();
    commitment[60] = (commitment[60] ?? 0) ^ 1;
    const changed = { ...certified, outcome: { ...certified.outcome, commitment } };
    problem(() => verifyRoster(dealt.config, "relay", changed), /does not verify/);
    problem(
      () => verifyRoster(dealt.config, "relay", { ...certified, signature: new Uint8Array(96) }),
      /does not verify/,
    );
  });

  test("certified although they are no roster, or one that the policy does not allow", () => {
    const roster = dealt.rosters.relay;
    const [a, b, c] = roster.members;
    assert.ok(a !== undefined && b !== undefined && c !== undefined);
    const refused = (members: Roster["members"], what: RegExp): void =>
      problem(() => verifyRoster(dealt.config, "relay", certify("relay", { ...roster, members })), what);
    problem(() => verifyRoster(dealt.config, "relay", certify("relay", new Uint8Array([1, 2]))), /not a roster/);
    refused([a, b], /does not fit/);
    refused(
      Array.from({ length: 8 }, (_, index) => ({ ...a, index })),
      /does not fit/,
    );
    refused([a, c, b], /indexes/);
    refused([a, { ...b, memberKey: a.memberKey }, c], /share a memberKey/);
    refused([a, { ...b, boxKey: a.boxKey }, c], /share a boxKey/);
    refused([a, { ...b, certificateShare: a.certificateShare }, c], /share a certificateShare/);
  });
});

describe("endpoints", () => {
  const all = Object.fromEntries(ORGANISMS.map((organism) => [organism, ["127.0.0.1:1"]]));
  test("name at least one address for each organism; an aggregator is optional", () => {
    assert.deepEqual(readEndpoints(file(JSON.stringify(all))), { ...all, aggregator: [] });
    const more = { ...all, aggregator: ["a:1", "b:2"], gateway: "somewhere" };
    assert.deepEqual(readEndpoints(file(JSON.stringify(more))).aggregator, ["a:1", "b:2"]);
  });
  test("that are missing, empty or no addresses", () => {
    const { offer: _, ...without } = all;
    problem(() => readEndpoints(file(JSON.stringify(without))), /^endpoints: \S+: offer/);
    problem(() => readEndpoints(file(JSON.stringify({ ...all, offer: [] }))), /^endpoints: \S+: offer/);
    for (const wrong of ["host", "host:", ":1", "host:123456", "http://host:1", "ho st:1"]) {
      problem(() => readEndpoints(file(JSON.stringify({ ...all, offer: [wrong] }))), /offer\.0: host:port expected/);
    }
    problem(() => readEndpoints(file("[]")), /^endpoints: /);
  });
});

describe("a key file", () => {
  const key = (): KeyFile => {
    const [first] = dealt.secrets;
    assert.ok(first !== undefined);
    return {
      organism: "relay",
      index: 0,
      boxKey: toHex(first.boxKey),
      memberKey: toHex(first.memberKey),
      certificateShare: toHex(first.certificateShare),
    };
  };

  test("is read with what it has", () => {
    const { organism, index, secrets } = readKeyFile(file(JSON.stringify(key())));
    assert.deepEqual([organism, index], ["relay", 0]);
    assert.deepEqual(secrets, dealt.secrets[0]);
    const more = { ...key(), signerKey: "01".repeat(32) };
    assert.deepEqual(readKeyFile(file(JSON.stringify(more))).secrets.signerKey, new Uint8Array(32).fill(1));
  });

  test("that others may read is refused", () => {
    for (const mode of [0o400, 0o600]) readKeyFile(file(JSON.stringify(key()), mode));
    for (const mode of [0o440, 0o404, 0o420, 0o644]) {
      problem(() => readKeyFile(file(JSON.stringify(key()), mode)), /open to others/);
    }
  });

  test("that is wrong names the field and never shows what it holds", () => {
    const secret = "ab".repeat(31);
    for (const [change, what] of [
      [{ boxKey: secret }, /boxKey: 32 bytes/],
      [{ memberKey: `${secret}ABCD` }, /memberKey: 32 bytes/],
      [{ certificateShare: 7 }, /certificateShare/],
      [{ secondShare: secret }, /secondShare/],
      [{ organism: secret }, /organism/],
      [{ index: 16 }, /index/],
      [{ index: 0.5 }, /index/],
      [{ password: secret }, /password/],
    ] as const) {
      problem(() => readKeyFile(file(JSON.stringify({ ...key(), ...change }))), what, secret);
    }
    problem(() => readKeyFile(file(`{"boxKey": "${secret}"`)), /is not JSON/, secret);
    problem(() => readKeyFile(join(directory, "absent")), /cannot read/);
  });

  test("must hold the keys that the roster publishes for its member", () => {
    const roster = dealt.rosters.relay;
    const [first, second] = dealt.secrets;
    assert.ok(first !== undefined && second !== undefined);
    verifyKeys(roster, "relay", 0, first);
    verifyKeys(roster, "relay", 1, second);
    problem(() => verifyKeys(roster, "relay", 3, first), /none with index 3/);
    problem(() => verifyKeys(roster, "relay", 1, first), /memberKey is not the one of member 1/);
    for (const name of ["memberKey", "boxKey", "certificateShare"] as const) {
      const wrong = { ...first, [name]: second[name] };
      problem(() => verifyKeys(roster, "relay", 0, wrong), new RegExp(`${name} is not the one`), toHex(second[name]));
    }
    problem(() => verifyKeys(roster, "relay", 0, { ...first, certificateShare: new Uint8Array(32) }), /is not/);
    problem(() => verifyKeys(roster, "relay", 0, { ...first, secondShare: random(32) }), /secondShare is not/);
    const members = roster.members.map((member) => ({ ...member, secondShare: member.certificateShare }));
    const withSecond = { ...roster, members };
    problem(() => verifyKeys(withSecond, "relay", 0, first), /secondShare is missing/);
    verifyKeys(withSecond, "relay", 0, { ...first, secondShare: first.certificateShare });
  });
});
