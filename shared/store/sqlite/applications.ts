/** Registered applications in SQLite, with sealed secrets. */
import { type Application, versionOf } from "../../contract/application.ts";
import {
  type Applications,
  checkRoomForApplication,
  openApplication,
  resealApplications,
  sealApplication,
  type StoredApplication,
  toApplicationConflict,
} from "../sealed-applications.ts";
import type { Vault } from "../vault.ts";
import type { Database } from "./database.ts";
import { integer, type Row, text } from "./row.ts";

export function sqliteApplications(db: Database, vault: Vault): Applications {
  return {
    put: async (application) => db.transactDurably(() => put(db, application, vault)),
    async get(id) {
      const row = db.get("select doc from applications where id = ?", id);
      return row && openApplication(text(row, "doc"), vault);
    },
    list: async () => listStored(db).map(({ doc }) => openApplication(doc, vault)),
    async listVersions() {
      const rows = db.all("select id, revision, json_extract(doc, '$.updatedAt') as updated_at from applications");
      return new Map(rows.map((row) => [text(row, "id"), toVersion(row)]));
    },
    remove: async (id) => db.transactDurably(() => db.run("delete from applications where id = ?", id) > 0),
    async countMailboxes(id) {
      const names = NAMES.map((path) => `json_extract(doc, '$.${path}')`).join(", ");
      return integer(db.get(`select count(*) as n from mailboxes where ? in (${names})`, id), "n");
    },
  };
}

/** Where a mailbox names an application. */
const NAMES = ["receive.auth.application", "receive.auth.oauth2.application", "send.auth.oauth2.application"];

function toVersion(row: Row): string {
  return versionOf({ revision: integer(row, "revision"), updatedAt: text(row, "updated_at") });
}

function put(db: Database, application: Application, vault: Vault): Application {
  const { id } = application;
  const row = db.get("select revision from applications where id = ?", id);
  const stored = row === undefined ? 0 : integer(row, "revision");
  if (stored !== application.revision) throw toApplicationConflict(id);
  if (!row) checkRoomForApplication(integer(db.get("select count(*) as n from applications"), "n"));
  const next = { ...application, revision: stored + 1 };
  const sql = "insert or replace into applications (id, revision, doc) values (?, ?, ?)";
  db.run(sql, id, next.revision, sealApplication(next, vault));
  return next;
}

function listStored(db: Database): StoredApplication[] {
  const rows = db.all("select id, doc from applications order by id");
  return rows.map((row) => ({ id: text(row, "id"), doc: text(row, "doc") }));
}

/** Seals with the first key what another one sealed. */
export function resealStoredApplications(db: Database, vault: Vault) {
  const sql = "update applications set doc = ? where id = ? and doc = ?";
  return resealApplications(listStored(db), vault, (old, doc) =>
    db.transact(() => db.run(sql, doc, old.id, old.doc) > 0),
  );
}
