/** Outgoing messages in SQLite. Whatever a client or a mail server was told rests on it, so each step is on the disk when it returns. */
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { Sending } from "../../contract/sending.ts";
import { freshBytes } from "../message-window.ts";
import { packed, unpacked } from "../packing.ts";
import type { Database } from "./database.ts";
import { cut, readMark } from "../page-token.ts";
import { bytes, integer, json, readInTurns, type Row, text } from "./row.ts";
import { hourShares, type Shares } from "./quotas.ts";
import type { Acceptance, AutomaticTraffic, Outbox, Page, SendingQuery } from "../store.ts";

const HOUR_MS = 3_600_000;
/** Outgoing bytes kept at hand: most messages are sent within moments. */
const FRESH_BYTES = 8 * 1024 * 1024;

/** `spoolBytes` bounds the compressed bytes of outgoing messages, apart from those of deliveries. */
export function sqliteOutbox(db: Database, spoolBytes: number): Outbox {
  const fresh = freshBytes(FRESH_BYTES);
  const shares = hourShares(db);
  return {
    async accept(sending, raw, perHour) {
      const spooled = await packed(raw);
      const acceptance = await db.durablyTogether(() => accept(db, sending, { spooled, perHour, spoolBytes, shares }));
      if (acceptance.kind === "accepted" && Date.parse(sending.sendAt) <= Date.now()) fresh.put(sending.id, raw);
      return acceptance;
    },
    get: async (id) => one(db.get("select doc from outbox where id = ?", id)),
    async raw(id) {
      const known = fresh.get(id);
      if (known && db.get("select 1 from outbox_spool where id = ?", id)) return known;
      const row = db.get("select raw from outbox_spool where id = ?", id);
      return row && unpacked(bytes(row, "raw"));
    },
    take: (id, ttlMs) =>
      db.together(() => {
        const now = Date.now();
        const free = "state = 'queued' and due_at <= ? and taken_until <= ?";
        const sql = `update outbox set taken_until = ? where id = ? and ${free} returning doc`;
        return one(db.get(sql, now + ttlMs, id, now, now));
      }),
    async save(sending, holdMs = 0) {
      const saved = await db.durablyTogether(() => save(db, sending, holdMs));
      if (saved.transmitting.length === 0) fresh.drop(saved.id);
      return saved;
    },
    async find(mailbox, messageId) {
      const sql = `select doc from outbox where mailbox = ? and (message_id = ? or server_message_id = ?)
        order by created_at desc limit 1`;
      return one(db.get(sql, mailbox, messageId, messageId));
    },
    async list(query) {
      const page = listed(db, query);
      return { ...page, items: await readInTurns(page.items, sendingOf) };
    },
    async overdue({ limit, dueBefore }) {
      const sql = `select id, mailbox from outbox indexed by outbox_due
        where state = 'queued' and due_at < ? and taken_until <= ? order by due_at limit ?`;
      const rows = db.all(sql, Date.parse(dueBefore), Date.now(), limit);
      return rows.map((row) => ({ id: text(row, "id"), mailbox: text(row, "mailbox") }));
    },
    async noteAutomatic(mailbox, address, way) {
      db.step(() => {
        const sql = "insert into automatic (mailbox, address, way, at) values (?, ?, ?, ?)";
        db.run(sql, mailbox, address.toLowerCase(), way, Date.now());
      });
    },
    async automatic(mailbox, address) {
      const sql = "select count(*) as n from automatic where mailbox = ? and address = ? and way = ? and at > ?";
      const count = (way: keyof AutomaticTraffic) =>
        integer(db.get(sql, mailbox, address.toLowerCase(), way, Date.now() - HOUR_MS), "n");
      return { heard: count("heard"), sent: count("sent") };
    },
  };
}

type Intake = { spooled: Buffer; perHour: number; spoolBytes: number; shares: Shares };

