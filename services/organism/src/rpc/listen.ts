/** Listening on an address, with errors an operator can read. */
import type { AddressInfo, Server } from "node:net";
import { rpcFault } from "./errors.ts";

/** `host:port`, `[ipv6]:port`. */
const ADDRESS = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/;

/**
 * @returns the port listened on; another than asked only when 0 was asked for
 * @throws Fault ADDRESS_IN_USE, ADDRESS_REFUSED (domain rpc.lattice)
 */
export function listenOn(server: Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const [, ipv6, host, port] = ADDRESS.exec(address) ?? [];
    if (port === undefined || Number(port) > 65_535) {
      return reject(rpcFault("ADDRESS_REFUSED", `"${address}" is not host:port`, { address }));
    }
    const refuse = (error: NodeJS.ErrnoException): void => {
      const code = error.code ?? "unknown";
      reject(
        code === "EADDRINUSE"
          ? rpcFault("ADDRESS_IN_USE", `another process listens on ${address}`, { address })
          : rpcFault("ADDRESS_REFUSED", `cannot listen on ${address}: ${code}`, { address, code }),
      );
    };
    server.once("error", refuse);
    server.listen(Number(port), ipv6 ?? host, () => {
      server.removeListener("error", refuse);
      resolve((server.address() as AddressInfo).port);
    });
  });
}
