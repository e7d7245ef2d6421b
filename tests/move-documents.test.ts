/** The documents of a store that moves into Redis, and back: pauses, bulk actions, alarms and records are the same there. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { EMPTY_BOOK, recordLook } from "../api/alarms/book.ts";
import { readBook } from "../api/alarms/watch.ts";
import { addJob, listJobs, updateJob } from "../api/bulk/book.ts";
import { moveDocuments, type Progress } from "../api/cli/move-documents.ts";
import { appendRecord, beginRecord, endRecord, listRecords, readRecord } from "../shared/record/stored.ts";
import { addPause, listPauses, removePause } from "../shared/store/endpoint-pauses.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import type { Store } from "../shared/store/store.ts";
import { vault } from "../shared/store/vault.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";

let redis: Redis | undefined;
before(async () => {
  redis = (await provide("redis"))?.server;
});
after(() => redis?.remove());

const keys = vault([{ id: "test", key: generateEncryptionKey() }]);
const bounds = { vault: keys, windowDays: 7, spoolBytes: 1_000_000 };
const openSqlite = () => sqliteStore({ path: ":memory:", ...bounds });
let prefixes = 0;
const openRedis = ({ url }: Redis) => redisStore({ url, prefix: `moved-${process.pid}-${++prefixes}`, ...bounds });

/** What earlier runs moved, as `move` keeps it in Redis. */
function progressIn(known = new Set<string>()): Progress {
  return { has: async (what) => known.has(what), add: async (what) => void known.add(what) };
}

const actor = { id: "tok_1", name: "one", scopes: ["read", "manage"] as const, mailboxPrefix: "" };
const asActor = (id: string) => ({ ...actor, id, scopes: [...actor.scopes] });
const trouble = {
  code: "auth",
  place: "mail.example.com",
  count: 3,
  cause: "Refused",
  fix: "Correct it.",
  certain: true,
};
const patience = { lastsMs: 60_000, goneMs: 90_000 };
/** With one alarm, which the webhook has not been told yet. */
const book = recordLook(EMPTY_BOOK, [trouble], {
  now: Date.parse("2026-12-01T00:00:00Z"),
  patience,
  channels: ["webhook"],
});

async function fill(store: Store): Promise<void> {
  const at = "2026-11-30T12:00:00.000Z";
  await addPause(store, { url: "https://one.example.com/", mailboxPrefix: "", at, by: "one" });
  await addPause(store, { url: "https://two.example.com/mail", mailboxPrefix: "shop-", at, by: "two" });
  const done = await addJob(store, { action: "pause", filter: {} }, asActor("tok_1"));
  await updateJob(store, done.id, () => ({ state: "done", done: 3, endedAt: at }));
  const running = await addJob(store, { action: "resync", since: at, filter: {} }, asActor("tok_2"));
  await updateJob(store, running.id, () => ({ total: 10, done: 4, after: "box-3", node: "alone" }));
  await store.documents.write("alarms", { revision: 0, text: JSON.stringify(book) });
  await store.documents.write("of a later version", { revision: 0, text: '{"one":"\u{1f600}"}' });
  for (const mailbox of ["box-1", "box-2", "box-3"]) {
    await beginRecord(store, mailbox);
    await appendRecord(store, mailbox, `what ${mailbox} said\n`);
  }
  await endRecord(store, "box-2");
}

/** All documents, without revisions. */
async function contentsOf(store: Store) {
  const names = (await store.documents.listNames()).toSorted();
  const texts = await Promise.all(names.map(async (name) => (await store.documents.read(name))?.text));
  return Object.fromEntries(names.map((name, n) => [name, JSON.parse(texts[n] ?? "null")]));
}

const NOTHING = {
  endpointPauses: 0,
  protocolRecords: 0,
  bulkActions: 0,
  alarms: 0,
  otherDocuments: 0,
  documentsLeftAlone: 0,
};
const ALL = { ...NOTHING, endpointPauses: 2, protocolRecords: 3, bulkActions: 2, alarms: 1, otherDocuments: 1 };

describe("the documents of a store", () => {
  test("are the same in Redis, and the same again in SQLite", async (t) => {
    if (!redis) return t.skip("no redis");
    const [first, second, third] = [await openSqlite(), await openRedis(redis), await openSqlite()];
    try {
      await fill(first);
      assert.deepEqual(await moveDocuments(first, second, progressIn()), ALL);
      assert.deepEqual(await contentsOf(second), await contentsOf(first));
      assert.deepEqual(await moveDocuments(second, third, progressIn()), ALL);
      assert.deepEqual(await contentsOf(third), await contentsOf(first));
      assert.equal(Object.keys(await contentsOf(third)).length, 8);
      // Each part reads its own there, and goes on with it.
      assert.equal((await listPauses(third)).length, 2);
      assert.deepEqual((await readBook({ store: third })).book, book);
      assert.equal(book.notices.length, 1);
      const [running] = (await listJobs(third)).filter(({ state }) => state === "running");
      assert.deepEqual([running?.after, running?.done, running?.total], ["box-3", 4, 10]);
      assert.equal((await readRecord(third, "box-1"))?.text, "what box-1 said\n");
      assert.deepEqual(await listRecords(third), await listRecords(first));
    } finally {
      for (const store of [first, second, third]) await store.close();
    }
  });

  test("what somebody ended or changed in the meantime stays so, and what is there already is not touched", async (t) => {
    if (!redis) return t.skip("no redis");
    const [from, to] = [await openSqlite(), await openRedis(redis)];
    try {
      await fill(from);
      const own = { url: "https://own.example.com/", mailboxPrefix: "", at: "2026-12-01T00:00:00.000Z", by: "here" };
      await addPause(to, own);
      await beginRecord(to, "box-1");
      await appendRecord(to, "box-1", "here\n");
      await addJob(to, { action: "test", filter: {} }, asActor("tok_3"));
      const progress = progressIn();
      const moved = await moveDocuments(from, to, progress);
      assert.deepEqual(moved, { ...ALL, protocolRecords: 2, bulkActions: 0, documentsLeftAlone: 1 });
      assert.equal((await listPauses(to)).length, 3);
      assert.equal((await readRecord(to, "box-1"))?.text, "here\n");
      assert.equal((await listJobs(to)).length, 1);
      assert.ok(await removePause(to, { url: "https://one.example.com/", mailboxPrefix: "" }));
      await endRecord(to, "box-3");
      const untouched = await contentsOf(to);
      assert.deepEqual(await moveDocuments(from, to, progress), NOTHING);
      assert.deepEqual(await contentsOf(to), untouched);
    } finally {
      for (const store of [from, to]) await store.close();
    }
  });

  test("are moved by a second run that the first one left out when it was interrupted", async (t) => {
    if (!redis) return t.skip("no redis");
    const [from, to] = [await openSqlite(), await openRedis(redis)];
    try {
      await fill(from);
      for (const stopAt of ["endpoints", "record box-2", "bulk", "of a later version"]) {
        const known = new Set<string>();
        const interrupted: Progress = {
          ...progressIn(known),
          async add(what) {
            // The process ends after the work and before it is written down.
            if (what === stopAt) throw new Error("killed");
            known.add(what);
          },
        };
        await assert.rejects(moveDocuments(from, to, interrupted), /killed/);
      }
      await moveDocuments(from, to, progressIn());
      assert.deepEqual(await contentsOf(to), await contentsOf(from));
    } finally {
      for (const store of [from, to]) await store.close();
    }
  });
});
