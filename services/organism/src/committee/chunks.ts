/** Commands too large for one entry: they come in numbered parts of one author, one such command at a time. */
import { concat, equalBytes } from "../codec/codec.ts";
import { hashBytes } from "../crypto/hash.ts";
import { refuse } from "../machine.ts";
import { type CommitteeCommand, type ReadCommand, readCommand } from "./commands.ts";
import { CHUNKS_MAX } from "./entry.ts";
import type { AuthorState } from "./state.ts";

/** Ties the chunks of one large command together. */
export function commandDigest(command: Uint8Array): Uint8Array {
  return hashBytes("lattice/entry/chunked/v1", command);
}

/** Takes its author's next chunk. @returns the command once it is whole; undefined while parts are missing */
export function addChunk(
  author: AuthorState,
  chunk: Extract<CommitteeCommand, { readonly type: "chunk" }>,
): ReadCommand | undefined {
  const refused = (reason: string, detail: string): ReadCommand => ({ refusal: refuse(reason, detail) });
  if (chunk.count < 2 || chunk.count > CHUNKS_MAX || chunk.index >= chunk.count)
    return refused("MALFORMED", "chunk numbering");
  if (chunk.index === 0) author.assembly = { digest: chunk.digest, count: chunk.count, parts: [] };
  const { assembly } = author;
  if (
    assembly === undefined ||
    !equalBytes(assembly.digest, chunk.digest) ||
    assembly.count !== chunk.count ||
    assembly.parts.length !== chunk.index
  ) {
    author.assembly = undefined;
    return refused("OUT_OF_ORDER", "the chunk does not continue its author's large command");
  }
  assembly.parts.push(chunk.part);
  if (assembly.parts.length < assembly.count) return undefined;
  author.assembly = undefined;
  const whole = concat(...assembly.parts);
  if (!equalBytes(commandDigest(whole), chunk.digest)) return refused("MALFORMED", "the chunks do not add up");
  const read = readCommand(whole);
  if ("refusal" in read) return read;
  if (read.command.type === "join" || read.command.type === "chunk")
    return refused("MALFORMED", "a chunked command may not nest");
  return read;
}
