/** A store that lies: that stalls, hangs up half-way, says more than anybody asked for, or lists without end. */
import assert from "node:assert/strict";
import { createServer, type RequestListener, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, before, describe, test } from "node:test";
import { certifyState, dealCommittee } from "../../test/test-lattice.ts";
import { concat } from "../codec/codec.ts";
import { initCrypto } from "../crypto/engine.ts";
import { ManualTimers } from "../testing/manual-timers.ts";
import { ArchiveBucket } from "./archive-bucket.ts";
import { S3Client, S3Problem } from "./s3-client.ts";
import { encodeSnapshotHead, snapshotName } from "./snapshot-file.ts";

const CREDENTIALS = { accessKeyId: "archive-test", secretAccessKey: "only-for-this-test" };
/** With a store that answers, and with one that falls silent. */
const PATIENCE_MS = 60_000;
const SILENCE_MS = 400;

describe("an S3 endpoint that is not what it should be", () => {
  let server: Server | undefined;
  before(initCrypto);
  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
  });

  async function serve(answer: RequestListener, timeoutMs = PATIENCE_MS): Promise<S3Client> {
    const started = createServer(answer);
    server = started;
    await new Promise<void>((resolve) => started.listen(0, "127.0.0.1", resolve));
    const url = `http://127.0.0.1:${(started.address() as AddressInfo).port}/bucket/prefix`;
    return new S3Client({ url, region: "r", credentials: CREDENTIALS, nowMs: Date.now, timeoutMs });
  }
  const passing = (error: unknown): boolean => error instanceof S3Problem && error.passing;
  /** Writes until whoever reads hangs up. @returns how much went out */
  function flood(response: ServerResponse): { bytes: number } {
    const sent = { bytes: 0 };
    const piece = Buffer.alloc(256 * 1024, "x");
    const more = (): void => {
      while (!response.destroyed) {
        sent.bytes += piece.length;
        if (!response.write(piece)) break;
      }
    };
    response.on("drain", more);
    more();
    return sent;
  }

  test("half an answer, and silence in the middle of one, are problems that pass; an archive has nothing then", async () => {
    const ways: readonly [string, (response: ServerResponse) => void][] = [
      ["half", (response) => response.socket?.destroy()],
      ["silence", () => undefined],
    ];
    for (const [name, then] of ways) {
      const client = await serve((_, response) => {
        response.writeHead(200, { "content-length": "1000" });
        response.write("a part of it", () => then(response));
      }, SILENCE_MS);
      await assert.rejects(client.get("key", 1000), passing, name);
      await assert.rejects(client.get("key", 1000, { offset: 0 }), passing, name);
      await assert.rejects(client.list(""), passing, name);
      const { config } = dealCommittee(3);
      const archive = new ArchiveBucket(client, config, "relay", new ManualTimers());
      assert.equal(await archive.outcome("accepted", 1n), undefined, name);
      await assert.rejects(archive.snapshots.refresh(), passing, name);
      server?.closeAllConnections();
      server?.close();
    }
  });

  test("a refusal without end is read as far as it may say something", async () => {
    let sent = { bytes: 0 };
    const client = await serve((_, response) => {
      response.writeHead(403);
      response.write("<Error><Code>AccessDenied</Code>");
      sent = flood(response);
    });
    await assert.rejects(client.get("key", 10), (error: unknown) => {
      return error instanceof S3Problem && error.status === 403 && error.message.endsWith("AccessDenied");
    });
    assert.ok(sent.bytes < 16 << 20, `${sent.bytes} bytes`);
  });

  test("an object, or a page of a list, without end is read as far as one may be long", async () => {
    let sent = { bytes: 0 };
    const client = await serve((_, response) => {
      response.writeHead(200);
      sent = flood(response);
    });
    assert.equal(await client.get("key", 1000), undefined, "larger than it may be");
    assert.equal((await client.get("key", 1000, { offset: 5 }))?.length, 1000);
    assert.deepEqual(await client.list(""), []);
    assert.ok(sent.bytes < 32 << 20, `${sent.bytes} bytes`);
  });

  test("a list that always goes on, and one made of openings only, come to an end", async () => {
    let pages = 0;
    const client = await serve((_, response) => {
      pages += 1;
      const openings = pages === 1 ? "<Contents><Key>".repeat(200_000) : "";
      response.end(
        `${openings}<Contents><Key>prefix/a&amp;b</Key><Size>7</Size></Contents>` +
          "<IsTruncated>true</IsTruncated><NextContinuationToken>next</NextContinuationToken>",
      );
    });
    const listed = await client.list("");
    assert.equal(pages, 10);
    assert.deepEqual(listed.at(-1), { key: "a&b", bytes: 7 });
  });

  test("a bucket full of names: the newest are looked at, and no more", async () => {
    const committee = dealCommittee(3);
    const state = new Uint8Array(50).fill(7);
    const certified = certifyState(committee, 12n, state);
    const whole = concat(encodeSnapshotHead(certified), state);
    const asked: string[] = [];
    let names: string[] = [];
    let folder = "";
    const client = await serve((request, response) => {
      const { pathname, searchParams } = new URL(request.url ?? "", "http://store");
      if (searchParams.has("list-type")) {
        folder = searchParams.get("prefix") ?? "";
        const contents = names.map((name) => {
          const size = name === snapshotName(certified.checkpoint) ? whole.length : 5;
          return `<Contents><Key>${folder}${name}</Key><Size>${size}</Size></Contents>`;
        });
        response.end(contents.join(""));
        return;
      }
      asked.push(pathname);
      response.end(pathname.endsWith(snapshotName(certified.checkpoint)) ? whole : "junk!");
    });
    const timers = new ManualTimers();
    const archive = new ArchiveBucket(client, committee.config, "relay", timers);
    const junk = (count: number, from: bigint): string[] =>
      Array.from({ length: count }, (_, index) => snapshotName({ generation: 0n, position: from + BigInt(index) }));
    names = [...junk(60, 100n), snapshotName(certified.checkpoint), ...junk(8, 1n)];
    await archive.snapshots.refresh();
    assert.equal(asked.length, 64);
    assert.deepEqual(await archive.snapshots.load({ generation: 0n, position: 12n }), state);
    asked.length = 0;
    names = junk(1000, 100n);
    await archive.snapshots.refresh();
    assert.equal(asked.length, 64);
    assert.deepEqual(archive.snapshots.held(), []);
  });
});
