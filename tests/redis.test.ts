/** The store in Redis: held to the promises of every store, and to those that only a server can break. */
import assert from "node:assert/strict";
import { randomBytes, randomUUID } from "node:crypto";
import { connect, createServer, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { redisConnection } from "../shared/store/redis/connection/client.ts";
import { initialState } from "../shared/store/store.ts";
import { redisStore } from "../shared/store/redis/store.ts";
import { vault } from "../shared/store/vault.ts";
import { cursorOf, deliveryOf, mailboxOf, printOf, refOf } from "./promises/samples.ts";
import { storePromises, type StoreSettings } from "./promises/stores.ts";
import { listenOn } from "./servers/ports.ts";
import { type Redis, redisCommand, startRedis } from "./servers/redis.ts";
import { type RedisGroup, startRedisCluster, startRedisSentinel } from "./servers/redis-groups.ts";
import { eventually } from "./servers/waiting.ts";

const k1 = { id: "k1", key: generateEncryptionKey() };

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

// Redis has a clock of its own, which nobody can move.
storePromises("redis", (settings) => open(redis.url, settings), sleep);
// A cluster divides the keys: that is the same on every runtime.
if ("bun" in process.versions) storePromises("redis cluster", (settings) => open(cluster.url, settings), sleep);

/** The state of a mailbox that got mail in this minute. */
const arrivedAt = (minute: number) => ({
  ...initialState({ paused: false }),
  lastArrivalAt: new Date(Date.UTC(2026, 10, 30, 12, minute)).toISOString(),
});

describe("redis, among several nodes", () => {
  test("the order by last mail is right again after a node wrote states without it", async () => {
    const store = await open(redis.url, {}, "ordered");
    for (const [n, id] of ["a", "b", "c"].entries()) await store.mailboxes.put(mailboxOf(id), arrivedAt(n));
    const list = async () =>
      (await store.orderedMailboxes.list({ order: "lastMail", limit: 9 })).map(({ id }) => id).join("");
    assert.equal(await list(), "cba");
    await store.redis.send("del", ["ordered:{*}:arrivals"]);
    assert.equal(await list(), "cba", "as in a store of an older version");
    await store.redis.send("hset", ["ordered:{*}:states", "a", `initializing ${JSON.stringify(arrivedAt(9))}`]);
    await store.redis.send("zadd", ["ordered:{*}:arrivals", 0, "2026-11-30T12:59:00.000Z\0gone"]);
    await list();
    assert.equal(await list(), "acb");
    await store.close();
  });

  test("two nodes that claim the same messages share them, each message once", async () => {
    const prefix = randomUUID();
    const stores = await Promise.all([open(redis.url, {}, prefix), open(redis.url, {}, prefix)]);
    const refs = Array.from({ length: 200 }, (_, n) => refOf(n + 1));
    const claims = await Promise.all(
      stores.flatMap(({ ledger }) => refs.map(async (ref) => (await ledger.claim("a", [ref], 60_000))[0])),
    );
    assert.equal(claims.filter((claim) => claim === "yours").length, 200);
    assert.equal(claims.filter((claim) => claim === "busy").length, 200);
    const fences = await Promise.all(Array.from({ length: 50 }, (_, n) => stores[n % 2]?.cursors.issueFence("a")));
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
    assert.deepEqual(await two.mailboxes.listEnabled(), [
      { id: "a", revision: 1 },
      { id: "b", revision: 1 },
    ]);
    assert.equal(
      await two.mailboxes.listEnabled(),
      await two.mailboxes.listEnabled(),
      "the same answer while nothing changed",
    );
    await one.mailboxes.put({ ...a, paused: true });
    await one.mailboxes.put({ ...b, name: "B" });
    await one.mailboxes.put(mailboxOf("c"));
    await one.mailboxes.remove("c");
    assert.deepEqual(await two.mailboxes.listEnabled(), [{ id: "b", revision: 2 }]);
    await one.mailboxes.remove("b");
    await one.mailboxes.put(mailboxOf("b"));
    assert.deepEqual(await two.mailboxes.listEnabled(), [{ id: "b", revision: 1 }]);
    await Promise.all([one.close(), two.close()]);
  });

  test("a mailbox whose registration was cut short before the indexes is found by the next look", async () => {
    const prefix = randomUUID();
    const store = await open(redis.url, {}, prefix);
    await store.mailboxes.put(mailboxOf("a"));
    const all = `${prefix}:{*}:`;
    for (const key of ["ids", "addresses", "registry", "states", "changes"]) await redis.command("DEL", all + key);
    await redis.command("ZADD", `${all}touched`, "1", "a");
    assert.deepEqual(await store.mailboxes.listEnabled(), [{ id: "a", revision: 1 }]);
    assert.equal((await store.mailboxes.list({ limit: 10 })).total, 1);
    await store.close();
  });

  test("a mailbox whose pause was cut short before the indexes is found as paused, with its last mail", async () => {
    const prefix = randomUUID();
    const store = await open(redis.url, {}, prefix);
    const one = await store.mailboxes.put(mailboxOf("a"));
    const state = { ...arrivedAt(5), status: "listening" as const };
    await store.mailboxes.saveStates([{ id: "a", revision: 1, state }]);
    const all = `${prefix}:{*}:`;
    const index = new Map<string, string>();
    for (const key of ["registry", "states"]) index.set(key, String(await redis.command("HGET", all + key, "a")));
    await store.mailboxes.put({ ...one, paused: true }, { ...state, status: "paused" });
    // As the process left it that ended between the mailbox and its index.
    for (const [key, value] of index) await redis.command("HSET", all + key, "a", value);
    await redis.command("ZREM", `${all}status:paused`, "a");
    await redis.command("ZADD", `${all}status:listening`, "0", "a");
    await redis.command("ZADD", `${all}touched`, "1", "a");
    assert.deepEqual(await store.mailboxes.listEnabled(), []);
    const { total, items } = await store.mailboxes.list({ status: "paused", limit: 10 });
    assert.equal(total, 1);
    assert.deepEqual([items[0]?.state.status, items[0]?.state.lastArrivalAt], ["paused", state.lastArrivalAt]);
    assert.equal((await store.mailboxes.list({ status: "listening", limit: 10 })).total, 0);
    await store.close();
  });

  test("an index that a crash left behind is mended: every delivery that waits is found, no room stays reserved", async () => {
    const prefix = randomUUID();
    const store = await open(redis.url, {}, prefix);
    await store.deliveries.save(deliveryOf("d", { state: "retrying" }), Buffer.from("raw"));
    await store.deliveries.save(deliveryOf("e", { state: "parked" }), Buffer.from("raw"));
    const counts = await store.deliveries.getCounts();
    // Announced and never written; written and never taken out of the index.
    await store.deliveries.save(deliveryOf("f", { state: "parked" }), Buffer.from("raw"));
    await redis.command("HDEL", `${prefix}:{a}:deliveries`, "f");
    const key = String(await redis.command("ZRANGE", `${prefix}:{*}:deliveries:parked`, "0", "0"));
    await redis.command("ZADD", `${prefix}:{*}:deliveries:retrying`, "0", key);
    await store.trim(new Date());
    assert.deepEqual(await store.deliveries.getCounts(), counts);
    await store.close();
  });
});

describe("redis, when things fail", () => {
  test("kill -9 with an append-only file loses nothing that was acknowledged", async () => {
    const server = await startRedis();
    const store = await open(server.url);
    const fence = await store.cursors.issueFence("a");
    let acknowledged = 0;
    const writing = (async () => {
      for (let uid = 1; ; uid++) {
        await store.ledger.claim("a", [refOf(uid)], 60_000);
        await store.ledger.identify("a", refOf(uid), printOf(uid), 60_000);
        await store.deliveries.save(deliveryOf(`d${uid}`, { ref: refOf(uid), state: "parked" }), randomBytes(500));
        await store.cursors.advance("a", cursorOf(uid), [refOf(uid)], fence);
        acknowledged = uid;
      }
    })();
    writing.catch(() => undefined);
    await eventually(() => acknowledged >= 50, "50 messages");
    await server.kill();
    await assert.rejects(writing, { code: "store", retry: "later" });
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
      assert.equal((await store.deliveries.getRaw(`d${uid}`))?.byteLength, 500);
      assert.deepEqual(await store.ledger.claim("a", [refOf(uid)], 1), ["done"]);
      const copy = refOf(uid, { folder: "Done" });
      assert.equal((await store.ledger.identify("a", copy, printOf(uid), 1)).kind, "duplicate");
    }
    const { parked } = await store.deliveries.getCounts();
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

  test("a subscription that breaks while it is made again is made once more, and harms nothing else", async () => {
    const server = await startRedis();
    let made = 0;
    const sockets = new Set<Socket>();
    const line = createServer((client) => {
      const upstream = connect(server.port, server.host);
      client.on("data", (bytes) => {
        if (bytes.includes("subscribe") && ++made === 2) client.destroy();
        else upstream.write(bytes);
      });
      upstream.on("data", (bytes) => client.write(bytes));
      for (const [one, other] of [[client, upstream] as const, [upstream, client] as const]) {
        sockets.add(one);
        one.on("error", () => undefined).on("close", () => other.destroy());
      }
    });
    const port = await listenOn(line, 0);
    const connection = await redisConnection(`redis://127.0.0.1:${port}`);
    const heard: string[] = [];
    await connection.subscribe("news", (message) => heard.push(message));
    for (const socket of sockets) socket.destroy();
    await eventually(() => made >= 3, "the third subscription");
    await eventually(async () => {
      await server.command("PUBLISH", "news", "hello");
      return heard.includes("hello");
    }, "the news");
    await connection.close();
    line.close();
    await server.remove();
  });

  test("when Redis was emptied, that is said once, and what is registered then is wanted again", async () => {
    const server = await startRedis();
    const store = await open(server.url);
    await store.mailboxes.put(mailboxOf("a"));
    const old = await store.cursors.issueFence("a");
    assert.equal((await store.mailboxes.listEnabled()).length, 1);
    await server.command("FLUSHALL");
    await assert.rejects(store.mailboxes.listEnabled(), { code: "store", message: /was emptied or replaced/ });
    assert.deepEqual(await store.mailboxes.listEnabled(), []);
    await store.mailboxes.put(mailboxOf("b"));
    assert.deepEqual(await store.mailboxes.listEnabled(), [{ id: "b", revision: 1 }]);
    assert.ok((await store.cursors.issueFence("a")) > old, "fences grow over an emptied Redis");
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
