/** Proves that the fake Graph server tells subscriptions of changes as Graph does. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { createServer, type ServerResponse } from "node:http";
import { ANN, ask, type Json, json, refusal, withAnn } from "./servers/graph/asking.ts";
import { listenOn } from "./servers/ports.ts";
import { numbered } from "./servers/mail.ts";
import { eventually } from "./servers/waiting.ts";

const MINUTE = 60_000;
const inMinutes = (minutes: number) => new Date(Date.now() + minutes * MINUTE).toISOString();

type Listener = { url: string; told: Json[]; validations: string[] };

/** An address that listens: it answers validations, keeps what it is told, and may answer in another way. */
async function listener(
  t: { after(work: () => Promise<void>): void },
  answer: (response: ServerResponse) => void = (response) => void response.writeHead(202).end(),
): Promise<Listener> {
  const told: Json[] = [];
  const validations: string[] = [];
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://x");
    const token = url.searchParams.get("validationToken");
    let text = "";
    request.on("data", (piece: Buffer) => (text += piece.toString()));
    request.on("end", () => {
      if (token !== null) {
        validations.push(url.pathname);
        return void response
          .writeHead(200, { "content-type": "text/plain" })
          .end(url.pathname === "/wrong" ? `${token}!` : token);
      }
      told.push(...(JSON.parse(text) as { value: Json[] }).value.map((one) => ({ ...one, path: url.pathname })));
      return answer(response);
    });
  });
  const port = await listenOn(server, 0);
  t.after(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return { url: `http://127.0.0.1:${port}`, told, validations };
}

function wish(url: string, more: object = {}) {
  const body = {
    changeType: "created",
    notificationUrl: `${url}/n`,
    lifecycleNotificationUrl: `${url}/l`,
    resource: `users/${ANN}/mailFolders('inbox')/messages`,
    expirationDateTime: inMinutes(10_000),
    clientState: "secret",
    ...more,
  };
  return { method: "POST", body };
}

describe("the fake Graph server's subscriptions", () => {
  test("both addresses are validated; limits of time, a second one and unreachable addresses are refused", async (t) => {
    const server = await withAnn(t);
    const { url, validations } = await listener(t);
    const made = await json(server, "subscriptions", wish(url), 201);
    assert.deepEqual(validations.toSorted(), ["/l", "/n"]);
    assert.equal(made["clientState"], "secret");
    const answer = await ask(server, "subscriptions", wish(url));
    assert.equal(answer.status, 409);
    assert.match(await answer.text(), new RegExp(`Subscription Id ${String(made["id"])} already exists`));
    const refused = (more: object) => refusal(server, "subscriptions", wish(url, { changeType: "updated", ...more }));
    assert.equal(await refused({ expirationDateTime: inMinutes(10_090) }), "400 InvalidRequest");
    assert.equal(await refused({ expirationDateTime: inMinutes(-1) }), "400 InvalidRequest");
    assert.equal(await refused({ notificationUrl: "http://127.0.0.1:1/n" }), "400 ValidationError");
    assert.equal(await refused({ notificationUrl: `${url}/wrong` }), "400 ValidationError");
    assert.equal(await refused({ notificationUrl: "ftp://x/" }), "400 ValidationError");
    assert.equal(await refused({ resource: "me/events" }), "400 InvalidRequest");
    const short = await json(
      server,
      "subscriptions",
      wish(url, { changeType: "deleted", expirationDateTime: inMinutes(5) }),
      201,
    );
    assert.ok(Date.parse(String(short["expirationDateTime"])) > Date.now() + 44 * MINUTE);
    const path = `subscriptions/${String(made["id"])}`;
    const renewed = await json(server, path, { method: "PATCH", body: { expirationDateTime: inMinutes(600) } });
    assert.ok(Date.parse(String(renewed["expirationDateTime"])) < Date.now() + 601 * MINUTE);
    assert.equal(((await json(server, "subscriptions"))["value"] as Json[]).length, 2);
    assert.equal((await ask(server, path, { method: "DELETE" })).status, 204);
    assert.equal(await refusal(server, path, { method: "PATCH", body: {} }), "404 ResourceNotFound");
    server.limits.subscriptionReads = 1;
    assert.equal((await ask(server, "subscriptions")).status, 429);
  });

  test("what happens is told with the ids that were asked for, several times and in any order", async (t) => {
    const server = await withAnn(t);
    const { url, told } = await listener(t);
    await json(server, "subscriptions", wish(url), 201);
    server.push.settings.times = 2;
    server.push.settings.shuffles = true;
    await server.append(ANN, "archive", numbered(0));
    const ids = await server.appendMany(ANN, "inbox", [numbered(1), numbered(2)]);
    await eventually(() => told.length === 4, "four notifications");
    assert.deepEqual(new Set(told.map((one) => (one["resourceData"] as Json)["id"])), new Set(ids));
    const [{ clientState, changeType, tenantId, path } = {}] = told;
    assert.deepEqual([clientState, changeType, tenantId, path], ["secret", "created", server.tenant, "/n"]);
    Object.assign(server.push.settings, { times: 1, batch: 3 });
    for (let number = 0; number < 500; number++) server.push.tell(`${url}/many`, { number });
    await eventually(() => told.length === 504, "many notifications");
    assert.equal(new Set(told.splice(4).map(({ number }) => number)).size, 500);
    server.push.settings.times = 2;
    server.push.lose(1);
    await server.append(ANN, "inbox", numbered(3));
    const [subscription] = server.subscriptions();
    server.push.lifecycle(subscription?.id ?? "", "missed");
    await eventually(() => told.length >= 6, "the lifecycle event twice");
    assert.deepEqual(
      told.slice(4).map((one) => [one["lifecycleEvent"], one["path"]]),
      [
        ["missed", "/l"],
        ["missed", "/l"],
      ],
    );
    server.push.lifecycle(subscription?.id ?? "", "subscriptionRemoved");
    assert.deepEqual(server.subscriptions(), []);
    const again = String((await json(server, "subscriptions", wish(url), 201))["id"]);
    server.push.expire(again);
    assert.equal(await refusal(server, `subscriptions/${again}`), "404 ResourceNotFound");
  });

  test("what is not accepted comes again; a slow address is told late, and one that does not answer not at all", async (t) => {
    const server = await withAnn(t);
    let status = 500;
    const { url, told } = await listener(t, (response) => void response.writeHead(status).end());
    await json(server, "subscriptions", wish(url), 201);
    Object.assign(server.push.settings, { retryMinutes: [0.0001, 0.0001, 0.0001], leastAnswers: 3 });
    await server.append(ANN, "inbox", numbered(1));
    await eventually(() => told.length === 3, "two more tries");
    status = 202;
    await eventually(() => server.push.log.at(-1)?.status === 202, "the try that is accepted");
    assert.equal(server.push.pace(`${url}/n`), "normal");
    server.push.settings.slowMs = 0;
    assert.equal(server.push.pace(`${url}/n`), "slow");
    const before = told.length;
    await server.append(ANN, "inbox", numbered(2));
    const silent = await listener(t, () => undefined);
    Object.assign(server.push.settings, { timeoutMs: 200, retryMinutes: [] });
    for (const one of [1, 2, 3]) server.push.tell(`${silent.url}/${one}`, {});
    await eventually(() => server.push.pace(silent.url) === "drop", "the state in which nothing is told");
    server.push.tell(silent.url, {});
    await eventually(() => server.push.log.at(-1)?.status === "dropped", "a dropped notification");
    assert.equal(told.length, before, "the slow address is told in ten minutes");
  });
});
