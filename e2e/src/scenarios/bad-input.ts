/** Everything that anybody can send and must not: each gets a typed refusal or one readable line, and slots go on. */
import { spawn } from "node:child_process";
import { chmodSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { http } from "@lattice/deploy/local/layout.ts";
import { memberEnvironment, memberScript } from "@lattice/deploy/local/members.ts";
import { ROOT, type Session } from "@lattice/deploy/local/session.ts";
import { findNatsServer, NatsServerMissing } from "@lattice/deploy/nats/nats-server.ts";
import { committeeId } from "@lattice/organism/identity/lattice-config.ts";
import { ORGANISMS, type Organism } from "@lattice/organism/identity/organisms.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { readEndpoints } from "@lattice/organism/node/kit.ts";
import type { Hex } from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { completeFrom, eventually, firstComplete, slotNow } from "./lattice-tools.ts";
import { type RawAnswer, rawCall } from "./raw-grpc.ts";
import type { Scenario, ScenarioContext } from "./scenario.ts";
import { ask, landed, post, type RpcAnswer, User } from "./users.ts";

/** gRPC statuses that say whose fault it is: anything but OK, UNKNOWN and INTERNAL. */
const TYPED = (answer: RawAnswer): boolean => ![-1, 0, 2, 13].includes(answer.status);
const HEADER = "lattice-organism-id-bin";
const COMMITTEE_SERVICE = "/lattice.committee.v1.CommitteeService";

/** Methods that take canonical bytes in field 1, and what they are. */
const WRITES: readonly { readonly organism: Organism; readonly path: string; readonly what: string }[] = [
  { organism: "zipnet", path: "/lattice.zipnet.v1.ZipnetService/Register", what: "registration" },
  { organism: "zipnet", path: "/lattice.zipnet.v1.ZipnetService/SubmitAggregate", what: "aggregate" },
  { organism: "offer", path: "/lattice.offer.v1.OfferService/SubmitBid", what: "bid" },
  { organism: "offer", path: "/lattice.offer.v1.OfferService/CancelBid", what: "cancellation" },
  { organism: "offer", path: "/lattice.offer.v1.OfferService/RegisterSearcher", what: "searcher's registration" },
];

/** A length-delimited field. */
function field(number: number, bytes: Uint8Array): Uint8Array {
  const length: number[] = [];
  let left = bytes.length;
  do {
    length.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    left >>>= 7;
  } while (left > 0);
  return new Uint8Array([(number << 3) | 2, ...length, ...bytes]);
}

/** Start-group tags without end: what a careless parser follows down until its stack is gone. */
const NESTED = new Uint8Array(100_000).fill((9 << 3) | 3);

async function grpcCases(context: ScenarioContext, { lattice }: Session): Promise<void> {
  const { config, layout } = lattice;
  const endpoints = readEndpoints(layout.endpoints);
  for (const [turn, organism] of ORGANISMS.entries()) {
    const address = endpoints[organism][0] ?? "";
    const right = { [HEADER]: Buffer.from(committeeId(config, organism)).toString("base64") };
    const other = ORGANISMS[(turn + 1) % ORGANISMS.length] ?? "zipnet";
    const wrong = { [HEADER]: Buffer.from(committeeId(config, other)).toString("base64") };
    const ours = (what: string, answer: RawAnswer, holds: boolean): boolean =>
      context.check(
        `${organism}: ${what}`,
        holds,
        `status ${answer.status} ${answer.reason} ${answer.message}`.slice(0, 200),
      );
    const getOutcome = `${COMMITTEE_SERVICE}/GetOutcome`;
    const request = Buffer.concat([field(1, Buffer.from("broadcast")), Buffer.from([0x10, 0x01])]);

    for (const [what, headers] of [
      ["no organism id", {}],
      ["another organism's id", wrong],
    ] as const) {
      const answer = await rawCall(address, getOutcome, request, headers);
      ours(`${what} is a mismatch`, answer, answer.status === 9 && answer.reason === "ORGANISM_MISMATCH");
    }
    const cases: [string, string, Uint8Array][] = [
      ["a truncated message", getOutcome, field(1, Buffer.from("broadcast")).subarray(0, 5)],
      ["bytes that are no protobuf", getOutcome, new Uint8Array(64).fill(0xff)],
      ["endless nesting", getOutcome, NESTED],
      ["an oversize message", getOutcome, field(1, new Uint8Array(9 << 20))],
      [
        "a stage that it does not have",
        getOutcome,
        Buffer.concat([field(1, Buffer.from("supper")), Buffer.from([0x10, 0x01])]),
      ],
      [
        "a slot far in the future",
        getOutcome,
        Buffer.concat([field(1, Buffer.from("broadcast")), Buffer.from([0x10, 0xff, 0xff, 0xff, 0x7f])]),
      ],
      ["a method that nobody serves", `${COMMITTEE_SERVICE}/Overthrow`, new Uint8Array()],
      [
        "a body asked for with a bad signature",
        `${COMMITTEE_SERVICE}/GetBody`,
        Buffer.concat([
          field(1, Buffer.from("candidate")),
          Buffer.from([0x10, 0x01]),
          field(3, Buffer.from("atelier")),
          field(6, new Uint8Array(64)),
        ]),
      ],
    ];
    for (const [what, path, message] of cases) {
      const answer = await rawCall(address, path, message, right);
      ours(`${what} is refused with a reason`, answer, TYPED(answer));
    }
    const unknown = await rawCall(address, `${COMMITTEE_SERVICE}/GetStatus`, field(900, new Uint8Array(100)), right);
    ours("unknown fields are dropped or refused", unknown, unknown.status === 0 || TYPED(unknown));
  }
  for (const { organism, path, what } of WRITES) {
    const right = { [HEADER]: Buffer.from(committeeId(config, organism)).toString("base64") };
    for (const [kind, bytes] of [
      ["empty", new Uint8Array()],
      ["random", new Uint8Array(300).fill(0xa5)],
      ["oversize", new Uint8Array(3 << 20)],
    ] as const) {
      const answer = await rawCall(endpoints[organism][0] ?? "", path, field(1, bytes), right);
      context.check(
        `${organism}: ${kind} bytes for the ${what} are refused with a reason`,
        TYPED(answer) && answer.reason !== "",
        `status ${answer.status} ${answer.reason}`,
      );
    }
  }
  const aggregator = endpoints.aggregator[0] ?? "";
  const zipnet = { [HEADER]: Buffer.from(committeeId(config, "zipnet")).toString("base64") };
  const answer = await rawCall(
    aggregator,
    "/lattice.zipnet.v1.AggregatorService/Submit",
    field(1, new Uint8Array(200).fill(7)),
    zipnet,
  );
  context.check(
    "aggregator: an envelope that is none is refused",
    TYPED(answer),
    `status ${answer.status} ${answer.reason}`,
  );
}

async function transactionCases(context: ScenarioContext, { lattice }: Session): Promise<void> {
  const [sample, receiver] = lattice.accounts.wallets;
  if (sample === undefined || receiver === undefined) throw new Error("sample accounts are missing");
  const user = new User(lattice, sample);
  const to: Hex = `0x${receiver.address}`;
  const raw = await user.sign({ to, valueWei: 1n });
  const poor = privateKeyToAccount(`0x${"11".repeat(32)}`);
  const penniless = await poor.signTransaction({
    type: "eip1559",
    chainId: Number(lattice.config.chainId),
    nonce: 0,
    to,
    value: 1n,
    gas: 21_000n,
    maxFeePerGas: 10n ** 10n,
    maxPriorityFeePerGas: 1n,
  });
  const limit = 2 << 17;
  const cases: [string, unknown, string][] = [
    ["bytes that are no transaction", "0x02c0ffee", "TRANSACTION_UNDECODABLE"],
    ["a truncated transaction", raw.slice(0, -6), "TRANSACTION_UNDECODABLE"],
    ["no bytes at all", "0x", "TRANSACTION_UNDECODABLE"],
    ["another chain's transaction", await user.sign({ to, chainId: 1 }), "WRONG_CHAIN"],
    ["an account without money", penniless, "UNDERFUNDED"],
    [
      "an oversize transaction",
      await user.sign({ to, data: `0x${"ab".repeat(limit)}`, gas: 10_000_000n }),
      "TRANSACTION_TOO_LARGE",
    ],
  ];
  for (const [what, given, reason] of cases) {
    const { error } = await ask(lattice.gatewayUrl, "eth_sendRawTransaction", [given]);
    context.check(`gateway: ${what} is ${reason}`, error?.data?.reason === reason, JSON.stringify(error).slice(0, 200));
  }
  for (const [what, params] of [
    ["no parameter", []],
    ["a number", [7]],
    ["odd hex", ["0xabc"]],
    ["an unknown disclosure", [raw, { disclosure: "some" }]],
  ] as const) {
    const { error } = await ask(lattice.gatewayUrl, "eth_sendRawTransaction", params);
    context.check(
      `gateway: ${what} is an invalid parameter`,
      error?.code === -32_602,
      JSON.stringify(error).slice(0, 200),
    );
  }
  const hash = await user.send(raw, "nothing");
  context.check("gateway: the same transaction again is the same hash", (await user.send(raw, "nothing")) === hash);
  const there = await eventually(15 * context.slotMs, async () => (await landed(lattice, hash)) !== undefined);
  context.check("an acknowledged transaction lands all the same", there);
  const { error } = await ask(lattice.gatewayUrl, "eth_sendRawTransaction", [await user.sign({ to, nonce: 0 })]);
  context.check(
    "gateway: a used nonce is NONCE_TOO_LOW",
    error?.data?.reason === "NONCE_TOO_LOW",
    JSON.stringify(error),
  );
}

async function jsonRpcCases(context: ScenarioContext, { lattice }: Session): Promise<void> {
  const { gatewayUrl: url } = lattice;
  const call = (method: unknown): object => ({ jsonrpc: "2.0", id: 1, method, params: [] });
  const cases: [string, string | Uint8Array, number][] = [
    ["text that is no JSON", "{", -32_700],
    ["an empty batch", "[]", -32_600],
    ["a batch that is too long", JSON.stringify(Array.from({ length: 1001 }, () => call("eth_chainId"))), -32_600],
    ["a request that is none", JSON.stringify({ hello: "there" }), -32_600],
    ["a method that is a number", JSON.stringify(call(7)), -32_600],
    ["a method that does not exist", JSON.stringify(call("eth_makeMeRich")), -32_601],
    ["named parameters", JSON.stringify({ ...call("eth_chainId"), params: { a: 1 } }), -32_602],
    ["deep nesting", `${"[".repeat(50_000)}${"]".repeat(50_000)}`, -32_700],
  ];
  for (const [what, body, code] of cases) {
    const { text } = await post(url, body);
    const parsed = JSON.parse(text) as RpcAnswer | RpcAnswer[];
    const first = Array.isArray(parsed) ? parsed[0] : parsed;
    context.check(`gateway: ${what} is ${code}`, first?.error?.code === code, text.slice(0, 200));
  }
  const mixed = JSON.parse(
    (await post(url, JSON.stringify([call("eth_chainId"), 7, call("nope")]))).text,
  ) as RpcAnswer[];
  const sorted = mixed.length === 3 && mixed[0]?.result !== undefined && mixed[1]?.error?.code === -32_600;
  context.check("gateway: a batch is answered one by one", sorted, JSON.stringify(mixed).slice(0, 200));
  const huge = await post(url, new Uint8Array(6 << 20).fill(0x20)).catch((error: unknown) => ({
    status: 0,
    text: String(error),
  }));
  context.check(
    "gateway: a body of 6 MiB is refused",
    huge.status === 413 || huge.text.includes("error"),
    `${huge.status} ${huge.text.slice(0, 80)}`,
  );
}

interface Ended {
  readonly code: number | null;
  readonly output: string;
}

function run(args: readonly string[], environment: Readonly<Record<string, string>>): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", ...args], {
      cwd: ROOT,
      env: { PATH: process.env["PATH"] ?? "", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 60_000,
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.on("data", (chunk: Buffer) => {
        output += chunk.toString();
      });
    }
    child.once("error", reject);
    child.once("close", (code) => resolve({ code, output }));
  });
}

