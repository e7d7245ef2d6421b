/** What a person does with an endpoint: pause and resume its deliveries, post a test message, give it a new secret. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Webhook } from "standardwebhooks";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { httpPost } from "../worker/endpoint/http.ts";
import { signRequest } from "../worker/endpoint/webhook.ts";
import { testPoster } from "../worker/test-post.ts";
import { startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { clusterRig, expect, shared } from "./cluster-rig.ts";
import { type EndpointRequest, startEndpoint } from "./servers/endpoint.ts";
import { message } from "./servers/mail.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import type { Service } from "./service.ts";
import { type Scene, scene } from "./stories/scene.ts";

let redis: Redis | undefined;
before(async () => {
  redis = (await provide("redis"))?.server;
});
after(() => redis?.remove());

async function withStage(work: (stage: Scene) => Promise<void>, env: Record<string, string> = {}): Promise<void> {
  const stage = await scene(env);
  await work(stage).finally(() => stage.end());
}

const bearer = (token: string) => ({ authorization: `Bearer ${token}` });
const ask = (at: Service, what: string, body: object, headers = {}) =>
  at.call("POST", `/api/v1/endpoints/${what}`, body, headers);
const held = async (at: Service) =>
  expect(await at.call("GET", "/api/v1/deliveries?state=retrying"), 200).items.filter((one: any) =>
    /a person has paused/.test(one.reason),
  );

/** Whether each of these secrets alone verifies the request. */
function verifiedBy({ raw, headers }: EndpointRequest, secrets: string[]): boolean[] {
  return secrets.map((secret) => {
    try {
      new Webhook(secret).verify(raw.toString(), headers);
      return true;
    } catch {
      return false;
    }
  });
}

describe("a paused endpoint", () => {
  test("gets nothing, also after a restart; messages wait without an attempt and go out at the resume", () =>
    withStage(async ({ service, endpoint, mail, mailbox }) => {
      const { user } = await mailbox();
      const paused = expect(await ask(service, "pause", { url: `${endpoint.url}?key=1` }), 200);
      assert.deepEqual([paused.url, paused.mailboxPrefix, paused.pausedBy], [endpoint.url, "", "API_TOKENS#1"]);
      expect(await ask(service, "pause", { url: endpoint.url }), 200);
      assert.equal(expect(await service.call("GET", "/api/v1/endpoints"), 200).items.length, 1);
      await mail.append(user, "INBOX", message({ subject: "one" }));
      const [waiting] = await service.until("a message that waits", async () => {
        const found = await held(service);
        return found.length === 1 && found;
      });
      assert.equal(waiting.attemptCount, 0);
      await service.kill();
      await service.start();
      await mail.append(user, "INBOX", message({ subject: "two" }));
      await service.until("two that wait", async () => (await held(service)).length === 2);
      const first = Date.parse(waiting.giveUpAt);
      await service.until("a later time to give up", async () =>
        (await held(service)).some((one: any) => one.id === waiting.id && Date.parse(one.giveUpAt) > first),
      );
      assert.equal(endpoint.requests.length, 0);
      assert.equal(expect(await ask(service, "resume", { url: endpoint.url }), 200).waiting, 2);
      await endpoint.waitFor(2);
      const newest = expect(await service.call("GET", `/api/v1/deliveries/${waiting.id}`), 200);
      assert.equal(newest.attemptCount, 1);
      assert.equal((await ask(service, "resume", { url: endpoint.url })).status, 404);
    }));

  test("of one path stops neither the other paths nor other mailboxes' ids, and a prefix resumes only its own", () =>
    withStage(async ({ service, endpoint, mail, mailbox }) => {
      const other = await mailbox({ deliver: { url: `${endpoint.url}other` } });
      const one = await mailbox({ deliver: { url: `${endpoint.url}one` } });
      expect(await ask(service, "pause", { url: `${endpoint.url}one` }), 200);
      for (const { user } of [one, other]) await mail.append(user, "INBOX", message({ subject: user }));
      await endpoint.waitFor((request) => request.path === "/other");
      await service.until("one that waits", async () => (await held(service)).length === 1);
      const made = { name: "acme", scopes: ["read", "manage"], mailboxPrefix: one.id.slice(0, 6) };
      const { token } = expect(await service.call("POST", "/api/v1/tokens", made), 201);
      const asAcme = bearer(token);
      assert.equal((await ask(service, "resume", { url: `${endpoint.url}one` }, asAcme)).status, 404);
      expect(await ask(service, "pause", { url: endpoint.url }, asAcme), 200);
      await mail.append(other.user, "INBOX", message({ subject: "again" }));
      await endpoint.waitFor(2);
      expect(await ask(service, "resume", { url: `${endpoint.url}one` }), 200);
      await service.until("still held by the other pause", async () => (await held(service)).length === 1);
      expect(await ask(service, "resume", { url: endpoint.url }, asAcme), 200);
      await endpoint.waitFor((request) => request.path === "/one");
    }));

  test("is paused on every node", async (t) => {
    if (!redis) return t.skip("no redis");
    const rig = await clusterRig({ redisUrl: redis.url });
    try {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
      await rig.register(one, 4);
      await shared(one, 4, { "api-0": 1, "api-1": 1 });
      for (let n = 0; n < 4; n++) await rig.send(`box-${n}`);
      await rig.arrived();
      expect(await ask(one, "pause", { url: rig.endpoint.url }), 200);
      // So late a node may notice it.
      await new Promise((resolve) => setTimeout(resolve, 1_500));
      for (let n = 0; n < 4; n++) await rig.send(`box-${n}`);
      await two.until("four that wait", async () => (await held(two)).length === 4);
      assert.equal(rig.missing().length, 4);
      expect(await ask(two, "resume", { url: rig.endpoint.url }), 200);
      await rig.arrived();
    } finally {
      await rig.end();
    }
  });
});

