/** Tokens of the API: their scopes on every route, the mailboxes that a bound token sees, their end, and the audit. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import type { BulkJob } from "../api/bulk/book.ts";
import { generateToken } from "../api/http/token-form.ts";
import type { Task } from "../shared/contract/task.ts";
import { beginRecord } from "../shared/record/stored.ts";
import type { SqliteStore } from "../shared/store/sqlite/store.ts";
import { type ApiNode, delivery, type Reply, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { sendingOf } from "./promises/outboxes.ts";
import { eventually } from "./servers/waiting.ts";

const ADMIN = "admin-0123456789abcdef";
const OWN = "acme-1";
const FOREIGN = "other-1";
const SCOPES = ["read", "manage", "send", "metrics", "admin"] as const;
const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

async function withNode(work: (node: ApiNode) => Promise<void>, env: Record<string, string> = {}): Promise<void> {
  const node = await startApi({ API_TOKENS: ADMIN, PUBLIC_URL: "https://mail.example.com", ...env });
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

const asAdmin = (node: ApiNode, method: string, path: string, body?: unknown) =>
  node.call(method, path, body, bearer(ADMIN));

async function makeToken(node: ApiNode, input: Record<string, unknown>): Promise<{ id: string; token: string }> {
  const { status, body } = await asAdmin(node, "POST", "/api/v1/tokens", { name: "a client", ...input });
  assert.equal(status, 201, JSON.stringify(body));
  return body;
}

type Operation = { method: string; path: string; scope: string | undefined; operation: any };

/** Every operation of the reference. It has every route (api-reference.test.ts). */
async function listOperations(node: ApiNode): Promise<Operation[]> {
  const { paths } = (await node.call("GET", "/openapi.json")).body;
  return Object.entries<any>(paths).flatMap(([path, methods]) =>
    Object.entries<any>(methods).map(([method, operation]) => {
      const scope = operation.security[0]?.bearer[0];
      return { method: method.toUpperCase(), path, scope, operation };
    }),
  );
}

const APPLICATION = { provider: "microsoft", tenant: "contoso.com", clientId: "c", clientSecret: "s" };

const CONSENTED = { deliver: { url: "https://crm.example.com/mail" } };

const SEND = {
  mailbox: { send: { host: "smtp.example.com" } },
  message: { to: ["bob@example.net"], subject: "s", text: "t" },
};

/** A body for each route that takes one, about the mailbox `id`. A new route needs a line here. */
const BODIES: Record<string, (id: string) => unknown> = {
  "POST /api/v1/mailboxes": (id) => exampleBody({ id }),
  "POST /api/v1/mailboxes:import": (id) => `${JSON.stringify(exampleBody({ id, name: "imported" }))}\n`,
  "POST /api/v1/mailboxes/discover": () => ({ address: "somebody@gmail.com" }),
  "POST /api/v1/mailboxes/validate": (id) => exampleBody({ id }),
  "PUT /api/v1/mailboxes/{id}": () => exampleBody(),
  "PATCH /api/v1/mailboxes/{id}": () => ({ name: "changed" }),
  "POST /api/v1/mailboxes/{id}/resync": () => ({ since: "2026-01-01" }),
  "POST /api/v1/mailboxes/{id}/messages": () => SEND.message,
  "POST /api/v1/deliveries/replay": (id) => ({ since: "2020-01-01", mailbox: id }),
  "POST /api/v1/parked/replay": (id) => ({ mailbox: id }),
  "POST /api/v1/tasks/parked/replay": () => ({}),
  "POST /api/v1/tasks/parked/drop": () => ({ ids: ["1", "2", "3", "4", "5", "6"] }),
  "POST /api/v1/applications": (id) => ({ ...APPLICATION, id: `${id}-application` }),
  "PUT /api/v1/applications/{id}": () => APPLICATION,
  "POST /api/v1/tokens": () => ({ name: "mine", scopes: ["admin"] }),
  "POST /api/v1/consents": (id) => ({ application: OWN, mailbox: { id: id === OWN ? `${id}-2` : id, ...CONSENTED } }),
  "POST /api/v1/mailboxes/{id}/move-to-graph": () => ({ dryRun: true }),
  "POST /api/v1/diagnostics/checks": (id) => ({ mailbox: id }),
  "POST /api/v1/endpoints/pause": () => ({ url: "https://crm.example.com/mail" }),
  "POST /api/v1/endpoints/resume": () => ({ url: "https://crm.example.com/mail" }),
  "POST /api/v1/endpoints/test": (id) => ({ url: "https://crm.example.com/mail", mailbox: id }),
  "POST /api/v1/endpoints/rotate-secret": () => ({ url: "https://crm.example.com/mail" }),
  "POST /api/v1/bulk": (id) => ({ action: "replay", filter: { mailbox: id } }),
  "POST /api/v1/bulk/count": (id) => ({ action: "replay", filter: { mailbox: id } }),
};

