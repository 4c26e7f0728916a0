/**
 * A free TCP port on the loopback interface, for a server that a test starts. It comes from below the range that the kernel
 * gives to whoever asks for any port (32768 and more on Linux): from that range another test, or any connection, would now
 * and then have been given it before the server listens.
 */
import { once } from "node:events";
import { createServer } from "node:net";

const FIRST = 10_000;
const COUNT = 6000;

export async function freePort(): Promise<number> {
  for (;;) {
    const port = FIRST + Math.floor(Math.random() * COUNT);
    const server = createServer();
    const free = await new Promise<boolean>((resolve) => {
      server.once("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => resolve(true));
    });
    if (!free) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}
