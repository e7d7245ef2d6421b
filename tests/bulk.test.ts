/** Bulk actions: counted before, worked on in the background with progress, stopped, and continued after a crash. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { clusterRig, expect } from "./cluster-rig.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { type Service, startService } from "./service.ts";
import { scene, status } from "./stories/scene.ts";

type Job = { id: string; state: string; total: number | null; done: number; failed: number; problems: any[] };

let redis: Redis | undefined;
before(async () => {
  redis = (await provide("redis"))?.server;
});
after(() => redis?.remove());

const count = async (at: Service, order: object): Promise<number> =>
  expect(await at.call("POST", "/api/v1/bulk/count", order), 200).total;
const begin = async (at: Service, order: object, headers = {}): Promise<Job> =>
  expect(await at.call("POST", "/api/v1/bulk", order, headers), 202);
const read = async (at: Service, id: string): Promise<Job> => expect(await at.call("GET", `/api/v1/bulk/${id}`), 200);
const ended = (at: Service, id: string) =>
  at.until(`the end of ${id}`, async () => {
    const job = await read(at, id);
    return job.state !== "running" && job;
  });
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** Enough that a bulk action over them takes more than two seconds: one begins 50 calls a second. */
const ALL = 120;

/** Registers mailboxes on a server that nobody asks, `box-000` and so on. */
async function fill(at: Service, total: number, prefix = "box-"): Promise<void> {
  const ids = Array.from({ length: total }, (_, n) => prefix + String(n).padStart(3, "0"));
  for (const id of ids) {
    expect(await at.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody({ address: `${id}@example.com` })), 201);
  }
}

const pausedIn = async (at: Service): Promise<number> =>
  expect(await at.call("GET", "/api/v1/mailboxes?status=paused&limit=1"), 200).total;

describe("a bulk action", () => {
  let service: Service;
  before(async () => {
    service = await startService();
    await fill(service, ALL);
  });
  after(() => service?.end());

  test("is counted before it begins, pauses all of its filter and no others, and each has its entry in the audit", async () => {
    const filter = { q: "box-00" };
    assert.equal(await count(service, { action: "pause", filter }), 10);
    assert.equal(await pausedIn(service), 0);
    const { id } = await begin(service, { action: "pause", filter });
    const job = await ended(service, id);
    assert.deepEqual([job.state, job.total, job.done, job.failed], ["done", 10, 10, 0]);
    assert.equal(await pausedIn(service), 10);
    assert.equal(await count(service, { action: "pause", filter }), 0);
    const { items } = expect(await service.call("GET", "/api/v1/audit?mailbox=box-003"), 200);
    const [newest] = items;
    assert.deepEqual([newest.route, newest.status], ["/api/v1/mailboxes/{id}/pause", 200]);
    assert.equal(newest.actor.id, "API_TOKENS#1:bulk");
    assert.ok(newest.actor.name.endsWith(id));
    const own = expect(await service.call("GET", "/api/v1/audit?actor=API_TOKENS%231&limit=1"), 200).items[0];
    assert.deepEqual([own.route, own.target], ["/api/v1/bulk", id]);
  });

  test("is one at a time for a token, and stops in the middle when it is told to", async () => {
    const { id } = await begin(service, { action: "pause" });
    const second = await service.call("POST", "/api/v1/bulk", { action: "resume" });
    assert.deepEqual([second.status, second.body.code], [409, "conflict"]);
    assert.ok(second.body.detail.includes(id));
    await service.until("some progress", async () => (await pausedIn(service)) > 12);
    expect(await service.call("POST", `/api/v1/bulk/${id}/stop`), 202);
    const job = await ended(service, id);
    assert.equal(job.state, "stopped");
    assert.ok(job.done < (job.total ?? 0), JSON.stringify(job));
    const left = await count(service, { action: "pause" });
    assert.equal(ALL - left, await pausedIn(service));
    assert.ok(left > 0);
  });

  test("a node that is killed in the middle goes on after its start, and does everything", async () => {
    const filter = { q: "kill-" };
    await fill(service, 150, "kill-");
    const { id } = await begin(service, { action: "pause", filter });
    await service.until("some progress", async () => (await read(service, id)).done > 0);
    await service.kill();
    await service.start();
    assert.equal((await read(service, id)).state, "running");
    const job = await ended(service, id);
    assert.deepEqual([job.state, job.total, job.done, job.failed], ["done", 150, 150, 0]);
    assert.equal(await count(service, { action: "pause", filter }), 0);
    await ended(service, (await begin(service, { action: "resume" })).id);
    assert.equal(await pausedIn(service), 0);
  });

  test("a test says which mailboxes failed and at which step, and changes none", async () => {
    const { id } = await begin(service, { action: "test", filter: { q: "box-001" } });
    const job = await ended(service, id);
    assert.deepEqual([job.state, job.done, job.failed], ["done", 1, 1]);
    assert.equal(job.problems[0].id, "box-001");
    assert.match(job.problems[0].cause, /\bdns: /);
  });

  test("a token that is bound to a prefix changes its own mailboxes, and sees no job of others", async () => {
    await fill(service, 2, "acme-");
    const made = { name: "acme", scopes: ["read", "manage"], mailboxPrefix: "acme-" };
    const { token } = expect(await service.call("POST", "/api/v1/tokens", made), 201);
    const asAcme = (method: string, path: string, body?: object) => service.call(method, path, body, bearer(token));
    assert.deepEqual(expect(await asAcme("GET", "/api/v1/bulk"), 200).items, []);
    assert.equal(expect(await asAcme("POST", "/api/v1/bulk/count", { action: "pause" }), 200).total, 2);
    const { id } = await begin(service, { action: "pause" }, bearer(token));
    await ended(service, id);
    assert.equal(await pausedIn(service), 2);
    assert.deepEqual(
      expect(await asAcme("GET", "/api/v1/bulk"), 200).items.map((one: Job) => one.id),
      [id],
    );
    const [other] = expect(await service.call("GET", "/api/v1/bulk"), 200).items.filter((one: Job) => one.id !== id);
    assert.equal((await asAcme("GET", `/api/v1/bulk/${other.id}`)).status, 404);
    assert.equal((await asAcme("POST", `/api/v1/bulk/${other.id}/stop`)).status, 404);
    const foreign = { action: "replay", filter: { mailbox: "box-001" } };
    assert.equal((await asAcme("POST", "/api/v1/bulk", foreign)).status, 404);
  });

  test("a job ends when its token is revoked, and says so", async () => {
    const made = { name: "for a while", scopes: ["read", "manage"] };
    const { token, id: tokenId } = expect(await service.call("POST", "/api/v1/tokens", made), 201);
    await fill(service, 300, "many-");
    const { id } = await begin(service, { action: "pause", filter: { q: "many-" } }, bearer(token));
    expect(await service.call("DELETE", `/api/v1/tokens/${tokenId}`), 204);
    const job = await ended(service, id);
    assert.equal(job.state, "failed");
    assert.ok(job.done < 300);
  });
});