/** Ids in paths by what their route is about, for a mailbox. */
const idsFor = (path: string, id: string): string[] => {
  if (path.startsWith("/api/v1/deliveries/")) return [`delivery-of-${id}`];
  if (path.startsWith("/api/v1/bulk/")) return [`bulk-of-${id}`];
  if (path.startsWith("/api/v1/messages/")) return [`delivery-of-${id}`, `snd_of-${id}`];
  return [id];
};

const fail = () => Promise.reject(new Problem("message", "It cannot be handled", { retry: "never" }));

/** A bulk action over the mailboxes of one customer. */
function jobOf(id: string): BulkJob {
  const at = "2026-11-22T05:00:00.000Z";
  const actor = { id: "0".repeat(16), name: id, scopes: ["manage" as const], mailboxPrefix: id };
  const progress = { total: 1, done: 1, failed: 1, problems: [{ id, cause: "none" }], after: id, cause: null };
  const ending = { state: "done", node: null, stopRequested: false, updatedAt: at, endedAt: at } as const;
  return { id: `bulk-of-${id}`, action: "pause", filter: {}, actor, createdAt: at, ...progress, ...ending };
}

/** Two mailboxes of two customers, each with a bulk action, a parked delivery, a sending, facts and a parked task. */
async function fill(node: ApiNode): Promise<void> {
  for (const id of [OWN, FOREIGN]) {
    await asAdmin(
      node,
      "PUT",
      `/api/v1/mailboxes/${id}`,
      exampleBody({ address: `${id}@example.com`, ...SEND.mailbox }),
    );
    await asAdmin(node, "PUT", `/api/v1/applications/${id}`, APPLICATION);
    await node.store.deliveries.save(delivery(`delivery-of-${id}`, { mailbox: id }), Buffer.from(`raw of ${id}`));
    await node.store.outbox.accept(sendingOf(`snd_of-${id}`, { mailbox: id, key: "key" }), Buffer.from(id), 500);
    await node.store.facts.append([{ at: "2026-11-22T05:00:00.000Z", kind: "mailbox.removed", mailbox: id }]);
    await node.queue.send({ version: 1, kind: "callback", mailbox: id });
    await beginRecord(node.store, id);
  }
  const jobs = [OWN, FOREIGN].map(jobOf);
  const { revision } = (await node.store.documents.read("bulk")) ?? { revision: 0 };
  await node.store.documents.write("bulk", { revision, text: JSON.stringify({ jobs }) });
  const stop = new AbortController();
  const running = node.queue.run(fail, { concurrency: 1 }, stop.signal);
  await eventually(async () => (await node.queue.depth()).parked === 2, "the parked tasks");
  stop.abort();
  await running;
}

/** Everything that is stored about a mailbox. */
async function stateOf({ store, queue }: ApiNode, id: string): Promise<string> {
  return JSON.stringify([
    await store.mailboxes.get(id),
    (await store.deliveries.list({ mailbox: id, limit: 100 })).items,
    (await store.outbox.list({ mailbox: id, limit: 100 })).items,
    (await store.facts.recent(id, 200)).map(({ kind }) => kind),
    (await queue.parked(100)).filter(({ task }) => task?.mailbox === id),
    (await queue.depth()).ready,
  ]);
}

