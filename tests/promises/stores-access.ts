/** What every store promises about tokens of the API, the audit, and lists of the mailboxes with one prefix. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { test } from "node:test";
import type { AuditEntry, Token } from "../../shared/contract/token.ts";
import type { Consent } from "../../shared/store/sealed-consents.ts";
import type { Page } from "../../shared/store/store.ts";
import { deliveryOf, mailboxOf } from "./samples.ts";
import { eventually } from "../servers/waiting.ts";
import { type NewStore, withStore } from "./stores.ts";

const DAY = 24 * 3_600_000;
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();

function tokenOf(id: string, more: Partial<Token> = {}): Token {
  return {
    id,
    name: `token ${id}`,
    scopes: ["read", "send"],
    mailboxPrefix: "acme-",
    hash: "00".repeat(32),
    createdAt: ago(0),
    createdBy: "API_TOKENS#1",
    expiresAt: null,
    lastUsedAt: null,
    ...more,
  };
}

function entryOf(more: Partial<AuditEntry> = {}): AuditEntry {
  return {
    id: randomUUID(),
    at: ago(0),
    actor: { id: "t1", name: "one" },
    method: "PATCH",
    route: "/api/v1/mailboxes/{id}",
    target: "a",
    mailbox: "a",
    changed: ["receive.host"],
    status: 200,
    ...more,
  };
}

/** All items of a list, read page by page. */
async function readAll<T>(list: (cursor: { cursor?: string }) => Promise<Page<T>>): Promise<T[]> {
  const items: T[] = [];
  for (let cursor: string | undefined; ;) {
    const page = await list(cursor === undefined ? {} : { cursor });
    items.push(...page.items);
    if (page.next === null) {
      assert.equal(items.length, page.total);
      return items;
    }
    cursor = page.next;
  }
}

function consentOf(id: string, more: Partial<Consent> = {}): Consent {
  return {
    id,
    application: "google",
    mailbox: "a",
    address: "help@example.com",
    settings: { deliver: { url: "https://crm.example.com/mail", secret: "hush" } },
    permissions: ["Mail.Read"],
    returnUrl: null,
    actor: { id: "t1", name: "one" },
    expiresAt: ago(-60_000),
    attempt: null,
    usedAt: null,
    revision: 0,
    ...more,
  };
}

