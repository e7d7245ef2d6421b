/**
 * Outgoing messages in SQLite. The service answers clients and mail servers based on this data, so each change is on
 * the disk when it returns.
 */
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { Sending } from "../../contract/sending.ts";
import { clock } from "../../time.ts";
import { messageWindow } from "../message-window.ts";
import type { Database } from "./database.ts";
import { paginate, decodePageToken } from "../page-token.ts";
import { integer, json, readInBatches, type Row, text } from "./row.ts";
import { hourlyQuotas, type HourlyQuotas } from "./quotas.ts";
import { insertMessage, readMessage, type SealedMessage, sealMessage } from "./sealed-messages.ts";
import type { Acceptance, AutomaticTraffic, Outbox, Page, SendingQuery } from "../store.ts";
import { isSpent } from "../outbox-rules.ts";
import type { Vault } from "../vault.ts";

const HOUR_MS = 3_600_000;
/** Outgoing bytes that are cached, because most messages are sent within moments. */
const WINDOW_BYTES = 8 * 1024 * 1024;

/** `spoolBytes` limits the stored bytes of outgoing messages. Deliveries have their own limit. `by` encrypts them. */
export function sqliteOutbox(db: Database, spoolBytes: number, by: Vault): Outbox {
  const recentBytes = messageWindow(WINDOW_BYTES);
  const quotas = hourlyQuotas(db);
  return {
    async accept(sending, raw, perHour) {
      const spooled = await sealMessage("outbox_spool", sending.id, raw, by);
      const acceptance = await db.transactGroupedDurably(() =>
        accept(db, sending, { spooled, perHour, spoolBytes, shares: quotas }),
      );
      if (acceptance.kind === "accepted" && Date.parse(sending.sendAt) <= clock.now()) recentBytes.put(sending.id, raw);
      return acceptance;
    },
    get: async (id) => optionalSending(db.get("select doc from outbox where id = ?", id)),
    async getRaw(id) {
      const cached = recentBytes.get(id);
      if (cached && db.get("select 1 from outbox_spool where id = ?", id)) return cached;
      return readMessage(db, "outbox_spool", id, by);
    },
    claim: (id, ttlMs) =>
      db.transactGrouped(() => {
        const now = clock.now();
        const free = "state = 'queued' and due_at <= ? and taken_until <= ?";
        const sql = `update outbox set taken_until = ? where id = ? and ${free} returning doc`;
        return optionalSending(db.get(sql, now + ttlMs, id, now, now));
      }),
    async save(sending, holdMs = 0) {
      const saved = await db.transactGroupedDurably(() => save(db, sending, holdMs));
      if (saved.transmitting.length === 0) recentBytes.drop(saved.id);
      return saved;
    },
    async findByMessageId(mailbox, messageId) {
      const sql = `select doc from outbox where mailbox = ? and (message_id = ? or server_message_id = ?)
        order by created_at desc limit 1`;
      return optionalSending(db.get(sql, mailbox, messageId, messageId));
    },
    async list(query) {
      const page = listSendings(db, query);
      return { ...page, items: await readInBatches(page.items, parseSending) };
    },
    async listOverdue({ limit, dueBefore }) {
      const sql = `select id, mailbox from outbox indexed by outbox_due
        where state = 'queued' and due_at < ? and taken_until <= ? order by due_at limit ?`;
      const rows = db.all(sql, Date.parse(dueBefore), clock.now(), limit);
      return rows.map((row) => ({ id: text(row, "id"), mailbox: text(row, "mailbox") }));
    },
    async recordAutomatic(mailbox, address, way) {
      db.transact(() => {
        const sql = "insert into automatic (mailbox, address, way, at) values (?, ?, ?, ?)";
        db.run(sql, mailbox, address.toLowerCase(), way, clock.now());
      });
    },
    async getAutomaticTraffic(mailbox, address) {
      const sql = "select count(*) as n from automatic where mailbox = ? and address = ? and way = ? and at > ?";
      const count = (way: keyof AutomaticTraffic) =>
        integer(db.get(sql, mailbox, address.toLowerCase(), way, clock.now() - HOUR_MS), "n");
      return { heard: count("heard"), sent: count("sent") };
    },
  };
}

type AcceptOptions = { spooled: SealedMessage; perHour: number; spoolBytes: number; shares: HourlyQuotas };

