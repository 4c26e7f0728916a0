/** `builder guest …`: keys, tickets, kept states, and what their user is told. */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { toHex } from "@lattice/organism/codec/codec.ts";
import { guestHash } from "@lattice/organism/committee/checkpoint.ts";
import { guestAudience } from "@lattice/organism/committee/reader.ts";
import { checkJwt } from "@lattice/organism/committee/ticket.ts";
import { generateSigningKey } from "@lattice/organism/crypto/ed25519.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { committeeId, configToHex, slotAt } from "@lattice/organism/identity/lattice-config.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { certifyState, dealCommittee, random } from "../../services/organism/test/test-lattice.ts";
import { runGuestFollow, runGuestKey, runGuestTicket } from "../src/cli/guest.ts";
import { readGuestState, readSeed, writeGuestState } from "../src/cli/guest-files.ts";

describe("builder guest", () => {
  const seed = random(32);
  const issuer = generateSigningKey(seed).publicKey;
  const committee = dealCommittee(3, {}, "third", [{ kind: "jwt", parameters: issuer }]);
  const { config } = committee;
  let folder: string;
  const path = (name: string): string => join(folder, name);
  before(async () => {
    await initCrypto();
    folder = mkdtempSync(join(tmpdir(), "lattice-guest-"));
    writeFileSync(path("lattice.hex"), configToHex(config));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  function said() {
    const lines: string[] = [];
    const problems: string[] = [];
    return {
      lines,
      problems,
      output: { data: (line: string) => lines.push(line), problem: (line: string) => problems.push(line) },
    };
  }

  test("a key is made once, for its owner's eyes; its public half is printed", async () => {
    const first = said();
    assert.equal(await runGuestKey({ out: path("guest.json") }, first.output), 0);
    assert.equal(statSync(path("guest.json")).mode & 0o777, 0o400);
    assert.equal(first.lines[0], toHex(readSeed(path("guest.json"), "guest key").publicKey));
    assert.ok(!readFileSync(path("guest.json"), "utf8").includes(first.lines[0] ?? ""));
    const again = said();
    assert.equal(await runGuestKey({ out: path("guest.json") }, again.output), 5);
    assert.match(again.problems[0] ?? "", /EEXIST/);
    writeFileSync(path("open.json"), readFileSync(path("guest.json")));
    chmodSync(path("open.json"), 0o644);
    assert.throws(() => readSeed(path("open.json"), "guest key"), KitProblem);
  });

  test("a ticket admits one key to one committee's guests", async () => {
    writeFileSync(path("issuer.json"), JSON.stringify({ seed: toHex(seed) }), { mode: 0o400 });
    const guest = generateSigningKey(random(32)).publicKey;
    const made = said();
    const options = {
      config: path("lattice.hex"),
      issuer: path("issuer.json"),
      organism: "relay" as const,
      slots: 10n,
    };
    assert.equal(await runGuestTicket({ ...options, guest: toHex(guest) }, made.output), 0);
    const ticket = new TextEncoder().encode(made.lines[0] ?? "");
    const slot = slotAt(config, Date.now());
    const audience = guestAudience(committeeId(config, "relay"));
    const judge = (changes: Partial<Parameters<typeof checkJwt>[2]>): boolean =>
      checkJwt(issuer, ticket, { audience, subject: guest, slot, throwAway: true, ...changes }).admitted;
    assert.ok(judge({}));
    assert.ok(!judge({ audience: committeeId(config, "relay") }), "not to write");
    assert.ok(!judge({ audience: guestAudience(committeeId(config, "offer")) }), "not another committee's");
    assert.ok(!judge({ subject: random(32) }));
    assert.ok(!judge({ slot: slot + 20n }));
  });

  test("a ticket that no member would take is not made", async () => {
    writeFileSync(path("own.json"), JSON.stringify({ seed: toHex(seed) }), { mode: 0o400 });
    writeFileSync(path("strange.json"), JSON.stringify({ seed: toHex(random(32)) }), { mode: 0o400 });
    const options = { organism: "relay" as const, guest: toHex(random(32)), slots: 10n };
    for (const [acl, changes, code, lines, line] of [
      [[], {}, 5, 0, /^lattice config: relay admits everybody, without a ticket$/],
      [[{ kind: "tdx", parameters: random(48) }], {}, 5, 0, /^lattice config: relay admits nobody by a ticket$/],
      [
        [{ kind: "jwt", parameters: issuer }],
        { issuer: path("strange.json") },
        5,
        0,
        /takes tickets of [0-9a-f]{64}, not/,
      ],
      // What such a rule wants, and so a command's output that may be used like any other ticket.
      [[{ kind: "mock", parameters: new Uint8Array() }], {}, 0, 1, /^relay has a mock rule/],
    ] as const) {
      const { config: other } = dealCommittee(3, {}, "third", [...acl]);
      writeFileSync(path("other.hex"), configToHex(other));
      const made = said();
      const given = { ...options, config: path("other.hex"), issuer: path("own.json"), ...changes };
      assert.equal(await runGuestTicket(given, made.output), code);
      assert.equal(made.lines.join(""), "");
      assert.equal(made.lines.length, lines);
      assert.match(made.problems.join(), line);
    }
  });

  test("a kept state is read back as it was, and no other one", () => {
    const view = random(500);
    const certified = certifyState(committee, 40n, random(300), {
      guestHash: guestHash(view),
      guestBytes: view.length,
    });
    assert.equal(readGuestState(path("none"), config, "relay"), undefined);
    writeGuestState(path("state"), { certified, view });
    assert.deepEqual(readGuestState(path("state"), config, "relay")?.view, view);
    const raw = readFileSync(path("state"));
    const refused = (bytes: Uint8Array, organism: "relay" | "tally" = "relay", of = config): void => {
      writeFileSync(path("changed"), bytes);
      assert.throws(() => readGuestState(path("changed"), of, organism), KitProblem);
    };
    refused(raw, "tally");
    refused(raw, "relay", dealCommittee(3).config);
    refused(raw.subarray(0, -1));
    refused(Buffer.concat([raw, Buffer.from([0])]));
    for (const at of [0, 10, 120, raw.length - 10]) refused(raw.map((byte, index) => (index === at ? byte ^ 1 : byte)));
  });

  test("where nobody answers, it says so and ends", async () => {
    writeFileSync(path("key.json"), JSON.stringify({ seed: toHex(random(32)) }), { mode: 0o400 });
    const nobody = ["127.0.0.1:9"];
    const endpoints = { zipnet: nobody, unseal: nobody, offer: nobody, atelier: nobody, relay: nobody, tally: nobody };
    writeFileSync(path("endpoints.json"), JSON.stringify(endpoints));
    const heard = said();
    const options = {
      config: path("lattice.hex"),
      organism: "relay" as const,
      endpoints: path("endpoints.json"),
      key: path("key.json"),
      ticket: [],
      json: true,
    };
    assert.equal(await runGuestFollow(options, heard.output, new AbortController().signal), 1);
    assert.match(heard.problems.at(-1) ?? "", /no member gave/);
    assert.equal(heard.lines.length, 0);
    assert.equal(
      await runGuestFollow({ ...options, ticket: [path("none")] }, heard.output, new AbortController().signal),
      5,
    );
  });
});
