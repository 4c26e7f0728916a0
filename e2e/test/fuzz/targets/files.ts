/**
 * Files: the journal, the archive of outcomes, snapshots and exported logs with damaged bytes; key, roster, endpoint and config files
 * and settings with changed text. A damaged record is never read as another one.
 */
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseGatewaySettings } from "@lattice/gateway/config.ts";
import { CodecError, concat, encode, equalBytes, toHex, tryDecode } from "@lattice/organism/codec/codec.ts";
import { CHECKPOINT } from "@lattice/organism/committee/checkpoint.ts";
import {
  frameRecord,
  LOG_EXPORT_MAGIC,
  LOG_RECORD,
  type LogRecord,
  LogRecordReader,
} from "@lattice/organism/committee/log-export.ts";
import { CERTIFIED, OUTCOME } from "@lattice/organism/committee/outcome.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { CorruptFile } from "@lattice/organism/node/append-file.ts";
import { FileJournal } from "@lattice/organism/node/file-journal.ts";
import { KitProblem, readEndpoints, readKeyFile, readRosters, rostersToJson } from "@lattice/organism/node/kit.ts";
import { OutcomeArchive } from "@lattice/organism/node/outcome-archive.ts";
import { parseEnvironmentFile, parseSettings, SettingsProblems } from "@lattice/organism/node/settings.ts";
import { FileSnapshotStore } from "@lattice/organism/node/snapshot-store.ts";
import { SETTINGS as RELAY_SETTINGS } from "@lattice/relay/config.ts";
import { certifyState, dealCommittee } from "../../../../services/organism/test/test-lattice.ts";
import type { Dice } from "../dice.ts";
import { draw } from "../layout.ts";
import { mutateBytes, mutateJson, mutateText } from "../mutate.ts";
import { Finding, shown, type Target, type Verdict } from "../target.ts";

/** A folder of its own for a target; the path stays out of every report. */
function scratch(): string {
  return mkdtempSync(join(tmpdir(), "lattice-fuzz-"));
}

type Json = Parameters<typeof mutateJson>[1];

const journal: Target = {
  name: "file/journal",
  async open(dice) {
    const folder = scratch();
    const sample = join(folder, "sample");
    mkdirSync(sample);
    const first = await FileJournal.open(sample);
    const promises = new Map<string, string>();
    for (let index = 0; index < 6; index++) {
      const value = dice.bytes(20 + dice.below(60));
      await first.promise(`vote/${index}`, BigInt(index), value);
      promises.set(`vote/${index}`, toHex(value));
    }
    await first.close();
    const bytes = new Uint8Array(readFileSync(join(sample, "journal")));
    let last = new Uint8Array();
    return {
      async run(caseDice, n): Promise<Verdict> {
        last = mutateBytes(caseDice, n, bytes, [], bytes).slice();
        const place = join(folder, `case-${n % 8}`);
        rmSync(place, { recursive: true, force: true });
        mkdirSync(place);
        writeFileSync(join(place, "journal"), last);
        let opened: FileJournal;
        try {
          opened = await FileJournal.open(place);
        } catch (error) {
          if (error instanceof CorruptFile) return "refused";
          throw error;
        }
        try {
          for (const [key, value] of promises) {
            const kept = opened.promised(key);
            if (kept !== undefined && toHex(kept) !== value)
              throw new Finding(`${key} is remembered as something else`);
          }
          return "accepted";
        } finally {
          await opened.close();
        }
      },
      lastInput: () => shown(last),
      close: () => rmSync(folder, { recursive: true, force: true }),
    };
  },
};