const callWith = (node: ApiNode, token: string, { method, path, operation }: Operation, id: string) => {
  const body = BODIES[`${method} ${path}`]?.(id);
  const [type] = Object.keys(operation.requestBody?.content ?? {});
  const headers = { ...bearer(token), ...(type !== undefined && body !== undefined && { "content-type": type }) };
  return (at: string) => node.call(method, path.replace(/\{\w+\}/, at), body, headers);
};

describe("scopes", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi({ API_TOKENS: ADMIN, PUBLIC_URL: "https://mail.example.com" });
  });
  after(() => node.close());

  test("every route that needs a token names one scope, and refuses tokens that have only the others", async () => {
    const operations = await listOperations(node);
    const tokens = new Map<string, string>();
    for (const scope of SCOPES) tokens.set(scope, (await makeToken(node, { scopes: [scope] })).token);
    const closed = operations.filter(({ scope }) => scope !== undefined);
    assert.ok(closed.length > 30);
    for (const operation of closed) {
      const at = `${operation.method} ${operation.path}`;
      assert.ok((SCOPES as readonly string[]).includes(operation.scope ?? ""), at);
      if (operation.operation.requestBody) assert.ok(BODIES[at], `${at} needs a line in BODIES`);
      for (const [scope, token] of tokens) {
        if (scope === operation.scope || scope === "admin") continue;
        const reply = await callWith(node, token, operation, OWN)("x");
        assert.deepEqual([reply.status, reply.body?.code], [403, "scope"], `${at} with ${scope}`);
      }
    }
  });

  test("a token of the scope passes, admin passes everywhere, and only metrics reads the metrics", async () => {
    const { token } = await makeToken(node, { scopes: ["read", "metrics"] });
    for (const path of ["/metrics", "/api/v1/mailboxes", "/api/v1/deliveries", "/api/v1/parked"])
      for (const one of [token, ADMIN, (await makeToken(node, { scopes: ["admin"] })).token])
        assert.equal((await node.call("GET", path, undefined, bearer(one))).status, 200, path);
  });
});

