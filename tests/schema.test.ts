/** The schema of the embedded store: what an older version of the service wrote is there in the newest. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, test } from "node:test";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { MIGRATIONS } from "../shared/store/sqlite/schema.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import { sendingOf } from "./promises/outboxes.ts";
import { deliveryOf } from "./promises/samples.ts";

describe("the schema", () => {
  test("a file of an older version is brought up to date with all that is in it", async () => {
    const directory = mkdtempSync(join(tmpdir(), "email-listener-schema-"));
    after(() => rmSync(directory, { recursive: true }));
    const path = join(directory, "store.db");
    const older = new DatabaseSync(path);
    older.exec("pragma auto_vacuum = incremental; pragma journal_mode = wal");
    for (const migration of MIGRATIONS.slice(0, 2)) older.exec(migration);
    const [parked, sending] = [deliveryOf("d", { state: "parked" }), { ...sendingOf("s"), revision: 1 }];
    older
      .prepare("insert into deliveries values ('d', 'a', 'https://crm.example.com', 'parked', 1, 1, 0, 0, ?)")
      .run(JSON.stringify(parked));
    older
      .prepare("insert into outbox values ('s', 'a', 'k', 1, 'queued', 1, 1, 1, 0, '<s@example.com>', null, ?)")
      .run(JSON.stringify(sending));
    older.exec("insert into spool values ('d', 3, 'raw'); insert into outbox_spool values ('s', 3, 'raw')");
    older.exec("pragma user_version = 2");
    older.close();
    const store = await sqliteStore({
      path,
      vault: vault([{ id: "k1", key: generateEncryptionKey() }]),
      windowDays: 7,
      spoolBytes: 1e9,
    });
    assert.deepEqual(await store.deliveries.get("d"), { ...parked, spooled: true });
    assert.equal((await store.deliveries.getCounts()).parked, 1);
    const find = async () => (await store.deliveries.list({ limit: 10, text: "invoice" })).items.map(({ id }) => id);
    assert.deepEqual(await find(), []);
    await store.deliveries.save({ ...parked, message: { subject: "Invoice 7", from: null, messageId: null } });
    assert.deepEqual(await find(), ["d"]);
    assert.deepEqual(await store.outbox.get("s"), sending);
    const known = await store.outbox.accept(sendingOf("s2", { key: "k" }), Buffer.from("raw"), 10);
    assert.equal(known.kind, "known");
    await store.deliveries.save(deliveryOf("d"));
    const { delivered, spoolBytes } = await store.deliveries.getCounts();
    assert.deepEqual({ delivered, spoolBytes }, { delivered: 1, spoolBytes: 0 });
    await store.close();
  });
});
