/** A secret is sealed for its places: whoever can write the store cannot send it anywhere else. Stores of 0.1 are sealed anew. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { findUnreadable, openApplication, sealApplication } from "../shared/store/sealed-applications.ts";
import { findUnreadableSecret, openMailbox, sealMailbox } from "../shared/store/sealed-mailboxes.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import { deliveryOf, mailboxOf } from "./promises/samples.ts";
import { applicationOf } from "./promises/stores-applications.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";

const k1 = { id: "k1", key: generateEncryptionKey() };
const box = vault([k1]);
const secret = (text: string) => new Secret(text);

type Receive = Mailbox["receive"];
const common = {
  folders: ["INBOX"],
  mode: "push" as const,
  since: "now",
  poll: { everySeconds: 60 },
  processLock: false,
};
const login = { user: "u", password: secret("password-1") };
const oauth2 = { tokenUrl: "https://login.example.com/token", clientId: "c", clientSecret: secret("client-1") };
const imap: Receive = { protocol: "imap", host: "imap.example.com", tls: "implicit", auth: login, ...common };
const withToken = of({ receive: { ...imap, auth: { user: "u", oauth2 } } });
const exchange: Receive = { protocol: "ews", tls: "implicit", access: "own", auth: login, ...common };
const send = { perHour: 500, saveSent: "auto", notify: false, allowSelf: false } as const;

function of(over: Partial<Mailbox>): Mailbox {
  return { ...mailboxOf("a"), receive: imap, ...over };
}

/** A stored mailbox, and what somebody writes into it without the key. */
type Forgery = [name: string, mailbox: Mailbox, change: (doc: any) => unknown];
const FORGERIES: Forgery[] = [
  ["host", of({}), (doc) => (doc.receive.host = "imap.evil.example")],
  ["port", of({}), (doc) => (doc.receive.port = 994)],
  ["TLS", of({}), (doc) => (doc.receive.tls = "none")],
  ["authority", of({}), (doc) => (doc.receive.ca = "-----BEGIN CERTIFICATE-----\nx")],
  ["fingerprint", of({}), (doc) => (doc.receive.fingerprint = `sha256/${"0".repeat(64)}`)],
  ["user", of({}), (doc) => (doc.receive.auth.user = "root")],
  ["protocol", of({}), (doc) => (doc.receive = { ...doc.receive, protocol: "ews", access: "own" })],
  ["a sending server", of({}), (doc) => (doc.send = { ...send, host: "smtp.evil.example" })],
  ["the sending server", of({ send: { ...send, host: "s.example.com" } }), (doc) => (doc.send.host = "evil.example")],
  ["sending TLS", of({ send: { ...send, host: "s.example.com" } }), (doc) => (doc.send.tls = "none")],
  ["own login to send", of({ send: { ...send, host: "s.example.com", auth: login } }), (doc) => (doc.send.host = "e")],
  ["token URL", withToken, (doc) => (doc.receive.auth.oauth2.tokenUrl = "https://evil.example/")],
  ["host of a token", withToken, (doc) => (doc.receive.host = "evil.example")],
  ["client", withToken, (doc) => (doc.receive.auth.oauth2.clientId = "d")],
  ["address of autodiscover", of({ receive: exchange }), (doc) => (doc.address = "a@evil.example")],
  ["redirects of autodiscover", of({ receive: exchange }), (doc) => (doc.receive.redirects = ".*")],
  [
    "URL of Exchange",
    of({ receive: { ...exchange, host: "e.example" } }),
    (doc) => (doc.receive.url = "http://evil.example/"),
  ],
  ["origin of the endpoint", of({}), (doc) => (doc.deliver.url = "http://evil.example/")],
];

