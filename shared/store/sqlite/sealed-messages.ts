/** Encrypted message bytes in SQLite. The data key of each is a row of its own, because a change of keys writes it again. */
import { setImmediate } from "node:timers/promises";
import { Problem } from "../../contract/problem.ts";
import { openBytes, sealBytes, sealCompressed, type SealedBytes } from "../sealed-bytes.ts";
import type { Vault } from "../vault.ts";
import type { Database } from "./database.ts";
import { bytes, text, textOrNull } from "./row.ts";

/** `spool` has messages that wait for their endpoint or are parked, `outbox_spool` has outgoing messages. */
export type MessageTable = "spool" | "outbox_spool";

export type SealedMessage = { dataKey: string; raw: Buffer };

export async function sealMessage(table: MessageTable, id: string, raw: Uint8Array, by: Vault): Promise<SealedMessage> {
  return join(await sealBytes(raw, by, aadOf(table, id)));
}

/** Must run in the transaction that writes the message's record. */
export function insertMessage(db: Database, table: MessageTable, id: string, { dataKey, raw }: SealedMessage): void {
  db.run(`insert into ${table} (id, bytes, raw) values (?, ?, ?)`, id, raw.length, raw);
  const sql = `insert into ${table}_keys (id, key_id, data_key) values (?, ?, ?)`;
  db.run(sql, id, keyIdOf(dataKey), dataKey);
}

/** The message as it was before `sealMessage`; undefined when there is none. Throws as `openBytes`. */
export async function readMessage(
  db: Database,
  table: MessageTable,
  id: string,
  by: Vault,
): Promise<Uint8Array | undefined> {
  const from = `${table} m left join ${table}_keys k on k.id = m.id`;
  const row = db.get(`select m.raw, k.data_key from ${from} where m.id = ?`, id);
  return row && openBytes({ dataKey: textOrNull(row, "data_key"), bytes: bytes(row, "raw") }, by, aadOf(table, id));
}

/** Encrypts the data keys of up to `limit` messages again, those after the id `after`. Returns how it went, and the last id. */
export function resealDataKeys(
  db: Database,
  { table, by, after, limit }: { table: MessageTable; by: Vault; after: string; limit: number },
): { resealed: number; unreadable: number; last: string | undefined } {
  return db.transact(() => {
    const rows = db.all(
      `select id, data_key from ${table}_keys where key_id <> ? and id > ? order by id limit ?`,
      by.sealingKeyId,
      after,
      limit,
    );
    let resealed = 0;
    for (const row of rows) {
      const dataKey = resealOrKeep(text(row, "data_key"), by);
      if (dataKey === undefined) continue;
      const sql = `update ${table}_keys set key_id = ?, data_key = ? where id = ?`;
      resealed += db.run(sql, by.sealingKeyId, dataKey, text(row, "id"));
    }
    return {
      resealed,
      unreadable: rows.length - resealed,
      last: rows.length < limit ? undefined : text(rows.at(-1), "id"),
    };
  });
}

/** Encrypts the first message after the id `after` that an older version stored without encryption. Returns its id. */
export async function sealOldMessage(
  db: Database,
  { table, by, after }: { table: MessageTable; by: Vault; after: string },
): Promise<string | undefined> {
  const isOld = `not exists (select 1 from ${table}_keys k where k.id = m.id)`;
  const row = db.get(`select id, raw from ${table} m where id > ? and ${isOld} order by id limit 1`, after);
  if (row === undefined) return undefined;
  const id = text(row, "id");
  const sealed = join(await sealCompressed(piecesOf(bytes(row, "raw")), by, aadOf(table, id)));
  db.transact(() => {
    // It may be delivered, or stored anew, meanwhile.
    if (db.run(`delete from ${table} as m where id = ? and ${isOld}`, id) > 0) insertMessage(db, table, id, sealed);
  });
  return id;
}

function join({ dataKey, pieces }: SealedBytes): SealedMessage {
  return { dataKey, raw: Buffer.concat(pieces) };
}

function resealOrKeep(dataKey: string, by: Vault): string | undefined {
  try {
    return by.resealDataKey(dataKey);
  } catch (error) {
    if (error instanceof Problem) return undefined;
    throw error;
  }
}

const PIECE_BYTES = 128 * 1024;

/** Other work gets its turn between two pieces, because the generator is asynchronous. */
async function* piecesOf(whole: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let from = 0; from < whole.length; from += PIECE_BYTES) {
    if (from > 0) await setImmediate();
    yield whole.subarray(from, from + PIECE_BYTES);
  }
}

function aadOf(table: MessageTable, id: string): string {
  return `${table}|${id}`;
}

function keyIdOf(dataKey: string): string {
  return dataKey.slice(0, dataKey.indexOf(":"));
}
