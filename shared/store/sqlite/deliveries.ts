/** Deliveries and their spooled bytes in SQLite. */
import * as v from "valibot";
import { Delivery, type DeliveryState } from "../../contract/delivery.ts";
import { Problem } from "../../contract/problem.ts";
import { clock } from "../../time.ts";
import { endOfPrefix } from "../access-rules.ts";
import type { Claims } from "../memory/claims.ts";
import type { Database } from "./database.ts";
import { markDelivered } from "./ledger.ts";
import { decodePageToken, encodePageToken, paginate } from "../page-token.ts";
import { integer, json, readInBatches, type Row, text } from "./row.ts";
import { insertMessage, readMessage, type SealedMessage, sealMessage } from "./sealed-messages.ts";
import { type DeliveryQuery, readMessageId, searchedText, searchedWords } from "../delivery-search.ts";
import type { Deliveries, Page } from "../store.ts";
import type { Vault } from "../vault.ts";

const SELECT =
  "select d.id, d.doc, d.created_at, exists(select 1 from spool s where s.id = d.id) as spooled from deliveries d";

/** `spoolBytes` limits the stored bytes. `by` encrypts them. */
export function sqliteDeliveries(db: Database, claims: Claims, spoolBytes: number, by: Vault): Deliveries {
  return {
    async save(delivery, raw) {
      // This happens outside the transaction and in another thread, because compressing 60 MB takes a quarter of a
      // second.
      const sealed =
        raw && delivery.state !== "delivered" ? await sealMessage("spool", delivery.id, raw, by) : undefined;
      await db.transactGrouped(() => {
        writeDelivery(db, delivery);
        if (sealed) writeSpool(db, delivery.id, sealed, spoolBytes);
        if (delivery.state === "delivered") db.run("delete from spool where id = ?", delivery.id);
        markDelivered(db, claims, delivery.mailbox, delivery.ref);
      });
      claims.drop(delivery.mailbox, [delivery.ref]);
    },
    async get(id) {
      const row = db.get(`${SELECT} where d.id = ?`, id);
      return row && parseDelivery(row);
    },
    async list(query) {
      const page = listDeliveries(db, query);
      return { ...page, items: await readInBatches(page.items, parseDelivery) };
    },
    getRaw: (id) => readMessage(db, "spool", id, by),
    claim: async (id, ttlMs, early) =>
      db.transactGrouped(() => claim(db, { id, ttlMs, dueBy: early ? Number.MAX_SAFE_INTEGER : clock.now() })),
    async renew(id, ttlMs) {
      const sql = "update deliveries set taken_until = ? where id = ? and state = 'retrying' and taken_until > 0";
      await db.transactGrouped(() => db.run(sql, clock.now() + ttlMs, id));
    },
    listRetrying: async (query) => readInBatches(listRetrying(db, query), parseDelivery),
    getCounts: async () => getCounts(db),
  };
}

function writeDelivery(db: Database, delivery: Delivery): void {
  const { id, mailbox, endpoint, state, message } = delivery;
  const times = [delivery.createdAt, delivery.updatedAt, delivery.nextAttemptAt].map(toMillis);
  const words = message ? searchedWords(message) : null;
  const doc = JSON.stringify(delivery);
  db.run(WRITE, id, mailbox, endpoint, state, ...times, doc, words, message?.messageId ?? null);
}

const WRITE = `
  insert into deliveries (id, mailbox, endpoint, state, created_at, updated_at, next_attempt_at, doc, words, message_id,
    taken_until)
  values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)
  on conflict do update set mailbox = excluded.mailbox, endpoint = excluded.endpoint, state = excluded.state,
    created_at = excluded.created_at, updated_at = excluded.updated_at, next_attempt_at = excluded.next_attempt_at,
    doc = excluded.doc,
    words = excluded.words, message_id = excluded.message_id, taken_until = 0`;

function claim(db: Database, { id, ttlMs, dueBy }: { id: string; ttlMs: number; dueBy: number }): Delivery | undefined {
  const now = clock.now();
  const free = "state = 'retrying' and next_attempt_at <= ? and taken_until <= ?";
  const claimed = db.run(`update deliveries set taken_until = ? where id = ? and ${free}`, now + ttlMs, id, dueBy, now);
  const row = claimed === 1 ? db.get(`${SELECT} where d.id = ?`, id) : undefined;
  return row && parseDelivery(row);
}

/** With `dueBefore` it leaves out claimed deliveries, because somebody is working on them. */
function listRetrying(db: Database, query: { limit: number; endpoint?: string; dueBefore?: string }): Row[] {
  const { where, values, only: addCondition } = whereBuilder("d.state = 'retrying'");
  addCondition("d.endpoint = ?", query.endpoint);
  addCondition("d.next_attempt_at < ? and d.taken_until <= ?", ...dueBeforeValues(query.dueBefore));
  // Without this hint the query planner scans all retrying deliveries to find the few that are overdue.
  const indexHint = query.dueBefore === undefined ? "" : "indexed by deliveries_due";
  const sql = `${SELECT} ${indexHint} where ${where.join(" and ")} order by d.created_at, d.id limit ?`;
  return db.all(sql, ...values, query.limit);
}