const archive: Target = {
  name: "file/archive",
  async open(dice) {
    const folder = scratch();
    const sample = join(folder, "sample");
    mkdirSync(sample);
    const first = await OutcomeArchive.open(sample, "relay");
    const kept = new Map<bigint, string>();
    for (let slot = 1n; slot < 6n; slot++) {
      const outcome = tryDecode(OUTCOME, draw(OUTCOME, dice) ?? new Uint8Array());
      if (outcome === undefined) throw new Error("no outcome");
      const certified = {
        outcome: { ...outcome, slot, stage: "accepted" },
        signature: dice.bytes(96),
        signers: [0, 1],
      };
      await first.put(certified);
      kept.set(slot, toHex(encode(CERTIFIED, certified)));
    }
    await first.close();
    const bytes = new Uint8Array(readFileSync(join(sample, "outcomes")));
    let last = new Uint8Array();
    return {
      async run(caseDice, n): Promise<Verdict> {
        last = mutateBytes(caseDice, n, bytes, [], bytes).slice();
        const place = join(folder, `case-${n % 8}`);
        rmSync(place, { recursive: true, force: true });
        mkdirSync(place);
        writeFileSync(join(place, "outcomes"), last);
        let opened: OutcomeArchive;
        try {
          opened = await OutcomeArchive.open(place, "relay");
        } catch (error) {
          if (error instanceof CorruptFile) return "refused";
          throw error;
        }
        try {
          for (const [slot, value] of kept) {
            const found = await opened.get("accepted", slot);
            if (found !== undefined && toHex(encode(CERTIFIED, found)) !== value) {
              throw new Finding(`slot ${slot} is remembered as something else`);
            }
          }
          return "accepted";
        } finally {
          await opened.close();
        }
      },
      lastInput: () => shown(last),
      close: () => rmSync(folder, { recursive: true, force: true }),
    };
  },
};

const snapshot: Target = {
  name: "file/snapshot",
  async open(dice) {
    await initCrypto();
    const folder = scratch();
    const committee = dealCommittee(3);
    const state = dice.bytes(200);
    const sample = join(folder, "sample");
    const first = await FileSnapshotStore.open(sample, committee.config, "relay");
    const certified = certifyState(committee, 64n, state);
    await first.save(certified, state);
    const [name = ""] = readdirSync(sample);
    const bytes = new Uint8Array(readFileSync(join(sample, name)));
    const original = encode(CHECKPOINT, certified.checkpoint);
    let last = new Uint8Array();
    return {
      async run(caseDice, n): Promise<Verdict> {
        last = mutateBytes(caseDice, n, bytes, [], bytes).slice();
        const place = join(folder, `case-${n % 8}`);
        rmSync(place, { recursive: true, force: true });
        mkdirSync(place);
        writeFileSync(join(place, name), last);
        const opened = await FileSnapshotStore.open(place, committee.config, "relay");
        const [held] = opened.held();
        if (held === undefined) return "refused";
        if (!equalBytes(encode(CHECKPOINT, held.checkpoint), original)) {
          throw new Finding("another checkpoint is held than was certified");
        }
        const loaded = await opened.load(held.checkpoint);
        if (loaded === undefined || !equalBytes(loaded, state)) throw new Finding("another state than was certified");
        return "accepted";
      },
      lastInput: () => shown(last),
      close: () => rmSync(folder, { recursive: true, force: true }),
    };
  },
};

const exportedLog: Target = {
  name: "file/exported-log",
  async open(dice) {
    const records: LogRecord[] = [];
    for (let made = 0; made < 6; made++) {
      const record = tryDecode(LOG_RECORD, draw(LOG_RECORD, dice) ?? new Uint8Array());
      if (record !== undefined) records.push(record);
    }
    records.push({ type: "entry", position: 7n, raw: dice.bytes(60) });
    const whole = (of: readonly LogRecord[]): Uint8Array => concat(LOG_EXPORT_MAGIC, ...of.map(frameRecord));
    const bytes = whole(records);
    let last = new Uint8Array();
    return {
      run(caseDice, n): Verdict {
        last = mutateBytes(caseDice, n, bytes, [], bytes).slice();
        const reader = new LogRecordReader();
        const read: LogRecord[] = [];
        const cut = caseDice.below(last.length + 1);
        try {
          for (const piece of [last.subarray(0, cut), last.subarray(cut)]) read.push(...reader.push(piece));
        } catch (error) {
          if (error instanceof CodecError) return "refused";
          throw error;
        }
        if (!reader.whole) return "refused";
        if (!equalBytes(whole(read), last)) throw new Finding("records that are spelled otherwise");
        return "accepted";
      },
      lastInput: () => shown(last),
    };
  },
};

