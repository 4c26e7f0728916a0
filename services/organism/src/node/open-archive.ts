/** The archive that a member's settings name: a folder, a bucket, or none. */
import { readFileSync, statSync } from "node:fs";
import { z } from "zod";
import type { LatticeConfig } from "../identity/lattice-config.ts";
import type { Organism } from "../identity/organisms.ts";
import type { Archive } from "./archive.ts";
import { ArchiveBucket } from "./archive-bucket.ts";
import { ArchiveDirectory } from "./archive-directory.ts";
import type { KnownEras } from "./era-book.ts";
import { KitProblem } from "./kit.ts";
import { nodeTimers } from "./node-timers.ts";
import { S3Client, S3Problem } from "./s3-client.ts";
import type { S3Credentials } from "./s3-signature.ts";
import { SettingsProblems, type SharedSettings } from "./settings.ts";

const CREDENTIALS = z.strictObject({ accessKeyId: z.string().min(1), secretAccessKey: z.string().min(1) });

/** @throws KitProblem, which never quotes the file */
export function readS3Credentials(path: string): S3Credentials {
  try {
    if ((statSync(path).mode & 0o077) !== 0) {
      throw new KitProblem(`archive credentials: ${path} is open to others; mode 400 expected`);
    }
    return CREDENTIALS.parse(JSON.parse(readFileSync(path, "utf8")));
  } catch (error) {
    if (error instanceof KitProblem) throw error;
    throw new KitProblem(`archive credentials: ${path} is missing or not {accessKeyId, secretAccessKey}`);
  }
}

/** @throws SettingsProblems, KitProblem */
export async function openArchive(
  settings: Pick<
    SharedSettings,
    | "LATTICE_ARCHIVE_DIR"
    | "LATTICE_ARCHIVE_S3_URL"
    | "LATTICE_ARCHIVE_S3_REGION"
    | "LATTICE_ARCHIVE_S3_CREDENTIALS_FILE"
  >,
  config: LatticeConfig,
  organism: Organism,
  eras?: KnownEras,
): Promise<Archive | undefined> {
  const {
    LATTICE_ARCHIVE_DIR: folder,
    LATTICE_ARCHIVE_S3_URL: url,
    LATTICE_ARCHIVE_S3_REGION: region,
    LATTICE_ARCHIVE_S3_CREDENTIALS_FILE: file,
  } = settings;
  if (folder !== undefined && url !== undefined) {
    throw new SettingsProblems(["LATTICE_ARCHIVE_DIR or LATTICE_ARCHIVE_S3_URL: at most one of the two"]);
  }
  if ((url === undefined) !== (file === undefined)) {
    throw new SettingsProblems(["LATTICE_ARCHIVE_S3_URL and LATTICE_ARCHIVE_S3_CREDENTIALS_FILE: both or none"]);
  }
  if (folder !== undefined) return ArchiveDirectory.open(folder, config, organism, eras);
  if (url === undefined || file === undefined) return undefined;
  try {
    const client = new S3Client({ url, region, credentials: readS3Credentials(file), nowMs: () => Date.now() });
    return new ArchiveBucket(client, config, organism, nodeTimers, eras);
  } catch (error) {
    if (error instanceof S3Problem) throw new SettingsProblems([`LATTICE_ARCHIVE_S3_URL: ${error.message}`]);
    throw error;
  }
}
