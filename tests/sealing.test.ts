/** What lies in a store lies there encrypted: secrets and messages, those of older versions too once the keys are rotated. */
import assert from "node:assert/strict";
import { createCipheriv, randomBytes, randomUUID } from "node:crypto";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { after, before, describe, test } from "node:test";
import { zstdCompressSync } from "node:zlib";
import { readConfig } from "../shared/config.ts";
import type { Token } from "../shared/contract/token.ts";
import { SETTINGS } from "../shared/settings.ts";
import { generateEncryptionKey, loadEncryptionKeys } from "../shared/store/encryption-keys.ts";
import { redisKeys } from "../shared/store/redis/keys.ts";
import { redisRegistry } from "../shared/store/redis/registry.ts";
import { redisCanaries } from "../shared/store/redis/sealing/canaries.ts";
import { rotateKeys as rotateInRedis } from "../shared/store/redis/sealing/rotation.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import type { Rotation } from "../shared/store/rotation.ts";
import { openBytes, sealBytes } from "../shared/store/sealed-bytes.ts";
import { rotateKeys as rotateInFile } from "../shared/store/sqlite/rotation.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import type { Store } from "../shared/store/store.ts";
import { mailboxSealing } from "../shared/store/mailbox-sealing.ts";
import { openMailbox, sealMailbox } from "../shared/store/sealed-mailboxes.ts";
import { sealToken } from "../shared/store/sealed-tokens.ts";
import { vault, type VaultKey } from "../shared/store/vault.ts";
import { sendingOf } from "./promises/outboxes.ts";
import { deliveryOf, mailboxOf } from "./promises/samples.ts";
import { type Redis, startRedis } from "./servers/redis.ts";

const [k1, k2] = [
  { id: "k1", key: generateEncryptionKey() },
  { id: "k2", key: generateEncryptionKey() },
];
const box = vault([k1]);
const MARK = "A-MARKED-BODY-6613";
const body = Buffer.from(`Subject: x\r\n\r\n${MARK} ${randomBytes(40_000).toString("base64")}`);

const directory = mkdtempSync(join(tmpdir(), "email-listener-sealing-"));
let redis: Redis;
before(async () => {
  redis = await startRedis();
});
after(async () => {
  await redis.remove();
  rmSync(directory, { recursive: true });
});

/** A store that can be opened with different keys, whose stored bytes can be read, and written as 0.1 wrote them. */
type Place = {
  open(keys: VaultKey[]): Promise<Store>;
  /** Opens with these keys, rotates everything and closes. */
  rotate(keys: VaultKey[]): Promise<Rotation>;
  /** All stored bytes as latin1. */
  dump(): Promise<string>;
  writeOld(delivery: string, compressed: Buffer): Promise<void>;
  /** What is stored of a token, and how somebody replaces it who can write to the store. */
  readToken(id: string): Promise<string>;
  writeToken(id: string, doc: string): Promise<void>;
};

const limits = { windowDays: 7, spoolBytes: 1e9 };

function filePlace(): Place {
  const folder = join(directory, randomUUID());
  const path = join(folder, "email-listener.db");
  const open = (keys: VaultKey[]) => sqliteStore({ path, vault: vault(keys), ...limits });
  return {
    open,
    async rotate(keys) {
      const store = await open(keys);
      const [by, db] = [vault(keys), store.database];
      const rotation = await rotateInFile({ db, vault: by, sealing: mailboxSealing(by) }, { everything: true });
      await store.close();
      return rotation;
    },
    dump: async () =>
      readdirSync(folder)
        .map((name) => readFileSync(join(folder, name), "latin1"))
        .join(),
    async writeOld(delivery, compressed) {
      const db = new DatabaseSync(path);
      db.prepare("delete from spool where id = ?").run(delivery);
      db.prepare("insert into spool values (?, ?, ?)").run(delivery, compressed.length, compressed);
      db.close();
    },
    async readToken(id) {
      const db = new DatabaseSync(path);
      const row = db.prepare("select doc from tokens where id = ?").get(id);
      db.close();
      return String(row?.["doc"]);
    },
    async writeToken(id, doc) {
      const db = new DatabaseSync(path);
      db.prepare("insert or replace into tokens (id, created_at, expires_at, doc) values (?, 1, null, ?)").run(id, doc);
      db.close();
    },
  };
}

