/** One atelier member as a process. */
import { runMember } from "@lattice/organism/node/run-member.ts";
import { definition } from "./definition.ts";

await runMember(definition);
