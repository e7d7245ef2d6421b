/** What every store promises about slots: never more than the bound, free again when left or when nobody keeps them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { eventually } from "../servers/waiting.ts";
import { type NewStore, type Pass, withStore } from "./stores.ts";

const LONG = 60_000;

export function slotPromises(make: NewStore, pass: Pass): void {
  test("of many who want a connection to a mailbox as many get a seat as there are", () =>
    withStore(make, async ({ connectionSlots: slots }) => {
      const taken = await Promise.all(Array.from({ length: 10 }, () => slots.acquire("a", 3, LONG)));
      const got = taken.filter((slot) => slot !== undefined);
      assert.equal(new Set(got).size, 3);
      assert.equal(got.length, 3);
      assert.ok(await slots.acquire("b", 3, LONG), "each mailbox has its own");
      await slots.release("a", got[0] ?? "");
      assert.ok(await slots.acquire("a", 3, LONG), "one that was left is free");
      assert.equal(await slots.acquire("a", 3, LONG), undefined);
      assert.deepEqual([await slots.count("a"), await slots.count("b"), await slots.count("c")], [3, 1, 0]);
    }));

  test("a seat that nobody keeps is free again", () =>
    withStore(make, async ({ connectionSlots: slots }) => {
      const [kept = "", dropped = ""] = [await slots.acquire("a", 2, 300), await slots.acquire("a", 2, 300)];
      await slots.renew([{ mailbox: "a", slot: kept }], LONG);
      await pass(400);
      assert.equal(await slots.count("a"), 1);
      const next = await slots.acquire("a", 2, LONG);
      assert.ok(next && next !== dropped);
      assert.equal(await slots.acquire("a", 2, LONG), undefined);
    }));

  test("a wish for a seat is heard until one stops listening", () =>
    withStore(make, async ({ connectionSlots: slots }) => {
      const heard: string[] = [];
      const unlisten = slots.onSlotRequest((mailbox) => heard.push(mailbox));
      await slots.requestSlot("a");
      await eventually(() => heard.length === 1, "the wish");
      unlisten();
      const heardByOthers: string[] = [];
      const unlistenOther = slots.onSlotRequest((mailbox) => heardByOthers.push(mailbox));
      await slots.requestSlot("b");
      await eventually(() => heardByOthers.includes("b"), "the other listener's wish");
      unlistenOther();
      assert.deepEqual(heard, ["a"]);
    }));
}
