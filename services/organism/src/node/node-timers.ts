/** Time as Node gives it. */
import type { Timers } from "../ports.ts";

export const nodeTimers: Timers = {
  elapsedMs: () => performance.now(),
  after: (ms, work) => {
    const timer = setTimeout(work, ms);
    return () => clearTimeout(timer);
  },
  every: (ms, work) => {
    const timer = setInterval(work, ms);
    return () => clearInterval(timer);
  },
  soon: (work) => {
    setImmediate(work);
  },
};