function writeSpool(db: Database, id: string, sealed: SealedMessage, maxBytes: number): void {
  db.run("delete from spool where id = ?", id);
  const usedBytes = integer(db.get("select n from tallies where name = 'spoolBytes'"), "n");
  const { length } = sealed.raw;
  if (usedBytes + length > maxBytes) {
    const room = `${usedBytes} of ${maxBytes} bytes are in use, and this message needs ${length}`;
    throw new Problem("full", `The spool has no room for another message: ${room}`);
  }
  insertMessage(db, "spool", id, sealed);
}

function getCounts(db: Database): Record<DeliveryState, number> & { spoolBytes: number } {
  const tallies = new Map(db.all("select name, n from tallies").map((row) => [text(row, "name"), integer(row, "n")]));
  const tally = (name: string) => tallies.get(name) ?? 0;
  return {
    retrying: tally("retrying"),
    parked: tally("parked"),
    delivered: tally("delivered"),
    spoolBytes: tally("spoolBytes"),
  };
}

function listDeliveries(db: Database, query: DeliveryQuery): Page<Row> {
  const { where, values, only: addCondition } = whereBuilder("1");
  addCondition("d.state = ?", query.state);
  addCondition("d.mailbox = ?", query.mailbox);
  addCondition("d.mailbox >= ?", query.prefix);
  addCondition("d.mailbox < ?", endOfPrefix(query.prefix));
  addCondition("d.created_at >= ?", query.since === undefined ? undefined : parseTimestamp(query.since));
  const countSql = `select count(*) as n from deliveries d where ${where.join(" and ")}`;
  const isOfAll = [query.mailbox, query.prefix, query.since].every((value) => value === undefined);
  const total = isOfAll ? countAll(db, query.state) : integer(db.get(countSql, ...values), "n");
  if (query.cursor !== undefined) {
    const [at = "", id = ""] = decodePageToken(query.cursor, 2);
    addCondition("(d.created_at, d.id) < (?, ?)", Number(at), id);
  }
  const chosen = { where: where.join(" and "), values };
  if (query.text !== undefined) return { ...findText(db, chosen, { text: query.text, limit: query.limit }), total };
  const sql = `${SELECT} where ${chosen.where} ${NEWEST_FIRST} limit ?`;
  return { ...pageOf(db.all(sql, ...values, query.limit + 1), query.limit), total };
}

const NEWEST_FIRST = "order by d.created_at desc, d.id desc";
/** So many deliveries are searched for one page. That takes some milliseconds, and nothing else happens meanwhile. */
const SEARCHED = 10_000;

type Chosen = { where: string; values: (string | number)[] };

/** Those among the next ones that have the words or the Message-ID. */
function findText(
  db: Database,
  { where, values }: Chosen,
  { text: given, limit }: { text: string; limit: number },
): Omit<Page<Row>, "total"> {
  const next = `from deliveries d where ${where} ${NEWEST_FIRST}`;
  const searched = `select d.id, d.created_at, d.words, d.message_id ${next} limit ${SEARCHED}`;
  const matches = "instr(d.words, ?) > 0 or d.message_id = ?";
  const found = `select d.id from (${searched}) d where ${matches} ${NEWEST_FIRST} limit ?`;
  const sql = `${SELECT} where d.id in (${found}) ${NEWEST_FIRST}`;
  const page = pageOf(db.all(sql, ...values, searchedText(given), readMessageId(given), limit + 1), limit);
  if (page.next !== null) return page;
  const last = db.get(`select d.created_at, d.id ${next} limit 1 offset ?`, ...values, SEARCHED - 1);
  return { ...page, next: last === undefined ? null : encodePageToken(pageKey(last)) };
}

function pageOf(rows: Row[], limit: number): { items: Row[]; next: string | null } {
  const { rows: items, next } = paginate(rows, limit, pageKey);
  return { items, next };
}

/** Reading the counts costs the same however many deliveries there are. */
function countAll(db: Database, state: DeliveryState | undefined): number {
  const { retrying, parked, delivered } = getCounts(db);
  return state === undefined ? retrying + parked + delivered : { retrying, parked, delivered }[state];
}

/** Builds a WHERE clause from the conditions whose values are given. */
function whereBuilder(first: string) {
  const where = [first];
  const values: (string | number)[] = [];
  const addCondition = (condition: string, ...of: (string | number | undefined)[]) => {
    const given = of.filter((value) => value !== undefined);
    if (given.length === 0) return;
    where.push(condition);
    values.push(...given);
  };
  return { where, values, only: addCondition };
}

function pageKey(row: Row): string[] {
  return [String(integer(row, "created_at")), text(row, "id")];
}

function dueBeforeValues(date: string | undefined): number[] {
  return date === undefined ? [] : [parseTimestamp(date), clock.now()];
}

/** Milliseconds. 0 for no time, because a retrying delivery without a time is due. */
function toMillis(date: string | null): number {
  return date === null ? 0 : parseTimestamp(date);
}

function parseTimestamp(date: string): number {
  const at = Date.parse(date);
  if (!Number.isNaN(at)) return at;
  throw new Problem("invalid", `"${date}" is not an ISO 8601 date`, { retry: "never" });
}

function parseDelivery(row: Row): Delivery {
  return { ...v.parse(Delivery, json(row, "doc")), spooled: integer(row, "spooled") === 1 };
}
