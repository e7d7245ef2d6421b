/** Backup and restore of the embedded store by their commands, and the upgrade of a store that 0.1.0 wrote. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { imapBody, register, toEndpoint } from "./bodies.ts";
import { expect } from "./cluster-rig.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { RELEASED_KEY, RELEASED_SECRET, readRelease } from "./deploy/releases.ts";
import { message } from "./servers/mail.ts";
import { type Service, startService } from "./service.ts";
import { status, subjectOf, subjects } from "./stories/scene.ts";

const RUNTIME = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
const programOf = (name: string) => fileURLToPath(new URL(`../api/cli/${name}.ts`, import.meta.url));
/** The password of every user of the in-process mail server, also when the store of 0.1.0 was made. */
const PASSWORD = "correct horse";

let mail: ImapServer;
let endpoint: Endpoint;
let folder = "";
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "backup-"));
  [mail, endpoint] = await Promise.all([startImapServer(), startEndpoint({ secret: RELEASED_SECRET })]);
});
after(async () => {
  await endpoint.stop();
  await mail.stop();
  await rm(folder, { recursive: true });
});

/** Runs a command as an administrator does, beside the service. Its output has no stack trace, whatever happens. */
function command(dataDir: string, [name = "", ...words]: string[], env: Record<string, string> = {}) {
  const settings = { NODE_ENV: "test", DATA_DIR: dataDir, REDIS_URL: "", RABBITMQ_URL: "" };
  const done = spawnSync(process.execPath, [...RUNTIME, programOf(name), ...words], {
    env: { ...process.env, ...settings, ...env },
    encoding: "utf8",
    timeout: 60_000,
  });
  const output = done.stdout + done.stderr;
  assert.doesNotMatch(output, /^\s+at /m);
  return { code: done.status, output };
}

async function deliverTo(service: Service, user: string, subject: string): Promise<void> {
  await mail.append(user, "INBOX", message({ subject, text: subject }));
  await service.until(subject, () => subjects(endpoint).includes(subject));
}

describe("backup and restore of the embedded store", () => {
  test("a backup beside the running service is whole, and is put back over older data only", async (t) => {
    const service = await startService();
    t.after(() => service.end());
    const { dataDir } = service;
    await mail.addUser("kept", PASSWORD);
    await register(service, imapBody(mail, "kept", { id: "kept", deliver: toEndpoint(endpoint) }));
    await status(service, "kept", "listening");
    await deliverTo(service, "kept", "before the backup");

    const file = join(folder, "store.backup");
    const made = command(dataDir, ["backup", file]);
    assert.deepEqual(
      [made.code, /1 mailboxes, 1 deliveries, up to .*keys local\./.test(made.output)],
      [0, true],
      made.output,
    );
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    const again = command(dataDir, ["backup", file]);
    assert.deepEqual([again.code, again.output.split("\n").length], [1, 2]);
    assert.match(again.output, /There is a file .* already\. Name a new file\.$/m);

    await deliverTo(service, "kept", "after the backup");
    assert.match(command(dataDir, ["restore", file]).output, /is in use by process/);
    await service.stop();
    const refused = command(dataDir, ["restore", file]);
    assert.equal(refused.code, 1);
    assert.match(refused.output, /has newer data \(.*\) than the backup \(.*\)\. Move email-listener\.db out of/);
    const damaged = join(folder, "damaged");
    await writeFile(damaged, "this is no database, and it is longer than the header of one ".repeat(20));
    assert.match(
      command(dataDir, ["restore", damaged]).output,
      /is not a store of this service: file is not a database/,
    );
    const otherKey = { ENCRYPTION_KEYS: `local:${Buffer.alloc(32, 1).toString("base64")}` };

    // As the message says, and as after the loss of a disk.
    await rename(join(dataDir, "email-listener.db"), join(folder, "newer"));
    assert.match(command(dataDir, ["restore", file], otherKey).output, /key "local"/);
    // A killed process leaves its log, which belongs to the other file.
    await writeFile(join(dataDir, "email-listener.db-wal"), "a log");
    const restored = command(dataDir, ["restore", file]);
    assert.equal(restored.code, 0, restored.output);
    const left = (await readdir(dataDir)).filter(
      (name) => !/^(encryption-key|email-listener\.db(\.lock)?)$/.test(name),
    );
    assert.equal(left.length, 1);
    assert.match(left[0] ?? "", /^email-listener\.db\.replaced-.*-wal$/);
    await service.start();
    await status(service, "kept", "listening");
    const count = endpoint.received.length;
    await deliverTo(service, "kept", "after the restore");
    const repeated = endpoint.received.slice(0, count).map(({ id }) => id);
    // What came after the backup is delivered once more, under the same id.
    assert.equal(new Set(repeated).size, 2);

    // The same backup over the store that came from it and is newer now.
    await service.stop();
    assert.equal(command(dataDir, ["restore", file]).code, 1);
    const newest = join(folder, "newest");
    assert.equal(command(dataDir, ["backup", newest]).code, 0);
    const kept = command(dataDir, ["restore", newest]);
    assert.match(kept.output, /The store that was there is now .*email-listener\.db\.replaced-/);
  });

  test("where there is no file to copy, the message says what to do", () => {
    const backup = join(folder, "none");
    assert.match(command(join(folder, "empty"), ["backup", backup]).output, /DATA_DIR holds no store/);
    const shared = { REDIS_URL: "redis://127.0.0.1:1", ENCRYPTION_KEYS: RELEASED_KEY };
    assert.match(command(folder, ["backup", backup], shared).output, /back up Redis, as docs\/operations\.md says/);
    for (const words of [["backup"], ["restore", "--all"], ["backup", "one", "two"]])
      assert.equal(command(folder, words).code, 2);
  });
});

describe("a store of 0.1.0", () => {
  test("goes on with its passwords, cursors, deliveries, tasks and sendings", async (t) => {
    const dataDir = join(folder, "upgraded");
    await mkdir(dataDir);
    // Made by 0.1.0, with servers on ports of that day.
    const path = join(dataDir, "email-listener.db");
    await writeFile(path, await readRelease("0.1.0.db"));
    const db = new DatabaseSync(path);
    db.prepare("update mailboxes set doc = json_set(doc, '$.receive.port', ?, '$.deliver.url', ?)").run(
      mail.imapPort,
      `${endpoint.url}upgraded`,
    );
    db.close();
    for (const user of ["delivered", "retrying", "gone"]) await mail.addUser(user, PASSWORD);

    const earlier = endpoint.received.length;
    const service = await startService({ DATA_DIR: dataDir, ENCRYPTION_KEYS: RELEASED_KEY });
    t.after(() => service.end());
    const arrived = () => endpoint.received.slice(earlier).map((request) => subjectOf(request));
    // The tasks that waited go out, with messages from the spool.
    await service.until("what waited", () => ["retrying 1", "retrying 2"].every((one) => arrived().includes(one)));
    // The stored passwords open the mailboxes.
    await status(service, "delivered", "listening");
    await deliverTo(service, "delivered", "after the upgrade");
    assert.equal(arrived().includes("delivered 1"), false);
    const parked = expect(await service.call("GET", "/api/v1/parked"), 200);
    assert.equal(parked.items.length, 2);
    const sending = { to: ["bob@example.net"], subject: "another", text: "another" };
    const key = { "idempotency-key": "order-1" };
    const repeated = await service.call("POST", "/api/v1/mailboxes/delivered/messages", sending, key);
    assert.equal(repeated.body.code, "key_reused", "the key of 0.1.0 is known");
    expect(await service.call("POST", "/api/v1/parked/replay", {}), 202);
  });
});
