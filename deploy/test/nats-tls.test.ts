/** Servers on machines of different operators: their routes ask for a certificate of one authority as well as for the password. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { freePorts } from "../src/local/free-ports.ts";
import { type ClusterOptions, dealNats } from "../src/nats/nats-config.ts";
import { createCommitteeStream, type NatsServer, startNatsServer } from "../src/nats/nats-process.ts";
import { findNatsServer, NatsServerMissing } from "../src/nats/nats-server.ts";

const TOOLS = fileURLToPath(new URL("../../.tools", import.meta.url));
const SERVERS = [0, 1, 2];
const binary = await findNatsServer({ toolsDir: TOOLS, environment: process.env, download: true }).catch(
  (error: unknown) => {
    if (error instanceof NatsServerMissing) return undefined;
    throw error;
  },
);

/** Certificates are made by a program that we did not write, as an operator would. */
function openssl(...args: readonly string[]): void {
  execFileSync("openssl", args, { stdio: ["ignore", "ignore", "pipe"] });
}
function hasOpenssl(): boolean {
  try {
    openssl("version");
    return true;
  } catch {
    return false;
  }
}
const missing = binary === undefined ? "there is no nats-server" : hasOpenssl() ? false : "there is no openssl";

const KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"] as const;

class Authority {
  readonly folder: string;
  readonly name: string;
  constructor(folder: string, name: string) {
    this.folder = folder;
    this.name = name;
    const files = ["-keyout", this.file("key"), "-out", this.file("pem")];
    openssl("req", "-x509", ...KEY, "-days", "2", "-subj", `/CN=${name}`, ...files);
  }
  file(kind: string): string {
    return join(this.folder, `${this.name}.${kind}`);
  }
  /** A certificate for a server on loopback, good for both ends of a route. */
  async certify(server: string): Promise<NonNullable<ClusterOptions["tls"]>> {
    const own = (kind: string): string => join(this.folder, `${this.name}-${server}.${kind}`);
    await writeFile(own("ext"), "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n");
    openssl("req", ...KEY, "-subj", `/CN=${server}`, "-keyout", own("key"), "-out", own("csr"));
    const signed = ["-CA", this.file("pem"), "-CAkey", this.file("key"), "-CAcreateserial", "-days", "2"];
    openssl("x509", "-req", "-in", own("csr"), ...signed, "-extfile", own("ext"), "-out", own("pem"));
    return { certFile: own("pem"), keyFile: own("key"), caFile: this.file("pem") };
  }
}

describe("routes with TLS", { skip: missing }, () => {
  const deal = dealNats([{ organism: "relay", members: 3 }]);
  const servers: NatsServer[] = [];
  let folder = "";
  let ports: number[] = [];
  let authority: Authority;
  const routes = (): string[] => SERVERS.map((index) => `127.0.0.1:${ports[3 * index + 2]}`);

  /** @param own `client, monitor, route` */
  async function start(name: string, own: readonly number[], tls: ClusterOptions["tls"], readyMs?: number) {
    const [port = 0, monitorPort = 0, route = 0] = own;
    return startNatsServer({
      binary: binary?.path ?? "",
      directory: join(folder, name),
      deal,
      name,
      port,
      monitorPort,
      cluster: { port: route, routes: routes(), ...(tls === undefined ? {} : { tls }) },
      ...(readyMs === undefined ? {} : { readyMs }),
    });
  }

  /** The routes of the first server. */
  async function neighbours(): Promise<string[]> {
    const monitor = servers[0]?.monitorUrl ?? "";
    const { routes: open } = (await (await fetch(new URL("/routez", monitor))).json()) as {
      readonly routes: readonly { readonly remote_name: string }[];
    };
    return [...new Set(open.map(({ remote_name: name }) => name))].sort();
  }

  /** A server is ready once it knows the leader, by whichever of its routes is open first. */
  async function untilNeighbours(expected: readonly string[]): Promise<void> {
    const deadline = performance.now() + 90_000;
    for (;;) {
      const found = await neighbours();
      if (isDeepStrictEqual(found, expected)) return;
      assert.ok(performance.now() < deadline, found.join());
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), "lattice-nats-tls-"));
    ports = await freePorts(9);
    authority = new Authority(folder, "authority");
    servers.push(
      ...(await Promise.all(
        SERVERS.map(async (index) =>
          start(`nats-${index}`, ports.slice(3 * index, 3 * index + 3), await authority.certify(`nats-${index}`)),
        ),
      )),
    );
  });
  after(async () => {
    await Promise.all(servers.map((server) => server.stop()));
    await rm(folder, { recursive: true, force: true });
  });

  test("three servers of one authority are a cluster, and keep a stream on each", async () => {
    await untilNeighbours(["nats-1", "nats-2"]);
    const [account] = deal.accounts;
    assert.ok(account !== undefined);
    const urls = servers.map(({ url }) => url);
    let made: string | undefined;
    for (const deadline = performance.now() + 90_000; made === undefined && performance.now() < deadline; ) {
      made = await createCommitteeStream(urls, account.admin, undefined, 3).catch(() => undefined);
    }
    assert.equal(made, "made");
  });

  test("whoever knows the password and has another authority's certificate, or none, does not get in", async () => {
    const other = new Authority(folder, "other");
    const strangers = [
      ["stranger", await other.certify("stranger")],
      ["bare", undefined],
    ] as const;
    // Alone they find no leader, so they never become ready; had they been admitted, they would.
    await Promise.all(
      strangers.map(async ([name, tls]) =>
        assert.rejects(start(name, await freePorts(3), tls, 4000), { reason: "NOT_READY" }, name),
      ),
    );
    assert.deepEqual(await neighbours(), ["nats-1", "nats-2"]);
    // It is the authority that decides: a fourth server of the right one is let in.
    const fourth = await start("nats-3", await freePorts(3), await authority.certify("nats-3"));
    await untilNeighbours(["nats-1", "nats-2", "nats-3"]);
    await fourth.stop();
  });
});