describe("the secrets of an application", () => {
  const application = applicationOf("contoso");
  const FORGED = {
    id: "fabrikam",
    tenant: "evil.example",
    clientId: "evil",
    cloud: "china",
    graphUrl: "https://evil.example",
    tokenUrl: "https://evil.example/token",
  };
  for (const [field, value] of Object.entries(FORGED))
    test(`cannot be opened when somebody changes ${field} of the stored record`, () => {
      const doc = JSON.parse(sealApplication(application, box));
      assert.ok(!JSON.stringify(doc).includes("secret of"), "it is sealed");
      assert.equal(openApplication(JSON.stringify(doc), box).clientSecret?.reveal(), "secret of contoso");
      const forged = openApplication(JSON.stringify({ ...doc, [field]: value }), box);
      assert.equal(findUnreadable(forged)?.code, "config");
      assert.throws(() => forged.clientSecret?.reveal(), { code: "config" });
    });

  test("that cannot be opened stay as they are when the application is stored again", () => {
    const stored = sealApplication(application, box);
    const other = vault([{ id: "k1", key: generateEncryptionKey() }]);
    const again = sealApplication(openApplication(stored, other), other);
    assert.equal(openApplication(again, box).clientSecret?.reveal(), "secret of contoso");
  });
});

describe("a sealed secret", () => {
  for (const [name, mailbox, change] of FORGERIES)
    test(`is of no use when the stored record has another ${name}`, () => {
      const doc = JSON.parse(JSON.stringify(sealMailbox(mailbox, box)));
      assert.equal(findUnreadableSecret(openMailbox(structuredClone(doc), box)), undefined, "as it was");
      change(doc);
      assert.equal(findUnreadableSecret(openMailbox(doc, box))?.code, "config");
    });

  test("opens where only the spelling of the place or something else differs", () => {
    const doc = JSON.parse(JSON.stringify(sealMailbox(of({}), box)));
    Object.assign(doc, { name: "Help", revision: 9 });
    Object.assign(doc.receive, { host: "IMAP.Example.com.", port: 993, folders: ["INBOX", "Sent"] });
    doc.deliver.url += "/further?path=1";
    assert.equal(findUnreadableSecret(openMailbox(doc, box)), undefined);
  });
});

/** A record and a canary as 0.1 wrote them. */
const oldDoc = (mailbox: Mailbox) => JSON.stringify(sealMailbox({ ...mailbox, revision: 1 }, box, "field"));
const oldCanary = () => box.seal("canary", "canary|k1");

describe("a SQLite store of 0.1", () => {
  const directory = mkdtempSync(join(tmpdir(), "email-listener-places-"));
  after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "store.db");
  const open = () => sqliteStore({ path, vault: box, windowDays: 7, spoolBytes: 1e9 });
  const edit = (work: (db: DatabaseSync) => unknown) => {
    const db = new DatabaseSync(path);
    try {
      return work(db);
    } finally {
      db.close();
    }
  };
  const write = (doc: string) =>
    edit((db) => db.prepare("update mailboxes set doc = ?, key_id = 'k1' where id = 'a'").run(doc));

  test("is sealed anew at the start, and an old record means nothing after that", async () => {
    const mailbox = of({});
    const first = await open();
    const put = await first.mailboxes.put(mailbox);
    await first.close();
    write(oldDoc(mailbox));
    edit((db) => {
      db.exec("delete from canaries");
      db.prepare("insert into canaries values ('k1', ?)").run(oldCanary());
    });

    const migrated = await open();
    assert.deepEqual((await migrated.mailboxes.get("a"))?.mailbox, put);
    await migrated.close();
    const stored = edit((db) => db.prepare("select doc from mailboxes").get()) as { doc: string };
    assert.deepEqual(openMailbox(JSON.parse(stored.doc), box), put, "in the new form");

    // Somebody kept a record of 0.1, and writes it with a host of his own.
    const forged = JSON.parse(oldDoc(mailbox));
    forged.receive.host = "imap.evil.example";
    write(JSON.stringify(forged));
    for (const canaries of ["", "delete from canaries"]) {
      edit((db) => db.exec(canaries));
      const attacked = await open();
      const found = (await attacked.mailboxes.get("a"))?.mailbox;
      assert.ok(found && findUnreadableSecret(found), `not opened (${canaries})`);
      await attacked.close();
    }
  });
});

