/**
 * The embedded store: everything one node must remember, in one SQLite file, durable against kill -9, for one process.
 */
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { setImmediate } from "node:timers/promises";
import * as v from "valibot";
import { clock } from "../../time.ts";
import { sqliteAudit, sqliteConsents, sqliteTokens, trimAccess } from "./access.ts";
import { sqliteApplications } from "./applications.ts";
import { sqliteCursors } from "./cursors.ts";
import { type Database, openDatabase } from "./database.ts";
import { sqliteDeliveries } from "./deliveries.ts";
import { sqliteFacts } from "./facts.ts";
import { sqliteLedger } from "./ledger.ts";
import { memoryClaims } from "../memory/claims.ts";
import { memoryConnectionSlots } from "../memory/connection-slots.ts";
import { memoryRefusedLogins } from "../memory/refused-logins.ts";
import { processLocks } from "../../concurrency/locks.ts";
import { sqliteConnections } from "./measured/connections.ts";
import { sqliteMeasures } from "./measured/measures.ts";
import { sqliteOrderedMailboxes } from "./measured/order.ts";
import { sqliteOutbox } from "./outbox.ts";
import { sqliteMailboxes, purgeRemovedMailboxes } from "./mailboxes.ts";
import { announceKeyring, checkKeys, rotateKeys } from "./rotation.ts";
import { integer, json, text } from "./row.ts";
import { DONE } from "./schema.ts";
import type { Documents, StoredDocument } from "../documents.ts";
import type { Store, StoreSize } from "../store.ts";
import { mailboxSealing } from "../mailbox-sealing.ts";
import type { Vault } from "../vault.ts";

/**
 * The store together with its open database, which the embedded queue shares. Closing the store closes the database.
 */
export type SqliteStore = Store & { readonly database: Database };

export type SqliteStoreOptions = {
  /** A file, which is created together with its directory, or `:memory:`. */
  path: string;
  vault: Vault;
  /** How long fingerprints and delivered records are kept. */
  windowDays: number;
  /** The limit for spooled messages, in compressed bytes. */
  spoolBytes: number;
};

/**
 * Opens the store. Throws `store` when another process uses the file, when a newer version wrote it, or when it cannot
 * be used. Throws `config` when a key that encrypted something in it is missing or wrong.
 */
export async function sqliteStore(options: SqliteStoreOptions): Promise<SqliteStore> {
  const { path, vault, windowDays, spoolBytes } = options;
  const database = openDatabase(path);
  const sealing = mailboxSealing(vault);
  try {
    checkKeys(database, sealing);
    announceKeyring(database, vault);
    await rotateKeys({ db: database, vault, sealing });
  } catch (error) {
    database.close();
    throw error;
  }
  const claims = memoryClaims();
  const memoryNote = path === ":memory:" ? ", nothing is kept after a stop" : "";
  return {
    description: `sqlite ${path}, single node${memoryNote}`,
    database,
    mailboxes: sqliteMailboxes(database, sealing, claims),
    applications: sqliteApplications(database, vault),
    consents: sqliteConsents(database, vault),
    documents: sqliteDocuments(database),
    cursors: sqliteCursors(database, claims),
    ledger: sqliteLedger(database, claims),
    deliveries: sqliteDeliveries(database, claims, spoolBytes, vault),
    outbox: sqliteOutbox(database, spoolBytes, vault),
    connectionSlots: memoryConnectionSlots(),
    facts: sqliteFacts(database),
    measures: sqliteMeasures(database),
    orderedMailboxes: sqliteOrderedMailboxes(database),
    connections: sqliteConnections(database),
    tokens: sqliteTokens(database, vault),
    audit: sqliteAudit(database),
    locks: processLocks(),
    refusedLogins: memoryRefusedLogins(),
    async ping() {
      database.get("select count(*) from meta");
    },
    measure: () => measureFile(database, path),
    // No other node writes into the file, and the start has checked its keys.
    checkKeys: async () => undefined,
    async trim(now) {
      await trim(database, now.getTime() - windowDays * 24 * 60 * 60 * 1000);
      trimAccess(database, now);
    },
    async close() {
      database.close();
    },
  };
}

/** The limit is what the disk still has room for. */
async function measureFile(db: Database, path: string): Promise<StoreSize> {
  const pages = integer(db.get("pragma page_count"), "page_count");
  const usedBytes = pages * integer(db.get("pragma page_size"), "page_size");
  if (path === ":memory:") return { usedBytes, limitBytes: null };
  const { bavail, bsize } = await statfs(dirname(path));
  return { usedBytes, limitBytes: usedBytes + bavail * bsize };
}

/** Documents are rows of `meta`, which has one row for each thing that there is once. */
const PREFIX = "document ";

function sqliteDocuments(db: Database): Documents {
  const get = (name: string): StoredDocument | undefined => {
    const row = db.get("select value from meta where name = ?", PREFIX + name);
    return row && v.parse(Stored, json(row, "value"));
  };
  return {
    read: async (name) => get(name),
    write: async (name, next) =>
      db.transactGroupedDurably(() => {
        const { revision } = next;
        if ((get(name)?.revision ?? 0) !== revision) return false;
        const stored = JSON.stringify({ revision: revision + 1, text: next.text });
        db.run("insert or replace into meta values (?, ?)", PREFIX + name, stored);
        return true;
      }),
    async listNames() {
      const rows = db.all("select name from meta where name >= ? and name < ?", PREFIX, `${PREFIX}\uffff`);
      return rows.map((row) => text(row, "name").slice(PREFIX.length));
    },
    async remove(name) {
      await db.transactGrouped(() => db.run("delete from meta where name = ?", PREFIX + name));
    },
  };
}

const Stored = v.object({ revision: v.number(), text: v.string() });

/**
 * Rows that are deleted in one transaction. A batch takes a few milliseconds, and other work gets its turn between two
 * batches.
 */
const BATCH_SIZE = 100;
/** Free pages that are given back to the file system in one transaction, half a MB. */
const VACUUM_PAGES = 128;

async function trim(db: Database, before: number): Promise<void> {
  await inBatches(() =>
    db.run(
      `delete from prints where (mailbox, print) in (
         select mailbox, print from prints where at < ? limit ${BATCH_SIZE})`,
      before,
    ),
  );
  await inBatches(() =>
    db.run(
      `delete from deliveries where id in (
         select id from deliveries where state = 'delivered' and updated_at < ? limit ${BATCH_SIZE})`,
      before,
    ),
  );
  await inBatches(() =>
    db.run(
      `delete from outbox where id in (
         select id from outbox where state <> 'queued' and updated_at < ? limit ${BATCH_SIZE})`,
      before,
    ),
  );
  db.run("delete from automatic where at < ?", clock.now() - 3_600_000);
  purgeRemovedMailboxes(db, clock.now());
  deleteStaleEpochs(db);
  await inBatches(() => {
    const free = integer(db.get("pragma freelist_count"), "freelist_count");
    if (free >= VACUUM_PAGES) db.all(`pragma incremental_vacuum(${VACUUM_PAGES})`);
    return free;
  }, VACUUM_PAGES);
}

/** Deletes rows of an epoch that its folder has left. A worker that was still busy wrote them. */
function deleteStaleEpochs(db: Database): void {
  db.run(
    `delete from messages where state = ${DONE} and exists (select 1 from cursors c
       where c.mailbox = messages.mailbox and c.folder = messages.folder and c.epoch <> messages.epoch)`,
  );
}

/** Repeats `batch` as long as it finds a full batch. */
async function inBatches(batch: () => number, full = BATCH_SIZE): Promise<void> {
  while (batch() >= full) await setImmediate();
}
