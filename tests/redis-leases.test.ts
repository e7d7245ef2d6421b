/** Leases among several nodes over Redis: held to the promises of all leases, and to those that only several nodes can break. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, before, describe, test } from "node:test";
import type { Lease } from "../api/lease/lease.ts";
import { redisClusterEvents } from "../shared/nodes/cluster-events.ts";
import { redisLeases } from "../api/lease/redis.ts";
import { fairShare } from "../api/lease/fair-share.ts";
import { type NodeDescription, redisHeartbeats } from "../shared/nodes/heartbeats.ts";
import { redisConnection } from "../shared/store/redis/connection/client.ts";
import { redisCursors } from "../shared/store/redis/cursors.ts";
import { redisKeys } from "../shared/store/redis/keys.ts";
import { leasePromises } from "./promises/leases.ts";
import { cursorOf } from "./promises/samples.ts";
import { type Redis, startRedis } from "./servers/redis.ts";
import { eventually } from "./servers/waiting.ts";

const TTL_MS = 1_500;
const never = new AbortController().signal;

let redis: Redis;
before(async () => {
  redis = await startRedis({ settings: { appendfsync: "everysec" } });
});
after(() => redis.remove());

type NodeOptions = Partial<NodeDescription> & { ttlMs?: number; prefix?: string };

/** A node with its sessions and leases at work. `end` stops it in order, `crash` cuts it off. */
async function startNode(options: NodeOptions = {}, server = redis) {
  const { ttlMs = TTL_MS, prefix = randomUUID(), ...about } = options;
  const connection = await redisConnection(server.url);
  const keys = redisKeys(prefix);
  const news = await redisClusterEvents(connection, keys);
  const reports: unknown[] = [];
  const sessions = redisHeartbeats({
    redis: connection,
    keys,
    clusterEvents: news,
    ttlMs,
    describe: () => ({
      role: "api",
      name: "node",
      version: "1",
      startedAt: "2026-01-01T00:00:00.000Z",
      mailboxes: 0,
      capacity: 1000,
      ...about,
    }),
    report: (problem) => reports.push(problem),
  });
  const leases = redisLeases({ redis: connection, keys, news, sessions });
  const [stop, over] = [new AbortController(), new AbortController()];
  const stopped = leases.run(stop.signal);
  const ended = sessions.run(over.signal);
  await sessions.awaitSession(never);
  return {
    sessions,
    leases,
    reports,
    connection,
    cursors: redisCursors(connection, keys),
    async end() {
      stop.abort();
      await stopped;
      over.abort();
      await ended;
      await connection.close();
    },
    async crash() {
      await connection.close();
      stop.abort();
      over.abort();
      await Promise.all([stopped, ended]);
    },
  };
}

type TestNode = Awaited<ReturnType<typeof startNode>>;

async function withNodes(options: NodeOptions[], use: (...nodes: TestNode[]) => Promise<void>): Promise<void> {
  const prefix = randomUUID();
  const nodes = await Promise.all(options.map((one, n) => startNode({ prefix, name: `node-${n}`, ...one })));
  try {
    await use(...nodes);
  } finally {
    await Promise.all(nodes.map((node) => node.end()));
  }
}

/** Holds until let go or until the lease ends; says when it holds, and for how long it did. */
function holder(node: TestNode, key: string, signal: AbortSignal = never) {
  const go = Promise.withResolvers<void>();
  const state: { lease: Lease | undefined; lostAt: number } = { lease: undefined, lostAt: 0 };
  const held = node.leases.hold(
    key,
    async (lease) => {
      state.lease = lease;
      assert.equal(lease.signal.aborted, false);
      lease.signal.addEventListener("abort", () => {
        state.lostAt = performance.now();
        go.resolve();
      });
      await go.promise;
    },
    signal,
  );
  held.catch(() => undefined);
  return { state, held, go: () => go.resolve(), holds: () => state.lease !== undefined };
}

leasePromises("leases over redis", async () => {
  const node = await startNode();
  return { leases: node.leases, end: () => node.end() };
});

