/**
 * One SQLite file, opened by one process only and migrated to the newest schema. Each unit of work is one transaction.
 */
import { mkdirSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { CONNECTED_STATUSES } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { protectFile, protectFolder } from "../../private-files.ts";
import { KEY_FILE } from "../encryption-keys.ts";
import { type Disk, noDisk, walOnDisk } from "./disk.ts";
import { groupCommit } from "./group-commit.ts";
import { lockFile } from "./lock.ts";
import { integer, type Row } from "./row.ts";
import { CLAIMED, FREE, MIGRATIONS } from "./schema.ts";

/** All calls are synchronous, so nothing else in this process happens between two statements of a transaction. */
export type Database = {
  readonly path: string;
  /** Runs `work` as one transaction. If it throws, the whole transaction is rolled back. */
  transact<T>(work: () => T): T;
  /**
   * As `transact`, in one transaction with everything that is requested in the same turn of the event loop: one commit
   * instead of many. Resolves after the commit. Work that throws is rolled back and rejects alone. `work` may run
   * twice.
   */
  transactGrouped<T>(work: () => T): Promise<T>;
  /**
   * A transaction that is on the disk, not only with the operating system, when this returns. The whole process waits
   * meanwhile.
   */
  transactDurably<T>(work: () => T): T;
  /**
   * As `transactGrouped`, but it resolves when the transaction is on the disk. Many callers share one wait for the
   * disk, and nobody else waits.
   */
  transactGroupedDurably<T>(work: () => T): Promise<T>;
  get(sql: string, ...values: SQLInputValue[]): Row | undefined;
  all(sql: string, ...values: SQLInputValue[]): Row[];
  /** Returns how many rows changed. */
  run(sql: string, ...values: SQLInputValue[]): number;
  close(): void;
};

/**
 * Opens or creates the file and its directory, or a database in memory for the path `:memory:`. Claims of an earlier
 * process become free, and mailboxes that it listened to are `initializing`. Throws `store` when another process has the
 * file, when a newer version of the service wrote it, or when it cannot be used.
 *
 * synchronous = NORMAL: with a write-ahead log, a power cut can undo the newest transactions but never one in the
 * middle, and kill -9 undoes nothing. The service repeats undone work from the mail server, because a cursor moves only
 * after the work before it was written. What no mail server can give again (registrations) is written with
 * `transactDurably`.
 */
export function openDatabase(path: string): Database {
  const unlock =
    path === ":memory:" ? () => undefined : withStoreProblems(path, () => lockFile(prepareDirectory(path)));
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path);
    // auto_vacuum must come first, because it cannot be switched on once there are tables.
    db.exec("pragma auto_vacuum = incremental; pragma journal_mode = wal; pragma synchronous = normal");
    db.exec("pragma busy_timeout = 2000; pragma journal_size_limit = 67108864");
    // Otherwise a large transaction writes the earlier form of each changed page into a file, for the case that a statement fails.
    db.exec("pragma temp_store = memory");
    const database = wrapDatabase(db, { path, unlock, disk: path === ":memory:" ? noDisk : walOnDisk(path) });
    migrate(db, database);
    endEarlierProcess(database);
    return database;
  } catch (error) {
    if (db?.isOpen) db.close();
    unlock();
    throw toStoreProblem(path, error);
  }
}

/**
 * Opens a file that another process may have open, for work that may happen beside it. Throws `store` when another version
 * of the service wrote the file.
 */
export function openDatabaseBeside(path: string): Database {
  const db = withStoreProblems(path, () => new DatabaseSync(path));
  try {
    db.exec("pragma synchronous = normal; pragma busy_timeout = 10000");
    const database = wrapDatabase(db, { path, unlock: () => undefined, disk: walOnDisk(path) });
    if (readSchemaVersion(database) !== MIGRATIONS.length) {
      throw new Problem("store", `The database ${path} belongs to another version of the service`, { retry: "never" });
    }
    return database;
  } catch (error) {
    if (db.isOpen) db.close();
    throw toStoreProblem(path, error);
  }
}