test("a wrong order names its fields", async () => {
  const node = await startApi();
  try {
    for (const [order, path] of [
      [{ action: "explode" }, "action"],
      [{ action: "resync" }, "since"],
      [{ action: "pause", filter: { state: "tired" } }, "filter.state"],
      [{ action: "pause", since: "2026-01-01" }, "since"],
    ] as const) {
      const { status: code, body } = await node.call("POST", "/api/v1/bulk", order);
      assert.deepEqual([code, body.errors[0].path], [422, path], JSON.stringify(body));
    }
  } finally {
    await node.close();
  }
});

test("replays all parked messages of a filter, each under its id and none twice", async () => {
  const stage = await scene();
  try {
    stage.endpoint.answer(() => ({ status: 413 }));
    const { id: mailbox, user } = await stage.mailbox();
    const subjects = Array.from({ length: 30 }, (_, n) => `parked ${n}`);
    for (const subject of subjects)
      await stage.mail.append(user, "INBOX", `Subject: ${subject}\r\nFrom: a@example.net\r\n\r\n${subject}\r\n`);
    const parked = async () =>
      expect(await stage.service.call("GET", "/api/v1/deliveries?state=parked&limit=1"), 200).total;
    await stage.service.until("all parked", async () => (await parked()) === subjects.length);
    assert.equal(await count(stage.service, { action: "replay", filter: { reason: "nothing like it" } }), 0);
    stage.endpoint.answer(() => ({}));
    const { id } = await begin(stage.service, { action: "replay", filter: { mailbox, reason: "413" } });
    const job = await ended(stage.service, id);
    assert.deepEqual([job.state, job.total, job.done, job.failed], ["done", 30, 30, 0]);
    await stage.service.until("all delivered", async () => (await parked()) === 0);
    const ids = stage.endpoint.received.filter(({ responded }) => responded === 200).map((one) => one.id);
    assert.equal(new Set(ids).size, 30);
    assert.equal(ids.length, 30);
  } finally {
    await stage.end();
  }
});

test("reads all mailboxes of a filter again since a day", async () => {
  const stage = await scene();
  try {
    const { id: mailbox, user } = await stage.mailbox();
    await stage.mail.append(user, "INBOX", "Subject: one\r\nFrom: a@example.net\r\n\r\none\r\n");
    await stage.service.until("it", () => stage.endpoint.received.length === 1);
    const { id } = await begin(stage.service, { action: "resync", since: "2001-01-01", filter: { q: user } });
    const job = await ended(stage.service, id);
    assert.deepEqual([job.state, job.done, job.failed], ["done", 1, 0]);
    const fact = stage.service.facts.find(({ kind }) => kind === "mailbox.resync");
    assert.deepEqual([fact?.["mailbox"], fact?.["messages"]], [mailbox, 1]);
    assert.equal(stage.endpoint.received.length, 1);
    await status(stage.service, mailbox, "listening");
  } finally {
    await stage.end();
  }
});

test("when the node of a job is killed, another one goes on", async (t) => {
  if (!redis) return t.skip("no redis");
  const rig = await clusterRig({ redisUrl: redis.url });
  try {
    const [one, two] = [await rig.api("api-0"), await rig.api("api-1")];
    await fill(two, 200);
    const { id } = await begin(one, { action: "pause" });
    await two.until("some progress", async () => (await read(two, id)).done > 0);
    const { node } = (await two.call("GET", `/api/v1/bulk/${id}`)).body;
    const [killed, other] = node === "api-0" ? [one, two] : [two, one];
    await killed.kill();
    const job: any = await other.until(
      "the end",
      async () => {
        const found = await read(other, id);
        return found.state !== "running" && found;
      },
      120_000,
    );
    assert.deepEqual([job.state, job.done, job.total, job.failed], ["done", 200, 200, 0]);
    assert.notEqual(job.node, node);
    // The states are written a moment after the mailboxes.
    await other.until("all to be shown as paused", async () => (await pausedIn(other)) === 200);
  } finally {
    await rig.end();
  }
});
