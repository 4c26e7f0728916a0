/** Who vouches for how much of an exported log, where one member may be corrupt. */
import assert from "node:assert/strict";
import { before, beforeEach, describe, test } from "node:test";
import { type ProbeCommand, type ProbeState, probeMachine } from "../../test/probe-machine.ts";
import { dealCommittee, type TestCommittee } from "../../test/test-lattice.ts";
import { initCrypto } from "../crypto/engine.ts";
import type { Duty } from "../machine.ts";
import { CommitteeDriver } from "../testing/committee-driver.ts";
import { signHead } from "./heads.ts";
import type { LogRecord } from "./log-export.ts";
import { type LogFindings, type LogProblem, LogVerifier } from "./log-verify.ts";

describe("heads that members signed about an exported log", () => {
  let dealt: TestCommittee;
  let driver: CommitteeDriver<ProbeState, ProbeCommand, Duty>;
  before(initCrypto);
  beforeEach(() => {
    dealt = dealCommittee(4, {}, "third");
    const { config, rosters, secrets } = dealt;
    driver = new CommitteeDriver({ config, roster: rosters.relay, secrets, createMachine: probeMachine });
    driver.joinAll();
  });

  const head = (member: number, position: bigint, other?: Uint8Array): LogRecord => {
    const { committee } = driver;
    const signed = other ?? committee.headAt(position) ?? assert.fail();
    const statement = { version: 1 as const, committee: committee.id, generation: 0n, member, position, head: signed };
    return { type: "head", ...signHead(driver.author(member).memberKey, { ...statement, newest: position }) };
  };

  function judge(...heads: LogRecord[]): { readonly holds: LogFindings } | { readonly wrong: LogProblem } {
    const { config, certifiedRoster } = dealt;
    const { committee, log } = driver;
    const records: LogRecord[] = [
      { type: "header", version: 1, config, organism: "relay", generation: 0n },
      { type: "roster", certified: certifiedRoster },
      ...log.map((raw, index): LogRecord => ({ type: "entry", position: BigInt(index + 1), raw })),
      ...heads,
    ];
    const { position } = committee;
    records.push({ type: "end", position, head: committee.head, entries: position, records: records.length });
    const verifier = new LogVerifier({ config, createMachine: probeMachine });
    for (const record of records) {
      const wrong = verifier.take(record);
      if (wrong !== undefined) return { wrong };
    }
    return verifier.finish();
  }
  const vouchedTo = (verdict: ReturnType<typeof judge>): bigint =>
    "holds" in verdict ? verdict.holds.vouchedTo : assert.fail(verdict.wrong.detail);

  test("one honest member's old head and a corrupt one's new head vouch for what both signed", () => {
    const honest = driver.committee.position;
    assert.equal(vouchedTo(judge(head(0, honest), head(3, honest))), honest);
    const junk = new TextEncoder().encode("put there by whoever made the file");
    const { position } = driver.apply(junk);
    for (const heads of [
      [head(0, honest), head(3, position)],
      [head(3, position), head(0, honest)],
      [head(3, honest), head(3, position)],
    ]) {
      const verdict = judge(...heads);
      assert.ok("wrong" in verdict, "nobody but the corrupt one has signed it");
      assert.deepEqual([verdict.wrong.reason, verdict.wrong.position], ["BAD_ENTRY", position]);
    }
    assert.equal(vouchedTo(judge(head(0, honest), head(3, position), head(1, position))), position);
  });

  test("what more than f members signed otherwise does not hold, whatever else they signed", () => {
    const { position } = driver.committee;
    const other = new Uint8Array(32).fill(9);
    assert.equal(vouchedTo(judge(head(3, position, other), head(0, position), head(1, position))), position);
    for (const heads of [
      [head(3, position, other), head(2, position, other)],
      [head(3, position, other), head(3, position - 1n), head(2, position, other)],
    ]) {
      const verdict = judge(...heads);
      assert.ok("wrong" in verdict);
      assert.equal(verdict.wrong.reason, "HEAD_DIFFERS");
    }
  });
});
