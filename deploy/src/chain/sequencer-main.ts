/** The sequencer process: settings → sequencer → two ports → signals. Exit codes: 0 drained, 2 settings, 5 precondition. */
import { errorFields } from "@lattice/organism/observe/logger.ts";
import { Sequencer } from "./sequencer.ts";
import { serveSequencer } from "./sequencer-api.ts";
import { readSequencerSettings, SequencerProblems, type SequencerRun } from "./sequencer-settings.ts";

const EXIT = { usage: 2, precondition: 5 } as const;
/** The execution client may be starting at the same moment. */
const CLIENT_ATTEMPTS = 100;
const CLIENT_PAUSE_MS = 200;

async function open({ options }: SequencerRun): Promise<Sequencer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await Sequencer.open(options);
    } catch (error) {
      const absent = error instanceof Error && "reason" in error && error.reason === "UNREACHABLE";
      if (!absent || attempt === CLIENT_ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, CLIENT_PAUSE_MS));
    }
  }
}

try {
  const run = readSequencerSettings(process.env);
  const { logger } = run.options;
  const sequencer = await open(run);
  const servers = await serveSequencer(sequencer, run);
  let draining = false;
  const drain = async (): Promise<void> => {
    if (draining) return;
    draining = true;
    await sequencer.close();
    await servers.close();
    logger.info("drained");
    process.exit(0);
  };
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    process.on(signal, () => {
      drain().catch((error: unknown) => {
        logger.error("not drained", errorFields(error));
        process.exit(1);
      });
    });
  }
  sequencer.start();
  logger.info("listening", { port: servers.members.port, adminPort: servers.admin.port });
  process.stdout.write(`${JSON.stringify({ port: servers.members.port, adminPort: servers.admin.port })}\n`);
} catch (error) {
  const lines =
    error instanceof SequencerProblems ? error.problems : [error instanceof Error ? error.message : String(error)];
  for (const line of lines) process.stderr.write(`sequencer: ${line}\n`);
  process.exit(error instanceof SequencerProblems ? EXIT.usage : EXIT.precondition);
}