describe("leases among nodes", () => {
  test("of many nodes that want a mailbox one has it, and the next gets it at once, under a newer fence", () =>
    withNodes([{}, {}, {}], async (...nodes) => {
      const holders = nodes.map((node) => holder(node, "a"));
      const fences: number[] = [];
      for (let round = 0; round < 3; round++) {
        const left = holders.filter(({ state }) => state.lostAt === 0);
        await eventually(() => left.some(({ holds }) => holds()), "an owner", TTL_MS / 2);
        const owners = left.filter(({ holds }) => holds());
        assert.equal(owners.length, 1);
        const [owner] = owners;
        fences.push(owner?.state.lease?.fence ?? 0);
        if (owner) owner.state.lostAt = 1;
        owner?.go();
        await owner?.held;
      }
      assert.deepEqual(
        fences,
        fences.toSorted((a, b) => a - b),
      );
      assert.equal(new Set(fences).size, 3);
    }));

  test("the fence of a lease is the one its cursors ask for, and a former owner's is refused", () =>
    withNodes([{}, {}], async (one, two) => {
      const first = holder(one, "a");
      await eventually(first.holds, "the first owner");
      const old = first.state.lease?.fence ?? 0;
      await one.cursors.advance("a", cursorOf(1), [], old);
      first.go();
      await two.leases.hold("a", ({ fence }) => two.cursors.advance("a", cursorOf(2), [], fence), never);
      await assert.rejects(one.cursors.advance("a", cursorOf(3), [], old), { code: "conflict" });
      assert.equal((await one.cursors.read("a"))[0]?.uid, 2);
    }));

  test("a node that stops hands its mailboxes over at once", async () => {
    const prefix = randomUUID();
    const [one, two] = [await startNode({ prefix, ttlMs: 60_000 }), await startNode({ prefix, ttlMs: 60_000 })];
    const stop = new AbortController();
    const held = Array.from({ length: 20 }, (_, n) => holder(one, `m${n}`, stop.signal));
    await eventually(() => held.every(({ holds }) => holds()), "the first owner of all");
    const next = held.map((_, n) => holder(two, `m${n}`));
    stop.abort(new DOMException("draining", "AbortError"));
    await eventually(() => next.every(({ holds }) => holds()), "the next owner of all", 12_000);
    await one.end();
    for (const { go } of next) go();
    await two.end();
  });

  test("the mailboxes of a crashed node move once its session is over, not before", async () => {
    const prefix = randomUUID();
    const [one, two] = [await startNode({ prefix }), await startNode({ prefix })];
    const held = Array.from({ length: 20 }, (_, n) => holder(one, `m${n}`));
    await eventually(() => held.every(({ holds }) => holds()), "the first owner of all");
    const next = held.map((_, n) => holder(two, `m${n}`));
    await one.crash();
    assert.ok(
      held.every(({ state }) => state.lease?.signal.aborted),
      "the crashed node's own leases are over",
    );
    assert.ok(next.every(({ holds }) => !holds()));
    await eventually(() => next.every(({ holds }) => holds()), "the next owner of all", 2 * TTL_MS + 2_000);
    for (const [n, { state }] of next.entries())
      assert.ok((state.lease?.fence ?? 0) > (held[n]?.state.lease?.fence ?? 0));
    for (const { go } of next) go();
    await two.end();
  });

  test("when Redis hangs, leases end before the session can expire, and come back under a new session", async () => {
    const server = await startRedis();
    const node = await startNode({}, server);
    const one = holder(node, "a");
    await eventually(one.holds, "the owner");
    const { id } = await node.sessions.awaitSession(never);
    // A renewal was answered at this moment at the latest: the session lives for a lifetime from here.
    const pausedAt = performance.now();
    await server.pause();
    await one.held;
    assert.ok(one.state.lostAt > 0 && one.state.lostAt - pausedAt < TTL_MS, "the lease ended in time");
    const again = holder(node, "a");
    await server.resume();
    await eventually(again.holds, "the owner again");
    const session = await node.sessions.awaitSession(never);
    assert.notEqual(session.id, id, "a session is never revived");
    assert.deepEqual(
      (await node.sessions.fetchNodes()).map(({ session: live }) => live),
      [session.id],
    );
    assert.ok((again.state.lease?.fence ?? 0) > (one.state.lease?.fence ?? 0));
    assert.equal(node.reports.length, 1, "said once");
    again.go();
    await node.end();
    await server.remove();
  });

  test("when Redis was emptied, leases end at once and are taken anew", async () => {
    const server = await startRedis();
    const node = await startNode({}, server);
    const one = holder(node, "a");
    await eventually(one.holds, "the owner");
    await server.command("FLUSHALL");
    await one.held;
    const again = holder(node, "a");
    await eventually(again.holds, "the owner again");
    assert.ok((again.state.lease?.fence ?? 0) > (one.state.lease?.fence ?? 0), "fences grow over an empty Redis too");
    again.go();
    await node.end();
    await server.remove();
  });

  test("a record whose owner stopped waiting before the answer came does not keep others out", () =>
    withNodes([{ ttlMs: 60_000 }, { ttlMs: 60_000 }], async (one, two) => {
      for (let round = 0; round < 20; round++) {
        const stop = new AbortController();
        const gone = holder(one, "a", stop.signal);
        await new Promise((resolve) => setTimeout(resolve, round / 10));
        stop.abort(new DOMException("stopping", "AbortError"));
        await gone.held.catch(() => undefined);
      }
      const next = holder(two, "a");
      await eventually(next.holds, "the other owner", 12_000);
      next.go();
      await next.held;
    }));

  test("all live nodes are listed with what they say of themselves, workers too", () =>
    withNodes([{ mailboxes: 7 }, { role: "worker", capacity: 0 }], async (one, two) => {
      const nodes = await one.sessions.fetchNodes();
      assert.deepEqual(nodes.map(({ name, role, mailboxes }) => [name, role, mailboxes]).toSorted(), [
        ["node-0", "api", 7],
        ["node-1", "worker", 0],
      ]);
      await eventually(() => two.sessions.getCached().nodes.length === 2, "the news of the other node");
    }));

  test("three nodes that join and leave share the mailboxes, each with one owner, none left out", async () => {
    const prefix = randomUUID();
    const ids = Array.from({ length: 120 }, (_, n) => `m${n}`);
    const start = async (name: string) => listener(await startNode({ prefix, name }), ids);
    const listeners = [await start("node-0")];
    const spread = () => listeners.map(({ owned }) => owned.size);
    const shared = () => {
      const all = listeners.flatMap(({ owned }) => [...owned]);
      return all.length === ids.length && new Set(all).size === ids.length && spread().every((n) => n > 0);
    };
    await eventually(shared, "one node to own all");
    for (const name of ["node-1", "node-2"]) {
      listeners.push(await start(name));
      await eventually(() => shared() && Math.min(...spread()) > 20, `${name} to have its share`);
    }
    await listeners.pop()?.end();
    await eventually(shared, "the others to take over");
    await listeners.pop()?.crash();
    await eventually(shared, "the last one to take over");
    await listeners.pop()?.end();
  });
});

