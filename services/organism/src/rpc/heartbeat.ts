/** A stream that shows that it is alive. */
import { type LatticeConfig, slotAt, slotStartMs } from "../identity/lattice-config.ts";
import { nodeTimers } from "../node/node-timers.ts";
import type { Clock, Timers } from "../ports.ts";

export type Beat<T> =
  | { readonly type: "item"; readonly item: T }
  | { readonly type: "heartbeat"; readonly slot: bigint };

/** The items as they come, a heartbeat at once, and one at the start of every slot. Ends with the items or `signal`. */
export async function* withHeartbeat<T>(
  items: AsyncIterable<T>,
  config: LatticeConfig,
  clock: Clock,
  signal: AbortSignal,
  timers: Timers = nodeTimers,
): AsyncGenerator<Beat<T>> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    yield { type: "heartbeat", slot: slotAt(config, clock.nowMs()) };
    let next = iterator.next();
    while (!signal.aborted) {
      const nowMs = clock.nowMs();
      const waitMs = slotStartMs(config, slotAt(config, nowMs) + 1n) - nowMs;
      let cancel = (): void => undefined;
      const tick = new Promise<undefined>((resolve) => {
        cancel = timers.after(Math.max(Math.min(waitMs, config.slotMs), 1), () => resolve(undefined));
      });
      const event = await Promise.race([next, tick]).finally(() => cancel());
      if (event === undefined) {
        yield { type: "heartbeat", slot: slotAt(config, clock.nowMs()) };
        continue;
      }
      if (event.done === true) return;
      yield { type: "item", item: event.value };
      next = iterator.next();
    }
  } finally {
    await iterator.return?.();
  }
}
