/** The store in Redis: held to the promises of every store, and to those that only a server can break. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { newKey } from "../shared/store/keys.ts";
import { redisStore } from "../shared/store/redis.ts";
import { redisPlace } from "../shared/store/redis-url.ts";
import { vault } from "../shared/store/vault.ts";
import { cursorOf, deliveryOf, mailboxOf, printOf, refOf } from "./promises/samples.ts";
import { storePromises, type StoreSettings } from "./promises/stores.ts";
import { type Redis, redisCommand, startRedis } from "./servers/redis.ts";
import { type RedisGroup, startRedisCluster, startRedisSentinel } from "./servers/redis-groups.ts";
import { eventually } from "./servers/waiting.ts";

const k1 = { id: "k1", key: newKey() };
const k2 = { id: "k2", key: newKey() };

let redis: Redis;
let cluster: RedisGroup;
before(async () => {
  redis = await startRedis({ settings: { appendfsync: "everysec" } });
  cluster = await startRedisCluster();
});
after(async () => {
  await redis.remove();
  await cluster.remove();
});

function open(url: string, settings: Partial<StoreSettings> = {}, prefix: string = randomUUID()) {
  return redisStore({ url, prefix, vault: vault([k1]), windowDays: 7, spoolBytes: 1e9, ...settings });
}

storePromises("redis", (settings) => open(redis.url, settings));
storePromises("redis cluster", (settings) => open(cluster.url, settings));

describe("redis, among several nodes", () => {
  test("two nodes that claim the same messages share them, each message once", async () => {
    const prefix = randomUUID();
    const stores = await Promise.all([open(redis.url, {}, prefix), open(redis.url, {}, prefix)]);
    const refs = Array.from({ length: 200 }, (_, n) => refOf(n + 1));
    const claims = await Promise.all(
      stores.flatMap(({ ledger }) => refs.map(async (ref) => (await ledger.claim("a", [ref], 60_000))[0])),
    );
    assert.equal(claims.filter((claim) => claim === "yours").length, 200);
    assert.equal(claims.filter((claim) => claim === "busy").length, 200);
    const fences = await Promise.all(Array.from({ length: 50 }, (_, n) => stores[n % 2]?.cursors.fence("a")));
    assert.equal(new Set(fences).size, 50);
    const newest = Math.max(...fences.map(Number));
    for (const fence of fences.map(Number)) {
      const advanced = stores[0]?.cursors.advance("a", cursorOf(1), [], fence);
      if (fence === newest) await advanced;
      else await assert.rejects(advanced ?? Promise.resolve(), { code: "conflict" });
    }
    await Promise.all(stores.map((store) => store.close()));
  });

  test("what one node registers, pauses and removes another finds wanted, by reading only what changed", async () => {
    const prefix = randomUUID();
    const [one, two] = [await open(redis.url, {}, prefix), await open(redis.url, {}, prefix)];
    const a = await one.mailboxes.put(mailboxOf("a"));
    const b = await one.mailboxes.put(mailboxOf("b"));
    assert.deepEqual(await two.mailboxes.wanted(), [
      { id: "a", revision: 1 },
      { id: "b", revision: 1 },
    ]);
    assert.equal(await two.mailboxes.wanted(), await two.mailboxes.wanted(), "the same answer while nothing changed");
    await one.mailboxes.put({ ...a, paused: true });
    await one.mailboxes.put({ ...b, name: "B" });
    await one.mailboxes.put(mailboxOf("c"));
    await one.mailboxes.remove("c");
    assert.deepEqual(await two.mailboxes.wanted(), [{ id: "b", revision: 2 }]);
    await one.mailboxes.remove("b");
    await one.mailboxes.put(mailboxOf("b"));
    assert.deepEqual(await two.mailboxes.wanted(), [{ id: "b", revision: 1 }]);
    await Promise.all([one.close(), two.close()]);
  });

  test("a mailbox whose registration was cut short before the indexes is found by the next look", async () => {
    const prefix = randomUUID();
    const store = await open(redis.url, {}, prefix);
    await store.mailboxes.put(mailboxOf("a"));
    const all = `${prefix}:{*}:`;
    for (const key of ["ids", "addresses", "registry", "states", "changes"]) await redis.command("DEL", all + key);
    await redis.command("ZADD", `${all}touched`, "1", "a");
    assert.deepEqual(await store.mailboxes.wanted(), [{ id: "a", revision: 1 }]);
    assert.equal((await store.mailboxes.list({ limit: 10 })).total, 1);
    await store.close();
  });

  test("an index that a crash left behind is mended: every delivery that waits is found, no room stays reserved", async () => {
    const prefix = randomUUID();
    const store = await open(redis.url, {}, prefix);
    await store.deliveries.save(deliveryOf("d", { state: "retrying" }), Buffer.from("raw"));
    await store.deliveries.save(deliveryOf("e", { state: "parked" }), Buffer.from("raw"));
    const before = await store.deliveries.counts();
    // Announced and never written; written and never taken out of the index.
    await store.deliveries.save(deliveryOf("f", { state: "parked" }), Buffer.from("raw"));
    await redis.command("HDEL", `${prefix}:{a}:deliveries`, "f");
    const key = String(await redis.command("ZRANGE", `${prefix}:{*}:deliveries:parked`, "0", "0"));
    await redis.command("ZADD", `${prefix}:{*}:deliveries:retrying`, "0", key);
    await store.trim(new Date());
    assert.deepEqual(await store.deliveries.counts(), before);
    await store.close();
  });
});

describe("redis, when things fail", () => {
  test("kill -9 with an append-only file loses nothing that was acknowledged", async () => {
    const server = await startRedis();
    const store = await open(server.url);
    const fence = await store.cursors.fence("a");
    let acknowledged = 0;
    let running = true;
    const writing = (async () => {
      for (let uid = 1; running; uid++) {
        await store.ledger.claim("a", [refOf(uid)], 60_000);
        await store.ledger.identify("a", refOf(uid), printOf(uid), 60_000);
        await store.deliveries.save(deliveryOf(`d${uid}`, { ref: refOf(uid), state: "parked" }), randomBytes(500));
        await store.cursors.advance("a", cursorOf(uid), [refOf(uid)], fence);
        acknowledged = uid;
      }
    })();
    await eventually(() => acknowledged >= 50, "50 messages");
    await server.kill();
    await assert.rejects(writing, { code: "store", retry: "later" });
    running = false;
    await server.start();
    await eventually(
      () =>
        store.ping().then(
          () => true,
          () => false,
        ),
      "the connection to come back",
    );
    const [cursor] = await store.cursors.read("a");
    assert.ok(cursor && cursor.uid >= acknowledged);
    for (const uid of [1, acknowledged]) {
      assert.equal((await store.deliveries.raw(`d${uid}`))?.byteLength, 500);
      assert.deepEqual(await store.ledger.claim("a", [refOf(uid)], 1), ["done"]);
      const copy = refOf(uid, { folder: "Done" });
      assert.equal((await store.ledger.identify("a", copy, printOf(uid), 1)).kind, "duplicate");
    }
    const { parked } = await store.deliveries.counts();
    assert.ok(parked >= acknowledged && parked <= acknowledged + 1);
    await store.close();
    await server.remove();
  });

  test("a server that hangs or is away is a problem for later, in time, and the connection comes back by itself", async () => {
    const server = await startRedis();
    const store = await open(server.url);
    await server.pause();
    await assert.rejects(store.ping(), { code: "store", retry: "later" });
    await server.resume();
    await store.ping();
    await server.stop();
    await assert.rejects(store.ping(), { code: "store", retry: "later" });
    await server.start();
    await eventually(
      () =>
        store.ping().then(
          () => true,
          () => false,
        ),
      "the connection to come back",
    );
    await store.close();
    await server.remove();
  });

  test("when Redis was emptied, that is said once, and what is registered then is wanted again", async () => {
    const server = await startRedis();
    const store = await open(server.url);
    await store.mailboxes.put(mailboxOf("a"));
    const old = await store.cursors.fence("a");
    assert.equal((await store.mailboxes.wanted()).length, 1);
    await server.command("FLUSHALL");
    await assert.rejects(store.mailboxes.wanted(), { code: "store", message: /was emptied or replaced/ });
    assert.deepEqual(await store.mailboxes.wanted(), []);
    await store.mailboxes.put(mailboxOf("b"));
    assert.deepEqual(await store.mailboxes.wanted(), [{ id: "b", revision: 1 }]);
    assert.ok((await store.cursors.fence("a")) > old, "fences grow over an emptied Redis");
    await store.close();
    await server.remove();
  });

  test("writes go on after Sentinel has made the replica master, to the new master", async () => {
    const group = await startRedisSentinel();
    const store = await open(group.url);
    await store.mailboxes.put(mailboxOf("before"));
    const [master, replica] = group.members;
    const replicated = async () => String(await redisCommand(replica?.url ?? "", ["DBSIZE"])) !== "0";
    await eventually(replicated, "the replica to have it");
    await master?.program.kill();
    await eventually(
      () =>
        store.mailboxes.put(mailboxOf("after")).then(
          () => true,
          () => false,
        ),
      "a write after the fail-over",
      20_000,
      200,
    );
    assert.ok(await store.mailboxes.get("before"));
    assert.ok(await store.mailboxes.get("after"));
    assert.match(String(await redisCommand(replica?.url ?? "", ["ROLE"])), /^master/);
    await store.close();
    await group.remove();
  });
});

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

  test("a server that keeps nothing over a restart is warned of", async () => {
    const server = await startRedis({ appendOnly: false, password: "p@ss:word/" });
    const store = await open(server.url);
    assert.match(store.warnings.join(), /keeps nothing over a restart: set appendonly yes/);
    assert.match(store.description, /^redis redis:\/\/127\.0\.0\.1:\d+, prefix .*keeps nothing/);
    assert.doesNotMatch(store.description, /p@ss|word/);
    await store.close();
    await server.remove();
  });

  test("no answer, a wrong password and an unreadable URL are clear problems without the password", async () => {
    const server = await startRedis({ password: "right" });
    const wrong = `redis://:wrong-one@127.0.0.1:${server.port}`;
    await assert.rejects(open(wrong), (error: unknown) => {
      assert.ok(error instanceof Problem && error.code === "config");
      assert.match(error.message, /WRONGPASS/);
      assert.doesNotMatch(error.message, /wrong-one/);
      return true;
    });
    await server.remove();
    for (const url of ["http://x", "redis://", "redis://a,b", "redis+sentinel://a:1,b:2", "redis://a/x"]) {
      assert.throws(() => redisPlace(url), { code: "config", message: /^REDIS_URL cannot be read/ }, url);
    }
    const { password, ...place } = redisPlace("rediss+sentinel://me:p%40ss@a,[::1]:7000/main/3");
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
      shown: "rediss+sentinel://a,[::1]:7000/main/3",
    });
  });

  test("a wrong key and a missing key are found at the start, and a new one in front takes over", async () => {
    const prefix = randomUUID();
    const first = await open(redis.url, {}, prefix);
    const put = await first.mailboxes.put(mailboxOf("a"));
    await first.close();
    const wrong = vault([{ id: "k1", key: newKey() }]);
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
    const state = (await put(store)).state;
    for (let n = 0; n < 100_000; n += 10_000) {
      const args = [`${prefix}:{*}:`, `${n}`, `${n + 9_999}`, JSON.stringify({ ...state, status: "listening" })];
      await redis.command("EVAL", script, "1", ...args);
    }
    assert.equal((await other.mailboxes.wanted()).length, 100_001);
    await other.mailboxes.put({ ...(await put(store, "one-more")).mailbox, paused: true });
    assert.equal((await other.mailboxes.wanted()).length, 100_001);
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
    const slowest = String(await redis.command("SLOWLOG", "GET", "128"));
    assert.doesNotMatch(slowest, /zrangebylex|zrangebyscore|hmget|zlexcount/i, "no page keeps others waiting");
    await Promise.all([store.close(), other.close()]);
  });

  test("a delivered message costs at most 32 bytes of Redis' memory over the window", async () => {
    const server = await startRedis({ appendOnly: false });
    const store = await open(server.url);
    const used = async () => Number(/used_memory:(\d+)/.exec(String(await server.command("INFO", "memory")))?.[1]);
    const deliver = async (mailbox: string, uid: number) => {
      const ref = refOf(uid);
      await store.ledger.identify(mailbox, ref, randomBytes(16).toString("hex"), 60_000);
      await store.deliveries.save(deliveryOf(randomUUID(), { mailbox, ref }));
    };
    const many = async (mailboxes: number, first: number, count: number) => {
      for (let uid = first; uid < first + count / mailboxes; uid += 25) {
        const mails = Array.from({ length: mailboxes * 25 }, (_, n) =>
          deliver(`m${n % mailboxes}`, uid + Math.floor(n / mailboxes)),
        );
        await Promise.all(mails);
      }
    };
    // First until the lists of the last delivered records are full: those do not grow any more.
    await many(20, 1, 5_000);
    for (let n = 0; n < 20; n++)
      await store.cursors.advance(`m${n}`, cursorOf(1_000_000), [], await store.cursors.fence(`m${n}`));
    const before = await used();
    await many(20, 1_000, 100_000);
    const bytes = ((await used()) - before) / 100_000;
    assert.ok(bytes > 10 && bytes <= 32, `${bytes} bytes`);
    await store.close();
    await server.remove();
  });
});

async function put(store: Awaited<ReturnType<typeof open>>, id = "template") {
  await store.mailboxes.put(mailboxOf(id));
  const found = await store.mailboxes.get(id);
  assert.ok(found);
  return found;
}
