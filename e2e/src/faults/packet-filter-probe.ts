/** What a packet filter does to connections, seen from both ends. Run inside a network namespace by packet-filter.test.ts. */
import { readlinkSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { PacketFilter } from "./packet-filter.ts";

interface Heard {
  readonly heard: string;
  readonly answered: string;
}

export interface Seen {
  readonly namespace: string;
  readonly cutBoth: Heard & { readonly other: string };
  readonly mended: Heard;
  readonly cutDown: Heard;
  readonly cutUp: Heard;
  readonly lost: number;
  readonly lossy: string;
  readonly sent: string;
}

/** A client and a server's end of one connection, with what each has heard since it was last asked. */
class Pair {
  readonly port: number;
  readonly #server: Server;
  readonly #client: Socket;
  readonly #far: Socket;
  #heard = "";
  #answered = "";

  private constructor(server: Server, client: Socket, far: Socket) {
    this.#server = server;
    this.#client = client;
    this.#far = far;
    this.port = (server.address() as AddressInfo).port;
    far.on("data", (bytes) => {
      this.#heard += bytes.toString("latin1");
    });
    client.on("data", (bytes) => {
      this.#answered += bytes.toString("latin1");
    });
  }

  static async open(): Promise<Pair> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const accepted = new Promise<Socket>((resolve) => server.once("connection", resolve));
    const client = connect((server.address() as AddressInfo).port, "127.0.0.1");
    const far = await accepted;
    for (const socket of [client, far]) socket.setNoDelay(true);
    return new Pair(server, client, far);
  }

  say(text: string): void {
    this.#client.write(text);
  }
  answer(text: string): void {
    this.#far.write(text);
  }
  get heard(): string {
    return this.#heard;
  }
  get answered(): string {
    return this.#answered;
  }
  take(): Heard {
    const taken = { heard: this.#heard, answered: this.#answered };
    this.#heard = "";
    this.#answered = "";
    return taken;
  }
  close(): void {
    this.#client.destroy();
    this.#far.destroy();
    this.#server.close();
  }
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const filter = new PacketFilter();
const pair = await Pair.open();
const other = await Pair.open();
const dropping = async (work: () => void): Promise<void> => {
  const before = filter.dropped;
  work();
  await until(() => filter.dropped > before);
};

filter.set([pair.port], { cut: "both" });
await dropping(() => pair.say("both"));
other.say("x");
await until(() => other.heard === "x");
const cutBoth = { ...pair.take(), other: other.take().heard };

filter.mend();
await until(() => pair.heard === "both");
const mended = pair.take();

filter.set([pair.port], { cut: "down" });
pair.say("down");
await until(() => pair.heard === "down");
await dropping(() => pair.answer("never heard before it is mended"));
const cutDown = pair.take();
filter.mend();
await until(() => pair.answered !== "");
pair.take();

filter.set([pair.port], { cut: "up" });
pair.answer("up");
await until(() => pair.answered === "up");
await dropping(() => pair.say("never heard before it is mended"));
const cutUp = pair.take();
filter.mend();
await until(() => pair.heard !== "");
pair.take();

filter.set([pair.port], { loss: 0.2 });
const before = filter.dropped;
const sent = Array.from({ length: 100 }, (_, index) => `${index};`);
for (const each of sent) {
  pair.say(each);
  await new Promise((resolve) => setImmediate(resolve));
}
await until(() => pair.heard.length === sent.join("").length);
const seen: Seen = {
  namespace: readlinkSync("/proc/self/ns/net"),
  cutBoth,
  mended,
  cutDown,
  cutUp,
  lost: filter.dropped - before,
  lossy: pair.take().heard,
  sent: sent.join(""),
};
pair.close();
other.close();
process.stdout.write(JSON.stringify(seen));
