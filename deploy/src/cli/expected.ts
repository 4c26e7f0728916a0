/** What may go wrong with a command without being a defect of it: one readable line and an exit code of docs/operators.md. */
import { CeremonyInterrupted } from "@lattice/organism/ceremony/run-ceremony.ts";
import { CodecError } from "@lattice/organism/codec/codec.ts";
import { RulesUnknown } from "@lattice/organism/committee/rules.ts";
import { UnfitServer } from "@lattice/organism/log/fit-server.ts";
import { CorruptFile } from "@lattice/organism/node/append-file.ts";
import { EXIT } from "@lattice/organism/node/exit.ts";
import { KitProblem } from "@lattice/organism/node/kit.ts";
import { LogLost, LogRefusal, PromiseConflict } from "@lattice/organism/ports.ts";
import { CeremonyProblem } from "../ceremony/member-folder.ts";

/** The arguments do not go together. One readable line; exit code 2. */
export class UsageProblem extends Error {
  override readonly name = "UsageProblem";
}

const PRECONDITIONS = [CeremonyProblem, KitProblem, RulesUnknown, UnfitServer] as const;
const FAILURES = [LogLost, LogRefusal, PromiseConflict, CorruptFile, CodecError] as const;

/** Undefined: nobody expects that, and whoever mends it needs to see where it came from. */
export function expectedProblem(error: unknown): { readonly line: string; readonly code: number } | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof CeremonyInterrupted)
    return { line: "interrupted; start it again to go on where it was", code: EXIT.interrupted };
  if (error instanceof UsageProblem) return { line: error.message, code: EXIT.usage };
  // The wrong participant's file, mostly.
  if (error instanceof LogRefusal && error.reason === "NOT_PERMITTED")
    return { line: `NATS credentials: ${error.message}; each participant has its own`, code: EXIT.precondition };
  if (PRECONDITIONS.some((kind) => error instanceof kind)) return { line: error.message, code: EXIT.precondition };
  if (FAILURES.some((kind) => error instanceof kind)) return { line: error.message, code: EXIT.failed };
  // A file or a folder: missing, in the way, not permitted, on a disk that is full.
  if ("syscall" in error && "code" in error) {
    const { code, path } = error as NodeJS.ErrnoException;
    const where = path === undefined ? "" : `${path}: `;
    return { line: `${where}${FILE_PROBLEMS.get(`${code}`) ?? error.message}`, code: EXIT.precondition };
  }
  return undefined;
}

const FILE_PROBLEMS: ReadonlyMap<string, string> = new Map([
  ["ENOENT", "no such file or folder (ENOENT)"],
  ["EACCES", "not permitted (EACCES)"],
  ["EPERM", "not permitted (EPERM)"],
  ["EEXIST", "exists already (EEXIST)"],
  ["EISDIR", "is a folder (EISDIR)"],
  ["ENOTDIR", "is not a folder (ENOTDIR)"],
  ["ENOSPC", "no space left on the disk (ENOSPC)"],
  ["EDQUOT", "the disk quota is used up (EDQUOT)"],
  ["EROFS", "the file system is read-only (EROFS)"],
]);
