/** How long a test waits for what has to come before it gives up. Disks of shared machines stand still for many seconds at a time. */
export const PATIENCE_MS = 90_000;
