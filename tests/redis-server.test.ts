/** The store in Redis: what is checked about a server before it is trusted, and how it bears size. */
import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisScript } from "../shared/store/redis/connection/script.ts";
import { LUA_FINGERPRINTS, fingerprintWindow } from "../shared/store/redis/fingerprints.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { parseRedisUrl } from "../shared/store/redis/connection/url.ts";
import { vault } from "../shared/store/vault.ts";
import { mailboxOf, refOf } from "./promises/samples.ts";
import type { StoreSettings } from "./promises/stores.ts";
import { type Redis, startRedis } from "./servers/redis.ts";
import { LUA_CLOCK, LUA_LEDGER } from "../shared/store/redis/lua.ts";

const k1 = { id: "k1", key: generateEncryptionKey() };
const k2 = { id: "k2", key: generateEncryptionKey() };

let redis: Redis;
before(async () => {
  redis = await startRedis({ settings: { appendfsync: "everysec" } });
});
after(() => redis.remove());

function open(url: string, settings: Partial<StoreSettings> = {}, prefix: string = randomUUID()) {
  return redisStore({ url, prefix, vault: vault([k1]), windowDays: 7, spoolBytes: 1e9, ...settings });
}

describe("redis, before it is trusted", () => {
  test("a server that drops keys when memory runs out is refused, with the way to mend it", async () => {
    const server = await startRedis({ settings: { "maxmemory-policy": "allkeys-lru" } });
    await assert.rejects(open(server.url), {
      code: "config",
      message: /allkeys-lru.*CONFIG SET maxmemory-policy noeviction/,
    });
    await server.command("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-config");
    const limited = `redis://limited:pw@127.0.0.1:${server.port}`;
    await assert.rejects(open(limited), { code: "config", message: /allkeys-lru/ }, "also where CONFIG is forbidden");
    await server.command("CONFIG", "SET", "maxmemory-policy", "noeviction");
    const store = await open(limited);
    assert.deepEqual(store.warnings, []);
    await store.close();
    await server.remove();
  });

  test("a server that forgets everything at a restart is warned of", async () => {
    const server = await startRedis({ appendOnly: false, password: "p@ss:word/" });
    const store = await open(server.url);
    assert.match(store.warnings.join(), /forgets everything at a restart: set appendonly yes/);
    assert.match(store.description, /^redis redis:\/\/127\.0\.0\.1:\d+, prefix .*forgets everything/);
    assert.doesNotMatch(store.description, /p@ss|word/);
    await store.close();
    await server.remove();
  });

  test("no answer, a wrong password, a database that does not exist and an unreadable URL are clear problems without the password", async () => {
    const server = await startRedis({ password: "right" });
    const wrong = `redis://:wrong-one@127.0.0.1:${server.port}`;
    await assert.rejects(open(wrong), (error: unknown) => {
      assert.ok(error instanceof Problem && error.code === "config");
      assert.match(error.message, /WRONGPASS/);
      assert.doesNotMatch(error.message, /wrong-one/);
      return true;
    });
    const missing = `redis://:right@127.0.0.1:${server.port}/16`;
    await assert.rejects(open(missing), { code: "config", message: /does not give the database at the end/ });
    await server.remove();
    for (const url of ["http://x", "redis://", "redis://a,b", "redis+sentinel://a:1,b:2", "redis://a/x"]) {
      assert.throws(() => parseRedisUrl(url), { code: "config", message: /^REDIS_URL cannot be read/ }, url);
    }
    const { password, ...place } = parseRedisUrl("rediss+sentinel://me:p%40ss@a,[::1]:7000/main/3");
    assert.equal(password?.reveal(), "p@ss");
    assert.deepEqual(place, {
      kind: "sentinel",
      tls: true,
      hosts: [
        { host: "a", port: 26379 },
        { host: "::1", port: 7000 },
      ],
      user: "me",
      master: "main",
      db: 3,
      displayUrl: "rediss+sentinel://a,[::1]:7000/main/3",
    });
  });

  test("a wrong key and a missing key are found at the start, and a new one in front takes over", async () => {
    const prefix = randomUUID();
    const first = await open(redis.url, {}, prefix);
    const put = await first.mailboxes.put(mailboxOf("a"));
    await first.close();
    const wrong = vault([{ id: "k1", key: generateEncryptionKey() }]);
    await assert.rejects(open(redis.url, { vault: wrong }, prefix), { code: "config", message: /"k1" is not the one/ });
    await assert.rejects(open(redis.url, { vault: vault([k2]) }, prefix), {
      code: "config",
      message: /"k1" is missing/,
    });
    await (await open(redis.url, { vault: vault([k2, k1]) }, prefix)).close();
    const later = await open(redis.url, { vault: vault([k2]) }, prefix);
    assert.deepEqual((await later.mailboxes.get("a"))?.mailbox, put);
    await later.close();
    await assert.rejects(open(redis.url, {}, prefix), /"k2" is missing/);
    const dump = String(await redis.command("HGETALL", `${prefix}:{a}:mailbox`));
    assert.match(dump, /imap\.example\.com/);
    assert.doesNotMatch(dump, /password-of-|whsec_/);
  });
});