function accept(db: Database, sending: Sending, { spooled, perHour, spoolBytes, shares }: Intake): Acceptance {
  const { mailbox, key } = sending;
  const before =
    key === null ? undefined : one(db.get("select doc from outbox where mailbox = ? and key = ?", mailbox, key));
  if (before) return { kind: before.contentHash === sending.contentHash ? "known" : "differs", sending: before };
  const until = shares.full(mailbox, perHour);
  if (until) return { kind: "limited", until };
  const held = integer(db.get("select n from tallies where name = 'outboxBytes'"), "n");
  if (held + spooled.length > spoolBytes) {
    const room = `${held} of ${spoolBytes} bytes are taken, this message needs ${spooled.length}`;
    throw new Problem("full", `There is no room for another outgoing message: ${room}`);
  }
  const accepted = { ...sending, revision: 1 };
  const { id, createdAt, messageId } = accepted;
  db.run(INSERT, id, mailbox, key, Date.parse(createdAt), messageId, JSON.stringify(accepted), ...searchable(accepted));
  db.run("insert into outbox_spool (id, bytes, raw) values (?, ?, ?)", id, spooled.length, spooled);
  return { kind: "accepted", sending: accepted };
}

const INSERT = `
  insert into outbox (id, mailbox, key, created_at, message_id, doc, state, updated_at, due_at, server_message_id, revision,
    taken_until) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 0)`;

function save(db: Database, sending: Sending, holdMs: number): Sending {
  const saved = { ...sending, revision: sending.revision + 1 };
  const until = holdMs === 0 ? 0 : Date.now() + holdMs;
  const { id, revision } = sending;
  const found = searchable(saved);
  const doc = JSON.stringify(saved);
  // A mark changes nothing that is searched by, and so leaves the indexes alone.
  const marked = db.run(MARK, saved.revision, doc, until, id, revision, ...found);
  if (marked === 0 && db.run(SAVE, saved.revision, doc, until, ...found, id, revision) === 0) {
    throw new Problem("conflict", `The sending ${id} was changed meanwhile`, { retry: "never" });
  }
  if (isSpent(saved)) db.run("delete from outbox_spool where id = ?", id);
  return saved;
}

const MARK = `
  update outbox set revision = ?, doc = ?, taken_until = ? where id = ? and revision = ?
    and state = ? and updated_at = ? and due_at = ? and server_message_id is ?`;
/** The Message-ID is not among it: it is the same from the beginning. */
const SAVE = `
  update outbox set revision = ?, doc = ?, taken_until = ?, state = ?, updated_at = ?, due_at = ?, server_message_id = ?
    where id = ? and revision = ?`;

/** True when nobody will ask for the bytes again. Those of a failed or doubtful one stay for a person to look at. */
export function isSpent({ state, copy }: Sending): boolean {
  return (state === "sent" || state === "bounced") && copy !== "wanted";
}

/** Columns beside the document that change and are searched by. */
function searchable({ state, updatedAt, nextAttemptAt, serverMessageId }: Sending) {
  const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
  return [state, Date.parse(updatedAt), due, serverMessageId] as const;
}

function listed(db: Database, query: SendingQuery): Page<Row> {
  const where = ["mailbox = ?", ...(query.state === undefined ? [] : ["state = ?"])];
  const values: (string | number)[] = [query.mailbox, ...(query.state === undefined ? [] : [query.state])];
  const counted = `select count(*) as n from outbox where ${where.join(" and ")}`;
  const total = integer(db.get(counted, ...values), "n");
  if (query.cursor !== undefined) {
    const [at = "", id = ""] = readMark(query.cursor, 2);
    where.push("(created_at, id) < (?, ?)");
    values.push(Number(at), id);
  }
  const sql = `select id, created_at, doc from outbox where ${where.join(" and ")} order by created_at desc, id desc limit ?`;
  const found = db.all(sql, ...values, query.limit + 1);
  const { rows, next } = cut(found, query.limit, (row) => [String(integer(row, "created_at")), text(row, "id")]);
  return { items: rows, next, total };
}

function one(row: Row | undefined): Sending | undefined {
  return row && sendingOf(row);
}

function sendingOf(row: Row): Sending {
  return v.parse(Sending, json(row, "doc"));
}
