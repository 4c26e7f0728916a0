import assert from "node:assert/strict";
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { completeDeal, dealNats, natsServerConfig, readDeal, replaceCredentials } from "./nats-config.ts";

test("a deal from before there were trimmers and clusters gets them, and keeps everything else", () => {
  const folder = mkdtempSync(join(tmpdir(), "lattice-deal-"));
  try {
    const whole = dealNats([
      { organism: "zipnet", members: 3 },
      { organism: "tally", members: 2 },
    ]);
    const { routes: _, ...rest } = whole;
    const accounts = whole.accounts.map(({ trimmer: __, ...account }) => account);
    const file = join(folder, "deal.json");
    writeFileSync(file, JSON.stringify({ ...rest, accounts }), { mode: 0o400 });
    const { deal, changed } = completeDeal(readDeal(file));
    assert.ok(changed);
    assert.deepEqual(deal.system, whole.system);
    for (const [position, account] of deal.accounts.entries()) {
      assert.deepEqual(account.members, whole.accounts[position]?.members);
      assert.deepEqual(account.admin, whole.accounts[position]?.admin);
      assert.equal(account.trimmer.stream, account.admin.stream);
      assert.notEqual(account.trimmer.password, whole.accounts[position]?.trimmer.password);
    }
    const server = { name: "n", port: 1, monitorPort: 2, storeDir: folder };
    assert.match(natsServerConfig(deal, server), /tally-trimmer/);
    replaceCredentials(file, deal);
    assert.deepEqual(completeDeal(readDeal(file)), { deal, changed: false }, "once");
    assert.equal(statSync(file).mode & 0o777, 0o400);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
