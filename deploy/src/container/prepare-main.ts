/** The prepare container: settings → deal → exit. Exit codes: 0 dealt or found, 1 failed, 2 settings. */
import { toHex } from "@lattice/organism/codec/codec.ts";
import { initCrypto } from "@lattice/organism/crypto/engine.ts";
import { latticeId } from "@lattice/organism/identity/lattice-config.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { PREPARE_SETTINGS } from "./container-settings.ts";
import { prepare } from "./prepare.ts";

const parsed = PREPARE_SETTINGS.safeParse(process.env);
if (!parsed.success) {
  for (const issue of parsed.error.issues) process.stderr.write(`prepare: ${issue.path.join(".")}: ${issue.message}\n`);
  process.exit(EXIT.usage);
}
const settings = parsed.data;
try {
  await initCrypto();
  const { found, config } = await prepare({
    volumes: settings.PREPARE_VOLUMES,
    name: settings.PREPARE_NAME,
    slotMs: settings.PREPARE_SLOT_MS,
    genesisMs: Date.now() + settings.PREPARE_LEAD_MS,
  });
  const { name, chainId, slotMs, genesisMs } = config;
  process.stdout.write(
    `${found ? "found" : "dealt"} lattice ${name}, chain id ${chainId}, slots of ${slotMs} ms from ${new Date(genesisMs).toISOString()}\n` +
      `lattice id ${toHex(latticeId(config))}\n`,
  );
} catch (error) {
  process.stderr.write(`prepare: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(EXIT.failed);
}
