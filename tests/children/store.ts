/** A process with the store open, to be killed: `hold` says 0 and waits, `write` says each number it has written. */
import { randomBytes } from "node:crypto";
import { Secret } from "../../shared/contract/secret.ts";
import { sqliteStore } from "../../shared/store/sqlite/store.ts";
import { vault } from "../../shared/store/vault.ts";
import { cursorOf, deliveryOf, refOf } from "../promises/samples.ts";

const [path = "", key = "", mode] = process.argv.slice(2);
const box = vault([{ id: "k1", key: new Secret(key) }]);
const store = await sqliteStore({ path, vault: box, windowDays: 7, spoolBytes: 1e9 });

if (mode === "hold") {
  process.stdout.write("0\n");
  setInterval(() => undefined, 60_000);
} else {
  const fence = await store.cursors.issueFence("a");
  const [cursor] = await store.cursors.read("a");
  for (let uid = (cursor?.uid ?? 0) + 1; ; uid++) {
    const ref = refOf(uid);
    await store.ledger.claim("a", [ref], 60_000);
    await store.deliveries.save(deliveryOf(`d${uid}`, { ref, state: "parked" }), randomBytes(5000));
    await store.cursors.advance("a", cursorOf(uid), [ref], fence);
    process.stdout.write(`${uid}\n`);
  }
}
