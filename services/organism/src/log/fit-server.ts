/** Which brokers a member uses: new enough, with room for an entry, and none that acknowledges before it syncs. */

/** The oldest server that keeps a stream through process crashes (nats-server#6888). */
export const SERVER_VERSION_MIN = "2.10.23";

/** The smallest `max_payload` a member accepts: a chunk and its envelope fit four times. */
export const PAYLOAD_BYTES_MIN = 2 * 1024 * 1024;

/** The broker cannot be used as it is. One readable line; never retried. */
export class UnfitServer extends Error {
  override readonly name = "UnfitServer";
  readonly reason:
    | "NATS_TOO_OLD"
    | "NATS_LAZY_SYNC"
    | "NATS_UNREACHABLE"
    | "NATS_PAYLOAD_TOO_SMALL"
    | "NATS_AUTHORIZATION";
  constructor(reason: UnfitServer["reason"], message: string) {
    super(message);
    this.reason = reason;
  }
}

/** @throws UnfitServer for a server that is too old, or takes too little at once */
export function checkServer(server: { readonly version?: string; readonly max_payload?: number } = {}): void {
  const { version = "0", max_payload: payload = 0 } = server;
  if (olderThan(version, SERVER_VERSION_MIN)) {
    throw new UnfitServer(
      "NATS_TOO_OLD",
      `nats-server ${version} is too old; ${SERVER_VERSION_MIN} or newer is needed`,
    );
  }
  if (payload < PAYLOAD_BYTES_MIN) {
    throw new UnfitServer(
      "NATS_PAYLOAD_TOO_SMALL",
      `max_payload is ${payload}; at least ${PAYLOAD_BYTES_MIN} is needed`,
    );
  }
}

/** The endpoints that do not answer, or whose JetStream is not up: a full disk puts it out. @throws UnfitServer when one answers that it is lazy */
export async function unverifiedSync(monitorUrls: readonly string[]): Promise<string[]> {
  const silent = await Promise.all(
    monitorUrls.map(async (url) => {
      let answer: { jetstream?: { config?: { sync_always?: boolean } } };
      try {
        const response = await fetch(new URL("/varz", url), { signal: AbortSignal.timeout(5000) });
        answer = (await response.json()) as typeof answer;
      } catch {
        return [url];
      }
      const config = answer.jetstream?.config;
      if (config?.sync_always === true) return [];
      if (config === undefined) return [url];
      throw new UnfitServer(
        "NATS_LAZY_SYNC",
        `nats-server (${url}) acknowledges before it syncs; set jetstream.sync_interval: always`,
      );
    }),
  );
  return silent.flat();
}

/** Dotted version comparison; anything that is not a number counts as 0. */
export function olderThan(version: string, minimum: string): boolean {
  const parts = (text: string): number[] =>
    text
      .split(/[.-]/)
      .slice(0, 3)
      .map((part) => Number.parseInt(part, 10) || 0);
  const [a, b] = [parts(version), parts(minimum)];
  for (let index = 0; index < 3; index++) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
