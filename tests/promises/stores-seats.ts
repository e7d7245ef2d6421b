/** What every store promises about seats: never more than the bound, free again when left or when nobody keeps them. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { eventually } from "../servers/waiting.ts";
import { type NewStore, withStore } from "./stores.ts";

const LONG = 60_000;

export function seatPromises(make: NewStore): void {
  test("of many who want a connection to a mailbox as many get a seat as there are", () =>
    withStore(make, async ({ seats }) => {
      const taken = await Promise.all(Array.from({ length: 10 }, () => seats.take("a", 3, LONG)));
      const got = taken.filter((seat) => seat !== undefined);
      assert.equal(new Set(got).size, 3);
      assert.equal(got.length, 3);
      assert.ok(await seats.take("b", 3, LONG), "each mailbox has its own");
      await seats.leave("a", got[0] ?? "");
      assert.ok(await seats.take("a", 3, LONG), "one that was left is free");
      assert.equal(await seats.take("a", 3, LONG), undefined);
    }));

  test("a seat that nobody keeps is free again", () =>
    withStore(make, async ({ seats }) => {
      const [kept = "", dropped = ""] = [await seats.take("a", 2, 300), await seats.take("a", 2, 300)];
      await seats.keep([{ mailbox: "a", seat: kept }], LONG);
      await sleep(400);
      const next = await seats.take("a", 2, LONG);
      assert.ok(next && next !== dropped);
      assert.equal(await seats.take("a", 2, LONG), undefined);
    }));

  test("a wish for a seat is heard until one stops listening", () =>
    withStore(make, async ({ seats }) => {
      const heard: string[] = [];
      const unlisten = seats.onWish((mailbox) => heard.push(mailbox));
      await seats.wish("a");
      await eventually(() => heard.length === 1, "the wish");
      unlisten();
      await seats.wish("b");
      await sleep(100);
      assert.deepEqual(heard, ["a"]);
    }));
}
