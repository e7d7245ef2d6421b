/** What every store promises about deliveries and their spooled bytes. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import type { Delivery } from "../../shared/contract/delivery.ts";
import { wasDeliveredSince } from "../../worker/delivery/withheld.ts";
import { deliveryOf, mailboxOf, printOf, refOf } from "./samples.ts";
import { type NewStore, type Pass, withStore } from "./stores.ts";

const DAY = 24 * 3_600_000;
const ago = (ms: number) => new Date(Date.now() - ms).toISOString();
const idsOf = (deliveries: Delivery[]) => deliveries.map(({ id }) => id);

export function deliveryPromises(make: NewStore, pass: Pass): void {
  test("a delivery comes back as it was saved, and says truly whether its bytes are spooled", () =>
    withStore(make, async ({ deliveries }) => {
      const attempts = [{ at: ago(0), ms: 12, status: 500, problem: "answered 500" }];
      const saved = deliveryOf("d", { state: "retrying", attempts, reason: "answered 500", nextAttemptAt: ago(0) });
      await deliveries.save(saved, Buffer.from("the raw bytes"));
      assert.deepEqual(await deliveries.get("d"), { ...saved, spooled: true });
      assert.equal(Buffer.from((await deliveries.getRaw("d")) ?? []).toString(), "the raw bytes");
      await deliveries.save({ ...saved, reason: "again" });
      assert.equal(Buffer.from((await deliveries.getRaw("d")) ?? []).toString(), "the raw bytes");
      assert.equal(await deliveries.get("none"), undefined);
      assert.equal(await deliveries.getRaw("none"), undefined);
    }));

  test("a content counts as delivered since a message was parked if it was first seen then or later", () =>
    withStore(make, async (store) => {
      const [before, parkedAt, later] = [ago(3 * DAY), ago(2 * DAY), ago(DAY)];
      await store.deliveries.save(deliveryOf("parked", { state: "parked", createdAt: parkedAt }));
      for (const [id, createdAt] of Object.entries({ before, "at once": parkedAt, later }))
        await store.deliveries.save(deliveryOf(id, { createdAt }));
      const wasDelivered = (id: string, parked = "parked") => wasDeliveredSince({ store }, parked, id);
      assert.equal(await wasDelivered("before"), false);
      assert.equal(await wasDelivered("at once"), true);
      assert.equal(await wasDelivered("later"), true);
      assert.equal(await wasDelivered("none"), false);
      assert.equal(await wasDelivered("later", "none"), false);
    }));

  test("a delivered message leaves the spool, a parked one stays in it", () =>
    withStore(make, async ({ deliveries }) => {
      await deliveries.save(deliveryOf("d", { state: "retrying" }), Buffer.from("one"));
      await deliveries.save(deliveryOf("p", { state: "parked" }), Buffer.from("two"));
      await deliveries.save(deliveryOf("d", { state: "delivered", spooled: true }));
      assert.equal(await deliveries.getRaw("d"), undefined);
      assert.equal((await deliveries.get("d"))?.spooled, false);
      assert.equal(Buffer.from((await deliveries.getRaw("p")) ?? []).toString(), "two");
      const { spoolBytes, ...states } = await deliveries.getCounts();
      assert.deepEqual(states, { retrying: 0, parked: 1, delivered: 1 });
      assert.ok(spoolBytes > 0);
      await deliveries.save(deliveryOf("p", { state: "delivered" }));
      assert.equal((await deliveries.getCounts()).spoolBytes, 0);
    }));

  test("any bytes survive the spool, 60 MB of them too", () =>
    withStore(make, async ({ deliveries }) => {
      const big = Buffer.concat([randomBytes(30_000_000), Buffer.alloc(30_000_000, "a line of text\r\n")]);
      await deliveries.save(deliveryOf("big", { state: "parked" }), big);
      await deliveries.save(deliveryOf("empty", { state: "parked" }), new Uint8Array());
      assert.ok(big.equals((await deliveries.getRaw("big")) ?? new Uint8Array()));
      assert.equal((await deliveries.getRaw("empty"))?.byteLength, 0);
    }));

  test("a message that does not fit into the spool is refused as a whole, and stays to be delivered", () =>
    withStore(
      make,
      async ({ deliveries, ledger }) => {
        await deliveries.save(deliveryOf("fits", { state: "parked" }), randomBytes(60_000));
        await ledger.claim("a", [refOf(2)], 60_000);
        await ledger.identify("a", refOf(2), printOf(2), 60_000);
        const large = deliveryOf("large", { state: "retrying", ref: refOf(2) });
        await assert.rejects(deliveries.save(large, randomBytes(60_000)), { code: "full", retry: "later" });
        assert.equal(await deliveries.get("large"), undefined);
        assert.deepEqual(await ledger.claim("a", [refOf(2)], 60_000), ["busy"]);
        await deliveries.save(deliveryOf("fits", { state: "retrying" }), randomBytes(70_000));
        await deliveries.save(deliveryOf("fits", { state: "delivered" }));
        await deliveries.save(large, randomBytes(60_000));
      },
      { spoolBytes: 100_000 },
    ));

  test("deliveries are listed newest first, page by page, each once", () =>
    withStore(make, async ({ deliveries }) => {
      // Several share a time, so that pages must tell them apart by id.
      const all = Array.from({ length: 60 }, (_, n) =>
        deliveryOf(`d${n}`, {
          mailbox: n % 2 ? "a" : "b",
          state: n % 3 ? "delivered" : "parked",
          createdAt: ago(Math.floor(n / 7) * 1000),
        }),
      );
      for (const delivery of all) await deliveries.save(delivery);
      const newestFirst = idsOf(
        all.toSorted((a, b) => b.createdAt.localeCompare(a.createdAt) || (b.id < a.id ? -1 : 1)),
      );
      const seen: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await deliveries.list({ limit: 7, ...(cursor && { cursor }) });
        assert.equal(page.total, 60);
        seen.push(...idsOf(page.items));
        cursor = page.next ?? undefined;
      } while (cursor !== undefined);
      assert.deepEqual(seen, newestFirst);
      const some = await deliveries.list({ limit: 100, state: "parked", mailbox: "a" });
      assert.equal(some.total, 10);
      assert.ok(some.items.every(({ state, mailbox }) => state === "parked" && mailbox === "a"));
      await assert.rejects(deliveries.list({ limit: 1, cursor: "?" }), { code: "invalid" });
    }));

  test("deliveries since a time are those created then or later, in whatever form the time is written", () =>
    withStore(make, async ({ deliveries }) => {
      for (const at of ["2026-01-01T00:00:00.000Z", "2026-01-02T00:00:00.000Z", "2026-01-03T00:00:00.000Z"]) {
        await deliveries.save(deliveryOf(at, { createdAt: at }));
      }
      for (const since of ["2026-01-02T00:00:00Z", "2026-01-02T01:00:00+01:00", "2026-01-02"]) {
        assert.equal((await deliveries.list({ limit: 10, since })).total, 2, since);
      }
      await assert.rejects(deliveries.list({ limit: 10, since: "tomorrow" }), { code: "invalid" });
    }));

  test("deliveries are found by the subject, the sender and the Message-ID of their message", () =>
    withStore(make, async ({ deliveries, mailboxes }) => {
      for (const id of ["a", "b"]) await mailboxes.put(mailboxOf(id));
      const message = {
        subject: 'Счёт № 4711 from Zoë"s «Shop»',
        from: "Ünal <unal@example.net>",
        messageId: "Ab+1@x.example",
      };
      await deliveries.save(deliveryOf("d", { message, mailbox: "a" }));
      const parked = deliveryOf("p", { message: { ...message, subject: "other", messageId: null }, state: "parked" });
      await deliveries.save({ ...parked, mailbox: "b" });
      await deliveries.save(deliveryOf("nothing is known"));
      await deliveries.save(
        deliveryOf("empty", { message: { subject: null, from: "plain@example.net", messageId: null } }),
      );
      const find = async (text: string, more: object = {}) => {
        const { items, next } = await deliveries.list({ limit: 10, text, ...more });
        assert.equal(next, null);
        return idsOf(items).toSorted();
      };
      for (const text of ["СЧЁТ", " 4711 ", 'zoë"S', "«shop", "<Ab+1@x.example>", "Ab+1@x.example"])
        assert.deepEqual(await find(text), ["d"], text);
      for (const text of ["ünal", "UNAL@example.net", "<unal@example.net>"])
        assert.deepEqual(await find(text), ["d", "p"], text);
      for (const text of ["plain@", "<Plain@example.net>"]) assert.deepEqual(await find(text), ["empty"], text);
      // A Message-ID is whole and exact. Characters that mean something in patterns or in JSON mean nothing here.
      for (const text of ["+1@x.example", "ab+1@x.example", "%", "_", "\\", "subject", "null", "messageId"])
        assert.deepEqual(await find(text), [], text);
      assert.deepEqual(await find("ünal", { state: "parked" }), ["p"]);
      assert.deepEqual(await find("ünal", { mailbox: "a" }), ["d"]);
      assert.deepEqual(await find("ünal", { prefix: "b" }), ["p"]);
      assert.deepEqual((await deliveries.get("d"))?.message, message);
      await deliveries.save(
        deliveryOf("d", { message: { ...message, subject: "changed", messageId: "new@x.example" } }),
      );
      assert.deepEqual([await find("4711"), await find("Ab+1@x.example")], [[], []]);
      assert.deepEqual(await find("new@x.example"), ["d"]);
    }));

  test("a search reads page by page, finds each delivery once, and ends, however rare the text is", () =>
    withStore(make, async ({ deliveries }) => {
      const count = 11_000;
      const rare = [0, 5_500, 10_999];
      const save = (n: number) => {
        const subject = rare.includes(n) ? "a needle" : `hay ${n}`;
        const message = { subject, from: null, messageId: "same@example.com" };
        return deliveries.save(deliveryOf(`d${n}`, { message, mailbox: `m${n % 100}`, createdAt: ago(n * 1000) }));
      };
      for (let n = 0; n < count; n += 500) await Promise.all(Array.from({ length: 500 }, (_, more) => save(n + more)));
      const findAll = async (text: string, limit: number) => {
        const found: string[] = [];
        let [cursor, pages]: [string | undefined, number] = [undefined, 0];
        do {
          const page = await deliveries.list({ limit, text, ...(cursor !== undefined && { cursor }) });
          assert.ok(page.items.length <= limit);
          assert.equal(page.total, count);
          found.push(...idsOf(page.items));
          [cursor, pages] = [page.next ?? undefined, pages + 1];
        } while (cursor !== undefined);
        return { found, pages };
      };
      for (const limit of [1, 2, 10]) {
        const { found, pages } = await findAll("needle", limit);
        assert.deepEqual(
          found,
          rare.map((n) => `d${n}`),
        );
        assert.ok(pages > 1 && pages <= 6, String(pages));
      }
      const { found } = await findAll("<same@example.com>", 1000);
      assert.deepEqual([found.length, new Set(found).size], [count, count]);
      assert.deepEqual((await findAll("no such thing", 10)).found, []);
    }));

  test("a retrying delivery is taken by one at a time, once it is due, until it is saved or the time is over", () =>
    withStore(make, async ({ deliveries }) => {
      const due = deliveryOf("due", { state: "retrying", nextAttemptAt: ago(1000) });
      await deliveries.save(due, Buffer.from("raw"));
      await deliveries.save(deliveryOf("later", { state: "retrying", nextAttemptAt: ago(-60_000) }));
      await deliveries.save(deliveryOf("parked", { state: "parked", nextAttemptAt: ago(1000) }));
      for (const id of ["later", "parked", "none"]) assert.equal(await deliveries.claim(id, 1000), undefined, id);
      const takes = await Promise.all(Array.from({ length: 10 }, () => deliveries.claim("due", 30)));
      assert.deepEqual(
        takes.filter((taken) => taken !== undefined),
        [{ ...due, spooled: true }],
      );
      await pass(60);
      assert.ok(await deliveries.claim("due", 60_000));
      assert.equal(await deliveries.claim("due", 60_000), undefined);
      await deliveries.save(due);
      assert.ok(await deliveries.claim("due", 1_000));
      await deliveries.renew("due", 60_000);
      await pass(1_100);
      assert.equal(await deliveries.claim("due", 60_000), undefined, "it was kept");
      await deliveries.save(due);
      await deliveries.renew("due", 60_000);
      assert.ok(await deliveries.claim("due", 60_000), "what nobody has cannot be kept");
    }));

  test("a delivery may be taken early while it is retrying and nobody has it", () =>
    withStore(make, async ({ deliveries }) => {
      const later = deliveryOf("d", { state: "retrying", nextAttemptAt: ago(-60_000) });
      await deliveries.save(later, Buffer.from("raw"));
      assert.equal(await deliveries.claim("d", 60_000), undefined);
      assert.ok(await deliveries.claim("d", 60_000, true));
      assert.equal(await deliveries.claim("d", 60_000, true), undefined, "somebody has it");
      await deliveries.save({ ...later, state: "delivered", nextAttemptAt: null });
      assert.equal(await deliveries.claim("d", 60_000, true), undefined, "it is delivered");
    }));

  test("retrying deliveries are found by endpoint and by being overdue, oldest first", () =>
    withStore(make, async ({ deliveries }) => {
      const add = (id: string, age: number, due: number, more: Partial<Delivery> = {}) =>
        deliveries.save(deliveryOf(id, { state: "retrying", createdAt: ago(age), nextAttemptAt: ago(due), ...more }));
      await add("young", 1000, 5000);
      await add("old", 9000, -5000);
      await add("middle", 5000, 3000);
      await add("elsewhere", 7000, 5000, { endpoint: "https://other.example" });
      await add("parked", 7000, 5000, { state: "parked" });
      const endpoint = "https://crm.example.com";
      assert.deepEqual(idsOf(await deliveries.listRetrying({ endpoint, limit: 10 })), ["old", "middle", "young"]);
      assert.deepEqual(idsOf(await deliveries.listRetrying({ endpoint, limit: 1 })), ["old"]);
      const dueBefore = ago(2000);
      assert.deepEqual(idsOf(await deliveries.listRetrying({ dueBefore, limit: 9 })), ["elsewhere", "middle", "young"]);
      await deliveries.claim("middle", 60_000);
      assert.deepEqual(idsOf(await deliveries.listRetrying({ dueBefore, endpoint, limit: 9 })), ["young"]);
    }));

  test("delivered records are forgotten after the window, retrying and parked ones never", () =>
    withStore(
      make,
      async ({ deliveries, trim }) => {
        const old = { createdAt: ago(30 * DAY), updatedAt: ago(30 * DAY) };
        await deliveries.save(deliveryOf("parked", { ...old, state: "parked" }), Buffer.from("raw"));
        await deliveries.save(deliveryOf("retrying", { ...old, state: "retrying" }), Buffer.from("raw"));
        for (let n = 0; n < 1100; n++) await deliveries.save(deliveryOf(`d${n}`, old));
        await deliveries.save(deliveryOf("long on its way", { ...old, updatedAt: ago(0) }));
        await trim(new Date());
        assert.deepEqual(idsOf((await deliveries.list({ limit: 10 })).items).toSorted(), [
          "long on its way",
          "parked",
          "retrying",
        ]);
        const { spoolBytes, ...states } = await deliveries.getCounts();
        assert.deepEqual(states, { retrying: 1, parked: 1, delivered: 1 });
        assert.ok(spoolBytes > 0);
      },
      { windowDays: 7 },
    ));
}
