/** Who may call, where the service is mounted, and what machines and people find without the API. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";

const OPEN = ["/healthz", "/readyz", "/api/listeners/status", "/openapi.json", "/docs", "/login"];
const CLOSED = ["/api/v1/mailboxes", "/api/v1/diagnostics", "/api/v1/events", "/metrics", "/nothing"];

async function withNode(env: Record<string, string>, work: (node: ApiNode) => Promise<void>): Promise<void> {
  const node = await startApi(env);
  try {
    await work(node);
  } finally {
    await node.close();
  }
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });

/** By node:http, because fetch does not let a caller choose Host and Origin. */
const statusOf = (url: string, headers: Record<string, string>, method = "GET") =>
  new Promise<number>((resolve, reject) => {
    const sent = request(url, { method, headers }, (response) => {
      response.resume();
      resolve(response.statusCode ?? 0);
    });
    sent.on("error", reject);
    sent.end();
  });

describe("with API_TOKENS", () => {
  test("everything but the open paths needs one of them", () =>
    withNode({ API_TOKENS: "first,second" }, async (node) => {
      for (const path of OPEN) assert.equal((await node.call("GET", path)).status, 200, path);
      for (const path of CLOSED) {
        const reply = await node.call("GET", path);
        assert.deepEqual([reply.status, reply.body.code], [401, "unauthorized"], path);
        assert.match(reply.headers.get("www-authenticate") ?? "", /^Bearer/);
      }
      for (const wrong of ["", "Bearer ", "Bearer firs", "Bearer first second", "Basic first", "first"]) {
        const reply = await node.call("GET", "/api/v1/mailboxes", undefined, { authorization: wrong });
        assert.equal(reply.status, 401, wrong);
        assert.ok(!reply.text.includes("firs"));
      }
      for (const token of ["first", "second"]) {
        assert.equal((await node.call("GET", "/api/v1/mailboxes", undefined, bearer(token))).status, 200);
      }
      assert.equal((await node.call("POST", "/api/v1/mailboxes", exampleBody())).status, 401);
      assert.equal((await node.store.mailboxes.list({ limit: 1 })).total, 0);
    }));

  test("a token of METRICS_TOKENS reads the metrics and nothing else", () =>
    withNode({ API_TOKENS: "first", METRICS_TOKENS: "measure", CRM_ACCESS: "open" }, async (node) => {
      assert.equal((await node.call("GET", "/metrics", undefined, bearer("measure"))).status, 200);
      for (const path of CLOSED.filter((one) => one.startsWith("/api/"))) {
        const reply = await node.call("GET", path, undefined, bearer("measure"));
        assert.deepEqual([reply.status, reply.body.code], [403, "scope"], path);
      }
      assert.equal((await node.call("GET", "/", undefined, bearer("measure"))).status, 403);
      const crm = await node.call("POST", "/api/listeners/state", [], bearer("measure"));
      assert.deepEqual([crm.status, crm.body.code], [403, "scope"]);
    }));

  test("the first page asks strangers to log in, and the diagnostics show no token to anybody", () =>
    withNode({ API_TOKENS: "t0ken-value" }, async (node) => {
      assert.equal(await statusOf(`${node.url}/`, {}), 303);
      assert.equal((await node.call("GET", "/", undefined, bearer("t0ken-value"))).status, 200);
      const shown = await node.call("GET", "/api/v1/diagnostics", undefined, bearer("t0ken-value"));
      assert.ok(!shown.text.includes("t0ken-value"));
      assert.deepEqual(shown.body.settings.API_TOKENS, ["[secret]"]);
    }));
});

describe("without API_TOKENS", () => {
  test("programs on this machine may call, a page of another site in its browser may not", () =>
    withNode({}, async (node) => {
      const list = `${node.url}/api/v1/mailboxes`;
      const { host } = new URL(node.url);
      assert.equal(await statusOf(list, {}), 200);
      assert.equal(await statusOf(list, { host: `localhost:${new URL(node.url).port}` }), 200);
      assert.equal(await statusOf(list, { host: "rebound.example.com" }), 403);
      assert.equal(await statusOf(list, { origin: "https://evil.example.com" }), 403);
      assert.equal(await statusOf(list, { origin: "null" }), 403);
      assert.equal(await statusOf(list, { origin: `http://${host}` }), 200);
      await node.call("PUT", "/api/v1/mailboxes/m1", exampleBody());
      const pause = `${list}/m1/pause`;
      assert.equal(await statusOf(pause, { origin: "https://evil.example.com" }, "POST"), 403);
      assert.equal((await node.store.mailboxes.get("m1"))?.mailbox.paused, false);
    }));
});

