/** The API's mailboxes: registered, read, changed, removed, and never telling a secret. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Secret } from "../shared/contract/secret.ts";
import { credentialsLock } from "../shared/mail/oauth/tokens.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";

const PASSWORD = "correct horse battery";

describe("mailboxes", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi();
  });
  after(() => node.close());

  test("a registered mailbox is answered with 201, Location, its defaults and its state, without secrets", async () => {
    const made = await node.call("POST", "/api/v1/mailboxes", exampleBody({ id: "first" }));
    assert.equal(made.status, 201);
    assert.equal(made.headers.get("location"), "/api/v1/mailboxes/first");
    assert.equal(made.headers.get("etag"), '"1"');
    assert.equal(made.body.receive.port, 993);
    assert.deepEqual(made.body.receive.folders, ["INBOX"]);
    assert.equal(made.body.deliver.format, "full");
    assert.equal(made.body.state.status, "initializing");
    assert.equal(made.body.state.problem, null);
    assert.deepEqual(made.body.receive.auth, { user: "help@example.com" });
    assert.ok(!made.text.includes(PASSWORD));
    assert.ok(node.woken.includes("first"));
  });

  test("a generated webhook secret has 32 bytes and is told once, in the answer to the registration", async () => {
    const made = await node.call("POST", "/api/v1/mailboxes", exampleBody({ id: "told-once" }));
    assert.match(made.body.deliver.secret, /^whsec_/);
    assert.equal(Buffer.from(made.body.deliver.secret.slice(6), "base64").length, 32);
    const stored = await node.store.mailboxes.get("told-once");
    assert.equal(stored?.mailbox.deliver.secret?.reveal(), made.body.deliver.secret);
    for (const path of ["/api/v1/mailboxes/told-once", "/api/v1/mailboxes", "/api/v1/diagnostics"]) {
      assert.ok(!(await node.call("GET", path)).text.includes("whsec_"), path);
    }
  });

  test("a webhook secret of one's own is never answered, and one that cannot sign is refused", async () => {
    const secret = `whsec_${Buffer.alloc(24, 7).toString("base64")}`;
    const deliver = { url: "https://crm.example.com/mail", secret };
    const made = await node.call("POST", "/api/v1/mailboxes", exampleBody({ id: "own-secret", deliver }));
    assert.equal(made.status, 201);
    assert.ok(!made.text.includes("whsec_"));
    const short = exampleBody({ deliver: { ...deliver, secret: "whsec_c2hvcnQ=" } });
    const refused = await node.call("POST", "/api/v1/mailboxes", short);
    assert.equal(refused.status, 422);
    assert.equal(refused.body.errors[0].path, "deliver.secret");
  });

  test("without an id one is generated, and an id that is taken is a conflict", async () => {
    const made = await node.call("POST", "/api/v1/mailboxes", exampleBody());
    assert.match(made.body.id, /^[0-9a-f-]{36}$/);
    const again = await node.call("POST", "/api/v1/mailboxes", exampleBody({ id: made.body.id }));
    assert.equal(again.status, 409);
    assert.equal(again.body.code, "conflict");
  });

  test("the port shown follows the kind of TLS until one is given", async () => {
    const receive = { ...exampleBody().receive, tls: "starttls" };
    const made = await node.call("PUT", "/api/v1/mailboxes/ports", exampleBody({ receive }));
    assert.equal(made.body.receive.port, 143);
    const implicit = await node.call("PATCH", "/api/v1/mailboxes/ports", { receive: { tls: "implicit" } });
    assert.equal(implicit.body.receive.port, 993);
    const given = await node.call("PATCH", "/api/v1/mailboxes/ports", {
      receive: { port: 1993, auth: { password: "secret" } },
    });
    assert.equal(given.body.receive.port, 1993);
  });

  test("PUT creates with 201, replaces with 200, and repeated changes neither secret nor birthday", async () => {
    const made = await node.call("PUT", "/api/v1/mailboxes/put", exampleBody());
    assert.equal(made.status, 201);
    const again = await node.call("PUT", "/api/v1/mailboxes/put", exampleBody({ id: "put", name: "Help" }));
    assert.equal(again.status, 200);
    assert.equal(again.body.name, "Help");
    assert.equal(again.body.createdAt, made.body.createdAt);
    const stored = await node.store.mailboxes.get("put");
    assert.equal(stored?.mailbox.deliver.secret?.reveal(), made.body.deliver.secret);
    const other = await node.call("PUT", "/api/v1/mailboxes/put", exampleBody({ id: "another" }));
    assert.deepEqual([other.status, other.body.errors[0].path], [422, "id"]);
    assert.equal((await node.call("PUT", "/api/v1/mailboxes/not%20an%20id", exampleBody())).status, 422);
  });

  test("DELETE answers 204, then everything about it is 404", async () => {
    await node.call("PUT", "/api/v1/mailboxes/gone", exampleBody());
    assert.equal((await node.call("DELETE", "/api/v1/mailboxes/gone")).status, 204);
    for (const [method, path] of [
      ["GET", ""],
      ["DELETE", ""],
      ["POST", "/pause"],
      ["POST", "/resume"],
      ["GET", "/folders"],
      ["GET", "/events"],
    ] as const) {
      const reply = await node.call(method, `/api/v1/mailboxes/gone${path}`);
      assert.deepEqual([reply.status, reply.body.code], [404, "not_found"], method + path);
    }
    assert.equal((await node.call("PATCH", "/api/v1/mailboxes/gone", {})).status, 404);
    assert.equal((await node.call("POST", "/api/v1/mailboxes/gone/resync", { since: "2026-01-01" })).status, 404);
  });
});

describe("a merge patch", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi();
  });
  after(() => node.close());
  const stored = async (id: string) => {
    const found = await node.store.mailboxes.get(id);
    assert.ok(found);
    return found;
  };

  test("keeps what is absent, secrets included, and removes what is null", async () => {
    await node.call("PUT", "/api/v1/mailboxes/p", exampleBody({ name: "Help" }));
    const original = await stored("p");
    const reply = await node.call("PATCH", "/api/v1/mailboxes/p", { name: null, receive: { folders: "all" } });
    assert.equal(reply.status, 200);
    assert.equal("name" in reply.body, false);
    assert.equal(reply.body.receive.folders, "all");
    const { mailbox: kept } = await stored("p");
    assert.ok("password" in kept.receive.auth);
    assert.equal(kept.receive.auth.password.reveal(), PASSWORD);
    assert.equal(kept.deliver.secret?.reveal(), original.mailbox.deliver.secret?.reveal());
    assert.ok(!reply.text.includes("whsec_"));
  });

  test("with another kind of credential replaces the one before", async () => {
    await node.call("PUT", "/api/v1/mailboxes/kinds", exampleBody());
    await node.call("PATCH", "/api/v1/mailboxes/kinds", { receive: { auth: { accessToken: "ya29.token" } } });
    assert.deepEqual(Object.keys((await stored("kinds")).mailbox.receive.auth).toSorted(), ["accessToken", "user"]);
    const oauth2 = { tokenUrl: "https://login.example.com/token", clientId: "c", refreshToken: "r3fr3sh" };
    const reply = await node.call("PATCH", "/api/v1/mailboxes/kinds", { receive: { auth: { oauth2 } } });
    assert.deepEqual(reply.body.receive.auth.oauth2, { tokenUrl: oauth2.tokenUrl, clientId: "c" });
    assert.ok(!reply.text.includes("r3fr3sh"));
    const scoped = { receive: { auth: { oauth2: { scope: "mail" } } } };
    assert.equal((await node.call("PATCH", "/api/v1/mailboxes/kinds", scoped)).status, 200);
    const { auth } = (await stored("kinds")).mailbox.receive;
    assert.ok("oauth2" in auth);
    assert.equal(auth.oauth2.refreshToken?.reveal(), "r3fr3sh");
  });

  test("removing the webhook secret makes a new one, told in that answer", async () => {
    const made = await node.call("PUT", "/api/v1/mailboxes/rotate", exampleBody());
    const reply = await node.call("PATCH", "/api/v1/mailboxes/rotate", { deliver: { secret: null } });
    assert.match(reply.body.deliver.secret, /^whsec_/);
    assert.notEqual(reply.body.deliver.secret, made.body.deliver.secret);
  });

  test("may come as application/merge-patch+json, and what it makes invalid is refused whole", async () => {
    await node.call("PUT", "/api/v1/mailboxes/types", exampleBody());
    const type = { "content-type": "application/merge-patch+json" };
    assert.equal((await node.call("PATCH", "/api/v1/mailboxes/types", { name: "N" }, type)).status, 200);
    const bad = await node.call("PATCH", "/api/v1/mailboxes/types", { name: "M", receive: { host: null } });
    assert.deepEqual(bad.body.errors, [{ path: "receive.host", message: "is missing" }]);
    assert.equal((await stored("types")).mailbox.name, "N");
    const deep = `${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`;
    assert.equal((await node.call("PATCH", "/api/v1/mailboxes/types", deep)).status, 400);
    const proto = await node.call("PATCH", "/api/v1/mailboxes/types", '{"__proto__":{"name":"x"}}');
    assert.notEqual(proto.status, 500);
    assert.equal((await stored("types")).mailbox.name, "N");
  });

  test("waits while a node rotates the refresh token, and keeps the new one, as a pause and a resume do", async () => {
    const oauth2 = { tokenUrl: "https://login.example.com/token", clientId: "c", refreshToken: "r1" };
    const receive = { protocol: "imap", host: "imap.example.com", auth: { user: "a", oauth2 } };
    await node.call("PUT", "/api/v1/mailboxes/rotating", exampleBody({ receive }));
    const refreshToken = async () => {
      const { auth } = (await stored("rotating")).mailbox.receive;
      return "oauth2" in auth ? auth.oauth2.refreshToken?.reveal() : undefined;
    };
    const signal = AbortSignal.timeout(60_000);
    for (const [n, change] of [
      () => node.call("PATCH", "/api/v1/mailboxes/rotating", { name: "N" }),
      () => node.call("POST", "/api/v1/mailboxes/rotating/pause"),
      () => node.call("POST", "/api/v1/mailboxes/rotating/resume"),
    ].entries()) {
      const rotated = `r${n + 2}`;
      let changed: ReturnType<typeof change> | undefined;
      const rotate = async () => {
        changed = change();
        await sleep(50);
        await node.store.mailboxes.amend({ id: "rotating" }, (current) => {
          const renewed = { ...oauth2, refreshToken: new Secret(rotated) };
          return { ...current, receive: { ...current.receive, auth: { user: "a", oauth2: renewed } } };
        });
      };
      await node.store.locks.hold(credentialsLock("rotating"), { waitMs: 1000, what: "It" }, rotate, signal);
      assert.equal((await changed)?.status, 200);
      assert.equal(await refreshToken(), rotated);
    }
    assert.equal((await stored("rotating")).mailbox.name, "N");
  });

  test("of credentials or endpoint forgets failed logins and the problem; of the name alone it does not", async () => {
    await node.call("PUT", "/api/v1/mailboxes/fresh", exampleBody());
    const { state, mailbox: fresh } = await stored("fresh");
    const problem = { code: "auth" as const, cause: "refused", fix: "check", evidence: null, retryAt: null };
    const refused = { ...state, status: "needs_attention" as const, failedLogins: 3, problem };
    await node.store.mailboxes.saveStates([{ id: "fresh", revision: fresh.revision, state: refused }]);
    await node.call("PATCH", "/api/v1/mailboxes/fresh", { name: "New" });
    assert.equal((await stored("fresh")).state.failedLogins, 3);
    const shown = await node.call("GET", "/api/v1/mailboxes/fresh");
    assert.equal(shown.body.state.problem.code, "auth");
    const reply = await node.call("PATCH", "/api/v1/mailboxes/fresh", { receive: { auth: { password: "right" } } });
    assert.deepEqual([reply.body.state.status, reply.body.state.problem], ["initializing", null]);
    assert.equal((await stored("fresh")).state.failedLogins, 0);
  });

  test("of the endpoint brings back one that was gone; a resume does too", async () => {
    await node.call("PUT", "/api/v1/mailboxes/back", exampleBody());
    await node.store.mailboxes.put({ ...(await stored("back")).mailbox, endpointGone: true });
    await node.call("PATCH", "/api/v1/mailboxes/back", { name: "same endpoint" });
    assert.equal((await stored("back")).mailbox.endpointGone, true);
    await node.call("PATCH", "/api/v1/mailboxes/back", { deliver: { url: "https://crm.example.com/new" } });
    assert.equal((await stored("back")).mailbox.endpointGone, false);
    await node.store.mailboxes.put({ ...(await stored("back")).mailbox, endpointGone: true });
    assert.equal((await node.call("POST", "/api/v1/mailboxes/back/resume")).status, 200);
    assert.equal((await stored("back")).mailbox.endpointGone, false);
  });

  test("with If-Match changes only the revision it names", async () => {
    const made = await node.call("PUT", "/api/v1/mailboxes/match", exampleBody());
    const etag = made.headers.get("etag") ?? "";
    const first = await node.call("PATCH", "/api/v1/mailboxes/match", { name: "a" }, { "if-match": etag });
    assert.equal(first.status, 200);
    for (const method of ["PATCH", "PUT", "DELETE"]) {
      const body = method === "DELETE" ? undefined : exampleBody();
      const late = await node.call(method, "/api/v1/mailboxes/match", body, { "if-match": etag });
      assert.deepEqual([late.status, late.body.code], [412, "precondition"], method);
    }
  });

  test("at the same time as others loses nothing: one wins, the rest get a conflict", async () => {
    await node.call("PUT", "/api/v1/mailboxes/race", exampleBody());
    const replies = await Promise.all(
      Array.from({ length: 8 }, (_, i) => node.call("PATCH", "/api/v1/mailboxes/race", { name: `n${i}` })),
    );
    assert.ok(replies.every(({ status }) => status === 200 || status === 409));
    const won = replies.filter(({ status }) => status === 200);
    assert.equal((await stored("race")).mailbox.revision, 1 + won.length);
  });
});

describe("pause and resume", () => {
  test("are idempotent and shown at once", async () => {
    const node = await startApi();
    try {
      await node.call("PUT", "/api/v1/mailboxes/m1", exampleBody());
      const paused = await node.call("POST", "/api/v1/mailboxes/m1/pause");
      assert.deepEqual([paused.status, paused.body.state.status], [200, "paused"]);
      const again = await node.call("POST", "/api/v1/mailboxes/m1/pause");
      assert.equal(again.body.revision, paused.body.revision);
      assert.equal((await node.call("GET", "/api/v1/mailboxes?status=paused")).body.total, 1);
      assert.deepEqual(await node.store.mailboxes.listEnabled(), []);
      const resumed = await node.call("POST", "/api/v1/mailboxes/m1/resume");
      assert.equal(resumed.body.state.status, "initializing");
      const twice = await node.call("POST", "/api/v1/mailboxes/m1/resume");
      assert.equal(twice.body.revision, resumed.body.revision);
    } finally {
      await node.close();
    }
  });
});

describe("lists", () => {
  test("page through a thousand mailboxes without losing or repeating one", async () => {
    const node = await startApi();
    try {
      const ids = Array.from({ length: 1000 }, (_, i) => `box-${String(i).padStart(4, "0")}`);
      for (let i = 0; i < ids.length; i += 50) {
        await Promise.all(
          ids
            .slice(i, i + 50)
            .map((id) => node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody({ address: `${id}@example.com` }))),
        );
      }
      const seen: string[] = [];
      let next: string | null = "";
      while (next !== null) {
        const cursor = next === "" ? "" : `&cursor=${encodeURIComponent(next)}`;
        const page: any = (await node.call("GET", `/api/v1/mailboxes?limit=300${cursor}`)).body;
        assert.equal(page.total, 1000);
        seen.push(...page.items.map((item: { id: string }) => item.id));
        next = page.next;
      }
      assert.deepEqual(seen, ids);
      assert.equal((await node.call("GET", "/api/v1/mailboxes")).body.items.length, 100);
      const one = await node.call("GET", "/api/v1/mailboxes?address=BOX-0007@example.com");
      assert.deepEqual(
        one.body.items.map((item: { id: string }) => item.id),
        ["box-0007"],
      );
      const odd = await node.call("GET", "/api/v1/mailboxes?cursor=nonsense");
      assert.equal(odd.status, 422);
    } finally {
      await node.close();
    }
  });
});
