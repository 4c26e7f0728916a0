/** Settings of the process that starts a seat's epochs. */
import { ORGANISMS } from "@lattice/organism/identity/organisms.ts";
import { z } from "zod";

const slots = () => z.coerce.number().int().max(1_000_000_000);

export const STEWARD_SETTINGS = z.object({
  STEWARD_CONFIG_FILE: z.string().describe("the lattice config, as the handshake gives it"),
  STEWARD_ENDPOINTS_FILE: z.string().describe("where members answer, by organism"),
  STEWARD_ORGANISM: z.enum(ORGANISMS).describe("whose committee"),
  STEWARD_MEMBER_DIR: z
    .string()
    .describe(
      "the folder of the member that holds the seat, or a link to it, which is moved when a standby takes over",
    ),
  STEWARD_STANDBY_DIR: z
    .string()
    .optional()
    .describe("the folder with the keys of whoever takes the seat once its key is blocked"),
  STEWARD_STANDBYS_DIR: z
    .string()
    .optional()
    .describe("every operator's standby, one `.json` file each, as `builder roster standby` prints them"),
  STEWARD_STATE_DIR: z.string().describe("the steward's own memory and the succession file of the attempt that runs"),
  STEWARD_NATS_SERVERS: z.string().describe("the ceremonies' nats-servers, nats://host:port, comma separated"),
  STEWARD_CREDENTIALS_FILE: z.string().describe("the seat's credential there, mode 0400"),
  STEWARD_REFRESH_EVERY_SLOTS: slots()
    .min(1)
    .optional()
    .describe("fresh shares at every multiple of it, the same for all stewards; never when left out"),
  STEWARD_ERA_EVERY_SLOTS: slots()
    .min(0)
    .default(0)
    .describe(
      "the first refresh at or after every multiple of it begins an era, with another certificate key; the same for all, 0: never",
    ),
  STEWARD_GATHER_SLOTS: slots()
    .min(1)
    .default(32)
    .describe("how long stewards may come one after the other, the same for all"),
  STEWARD_CEREMONY_SLOTS: slots()
    .min(1)
    .default(16)
    .describe("what a ceremony and its announcement may take after that, the same for all"),
  STEWARD_LISTEN: z
    .string()
    .regex(/^[^:]+:\d+$/, "host:port")
    .optional()
    .describe(
      "host:port of `/metrics`, `/livez` and `/readyz`; ready once it has seen the committee and its own seat; none when left out",
    ),
  STEWARD_EVERY_MS: z.coerce.number().int().min(200).default(3000).describe("how often it looks"),
});

export type StewardSettings = z.infer<typeof STEWARD_SETTINGS>;

/** What does not fit together, one line each. */
export function scheduleProblems(
  {
    STEWARD_REFRESH_EVERY_SLOTS: every,
    STEWARD_ERA_EVERY_SLOTS: era = 0,
    STEWARD_GATHER_SLOTS: gather,
    STEWARD_CEREMONY_SLOTS: ceremony,
  }: Pick<StewardSettings, "STEWARD_REFRESH_EVERY_SLOTS" | "STEWARD_GATHER_SLOTS" | "STEWARD_CEREMONY_SLOTS"> &
    Partial<Pick<StewardSettings, "STEWARD_ERA_EVERY_SLOTS">>,
  earliest: bigint,
): string[] {
  const least = BigInt(gather + ceremony) + earliest;
  const problems: string[] = [];
  if (every !== undefined && BigInt(every) <= least) {
    problems.push(`STEWARD_REFRESH_EVERY_SLOTS: more than ${least} expected, what one epoch takes`);
  }
  if (era > 0 && (every === undefined || era < every)) {
    problems.push(
      `STEWARD_ERA_EVERY_SLOTS: eras begin with refreshes, STEWARD_REFRESH_EVERY_SLOTS (${every ?? "none"}) or more expected`,
    );
  }
  return problems;
}
