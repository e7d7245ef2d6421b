/** What every store promises about the ledger: each message is worked on by one and done once, each content delivered once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MessageRef } from "../../shared/contract/message.ts";
import type { Store } from "../../shared/store/store.ts";
import { cursorOf, deliveryOf, printOf, refOf } from "./samples.ts";
import { type NewStore, type Pass, withStore } from "./stores.ts";

const LONG = 60_000;
const fresh = { kind: "new", sharesContent: false };
const duplicate = { kind: "duplicate", sharesContent: false };

/** Claims, identifies and delivers. */
async function deliver(store: Store, ref: MessageRef, print: string, id: string): Promise<void> {
  await store.ledger.claim("a", [ref], LONG);
  await store.ledger.identify("a", ref, print, LONG);
  await store.deliveries.save(deliveryOf(id, { ref }));
}

export function ledgerPromises(make: NewStore, pass: Pass): void {
  test("of many who claim a message at the same time, one gets it", () =>
    withStore(make, async ({ ledger }) => {
      const claims = await Promise.all(Array.from({ length: 50 }, () => ledger.claim("a", [refOf(1)], LONG)));
      assert.equal(claims.filter(([claim]) => claim === "yours").length, 1);
      assert.equal(claims.filter(([claim]) => claim === "busy").length, 49);
      assert.deepEqual(await ledger.claim("b", [refOf(1)], LONG), ["yours"], "another mailbox has its own ledger");
    }));

  test("a claim that expired can be taken over, a released one at once", () =>
    withStore(make, async ({ ledger }) => {
      await ledger.claim("a", [refOf(1)], 5);
      await ledger.claim("a", [refOf(2)], LONG);
      await pass(20);
      assert.deepEqual(await ledger.claim("a", [refOf(1), refOf(2)], LONG), ["yours", "busy"]);
      await ledger.release("a", [refOf(1), refOf(2)]);
      assert.deepEqual(await ledger.claim("a", [refOf(1), refOf(2)], LONG), ["yours", "yours"]);
    }));

  test("a claim that is kept does not expire, one that was given back is not taken by keeping it", () =>
    withStore(make, async ({ ledger }) => {
      await ledger.claim("a", [refOf(1), refOf(2)], 1_000.5);
      await ledger.release("a", [refOf(2)]);
      await ledger.renew("a", [refOf(1), refOf(2), refOf(3)], LONG);
      await pass(1_100);
      assert.deepEqual(await ledger.claim("a", [refOf(1), refOf(2), refOf(3)], LONG), ["busy", "yours", "yours"]);
    }));

  test("a release never undoes what is done", () =>
    withStore(make, async ({ ledger, deliveries }) => {
      await ledger.claim("a", [refOf(1), refOf(2)], LONG);
      await deliveries.save(deliveryOf("d", { ref: refOf(1) }));
      await ledger.markDone("a", [refOf(2)]);
      await ledger.release("a", [refOf(1), refOf(2)]);
      assert.deepEqual(await ledger.claim("a", [refOf(1), refOf(2)], LONG), ["done", "done"]);
    }));

  test("done stays done when the cursor passes it", () =>
    withStore(make, async ({ cursors, ledger }) => {
      const fence = await cursors.issueFence("a");
      await ledger.claim("a", [refOf(1), refOf(5)], LONG);
      await ledger.markDone("a", [refOf(1), refOf(5)]);
      await cursors.advance("a", cursorOf(3), [refOf(1)], fence);
      assert.deepEqual(await ledger.claim("a", [refOf(1), refOf(5)], LONG), ["done", "done"]);
      await cursors.advance("a", cursorOf(6), [refOf(5)], fence);
      assert.deepEqual(await ledger.claim("a", [refOf(5)], LONG), ["done"]);
    }));

  test("the content of a delivered message is a duplicate in another folder, another epoch and at its own place", () =>
    withStore(make, async (store) => {
      await deliver(store, refOf(1), printOf(1), "d");
      for (const ref of [refOf(1), refOf(8, { folder: "Done" }), refOf(2, { epoch: "2" })]) {
        assert.deepEqual(await store.ledger.identify("a", ref, printOf(1), LONG), duplicate);
      }
      assert.deepEqual(await store.ledger.identify("b", refOf(1), printOf(1), LONG), fresh);
    }));

  test("a message may be known by two contents: both are delivered with it, and free again when it is given back", () =>
    withStore(make, async (store) => {
      const [ref, elsewhere] = [refOf(1), refOf(9, { epoch: "other" })];
      for (const outcome of ["released", "delivered"]) {
        await store.ledger.claim("a", [ref], LONG);
        for (const print of [printOf(1), printOf(2)])
          assert.deepEqual(await store.ledger.identify("a", ref, print, LONG), fresh);
        if (outcome === "released") await store.ledger.release("a", [ref]);
        else await store.deliveries.save(deliveryOf("d", { ref }));
      }
      for (const print of [printOf(1), printOf(2)])
        assert.deepEqual(await store.ledger.identify("a", elsewhere, print, LONG), duplicate);
    }));

  test("content that waits in the spool counts as delivered", () =>
    withStore(make, async ({ ledger, deliveries }) => {
      await ledger.claim("a", [refOf(1)], LONG);
      await ledger.identify("a", refOf(1), printOf(1), LONG);
      await deliveries.save(deliveryOf("d", { state: "retrying" }), Buffer.from("raw"));
      assert.deepEqual(await ledger.identify("a", refOf(4, { folder: "Done" }), printOf(1), LONG), duplicate);
    }));

  test("content that is being delivered from another place is busy, until that claim expires", () =>
    withStore(make, async ({ ledger }) => {
      const moved = refOf(7, { folder: "Done" });
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), 30), fresh);
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), 30), fresh, "its own place may ask again");
      assert.deepEqual(await ledger.identify("a", moved, printOf(1), LONG), { kind: "busy", sharesContent: false });
      await pass(60);
      assert.deepEqual(await ledger.identify("a", moved, printOf(1), LONG), fresh);
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), LONG), { kind: "busy", sharesContent: false });
    }));

  test("a message that was moved before it could be fetched does not block its copy", () =>
    withStore(make, async ({ ledger }) => {
      const moved = refOf(7, { folder: "Done" });
      for (const give of [ledger.markDone, ledger.release]) {
        await ledger.claim("a", [refOf(1)], LONG);
        await ledger.identify("a", refOf(1), printOf(1), LONG);
        await give("a", [refOf(1)]);
        assert.deepEqual(await ledger.identify("a", moved, printOf(1), LONG), fresh);
        await ledger.release("a", [moved]);
      }
    }));

  test("settling a duplicate keeps the memory of what was delivered", () =>
    withStore(make, async (store) => {
      await deliver(store, refOf(1), printOf(1), "d");
      const moved = refOf(7, { folder: "Done" });
      await store.ledger.claim("a", [moved], LONG);
      await store.ledger.identify("a", moved, printOf(1), LONG);
      await store.ledger.markDone("a", [moved]);
      assert.deepEqual(await store.ledger.identify("a", refOf(9, { folder: "More" }), printOf(1), LONG), duplicate);
    }));

  test("a message that may have had another number before is no twin of it", () =>
    withStore(make, async (store) => {
      await deliver(store, refOf(1), printOf(1), "d");
      const again = { ...refOf(2), perhapsKnown: true } as const;
      await store.ledger.claim("a", [again], LONG);
      assert.deepEqual(await store.ledger.identify("a", again, printOf(1), LONG), duplicate);
      await store.ledger.markDone("a", [again]);
      const other = { ...refOf(3), perhapsKnown: true } as const;
      await store.ledger.claim("a", [other], LONG);
      assert.deepEqual(await store.ledger.identify("a", other, printOf(2), LONG), fresh);
      await store.ledger.claim("a", [refOf(4)], LONG);
      assert.deepEqual(await store.ledger.identify("a", refOf(4), printOf(2), LONG), {
        kind: "new",
        sharesContent: true,
      });
    }));

  test("a message that is delivered after the one that it perhaps is has no twin in it, but later messages have", () =>
    withStore(make, async (store) => {
      const { ledger } = store;
      const renamed = { ...refOf(4), perhapsKnown: true } as const;
      await ledger.claim("a", [refOf(1), renamed], LONG);
      assert.deepEqual(await ledger.identify("a", renamed, printOf(1), LONG), fresh);
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), LONG), { kind: "busy", sharesContent: false });
      assert.deepEqual(await ledger.identify("a", renamed, printOf(1), LONG), fresh, "its own place may ask again");
      await ledger.release("a", [renamed]);
      await deliver(store, renamed, printOf(1), "d");
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), LONG), duplicate);
      assert.deepEqual(await ledger.identify("a", refOf(5), printOf(1), LONG), { kind: "new", sharesContent: true });
    }));

  test("two messages of one folder with equal content are twins: each is delivered once", () =>
    withStore(make, async (store) => {
      const { ledger } = store;
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), LONG), fresh);
      assert.deepEqual(await ledger.identify("a", refOf(2), printOf(1), LONG), { kind: "new", sharesContent: true });
      assert.deepEqual(await ledger.identify("a", refOf(3), printOf(1), LONG), { kind: "new", sharesContent: true });
      await ledger.release("a", [refOf(1), refOf(2), refOf(3)]);
      await deliver(store, refOf(1), printOf(1), "d1");
      await deliver(store, refOf(2), printOf(1), "d2");
      assert.deepEqual(await ledger.identify("a", refOf(1), printOf(1), LONG), duplicate);
      assert.deepEqual(await ledger.identify("a", refOf(2), printOf(1), LONG), {
        kind: "duplicate",
        sharesContent: true,
      });
      assert.deepEqual(await ledger.identify("a", refOf(3), printOf(1), LONG), { kind: "new", sharesContent: true });
      for (const uid of [11, 12]) {
        assert.deepEqual(await ledger.identify("a", refOf(uid, { epoch: "2" }), printOf(1), LONG), duplicate);
      }
    }));

  test("content is forgotten after the window, but not while it is being delivered", () =>
    withStore(
      make,
      async (store) => {
        await deliver(store, refOf(1), printOf(1), "d");
        await store.ledger.identify("a", refOf(2), printOf(2), 10 * LONG);
        await store.trim(new Date());
        const copy = refOf(5, { folder: "Done" });
        assert.deepEqual(await store.ledger.identify("a", copy, printOf(1), LONG), duplicate);
        await store.trim(new Date(Date.now() + 25 * 3_600_000));
        assert.deepEqual(await store.ledger.identify("a", copy, printOf(1), LONG), fresh);
        assert.deepEqual(await store.ledger.identify("a", copy, printOf(2), LONG), {
          kind: "busy",
          sharesContent: false,
        });
      },
      { windowDays: 1 },
    ));
}
