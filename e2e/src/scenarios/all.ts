/** Every scenario, in the order in which they are listed. */
import { scenario as badInput } from "./bad-input.ts";
import { scenario as canary } from "./canary.ts";
import { scenario as checkpointJoin } from "./checkpoint-join.ts";
import { scenario as dkgFaults } from "./dkg-faults.ts";
import { scenario as equivocate } from "./equivocate.ts";
import { scenario as floodedLog } from "./flooded-log.ts";
import { scenario as forkBroker } from "./fork-broker.ts";
import { scenario as frontRun } from "./front-run.ts";
import { scenario as guestView } from "./guest-view.ts";
import { scenario as honestCrash } from "./honest-crash.ts";
import { scenario as killOne } from "./kill-one.ts";
import { diskFull, natsAllDown, natsLeaderKill } from "./nats-faults.ts";
import { scenario as newEra } from "./new-era.ts";
import { scenario as replaceMember } from "./replace-member.ts";
import { scenario as reshare } from "./reshare.ts";
import { scenario as restartAll } from "./restart-all.ts";
import { scenario as rollback } from "./rollback.ts";
import { scenario as rollingUpgrade } from "./rolling-upgrade.ts";
import type { Scenario } from "./scenario.ts";
import { scenario as slot } from "./slot.ts";
import { scenario as slotNats } from "./slot-nats.ts";
import { scenario as steward } from "./steward.ts";
import { scenario as stewards } from "./stewards.ts";

export const SCENARIOS: readonly Scenario[] = [
  slot,
  slotNats,
  killOne,
  restartAll,
  checkpointJoin,
  guestView,
  canary,
  frontRun,
  badInput,
  equivocate,
  natsLeaderKill,
  natsAllDown,
  diskFull,
  dkgFaults,
  replaceMember,
  reshare,
  steward,
  stewards,
  newEra,
  honestCrash,
  forkBroker,
  rollback,
  floodedLog,
  rollingUpgrade,
];
