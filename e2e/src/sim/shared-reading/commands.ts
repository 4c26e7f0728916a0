/** Stands in for `committee/commands.ts` as `entry.ts` here does for its own: a command is decoded once for all members. */
import { type CommitteeCommand, decodeCommand as realDecode } from "@lattice/organism/committee/commands.ts";

export * from "@lattice/organism/committee/commands.ts";

const DECODED = new WeakMap<Uint8Array, CommitteeCommand>();

export function decodeCommand(raw: Uint8Array): CommitteeCommand {
  const known = DECODED.get(raw);
  if (known !== undefined) return known;
  const command = realDecode(raw);
  DECODED.set(raw, command);
  return command;
}
