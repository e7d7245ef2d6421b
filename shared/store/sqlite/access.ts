/** Tokens of the API, links for consent and the audit in SQLite. */
import type { Database } from "./database.ts";
import { entryIds, expiryTimes, MAX_ENTRIES, MAX_TOKENS, parseEntry, tooManyTokens } from "../access-rules.ts";
import { openToken, openTokens, resealTokens, sealToken, type StoredToken, type Tokens } from "../sealed-tokens.ts";
import { type Consents, forgetAt, openConsent, sealConsent, toConsentConflict } from "../sealed-consents.ts";
import { decodePageToken, paginate } from "../page-token.ts";
import { integer, type Row, text, textOrNull } from "./row.ts";
import type { Audit, AuditQuery } from "../store.ts";
import type { Vault } from "../vault.ts";

export function sqliteTokens(db: Database, vault: Vault): Tokens {
  return {
    async add(token) {
      const { id, createdAt, expiresAt } = token;
      db.transactDurably(() => {
        if (integer(db.get("select count(*) as n from tokens"), "n") >= MAX_TOKENS) throw tooManyTokens();
        const sql = "insert into tokens (id, created_at, expires_at, doc) values (?, ?, ?, ?)";
        const expires = expiresAt === null ? null : Date.parse(expiresAt);
        db.run(sql, id, Date.parse(createdAt), expires, sealToken(token, vault));
      });
    },
    async get(id) {
      const row = db.get("select id, doc, last_used_at from tokens where id = ?", id);
      return row && openToken(toStored(row), vault);
    },
    list: async () => openTokens(listStored(db), vault),
    remove: async (id) => db.transactDurably(() => db.run("delete from tokens where id = ?", id) > 0),
    async recordUse(id, at) {
      db.transact(() => db.run("update tokens set last_used_at = ? where id = ?", at, id));
    },
  };
}

function listStored(db: Database): StoredToken[] {
  return db.all("select id, doc, last_used_at from tokens order by created_at, id").map(toStored);
}

function toStored(row: Row): StoredToken {
  return { id: text(row, "id"), sealed: text(row, "doc"), lastUsedAt: textOrNull(row, "last_used_at") };
}

/** Encrypts with the first key what another one encrypted. */
export function resealStoredTokens(db: Database, vault: Vault) {
  const sql = "update tokens set doc = ? where id = ? and doc = ?";
  return resealTokens(listStored(db), vault, (old, sealed) =>
    db.transact(() => db.run(sql, sealed, old.id, old.sealed) > 0),
  );
}

export function sqliteConsents(db: Database, vault: Vault): Consents {
  return {
    put: async (consent) =>
      db.transactDurably(() => {
        const { id, revision } = consent;
        const row = db.get("select revision from consents where id = ?", id);
        if ((row === undefined ? 0 : integer(row, "revision")) !== revision) throw toConsentConflict();
        const next = { ...consent, revision: revision + 1 };
        const sql = "insert or replace into consents (id, revision, forget_at, doc) values (?, ?, ?, ?)";
        db.run(sql, id, next.revision, forgetAt(consent), sealConsent(next, vault));
        return next;
      }),
    async get(id) {
      const row = db.get("select doc from consents where id = ?", id);
      return row && openConsent({ id, sealed: text(row, "doc") }, vault);
    },
  };
}

export function sqliteAudit(db: Database): Audit {
  return {
    nextId: entryIds(),
    async put(entry) {
      const { id, at, actor, mailbox } = entry;
      await db.transactGrouped(() => {
        const sql = `insert into audit (id, at, actor, mailbox, doc) values (?, ?, ?, ?, ?)
          on conflict do update set mailbox = excluded.mailbox, doc = excluded.doc`;
        db.run(sql, id, Date.parse(at), actor.id, mailbox, JSON.stringify(entry));
        const surplus = "select id from audit where actor = ? order by at desc, id desc limit -1 offset ?";
        db.run(`delete from audit where id in (${surplus})`, actor.id, MAX_ENTRIES);
      });
    },
    async remove({ id }) {
      await db.transactGrouped(() => db.run("delete from audit where id = ?", id));
    },
    list: async (query) => listEntries(db, query),
  };
}

function listEntries(db: Database, { limit, cursor, mailbox, actor }: AuditQuery) {
  const where = mailbox !== undefined ? "mailbox = ?" : actor !== undefined ? "actor = ?" : "? is null";
  const value = mailbox ?? actor ?? null;
  const total = integer(db.get(`select count(*) as n from audit where ${where}`, value), "n");
  const [at = String(Number.MAX_SAFE_INTEGER), id = ""] = cursor === undefined ? [] : decodePageToken(cursor, 2);
  const sql = `select id, at, doc from audit where ${where} and (at, id) < (?, ?) order by at desc, id desc limit ?`;
  const found = db.all(sql, value, Number(at), id, limit + 1);
  const { rows, next } = paginate(found, limit, (row) => [String(integer(row, "at")), text(row, "id")]);
  return { items: rows.map((row) => parseEntry(text(row, "doc"))), next, total };
}

/** Deletes old audit entries, and tokens and links that expired long ago. */
export function trimAccess(db: Database, now: Date): void {
  const before = expiryTimes(now);
  db.transact(() => {
    db.run("delete from audit where at < ?", before.entries);
    db.run("delete from tokens where expires_at < ?", before.tokens);
    db.run("delete from consents where forget_at < ?", now.getTime());
  });
}
