/**
 * Run as root while the image is built: makes every mount point with its owner. A new volume takes over owner and mode
 * of the folder it is first mounted on; without one it would be root's, and nobody here is root.
 */
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { MOUNTS, preparedVolumes, USER_ID } from "./plan.ts";

const own = [MOUNTS.kit, MOUNTS.secrets, MOUNTS.data, MOUNTS.seat];
const prepared = preparedVolumes().map((volume) => join(MOUNTS.volumes, volume));
for (const folder of [...own, ...prepared]) {
  mkdirSync(folder, { recursive: true });
  chmodSync(folder, 0o700);
  chownSync(folder, USER_ID, USER_ID);
}
