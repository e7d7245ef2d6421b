/** Deliveries and their spooled bytes in SQLite. */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import * as v from "valibot";
import { Delivery, type DeliveryState } from "../../contract/delivery.ts";
import { Problem } from "../../contract/problem.ts";
import type { Database } from "./database.ts";
import { handOver } from "./ledger.ts";
import { cut, readMark } from "../page-token.ts";
import { bytes, integer, json, readInTurns, type Row, text } from "./row.ts";
import type { Deliveries, DeliveryQuery, Page } from "../store.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
/** The quickest level: text shrinks to about a third, and what is incompressible costs next to nothing. */
const QUICK = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

const SELECT =
  "select d.id, d.doc, d.created_at, exists(select 1 from spool s where s.id = d.id) as spooled from deliveries d";

/** `spoolBytes` bounds the compressed bytes. */
export function sqliteDeliveries(db: Database, spoolBytes: number): Deliveries {
  return {
    async save(delivery, raw) {
      // Outside of the step and of this thread: compressing 60 MB takes a quarter of a second.
      const packed = raw && delivery.state !== "delivered" ? await compress(raw, QUICK) : undefined;
      await db.together(() => {
        write(db, delivery);
        if (packed) spool(db, delivery.id, packed, spoolBytes);
        if (delivery.state === "delivered") db.run("delete from spool where id = ?", delivery.id);
        handOver(db, delivery.mailbox, delivery.ref);
      });
    },
    async get(id) {
      const row = db.get(`${SELECT} where d.id = ?`, id);
      return row && deliveryOf(row);
    },
    async list(query) {
      const page = listed(db, query);
      return { ...page, items: await readInTurns(page.items, deliveryOf) };
    },
    async raw(id) {
      const row = db.get("select raw from spool where id = ?", id);
      return row && decompress(bytes(row, "raw"));
    },
    take: async (id, ttlMs, early) =>
      db.step(() => take(db, { id, ttlMs, dueBy: early ? Number.MAX_SAFE_INTEGER : Date.now() })),
    async keep(id, ttlMs) {
      const sql = "update deliveries set taken_until = ? where id = ? and state = 'retrying' and taken_until > 0";
      db.step(() => db.run(sql, Date.now() + ttlMs, id));
    },
    retrying: async (query) => readInTurns(retrying(db, query), deliveryOf),
    counts: async () => counts(db),
  };
}

function write(db: Database, delivery: Delivery): void {
  const { id, mailbox, endpoint, state } = delivery;
  const times = [delivery.createdAt, delivery.updatedAt, delivery.nextAttemptAt].map(millis);
  db.run(WRITE, id, mailbox, endpoint, state, ...times, JSON.stringify(delivery));
}

const WRITE = `
  insert into deliveries (id, mailbox, endpoint, state, created_at, updated_at, next_attempt_at, doc, taken_until)
  values (?, ?, ?, ?, ?, ?, ?, ?, 0)
  on conflict do update set mailbox = excluded.mailbox, endpoint = excluded.endpoint, state = excluded.state,
    created_at = excluded.created_at, updated_at = excluded.updated_at, next_attempt_at = excluded.next_attempt_at,
    doc = excluded.doc, taken_until = 0`;

function take(db: Database, { id, ttlMs, dueBy }: { id: string; ttlMs: number; dueBy: number }): Delivery | undefined {
  const now = Date.now();
  const free = "state = 'retrying' and next_attempt_at <= ? and taken_until <= ?";
  const taken = db.run(`update deliveries set taken_until = ? where id = ? and ${free}`, now + ttlMs, id, dueBy, now);
  const row = taken === 1 ? db.get(`${SELECT} where d.id = ?`, id) : undefined;
  return row && deliveryOf(row);
}

/** Those that somebody has taken are not forgotten: `dueBefore` leaves them out. */
function retrying(db: Database, query: { limit: number; endpoint?: string; dueBefore?: string }): Row[] {
  const { where, values, only } = conditions("d.state = 'retrying'");
  only("d.endpoint = ?", query.endpoint);
  only("d.next_attempt_at < ? and d.taken_until <= ?", ...dueBefore(query.dueBefore));
  // Left to itself the planner walks through everything that retries to find the few that are overdue.
  const by = query.dueBefore === undefined ? "" : "indexed by deliveries_due";
  const sql = `${SELECT} ${by} where ${where.join(" and ")} order by d.created_at, d.id limit ?`;
  return db.all(sql, ...values, query.limit);
}

function spool(db: Database, id: string, packed: Buffer, bound: number): void {
  db.run("delete from spool where id = ?", id);
  const held = integer(db.get("select n from tallies where name = 'spoolBytes'"), "n");
  if (held + packed.length > bound) {
    const room = `${held} of ${bound} bytes are taken, this message needs ${packed.length}`;
    throw new Problem("full", `The spool has no room for another message: ${room}`);
  }
  db.run("insert into spool (id, bytes, raw) values (?, ?, ?)", id, packed.length, packed);
}

function counts(db: Database): Record<DeliveryState, number> & { spoolBytes: number } {
  const found = new Map(db.all("select name, n from tallies").map((row) => [text(row, "name"), integer(row, "n")]));
  const of = (name: string) => found.get(name) ?? 0;
  return { retrying: of("retrying"), parked: of("parked"), delivered: of("delivered"), spoolBytes: of("spoolBytes") };
}

function listed(db: Database, query: DeliveryQuery): Page<Row> {
  const { where, values, only } = conditions("1");
  only("d.state = ?", query.state);
  only("d.mailbox = ?", query.mailbox);
  only("d.created_at >= ?", query.since === undefined ? undefined : instant(query.since));
  const counted = `select count(*) as n from deliveries d where ${where.join(" and ")}`;
  const total = integer(db.get(counted, ...values), "n");
  if (query.cursor !== undefined) {
    const [at = "", id = ""] = readMark(query.cursor, 2);
    only("(d.created_at, d.id) < (?, ?)", Number(at), id);
  }
  const sql = `${SELECT} where ${where.join(" and ")} order by d.created_at desc, d.id desc limit ?`;
  const { rows, next } = cut(db.all(sql, ...values, query.limit + 1), query.limit, keyOf);
  return { items: rows, next, total };
}

/** Grows a WHERE clause by those conditions whose values are given. */
function conditions(first: string) {
  const where = [first];
  const values: (string | number)[] = [];
  const only = (condition: string, ...of: (string | number | undefined)[]) => {
    const given = of.filter((value) => value !== undefined);
    if (given.length === 0) return;
    where.push(condition);
    values.push(...given);
  };
  return { where, values, only };
}

function keyOf(row: Row): string[] {
  return [String(integer(row, "created_at")), text(row, "id")];
}

function dueBefore(date: string | undefined): number[] {
  return date === undefined ? [] : [instant(date), Date.now()];
}

/** Milliseconds, 0 for none: a retrying delivery without a time is due. */
function millis(date: string | null): number {
  return date === null ? 0 : instant(date);
}

function instant(date: string): number {
  const at = Date.parse(date);
  if (!Number.isNaN(at)) return at;
  throw new Problem("invalid", `"${date}" is not an ISO 8601 date`, { retry: "never" });
}

function deliveryOf(row: Row): Delivery {
  return { ...v.parse(Delivery, json(row, "doc")), spooled: integer(row, "spooled") === 1 };
}
