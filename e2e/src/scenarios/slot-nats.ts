/** The whole way as separate processes on JetStream. */
import type { Scenario } from "./scenario.ts";
import { runAndJudge } from "./slot.ts";

export const scenario: Scenario = {
  name: "slot-nats",
  description: "eighteen member processes on JetStream: five slots, every invariant",
  run: async (context) => runAndJudge(context, await context.natsOnly()),
};
