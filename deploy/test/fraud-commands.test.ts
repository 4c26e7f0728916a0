/** `builder fraud verify`: what it says of a proof, of a changed one, of another lattice's, and of files that are none. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { fraudProofHash, proveVotes } from "@lattice/organism/committee/fraud.ts";
import { type Outcome, outcomeDigest } from "@lattice/organism/committee/outcome.ts";
import { blsSign } from "@lattice/organism/crypto/bls.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, configToHex } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { dealCommittee, type TestCommittee } from "../../services/organism/test/test-lattice.ts";
import { runFraudVerify } from "../src/cli/fraud-verify.ts";

const LIAR = 2;
const scratch = mkdtempSync(join(tmpdir(), "lattice-fraud-"));
const path = (name: string): string => join(scratch, name);

interface Said {
  readonly code: number;
  readonly lines: readonly string[];
  readonly problems: readonly string[];
}

async function judge(proof: string, { config = "lattice.hex", rosters = "", json = false } = {}): Promise<Said> {
  const lines: string[] = [];
  const problems: string[] = [];
  const options = { config: path(config), json, ...(rosters === "" ? {} : { rosters: path(rosters) }) };
  const output = { data: (line: string) => lines.push(line), problem: (line: string) => problems.push(line) };
  return { code: await runFraudVerify(path(proof), options, output), lines, problems };
}

describe("builder fraud verify", () => {
  let dealt: TestCommittee;
  let proof: Uint8Array;
  before(async () => {
    await initCrypto();
    dealt = dealCommittee(4);
    const said = (commitment: number) => {
      const outcome: Outcome = {
        version: 1,
        committee: committeeId(dealt.config, "relay"),
        generation: 0n,
        epoch: 0n,
        slot: 10n,
        stage: "accepted",
        kind: "result",
        commitment: new Uint8Array([commitment]),
        bodyHash: undefined,
      };
      const share = blsSign(dealt.secrets[LIAR]?.certificateShare ?? new Uint8Array(), outcomeDigest(outcome));
      return { outcome, share };
    };
    proof = proveVotes(dealt.certifiedRoster, LIAR, said(1), said(2));
    writeFileSync(path("proof"), proof);
    writeFileSync(path("lattice.hex"), configToHex(dealt.config));
    writeFileSync(path("other.hex"), configToHex(dealCommittee(4).config));
  });
  after(() => rmSync(scratch, { recursive: true, force: true }));

  test("a proof: whom it names, in one line or one object", async () => {
    const key = toHex(dealt.rosters.relay.members[LIAR]?.memberKey ?? new Uint8Array());
    const spoken = await judge("proof");
    assert.deepEqual([spoken.code, spoken.problems, spoken.lines.length], [EXIT.ok, [], 1]);
    assert.ok(spoken.lines[0]?.startsWith(`proven: member ${LIAR} of relay (key ${key}, epoch 0): `), spoken.lines[0]);
    const { code, lines } = await judge("proof", { json: true });
    assert.equal(code, EXIT.ok);
    const { detail, ...found } = JSON.parse(lines[0] ?? "") as Record<string, unknown>;
    assert.match(String(detail), /slot 10/);
    assert.deepEqual(found, {
      schema_version: 1,
      proven: true,
      proof: toHex(fraudProofHash(proof)),
      kind: "votes",
      organism: "relay",
      member_index: LIAR,
      member_key: key,
      epoch: "0",
    });
  });

  test("the same file under another lattice's config proves nothing", async () => {
    const { code, lines, problems } = await judge("proof", { config: "other.hex", json: true });
    assert.equal(code, EXIT.failed);
    assert.deepEqual(problems, [
      "not proven: ORGANISM_MISMATCH: the proof is about a committee that is none of this lattice's",
    ]);
    assert.equal((JSON.parse(lines[0] ?? "") as { proven: boolean }).proven, false);
  });

  test("with a byte changed, cut off or put after it, it proves nothing, with a reason of the list", async () => {
    const reasons = new Set<string>();
    // Who signed the roster's certificate is only told: the key that it verifies under is the group's.
    let told = 0;
    for (let at = 0; at < proof.length; at += 23) {
      const changed = Uint8Array.from(proof);
      changed[at] = (changed[at] ?? 0) ^ 0x20;
      writeFileSync(path("changed"), changed);
      const { code, lines, problems } = await judge("changed");
      if (code === EXIT.ok) {
        told += 1;
        assert.match(lines[0] ?? "", new RegExp(`^proven: member ${LIAR} of relay `));
        continue;
      }
      assert.equal(code, EXIT.failed, `byte ${at}`);
      assert.deepEqual([lines.length, problems.length], [0, 1]);
      reasons.add(/^not proven: ([A-Z_]+): ./.exec(problems[0] ?? "")?.[1] ?? `byte ${at}: ${problems[0]}`);
    }
    assert.ok(told <= 1, `${told} changes changed nothing`);
    const known = ["MALFORMED", "ORGANISM_MISMATCH", "BAD_CERTIFICATE", "OTHER_ERA", "BAD_PROOF"];
    assert.deepEqual(
      [...reasons].filter((reason) => !known.includes(reason)),
      [],
    );
    assert.ok(reasons.size >= 3, [...reasons].join());
    for (const [name, bytes] of [
      ["cut", proof.subarray(0, -1)],
      ["longer", Uint8Array.from([...proof, 0])],
      ["empty", new Uint8Array()],
    ] as const) {
      writeFileSync(path(name), bytes);
      const { code, problems } = await judge(name);
      assert.equal(code, EXIT.failed, name);
      assert.match(problems[0] ?? "", /^not proven: MALFORMED: /);
    }
  });

  test("files that cannot be read are another matter: one line each", async () => {
    const wrong = [
      ["absent", {}, /^fraud proof: cannot read .*absent: ENOENT$/],
      [".", {}, /^fraud proof: cannot read .*: EISDIR$/],
      ["proof", { config: "absent.hex" }, /^lattice config: cannot read .*absent\.hex: ENOENT$/],
      ["proof", { config: "proof" }, /^lattice config: .*hex.* \(.*proof\)$/],
      ["proof", { rosters: "proof" }, /^rosters: .*proof is not JSON$/],
    ] as const;
    for (const [file, options, line] of wrong) {
      const { code, lines, problems } = await judge(file, options);
      assert.deepEqual([code, lines, problems.length], [EXIT.precondition, [], 1]);
      assert.match(problems[0] ?? "", line);
    }
  });
});
