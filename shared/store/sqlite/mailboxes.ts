/** Registered mailboxes in SQLite: their secrets sealed, their states in a table of their own. */
import * as v from "valibot";
import { type Mailbox, MailboxStatus, type MailboxState } from "../../contract/mailbox.ts";
import { Problem, type ProblemView } from "../../contract/problem.ts";
import type { Database } from "./database.ts";
import { cut, readMark } from "../page-token.ts";
import { integer, json, readInTurns, type Row, text, textOrNull } from "./row.ts";
import { OWNED } from "./schema.ts";
import { newState, type Mailboxes, type MailboxQuery, type MailboxWithState, type Page } from "../store.ts";
import { mailboxReader, openMailbox, sealMailbox, type Vault } from "../vault.ts";

const WITH_STATE = "select m.doc, s.* from mailboxes m join states s on s.mailbox = m.id";

export function sqliteMailboxes(db: Database, vault: Vault): Mailboxes {
  const read = mailboxReader(vault);
  const opened = (row: Row): MailboxWithState => ({ mailbox: read(text(row, "doc")), state: stateOf(row) });
  return {
    put: async (mailbox, state) => db.durably(() => put(db, vault, mailbox, state)),
    async amend(mailbox) {
      const doc = JSON.stringify(sealMailbox(mailbox, vault));
      const sql = "update mailboxes set doc = ?, key_id = ? where id = ? and revision = ?";
      db.durably(() => db.run(sql, doc, vault.sealsWith, mailbox.id, mailbox.revision));
    },
    async get(id) {
      const row = db.get(`${WITH_STATE} where m.id = ?`, id);
      return row && opened(row);
    },
    async list(query) {
      const page = listed(db, query);
      return { ...page, items: await readInTurns(page.items, opened) };
    },
    remove: async (id) =>
      db.durably(() => {
        forget(db, id);
        db.run("delete from fences where mailbox = ?", id);
        db.run("insert or replace into removed (mailbox, at) values (?, ?)", id, Date.now());
        return db.run("delete from mailboxes where id = ?", id) > 0;
      }),
    async observe(states) {
      db.step(() => {
        for (const { id, revision, state } of states) {
          if (db.get("select 1 from mailboxes where id = ? and revision = ?", id, revision))
            writeState(db, id, state, "update");
        }
      });
    },
    async wanted() {
      const rows = db.all("select id, revision from mailboxes where paused = 0 order by id");
      return rows.map((row) => ({ id: text(row, "id"), revision: integer(row, "revision") }));
    },
  };
}

function put(db: Database, vault: Vault, mailbox: Mailbox, state: MailboxState | undefined): Mailbox {
  const { id } = mailbox;
  const row = db.get("select revision from mailboxes where id = ?", id);
  const revision = row === undefined ? 0 : integer(row, "revision");
  if (revision !== mailbox.revision) {
    const found = row === undefined ? "is not there any more" : `has revision ${revision}`;
    throw new Problem("conflict", `The mailbox ${id} ${found}, not ${mailbox.revision}`, { retry: "never" });
  }
  const saved = { ...mailbox, revision: revision + 1 };
  const doc = JSON.stringify(sealMailbox(saved, vault));
  const address = mailbox.address.toLowerCase();
  db.run(
    "insert or replace into mailboxes (id, revision, paused, address, key_id, doc) values (?, ?, ?, ?, ?, ?)",
    id,
    saved.revision,
    Number(saved.paused),
    address,
    vault.sealsWith,
    doc,
  );
  if (row === undefined) {
    // What a worker wrote after a namesake was removed must not become this mailbox's past.
    forget(db, id);
    db.run("delete from removed where mailbox = ?", id);
    writeState(db, id, state ?? newState(saved), "insert");
  } else if (state) writeState(db, id, state, "update");
  return saved;
}

function forget(db: Database, id: string): void {
  for (const table of OWNED) db.run(`delete from ${table} where mailbox = ?`, id);
}

