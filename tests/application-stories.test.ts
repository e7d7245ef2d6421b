/** Stories of mailboxes that name an application: their mail, one token for all of them, and a change of the application. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { redisStore } from "../shared/store/redis/store.ts";
import { vault } from "../shared/store/vault.ts";
import { readConfig } from "../shared/config.ts";
import { toEndpoint } from "./bodies.ts";
import { clusterRig, expect } from "./cluster-rig.ts";
import type { Endpoint } from "./servers/endpoint.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { numbered } from "./servers/mail.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import type { Service } from "./service.ts";
import { nodeBeside, status, subjects } from "./stories/scene.ts";

const PATH = "/api/v1/applications/contoso";
const POLLS = { PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.4" };

function applicationBody(server: GraphServer, clientSecret: string) {
  const { root: graphUrl, tokenRoot, tenant, clientId } = server;
  const tokenUrl = `${tokenRoot}/${tenant}/oauth2/v2.0/token`;
  return { provider: "microsoft", tenant, clientId, clientSecret, graphUrl, tokenUrl };
}

/** Registers mailboxes that name the application, by their ids, and waits until they are received. */
async function registerUsers(at: Service, server: GraphServer, endpoint: Endpoint, ids: readonly string[]) {
  for (const id of ids) {
    const address = `${id}@example.com`;
    await server.addUser(address);
    const receive = { protocol: "graph", auth: { application: "contoso" } };
    expect(
      await at.call("POST", "/api/v1/mailboxes", { id, address, receive, send: {}, deliver: toEndpoint(endpoint) }),
      201,
    );
  }
  for (const id of ids) await status(at, id, "polling");
}

/** Puts a message with this subject into the inbox of each. */
async function sendTo(server: GraphServer, ids: readonly string[], subject: string): Promise<string[]> {
  for (const id of ids) await server.append(`${id}@example.com`, "inbox", numbered(1, { subject: `${subject} ${id}` }));
  return ids.map((id) => `${subject} ${id}`);
}

/** Sends a message through the mailbox, and returns what became of it. */
async function sendFrom(at: Service, id: string, key: string): Promise<string> {
  const letter = { to: ["someone@example.net"], subject: key, text: "Hello" };
  const answer = await at.call("POST", `/api/v1/mailboxes/${id}/messages?wait=30`, letter, { "idempotency-key": key });
  return answer.body.state;
}

/** From now on Microsoft knows only this secret, and refuses every token that it gave. */
function replaceSecret(server: GraphServer, secret: string): void {
  server.application.secrets.splice(0, Infinity, secret);
  server.forgetTokens();
}

const arrived = (at: Service, endpoint: Endpoint, wanted: readonly string[]) =>
  at.until("the mail", () => wanted.every((one) => subjects(endpoint).includes(one)), 60_000);

describe("mailboxes of one application", { timeout: 300_000 }, () => {
  let redis: Redis | undefined;
  before(async () => {
    redis = (await provide("redis"))?.server;
  });
  after(async () => redis?.remove());

  test("receive their mail with one token, and go on when its secret is replaced, without a change of their own", async () => {
    const server = await startGraphServer();
    const { service, endpoint, end } = await nodeBeside(server, POLLS);
    try {
      const ids = ["ann", "bob"];
      expect(await service.call("PUT", PATH, applicationBody(server, server.clientSecret)), 201);
      await registerUsers(service, server, endpoint, ids);
      await arrived(service, endpoint, await sendTo(server, ids, "first"));
      assert.equal(await sendFrom(service, "ann", "first"), "sent");
      assert.equal(server.tokenRequests.length, 1);
      assert.equal((await service.call("DELETE", PATH)).status, 409);

      replaceSecret(server, "the second secret");
      for (const id of ids) {
        const { problem } = await status(service, id, "needs_attention");
        assert.equal(problem.code, "token");
        assert.match(problem.cause, /secret is wrong/);
      }
      const missed = await sendTo(server, ids, "missed");
      const { clientSecret: _, ...unchanged } = applicationBody(server, "");
      expect(await service.call("PUT", PATH, { ...unchanged, clientSecret: "the second secret" }), 200);
      await arrived(service, endpoint, missed);
      assert.equal(await sendFrom(service, "ann", "second"), "sent");
      for (const id of ids) {
        await status(service, id, "polling");
        const { revision } = expect(await service.call("GET", `/api/v1/mailboxes/${id}`), 200);
        assert.equal(revision, 1, "nobody touched the mailbox");
      }
      assert.equal(subjects(endpoint).length, 4);
    } finally {
      await end();
    }
  });

  test("on several nodes see a changed application at once, and one that is gone stops nothing else", async (t) => {
    if (!redis) return t.skip("no redis");
    const [rig, server] = await Promise.all([clusterRig({ redisUrl: redis.url, env: POLLS }), startGraphServer()]);
    try {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
      const ids = ["ann", "bob", "eve", "joe"];
      expect(await one.call("PUT", PATH, applicationBody(server, server.clientSecret)), 201);
      await registerUsers(two, server, rig.endpoint, ids);
      await arrived(one, rig.endpoint, await sendTo(server, ids, "first"));
      assert.ok(server.tokenRequests.length <= 2, "each process takes one token");
      const nodes = async () => {
        const { items } = expect(await one.call("GET", "/api/v1/mailboxes"), 200);
        return new Set(items.map(({ state }: { state: { node: string } }) => state.node)).size;
      };
      await one.until("both nodes to have mailboxes", async () => (await nodes()) === 2);

      replaceSecret(server, "the second secret");
      for (const id of ids) await status(one, id, "needs_attention");
      expect(await one.call("PUT", PATH, applicationBody(server, "the second secret")), 200);
      for (const id of ids) await status(two, id, "polling");
      await arrived(one, rig.endpoint, await sendTo(server, ids, "second"));

      const keys = readConfig({ ENCRYPTION_KEYS: rig.env["ENCRYPTION_KEYS"] ?? "" }).ENCRYPTION_KEYS;
      const options = { url: redis.url, prefix: rig.env["REDIS_PREFIX"] ?? "", vault: vault(keys) };
      const store = await redisStore({ ...options, windowDays: 7, spoolBytes: 1e9 });
      try {
        assert.equal(await store.applications.remove("contoso"), true);
      } finally {
        await store.close();
      }
      expect(await one.call("PUT", "/api/v1/applications/other", applicationBody(server, "x")), 201);
      for (const id of ids) {
        const { problem } = await status(one, id, "needs_attention");
        assert.match(problem.cause, /no application contoso/);
        assert.match(problem.fix, /Register the application again/);
      }
      const waiting = await sendTo(server, ids, "third");
      expect(await two.call("PUT", PATH, applicationBody(server, "the second secret")), 201);
      await arrived(one, rig.endpoint, waiting);
    } finally {
      await rig.end();
      await server.stop();
    }
  });
});
