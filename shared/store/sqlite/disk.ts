/** Waiting until a database's newest steps are on the disk, beside everything else this process does. */
import { closeSync, fdatasync, fdatasyncSync, openSync, realpathSync } from "node:fs";
import { promisify } from "node:util";

const synced = promisify(fdatasync);

export type Disk = {
  /** Resolves once every step committed before the call would survive a power cut. */
  sync(): Promise<void>;
  /** The same at once, holding up the process. */
  syncNow(): void;
  /** Lets go of the file, when no wait is under way any more. */
  close(): void;
};

/**
 * The write-ahead log of the open database at `path`. A step of synchronous = NORMAL has written its
 * pages into the log when it is committed and leaves them to the operating system; waiting for them is all that FULL would do
 * more (https://sqlite.org/wal.html#performance_considerations). Everything committed before lies in the same log, or is on the disk.
 */
export function walOnDisk(path: string): Disk {
  let opened: number | undefined;
  // A link to a database has its log where the database is.
  const log = () => (opened ??= openSync(`${realpathSync(path)}-wal`, "r+"));
  let underWay = 0;
  let closing = false;
  const closeWhenFree = () => {
    if (closing && underWay === 0 && opened !== undefined) closeSync(opened);
  };
  return {
    async sync() {
      underWay++;
      try {
        await synced(log());
      } finally {
        underWay--;
        closeWhenFree();
      }
    },
    syncNow: () => fdatasyncSync(log()),
    close() {
      closing = true;
      closeWhenFree();
    },
  };
}

/** For a database in memory. */
export const nowhere: Disk = { sync: async () => undefined, syncNow: () => undefined, close: () => undefined };