async function machineCases(context: ScenarioContext, { lattice }: Session): Promise<void> {
  const { layout, ports } = lattice;
  const right = memberEnvironment({ layout, ports, logLevel: "info", slotMs: context.slotMs }, "relay", 0);
  const wrong = Object.fromEntries(Object.keys(right).map((name) => [name, "\u0000".slice(1)]));
  const script = memberScript("relay");
  const settings = await run([script], {
    ...wrong,
    LATTICE_LISTEN: "everywhere",
    LATTICE_METRICS_LISTEN: "no",
    LATTICE_LOG_LEVEL: "loud",
    LATTICE_NATS_MONITOR_URL: "::",
    RELAY_SEQUENCER_URL: "::",
  });
  const named = ["LATTICE_LISTEN", "LATTICE_METRICS_LISTEN", "LATTICE_LOG_LEVEL", "LATTICE_NATS_MONITOR_URL"];
  context.check(
    "member: every wrong setting is named at once",
    settings.code === EXIT.usage && named.every((name) => settings.output.includes(name)),
    `exit ${settings.code}: ${settings.output.slice(0, 300)}`,
  );
  const hex = readFileSync(layout.config, "utf8").trim();
  const { LATTICE_CONFIG_FILE: _, ...withoutFile } = right;
  const flipped = `${hex.slice(0, -2)}ff00`;
  const config = await run([script], { ...withoutFile, LATTICE_CONFIG_HEX: flipped });
  const oneLine = config.output.trim().split("\n").length === 1;
  context.check(
    "member: a config with a byte too many is one readable line",
    config.code === EXIT.precondition && oneLine,
    `exit ${config.code}: ${config.output.slice(0, 200)}`,
  );

  const old = join(context.directory, "nats-server-old");
  writeFileSync(old, "#!/bin/sh\necho 'nats-server: v2.9.1'\n");
  chmodSync(old, 0o755);
  const missing = async (bin: string): Promise<string> => {
    try {
      await findNatsServer({
        toolsDir: join(context.directory, "none"),
        environment: { NATS_SERVER_BIN: bin, PATH: "" },
        download: false,
      });
      return "";
    } catch (error) {
      return error instanceof NatsServerMissing ? error.message : "another error";
    }
  };
  const tooOld = await missing(old);
  context.check(
    "a nats-server that is too old is one readable line",
    /2\.9\.1/.test(tooOld) && !tooOld.includes("\n"),
    tooOld,
  );
  const none = await missing(join(context.directory, "nowhere"));
  context.check(
    "no nats-server is one readable line",
    /no usable nats-server/.test(none) && !none.includes("\n"),
    none,
  );

  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const address = taken.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  const inUse = await run(["deploy/src/cli/main.ts", "local", "up", "--embedded", "--gateway-port", String(port)], {});
  taken.close();
  context.check(
    "a port in use is one readable line and exit 5",
    inUse.code === EXIT.precondition &&
      inUse.output.trim().split("\n").length === 1 &&
      inUse.output.includes(String(port)),
    `exit ${inUse.code}: ${inUse.output.slice(0, 200)}`,
  );
  const usage = await run(["deploy/src/cli/main.ts", "local", "demo", "--slots", "none"], {});
  context.check(
    "a wrong option is a usage error",
    usage.code !== 0 && usage.output.includes("1 to 10000"),
    `exit ${usage.code}`,
  );

  const relay = await fetch(http(ports.relayEngine[0] ?? 0), {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method: "engine_getPayloadV4", params: ["0x0000000000000001"] }),
  });
  await relay.arrayBuffer();
  context.check("relay: the Engine API without a token is 401", relay.status === 401, String(relay.status));
}