export function accessPromises(make: NewStore): void {
  test("a document is written by the one who read it last, and by nobody else", () =>
    withStore(make, async ({ documents }) => {
      assert.equal(await documents.read("alarms"), undefined);
      const writes = ["one", "two", "three"].map((text) => documents.write("alarms", { revision: 0, text }));
      assert.equal((await Promise.all(writes)).filter(Boolean).length, 1);
      const stored = await documents.read("alarms");
      assert.equal(stored?.revision, 1);
      assert.ok(await documents.write("alarms", { revision: 1, text: "a b\nc \u{1f600}" }));
      assert.equal(await documents.write("alarms", { revision: 1, text: "late" }), false);
      assert.deepEqual(await documents.read("alarms"), { revision: 2, text: "a b\nc \u{1f600}" });
      assert.equal(await documents.read("other"), undefined);
      await documents.remove("alarms");
      await documents.remove("other");
      assert.equal(await documents.read("alarms"), undefined);
      assert.deepEqual(await documents.listNames(), []);
      assert.ok(await documents.write("alarms", { revision: 0, text: "anew" }));
      assert.ok(await documents.write("record m\u{1f600}", { revision: 0, text: "one" }));
      assert.deepEqual((await documents.listNames()).toSorted(), ["alarms", "record m\u{1f600}"]);
    }));

  test("a link for consent changes once for each revision, and is forgotten a day after it expired", () =>
    withStore(make, async ({ consents, trim }) => {
      const [first, old] = [consentOf("x"), consentOf("old", { expiresAt: ago(2 * DAY) })];
      assert.equal(await consents.get("x"), undefined);
      assert.deepEqual(await consents.put(first), { ...first, revision: 1 });
      await assert.rejects(consents.put(first), { code: "conflict" });
      const attempt = { link: "l", browser: "b", state: "s", verifier: "v", nonce: "n" };
      const puts = ["1", "2", "3"].map((nonce) =>
        consents.put({ ...first, attempt: { ...attempt, nonce }, revision: 1 }),
      );
      const done = (await Promise.allSettled(puts)).flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
      assert.equal(done.length, 1);
      assert.deepEqual(await consents.get("x"), done[0]);
      await consents.put(old);
      await trim(new Date());
      await eventually(async () => (await consents.get("old")) === undefined, "the old link to be forgotten");
      assert.equal((await consents.get("x"))?.revision, 2);
    }));

  test("a token is there until it is removed, and remembers its last use", () =>
    withStore(make, async ({ tokens }) => {
      const [older, newer] = [tokenOf("x", { createdAt: ago(1_000) }), tokenOf("b", { expiresAt: ago(-DAY) })];
      await tokens.add(newer);
      await tokens.add(older);
      assert.deepEqual(await tokens.list(), { tokens: [older, newer], unreadable: [] });
      assert.deepEqual(await tokens.get("x"), older);
      const at = ago(0);
      await tokens.recordUse("x", at);
      await tokens.recordUse("none", at);
      assert.deepEqual(await tokens.get("x"), { ...older, lastUsedAt: at });
      assert.deepEqual([await tokens.remove("x"), await tokens.remove("x")], [true, false]);
      assert.equal(await tokens.get("x"), undefined);
      await tokens.recordUse("x", at);
      await tokens.add(older);
      assert.deepEqual(await tokens.list(), { tokens: [older, newer], unreadable: [] });
    }));

  test("there are at most 1,000 tokens, and those that expired long ago go away", () =>
    withStore(make, async ({ tokens, trim }) => {
      for (let n = 0; n < 1_000; n++)
        await tokens.add(tokenOf(`t${n}`, { expiresAt: n === 7 ? ago(31 * DAY) : ago(DAY) }));
      await assert.rejects(tokens.add(tokenOf("one more")), { code: "conflict" });
      await trim(new Date());
      assert.equal((await tokens.list()).tokens.length, 999);
      assert.equal(await tokens.get("t7"), undefined);
      await tokens.add(tokenOf("one more"));
    }));

  test("the audit lists newest first, by mailbox and by actor, and outlives a mailbox", () =>
    withStore(make, async ({ audit, mailboxes }) => {
      const other = { id: "t2", name: "two" };
      const entries = Array.from({ length: 25 }, (_, n) =>
        entryOf({
          at: ago(100_000 - n * 1_000),
          mailbox: n % 5 === 0 ? null : n % 2 === 0 ? "a" : "b",
          ...(n % 3 === 0 && { actor: other }),
        }),
      );
      await mailboxes.put(mailboxOf("a"));
      for (const entry of entries) await audit.put(entry);
      await mailboxes.remove("a");
      const newest = entries.toReversed();
      const read = (query: { mailbox?: string; actor?: string }) =>
        readAll((cursor) => audit.list({ limit: 4, ...query, ...cursor }));
      assert.deepEqual(await read({}), newest);
      assert.deepEqual(
        await read({ mailbox: "a" }),
        newest.filter(({ mailbox }) => mailbox === "a"),
      );
      assert.deepEqual(
        await read({ actor: "t2" }),
        newest.filter(({ actor }) => actor.id === "t2"),
      );
      assert.deepEqual(await read({ actor: "nobody" }), []);
    }));

  test("the audit keeps the order of entries of one millisecond, also on pages", () =>
    withStore(make, async ({ audit }) => {
      const at = ago(1_000);
      const entries = Array.from({ length: 300 }, () => entryOf({ id: audit.nextId(), at, mailbox: "a" }));
      // They are written and completed in another order than they began.
      await Promise.all(entries.toReversed().map((entry) => audit.put(entry)));
      await audit.put(entries[7]!);
      const newest = entries.toReversed();
      for (const query of [{}, { mailbox: "a" }, { actor: "t1" }])
        assert.deepEqual(await readAll((cursor) => audit.list({ limit: 7, ...query, ...cursor })), newest);
    }));

  test("an entry of the audit is completed later, or removed", () =>
    withStore(make, async ({ audit }) => {
      const begun = entryOf({ mailbox: null, status: null });
      const dropped = entryOf();
      for (const entry of [begun, dropped]) await audit.put(entry);
      const done = { ...begun, mailbox: "new", changed: ["address"], status: 201 };
      await audit.put(done);
      await audit.remove(dropped);
      assert.deepEqual((await audit.list({ limit: 10 })).items, [done]);
      assert.deepEqual((await audit.list({ limit: 10, mailbox: "new" })).items, [done]);
      assert.equal((await audit.list({ limit: 10, mailbox: "a" })).total, 0);
    }));

  test("no actor can push out the entries of another, and old entries go away", () =>
    withStore(make, async ({ audit, trim }) => {
      const quiet = entryOf({ actor: { id: "quiet", name: "quiet" }, at: ago(50 * DAY) });
      await audit.put(quiet);
      const old = entryOf({ actor: { id: "quiet", name: "quiet" }, at: ago(91 * DAY), mailbox: "old" });
      await audit.put(old);
      const busy = Array.from({ length: 2_010 }, (_, n) => entryOf({ at: ago(3_000_000 - n * 1_000), mailbox: "m" }));
      for (let n = 0; n < busy.length; n += 200) await Promise.all(busy.slice(n, n + 200).map((one) => audit.put(one)));
      assert.equal((await audit.list({ limit: 1, actor: "t1" })).total, 2_000);
      assert.equal((await audit.list({ limit: 1, mailbox: "m" })).total, 2_000);
      assert.equal((await audit.list({ limit: 1 })).total, 2_002);
      await trim(new Date());
      assert.deepEqual((await audit.list({ limit: 10, actor: "quiet" })).items, [quiet]);
      assert.equal((await audit.list({ limit: 10, mailbox: "old" })).total, 0);
    }));

  test("mailboxes and deliveries are listed by the prefix of the mailbox, page by page, with their number", () =>
    withStore(make, async ({ mailboxes, deliveries }) => {
      const own = ["acme-", "acme-.x", "acme-0", "acme-Z", "acme-_", "acme-a", "acme-zz"];
      const foreign = ["acme", "acmd-z", "acme.1", "acme0", "ACME-a", "acmf-a", "z"];
      for (const id of [...own, ...foreign])
        await mailboxes.put(mailboxOf(id, { paused: ["acme-a", "z"].includes(id), address: "one@example.com" }));
      const list = (query: object) =>
        readAll((cursor) => mailboxes.list({ limit: 2, prefix: "acme-", ...query, ...cursor }));
      const ids = async (query: object) => (await list(query)).map(({ mailbox }) => mailbox.id);
      assert.deepEqual(await ids({}), own);
      assert.deepEqual(await ids({ status: "paused" }), ["acme-a"]);
      assert.deepEqual(await ids({ address: "one@example.com" }), own);
      assert.equal((await ids({ prefix: "" })).length, own.length + foreign.length);
      assert.deepEqual(await ids({ prefix: "none-" }), []);
      for (const [n, id] of [...own, ...foreign].entries())
        for (const state of ["parked", "retrying", "delivered"] as const)
          await deliveries.save(deliveryOf(`${state}-${id}`, { mailbox: id, state, createdAt: ago(n * 60_000) }));
      const listed = async (query: object) =>
        (await readAll((cursor) => deliveries.list({ limit: 2, prefix: "acme-", ...query, ...cursor }))).map(
          (one) => one.id,
        );
      assert.deepEqual(
        await listed({ state: "parked" }),
        own.map((id) => `parked-${id}`),
      );
      assert.equal((await listed({})).length, 3 * own.length);
      assert.deepEqual(await listed({ state: "parked", since: ago(90_000) }), ["parked-acme-", "parked-acme-.x"]);
      assert.deepEqual(await listed({ mailbox: "acme-a", state: "parked" }), ["parked-acme-a"]);
      assert.deepEqual(await listed({ mailbox: "z" }), []);
      assert.deepEqual(await listed({ prefix: "none-" }), []);
    }));
}