/** Listens as the subscriptions do: looks what is its own, begins and ends holding. */
function listener(node: TestNode, ids: string[]) {
  const share = fairShare({ cluster: node.sessions.getCached, releasesPerSecond: 100 });
  const held = new Map<string, AbortController>();
  const owned = new Set<string>();
  const hold = async (id: string, stop: AbortController) => {
    while (!stop.signal.aborted) {
      await node.leases
        .hold(id, (lease) => whileHeld(lease, () => owned.add(id)).finally(() => owned.delete(id)), stop.signal)
        .catch(() => undefined);
    }
  };
  const look = () => {
    const { mine } = share.assign(ids, new Set(held.keys()));
    for (const [id, stop] of held)
      if (!mine.has(id)) {
        stop.abort(new DOMException("not mine", "AbortError"));
        held.delete(id);
      }
    for (const id of mine) {
      if (held.has(id)) continue;
      const stop = new AbortController();
      held.set(id, stop);
      void hold(id, stop);
    }
  };
  const timer = setInterval(look, 50);
  const letGo = () => {
    clearInterval(timer);
    for (const stop of held.values()) stop.abort(new DOMException("stopping", "AbortError"));
  };
  return {
    owned,
    async end() {
      letGo();
      await eventually(() => owned.size === 0, "all to be let go");
      await node.end();
    },
    async crash() {
      clearInterval(timer);
      await node.crash();
      letGo();
    },
  };
}

function whileHeld({ signal }: Lease, begun: () => void): Promise<void> {
  begun();
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