function redisPlace(): Place {
  const prefix = randomUUID();
  const open = (keys: VaultKey[]) => redisStore({ url: redis.url, prefix, vault: vault(keys), ...limits });
  const named = redisKeys(prefix);
  const withConnection = async <T>(
    keys: VaultKey[],
    work: (connection: Awaited<ReturnType<typeof open>>["redis"]) => Promise<T>,
  ) => {
    const store = await open(keys);
    return work(store.redis).finally(() => store.close());
  };
  return {
    open,
    rotate: (keys) =>
      withConnection(keys, (connection) => {
        const deps = { redis: connection, keys: redisKeys(prefix), vault: vault(keys) };
        const sealing = mailboxSealing(deps.vault);
        const canaries = redisCanaries(connection, deps.keys, sealing);
        const registry = redisRegistry(connection, deps.keys);
        return rotateInRedis({ ...deps, registry, sealing, canaries }, { everything: true });
      }),
    dump: async () => {
      await redis.command("SAVE");
      const texts: string[] = [];
      for (const key of (await redis.command("KEYS", `${prefix}*`)) as string[]) {
        if ((await redis.command("TYPE", key)) === "hash") texts.push(String(await redis.command("HGETALL", key)));
        if ((await redis.command("TYPE", key)) === "string") texts.push(String(await redis.command("GET", key)));
      }
      return texts.join();
    },
    writeOld: (delivery, compressed) =>
      withConnection([k1], async (connection) => {
        await connection.send("set", [`${named.mailboxPrefix("a")}raw:${delivery}`, compressed]);
      }),
    readToken: async (id) => String(await redis.command("HGET", `${named.globalPrefix}tokens`, id)),
    writeToken: async (id, doc) => void (await redis.command("HSET", `${named.globalPrefix}tokens`, id, doc)),
  };
}

const rawOf = async (store: Store, id: string) => Buffer.from((await store.deliveries.getRaw(id)) ?? []);