function accept(
  db: Database,
  sending: Sending,
  { spooled, perHour, spoolBytes, shares: quotas }: AcceptOptions,
): Acceptance {
  const { mailbox, key } = sending;
  const previous =
    key === null
      ? undefined
      : optionalSending(db.get("select doc from outbox where mailbox = ? and key = ?", mailbox, key));
  if (previous) return { kind: previous.contentHash === sending.contentHash ? "known" : "differs", sending: previous };
  const until = quotas.consume(mailbox, perHour);
  if (until) return { kind: "limited", until };
  const usedBytes = integer(db.get("select n from tallies where name = 'outboxBytes'"), "n");
  const { length } = spooled.raw;
  if (usedBytes + length > spoolBytes) {
    const room = `${usedBytes} of ${spoolBytes} bytes are in use, and this message needs ${length}`;
    throw new Problem("full", `There is no room for another outgoing message: ${room}`);
  }
  const accepted = { ...sending, revision: 1 };
  const { id, createdAt, messageId } = accepted;
  db.run(
    INSERT,
    id,
    mailbox,
    key,
    Date.parse(createdAt),
    messageId,
    JSON.stringify(accepted),
    ...indexedColumns(accepted),
  );
  insertMessage(db, "outbox_spool", id, spooled);
  return { kind: "accepted", sending: accepted };
}

const INSERT = `
  insert into outbox (id, mailbox, key, created_at, message_id, doc, state, updated_at, due_at, server_message_id, revision,
    taken_until) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0)`;

function save(db: Database, sending: Sending, holdMs: number): Sending {
  const saved = { ...sending, revision: sending.revision + 1 };
  const until = holdMs === 0 ? 0 : clock.now() + holdMs;
  const { id, revision } = sending;
  const columns = indexedColumns(saved);
  const doc = JSON.stringify(saved);
  // Recording `transmitting` changes no indexed column, so it leaves the indexes alone.
  const marked = db.run(SAVE_UNINDEXED, saved.revision, doc, until, id, revision, ...columns);
  if (marked === 0 && db.run(SAVE, saved.revision, doc, until, ...columns, id, revision) === 0) {
    throw new Problem("conflict", `The sending ${id} was changed meanwhile`, { retry: "never" });
  }
  if (isSpent(saved)) db.run("delete from outbox_spool where id = ?", id);
  return saved;
}

const SAVE_UNINDEXED = `
  update outbox set revision = ?, doc = ?, taken_until = ? where id = ? and revision = ?
    and state = ? and updated_at = ? and due_at = ? and server_message_id is ?`;
/** The Message-ID is not among these columns, because it never changes. */
const SAVE = `
  update outbox set revision = ?, doc = ?, taken_until = ?, state = ?, updated_at = ?, due_at = ?, server_message_id = ?
    where id = ? and revision = ?`;

/** Columns beside the document that change and that are indexed. */
function indexedColumns({ state, updatedAt, nextAttemptAt, serverMessageId }: Sending) {
  const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
  return [state, Date.parse(updatedAt), due, serverMessageId] as const;
}

function listSendings(db: Database, query: SendingQuery): Page<Row> {
  const where = ["mailbox = ?", ...(query.state === undefined ? [] : ["state = ?"])];
  const values: (string | number)[] = [query.mailbox, ...(query.state === undefined ? [] : [query.state])];
  const countSql = `select count(*) as n from outbox where ${where.join(" and ")}`;
  const total = integer(db.get(countSql, ...values), "n");
  if (query.cursor !== undefined) {
    const [at = "", id = ""] = decodePageToken(query.cursor, 2);
    where.push("(created_at, id) < (?, ?)");
    values.push(Number(at), id);
  }
  const sql = `select id, created_at, doc from outbox where ${where.join(" and ")} order by created_at desc, id desc limit ?`;
  const found = db.all(sql, ...values, query.limit + 1);
  const { rows, next } = paginate(found, query.limit, (row) => [String(integer(row, "created_at")), text(row, "id")]);
  return { items: rows, next, total };
}

function optionalSending(row: Row | undefined): Sending | undefined {
  return row && parseSending(row);
}

function parseSending(row: Row): Sending {
  return v.parse(Sending, json(row, "doc"));
}