describe("a token that is bound to a prefix", () => {
  test("gets 404 from every route for the mailbox of another and for what is its, and changes nothing there", () =>
    withNode(async (node) => {
      await fill(node);
      const { token } = await makeToken(node, { scopes: ["read", "manage", "send"], mailboxPrefix: "acme-" });
      const stateBefore = await stateOf(node, FOREIGN);
      let checked = 0;
      for (const operation of await listOperations(node)) {
        const { method, path, scope, operation: spec } = operation;
        if (scope === undefined) continue;
        const call = callWith(node, token, operation, FOREIGN);
        if (scope === "admin" || scope === "metrics") {
          assert.equal((await call(FOREIGN)).status, 403, `${method} ${path}`);
          continue;
        }
        const body = BODIES[`${method} ${path}`]?.(FOREIGN);
        const namesMailbox = JSON.stringify(body ?? {}).includes(`"${FOREIGN}"`);
        const replies: Reply[] = [];
        if (path.includes("{") || namesMailbox) for (const id of idsFor(path, FOREIGN)) replies.push(await call(id));
        if (spec.parameters.some((one: { name: string }) => one.name === "mailbox"))
          replies.push(await node.call(method, `${path}?mailbox=${FOREIGN}`, undefined, bearer(token)));
        for (const reply of replies) {
          assert.equal(reply.status, 404, `${method} ${path}: ${reply.text}`);
          assert.equal(reply.body.code, "not_found");
          checked += 1;
        }
      }
      assert.ok(checked > 20);
      assert.equal(await stateOf(node, FOREIGN), stateBefore);
    }));

  test("cannot tell what is another's from what does not exist", () =>
    withNode(async (node) => {
      await fill(node);
      const { token } = await makeToken(node, { scopes: ["read", "manage", "send"], mailboxPrefix: "acme-" });
      for (const operation of await listOperations(node)) {
        if (!["read", "manage", "send"].includes(operation.scope ?? "") || !operation.path.includes("{")) continue;
        for (const id of idsFor(operation.path, FOREIGN)) {
          const nothing = id.replace("other", "never");
          const call = callWith(node, token, operation, FOREIGN);
          const [real, none] = [await call(id), await call(nothing)];
          assert.deepEqual([real.status, real.text], [none.status, none.text.replaceAll("never", "other")]);
        }
      }
    }));

  test("sees nothing of others in any list, and its own whole", () =>
    withNode(async (node) => {
      await fill(node);
      const { token } = await makeToken(node, { scopes: ["read", "manage", "send"], mailboxPrefix: "acme-" });
      const get = (path: string) => node.call("GET", path, undefined, bearer(token));
      for (const { method, path, scope } of await listOperations(node)) {
        if (method !== "GET" || scope !== "read" || path === "/api/v1/events") continue;
        for (const id of path.includes("{") ? idsFor(path, OWN) : [""]) {
          const reply = await get(path.replace(/\{\w+\}/, id));
          // The mail server of the example does not exist.
          if (!path.endsWith("/folders")) assert.equal(reply.status, 200, `${path} ${reply.text}`);
          assert.ok(!reply.text.includes("other"), path);
        }
      }
      const count = async (path: string) => {
        const { items, total } = (await get(path)).body;
        assert.equal(items.length, total, path);
        return total;
      };
      assert.equal(await count("/api/v1/mailboxes"), 1);
      assert.equal(await count("/api/v1/applications"), 1);
      assert.equal(await count("/api/v1/deliveries"), 1);
      assert.equal(await count("/api/v1/parked"), 2);
      assert.equal(await count("/api/v1/tasks/parked"), 1);
      assert.equal(await count(`/api/v1/mailboxes/${OWN}/messages`), 1);
      assert.equal((await get("/api/v1/deliveries?state=parked")).body.parkedTasks, 1);
      assert.ok(!(await get("/")).text.includes("connections open"));
    }));

  test("replays and drops its own parked work only, also by guessed ids and without any", () =>
    withNode(async (node) => {
      const { token } = await makeToken(node, { scopes: ["manage"], mailboxPrefix: "acme-" });
      const post = async (path: string, body: unknown) => (await node.call("POST", path, body, bearer(token))).body;
      const ids = ["delivery-of-other-1", "delivery-of-acme-1", ...Array.from({ length: 20 }, (_, n) => String(n))];
      for (const [path, body, expected] of [
        ["/api/v1/tasks/parked/drop", { ids }, { dropped: 1 }],
        ["/api/v1/tasks/parked/replay", { ids }, { replayed: 1 }],
        ["/api/v1/tasks/parked/replay", {}, { replayed: 1 }],
        ["/api/v1/parked/replay", { ids }, { replayed: 2 }],
        ["/api/v1/parked/replay", {}, { replayed: 2 }],
        ["/api/v1/deliveries/replay", { since: "2020-01-01" }, { replayed: 1 }],
      ] as const) {
        await node.queue.dropParked((await node.queue.parked(100)).map((parked) => parked.id));
        await fill(node);
        const foreign = JSON.parse(await stateOf(node, FOREIGN)).slice(0, 5);
        assert.deepEqual(await post(path, body), expected, path);
        assert.deepEqual(JSON.parse(await stateOf(node, FOREIGN)).slice(0, 5), foreign, path);
        const replayed: Task[] = "dropped" in expected ? [] : await node.tasks(expected.replayed);
        assert.ok(replayed.every((task) => task.mailbox === OWN));
        for (const id of [OWN, FOREIGN]) await asAdmin(node, "DELETE", `/api/v1/mailboxes/${id}`);
      }
    }));

  test("registers mailboxes under its prefix, with a given id or a generated one, and sends from them", () =>
    withNode(async (node) => {
      await fill(node);
      const { token } = await makeToken(node, { scopes: ["read", "manage", "send"], mailboxPrefix: "acme-" });
      const call = (method: string, path: string, body?: unknown, headers = {}) =>
        node.call(method, path, body, { ...bearer(token), ...headers });
      const made = await call("POST", "/api/v1/mailboxes", exampleBody());
      assert.equal(made.status, 201);
      assert.match(made.body.id, /^acme-[0-9a-f-]{36}$/);
      assert.equal((await call("PUT", "/api/v1/mailboxes/acme-2", exampleBody(SEND.mailbox))).status, 201);
      assert.equal((await call("GET", "/api/v1/mailboxes")).body.total, 3);
      for (const id of ["acme", "other-2", "ACME-1", FOREIGN]) {
        const reply = await call("POST", "/api/v1/mailboxes", exampleBody({ id }));
        assert.deepEqual([reply.status, reply.body.code], [404, "not_found"], id);
      }
      // The key of another mailbox's sending is as free as any other.
      const key = { "idempotency-key": "key" };
      const sent = await call("POST", "/api/v1/mailboxes/acme-2/messages", SEND.message, key);
      assert.equal(sent.status, 202, sent.text);
      assert.equal((await call("GET", `/api/v1/messages/${sent.body.id}`)).body.mailbox, "acme-2");
    }));

  test("hears facts of its own mailboxes only", () =>
    withNode(async (node) => {
      const { token } = await makeToken(node, { scopes: ["read"], mailboxPrefix: "acme-" });
      const aborter = new AbortController();
      const response = await fetch(`${node.url}/api/v1/events`, { headers: bearer(token), signal: aborter.signal });
      let text = "";
      const reading = (async () => {
        for await (const chunk of response.body ?? []) text += Buffer.from(chunk).toString();
      })().catch(() => undefined);
      node.facts.emit({ kind: "mailbox.removed", mailbox: FOREIGN });
      node.facts.emit({ kind: "service.warned", about: "other things" });
      node.facts.emit({ kind: "endpoint.recovered", endpoint: "https://other.example", waiting: 0 });
      node.facts.emit({ kind: "mailbox.removed", mailbox: OWN });
      await eventually(() => text.includes(OWN), "the own fact");
      assert.ok(!text.includes("other"));
      aborter.abort();
      await reading;
    }));
});