async function deadChain(context: ScenarioContext, session: Session): Promise<void> {
  const { lattice } = session;
  await lattice.process("sequencer").stop();
  await lattice.chain?.program.kill();
  const { error } = await ask(lattice.gatewayUrl, "eth_blockNumber", []);
  context.check(
    "gateway: a dead chain endpoint is CHAIN_UNREACHABLE",
    error?.data?.reason === "CHAIN_UNREACHABLE",
    JSON.stringify(error),
  );
  await lattice.startChain();
  await completeFrom(context, session, slotNow(lattice) + 1n, "slots go on once the chain is back", 20);
}

function allAlive(context: ScenarioContext, { lattice }: Session, when: string): void {
  const dead = [...lattice.processes].filter(([, { running }]) => !running).map(([name]) => name);
  context.check(`nobody has crashed ${when}`, dead.length === 0, dead.join(", "));
}

export const scenario: Scenario = {
  name: "bad-input",
  description:
    "malformed, oversize, forged and misdirected input of every kind: typed refusals, nothing lost, nothing crashes",
  async run(context) {
    const session = await context.start({ mode: await context.mode(), traffic: false });
    if (!(await firstComplete(context, session))) return;
    await grpcCases(context, session);
    allAlive(context, session, "after bad protobufs");
    await jsonRpcCases(context, session);
    await transactionCases(context, session);
    allAlive(context, session, "after bad requests");
    await machineCases(context, session);
    await completeFrom(context, session, slotNow(session.lattice) + 1n, "slots go on");
    await deadChain(context, session);
    allAlive(context, session, "at the end");
  },
};
