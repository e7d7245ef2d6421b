/** Bytes cached for the next task: never more than there is room for, and none that no task will ask for. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { messageWindow } from "../shared/store/message-window.ts";

const bytes = (length: number) => new Uint8Array(length);

test("what comes when it is full is not kept, until there is room again", () => {
  const fresh = messageWindow(10);
  for (const id of ["a", "b"]) fresh.put(id, bytes(6));
  assert.equal(fresh.get("a")?.length, 6);
  assert.equal(fresh.get("b"), undefined);
  fresh.drop("a");
  fresh.put("b", bytes(6));
  assert.equal(fresh.get("b")?.length, 6);
});

test("what nobody came for gives way to what is new", () => {
  let now = 0;
  const fresh = messageWindow(10, () => now);
  fresh.put("forgotten", bytes(4));
  now += 500_000;
  fresh.put("recent", bytes(4));
  now += 200_000;
  fresh.put("new", bytes(4));
  assert.equal(fresh.get("forgotten"), undefined);
  assert.equal(fresh.get("recent")?.length, 4);
  assert.equal(fresh.get("new")?.length, 4);
});
