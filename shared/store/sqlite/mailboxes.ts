/** Registered mailboxes in SQLite, with encrypted secrets. Their states are in a table of their own. */
import * as v from "valibot";
import { type Mailbox, MailboxStatus, type MailboxState } from "../../contract/mailbox.ts";
import { Problem, type ProblemView, withCurrentCode } from "../../contract/problem.ts";
import { clock } from "../../time.ts";
import { endOfPrefix } from "../access-rules.ts";
import type { Claims } from "../memory/claims.ts";
import type { Database } from "./database.ts";
import { paginate, decodePageToken } from "../page-token.ts";
import { integer, json, readInBatches, type Row, text, textOrNull } from "./row.ts";
import { OWNED_TABLES } from "./schema.ts";
import { initialState, type Mailboxes, type MailboxQuery, type MailboxWithState, type Page } from "../store.ts";
import type { EnabledMailbox } from "../enabled.ts";
import type { MailboxSealing } from "../mailbox-sealing.ts";
import { cachingMailboxReader } from "../sealed-mailboxes.ts";

const SELECT_WITH_STATE = "select m.doc, s.* from mailboxes m join states s on s.mailbox = m.id";
/** After all ids, as `endOfPrefix` is after those of a prefix. */
const LAST_ID = "~";

export function sqliteMailboxes(db: Database, sealing: MailboxSealing, claims: Claims): Mailboxes {
  const changes = changeLog();
  const listEnabled = () => toEnabled(db.all("select id, revision from mailboxes where paused = 0 order by id"));
  const read = cachingMailboxReader(sealing.open);
  const toMailboxWithState = (row: Row): MailboxWithState => ({
    mailbox: read(text(row, "doc")),
    state: parseState(row),
  });
  return {
    put: (mailbox, state) =>
      db.transactGroupedDurably(() => {
        changes.add(mailbox.id);
        return put(db, sealing, mailbox, state);
      }),
    amend: ({ id, revision }, change) =>
      db.transactGroupedDurably(() => {
        const row = db.get(
          "select doc from mailboxes where id = ? and revision = coalesce(?, revision)",
          id,
          revision ?? null,
        );
        if (!row) return false;
        const { doc, canary } = sealing.seal(change(read(text(row, "doc"))));
        return db.run("update mailboxes set doc = ?, key_id = ? where id = ?", doc, canary.tag, id) > 0;
      }),
    async get(id) {
      const row = db.get(`${SELECT_WITH_STATE} where m.id = ?`, id);
      return row && toMailboxWithState(row);
    },
    async list(query) {
      const page = listMailboxes(db, query);
      return { ...page, items: await readInBatches(page.items, toMailboxWithState) };
    },
    async listStates({ limit, cursor, prefix = "" }) {
      const [after = ""] = cursor === undefined ? [] : decodePageToken(cursor, 1);
      const sql = "select * from states where mailbox > ? and mailbox >= ? and mailbox < ? order by mailbox limit ?";
      const found = db.all(sql, after, prefix, endOfPrefix(prefix) ?? LAST_ID, limit + 1);
      const { rows, next } = paginate(found, limit, (row) => [text(row, "mailbox")]);
      return {
        items: await readInBatches(rows, (row) => ({ id: text(row, "mailbox"), state: parseState(row) })),
        next,
      };
    },
    async remove(id) {
      const removed = await db.transactGroupedDurably(() => {
        changes.add(id);
        return remove(db, id);
      });
      claims.dropMailbox(id);
      return removed;
    },
    async saveStates(states) {
      db.transact(() => {
        for (const { id, revision, state } of states)
          if (db.run(SAVE_STATE, ...stateValues(state), id, id, revision) > 0 && state.lastArrivalAt !== null)
            db.run(WRITE_ARRIVAL, state.lastArrivalAt, id, state.lastArrivalAt);
      });
    },
    listEnabled: async () => listEnabled(),
    followEnabled() {
      let position: number | undefined;
      return {
        async next({ whole = false } = {}) {
          const since = whole || position === undefined ? undefined : changes.since(position);
          position = changes.position;
          return since
            ? { whole: false, mailboxes: readEnabled(db, since) }
            : { whole: true, mailboxes: listEnabled() };
        },
      };
    },
  };
}

/** So many changes are kept. Whoever is further behind reads the whole list. */
const MAX_CHANGES = 10_000;

/**
 * The ids of the mailboxes that were registered, changed or removed in this process, in order. No other process may do
 * that. A change that was rolled back may be among them.
 */
function changeLog() {
  let ids: string[] = [];
  let dropped = 0;
  return {
    get position() {
      return dropped + ids.length;
    },
    add(id: string) {
      ids.push(id);
      if (ids.length < 2 * MAX_CHANGES) return;
      dropped += MAX_CHANGES;
      ids = ids.slice(MAX_CHANGES);
    },
    /** Undefined if some are no longer known. */
    since: (position: number) => (position < dropped ? undefined : new Set(ids.slice(position - dropped))),
  };
}

function readEnabled(db: Database, ids: ReadonlySet<string>): EnabledMailbox[] {
  if (ids.size === 0) return [];
  const sql = "select id, revision from mailboxes where paused = 0 and id in (select value from json_each(?))";
  const revisions = new Map(toEnabled(db.all(sql, JSON.stringify([...ids]))).map(({ id, revision }) => [id, revision]));
  return [...ids].map((id) => ({ id, revision: revisions.get(id) ?? 0 }));
}

