/** What every outbox promises: one key is one message, one worker at a time, and no change made to anything but the newest state. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { Sending } from "../../shared/contract/sending.ts";
import type { Outbox } from "../../shared/store/store.ts";
import { mailboxOf } from "./samples.ts";
import { type NewStore, type Pass, withStore } from "./stores.ts";

const DAY = 24 * 3_600_000;
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
const raw = Buffer.from("From: a@example.com\r\n\r\nHello\r\n");

export function sendingOf(id: string, more: Partial<Sending> = {}): Sending {
  const at = ago(1000);
  return {
    id,
    mailbox: "a",
    revision: 0,
    key: null,
    contentHash: "hash",
    state: "queued",
    messageId: `<${id}@example.com>`,
    serverMessageId: null,
    from: "a@example.com",
    recipients: [{ address: "b@example.com", state: "queued", response: null }],
    transmitting: [],
    size: raw.length,
    dsn: null,
    notify: false,
    told: false,
    copy: "none",
    attempts: 0,
    reason: null,
    createdAt: at,
    updatedAt: at,
    sendAt: at,
    giveUpAt: ago(-DAY),
    nextAttemptAt: at,
    sentAt: null,
    ...more,
  };
}

async function accepted(outbox: Outbox, sending: Sending, bytes: Uint8Array = raw): Promise<Sending> {
  const answer = await outbox.accept(sending, bytes, 1000);
  assert.ok(answer.kind === "accepted", answer.kind);
  return answer.sending;
}

const conflict = { code: "conflict", retry: "never" };

export function outboxPromises(make: NewStore, pass: Pass): void {
  test("what was taken up comes back as it was, with its bytes", () =>
    withStore(make, async ({ outbox }) => {
      const dsn = { notify: ["success" as const], return: "full" as const };
      const sending = await accepted(outbox, sendingOf("s", { key: "k", dsn }));
      assert.equal(sending.revision, 1);
      assert.deepEqual(await outbox.get("s"), sending);
      assert.equal(Buffer.from((await outbox.getRaw("s")) ?? []).toString(), raw.toString());
      assert.equal(await outbox.get("none"), undefined);
      assert.equal(await outbox.getRaw("none"), undefined);
    }));

  test("twenty requests with one key at once are one message, whatever id each of them brings", () =>
    withStore(make, async ({ outbox }) => {
      const all = await Promise.all(
        Array.from({ length: 20 }, (_, n) => outbox.accept(sendingOf(`s${n}`, { key: "k" }), raw, 1000)),
      );
      assert.equal(all.filter(({ kind }) => kind === "accepted").length, 1);
      assert.equal(all.filter(({ kind }) => kind === "known").length, 19);
      assert.equal(new Set(all.map((one) => (one.kind === "limited" ? "" : one.sending.id))).size, 1);
      assert.equal((await outbox.list({ mailbox: "a", limit: 100 })).total, 1);
    }));

  test("a key that comes again with other content is told apart, and keys belong to one mailbox", () =>
    withStore(make, async ({ outbox }) => {
      await accepted(outbox, sendingOf("s1", { key: "k" }));
      const other = await outbox.accept(sendingOf("s2", { key: "k", contentHash: "other" }), raw, 1000);
      assert.ok(other.kind === "differs" && other.sending.id === "s1");
      assert.equal((await outbox.accept(sendingOf("s3", { key: "k", mailbox: "b" }), raw, 1000)).kind, "accepted");
      assert.equal((await outbox.accept(sendingOf("s4"), raw, 1000)).kind, "accepted");
      assert.equal((await outbox.accept(sendingOf("s5"), raw, 1000)).kind, "accepted");
    }));

  test("past its share of the hour a mailbox is told when there is room again, and a known key still gets its answer", () =>
    withStore(make, async ({ outbox }) => {
      const first = sendingOf("s0", { key: "k" });
      assert.equal((await outbox.accept(first, raw, 3)).kind, "accepted");
      for (const id of ["s1", "s2"]) assert.equal((await outbox.accept(sendingOf(id), raw, 3)).kind, "accepted");
      const limited = await outbox.accept(sendingOf("s3"), raw, 3);
      assert.ok(limited.kind === "limited");
      const wait = limited.until.getTime() - Date.now();
      assert.ok(wait > 3_500_000 && wait <= 3_600_000, `${wait}`);
      assert.equal(await outbox.get("s3"), undefined);
      assert.equal((await outbox.accept(first, raw, 3)).kind, "known");
      assert.equal((await outbox.accept(sendingOf("other", { mailbox: "b" }), raw, 3)).kind, "accepted");
    }));

  test("a sending is taken by one at a time, once it is due, until it is saved or the time is over", () =>
    withStore(make, async ({ outbox }) => {
      const due = await accepted(outbox, sendingOf("due"));
      await accepted(outbox, sendingOf("later", { nextAttemptAt: ago(-60_000) }));
      const over = await accepted(outbox, sendingOf("over"));
      await outbox.save({ ...over, state: "failed", nextAttemptAt: null });
      for (const id of ["later", "over", "none"]) assert.equal(await outbox.claim(id, 1000), undefined, id);
      const takes = await Promise.all(Array.from({ length: 10 }, () => outbox.claim("due", 40)));
      assert.deepEqual(
        takes.filter((one) => one !== undefined),
        [due],
      );
      await pass(80);
      const again = await outbox.claim("due", 60_000);
      assert.ok(again);
      assert.equal(await outbox.claim("due", 60_000), undefined);
      await outbox.save(again);
      assert.ok(await outbox.claim("due", 60_000));
    }));

  test("a change to anything but the newest state is refused, so that whoever lost a sending can no longer mark it", () =>
    withStore(make, async ({ outbox }) => {
      const sending = await accepted(outbox, sendingOf("s"));
      const slow = await outbox.claim("s", 20);
      await pass(60);
      const quick = await outbox.claim("s", 60_000);
      assert.ok(slow && quick);
      const marked = await outbox.save({ ...quick, transmitting: ["b@example.com"] }, 60_000);
      assert.equal(marked.revision, sending.revision + 1);
      await assert.rejects(outbox.save({ ...slow, transmitting: ["b@example.com"] }, 60_000), conflict);
      assert.equal(await outbox.claim("s", 60_000), undefined, "still held after the mark");
      await outbox.save({ ...marked, state: "sent", nextAttemptAt: null });
      await assert.rejects(outbox.save(marked), conflict);
      assert.equal((await outbox.get("s"))?.state, "sent");
    }));

  test("a mark outlives its holder: whoever takes the sending next finds it", () =>
    withStore(make, async ({ outbox }) => {
      await accepted(outbox, sendingOf("s"));
      const taken = await outbox.claim("s", 60_000);
      assert.ok(taken);
      await outbox.save({ ...taken, transmitting: ["b@example.com"] }, 30);
      await pass(80);
      assert.deepEqual((await outbox.claim("s", 60_000))?.transmitting, ["b@example.com"]);
    }));

  test("the bytes go once the message is sent and its copy done, and stay with one that failed or is unknown", () =>
    withStore(make, async ({ outbox }) => {
      let sent = await accepted(outbox, sendingOf("sent", { copy: "wanted" }));
      sent = await outbox.save({ ...sent, state: "sent", nextAttemptAt: null });
      assert.ok(await outbox.getRaw("sent"));
      await outbox.save({ ...sent, copy: "done" });
      assert.equal(await outbox.getRaw("sent"), undefined);
      for (const state of ["failed", "unknown"] as const) {
        await outbox.save({ ...(await accepted(outbox, sendingOf(state))), state, nextAttemptAt: null });
        assert.ok(await outbox.getRaw(state));
      }
    }));

  test("a message that does not fit is refused as a whole, and fits when another one has gone", () =>
    withStore(
      make,
      async ({ outbox }) => {
        const first = await accepted(outbox, sendingOf("first"), randomBytes(60_000));
        const large = sendingOf("large", { key: "k" });
        await assert.rejects(outbox.accept(large, randomBytes(60_000), 1000), { code: "full", retry: "later" });
        assert.equal(await outbox.get("large"), undefined);
        await outbox.save({ ...first, state: "sent", nextAttemptAt: null });
        assert.equal((await outbox.accept(large, randomBytes(60_000), 1000)).kind, "accepted");
      },
      { spoolBytes: 100_000 },
    ));

  test("a sending is found by its Message-ID and by the one its provider gave it, in its own mailbox only", () =>
    withStore(make, async ({ outbox }) => {
      const sending = await accepted(outbox, sendingOf("s"));
      await outbox.save({ ...sending, serverMessageId: "<theirs@example.net>" });
      assert.equal((await outbox.findByMessageId("a", "<s@example.com>"))?.id, "s");
      assert.equal((await outbox.findByMessageId("a", "<theirs@example.net>"))?.id, "s");
      assert.equal(await outbox.findByMessageId("b", "<s@example.com>"), undefined);
      assert.equal(await outbox.findByMessageId("a", "<other@example.com>"), undefined);
    }));

  test("sendings are listed newest first, page by page, each once, by state too", () =>
    withStore(make, async ({ outbox }) => {
      for (let n = 0; n < 25; n++) {
        const sending = await accepted(outbox, sendingOf(`s${n}`, { createdAt: ago(Math.floor(n / 4) * 1000) }));
        if (n % 5 === 0) await outbox.save({ ...sending, state: "failed", nextAttemptAt: null });
      }
      await accepted(outbox, sendingOf("elsewhere", { mailbox: "b" }));
      const seen: Sending[] = [];
      let cursor: string | undefined;
      do {
        const page = await outbox.list({ mailbox: "a", limit: 4, ...(cursor && { cursor }) });
        assert.equal(page.total, 25);
        seen.push(...page.items);
        cursor = page.next ?? undefined;
      } while (cursor !== undefined);
      assert.equal(new Set(seen.map(({ id }) => id)).size, 25);
      assert.deepEqual(
        seen.map(({ createdAt }) => createdAt),
        seen.map(({ createdAt }) => createdAt).toSorted((a, b) => b.localeCompare(a)),
      );
      const failed = await outbox.list({ mailbox: "a", limit: 100, state: "failed" });
      assert.equal(failed.total, 5);
      assert.ok(failed.items.every(({ state }) => state === "failed"));
    }));

  test("overdue sendings are found, those taken or over are not", () =>
    withStore(make, async ({ outbox }) => {
      await accepted(outbox, sendingOf("later", { nextAttemptAt: ago(3000) }));
      await accepted(outbox, sendingOf("first", { nextAttemptAt: ago(9000) }));
      await accepted(outbox, sendingOf("future", { nextAttemptAt: ago(-9000) }));
      await accepted(outbox, sendingOf("taken", { nextAttemptAt: ago(9000) }));
      await outbox.claim("taken", 60_000);
      const over = await accepted(outbox, sendingOf("over", { nextAttemptAt: ago(9000) }));
      await outbox.save({ ...over, state: "sent", nextAttemptAt: null });
      const found = await outbox.listOverdue({ dueBefore: ago(2000), limit: 10 });
      assert.deepEqual(found, [
        { id: "first", mailbox: "a" },
        { id: "later", mailbox: "a" },
      ]);
      assert.equal((await outbox.listOverdue({ dueBefore: ago(2000), limit: 1 })).length, 1);
    }));

  test("what is over is forgotten after the window with its key, what is queued never", () =>
    withStore(
      make,
      async ({ outbox, trim }) => {
        const old = { createdAt: ago(30 * DAY), updatedAt: ago(30 * DAY) };
        await accepted(outbox, sendingOf("queued", old));
        const over = await accepted(outbox, sendingOf("over", { ...old, key: "k" }));
        await outbox.save({ ...over, state: "failed", nextAttemptAt: null });
        await trim(new Date());
        assert.equal(await outbox.get("over"), undefined);
        assert.equal(await outbox.getRaw("over"), undefined);
        assert.ok(await outbox.get("queued"));
        assert.equal((await outbox.accept(sendingOf("again", { key: "k" }), raw, 1000)).kind, "accepted");
      },
      { windowDays: 7 },
    ));

  test("automatic mail is counted by address and direction", () =>
    withStore(make, async ({ outbox }) => {
      await outbox.recordAutomatic("a", "Robot@example.com", "heard");
      await outbox.recordAutomatic("a", "robot@example.com", "sent");
      await outbox.recordAutomatic("a", "robot@example.com", "sent");
      assert.deepEqual(await outbox.getAutomaticTraffic("a", "robot@EXAMPLE.com"), { heard: 1, sent: 2 });
      assert.deepEqual(await outbox.getAutomaticTraffic("b", "robot@example.com"), { heard: 0, sent: 0 });
    }));

  test("a removed mailbox leaves no sending behind for its namesake", () =>
    withStore(make, async ({ outbox, mailboxes }) => {
      await mailboxes.put(mailboxOf("a"));
      await accepted(outbox, sendingOf("s", { key: "k" }));
      assert.equal(await mailboxes.remove("a"), true);
      assert.equal(await outbox.get("s"), undefined);
      await mailboxes.put(mailboxOf("a"));
      assert.equal((await outbox.list({ mailbox: "a", limit: 10 })).total, 0);
      assert.equal((await outbox.accept(sendingOf("s2", { key: "k" }), raw, 1000)).kind, "accepted");
      assert.deepEqual(await outbox.listOverdue({ dueBefore: ago(5), limit: 10 }), [{ id: "s2", mailbox: "a" }]);
    }));
}
