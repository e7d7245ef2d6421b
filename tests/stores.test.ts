/** The embedded store: held to the promises of every store, and to those a file makes. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { inspect } from "node:util";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { loadEncryptionKeys, generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import {
  cachingMailboxReader,
  findUnreadableSecret,
  openMailbox,
  sealMailbox,
} from "../shared/store/sealed-mailboxes.ts";
import { vault } from "../shared/store/vault.ts";
import { movableClock } from "./clock.ts";
import { mailboxOf, cursorOf, deliveryOf, printOf, refOf } from "./promises/samples.ts";
import { storePromises, type StoreSettings } from "./promises/stores.ts";
import { eventually } from "./servers/waiting.ts";

const directory = mkdtempSync(join(tmpdir(), "email-listener-stores-"));
after(() => rmSync(directory, { recursive: true }));

const k1 = { id: "k1", key: generateEncryptionKey() };
const k2 = { id: "k2", key: generateEncryptionKey() };
let files = 0;
const newPath = () => join(directory, `${++files}`, "store.db");

function open(path: string, settings: Partial<StoreSettings> = {}) {
  return sqliteStore({ path, vault: vault([k1]), windowDays: 7, spoolBytes: 1e9, ...settings });
}

const clock = movableClock();
after(() => clock[Symbol.dispose]());
storePromises("sqlite file", (settings) => open(newPath(), settings), clock.advance);
storePromises("sqlite :memory:", (settings) => open(":memory:", settings), clock.advance);

const child = fileURLToPath(new URL("./children/store.ts", import.meta.url));

/** A process of its own on this runtime with the store open; resolves with what it says first. */
async function startChild(path: string, mode: "hold" | "write") {
  const runtime = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
  const args = [...runtime, child, path, k1.key.reveal(), mode];
  const started = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const said: number[] = [];
  let partial = "";
  started.stdout.setEncoding("utf8");
  started.stdout.on("data", (text: string) => {
    const lines = (partial + text).split("\n");
    partial = lines.pop() ?? "";
    said.push(...lines.map(Number));
  });
  await once(started.stdout, "data");
  return {
    pid: started.pid ?? 0,
    said,
    kill,
    [Symbol.asyncDispose]: kill,
  };

  async function kill(): Promise<void> {
    if (started.exitCode !== null || started.signalCode !== null) return;
    started.kill("SIGKILL");
    await once(started, "close");
  }
}

describe("sqlite file, over restarts", () => {
  test("everything is there again after a close", async () => {
    const path = newPath();
    const first = await open(path);
    const put = await first.mailboxes.put(mailboxOf("a"));
    const fence = await first.cursors.issueFence("a");
    await first.cursors.advance("a", cursorOf(7, { state: "9" }), [refOf(7)], fence);
    await first.deliveries.save(deliveryOf("d", { state: "parked", ref: refOf(6) }), Buffer.from("raw"));
    await first.close();
    const again = await open(path);
    assert.deepEqual((await again.mailboxes.get("a"))?.mailbox, put);
    assert.deepEqual(await again.cursors.read("a"), [cursorOf(7, { state: "9" })]);
    assert.deepEqual(await again.ledger.claim("a", [refOf(6), refOf(7)], 1000), ["done", "yours"]);
    assert.equal(Buffer.from((await again.deliveries.getRaw("d")) ?? []).toString(), "raw");
    assert.ok((await again.cursors.issueFence("a")) > fence);
    await again.close();
  });

  test("what an earlier process had claimed or taken is free at once", async () => {
    const path = newPath();
    const first = await open(path);
    await first.ledger.claim("a", [refOf(1)], 3_600_000);
    await first.ledger.identify("a", refOf(1), printOf(1), 3_600_000);
    const retrying = deliveryOf("d", { state: "retrying", ref: refOf(2), nextAttemptAt: "2026-01-01T00:00:00.000Z" });
    await first.deliveries.save(retrying, Buffer.from("raw"));
    await first.deliveries.claim("d", 3_600_000);
    await first.close();
    const again = await open(path);
    assert.deepEqual(await again.ledger.claim("a", [refOf(1)], 1000), ["yours"]);
    const copy = refOf(3, { folder: "Done" });
    assert.deepEqual(await again.ledger.identify("a", copy, printOf(1), 1000), { kind: "new", sharesContent: false });
    assert.ok(await again.deliveries.claim("d", 1000));
    await again.close();
  });

  test("kill -9 in the middle of writing loses nothing that was acknowledged and leaves no half steps", async () => {
    const path = newPath();
    for (let round = 0; round < 3; round++) {
      await using writer = await startChild(path, "write");
      await eventually(() => (writer.said.at(-1) ?? 0) >= (round + 1) * 60, "sixty more", 60_000, 5);
      await writer.kill();
      const acknowledged = writer.said.at(-1) ?? 0;
      const store = await open(path);
      const [cursor] = await store.cursors.read("a");
      assert.ok(cursor && cursor.uid >= acknowledged, `${acknowledged} were acknowledged, ${cursor?.uid} are there`);
      const { retrying, parked, delivered } = await store.deliveries.getCounts();
      // The writer saves the delivery first and moves the cursor then: at most one step lies between.
      assert.ok(parked - cursor.uid <= 1 && parked >= cursor.uid);
      assert.equal(retrying + delivered, 0);
      for (const uid of [1, acknowledged]) {
        assert.equal((await store.deliveries.getRaw(`d${uid}`))?.byteLength, 5000);
      }
      const claims = await store.ledger.claim("a", [refOf(1), refOf(acknowledged)], 1);
      assert.deepEqual(claims, ["done", "done"]);
      await store.close();
    }
  });
});

