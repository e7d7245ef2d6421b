/** What the API says when it says no: problem+json with the field and the remedy, for every way to be wrong. */
import assert from "node:assert/strict";
import { request } from "node:http";
import { after, before, describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";

let node: ApiNode;
before(async () => {
  node = await startApi();
});
after(() => node.close());

const post = (body: unknown) => node.call("POST", "/api/v1/mailboxes", body);
const errorsOf = async (body: unknown): Promise<Record<string, string>> => {
  const reply = await post(body);
  assert.equal(reply.status, 422, reply.text);
  return Object.fromEntries(reply.body.errors.map((error: any) => [error.path, error.message]));
};

const authErrors = (auth: unknown) => errorsOf(exampleBody({ receive: { ...exampleBody().receive, auth } }));

describe("a body that is not valid", () => {
  test("gets problem+json with all members, and all wrong fields at once", async () => {
    const reply = await post({ address: "nobody", receive: { protocol: "imap", port: "993", tls: "ssl" } });
    assert.equal(reply.headers.get("content-type"), "application/problem+json");
    const { type, title, status, detail, code, fix, evidence, retryAt, errors } = reply.body;
    assert.deepEqual(
      [type, title, status, code],
      ["/docs#problem-invalid", "The request is not valid", 422, "invalid"],
    );
    assert.ok(detail.includes("receive.host is missing") && fix.length > 0);
    assert.deepEqual([evidence, retryAt], [null, null]);
    assert.deepEqual(Object.fromEntries(errors.map((error: any) => [error.path, error.message])), {
      address: "must be an e-mail address",
      "receive.host": "is missing",
      "receive.port": "must be a number",
      "receive.tls": "must be one of implicit, starttls, none",
      "receive.auth": "is missing",
      deliver: "is missing",
    });
  });

  test("that is a list is refused, also where no field is needed", async () => {
    assert.equal((await post([])).status, 422);
    const made = await post(exampleBody({ id: "listed" }));
    assert.equal(made.status, 201);
    const reply = await node.call("PATCH", "/api/v1/mailboxes/listed", [null], { "if-match": '"99"' });
    assert.deepEqual(
      [reply.status, reply.body.errors],
      [422, [{ path: "", message: "must be an object, not a list" }]],
    );
  });

  test("has each unknown field named, with the field it was meant to be, and read-only ones told apart", async () => {
    const receive = { ...exampleBody().receive, hots: "x", Folders: [] };
    assert.deepEqual(await errorsOf(exampleBody({ receive, nmae: "x", shoe: 1, state: {} })), {
      "receive.hots": "is not known; did you mean host?",
      "receive.Folders": "is not known; did you mean folders?",
      nmae: "is not known; did you mean name?",
      shoe: "is not known; leave it out",
      state: "is read-only: leave it out",
    });
  });

  test("with an auth that is nearly right gets the error of the kind that was meant", async () => {
    assert.deepEqual(await authErrors({ user: "u", pasword: "x" }), {
      "receive.auth.password": "is missing",
      "receive.auth.pasword": "is not known; did you mean password?",
    });
    assert.deepEqual(await authErrors({ user: "u", oauth2: { clientId: "c" } }), {
      "receive.auth.oauth2.tokenUrl": "is missing",
    });
    assert.deepEqual(await authErrors({ user: "u", password: 5 }), { "receive.auth.password": "must be a string" });
    assert.deepEqual(await authErrors({ password: "x" }), { "receive.auth.user": "is missing" });
    assert.match((await authErrors({ user: "u" }))["receive.auth"] ?? "", /password.*accessToken.*oauth2/);
    assert.match((await authErrors("secret"))["receive.auth"] ?? "", /must be/);
  });

  test("never has its values repeated, secrets least of all", async () => {
    const auth = { user: "u", password: ["s3cret-value"], "s3cret-value": 1 };
    const reply = await post(exampleBody({ receive: { ...exampleBody().receive, host: "s3cret host", auth } }));
    assert.equal(reply.status, 422);
    const values = reply.text.replaceAll("receive.auth.s3cret-value", "");
    assert.ok(!values.includes("s3cret"), reply.text);
    assert.ok(!(await post('{"password":"s3cret"')).text.includes("s3cret"));
  });

  test("has the place in a list named", async () => {
    const receive = { ...exampleBody().receive, folders: ["INBOX", 5] };
    assert.deepEqual(await errorsOf(exampleBody({ receive })), { "receive.folders.1": "must be a string" });
  });

  test("that is a list or a text is refused as such", async () => {
    for (const body of ["[]", '"x"', "null", "5"]) assert.equal((await post(body)).status, 422, body);
  });
});

describe("a body that cannot be read", () => {
  test("is 400 when it is no JSON or empty, 415 when it is of another type", async () => {
    for (const text of ["{", "", '{"a":1}x', "\u0000"]) {
      const reply = await post(text);
      assert.deepEqual([reply.status, reply.body.code], [400, "malformed"], text);
    }
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]) {
      const reply = await node.call("POST", "/api/v1/mailboxes", "{}", { "content-type": type });
      assert.deepEqual([reply.status, reply.body.code], [415, "media_type"], type);
    }
    const charset = { "content-type": "Application/JSON; charset=utf-8" };
    assert.equal((await node.call("POST", "/api/v1/mailboxes", exampleBody(), charset)).status, 201);
  });

  test("is 413 above a megabyte, whether its length is announced or not", async () => {
    const body = JSON.stringify(exampleBody({ name: "x".repeat(1_100_000) }));
    assert.equal((await post(body)).status, 413);
    const status = await new Promise<number>((resolve, reject) => {
      const headers = { "content-type": "application/json", "transfer-encoding": "chunked" };
      const sent = request(`${node.url}/api/v1/mailboxes`, { method: "POST", headers }, (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      });
      sent.on("error", reject);
      sent.write(body.slice(0, 700_000));
      sent.write(body.slice(700_000));
      sent.end();
    });
    assert.equal(status, 413);
  });
});

