/** Graph mailboxes in the HTTP face: what may be said of them, what is shown, where their secrets may go, and their mail. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { graphBody } from "./bodies.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { numbered } from "./servers/mail.ts";

const ANN = "ann@example.com";

describe("A Graph mailbox in the API", () => {
  let node: ApiNode;
  let server: GraphServer;
  before(async () => {
    node = await startApi();
    server = await startGraphServer();
    await server.addUser(ANN);
  });
  after(async () => {
    await node.close();
    await server.stop();
  });
  const oauth2 = { tenant: "contoso.com", clientId: "app", clientSecret: "hush hush" };
  const register = (receive: object, more: object = {}) =>
    node.call("POST", "/api/v1/mailboxes", { ...graphBody(server, ANN, { receive }), ...more });

  test("shows what it was given without its secrets, and its defaults", async () => {
    const { status, body, text } = await register({ auth: { oauth2 }, graphUrl: undefined });
    assert.equal(status, 201, text);
    const { auth, cloud, folders, mode, afterDelivery } = body.receive;
    assert.deepEqual(auth, { oauth2: { tenant: "contoso.com", clientId: "app" } });
    assert.deepEqual([cloud, folders, mode, afterDelivery], ["global", ["INBOX"], "push", "leave"]);
    assert.ok(!text.includes("hush"), text);
  });

  test("is refused with the field that is wrong and what to do", async () => {
    const key = { certificate: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----" };
    const { clientSecret: _, ...withoutSecret } = oauth2;
    const wrong: [object, string, RegExp][] = [
      [{ auth: { oauth2: { ...oauth2, tenant: "common" } } }, "receive.auth.oauth2.tenant", /one tenant/],
      [{ auth: { oauth2: { ...oauth2, tenant: "Organizations" } } }, "receive.auth.oauth2.tenant", /one tenant/],
      [{ auth: { oauth2: { ...oauth2, tenant: "a/b" } } }, "receive.auth.oauth2.tenant", /tenant/],
      [{ auth: { oauth2: { ...oauth2, tenant: undefined } } }, "receive.auth.oauth2.tenant", /missing/],
      [{ auth: { oauth2: { ...oauth2, tokenUrl: "https://x.example/t" } } }, "receive.auth.oauth2", /not both/],
      [{ auth: { oauth2: { ...oauth2, ...key } } }, "receive.auth.oauth2", /together/],
      [{ auth: { oauth2: withoutSecret } }, "receive.auth.oauth2", /clientSecret/],
      [{ auth: { user: ANN, password: "words" } }, "receive.auth", /takes no password/],
      [{ cloud: "moon" }, "receive.cloud", /global/],
      [{ graphUrl: "graph.example.com" }, "receive.graphUrl", /absolute URL/],
      [{ host: "mail.example.com" }, "receive.host", /./],
      [{ access: "impersonate" }, "receive.access", /./],
    ];
    for (const [receive, path, words] of wrong) {
      const { status, body, text } = await register(receive);
      assert.equal(status, 422, `${path}: ${text}`);
      const error = body.errors.find((one: { path: string }) => one.path === path);
      assert.ok(error, `${path}: ${text}`);
      assert.match(error.message, words, path);
      assert.ok(!text.includes("hush"), text);
    }
  });

  test("sends by Graph, or by SMTP with a server and a login of its own", async () => {
    for (const [send, path] of [
      [{ host: "smtp.example.com" }, "send.host"],
      [{ auth: { user: ANN, password: "words" } }, "send.auth"],
      [{ saveSent: "never" }, "send.saveSent"],
      [{ protocol: "smtp" }, "send.host"],
      [{ protocol: "smtp", host: "smtp.example.com" }, "send.auth"],
      [{ protocol: "ews" }, "send.protocol"],
    ] as const) {
      const { status, body } = await register({}, { send });
      assert.deepEqual([status, body.errors?.[0]?.path], [422, path]);
    }
    const smtp = { protocol: "smtp", host: "smtp.example.com", auth: { user: ANN, password: "words" } };
    for (const send of [{}, { protocol: "graph" }, smtp])
      assert.equal((await register({}, { send })).status, 201, JSON.stringify(send));
  });

  test("keeps its secret for its cloud, its tenant and its application", async () => {
    const { body } = await register({ auth: { oauth2 }, graphUrl: undefined });
    const path = `/api/v1/mailboxes/${body.id}`;
    const moves = [
      { graphUrl: "https://evil.example" },
      { cloud: "china" },
      { user: "boss@example.com" },
      { auth: { oauth2: { tenant: "evil.example" } } },
      { auth: { oauth2: { tenant: null, tokenUrl: "https://evil.example/token" } } },
    ];
    for (const receive of moves) {
      const answer = await node.call("PATCH", path, { receive }, { "content-type": "application/merge-patch+json" });
      assert.deepEqual([answer.status, answer.body.code], [422, "secret_needed"], answer.text);
    }
    const harmless = { receive: { folders: "all" } };
    const headers = { "content-type": "application/merge-patch+json" };
    assert.equal((await node.call("PATCH", path, harmless, headers)).status, 200);
  });

  test("is tried before it is registered, and lists its folders", async () => {
    await server.append(ANN, "inbox", numbered(1));
    const receive = { auth: { accessToken: server.accessToken() } };
    const mailbox = graphBody(server, ANN, { receive });
    const good = await node.call("POST", "/api/v1/mailboxes/validate", mailbox);
    const failed = good.body.steps.filter((one: { ok: boolean; name: string }) => !one.ok && one.name !== "deliver");
    assert.deepEqual(failed, [], good.text);
    const { body } = await node.call("POST", "/api/v1/mailboxes", mailbox);
    const folders = await node.call("GET", `/api/v1/mailboxes/${body.id}/folders`);
    assert.equal(folders.status, 200, folders.text);
    assert.ok(folders.text.includes('"INBOX"'), folders.text);
  });
});
