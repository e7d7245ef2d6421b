/** Keeps a second process away from a database file. The operating system drops the lock when its holder dies. */
import { hostname } from "node:os";
import { DatabaseSync } from "node:sqlite";
import { Problem } from "../../contract/problem.ts";

/**
 * Takes `<path>.lock` for this process and returns a function that releases it. Throws `store` naming the file and the
 * holder when another process (or another store of this process) has it. The lock is an open write transaction on a
 * tiny database. SQLite holds it as a lock of the operating system, so kill -9 frees it, and others can still read who
 * holds it. Like SQLite itself it needs a file system with working locks; some network file systems have none.
 */
export function lockFile(path: string): () => void {
  const lock = new DatabaseSync(`${path}.lock`);
  try {
    lock.exec("pragma synchronous = off; begin immediate");
    lock.exec("create table if not exists holder (pid integer, host text, since text); delete from holder");
    const now = new Date().toISOString();
    lock.prepare("insert into holder values (?, ?, ?)").run(process.pid, hostname(), now);
    // Another process may take the lock between these two statements. Then the second statement fails, and that
    // process is the holder.
    lock.exec("commit");
    lock.exec("begin immediate");
  } catch (cause) {
    const who = describeHolder(lock);
    lock.close();
    const locked = cause instanceof Error && /locked|busy/.test(cause.message);
    const why = locked ? `is in use by ${who}; only one process may open a database` : "cannot be locked";
    throw new Problem("store", `The database ${path} ${why}`, { retry: "never", cause });
  }
  return () => lock.close();
}

/** Whether a process has the database open. */
export function isLocked(path: string): boolean {
  try {
    lockFile(path)();
    return false;
  } catch (error) {
    if (error instanceof Problem && error.cause instanceof Error && /locked|busy/.test(error.cause.message))
      return true;
    throw error;
  }
}

function describeHolder(lock: DatabaseSync): string {
  try {
    if (lock.isTransaction) lock.exec("rollback");
    const row = lock.prepare("select pid, host, since from holder").get();
    if (row !== undefined) return `process ${row["pid"]} on ${row["host"]} since ${row["since"]}`;
  } catch (error) {
    return `another process (${error instanceof Error ? error.message : String(error)})`;
  }
  return "another process";
}
