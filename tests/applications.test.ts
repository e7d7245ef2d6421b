/** Applications in the HTTP face: what may be said of them, what is shown, where their secrets may go, and who sees them. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { proofOf } from "../shared/contract/application.ts";
import { type ApiNode, type Reply, startApi } from "./api-node.ts";
import { graphBody } from "./bodies.ts";
import { clientCertificate } from "./servers/certificates.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { numbered } from "./servers/mail.ts";

const ANN = "ann@example.com";
const LIST = "/api/v1/applications";
const ADMIN = "admin-0123456789abcdef";
const PATCH_TYPE = { "content-type": "application/merge-patch+json" };
const CONTOSO = { provider: "microsoft", tenant: "contoso.com", clientId: "app", clientSecret: "hush hush" };

const isRefused = ({ status, body, text }: Reply, path: string, words: RegExp) => {
  assert.equal(status, 422, `${path}: ${text}`);
  const error = body.errors.find((one: { path: string }) => one.path === path);
  assert.ok(error, `${path}: ${text}`);
  assert.match(error.message, words, path);
  assert.ok(!text.includes("hush"), text);
};

describe("Applications in the API", () => {
  let node: ApiNode;
  let server: GraphServer;
  before(async () => {
    node = await startApi({ API_TOKENS: ADMIN });
    server = await startGraphServer();
    await server.addUser(ANN);
  });
  after(async () => {
    await node.close();
    await server.stop();
  });
  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Reply> =>
    node.call(method, path, body, { authorization: `Bearer ${ADMIN}`, ...headers });
  const boxOf = (application: string, more: object = {}) => {
    const { receive, ...others } = graphBody(server, ANN, { receive: { auth: { application } } });
    const { graphUrl: _, ...rest } = receive as Record<string, unknown>;
    return { ...others, ...more, receive: rest };
  };

  test("are registered, listed, read, replaced and removed, and never show a secret", async () => {
    const made = await call("POST", LIST, { id: "one", ...CONTOSO });
    assert.deepEqual([made.status, made.headers.get("location")], [201, `${LIST}/one`]);
    const { createdAt, updatedAt, ...shown } = made.body;
    const { clientSecret: _, ...known } = CONTOSO;
    assert.deepEqual(shown, { id: "one", ...known, cloud: "global", revision: 1, problem: null });
    const generated = await call("POST", LIST, CONTOSO);
    assert.match(generated.body.id, /^[0-9a-f-]{36}$/);
    assert.equal((await call("POST", LIST, { id: "one", ...CONTOSO })).status, 409);
    const list = await call("GET", LIST);
    assert.deepEqual([list.body.total, list.body.next], [2, null]);
    assert.deepEqual(
      list.body.items.find((item: { id: string }) => item.id === "one"),
      made.body,
    );
    const replaced = await call("PUT", `${LIST}/one`, { ...CONTOSO, clientSecret: "hush 2" }, { "if-match": '"1"' });
    assert.deepEqual([replaced.status, replaced.body.revision, replaced.headers.get("etag")], [200, 2, '"2"']);
    assert.equal((await call("PUT", `${LIST}/one`, CONTOSO, { "if-match": '"1"' })).status, 412);
    const read = await call("GET", `${LIST}/one`);
    assert.deepEqual([read.status, read.body.createdAt, read.body.updatedAt >= updatedAt], [200, createdAt, true]);
    for (const { text } of [made, generated, list, replaced, read]) assert.ok(!text.includes("hush"), text);
    for (const id of ["one", generated.body.id]) assert.equal((await call("DELETE", `${LIST}/${id}`)).status, 204);
    assert.deepEqual(
      [(await call("GET", `${LIST}/one`)).status, (await call("DELETE", `${LIST}/one`)).status],
      [404, 404],
    );
    assert.equal((await call("GET", LIST)).body.total, 0);
    const { text: audit } = await call("GET", "/api/v1/audit");
    assert.ok(audit.includes('"/api/v1/applications/{id}"') && audit.includes('"target":"one"'), audit);
    assert.ok(!audit.includes("hush"), audit);
  });

  test("are refused with the field that is wrong and what to do", async () => {
    const { certificate, privateKey } = await clientCertificate("RS256");
    const other = await clientCertificate("RS256");
    const { clientSecret: _, ...bare } = CONTOSO;
    const wrong: [object, string, RegExp][] = [
      [{ ...CONTOSO, provider: "yahoo" }, "provider", /microsoft/],
      [{ provider: "google", clientId: "app" }, "clientSecret", /missing/],
      [{ ...CONTOSO, tenant: "common" }, "tenant", /one tenant/],
      [{ ...CONTOSO, tenant: "a/b" }, "tenant", /directory/],
      [{ ...CONTOSO, tokenUrl: "https://login.example.com/common/oauth2/v2.0/token" }, "tokenUrl", /one tenant/],
      [{ ...CONTOSO, tokenUrl: "https://a:b@login.example.com/x" }, "tokenUrl", /must not hold a login/],
      [{ ...CONTOSO, graphUrl: "graph.example.com" }, "graphUrl", /absolute URL/],
      [{ ...CONTOSO, cloud: "moon" }, "cloud", /global/],
      [{ ...CONTOSO, id: "a b" }, "id", /may use/],
      [bare, "clientSecret", /missing/],
      [{ ...bare, certificate }, "privateKey", /missing/],
      [{ ...bare, privateKey }, "certificate", /missing/],
      [{ ...CONTOSO, certificate, privateKey }, "clientSecret", /beside a certificate/],
      [{ ...bare, certificate, privateKey: other.privateKey }, "certificate", /does not belong/],
      [{ ...bare, certificate: `${certificate}\n${privateKey}`, privateKey }, "certificate", /must not hold a private/],
      [{ ...bare, certificate, privateKey: "hush" }, "certificate", /cannot be read/],
    ];
    for (const [body, path, words] of wrong) isRefused(await call("POST", LIST, body), path, words);
    isRefused(await call("PUT", `${LIST}/one`, { ...CONTOSO, id: "two" }), "id", /in the path/);
    assert.equal((await call("GET", LIST)).body.total, 0);
  });

  test("keep a secret that is left out, but only for their tenant, client, token server and root of Graph", async () => {
    const { certificate, privateKey } = await clientCertificate("RS256");
    const { clientSecret: _, ...bare } = CONTOSO;
    for (const [id, secrets, secret] of [
      ["by-secret", { clientSecret: "hush hush" }, "clientSecret"],
      ["by-key", { certificate, privateKey }, "privateKey"],
    ] as const) {
      const path = `${LIST}/${id}`;
      assert.equal((await call("PUT", path, { ...bare, ...secrets })).status, 201);
      assert.equal((await call("PUT", path, bare)).status, 200);
      const stored = await node.store.applications.get(id);
      const proof = stored && proofOf(stored);
      assert.equal(proof?.[secret]?.reveal(), (secrets as Record<string, string>)[secret]);
      assert.equal(proof?.certificate, "certificate" in secrets ? certificate : undefined);
      for (const change of [
        { tenant: "evil.example" },
        { clientId: "other" },
        { cloud: "china" },
        { graphUrl: "https://evil.example" },
        { tokenUrl: "https://evil.example/t" },
      ]) {
        const reply = await call("PUT", path, { ...bare, ...change });
        assert.deepEqual([reply.status, reply.body.code, reply.body.errors[0].path], [422, "secret_needed", secret]);
        assert.equal((await call("PUT", path, { ...bare, ...secrets, ...change })).status, 200, JSON.stringify(change));
        assert.equal((await call("PUT", path, { ...bare, ...secrets })).status, 200);
      }
      assert.equal((await call("DELETE", path)).status, 204);
    }
  });

  test("are named by mailboxes, which say nothing else of cloud and root, and stay while mailboxes name them", async () => {
    assert.equal((await call("PUT", `${LIST}/used`, CONTOSO)).status, 201);
    const made = await call("POST", "/api/v1/mailboxes", boxOf("used", { id: "m1" }));
    assert.equal(made.status, 201, made.text);
    assert.deepEqual(made.body.receive.auth, { application: "used" });
    assert.equal(made.body.receive.cloud, undefined);
    for (const [change, path, words] of [
      [{ cloud: "global" }, "receive.cloud", /from the application/],
      [{ graphUrl: "https://graph.example.com" }, "receive.graphUrl", /from the application/],
      [{ auth: { application: "unknown" } }, "receive.auth.application", /registered application/],
    ] as const) {
      const wrong = boxOf("used");
      isRefused(
        await call("POST", "/api/v1/mailboxes", { ...wrong, receive: { ...wrong.receive, ...change } }),
        path,
        words,
      );
      isRefused(await call("PATCH", "/api/v1/mailboxes/m1", { receive: change }, PATCH_TYPE), path, words);
    }
    isRefused(
      await call("POST", "/api/v1/mailboxes/validate", boxOf("unknown")),
      "receive.auth.application",
      /registered/,
    );
    await call("PUT", "/api/v1/mailboxes/m2", boxOf("used"));
    const refused = await call("DELETE", `${LIST}/used`);
    assert.equal(refused.status, 409);
    assert.match(refused.body.detail, /^2 mailboxes name the application used\./);
    const own = { auth: { oauth2: { tenant: "contoso.com", clientId: "app", clientSecret: "hush" } } };
    assert.equal((await call("PATCH", "/api/v1/mailboxes/m1", { receive: own }, PATCH_TYPE)).status, 200);
    assert.match((await call("DELETE", `${LIST}/used`)).body.detail, /^1 mailbox names/);
    await call("DELETE", "/api/v1/mailboxes/m2");
    assert.equal((await call("DELETE", `${LIST}/used`)).status, 204);
    await call("DELETE", "/api/v1/mailboxes/m1");
  });

  test("of other prefixes do not exist for a bound token, nor may a mailbox of it name them", async () => {
    const scopes = ["read", "manage"];
    const { body } = await call("POST", "/api/v1/tokens", { name: "acme", scopes, mailboxPrefix: "acme-" });
    const as = (method: string, path: string, content?: unknown, headers: Record<string, string> = {}) =>
      node.call(method, path, content, { authorization: `Bearer ${body.token}`, ...headers });
    await call("PUT", `${LIST}/whole`, CONTOSO);
    await call("PUT", `${LIST}/acme-own`, CONTOSO);
    const listed = (await as("GET", LIST)).body.items.map(({ id }: { id: string }) => id);
    assert.deepEqual(listed, ["acme-own"]);
    for (const method of ["GET", "PUT", "DELETE"])
      assert.equal((await as(method, `${LIST}/whole`, method === "PUT" ? CONTOSO : undefined)).status, 404, method);
    assert.match((await as("POST", LIST, CONTOSO)).body.id, /^acme-/);
    assert.equal((await as("POST", "/api/v1/mailboxes", boxOf("acme-own", { id: "acme-1" }))).status, 201);
    const field = "receive.auth.application";
    isRefused(await as("POST", "/api/v1/mailboxes", boxOf("whole", { id: "acme-2" })), field, /begin with acme-/);
    isRefused(await as("POST", "/api/v1/mailboxes/validate", boxOf("whole")), field, /begin with acme-/);
    // An administrator gave this mailbox the wider application. The token changes what is not about its login.
    assert.equal((await call("PUT", "/api/v1/mailboxes/acme-3", boxOf("whole"))).status, 201);
    const patch = (change: object) => as("PATCH", "/api/v1/mailboxes/acme-3", change, PATCH_TYPE);
    assert.equal((await patch({ name: "Sales" })).status, 200);
    isRefused(await patch({ receive: { user: "boss@example.com" } }), field, /begin with acme-/);
    isRefused(await patch({ address: "boss@example.com" }), field, /begin with acme-/);
  });

  test("are tried with a mailbox before it is registered, and their mailboxes list folders", async () => {
    await server.append(ANN, "inbox", numbered(1));
    const { root: graphUrl, tokenRoot, tenant, clientId, clientSecret } = server;
    const tokenUrl = `${tokenRoot}/${tenant}/oauth2/v2.0/token`;
    const application = { provider: "microsoft", tenant, clientId, graphUrl, tokenUrl };
    await call("PUT", `${LIST}/fake`, { ...application, clientSecret });
    const good = await call("POST", "/api/v1/mailboxes/validate", boxOf("fake"));
    const failed = good.body.steps.filter((one: { ok: boolean; name: string }) => !one.ok && one.name !== "deliver");
    assert.deepEqual(failed, [], good.text);
    await call("PUT", "/api/v1/mailboxes/fake-1", boxOf("fake"));
    const folders = await call("GET", "/api/v1/mailboxes/fake-1/folders");
    assert.ok(folders.text.includes('"INBOX"'), folders.text);
    await call("PUT", `${LIST}/fake`, { ...application, clientSecret: "hush, not it" });
    const bad = await call("POST", "/api/v1/mailboxes/validate", boxOf("fake"));
    const step = bad.body.steps.find((one: { name: string }) => one.name === "login");
    assert.match(step.cause, /secret is wrong/, bad.text);
    assert.ok(!bad.text.includes("hush"), bad.text);
    // As after a crash between the removal of an application and a mailbox that came at the same moment.
    await node.store.applications.remove("fake");
    const gone = await call("GET", "/api/v1/mailboxes/fake-1/folders");
    assert.ok(gone.status >= 400 && gone.status !== 500, gone.text);
    assert.match(gone.body.detail, /no application fake/);
  });
});
