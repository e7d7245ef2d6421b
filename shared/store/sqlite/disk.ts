/** Waits until a database's newest transactions are on the disk, without blocking the process. */
import { closeSync, fdatasync, fdatasyncSync, openSync, realpathSync } from "node:fs";
import { promisify } from "node:util";

const fdatasyncAsync = promisify(fdatasync);

export type Disk = {
  /** Resolves once every transaction that was committed before the call would survive a power cut. */
  sync(): Promise<void>;
  /** The same at once. It blocks the process. */
  syncNow(): void;
  /** Closes the file when no wait is in progress. */
  close(): void;
};

/**
 * The write-ahead log of the open database at `path`. With synchronous = NORMAL a commit has written its pages into the
 * log and leaves them to the operating system. FULL only adds the wait for the disk
 * (https://sqlite.org/wal.html#performance_considerations). Everything that was committed before is in the same log or
 * on the disk.
 */
export function walOnDisk(path: string): Disk {
  let logFd: number | undefined;
  // If the path is a symbolic link, the log is beside the real database.
  const getLogFd = () => (logFd ??= openSync(`${realpathSync(path)}-wal`, "r+"));
  let pending = 0;
  let closing = false;
  const closeWhenIdle = () => {
    if (closing && pending === 0 && logFd !== undefined) closeSync(logFd);
  };
  return {
    async sync() {
      pending++;
      try {
        await fdatasyncAsync(getLogFd());
      } finally {
        pending--;
        closeWhenIdle();
      }
    },
    syncNow: () => fdatasyncSync(getLogFd()),
    close() {
      closing = true;
      closeWhenIdle();
    },
  };
}

/** The disk of a database in memory. */
export const noDisk: Disk = { sync: async () => undefined, syncNow: () => undefined, close: () => undefined };