describe("under BASE_PATH", () => {
  test("every path has the prefix, those in answers and pages too", () =>
    withNode({ BASE_PATH: "/mail" }, async (node) => {
      assert.ok(node.url.endsWith("/mail"));
      for (const path of ["", "/", "/docs", "/healthz", "/api/v1/mailboxes", "/metrics"]) {
        assert.equal((await node.call("GET", path)).status, 200, path);
      }
      const made = await node.call("POST", "/api/v1/mailboxes", exampleBody({ id: "m1" }));
      assert.equal(made.headers.get("location"), "/mail/api/v1/mailboxes/m1");
      assert.equal((await node.call("GET", "/x")).body.type, "/mail/docs#problem-not_found");
      assert.ok((await node.call("GET", "/")).text.includes('href="/mail/docs"'));
      assert.equal((await node.call("PUT", "/api/v1/mailboxes")).headers.get("allow"), "GET, HEAD, POST");
      assert.deepEqual((await node.call("GET", "/openapi.json")).body.servers, [{ url: "/mail" }]);
      assert.equal((await fetch(node.url.replace("/mail", "/docs"))).status, 404);
      assert.equal((await fetch(node.url.replace("/mail", "/healthz"))).status, 200, "for probes");
    }));

  test("the open paths stay open and the others closed", () =>
    withNode({ BASE_PATH: "/mail", API_TOKENS: "t" }, async (node) => {
      for (const path of OPEN) assert.equal((await node.call("GET", path)).status, 200, path);
      for (const path of ["", "/"]) assert.equal(await statusOf(node.url + path, {}), 303, path);
      for (const path of CLOSED) assert.equal((await node.call("GET", path)).status, 401, path);
      assert.equal(
        (await fetch(node.url.replace("/mail", "/metrics"))).status,
        401,
        "not open without the prefix either",
      );
    }));
});

describe("what machines ask", () => {
  test("healthz is about the process, readyz about the work, with reasons", () =>
    withNode({}, async (node) => {
      node.readiness = { ok: false, checks: [{ name: "store", ok: false, cause: "The disk is full" }] };
      assert.equal((await node.call("GET", "/healthz")).status, 200);
      const reply = await node.call("GET", "/readyz");
      assert.equal(reply.status, 503);
      assert.equal(reply.body.checks[0].cause, "The disk is full");
    }));

  test("the listeners' status is what a CRM expects", () =>
    withNode({}, async (node) => {
      const nodes = [{ name: "here", role: "api", mailboxes: 7 }];
      const expected = { ServiceStatus: "Started", version: "1.2.3", connections: { open: 7 }, nodes };
      for (const path of ["/api/listeners", "/api/listeners/status"]) {
        assert.deepEqual((await node.call("GET", path)).body, expected);
      }
    }));

  test("metrics count mailboxes by status and requests by route, and name no mailbox", () =>
    withNode({}, async (node) => {
      await node.call("PUT", "/api/v1/mailboxes/very-private-id", exampleBody());
      const reply = await node.call("GET", "/metrics");
      assert.match(reply.headers.get("content-type") ?? "", /^text\/plain/);
      assert.match(reply.text, /email_listener_mailboxes\{status="initializing"\} 1/);
      assert.match(
        reply.text,
        /email_listener_http_seconds_count\{method="PUT",route="\/api\/v1\/mailboxes\/\{id\}",status="201"\} 1/,
      );
      assert.match(reply.text, /email_listener_connections_open 7/);
      assert.ok(!reply.text.includes("very-private-id"));
    }));

  test("a node that is alone lists itself, with its mailboxes and the tasks that wait", () =>
    withNode({}, async (node) => {
      const { status, body } = await node.call("GET", "/api/v1/nodes");
      assert.equal(status, 200);
      assert.deepEqual(
        body.items.map(({ role, name, mailboxes }: Record<string, unknown>) => [role, name, mailboxes]),
        [["api", "here", 7]],
      );
      assert.deepEqual(body.tasks, { ready: 0, delayed: 0, running: 0, parked: 0 });
    }));

  test("diagnostics tell version, runtime, counts and settings", () =>
    withNode({}, async (node) => {
      await node.call("PUT", "/api/v1/mailboxes/m1", exampleBody());
      const { body } = await node.call("GET", "/api/v1/diagnostics");
      assert.equal(body.version, "1.2.3");
      assert.ok(["bun", "node", "deno"].includes(body.runtime.name));
      assert.deepEqual(body.mailboxes, { total: 1, enabled: 1, wanted: 1, byStatus: { initializing: 1 } });
      assert.deepEqual([body.deliveries.parked, body.tasks.ready, body.connections.open], [0, 0, 7]);
      assert.equal(body.settings.RETRY_HOURS, 72);
    }));
});