describe("a test message", () => {
  test("is signed by the mailbox's secret, goes out once, and shows status and time", () =>
    withStage(async ({ service, endpoint, mailbox }) => {
      const { id } = await mailbox();
      const report = expect(await ask(service, "test", { url: endpoint.url }), 200);
      assert.deepEqual([report.ok, report.status, report.mailbox, report.reason], [true, 200, id, null]);
      assert.ok(report.ms >= 0);
      const [request] = endpoint.received;
      assert.ok(request?.verified);
      assert.equal(request.id, report.id);
      assert.equal((request.json as any).type, "endpoint.test");
      endpoint.answer(() => ({ status: 500, body: `<script>alert(1)</script>${"x".repeat(100_000)}` }));
      const refused = expect(await ask(service, "test", { url: endpoint.url, mailbox: id }), 200);
      assert.deepEqual([refused.ok, refused.status], [false, 500]);
      assert.ok(refused.words.length <= 200);
      assert.equal(endpoint.requests.length, 2);
      const { items } = expect(await service.call("GET", "/api/v1/deliveries"), 200);
      assert.deepEqual(items, []);
      assert.equal((await ask(service, "test", { url: "https://nobody.example/" })).status, 404);
      const elsewhere = await ask(service, "test", { url: "https://nobody.example/", mailbox: id });
      assert.deepEqual([elsewhere.status, elsewhere.body.errors[0].path], [422, "mailbox"]);
    }));

  test("ends at the deadline of a hostile endpoint, follows no redirect, and is not for the endpoint of a CRM", async () => {
    await withStage(
      async ({ service, endpoint, mailbox }) => {
        await mailbox();
        endpoint.answer(() => ({ hang: true }));
        const hung = expect(await ask(service, "test", { url: endpoint.url }), 200);
        assert.deepEqual([hung.ok, hung.status], [false, null]);
        endpoint.answer(() => ({ status: 302, headers: { location: "http://169.254.169.254/" }, body: "moved" }));
        const moved = expect(await ask(service, "test", { url: endpoint.url }), 200);
        assert.deepEqual([moved.ok, moved.status], [false, 302]);
      },
      { DELIVERY_TIMEOUT_SECONDS: "2" },
    );
    const node = await startApi();
    try {
      const creatio = exampleBody({ id: "crm", deliver: { url: "https://crm.example.com/x", dialect: "creatio" } });
      await node.call("POST", "/api/v1/mailboxes", creatio);
      const reply = await node.call("POST", "/api/v1/endpoints/test", { url: "https://crm.example.com/x" });
      assert.deepEqual([reply.status, reply.body.errors[0].path], [422, "url"]);
    } finally {
      await node.close();
    }
  });

  test("does not show the words of the endpoint where they must not be shown", async () => {
    const endpoint = await startEndpoint();
    const post = httpPost({ egress: egress("allow"), timeoutMs: 5_000 });
    try {
      endpoint.answer(() => ({ status: 500, body: "root:x:0:0" }));
      const deliver = { url: endpoint.url, secret: new Secret(endpoint.secret) };
      const mailbox = { id: "m", address: "a@example.com", deliver } as Mailbox;
      const never = new AbortController().signal;
      assert.match((await testPoster({ post, showWords: true })(mailbox, never)).words ?? "", /root/);
      assert.equal((await testPoster({ post, showWords: false })(mailbox, never)).words, null);
    } finally {
      post.close();
      await endpoint.stop();
    }
  });
});

