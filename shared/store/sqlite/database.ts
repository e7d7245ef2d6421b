/** One SQLite file: opened by one process only, brought to the newest schema, every step of work one transaction. */
import { mkdirSync, realpathSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { DatabaseSync, type SQLInputValue, type StatementSync } from "node:sqlite";
import { Problem } from "../../contract/problem.ts";
import { type Disk, nowhere, walOnDisk } from "./disk.ts";
import { grouped } from "./group-commit.ts";
import { lockFile } from "./lock.ts";
import { integer, type Row } from "./row.ts";
import { CLAIMED, FREE, MIGRATIONS } from "./schema.ts";

/** Everything is synchronous, so nothing else of this process happens between two statements of a step. */
export type Database = {
  readonly path: string;
  /** Runs `work` as one transaction, undone as a whole when it throws. */
  step<T>(work: () => T): T;
  /**
   * As `step`, in one transaction with all that is asked for in the same turn of the event loop: one commit instead of many.
   * Resolves after the commit; what throws is undone and rejects alone. `work` may be run twice.
   */
  together<T>(work: () => T): Promise<T>;
  /** A step that is on the disk, not only with the operating system, when it returns. Everybody else waits meanwhile. */
  durably<T>(work: () => T): T;
  /** As `together`, on the disk when it resolves: many waiting clients share one wait for the disk, and nobody else waits. */
  durablyTogether<T>(work: () => T): Promise<T>;
  get(sql: string, ...values: SQLInputValue[]): Row | undefined;
  all(sql: string, ...values: SQLInputValue[]): Row[];
  /** Returns how many rows changed. */
  run(sql: string, ...values: SQLInputValue[]): number;
  close(): void;
};

/**
 * Opens or creates the file (its directory too), or a database that lives in memory for the path `:memory:`. What an earlier
 * process had claimed is free again. Throws `store` when another process has the file, when a newer version of the service
 * wrote it, or when it cannot be used.
 *
 * synchronous = NORMAL: with a write-ahead log, a power cut can take back a suffix of the newest steps but never one from the
 * middle, and kill -9 takes back nothing. Every such suffix is done again from the mail server, because a cursor moves after
 * the work before it was written. What no mail server can give again (registrations) is written by `durably`.
 */
export function openDatabase(path: string): Database {
  const unlock = path === ":memory:" ? () => undefined : guarded(path, () => lockFile(prepared(path)));
  let db: DatabaseSync | undefined;
  try {
    db = new DatabaseSync(path);
    // auto_vacuum has to come first: it cannot be turned on once there are tables.
    db.exec("pragma auto_vacuum = incremental; pragma journal_mode = wal; pragma synchronous = normal");
    db.exec("pragma busy_timeout = 2000; pragma journal_size_limit = 67108864");
    const database = wrapped(db, { path, unlock, disk: path === ":memory:" ? nowhere : walOnDisk(path) });
    migrate(db, database);
    freeClaims(database);
    return database;
  } catch (error) {
    if (db?.isOpen) db.close();
    unlock();
    throw translated(path, error);
  }
}

function prepared(path: string): string {
  return guarded(path, () => {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    return join(realpathSync(dirname(path)), basename(path));
  });
}

type File = { path: string; unlock: () => void; disk: Disk };

function wrapped(db: DatabaseSync, { path, unlock, disk }: File): Database {
  const statements = new Map<string, StatementSync>();
  const statement = (sql: string): StatementSync => {
    const known = statements.get(sql);
    if (known !== undefined) return known;
    const made = db.prepare(sql);
    statements.set(sql, made);
    return made;
  };
  const execute = (sql: string) => void guarded(path, () => statement(sql).run());
  const step = <T>(work: () => T): T => {
    execute("begin immediate");
    try {
      const result = work();
      execute("commit");
      return result;
    } catch (error) {
      // SQLite has rolled back by itself after a full disk or an I/O error.
      if (db.isTransaction) db.exec("rollback");
      throw error;
    }
  };
  const durably = <T>(work: () => T): T => {
    const result = step(work);
    guarded(path, disk.syncNow);
    return result;
  };
  const sync = () =>
    disk.sync().catch((error: unknown) => {
      throw translated(path, error);
    });
  const group = grouped({ step, sync });
  return {
    path,
    step,
    together: (work) => group.add(work),
    durably,
    durablyTogether: (work) => group.add(work, true),
    get: (sql, ...values) => guarded(path, () => statement(sql).get(...values)),
    all: (sql, ...values) => guarded(path, () => statement(sql).all(...values)),
    run: (sql, ...values) => guarded(path, () => Number(statement(sql).run(...values).changes)),
    close() {
      const { saved } = group.close();
      statements.clear();
      disk.close();
      // The last one to close a database brings its log into it, on the disk.
      if (db.isOpen) db.close();
      saved();
      unlock();
    },
  };
}

function guarded<T>(path: string, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw translated(path, error);
  }
}

/** Errors of SQLite and of the file system as `store` Problems; all others as they are. */
function translated(path: string, error: unknown): unknown {
  if (error instanceof Problem || !(error instanceof Error) || !("code" in error)) return error;
  return new Problem("store", `The database ${path} cannot be used: ${error.message}`, { cause: error });
}

function migrate(db: DatabaseSync, database: Database): void {
  const version = integer(database.get("pragma user_version"), "user_version");
  if (version > MIGRATIONS.length) {
    const versions = `its schema is ${version}, this version knows ${MIGRATIONS.length}`;
    const message = `The database ${database.path} was written by a newer version of the service (${versions})`;
    throw new Problem("store", message, { retry: "never" });
  }
  for (const [n, migration] of MIGRATIONS.entries()) {
    if (n < version) continue;
    database.durably(() => guarded(database.path, () => db.exec(`${migration}; pragma user_version = ${n + 1}`)));
  }
}

function freeClaims(database: Database): void {
  database.step(() => {
    database.run("update messages set state = ? where state = ?", FREE, CLAIMED);
    database.run("delete from prints where state = 1");
    database.run("update deliveries set taken_until = 0 where state = 'retrying' and taken_until > 0");
    database.run("update outbox set taken_until = 0 where state = 'queued' and taken_until > 0");
  });
}