for (const [name, newPlace] of Object.entries({ sqlite: filePlace, redis: redisPlace })) {
  describe(`messages in ${name}`, () => {
    test("that wait, are parked or go out are encrypted, and are there again after a change of keys", async () => {
      const place = newPlace();
      const store = await place.open([k1]);
      await store.mailboxes.put(mailboxOf("a"));
      await store.deliveries.save(deliveryOf("d", { state: "parked" }), body);
      await store.deliveries.save(deliveryOf("small", { state: "parked" }), Buffer.from(MARK));
      await store.outbox.accept(sendingOf("s", { sendAt: new Date(Date.now() + 3_600_000).toISOString() }), body, 10);
      await store.close();
      assert.ok(!(await place.dump()).includes(MARK));
      await (await place.open([k2, k1])).close();
      const later = await place.open([k2]);
      assert.deepEqual(await rawOf(later, "d"), body);
      assert.deepEqual(await rawOf(later, "small"), Buffer.from(MARK));
      assert.deepEqual(Buffer.from((await later.outbox.getRaw("s")) ?? []), body);
      await later.close();
      const stored = await place.dump();
      assert.ok(stored.includes("k2:") && !/(enc|key):2:k1:|"k1:|,k1:/.test(stored), "nothing is left of the old key");
    });

    test("that an older version stored in clear can be read, and are encrypted when the keys are rotated", async () => {
      const place = newPlace();
      const store = await place.open([k1]);
      await store.mailboxes.put(mailboxOf("a"));
      for (const id of ["old", "new"]) await store.deliveries.save(deliveryOf(id, { state: "parked" }), body);
      await store.close();
      // A frame of zstd that is not compressed, so that the mark can be found.
      const clear = zstdCompressSync(Buffer.from(MARK));
      await place.writeOld("old", clear);
      assert.ok((await place.dump()).includes(MARK), "what is not encrypted can be found");
      const again = await place.open([k1]);
      assert.equal((await rawOf(again, "old")).toString(), MARK);
      await again.close();
      assert.equal((await place.rotate([k1])).messages, 1);
      assert.ok(!(await place.dump()).includes(MARK));
      const last = await place.open([k1]);
      assert.equal((await rawOf(last, "old")).toString(), MARK);
      assert.deepEqual(await rawOf(last, "new"), body);
      await last.close();
      assert.equal((await place.rotate([k1])).messages, 0, "nothing is left to do");
    });
  });
}

const tokenOf = (id: string, more: Partial<Token> = {}): Token => ({
  id,
  name: "CRM of Acme",
  scopes: ["read"],
  mailboxPrefix: "acme-",
  hash: "5f".repeat(32),
  createdAt: new Date().toISOString(),
  createdBy: "API_TOKENS#1",
  expiresAt: null,
  lastUsedAt: null,
  ...more,
});

for (const [name, newPlace] of Object.entries({ sqlite: filePlace, redis: redisPlace })) {
  describe(`tokens of the API in ${name}`, () => {
    test("are encrypted, and are there after a change of keys", async () => {
      const place = newPlace();
      const first = await place.open([k1]);
      const token = tokenOf("0123456789abcdef");
      await first.tokens.add(token);
      await first.tokens.recordUse(token.id, "2030-01-02T03:04:05.000Z");
      await first.close();
      const stored = await place.dump();
      for (const text of [token.hash, token.name, "acme-"]) assert.ok(!stored.includes(text), text);
      await (await place.open([k2, k1])).close();
      assert.match(await place.readToken(token.id), /^enc:2:k2:/);
      const later = await place.open([k2]);
      const used = { ...token, lastUsedAt: "2030-01-02T03:04:05.000Z" };
      assert.deepEqual(await later.tokens.get(token.id), used);
      assert.deepEqual(await later.tokens.list(), { tokens: [used], unreadable: [] });
      await later.close();
      assert.deepEqual((await place.rotate([k2])).tokens, 0, "nothing is left to do");
    });

    test("that somebody wrote past the service, or moved, or changed, are not accepted, and are listed", async () => {
      const place = newPlace();
      const first = await place.open([k1]);
      await first.tokens.add(tokenOf("aaaaaaaaaaaaaaaa", { name: "good" }));
      await first.close();
      const good = await place.readToken("aaaaaaaaaaaaaaaa");
      const [moved, plain, foreign, changed] = ["b", "c", "d", "e"].map((digit) => digit.repeat(16)) as string[];
      assert.ok(moved && plain && foreign && changed);
      const admin = (id: string) => tokenOf(id, { scopes: ["admin"], mailboxPrefix: "" });
      await place.writeToken(moved, good);
      await place.writeToken(plain, JSON.stringify(admin(plain)));
      const other = vault([{ id: "k1", key: generateEncryptionKey() }]);
      await place.writeToken(foreign, sealToken(admin(foreign), other));
      const bytes = Buffer.from(sealToken(admin(changed), box).split(":").at(-1) ?? "", "base64url");
      bytes[14] = (bytes[14] ?? 0) ^ 1;
      await place.writeToken(changed, good.replace(/[^:]+$/, bytes.toString("base64url")));
      for (const keys of [[k1], [k2, k1]]) {
        const store = await place.open(keys);
        const { tokens, unreadable } = await store.tokens.list();
        assert.deepEqual(
          tokens.map((token) => token.name),
          ["good"],
        );
        assert.deepEqual(unreadable.toSorted(), [moved, plain, foreign, changed]);
        for (const id of unreadable) await assert.rejects(store.tokens.get(id), { code: "config" });
        await store.close();
      }
      assert.equal((await place.rotate([k2, k1])).unreadable, 4);
      const last = await place.open([k2]);
      assert.equal((await last.tokens.get("aaaaaaaaaaaaaaaa"))?.name, "good");
      for (const id of [moved, plain, foreign, changed]) assert.equal(await last.tokens.remove(id), true);
      assert.deepEqual((await last.tokens.list()).unreadable, []);
      await last.close();
    });
  });
}

describe("an encrypted message", () => {
  test("opens under its own name only, and not when a bit of it or of its data key was changed", async () => {
    for (const raw of [Buffer.from("small"), body]) {
      const { dataKey, pieces } = await sealBytes(raw, box, "spool|a");
      const bytes = () => Buffer.concat(pieces);
      assert.deepEqual(await openBytes({ dataKey, bytes: bytes() }, box, "spool|a"), raw);
      await assert.rejects(openBytes({ dataKey, bytes: bytes() }, box, "spool|b"), { code: "config" });
      for (const at of [0, 20, bytes().length - 1]) {
        const changed = bytes();
        changed[at] = (changed[at] ?? 0) ^ 1;
        await assert.rejects(openBytes({ dataKey, bytes: changed }, box, "spool|a"), { code: "config" });
      }
      for (const cut of [0, 5, 28]) {
        await assert.rejects(openBytes({ dataKey, bytes: bytes().subarray(0, cut) }, box, "spool|a"), {
          code: "config",
        });
      }
      const other = vault([{ id: "k1", key: generateEncryptionKey() }]);
      await assert.rejects(openBytes({ dataKey, bytes: bytes() }, other, "spool|a"), {
        message: /"k1" is not the one/,
      });
      await assert.rejects(openBytes({ dataKey, bytes: bytes() }, vault([k2]), "spool|a"), {
        message: /"k1" is missing/,
      });
    }
  });
});

/** As 0.1 sealed. */
const seal1 = (text: string, aad: string) => {
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", Buffer.from(k1.key.reveal(), "base64"), iv).setAAD(Buffer.from(aad));
  const sealed = Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
  return `enc:1:k1:${iv.toString("base64url")}:${sealed.toString("base64url")}`;
};

describe("a credential", () => {
  test("that 0.1 sealed without a data key is read, and gets one when it is written again", () => {
    const mailbox = mailboxOf("a");
    const doc = sealMailbox(mailbox, box) as any;
    doc.receive.auth.password = seal1("password-of-a", "a|receive.auth.password");
    doc.deliver.secret = seal1("whsec_of-a", "a|deliver.secret");
    assert.deepEqual(openMailbox(doc, box, "field"), mailbox);
    assert.throws(() => box.open(doc.receive.auth.password, "b|receive.auth.password"), /"k1" is not the one/);
    assert.doesNotMatch(JSON.stringify(sealMailbox(openMailbox(doc, box, "field"), box)), /enc:1:/);
  });
});

const mode = (path: string) => statSync(path).mode & 0o777;
const refused = (env: Record<string, string>, why: RegExp) => assert.throws(() => readConfig(env), why);

describe("files and keys", () => {
  test("are for their owner only, also where an older version made them otherwise", async () => {
    const folder = join(directory, "open");
    mkdirSync(folder, { mode: 0o755 });
    const path = join(folder, "email-listener.db");
    for (const name of ["email-listener.db", "email-listener.db.lock"])
      writeFileSync(join(folder, name), "", { mode: 0o644 });
    const store = await sqliteStore({ path, vault: box, ...limits });
    await store.mailboxes.put(mailboxOf("a"));
    const names = readdirSync(folder);
    assert.ok(names.includes("email-listener.db-wal") && names.includes("email-listener.db-shm"), names.join());
    for (const name of names) assert.equal(mode(join(folder, name)), 0o600, name);
    assert.equal(mode(folder), 0o700);
    await store.close();
    const sharedFolder = join(directory, "shared");
    mkdirSync(sharedFolder, { mode: 0o755 });
    writeFileSync(join(sharedFolder, "of-somebody-else"), "");
    await (await sqliteStore({ path: join(sharedFolder, "store.db"), vault: box, ...limits })).close();
    assert.equal(mode(sharedFolder), 0o755, "a folder that is used for something else stays as it is");
    assert.equal(mode(join(sharedFolder, "store.db")), 0o600);
  });

  test("a key file that others may read is refused, with the remedy", async () => {
    const settings = { ENCRYPTION_KEYS: [], DATA_DIR: join(directory, "key-file"), NODE_ENV: "development" as const };
    const [key] = await loadEncryptionKeys(settings);
    for (const open of [0o644, 0o640, 0o604]) {
      chmodSync(join(settings.DATA_DIR, "encryption-key"), open);
      await assert.rejects(loadEncryptionKeys(settings), { code: "config", message: /chmod 600 .*encryption-key/ });
    }
    chmodSync(join(settings.DATA_DIR, "encryption-key"), 0o600);
    assert.equal((await loadEncryptionKeys(settings))[0]?.key.reveal(), key?.key.reveal());
  });

  test("one key under two names, and a key of zeros in front, are refused", () => {
    const zero = Buffer.alloc(32).toString("base64");
    const [one, other] = [randomBytes(32).toString("base64"), randomBytes(32).toString("base64")];
    // The last character has two bits that do not count.
    const spelled = one.replace(/(.)=$/, (_, last: string) => `${String.fromCharCode(last.charCodeAt(0) + 1)}=`);
    assert.deepEqual(Buffer.from(spelled, "base64"), Buffer.from(one, "base64"));
    for (const second of [one, spelled])
      assert.throws(() => readConfig({ ENCRYPTION_KEYS: `a:${one},b:${second}` }), /ENCRYPTION_KEYS.*two ids/);
    assert.throws(() => readConfig({ ENCRYPTION_KEYS: `a:${zero}` }), /ENCRYPTION_KEYS.*zeros/);
    assert.throws(() => readConfig({ ENCRYPTION_KEYS: `a:${zero.replace("A=", "B=")}` }), /ENCRYPTION_KEYS.*zeros/);
    assert.equal(
      readConfig({ ENCRYPTION_KEYS: `b:${other},a:${zero}` }).ENCRYPTION_KEYS.length,
      2,
      "it may still decrypt",
    );
  });

  test("secrets are read from files, and what is wrong with a file is said", () => {
    const file = (text: string, fileMode = 0o600) => {
      const path = join(directory, randomUUID());
      writeFileSync(path, text, { mode: fileMode });
      return path;
    };
    const key = `k1:${randomBytes(32).toString("base64")}`;
    const given = { API_TOKENS_FILE: file("one-token-of-16-chars\n"), ENCRYPTION_KEYS_FILE: file(`${key}\n`) };
    const config = readConfig({ ...given, REDIS_URL_FILE: file("redis://a"), REDIS_PASSWORD_FILE: file(" p@ss ") });
    assert.equal(config.API_TOKENS[0]?.reveal(), "one-token-of-16-chars");
    assert.equal(`k1:${config.ENCRYPTION_KEYS[0]?.key.reveal()}`, key);
    assert.equal(config.REDIS_URL?.reveal(), "redis://:p%40ss@a");
    assert.equal(readConfig({ ...given, NODE_ENV: "production" }).ENCRYPTION_KEYS.length, 1);
    refused(
      { API_TOKENS_FILE: file("t"), API_TOKENS: "t" },
      /API_TOKENS_FILE must not be set together with API_TOKENS/,
    );
    refused({ API_TOKENS_FILE: join(directory, "none") }, /API_TOKENS_FILE .*none cannot be read \(ENOENT\)/);
    refused({ API_TOKENS_FILE: directory }, /API_TOKENS_FILE .*cannot be read \(EISDIR\)/);
    refused({ API_TOKENS_FILE: file(" \n") }, /API_TOKENS_FILE names an empty file/);
    refused({ API_TOKENS_FILE: file("t", 0o644) }, /API_TOKENS_FILE .*chmod 600/);
    refused({ ENCRYPTION_KEYS_FILE: file("k1:not-a-key") }, /ENCRYPTION_KEYS_FILE must be id:key pairs/);
  });

  test("every setting that becomes a secret is marked as one", () => {
    const source = readFileSync(new URL("../shared/settings.ts", import.meta.url), "utf8");
    const entries = [...source.matchAll(/^ {2}([A-Z_0-9]+): \{([\s\S]*?)^ {2}\},$/gm)].map(
      ([, name = "", text = ""]) => ({
        name,
        isMarked: text.includes("secret: true"),
        isSecret: /\bSecret\b|optionalSecret|secretList|encryptionKeys|crmAccess/.test(text),
      }),
    );
    assert.ok(entries.length >= 10 && entries.length <= Object.keys(SETTINGS).length);
    assert.deepEqual(
      entries.filter(({ isMarked, isSecret }) => isMarked !== isSecret),
      [],
    );
  });
});