describe("the life of a token", () => {
  test("it is shown once, listed without its secret, and stored as a hash", () =>
    withNode(async (node) => {
      const expiresAt = new Date(Date.now() + 3_600_000).toISOString();
      const input = { name: "CRM of Acme", scopes: ["read", "send", "read"], mailboxPrefix: "acme-", expiresAt };
      const reply = await asAdmin(node, "POST", "/api/v1/tokens", input);
      const { token, ...shown } = reply.body;
      assert.match(token, /^elt_[0-9a-f]{16}_[A-Za-z0-9_-]{43}$/);
      assert.equal(reply.headers.get("location"), `/api/v1/tokens/${shown.id}`);
      assert.deepEqual(
        { ...shown, id: "", createdAt: "" },
        { ...input, id: "", scopes: ["read", "send"], createdAt: "", createdBy: "API_TOKENS#1", lastUsedAt: null },
      );
      const list = await asAdmin(node, "GET", "/api/v1/tokens");
      assert.deepEqual(list.body.items, [shown]);
      assert.deepEqual((await asAdmin(node, "GET", `/api/v1/tokens/${shown.id}`)).body, shown);
      const stored = JSON.stringify(await node.store.tokens.list());
      for (const text of [list.text, stored, JSON.stringify(node.told)]) assert.ok(!text.includes(token.slice(21)));
      const ends = /^email_listener_token_expires_seconds (.+)$/m.exec(
        (await asAdmin(node, "GET", "/metrics")).text,
      )?.[1];
      assert.equal(Number(ends), Date.parse(expiresAt) / 1000);
    }));

  test("one that somebody wrote into the store past the service lets nobody in, and can be removed", () =>
    withNode(async (node) => {
      const { id, token, hash } = generateToken();
      const createdAt = new Date().toISOString();
      const rights = { scopes: ["admin"], mailboxPrefix: "", expiresAt: null, lastUsedAt: null };
      const doc = JSON.stringify({ id, hash, name: "mine", createdAt, createdBy: "API_TOKENS#1", ...rights });
      const { database } = node.store as SqliteStore;
      database.run("insert into tokens (id, created_at, doc) values (?, 1, ?)", id, doc);
      const reply = await node.call("GET", "/api/v1/nodes", undefined, { authorization: `Bearer ${token}` });
      assert.equal(reply.status, 500);
      assert.ok(node.told.some((fact) => fact.kind === "service.failed" && fact.what === `reading the token ${id}`));
      const list = await asAdmin(node, "GET", "/api/v1/tokens");
      assert.deepEqual(list.body, { items: [], unreadable: [id] });
      assert.equal((await asAdmin(node, "DELETE", `/api/v1/tokens/${id}`)).status, 204);
      const gone = await node.call("GET", "/api/v1/nodes", undefined, { authorization: `Bearer ${token}` });
      assert.equal(gone.status, 401);
    }));

  test("wrong inputs are named", () =>
    withNode(async (node) => {
      const past = new Date(Date.now() - 1_000).toISOString();
      for (const [input, field] of [
        [{ scopes: [] }, "scopes"],
        [{ scopes: ["write"] }, "scopes.0"],
        [{ scopes: ["read"], name: "" }, "name"],
        [{ scopes: ["read"], mailboxPrefix: "acme~" }, "mailboxPrefix"],
        [{ scopes: ["read", "admin"], mailboxPrefix: "acme-" }, "mailboxPrefix"],
        [{ scopes: ["metrics"], mailboxPrefix: "acme-" }, "mailboxPrefix"],
        [{ scopes: ["read"], expiresAt: past }, "expiresAt"],
        [{ scopes: ["read"], expiresAt: "tomorrow" }, "expiresAt"],
        [{ scopes: ["read"], prefix: "acme-" }, "prefix"],
      ] as const) {
        const { status, body } = await asAdmin(node, "POST", "/api/v1/tokens", { name: "x", ...input });
        assert.deepEqual([status, body.errors[0]?.path], [422, field], JSON.stringify(body));
      }
      assert.deepEqual((await asAdmin(node, "GET", "/api/v1/tokens")).body.items, []);
      for (const method of ["GET", "DELETE"])
        assert.equal((await asAdmin(node, method, "/api/v1/tokens/none")).status, 404);
    }));

  test("a revoked token is refused at once, and its event stream ends; others go on", () =>
    withNode(async (node) => {
      const [gone, kept] = [await makeToken(node, { scopes: ["read"] }), await makeToken(node, { scopes: ["read"] })];
      const streams = await Promise.all(
        [gone, kept].map(({ token }) => fetch(`${node.url}/api/v1/events`, { headers: bearer(token) })),
      );
      const ended = [false, false];
      const reading = streams.map(async ({ body }, n) => {
        for await (const _ of body ?? []);
        ended[n] = true;
      });
      assert.equal((await asAdmin(node, "DELETE", `/api/v1/tokens/${gone.id}`)).status, 204);
      const refused = await node.call("GET", "/api/v1/mailboxes", undefined, bearer(gone.token));
      assert.deepEqual([refused.status, refused.body.code], [401, "unauthorized"]);
      await eventually(() => ended[0], "the end of the stream");
      assert.equal(ended[1], false);
      assert.equal((await node.call("GET", "/api/v1/mailboxes", undefined, bearer(kept.token))).status, 200);
      node.stop();
      await Promise.all(reading);
    }));

  test("an expired token is refused with the reason, and its event stream ends", () =>
    withNode(async (node) => {
      const expiresAt = new Date(Date.now() + 3_000).toISOString();
      const { token } = await makeToken(node, { scopes: ["read"], expiresAt });
      const stream = await fetch(`${node.url}/api/v1/events`, { headers: bearer(token) });
      assert.equal(stream.status, 200);
      for await (const _ of stream.body ?? []);
      const { status, body } = await node.call("GET", "/api/v1/mailboxes", undefined, bearer(token));
      assert.equal(status, 401);
      assert.match(body.detail, /expired at/);
    }));

  test("its last use is shown, and many requests are one write", () =>
    withNode(async (node) => {
      const { id, token } = await makeToken(node, { scopes: ["read"] });
      let writes = 0;
      const { recordUse } = node.store.tokens;
      node.store.tokens.recordUse = (...use) => {
        writes += 1;
        return recordUse(...use);
      };
      for (let n = 0; n < 50; n++) await node.call("GET", "/api/v1/mailboxes", undefined, bearer(token));
      const { lastUsedAt } = (await asAdmin(node, "GET", `/api/v1/tokens/${id}`)).body;
      assert.ok(Math.abs(Date.now() - Date.parse(lastUsedAt)) < 60_000);
      assert.equal(writes, 1);
    }));

  test("a token of this form that is wrong in one character is a guess; a right one passes beside a guesser", () =>
    withNode(async (node) => {
      const { token } = await makeToken(node, { scopes: ["read"] });
      const other = token.slice(0, -1) + (token.endsWith("A") ? "B" : "A");
      const status = async (one: string) =>
        (await node.call("GET", "/api/v1/mailboxes", undefined, bearer(one))).status;
      assert.equal(await status(other), 401);
      assert.equal(await status(`elt_${"0".repeat(16)}_${"A".repeat(43)}`), 401);
      const all = await Promise.all(Array.from({ length: 120 }, () => status(other)));
      assert.ok(all.includes(429));
      assert.deepEqual([await status(ADMIN), await status(other), await status(token)], [429, 429, 200]);
    }));
});