describe("redis, at size", () => {
  test("100,000 mailboxes are registered, paged through, filtered and wanted", async () => {
    const prefix = randomUUID();
    const [store, other] = [await open(redis.url, {}, prefix), await open(redis.url, {}, prefix)];
    // Registered by a script that writes what `put` does to the indexes, because 100,000 puts take a minute; their documents are left out.
    const script = `
      local function key(name) return KEYS[1] .. name end
      for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
        local id = string.format('m%06d', n)
        redis.call('ZADD', key('ids'), 0, id)
        redis.call('ZADD', key('addresses'), 0, id .. '@example.com\\0' .. id)
        redis.call('HSET', key('registry'), id, n + 1 .. ' 1 0 ' .. id .. '@example.com')
        redis.call('HSET', key('states'), id, 'listening ' .. ARGV[3])
        redis.call('ZADD', key('status:listening'), 0, id)
        redis.call('ZADD', key('changes'), n + 1, id)
      end`;
    const state = (await registered(store)).state;
    for (let n = 0; n < 100_000; n += 10_000) {
      const args = [`${prefix}:{*}:`, `${n}`, `${n + 9_999}`, JSON.stringify({ ...state, status: "listening" })];
      await redis.command("EVAL", script, "1", ...args);
    }
    assert.equal((await other.mailboxes.listEnabled()).length, 100_001);
    await other.mailboxes.put({ ...(await registered(store, "one-more")).mailbox, paused: true });
    assert.equal((await other.mailboxes.listEnabled()).length, 100_001);
    assert.equal((await store.mailboxes.list({ limit: 1 })).total, 100_002);
    assert.equal((await store.mailboxes.list({ limit: 1, status: "listening" })).total, 100_000);
    let pages = 0;
    for (let cursor: string | null = ""; cursor !== null; pages++) {
      const page = await store.mailboxes.list({ limit: 1_000, ...(cursor && { cursor }) });
      cursor = page.next;
    }
    assert.equal(pages, 101);
    const found = await store.mailboxes.list({ limit: 10, address: "M000007@example.com" });
    assert.equal(found.total, 1);
    const used = String(await redis.command("INFO", "commandstats"));
    assert.doesNotMatch(used, /cmdstat_(keys|scan|smembers|hvals|sort)\b/, "nothing that walks over everything");
    await Promise.all([store.close(), other.close()]);
  });

  test("a delivered message costs at most 32 bytes of Redis' memory over the window", async () => {
    const server = await startRedis({ appendOnly: false });
    const prefix = randomUUID();
    const store = await open(server.url, {}, prefix);
    const used = async () => Number(/used_memory:(\d+)/.exec(String(await server.command("INFO", "memory")))?.[1]);
    // What a saved delivery leaves in the ledger, by the ledger's own words, for 100,000 messages in a moment. (The last 200
    // delivered records of each mailbox are kept besides; they do not grow with what is delivered.)
    const script = redisScript(
      LUA_CLOCK,
      LUA_LEDGER,
      LUA_FINGERPRINTS,
      "for n = 1, 5000 do remember(redis.sha1hex(ARGV[3] .. n):sub(1, 32), 'INBOX', '1', ARGV[4] + n) end",
    );
    const fill = async (round: number) => {
      const window = fingerprintWindow(7).scriptArguments();
      for (let n = 0; n < 20; n++)
        await store.redis.run(script, `${prefix}:{m${n}}:`, [...window, `${round}-`, round * 5_000]);
    };
    const start = await used();
    await fill(1);
    const bytes = ((await used()) - start) / 100_000;
    assert.ok(bytes > 10 && bytes <= 32, `${bytes} bytes`);
    for (const n of [1, 383, 384, 385, 3_000, 5_000]) {
      const print = createHash("sha1").update(`1-${n}`).digest("hex").slice(0, 32);
      const moved = refOf(1, { folder: "Done" });
      assert.equal((await store.ledger.identify("m7", moved, print, 1)).kind, "duplicate", `${n}`);
      assert.deepEqual(await store.ledger.identify("m7", refOf(5_000 + n), print, 1), {
        kind: "duplicate",
        sharesContent: false,
      });
    }
    await store.close();
    await server.remove();
  });
});

async function registered(store: Awaited<ReturnType<typeof open>>, id = "template") {
  await store.mailboxes.put(mailboxOf(id));
  const found = await store.mailboxes.get(id);
  assert.ok(found);
  return found;
}