function prepareDirectory(path: string): string {
  return withStoreProblems(path, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const real = join(realpathSync(dirname(path)), basename(path));
    protectFolder(dirname(real), (name) => name.startsWith(basename(path)) || name === KEY_FILE);
    // SQLite gives its other files the mode of the database.
    protectFile(real, { create: true });
    protectFile(`${real}.lock`, { create: true });
    for (const suffix of ["-wal", "-shm"]) protectFile(real + suffix, { create: false });
    return real;
  });
}

type DatabaseFile = { path: string; unlock: () => void; disk: Disk };

function wrapDatabase(db: DatabaseSync, { path, unlock, disk }: DatabaseFile): Database {
  const statements = new Map<string, StatementSync>();
  const statement = (sql: string): StatementSync => {
    const cached = statements.get(sql);
    if (cached !== undefined) return cached;
    const prepared = db.prepare(sql);
    statements.set(sql, prepared);
    return prepared;
  };
  const execute = (sql: string) => void withStoreProblems(path, () => statement(sql).run());
  const transact = <T>(work: () => T): T => {
    execute("begin immediate");
    try {
      const result = work();
      execute("commit");
      return result;
    } catch (error) {
      // After a full disk or an I/O error SQLite has already rolled back.
      if (db.isTransaction) db.exec("rollback");
      throw error;
    }
  };
  const transactDurably = <T>(work: () => T): T => {
    const result = transact(work);
    withStoreProblems(path, disk.syncNow);
    return result;
  };
  const sync = () =>
    disk.sync().catch((error: unknown) => {
      throw toStoreProblem(path, error);
    });
  const group = groupCommit({ transact, sync });
  return {
    path,
    transact,
    transactGrouped: (work) => group.add(work),
    transactDurably,
    transactGroupedDurably: (work) => group.add(work, true),
    get: (sql, ...values) => withStoreProblems(path, () => statement(sql).get(...values)),
    all: (sql, ...values) => withStoreProblems(path, () => statement(sql).all(...values)),
    run: (sql, ...values) => withStoreProblems(path, () => Number(statement(sql).run(...values).changes)),
    close() {
      const { saved } = group.close();
      statements.clear();
      disk.close();
      // The last connection that closes a database writes its log into it, on the disk.
      if (db.isOpen) db.close();
      saved();
      unlock();
    },
  };
}

function withStoreProblems<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw toStoreProblem(path, error);
  }
}

/** Errors of SQLite and of the file system as `store` Problems. Other errors stay as they are. */
function toStoreProblem(path: string, error: unknown): unknown {
  if (error instanceof Problem || !(error instanceof Error) || !("code" in error)) return error;
  return new Problem("store", `The database ${path} cannot be used: ${error.message}`, { cause: error });
}

function migrate(db: DatabaseSync, database: Database): void {
  const version = readSchemaVersion(database);
  if (version > MIGRATIONS.length) {
    const versions = `its schema is ${version}, this version knows ${MIGRATIONS.length}`;
    const message = `The database ${database.path} was written by a newer version of the service (${versions})`;
    throw new Problem("store", message, { retry: "never" });
  }
  for (const [n, migration] of MIGRATIONS.entries()) {
    if (n < version) continue;
    database.transactDurably(() =>
      withStoreProblems(database.path, () => db.exec(`${migration}; pragma user_version = ${n + 1}`)),
    );
  }
}

function readSchemaVersion(database: Database): number {
  return integer(database.get("pragma user_version"), "user_version");
}

/** Claims become free, and no mailbox is listened to any more. */
function endEarlierProcess(database: Database): void {
  const ended = CONNECTED_STATUSES.map((status) => `'${status}'`).join(", ");
  const now = new Date().toISOString();
  database.transact(() => {
    database.run(
      `update states set status = 'initializing', since = ?, node = null, problem = null where status in (${ended})`,
      now,
    );
    database.run("update messages set state = ? where state = ?", FREE, CLAIMED);
    database.run("delete from prints where state = 1");
    database.run("update deliveries set taken_until = 0 where state = 'retrying' and taken_until > 0");
    database.run("update outbox set taken_until = 0 where state = 'queued' and taken_until > 0");
  });
}
