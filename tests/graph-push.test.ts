/** Notifications of Graph: mail is delivered by them alone, whatever happens to them, and polling goes on where there are none. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { graphBody, register, toEndpoint } from "./bodies.ts";
import { clusterRig } from "./cluster-rig.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { message } from "./servers/mail.ts";
import { freePorts } from "./servers/ports.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { type Service, startService } from "./service.ts";
import { status, subjects } from "./stories/scene.ts";

const ANN = "ann@example.com";
/** Nothing is found by polling within a test. */
const SELDOM = { FOLDER_POLL_SECONDS: "3000", PROBE_SECONDS: "1700" };

const put = (server: GraphServer, subject: string) => server.append(ANN, "inbox", message({ subject, text: subject }));

describe("a mailbox of which Graph notifies", { timeout: 240_000 }, () => {
  let server: GraphServer;
  let endpoint: Endpoint;
  let service: Service;
  before(async () => {
    const [port = 0] = await freePorts(1);
    const env = { ...SELDOM, PORT: String(port), PUBLIC_URL: `http://127.0.0.1:${port}` };
    [server, endpoint, service] = await Promise.all([startGraphServer(), startEndpoint(), startService(env)]);
    await server.addUser(ANN);
    await register(service, graphBody(server, ANN, { id: "ann", deliver: toEndpoint(endpoint) } as object));
    await status(service, "ann", "listening");
  });
  after(async () => {
    await service?.end();
    await Promise.all([server?.stop(), endpoint?.stop()]);
  });
  const subscription = () => server.subscriptions()[0];
  const post = (path: string, body: unknown) => service.call("POST", path, body, { authorization: "" });
  const arrives = (subject: string) => service.until(subject, () => subjects(endpoint).includes(subject));

  test("its mail arrives by notifications alone", async () => {
    assert.equal(server.subscriptions().length, 1);
    assert.match(subscription()?.resource ?? "", /mailFolders/);
    for (const subject of ["one", "two", "three"]) {
      await put(server, subject);
      await arrives(subject);
    }
  });

  test("lost notifications are made up for when Graph says so", async () => {
    server.push.lose(1);
    await put(server, "lost");
    server.push.lifecycle(subscription()?.id ?? "", "missed");
    await arrives("lost");
  });

  test("a subscription is renewed when Graph asks, and made again when Graph ended it", async () => {
    const { id = "", expiresAt = 0 } = subscription() ?? {};
    server.push.lifecycle(id, "reauthorizationRequired");
    await service.until("the renewal", () => (subscription()?.expiresAt ?? 0) > expiresAt);
    server.push.lifecycle(id, "subscriptionRemoved");
    await put(server, "in between");
    await arrives("in between");
    await service.until("a new subscription", () => subscription() !== undefined && subscription()?.id !== id);
    await put(server, "again");
    await arrives("again");
  });

  test("after kill -9 the subscription that is left is used", async () => {
    const ids = server.subscriptions().map((one) => one.id);
    await service.kill();
    await put(server, "while it was dead");
    await service.start();
    await arrives("while it was dead");
    await status(service, "ann", "listening");
    await put(server, "after it");
    await arrives("after it");
    assert.deepEqual(
      server.subscriptions().map((one) => one.id),
      ids,
    );
  });

  test("what is forged is answered as anything else, and does nothing", async () => {
    const [{ clientState = "" } = {}] = server.subscriptions();
    const asked = server.requests.length;
    for (const [mailbox, state] of [
      ["ann", "guessed"],
      ["ann", ""],
      ["bob", clientState],
    ]) {
      const answer = await post(`/graph/notifications/${mailbox}`, { value: [{ clientState: state }] });
      assert.equal(answer.status, 202);
    }
    assert.equal(server.requests.length, asked);
    const token = "Validation: <b>%20&+";
    const path = `/graph/lifecycle/nobody?validationToken=${encodeURIComponent(token)}`;
    const answer = await post(path, undefined);
    assert.deepEqual([answer.status, answer.body], [200, token]);
    assert.match(answer.headers.get("content-type") ?? "", /^text\/plain/);
    assert.equal((await post("/graph/notifications/ann", { value: "no list" })).status, 422);
  });
});

describe("a mailbox of which Graph cannot notify", { timeout: 120_000 }, () => {
  const refusals: [string, (server: GraphServer) => void, RegExp][] = [
    ["an address that it cannot reach", () => undefined, /cannot send notifications to http:\/\/127\.0\.0\.1:9/],
    [
      "a subscription that it does not find",
      ({ faults }) => faults.always("createSubscription", { status: 404, code: "ResourceNotFound" }),
      /no user of this name/,
    ],
  ];
  for (const [what, refuse, words] of refusals)
    test(`${what}: it is polled, a fact says why, and Graph is seldom asked again`, async () => {
      const env = { FOLDER_POLL_SECONDS: "0.4", PUBLIC_URL: "http://127.0.0.1:9" };
      const [server, endpoint, service] = await Promise.all([startGraphServer(), startEndpoint(), startService(env)]);
      try {
        await server.addUser(ANN);
        refuse(server);
        await register(service, graphBody(server, ANN, { id: "ann", deliver: toEndpoint(endpoint) } as object));
        const fact = await service.until("the fact", () =>
          service.facts.find(({ kind }) => kind === "mailbox.push_refused"),
        );
        assert.match(JSON.stringify(fact["failure"]), words);
        await status(service, "ann", "polling");
        for (const subject of ["first", "second", "third"]) {
          await put(server, subject);
          await service.until(subject, () => subjects(endpoint).includes(subject));
        }
        const asked = server.requests.filter(({ operation }) => operation === "createSubscription");
        assert.ok(asked.length <= 10, `${asked.length} requests for a subscription`);
      } finally {
        await service.end();
        await Promise.all([server.stop(), endpoint.stop()]);
      }
    });
});

describe("notifications and two nodes", { timeout: 120_000 }, () => {
  let redis: Redis | undefined;
  before(async () => {
    redis = (await provide("redis"))?.server;
  });
  after(async () => redis?.remove());

  test("the node that is called passes them to the node that watches", async (t) => {
    if (!redis) return t.skip("no redis");
    const [port = 0] = await freePorts(1);
    const env = { ...SELDOM, PUBLIC_URL: `http://127.0.0.1:${port}` };
    const [rig, server] = await Promise.all([clusterRig({ redisUrl: redis.url, env }), startGraphServer()]);
    try {
      await server.addUser(ANN);
      const watcher = await rig.api("api-0");
      await register(watcher, graphBody(server, ANN, { id: "ann", deliver: toEndpoint(rig.endpoint) } as object));
      await status(watcher, "ann", "polling");
      // Graph reaches only the second node, and until it is there nobody.
      const called = await rig.api("api-1", { PORT: String(port) });
      await watcher.until("notifications", async () => {
        const { state } = (await watcher.call("GET", "/api/v1/mailboxes/ann")).body;
        return state.status === "listening" && state.node;
      });
      await put(server, "by the other node");
      await called.until("the message", () => subjects(rig.endpoint).includes("by the other node"));
    } finally {
      await rig.end();
      await server.stop();
    }
  });
});