describe("a new secret", () => {
  test("signs beside the old one for all mailboxes of the endpoint, is shown once, and is not stored in clear", () =>
    withStage(async ({ service, endpoint, mail, mailbox }) => {
      const [one, two] = [await mailbox(), await mailbox()];
      const rotated = expect(await ask(service, "rotate-secret", { url: endpoint.url, overlapHours: 2 }), 200);
      assert.deepEqual([rotated.mailboxes, rotated.changed, rotated.problems], [2, 2, []]);
      const again = { url: endpoint.url, secret: rotated.secret };
      assert.equal(expect(await ask(service, "rotate-secret", again), 200).changed, 2);
      const view = expect(await service.call("GET", `/api/v1/mailboxes/${one.id}`), 200);
      assert.equal(view.oldSecretUntil, rotated.oldSecretUntil);
      for (const text of [rotated.secret, endpoint.secret])
        assert.ok(!JSON.stringify(view).includes(text.slice(6)) && !service.output.includes(text.slice(6)));
      await service.kill();
      await service.start();
      for (const { user } of [one, two]) await mail.append(user, "INBOX", message({ subject: user }));
      await endpoint.waitFor(2);
      for (const request of endpoint.received)
        assert.deepEqual(verifiedBy(request, [rotated.secret, endpoint.secret]), [true, true]);
      const next = expect(await ask(service, "rotate-secret", { url: endpoint.url, overlapHours: 2 }), 200);
      expect(await ask(service, "test", { url: endpoint.url }), 200);
      const newest = endpoint.requests.at(-1);
      assert.ok(newest);
      assert.deepEqual(verifiedBy(newest, [next.secret, rotated.secret, endpoint.secret]), [true, true, true]);
      expect(await service.call("PATCH", `/api/v1/mailboxes/${one.id}`, { name: "same secret" }), 200);
      assert.ok(expect(await service.call("GET", `/api/v1/mailboxes/${one.id}`), 200).oldSecretUntil);
      const moved = { deliver: { url: "http://localhost:9/" } };
      expect(await service.call("PATCH", `/api/v1/mailboxes/${one.id}`, moved), 200);
      assert.equal(expect(await service.call("GET", `/api/v1/mailboxes/${one.id}`), 200).oldSecretUntil, undefined);
    }));

  test("is the only one that signs after the overlap", async () => {
    const [old, next] = ["old", "new"].map((name) => `whsec_${Buffer.from(name.padEnd(32, "-")).toString("base64")}`);
    assert.ok(old !== undefined && next !== undefined);
    const until = "2026-11-30T12:00:00.000Z";
    const mailbox = {
      deliver: { url: "https://crm.example.com/", secret: new Secret(next) },
      oldSecrets: { last: { secret: new Secret(old), until } },
    };
    const content = { id: "msg_1", contentType: "application/json", headers: {}, body: "{}" };
    const count = async (at: string) =>
      (await signRequest(mailbox, content, new Date(at))).headers["webhook-signature"]?.split(" ").length;
    assert.deepEqual([await count("2026-11-30T11:59:59.000Z"), await count("2026-11-30T12:00:00.000Z")], [2, 1]);
  });

  test("touches only the mailboxes that a token sees, and a wrong one is refused with its field", async () => {
    const node = await startApi({ API_TOKENS: "admin-0123456789abcdef" });
    try {
      const admin = bearer("admin-0123456789abcdef");
      for (const id of ["acme-1", "other-1"])
        await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody({ address: `${id}@example.com` }), admin);
      const made = { name: "acme", scopes: ["read", "manage"], mailboxPrefix: "acme-" };
      const { token } = (await node.call("POST", "/api/v1/tokens", made, admin)).body;
      const url = "https://crm.example.com/mail";
      const reply = await node.call("POST", "/api/v1/endpoints/rotate-secret", { url }, bearer(token));
      assert.deepEqual([reply.status, reply.body.mailboxes], [200, 1]);
      const other = await node.store.mailboxes.get("other-1");
      assert.equal(other?.mailbox.oldSecrets, undefined);
      const wrong = await node.call("POST", "/api/v1/endpoints/rotate-secret", { url, secret: "short" }, admin);
      assert.deepEqual([wrong.status, wrong.body.errors[0].path], [422, "secret"]);
      const audit = (await node.call("GET", "/api/v1/audit", undefined, admin)).body.items;
      const entry = audit.find((one: any) => one.route === "/api/v1/endpoints/rotate-secret");
      assert.deepEqual(entry.changed, ["deliver.secret"]);
      assert.ok(!JSON.stringify(audit).includes(reply.body.secret));
    } finally {
      await node.close();
    }
  });
});