describe("sqlite file, one process only", () => {
  test("a second process is refused by name of file and holder, until the first is killed", async () => {
    const path = newPath();
    await using holder = await startChild(path, "hold");
    await assert.rejects(open(path), (error: unknown) => {
      assert.ok(error instanceof Problem && error.code === "store" && error.retry === "never", inspect(error));
      assert.match(error.message, new RegExp(`store\\.db is in use by process ${holder.pid} on `));
      return true;
    });
    await holder.kill();
    await (await open(path)).close();
  });

  test("a second store in the same process is refused, and the first is none the worse for it", async () => {
    const path = newPath();
    const first = await open(path);
    await assert.rejects(open(path), /in use by process/);
    await assert.rejects(open(path), /in use by process/);
    await first.mailboxes.put(mailboxOf("a"));
    await first.close();
    await (await open(path)).close();
  });

  test("a file of a newer version is refused and not changed", async () => {
    const path = newPath();
    await (await open(path)).close();
    const newer = new DatabaseSync(path);
    newer.exec("pragma user_version = 99");
    newer.close();
    await assert.rejects(open(path), /written by a newer version of the service \(its schema is 99/);
    await assert.rejects(open(path), /newer version/, "the lock was given back");
  });

  test("a file that is no database, and a directory that cannot be made, are clear problems", async () => {
    const path = join(directory, "text.db");
    writeFileSync(path, "this is not a database, however long it may be\n".repeat(100));
    await assert.rejects(open(path), { code: "store", message: /text\.db cannot be used: .*not a database/ });
    await assert.rejects(open(join(path, "store.db")), { code: "store" });
  });
});

describe("sealed credentials", () => {
  test("no secret is ever in the file or its log in clear", async () => {
    const path = newPath();
    const store = await open(path);
    await store.mailboxes.put(mailboxOf("a"));
    const oauth2 = {
      tokenUrl: "https://t.example",
      clientId: "c",
      clientSecret: new Secret("the-client-secret"),
      refreshToken: new Secret("the-refresh-token"),
    };
    const b = mailboxOf("b");
    await store.mailboxes.put({ ...b, receive: { ...b.receive, auth: { user: "b", oauth2 } } });
    const c = mailboxOf("c");
    await store.mailboxes.put({
      ...c,
      receive: { ...c.receive, auth: { user: "c", accessToken: new Secret("the-access-token") } },
    });
    const found = (text: string) => {
      try {
        return execFileSync("grep", ["-rlaF", text, join(path, "..")], { encoding: "utf8" });
      } catch {
        return "";
      }
    };
    assert.match(found("imap.example.com"), /store\.db-wal/, "what is not secret can be found");
    const secrets = [
      "password-of-",
      "whsec_of-",
      "the-client-secret",
      "the-refresh-token",
      "the-access-token",
      k1.key.reveal(),
    ];
    for (const secret of secrets) assert.equal(found(secret), "");
    await store.close();
    for (const secret of secrets) assert.equal(found(secret), "");
  });

  test("a wrong key and a missing key are found at the start, and named", async () => {
    const path = newPath();
    await (await open(path)).close();
    const wrong = vault([{ id: "k1", key: generateEncryptionKey() }]);
    await assert.rejects(open(path, { vault: wrong }), {
      code: "config",
      message: /key "k1" is not the one that encrypted/,
    });
    await assert.rejects(open(path, { vault: vault([k2]) }), { code: "config", message: /key "k1" is missing/ });
    await (await open(path)).close();
  });

  test("after one start with a new key in front the old one can be dropped", async () => {
    const path = newPath();
    const first = await open(path);
    const put = await first.mailboxes.put(mailboxOf("a"));
    await first.close();
    await (await open(path, { vault: vault([k2, k1]) })).close();
    const later = await open(path, { vault: vault([k2]) });
    assert.deepEqual((await later.mailboxes.get("a"))?.mailbox, put);
    await later.close();
    await assert.rejects(open(path), /key "k2" is missing/);
  });

  test("a sealed secret opens at its own mailbox and field only, and not when a bit was changed", () => {
    const box = vault([k1]);
    const sealed = box.seal("hello", "a|receive.auth.password");
    assert.match(sealed, /^enc:2:k1:[\w-]{80}:[\w-]+$/);
    assert.notEqual(sealed, box.seal("hello", "a|receive.auth.password"));
    assert.equal(box.open(sealed, "a|receive.auth.password"), "hello");
    assert.throws(() => box.open(sealed, "b|receive.auth.password"), { code: "config" });
    assert.throws(() => box.open(sealed, "a|deliver.secret"), { code: "config" });
    const at = sealed.length - 3;
    const changed = sealed.slice(0, at) + (sealed[at] === "A" ? "B" : "A") + sealed.slice(at + 1);
    assert.throws(() => box.open(changed, "a|receive.auth.password"), { code: "config" });
    assert.throws(() => box.open(`${sealed.slice(0, -24)}`, "a|receive.auth.password"), { code: "config" });
    assert.throws(() => box.open("hello", "a|receive.auth.password"), { code: "config" });
    assert.equal(box.open(box.seal("", "x"), "x"), "");
    assert.equal(box.open(box.seal("пароль 🔑", "x"), "x"), "пароль 🔑");
  });

  test("a sealed mailbox shows nothing but what is not secret, and opens whole", () => {
    const box = vault([k1]);
    const mailbox = mailboxOf("a", { revision: 3 });
    const sealed = JSON.stringify(sealMailbox(mailbox, box));
    assert.doesNotMatch(sealed, /password-of|whsec_|\[secret\]/);
    assert.deepEqual(openMailbox(JSON.parse(sealed), box), mailbox);
  });

  test("an opened mailbox is kept by its text: what was written anew is opened anew", () => {
    const box = vault([k1]);
    const read = cachingMailboxReader((doc) => openMailbox(JSON.parse(doc), box));
    const first = JSON.stringify(sealMailbox(mailboxOf("a", { revision: 1 }), box));
    const second = JSON.stringify(sealMailbox(mailboxOf("a", { revision: 2 }), box));
    assert.equal(read(first), read(first));
    assert.deepEqual([read(second).revision, read(first).revision], [2, 1]);
    const withoutKey = cachingMailboxReader((doc) => openMailbox(JSON.parse(doc), vault([k2])))(first);
    assert.equal(findUnreadableSecret(withoutKey)?.code, "config");
  });

  test("keys must be there and 32 bytes long", () => {
    assert.throws(() => vault([]), { code: "config" });
    assert.throws(
      () => vault([{ id: "short", key: new Secret(randomBytes(16).toString("base64")) }]),
      /"short" must be/,
    );
  });

  test("without ENCRYPTION_KEYS a key file is made once, for its owner only, and never in production", async () => {
    const dir = join(directory, "keys");
    const settings = { ENCRYPTION_KEYS: [], DATA_DIR: dir, NODE_ENV: "development" } as const;
    await assert.rejects(loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [], NODE_ENV: "production" }), {
      code: "config",
    });
    const both = await Promise.all([
      loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [] }),
      loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [] }),
    ]).catch(() => []);
    const [key] = await loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [] });
    for (const [other] of both) assert.equal(other?.key.reveal(), key?.key.reveal());
    const [file = ""] = readdirSync(dir);
    assert.equal(statSync(join(dir, file)).mode & 0o777, 0o600);
    chmodSync(join(dir, file), 0o600);
    writeFileSync(join(dir, file), "");
    await assert.rejects(loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [] }), {
      code: "config",
      message: /is damaged/,
    });
    assert.deepEqual(await loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [k1] }), [k1]);
    const [fleeting] = await loadEncryptionKeys({ ...settings, ENCRYPTION_KEYS: [], DATA_DIR: ":memory:" });
    assert.ok(fleeting && vault([fleeting]));
  });
});
