/** What every store promises about mailboxes and their facts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import type { ProblemView } from "../../shared/contract/problem.ts";
import type { Fact } from "../../shared/telemetry/events.ts";
import { cursorOf, deliveryOf, mailboxOf, printOf, refOf } from "./samples.ts";
import { type NewStore, withStore } from "./stores.ts";

const listening: MailboxState = {
  status: "listening",
  since: "2026-01-01T00:00:00.000Z",
  node: "n1",
  lastVerifiedAt: "2026-01-01T00:00:01.000Z",
  lastArrivalAt: null,
  failedLogins: 2,
  problem: { code: "auth", cause: "no", fix: "yes", evidence: null, retryAt: null },
};

function changed(mailbox: string, revision: number): Fact {
  return { at: "2026-01-01T00:00:00.000Z", kind: "mailbox.changed", mailbox, revision };
}

const gone = (stored: Mailbox) => ({ ...stored, endpointGone: true });

export function mailboxPromises(make: NewStore): void {
  test("a mailbox comes back as it was put, with its secrets and a grown revision", () =>
    withStore(make, async ({ mailboxes }) => {
      const put = await mailboxes.put(mailboxOf("a"));
      assert.equal(put.revision, 1);
      const found = await mailboxes.get("a");
      assert.deepEqual({ ...found?.mailbox }, { ...put });
      const auth = found?.mailbox.receive.auth;
      assert.equal(auth && "password" in auth && auth.password.reveal(), "password-of-a");
      assert.equal(found?.mailbox.deliver.secret?.reveal(), "whsec_of-a");
      assert.equal(found?.state.status, "initializing");
      assert.equal(await mailboxes.get("b"), undefined);
    }));

  test("a mailbox that somebody else changed, made or removed meanwhile is not overwritten", () =>
    withStore(make, async ({ mailboxes }) => {
      const conflict = { code: "conflict" };
      const first = await mailboxes.put(mailboxOf("a"));
      await assert.rejects(mailboxes.put(mailboxOf("a")), conflict);
      const second = await mailboxes.put({ ...first, name: "Help" });
      assert.equal(second.revision, 2);
      await assert.rejects(mailboxes.put({ ...first, name: "Desk" }), conflict);
      assert.equal((await mailboxes.get("a"))?.mailbox.name, "Help");
      await mailboxes.remove("a");
      await assert.rejects(mailboxes.put(second), conflict);
    }));

  test("the state is what was last observed, and stays when the mailbox is replaced", () =>
    withStore(make, async ({ mailboxes }) => {
      const put = await mailboxes.put(mailboxOf("a"));
      await mailboxes.saveStates([{ id: "a", revision: 1, state: listening }]);
      await mailboxes.put(put);
      assert.deepEqual((await mailboxes.get("a"))?.state, listening);
      await mailboxes.saveStates([{ id: "gone", revision: 1, state: listening }]);
      assert.equal(await mailboxes.get("gone"), undefined);
    }));

  test("what was observed of an older revision changes nothing: a pause or new credentials set the state back for good", () =>
    withStore(make, async ({ mailboxes }) => {
      const first = await mailboxes.put(mailboxOf("a"));
      await mailboxes.put(mailboxOf("b"));
      const refused = { ...listening, status: "needs_attention" as const, failedLogins: 3 };
      await mailboxes.saveStates([{ id: "a", revision: 1, state: refused }]);
      const afresh = { ...listening, status: "paused" as const, failedLogins: 0 };
      await mailboxes.put({ ...first, paused: true }, afresh);
      assert.deepEqual((await mailboxes.get("a"))?.state, afresh, "set back with the change itself");
      assert.equal((await mailboxes.list({ limit: 10, status: "needs_attention" })).total, 0);
      const late = [
        { id: "a", revision: 1, state: refused },
        { id: "b", revision: 1, state: listening },
      ];
      await mailboxes.saveStates(late);
      assert.deepEqual((await mailboxes.get("a"))?.state, afresh);
      assert.deepEqual((await mailboxes.get("b"))?.state, listening, "one that is late keeps no other back");
      await mailboxes.saveStates([{ id: "a", revision: 2, state: refused }]);
      assert.deepEqual((await mailboxes.get("a"))?.state, refused);
    }));

  test("an amended mailbox keeps its revision, and one that was changed meanwhile is not amended", () =>
    withStore(make, async ({ mailboxes }) => {
      const put = await mailboxes.put(mailboxOf("a"));
      assert.equal(await mailboxes.amend(put, gone), true);
      assert.deepEqual((await mailboxes.get("a"))?.mailbox, gone(put));
      const changedMeanwhile = await mailboxes.put({ ...put, endpointGone: false });
      assert.equal(await mailboxes.amend(put, gone), false);
      assert.equal(await mailboxes.amend(mailboxOf("b"), gone), false);
      assert.deepEqual((await mailboxes.get("a"))?.mailbox, changedMeanwhile);
      assert.equal(await mailboxes.get("b"), undefined);
    }));

  test("amendments made at the same time are all kept, whatever was known of the mailbox", () =>
    withStore(make, async ({ mailboxes }) => {
      const put = await mailboxes.put(mailboxOf("a"));
      const later = await mailboxes.put({ ...put, name: "later" });
      await Promise.all([
        mailboxes.amend(later, (stored) => ({ ...stored, endpointGone: true })),
        mailboxes.amend(later, (stored) => ({ ...stored, told: "available" })),
        mailboxes.amend({ id: "a" }, (stored) => ({ ...stored, paused: true })),
      ]);
      const expected = { ...later, endpointGone: true, told: "available", paused: true };
      assert.deepEqual((await mailboxes.get("a"))?.mailbox, expected);
    }));

  test("every mailbox that is not paused is wanted", () =>
    withStore(make, async ({ mailboxes }) => {
      await mailboxes.put(mailboxOf("b"));
      await mailboxes.put(mailboxOf("a", { paused: true }));
      const c = await mailboxes.put(mailboxOf("c"));
      await mailboxes.put(c);
      assert.deepEqual(await mailboxes.listEnabled(), [
        { id: "b", revision: 1 },
        { id: "c", revision: 2 },
      ]);
    }));

  test("who follows the enabled mailboxes reads all of them once, and then each change", () =>
    withStore(make, async ({ mailboxes }) => {
      const a = await mailboxes.put(mailboxOf("a"));
      const b = await mailboxes.put(mailboxOf("b"));
      const follower = mailboxes.followEnabled();
      const next = async (options?: { whole: boolean }) => {
        const found = await follower.next(options);
        return { ...found, mailboxes: found.mailboxes.toSorted((one, other) => (one.id < other.id ? -1 : 1)) };
      };
      const both = [
        { id: "a", revision: 1 },
        { id: "b", revision: 1 },
      ];
      assert.deepEqual(await next(), { whole: true, mailboxes: both });
      assert.deepEqual(await next(), { whole: false, mailboxes: [] });
      await mailboxes.put(mailboxOf("c"));
      assert.deepEqual(await next(), { whole: false, mailboxes: [{ id: "c", revision: 1 }] });
      await mailboxes.put({ ...a, paused: true });
      await mailboxes.put(await mailboxes.put(b));
      await mailboxes.remove("c");
      const changes = [
        { id: "a", revision: 0 },
        { id: "b", revision: 3 },
        { id: "c", revision: 0 },
      ];
      assert.deepEqual(await next(), { whole: false, mailboxes: changes });
      assert.deepEqual(await next({ whole: true }), { whole: true, mailboxes: [{ id: "b", revision: 3 }] });
      assert.deepEqual(await next(), { whole: false, mailboxes: [] });
    }));

  test("pages over 1,000 mailboxes show each once in the order of ids, also while some are added and removed", () =>
    withStore(make, async ({ mailboxes }) => {
      const ids = Array.from({ length: 1000 }, (_, n) => `m${String(n).padStart(4, "0")}`);
      for (const id of ids) await mailboxes.put(mailboxOf(id));
      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await mailboxes.list({ limit: 77, ...(cursor && { cursor }) });
        assert.equal(page.total, 1000);
        seen.push(...page.items.map(({ mailbox }) => mailbox.id));
        cursor = page.next ?? undefined;
        // What lies before the page mark changes nothing; the removed one and the new one keep the total.
        if (seen.length === 77) await mailboxes.remove("m0010");
        if (seen.length === 77) await mailboxes.put(mailboxOf("m0000a"));
      } while (cursor !== undefined);
      assert.deepEqual(seen, ids);
      await assert.rejects(mailboxes.list({ limit: 1, cursor: "not a mark" }), { code: "invalid" });
    }));

  test("a last page that is full has no next", () =>
    withStore(make, async ({ mailboxes }) => {
      for (const id of ["a", "b"]) await mailboxes.put(mailboxOf(id));
      assert.equal((await mailboxes.list({ limit: 2 })).next, null);
      assert.deepEqual(await mailboxes.list({ limit: 2, address: "nobody@example.com" }), {
        items: [],
        next: null,
        total: 0,
      });
    }));

  test("mailboxes are found by status and by address in any case", () =>
    withStore(make, async ({ mailboxes }) => {
      await mailboxes.put(mailboxOf("a", { address: "Help@Example.com" }));
      await mailboxes.put(mailboxOf("b"));
      await mailboxes.saveStates([{ id: "b", revision: 1, state: listening }]);
      const idsOf = (page: Awaited<ReturnType<typeof mailboxes.list>>) => page.items.map(({ mailbox }) => mailbox.id);
      const byAddress = await mailboxes.list({ limit: 10, address: "hELP@example.com" });
      assert.deepEqual(idsOf(byAddress), ["a"]);
      assert.equal(byAddress.items[0]?.mailbox.address, "Help@Example.com");
      assert.deepEqual(idsOf(await mailboxes.list({ limit: 10, status: "listening" })), ["b"]);
      assert.equal((await mailboxes.list({ limit: 10, status: "listening" })).total, 1);
    }));

  test("the states of mailboxes are listed page by page, of all or of a prefix", () =>
    withStore(make, async ({ mailboxes }) => {
      for (const id of ["a-1", "b-1", "b-2"]) await mailboxes.put(mailboxOf(id));
      await mailboxes.saveStates([{ id: "b-1", revision: 1, state: listening }]);
      const first = await mailboxes.listStates({ limit: 2 });
      assert.deepEqual(first.items[1], { id: "b-1", state: listening });
      const second = await mailboxes.listStates({ limit: 2, cursor: first.next ?? "" });
      assert.deepEqual([second.items.map(({ id }) => id), second.next], [["b-2"], null]);
      const own = await mailboxes.listStates({ limit: 2, prefix: "b-" });
      assert.deepEqual([own.items.map(({ id }) => id), own.next], [["b-1", "b-2"], null]);
    }));

  test("a removed mailbox leaves nothing behind for a namesake", () =>
    withStore(make, async (store) => {
      await store.mailboxes.put(mailboxOf("a"));
      await store.mailboxes.saveStates([{ id: "a", revision: 1, state: listening }]);
      const fence = await store.cursors.issueFence("a");
      await store.cursors.advance("a", cursorOf(5), [refOf(5)], fence);
      await store.ledger.claim("a", [refOf(6)], 60_000);
      await store.ledger.identify("a", refOf(6), printOf(6), 60_000);
      await store.deliveries.save(deliveryOf("d", { state: "parked", ref: refOf(6) }), Buffer.from("raw"));
      await store.facts.append([{ at: "2026-01-01T00:00:00.000Z", kind: "mailbox.removed", mailbox: "a" }]);
      assert.equal(await store.mailboxes.remove("a"), true);
      assert.equal(await store.mailboxes.remove("a"), false);
      // A worker that was still at it.
      await store.deliveries.save(deliveryOf("late", { ref: refOf(7) }));
      await store.mailboxes.put(mailboxOf("a"));
      assert.equal((await store.mailboxes.get("a"))?.state.status, "initializing");
      assert.deepEqual(await store.cursors.read("a"), []);
      assert.deepEqual(await store.ledger.claim("a", [refOf(5), refOf(6), refOf(7)], 1), ["yours", "yours", "yours"]);
      assert.deepEqual(await store.ledger.identify("a", refOf(6), printOf(6), 1), {
        kind: "new",
        sharesContent: false,
      });
      assert.equal((await store.deliveries.list({ limit: 10 })).total, 0);
      assert.deepEqual(await store.deliveries.getCounts(), { retrying: 0, parked: 0, delivered: 0, spoolBytes: 0 });
      assert.deepEqual(await store.facts.recent("a", 10), []);
      await assert.rejects(store.cursors.advance("a", cursorOf(9), [], fence), { code: "conflict" });
    }));

  test("what a worker writes after a mailbox was removed is swept", () =>
    withStore(make, async ({ mailboxes, deliveries, trim }) => {
      await mailboxes.put(mailboxOf("a"));
      await mailboxes.remove("a");
      await deliveries.save(deliveryOf("late", { state: "parked" }), Buffer.from("raw"));
      await trim(new Date());
      assert.equal(await deliveries.get("late"), undefined);
      assert.equal((await deliveries.getCounts()).spoolBytes, 0);
    }));

  test("the last 200 facts of each mailbox are kept, newest first", () =>
    withStore(make, async ({ facts }) => {
      await facts.append([changed("b", 1), { at: "2026-01-01T00:00:00.000Z", kind: "service.stopping", because: "x" }]);
      await facts.append(Array.from({ length: 150 }, (_, n) => changed("a", n)));
      await facts.append(Array.from({ length: 150 }, (_, n) => changed("a", 150 + n)));
      const recent = await facts.recent("a", 1000);
      assert.equal(recent.length, 200);
      assert.deepEqual(recent[0], changed("a", 299));
      assert.deepEqual(recent[199], changed("a", 100));
      assert.deepEqual(await facts.recent("a", 1), [changed("a", 299)]);
      assert.deepEqual(await facts.recent("b", 10), [changed("b", 1)]);
    }));

  test("facts and states that 0.1 stored are read under the names of today", () =>
    withStore(make, async ({ facts, mailboxes }) => {
      const about = { at: "2026-01-01T00:00:00.000Z", mailbox: "a" };
      const run = { ms: 9, missed: 1, finished: true };
      const failure = { code: "deaf", cause: "silence" };
      const stored: object[] = [
        { ...about, kind: "mail.unfetched", folder: "INBOX", uid: 7, failure },
        { ...about, kind: "mail.tidied", folder: "INBOX", count: 2 },
        { ...about, kind: "send.uncopied", sending: "s", failure },
        { ...about, kind: "send.untold", sending: "s", event: "sent", reason: "500", retryAt: null },
        { ...about, kind: "send.answered", sending: "s", from: "b@example.com" },
        { ...about, kind: "mailbox.overran", ...run, locked: true },
        { ...about, kind: "endpoint.told", endpoint: "https://crm", what: "token", status: 200 },
        { ...about, kind: "task.failed", task: "tidy", attempt: 1, failure, retryAt: null },
        { ...about, kind: "task.failed", task: "deliver", attempt: 1, failure, retryAt: null },
      ];
      await facts.append(stored as Fact[]);
      const stale = { ...failure, code: "connection_stale" };
      assert.deepEqual((await facts.recent("a", 100)).toReversed(), [
        { ...stored[0], kind: "mail.download_failed", failure: stale },
        { ...stored[1], kind: "mail.after_delivery_done" },
        { ...stored[2], kind: "send.copy_failed", failure: stale },
        { ...stored[3], kind: "send.notify_failed" },
        { ...stored[4], kind: "send.auto_replied" },
        { ...about, kind: "mailbox.poll_overran", ...run, processLock: true },
        { ...stored[6], kind: "endpoint.notified" },
        { ...stored[7], task: "afterDelivery", failure: stale },
        { ...stored[8], failure: stale },
      ]);
      await mailboxes.put(mailboxOf("a"));
      const problem = { ...failure, fix: "", evidence: null, retryAt: null } as unknown as ProblemView;
      await mailboxes.saveStates([{ id: "a", revision: 1, state: { ...listening, problem } }]);
      assert.equal((await mailboxes.get("a"))?.state.problem?.code, "connection_stale");
    }));

  test("a ping is answered, and refused after the store was closed", async () => {
    const store = await make();
    await store.ping();
    await store.close();
    await assert.rejects(store.ping(), { code: "store" });
  });
}