describe("a Redis store of 0.1", () => {
  let redis: Redis | undefined;
  before(async () => {
    redis = (await provide("redis"))?.server;
  });
  after(() => redis?.remove());

  test("stays readable for nodes of 0.1 while there are any, and is sealed anew after the last one", async (t) => {
    if (!redis) return t.skip("no redis");
    const server = redis;
    const prefix = randomUUID();
    const open = () => redisStore({ url: server.url, prefix, vault: box, windowDays: 7, spoolBytes: 1e9 });
    const globalKey = (name: string) => `${prefix}:{*}:${name}`;
    const mailboxKey = `${prefix}:{a}:mailbox`;
    const docOf = async () => JSON.parse(String(await server.command("HGET", mailboxKey, "doc")));
    const readsAs = async (form: "field" | "places") => {
      const doc = await docOf();
      const opens = (aad: string) => {
        try {
          return box.open(doc.deliver.secret, aad) !== "";
        } catch {
          return false;
        }
      };
      return form === "field" ? opens("a|deliver.secret") : findUnreadableSecret(openMailbox(doc, box)) === undefined;
    };
    const first = await open();
    const put = await first.mailboxes.put(of({}));
    await first.close();
    await server.command("HSET", mailboxKey, "doc", oldDoc(put), "key", "k1");
    await server.command("DEL", globalKey("canaries"));
    await server.command("HSET", globalKey("canaries"), "k1", oldCanary());
    const about = { role: "worker", name: "old", version: "0.1.0", startedAt: "", mailboxes: 0, capacity: 0 };
    await server.command("HSET", globalKey("nodes"), "session-1", JSON.stringify(about));

    const [one, two] = [await open(), await open()];
    await one.checkKeys();
    assert.ok(await readsAs("field"), "not sealed anew");
    const renamed = await one.mailboxes.put({ ...put, name: "Renamed" });
    assert.ok(await readsAs("field"), "written for nodes of 0.1 too");
    assert.match((await docOf()).deliver.secret, /^enc:1:/, "in a form that they know");
    const isEncrypted = async (id: string) =>
      (await server.command("GETRANGE", `${prefix}:{a}:raw:${id}`, "0", "5")) === "key:2:";
    await one.deliveries.save(deliveryOf("early", { state: "parked" }), Buffer.from("message"));
    assert.equal(await isEncrypted("early"), false, "messages too");

    await server.command("HDEL", globalKey("nodes"), "session-1");
    await one.checkKeys();
    assert.ok(await readsAs("places"), "sealed anew");
    await one.deliveries.save(deliveryOf("late", { state: "parked" }), Buffer.from("message"));
    assert.equal(await isEncrypted("late"), true);
    for (const id of ["early", "late"])
      assert.equal(Buffer.from((await two.deliveries.getRaw(id)) ?? []).toString(), "message");
    assert.deepEqual((await two.mailboxes.get("a"))?.mailbox, renamed, "another node reads it");

    // The other node did not notice yet, and writes as 0.1 did once more. Nobody loses the mailbox.
    await two.mailboxes.put({ ...renamed, name: "Again" });
    assert.equal((await one.mailboxes.get("a"))?.mailbox.name, "Again");
    assert.equal(findUnreadableSecret((await one.mailboxes.get("a"))!.mailbox), undefined);
    await two.checkKeys();
    await one.checkKeys();
    assert.ok(await readsAs("places"), "sealed anew again");

    const forged = JSON.parse(oldDoc(put));
    forged.receive.host = "imap.evil.example";
    await server.command("HSET", mailboxKey, "doc", JSON.stringify(forged), "key", "k1");
    for (const canaries of [[], ["DEL", globalKey("canaries")]]) {
      if (canaries.length > 0) await server.command(...canaries);
      const attacked = await open();
      await attacked.checkKeys();
      const found = (await attacked.mailboxes.get("a"))?.mailbox;
      assert.ok(found && findUnreadableSecret(found), "not opened");
      await attacked.close();
    }
    await one.close();
    await two.close();
  });
});