describe("an address that leads nowhere", () => {
  test("is 404, and 405 with Allow where only the method is wrong", async () => {
    for (const path of ["/nothing", "/api/v1/", "/api/v1/mailboxes/a/b/c", "/api/v2/mailboxes"]) {
      const reply = await node.call("GET", path);
      assert.deepEqual([reply.status, reply.body.code], [404, "not_found"], path);
    }
    const list = await node.call("PUT", "/api/v1/mailboxes");
    assert.deepEqual([list.status, list.headers.get("allow")], [405, "GET, HEAD, POST"]);
    const one = await node.call("OPTIONS", "/api/v1/mailboxes/x");
    assert.deepEqual([one.status, one.headers.get("allow")], [405, "GET, HEAD, PUT, PATCH, DELETE"]);
    // A delivery cannot have this id.
    const replay = await node.call("PUT", "/api/v1/deliveries/replay", {});
    assert.deepEqual([replay.status, replay.headers.get("allow")], [405, "POST"]);
  });

  test("includes unknown query members and limits out of range", async () => {
    const reply = await node.call("GET", "/api/v1/mailboxes?limit=1001&adress=a");
    const errors = Object.fromEntries(reply.body.errors.map((error: any) => [error.path, error.message]));
    assert.deepEqual(errors, { limit: "must be at most 1000", adress: "is not known; did you mean address?" });
    for (const query of ["limit=0", "limit=x", "limit=1.5", "status=happy", "limit="]) {
      assert.equal((await node.call("GET", `/api/v1/mailboxes?${query}`)).status, 422, query);
    }
  });
});

describe("every answer", () => {
  test("carries a request id, the caller's own if it sent a fair one", async () => {
    assert.match((await node.call("GET", "/healthz")).headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
    const own = await node.call("GET", "/nothing", undefined, { "x-request-id": "trace-1" });
    assert.equal(own.headers.get("x-request-id"), "trace-1");
    const odd = await node.call("GET", "/healthz", undefined, { "x-request-id": "a b<c>" });
    assert.match(odd.headers.get("x-request-id") ?? "", /^[0-9a-f-]{36}$/);
  });

  test("to HEAD is the one to GET without its body, for a stream too", async () => {
    const told = node.told.length;
    for (const path of ["/healthz", "/api/v1/mailboxes", "/api/v1/events", "/docs", "/"]) {
      const reply = await node.call("HEAD", path);
      assert.deepEqual([reply.status, reply.text], [200, ""], path);
    }
    assert.ok(node.told.slice(told).some((fact) => fact.kind === "http.answered" && fact.method === "HEAD"));
  });

  test("to a fault of our own is 500 without its cause, which a fact tells", async () => {
    const broken = await startApi();
    try {
      broken.store.deliveries.get = () => Promise.reject(new TypeError("inner workings"));
      const reply = await broken.call("GET", "/api/v1/deliveries/x");
      assert.deepEqual([reply.status, reply.body.code], [500, "internal"]);
      assert.ok(!reply.text.includes("inner workings"));
      const told = broken.told.find((fact) => fact.kind === "service.failed");
      assert.equal(told?.what, "GET /api/v1/deliveries/{id}");
      assert.equal(told?.failure.cause, "inner workings");
    } finally {
      await broken.close();
    }
  });
});