const entries = async (node: ApiNode, query = "") => (await asAdmin(node, "GET", `/api/v1/audit${query}`)).body.items;

/** Removing comes last, so that there is something to change until then. */
const order = ({ method }: Operation) => Number(method === "DELETE");

describe("the audit", () => {
  test("every route that changes something leaves an entry with actor, route, mailbox and names of fields", () =>
    withNode(async (node) => {
      await fill(node);
      const { id: actor, token } = await makeToken(node, { scopes: ["admin"], name: "the admin" });
      const changing = (await listOperations(node)).filter(
        ({ method, path, scope }) =>
          scope !== undefined &&
          method !== "GET" &&
          !/\/(discover|validate|resync|confirm|messages|move-to-graph|checks|test|count)$/.test(path),
      );
      assert.ok(changing.length >= 13);
      for (const operation of changing.toSorted((a, b) => order(a) - order(b))) {
        const { method, path } = operation;
        const parked = (await node.queue.parked(100)).length;
        if (parked === 0) await node.queue.send({ version: 1, kind: "callback", mailbox: OWN });
        const [id = ""] = idsFor(path, OWN);
        const made = path.startsWith("/api/v1/tokens/") ? (await makeToken(node, { scopes: ["read"] })).id : id;
        const reply = await callWith(
          node,
          token,
          operation,
          method === "POST" && path === "/api/v1/mailboxes" ? "acme-9" : OWN,
        )(made);
        assert.ok(reply.status < 300, `${method} ${path} ${reply.text}`);
        // Two changes of one millisecond have no order.
        const recorded = await entries(node, `?actor=${actor}`);
        const entry = recorded.find((one: any) => one.method === method && one.route === path);
        assert.deepEqual([entry?.status, entry?.actor.name], [reply.status, "the admin"], `${method} ${path}`);
        if (path.startsWith("/api/v1/mailboxes") || path.startsWith("/api/v1/deliveries"))
          assert.match(entry.mailbox, /^acme-[19]$/, path);
        if (path.includes("{")) assert.equal(entry.target, made);
        if (operation.operation.requestBody && path !== "/api/v1/tasks/parked/replay")
          assert.ok(entry.changed.length > 0 || method === "PUT", path);
      }
      const text = JSON.stringify([await entries(node, "?limit=1000"), node.told]);
      assert.ok(!text.includes("correct horse battery"));
      assert.equal((await entries(node, `?mailbox=${FOREIGN}`)).length, 1, "the registration by the first token");
    }));

  test("it says which fields differ, whatever the body holds; the history and the stream tell it too", () =>
    withNode(async (node) => {
      await asAdmin(node, "PUT", "/api/v1/mailboxes/m1", exampleBody());
      const { receive } = exampleBody();
      const auth = { user: "help@example.com", password: "another password" };
      await asAdmin(node, "PUT", "/api/v1/mailboxes/m1", exampleBody({ receive: { ...receive, auth }, name: "Help" }));
      await asAdmin(node, "PATCH", "/api/v1/mailboxes/m1", { name: "Help", receive: { folders: ["INBOX", "Sent"] } });
      await asAdmin(node, "PATCH", "/api/v1/mailboxes/m1", { deliver: { secret: null } });
      const changed = (await entries(node)).map((entry: { changed: string[] }) => entry.changed);
      assert.deepEqual(changed.slice(0, 3), [
        ["deliver.secret"],
        ["receive.folders"],
        ["name", "receive.auth.password"],
      ]);
      const told = node.told.filter(({ kind }) => kind === "api.changed");
      assert.equal(told.length, 4);
      assert.ok(told.every((fact) => "mailbox" in fact && fact.mailbox === "m1"));
      assert.ok(!JSON.stringify(told).includes("another password"));
    }));

  test("a refused change leaves no entry, and one whose node ends meanwhile leaves an open one", () =>
    withNode(async (node) => {
      await asAdmin(node, "POST", "/api/v1/mailboxes/none/pause");
      await asAdmin(node, "PATCH", "/api/v1/mailboxes/none", { name: "x" });
      assert.deepEqual(await entries(node), []);
      const { put } = node.store.mailboxes;
      const reached = Promise.withResolvers<void>();
      node.store.mailboxes.put = () => {
        reached.resolve();
        return new Promise(() => undefined);
      };
      void asAdmin(node, "PUT", "/api/v1/mailboxes/m1", exampleBody()).catch(() => undefined);
      await reached.promise;
      const [open] = await entries(node);
      assert.deepEqual([open.target, open.mailbox, open.status], ["m1", "m1", null]);
      node.store.mailboxes.put = put;
    }));

  test("nothing is changed while the audit cannot be written", () =>
    withNode(async (node) => {
      node.store.audit.put = () => Promise.reject(new Problem("store", "The disk is full"));
      const reply = await asAdmin(node, "PUT", "/api/v1/mailboxes/m1", exampleBody());
      assert.deepEqual([reply.status, reply.body.code], [503, "store"]);
      assert.equal(await node.store.mailboxes.get("m1"), undefined);
    }));

  test("a CRM's changes are in it too, and a sending's fact names its actor", () =>
    withNode(
      async (node) => {
        const id = "0f8fad5b-d9cb-469f-a165-70867728950e";
        await node.call("POST", "/api/listeners/close", [id]);
        const [entry] = await entries(node);
        assert.deepEqual(
          [entry.actor, entry.route, entry.mailbox],
          [{ id: "crm", name: "CRM" }, "/api/listeners/close", id],
        );
        await asAdmin(node, "PUT", `/api/v1/mailboxes/${OWN}`, exampleBody(SEND.mailbox));
        const { id: actor, token } = await makeToken(node, {
          scopes: ["send"],
          name: "sender",
          mailboxPrefix: "acme-",
        });
        await node.call("POST", `/api/v1/mailboxes/${OWN}/messages`, SEND.message, bearer(token));
        const queued = node.told.find(({ kind }) => kind === "send.queued");
        assert.deepEqual(queued && "actor" in queued && queued.actor, { id: actor, name: "sender" });
      },
      { CRM_ACCESS: "open" },
    ));
});
