/** What a database file of the service holds: how much, how new, and which keys it needs. */
import { DatabaseSync } from "node:sqlite";
import { Problem } from "../../../contract/problem.ts";
import { keyIdOf } from "../../mailbox-sealing.ts";
import { integer, text, textOrNull } from "../row.ts";
import { MIGRATIONS } from "../schema.ts";

/** `newest` is the time of the newest record, null for an empty store. `keys` are the ids of the keys that encrypted it. */
export type StoreSummary = { mailboxes: number; deliveries: number; newest: string | null; keys: string[] };

/** Where each table says when something happened, as ISO text. A table of a later version may be missing. */
const TIMES: Readonly<Record<string, string>> = {
  mailboxes: "json_extract(doc, '$.updatedAt')",
  states: "since",
  deliveries: "strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch')",
  outbox: "strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch')",
  prints: "strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch')",
  facts: "json_extract(doc, '$.at')",
  audit: "strftime('%Y-%m-%dT%H:%M:%fZ', at / 1000.0, 'unixepoch')",
};

/**
 * Checks the whole file and sums it up. Throws `store` for a file that is damaged, is no store, or was written by a newer
 * version. Closing the last connection writes the file's log into it.
 */
export function summarize(path: string): StoreSummary {
  const db = new DatabaseSync(path);
  try {
    return readSummary(db);
  } catch (error) {
    if (error instanceof Problem) throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw new Problem("store", `${path} is not a store of this service: ${why}`, {
      retry: "never",
      fix: FIX,
      cause: error,
    });
  } finally {
    db.close();
  }
}

const FIX = "Name a file that `backup` wrote.";

function readSummary(db: DatabaseSync): StoreSummary {
  const damage = text(db.prepare("pragma quick_check(1)").get(), "quick_check");
  if (damage !== "ok") throw new Problem("store", `The file is damaged: ${damage}`, { retry: "never", fix: FIX });
  const version = integer(db.prepare("pragma user_version").get(), "user_version");
  if (version === 0)
    throw new Problem("store", "The file is not a store of this service", { retry: "never", fix: FIX });
  if (version > MIGRATIONS.length) {
    const fix = "Use the version of the service that made the backup, or a later one.";
    throw new Problem("store", "The file was written by a newer version of the service", { retry: "never", fix });
  }
  const count = (table: string) => integer(db.prepare(`select count(*) as n from ${table}`).get(), "n");
  const tags = db.prepare("select key_id from canaries").all();
  return {
    mailboxes: count("mailboxes"),
    deliveries: count("deliveries"),
    newest: findNewest(db),
    keys: [...new Set(tags.map((row) => keyIdOf(text(row, "key_id"))))],
  };
}

function findNewest(db: DatabaseSync): string | null {
  const tables = db.prepare("select name from sqlite_master where type = 'table'").all();
  const times = tables.flatMap((row) => {
    const time = TIMES[text(row, "name")];
    if (time === undefined) return [];
    return textOrNull(db.prepare(`select max(${time}) as newest from ${text(row, "name")}`).get(), "newest") ?? [];
  });
  return times.toSorted().at(-1) ?? null;
}
