/** What every store promises about cursors and fences. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RESYNC_EPOCH } from "../../shared/contract/message.ts";
import { cursorOf, deliveryOf, refOf } from "./samples.ts";
import { type NewStore, withStore } from "./stores.ts";

export function cursorPromises(make: NewStore): void {
  test("only the newest fence moves a cursor", () =>
    withStore(make, async ({ cursors }) => {
      const old = await cursors.issueFence("a");
      const other = await cursors.issueFence("b");
      const newest = await cursors.issueFence("a");
      assert.ok(newest > old);
      await assert.rejects(cursors.advance("a", cursorOf(9), [refOf(9)], old), { code: "conflict", retry: "never" });
      assert.deepEqual(await cursors.read("a"), []);
      await cursors.advance("a", cursorOf(5), [], newest);
      await cursors.advance("b", cursorOf(6), [], other);
      assert.deepEqual(await cursors.read("a"), [cursorOf(5)]);
    }));

  test("a refused advance takes no message into care", () =>
    withStore(make, async ({ cursors, ledger }) => {
      const fence = await cursors.issueFence("a");
      await cursors.advance("a", cursorOf(9), [], fence);
      await cursors.issueFence("a");
      await assert.rejects(cursors.advance("a", cursorOf(10), [refOf(10)], fence));
      assert.deepEqual(await ledger.claim("a", [refOf(9), refOf(10)], 1000), ["done", "yours"]);
    }));

  test("every folder has its own cursor, and none moves backwards within an epoch", () =>
    withStore(make, async ({ cursors }) => {
      const fence = await cursors.issueFence("a");
      const sent = cursorOf(3, { folder: "Sent" });
      await cursors.advance("a", cursorOf(5, { state: "7", newest: "2026-01-05T00:00:00.000Z" }), [], fence);
      await cursors.advance("a", sent, [], fence);
      await cursors.advance("a", cursorOf(4, { state: "8", newest: "2026-01-04T00:00:00.000Z" }), [], fence);
      const expected = cursorOf(5, { state: "8", newest: "2026-01-05T00:00:00.000Z" });
      assert.deepEqual(await cursors.read("a"), [expected, sent]);
    }));

  test("a changed epoch replaces the cursor, also by a smaller uid, and frees what was held of the old epoch", () =>
    withStore(make, async ({ cursors, ledger }) => {
      const fence = await cursors.issueFence("a");
      await cursors.advance("a", cursorOf(50), [refOf(50)], fence);
      const renumbered = cursorOf(2, { epoch: "2", newest: "2025-01-01T00:00:00.000Z" });
      const messages = [refOf(1, { epoch: "2" }), refOf(2, { epoch: "2" })];
      await cursors.advance("a", renumbered, messages, fence);
      assert.deepEqual(await cursors.read("a"), [renumbered]);
      assert.deepEqual(await ledger.claim("a", messages, 1000), ["yours", "yours"]);
      assert.deepEqual(await ledger.claim("a", [refOf(3, { epoch: "2" })], 1000), ["yours"]);
    }));

  test("messages handed over are free until somebody claims them, those left out below the cursor are done", () =>
    withStore(make, async ({ cursors, ledger }) => {
      const fence = await cursors.issueFence("a");
      await cursors.advance("a", cursorOf(10), [refOf(8), refOf(10)], fence);
      const claims = await ledger.claim("a", [refOf(8), refOf(9), refOf(10)], 60_000);
      assert.deepEqual(claims, ["yours", "done", "yours"]);
    }));

  test("an advance leaves alone what a quicker worker has claimed or done", () =>
    withStore(make, async ({ cursors, ledger, deliveries }) => {
      const fence = await cursors.issueFence("a");
      const [one, two, three] = [refOf(1), refOf(2), refOf(3)];
      await ledger.claim("a", [one, two, three], 60_000);
      await deliveries.save(deliveryOf("d1", { ref: one }));
      await ledger.markDone("a", [two]);
      await cursors.advance("a", cursorOf(3), [one, two, three], fence);
      assert.deepEqual(await ledger.claim("a", [one, two, three], 60_000), ["done", "done", "busy"]);
      await ledger.release("a", [three]);
      assert.deepEqual(await ledger.claim("a", [three], 60_000), ["yours"]);
    }));

  test("handing the same messages over again does not reopen what is done", () =>
    withStore(make, async ({ cursors, ledger }) => {
      const fence = await cursors.issueFence("a");
      await cursors.advance("a", cursorOf(1), [refOf(1)], fence);
      await ledger.claim("a", [refOf(1)], 60_000);
      await ledger.markDone("a", [refOf(1)]);
      await cursors.advance("a", cursorOf(1), [refOf(1)], fence);
      assert.deepEqual(await ledger.claim("a", [refOf(1)], 60_000), ["done"]);
    }));

  test("a resync makes messages free whatever became of them, but not those somebody works on", () =>
    withStore(make, async ({ cursors, ledger, deliveries }) => {
      const fence = await cursors.issueFence("a");
      await cursors.advance("a", cursorOf(3), [refOf(2), refOf(3)], fence);
      await ledger.claim("a", [refOf(2), refOf(3)], 60_000);
      await deliveries.save(deliveryOf("d", { ref: refOf(2) }));
      const all = [refOf(1), refOf(2), refOf(3), refOf(4)];
      await cursors.reopen("a", all);
      assert.deepEqual(await ledger.claim("a", all, 60_000), ["yours", "yours", "busy", "yours"]);
    }));

  test("what is looked up again without its number is held while it is worked on, and forgotten", () =>
    withStore(make, async ({ cursors, ledger, deliveries }) => {
      const fence = await cursors.issueFence("a");
      const all = [refOf(7, { epoch: RESYNC_EPOCH }), refOf(281474976710656, { epoch: RESYNC_EPOCH })];
      await cursors.advance("a", cursorOf(3), [], fence);
      assert.deepEqual(await ledger.claim("a", all, 60_000), ["done", "done"], "nobody asked for it");
      await cursors.reopen("a", all);
      await cursors.advance("a", cursorOf(3, { epoch: "2" }), [], fence);
      assert.deepEqual(await ledger.claim("a", all, 60_000), ["yours", "yours"], "a new epoch leaves it alone");
      await deliveries.save(deliveryOf("d", { ref: refOf(7, { epoch: RESYNC_EPOCH }) }));
      await ledger.markDone("a", all.slice(1));
      assert.deepEqual(await ledger.claim("a", all, 60_000), ["done", "done"]);
      await cursors.reopen("a", all);
      assert.deepEqual(await ledger.claim("a", all, 60_000), ["yours", "yours"]);
    }));
}