/** A file of text: changed as text or as JSON, read with one of the kit's readers. */
function textFile(name: string, make: (dice: Dice) => Promise<{ text: string; read: (path: string) => void }>): Target {
  return {
    name,
    async open(dice) {
      const folder = scratch();
      const path = join(folder, "file");
      const { text, read } = await make(dice);
      let last = "";
      return {
        run(caseDice, n): Verdict {
          last = caseDice.chance(2)
            ? mutateText(caseDice, n, text)
            : JSON.stringify(mutateJson(caseDice, JSON.parse(text) as Json));
          rmSync(path, { force: true });
          writeFileSync(path, last, { mode: 0o600 });
          chmodSync(path, 0o400);
          try {
            read(path);
            return "accepted";
          } catch (error) {
            if (error instanceof KitProblem) return "refused";
            throw error;
          }
        },
        lastInput: () => last,
        close: () => rmSync(folder, { recursive: true, force: true }),
      };
    },
  };
}

const keyFile = textFile("file/key", async (dice) => {
  const key = (): string => toHex(dice.bytes(32));
  const text = JSON.stringify({
    organism: "relay",
    index: 1,
    boxKey: key(),
    memberKey: key(),
    certificateShare: key(),
  });
  return { text, read: (path) => void readKeyFile(path) };
});

const endpoints = textFile("file/endpoints", async () => {
  const text = JSON.stringify(
    Object.fromEntries([...ORGANISMS, "aggregator"].map((organism) => [organism, ["127.0.0.1:7000", "host:1"]])),
  );
  return {
    text,
    read(path) {
      for (const [organism, addresses] of Object.entries(readEndpoints(path))) {
        if (!(ORGANISMS as readonly string[]).includes(organism)) continue;
        const bad = addresses.find((address) => !/^[^\s:]+:\d{1,5}$/.test(address));
        if (bad !== undefined) throw new Finding(`an address of ${organism} is none`);
      }
    },
  };
});

const rosters = textFile("file/rosters", async () => {
  await initCrypto();
  const { config, certifiedRoster } = dealCommittee(3);
  // relay's is certified; the file is judged per organism, and the first that is wrong is told.
  const text = rostersToJson(
    Object.fromEntries(ORGANISMS.map((organism) => [organism, certifiedRoster])) as Parameters<typeof rostersToJson>[0],
  );
  return {
    text,
    read(path) {
      readRosters(path, config);
      throw new Finding("rosters of another committee were accepted");
    },
  };
});

const settings: Target = {
  name: "settings",
  async open() {
    const member = [
      "LATTICE_CONFIG_FILE=c",
      "LATTICE_ROSTERS_FILE=r",
      "LATTICE_ENDPOINTS_FILE=e",
      "LATTICE_KEY_FILE=k",
      "LATTICE_DATA_DIR=d",
      "LATTICE_LISTEN=127.0.0.1:7000",
      "LATTICE_NATS_SERVERS=nats://127.0.0.1:4222",
      "LATTICE_NATS_CREDENTIALS_FILE=n",
      "RELAY_ENGINE_LISTEN=127.0.0.1:7001",
      "RELAY_ENGINE_JWT_FILE=j",
      "RELAY_SEQUENCER_URL=http://127.0.0.1:7002",
      "GATEWAY_LISTEN=127.0.0.1:7003",
      "GATEWAY_CHAIN_RPC=http://127.0.0.1:7004",
      "GATEWAY_DATA_DIR=g",
      "GATEWAY_CLIENTS=4",
    ].join("\n");
    let last = "";
    return {
      run(dice, n): Verdict {
        last = mutateText(dice, n, member);
        const environment = parseEnvironmentFile(last);
        const gateway = Object.fromEntries(
          Object.entries(environment).filter(([name]) => /^GATEWAY_|^LATTICE_(CONFIG|ROSTERS|ENDPOINTS)/.test(name)),
        );
        let refused = 0;
        for (const read of [
          () => parseSettings(environment, "relay", RELAY_SETTINGS),
          () => parseGatewaySettings(gateway),
        ]) {
          try {
            read();
          } catch (error) {
            if (!(error instanceof SettingsProblems)) throw error;
            refused += 1;
          }
        }
        return refused === 0 ? "accepted" : "refused";
      },
      lastInput: () => last,
    };
  },
};

export function fileTargets(): Target[] {
  return [journal, archive, snapshot, exportedLog, keyFile, endpoints, rosters, settings];
}