function toEnabled(rows: Row[]): EnabledMailbox[] {
  return rows.map((row) => ({ id: text(row, "id"), revision: integer(row, "revision") }));
}

function put(db: Database, sealing: MailboxSealing, mailbox: Mailbox, state: MailboxState | undefined): Mailbox {
  const { id } = mailbox;
  const row = db.get("select revision from mailboxes where id = ?", id);
  const revision = row === undefined ? 0 : integer(row, "revision");
  if (revision !== mailbox.revision) {
    const found = row === undefined ? "was removed" : `has revision ${revision}`;
    throw new Problem("conflict", `The mailbox ${id} ${found}, not ${mailbox.revision}`, { retry: "never" });
  }
  const saved = { ...mailbox, revision: revision + 1 };
  const { doc, canary } = sealing.seal(saved);
  const address = mailbox.address.toLowerCase();
  db.run(
    "insert or replace into mailboxes (id, revision, paused, address, key_id, doc) values (?, ?, ?, ?, ?, ?)",
    id,
    saved.revision,
    Number(saved.paused),
    address,
    canary.tag,
    doc,
  );
  if (row === undefined) {
    // A worker may have written rows for a removed mailbox with this id. They must not belong to the new mailbox.
    deleteOwnedRows(db, id);
    db.run("delete from removed where mailbox = ?", id);
    writeState(db, id, state ?? initialState(saved), "insert");
  } else if (state) writeState(db, id, state, "update");
  return saved;
}

function remove(db: Database, id: string): boolean {
  deleteOwnedRows(db, id);
  db.run("delete from fences where mailbox = ?", id);
  db.run("insert or replace into removed (mailbox, at) values (?, ?)", id, clock.now());
  return db.run("delete from mailboxes where id = ?", id) > 0;
}

function deleteOwnedRows(db: Database, id: string): void {
  for (const table of OWNED_TABLES) db.run(`delete from ${table} where mailbox = ?`, id);
}

/**
 * Deletes rows that a worker wrote after its mailbox was removed. After an hour no worker can still be busy with it.
 */
export function purgeRemovedMailboxes(db: Database, now: number): void {
  db.transact(() => {
    for (const row of db.all("select mailbox from removed")) deleteOwnedRows(db, text(row, "mailbox"));
    db.run("delete from removed where at < ?", now - 3_600_000);
  });
}

const STATE_COLUMNS = "status, since, node, last_verified_at, failed_logins, problem";
const WRITE_STATE = {
  insert: `insert into states (${STATE_COLUMNS}, mailbox) values (?, ?, ?, ?, ?, ?, ?)`,
  update: `update states set (${STATE_COLUMNS}) = (?, ?, ?, ?, ?, ?) where mailbox = ?`,
};
/** Apart, because SQLite would write an index anew for each column that is set, also to the same value. */
const WRITE_ARRIVAL = "update states set last_arrival_at = ? where mailbox = ? and last_arrival_at is not ?";

const SAVE_STATE = `${WRITE_STATE.update} and exists (select 1 from mailboxes where id = ? and revision = ?)`;

function writeState(db: Database, id: string, state: MailboxState, how: keyof typeof WRITE_STATE): void {
  db.run(WRITE_STATE[how], ...stateValues(state), id);
  db.run(WRITE_ARRIVAL, state.lastArrivalAt, id, state.lastArrivalAt);
}

function stateValues({ status, since, node, lastVerifiedAt, failedLogins, problem }: MailboxState) {
  return [status, since, node, lastVerifiedAt, failedLogins, problem && JSON.stringify(problem)];
}

function parseState(row: Row): MailboxState {
  return {
    status: v.parse(MailboxStatus, row["status"]),
    since: text(row, "since"),
    node: textOrNull(row, "node"),
    lastVerifiedAt: textOrNull(row, "last_verified_at"),
    lastArrivalAt: textOrNull(row, "last_arrival_at"),
    failedLogins: integer(row, "failed_logins"),
    problem: row["problem"] === null ? null : parseProblem(json(row, "problem")),
  };
}

function parseProblem(value: unknown): ProblemView {
  if (typeof value === "object" && value !== null && "code" in value && "cause" in value)
    return withCurrentCode(value as ProblemView);
  throw new Problem("store", "The database holds a state that cannot be read", { retry: "never" });
}

function listMailboxes(db: Database, query: MailboxQuery): Page<Row> {
  const where = ["1"];
  const values: string[] = [];
  const addCondition = (condition: string, value: string | undefined) => {
    if (value === undefined) return;
    where.push(condition);
    values.push(value);
  };
  addCondition("s.status = ?", query.status);
  addCondition("m.address = ?", query.address?.toLowerCase());
  addCondition("m.id >= ?", query.prefix);
  addCondition("m.id < ?", endOfPrefix(query.prefix));
  const filter = where.join(" and ");
  const from = "from mailboxes m join states s on s.mailbox = m.id";
  // Each mailbox has one state, so the states alone can be counted, by their index.
  const needsMailboxes = query.address !== undefined || query.prefix !== undefined;
  const total = integer(
    db.get(`select count(*) as n ${needsMailboxes ? from : "from states s"} where ${filter}`, ...values),
    "n",
  );
  const [after = ""] = query.cursor === undefined ? [] : decodePageToken(query.cursor, 1);
  const sql = `${SELECT_WITH_STATE} where ${filter} and m.id > ? order by m.id limit ?`;
  const { rows, next } = paginate(db.all(sql, ...values, after, query.limit + 1), query.limit, (row) => [
    text(row, "mailbox"),
  ]);
  return { items: rows, next, total };
}
