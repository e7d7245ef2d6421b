/** The embedded store: everything one node must remember in one SQLite file, durable against kill -9, for one process. */
import { setImmediate } from "node:timers/promises";
import { sqliteCursors } from "./cursors.ts";
import { type Database, openDatabase } from "./database.ts";
import { sqliteDeliveries } from "./deliveries.ts";
import { sqliteFacts } from "./facts.ts";
import { sqliteLedger } from "./ledger.ts";
import { memorySeats } from "../memory-seats.ts";
import { sqliteOutbox } from "./outbox.ts";
import { checkKeys, sqliteMailboxes, sweepRemoved } from "./mailboxes.ts";
import { integer } from "./row.ts";
import { DONE } from "./schema.ts";
import type { Store } from "../store.ts";
import type { Vault } from "../vault.ts";

/** The store together with its open database, which the embedded queue shares. Closing the store closes the database. */
export type SqliteStore = Store & { readonly database: Database };

export type SqliteOptions = {
  /** A file, made together with its directory when there is none, or `:memory:`. */
  path: string;
  vault: Vault;
  /** How long fingerprints and delivered records are kept. */
  windowDays: number;
  /** Room for spooled messages, counted compressed. */
  spoolBytes: number;
};

/**
 * Opens the store. Throws `store` when the file is in use by another process, was written by a newer version or cannot be
 * used, and `config` when a key that sealed something in it is missing or wrong.
 */
export async function sqliteStore(options: SqliteOptions): Promise<SqliteStore> {
  const { path, vault, windowDays, spoolBytes } = options;
  const database = openDatabase(path);
  try {
    checkKeys(database, vault);
  } catch (error) {
    database.close();
    throw error;
  }
  const nothingKept = path === ":memory:" ? ", nothing is kept after a stop" : "";
  return {
    description: `sqlite ${path}, single node${nothingKept}`,
    database,
    mailboxes: sqliteMailboxes(database, vault),
    cursors: sqliteCursors(database),
    ledger: sqliteLedger(database),
    deliveries: sqliteDeliveries(database, spoolBytes),
    outbox: sqliteOutbox(database, spoolBytes),
    seats: memorySeats(),
    facts: sqliteFacts(database),
    async ping() {
      database.get("select count(*) from meta");
    },
    trim: (now) => trim(database, now.getTime() - windowDays * 24 * 60 * 60 * 1000),
    async close() {
      database.close();
    },
  };
}

/** Rows removed in one step: a slice takes a few milliseconds, and between two of them everybody else has their turn. */
const SLICE = 100;
/** Free pages handed back to the file system in one step, half a MB. */
const PAGES = 128;

async function trim(db: Database, before: number): Promise<void> {
  await inSlices(() =>
    db.run(
      `delete from prints where (mailbox, print) in (
         select mailbox, print from prints where at < ? and (state = ${DONE} or expires < ?) limit ${SLICE})`,
      before,
      Date.now(),
    ),
  );
  await inSlices(() =>
    db.run(
      `delete from deliveries where id in (
         select id from deliveries where state = 'delivered' and updated_at < ? limit ${SLICE})`,
      before,
    ),
  );
  await inSlices(() =>
    db.run(
      `delete from outbox where id in (
         select id from outbox where state <> 'queued' and updated_at < ? limit ${SLICE})`,
      before,
    ),
  );
  db.run("delete from automatic where at < ?", Date.now() - 3_600_000);
  sweepRemoved(db, Date.now());
  leaveEpochs(db);
  await inSlices(() => {
    const free = integer(db.get("pragma freelist_count"), "freelist_count");
    if (free >= PAGES) db.all(`pragma incremental_vacuum(${PAGES})`);
    return free;
  }, PAGES);
}

/** Rows of an epoch that its folder has left, written by a worker that was still at it. */
function leaveEpochs(db: Database): void {
  db.run(
    `delete from messages where state = ${DONE} and exists (select 1 from cursors c
       where c.mailbox = messages.mailbox and c.folder = messages.folder and c.epoch <> messages.epoch)`,
  );
}

/** Repeats `slice` as long as it finds a full one. */
async function inSlices(slice: () => number, full = SLICE): Promise<void> {
  while (slice() >= full) await setImmediate();
}