/** Removes what a worker wrote after its mailbox was removed; an hour later none can be at work any more. */
export function sweepRemoved(db: Database, now: number): void {
  db.step(() => {
    for (const row of db.all("select mailbox from removed")) forget(db, text(row, "mailbox"));
    db.run("delete from removed where at < ?", now - 3_600_000);
  });
}

const STATE = "status, since, node, last_verified_at, last_arrival_at, failed_logins, problem";
const WRITE_STATE = {
  insert: `insert into states (${STATE}, mailbox) values (?, ?, ?, ?, ?, ?, ?, ?)`,
  update: `update states set (${STATE}) = (?, ?, ?, ?, ?, ?, ?) where mailbox = ?`,
};

function writeState(db: Database, id: string, state: MailboxState, how: keyof typeof WRITE_STATE): void {
  const { status, since, node, lastVerifiedAt, lastArrivalAt, failedLogins } = state;
  const problem = state.problem && JSON.stringify(state.problem);
  db.run(WRITE_STATE[how], status, since, node, lastVerifiedAt, lastArrivalAt, failedLogins, problem, id);
}

function stateOf(row: Row): MailboxState {
  return {
    status: v.parse(MailboxStatus, row["status"]),
    since: text(row, "since"),
    node: textOrNull(row, "node"),
    lastVerifiedAt: textOrNull(row, "last_verified_at"),
    lastArrivalAt: textOrNull(row, "last_arrival_at"),
    failedLogins: integer(row, "failed_logins"),
    problem: row["problem"] === null ? null : problemOf(json(row, "problem")),
  };
}

function problemOf(value: unknown): ProblemView {
  if (typeof value === "object" && value !== null && "code" in value && "cause" in value) return value as ProblemView;
  throw new Problem("store", "The database holds a state that cannot be read", { retry: "never" });
}

function listed(db: Database, query: MailboxQuery): Page<Row> {
  const where = ["1"];
  const values: string[] = [];
  const only = (condition: string, value: string | undefined) => {
    if (value === undefined) return;
    where.push(condition);
    values.push(value);
  };
  only("s.status = ?", query.status);
  only("m.address = ?", query.address?.toLowerCase());
  const filter = where.join(" and ");
  const from = "from mailboxes m join states s on s.mailbox = m.id";
  const total = integer(db.get(`select count(*) as n ${from} where ${filter}`, ...values), "n");
  const [after = ""] = query.cursor === undefined ? [] : readMark(query.cursor, 1);
  const sql = `${WITH_STATE} where ${filter} and m.id > ? order by m.id limit ?`;
  const { rows, next } = cut(db.all(sql, ...values, after, query.limit + 1), query.limit, (row) => [
    text(row, "mailbox"),
  ]);
  return { items: rows, next, total };
}

/**
 * Makes sure that every key which sealed something in this database is at hand, then seals everything again with the first
 * key: after one start with a new key in front, the old one can be dropped. Throws `config` naming the key otherwise.
 */
export function checkKeys(db: Database, vault: Vault): void {
  for (const row of db.all("select key_id, sealed from canaries")) {
    vault.open(text(row, "sealed"), `canary|${text(row, "key_id")}`);
  }
  const key = vault.sealsWith;
  if (db.get("select 1 from canaries where key_id = ?", key) && canaries(db) === 1) return;
  db.durably(() => {
    for (const row of db.all("select id, doc from mailboxes where key_id <> ?", key)) {
      const doc = JSON.stringify(sealMailbox(openMailbox(json(row, "doc"), vault), vault));
      db.run("update mailboxes set key_id = ?, doc = ? where id = ?", key, doc, text(row, "id"));
    }
    db.run("delete from canaries");
    db.run("insert into canaries values (?, ?)", key, vault.seal("canary", `canary|${key}`));
  });
}

function canaries(db: Database): number {
  return integer(db.get("select count(*) as n from canaries"), "n");
}
