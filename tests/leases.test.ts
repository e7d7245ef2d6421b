/** The leases of a node that is alone: held to the promises of all leases. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { singleLeases } from "../api/lease/single.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import { leasePromises } from "./promises/leases.ts";
import { cursorOf } from "./promises/samples.ts";

const open = () =>
  sqliteStore({
    path: ":memory:",
    vault: vault([{ id: "k", key: generateEncryptionKey() }]),
    windowDays: 7,
    spoolBytes: 1e6,
  });

leasePromises("leases of a single node", async () => {
  const store = await open();
  return { leases: singleLeases(store.cursors), end: () => store.close() };
});

test("a former holder's fence no longer moves the cursor", async () => {
  const store = await open();
  const leases = singleLeases(store.cursors);
  const { signal } = new AbortController();
  const former = await leases.hold("a", async ({ fence }) => fence, signal);
  const fence = await leases.hold("a", async (lease) => lease.fence, signal);
  await assert.rejects(store.cursors.advance("a", cursorOf(1), [], former), { code: "conflict" });
  await store.cursors.advance("a", cursorOf(1), [], fence);
  await store.close();
});

test("a fault of the store is the holder's error, and the key is free after it", async () => {
  let broken = true;
  const store = await open();
  const leases = singleLeases({
    issueFence: (mailbox) => (broken ? Promise.reject(new RangeError("no fence")) : store.cursors.issueFence(mailbox)),
  });
  const { signal } = new AbortController();
  await assert.rejects(
    leases.hold("a", async () => undefined, signal),
    RangeError,
  );
  broken = false;
  await leases.hold("a", async () => undefined, signal);
  await store.close();
});
