/**
 * Free TCP ports on the loopback interface. They come from below the range that the kernel gives to whoever asks for any
 * port (32768 and more on Linux): a lattice keeps its ports while it is down and while its members start, and from that
 * range somebody else would have been given one of them meanwhile.
 */
import { createServer, type Server } from "node:net";

const FIRST = 16_384;
const COUNT = 16_384;

/**
 * Free ports one after the other from a random place on, all held at once so that no two are the same.
 * @param except ports that are promised to somebody
 * @throws Error when there are not so many
 */
export async function freePorts(count: number, except: ReadonlySet<number> = new Set()): Promise<number[]> {
  const start = Math.floor(Math.random() * COUNT);
  const held: { readonly port: number; readonly server: Server }[] = [];
  try {
    for (let turn = 0; held.length < count; turn++) {
      if (turn === COUNT) throw new Error(`${count} free ports expected from ${FIRST} on, ${held.length} found`);
      const port = FIRST + ((start + turn) % COUNT);
      const server = except.has(port) ? undefined : await listenOn(port);
      if (server !== undefined) held.push({ port, server });
    }
    return held.map(({ port }) => port);
  } finally {
    await Promise.all(held.map(({ server }) => new Promise((resolve) => server.close(resolve))));
  }
}

/** Undefined when somebody listens there. */
function listenOn(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(undefined));
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}
