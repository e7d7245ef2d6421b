/** A stored secret stays at the place it was given for: whoever changes the place gives the secret again, or nothing is sent anywhere. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:net";
import { after, before, describe, test } from "node:test";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";

const user = "help@example.com";
const password = "Marked-Passw0rd";
const oauth2 = { tokenUrl: "https://login.example.com/t", clientId: "c", clientSecret: "s", refreshToken: "r" };
const own = { host: "127.0.0.1", tls: "none", auth: { user, password } };

/** Listens like the server of somebody who collects passwords, and counts who comes. */
async function trap() {
  const visits: string[] = [];
  const server: Server = createServer((socket) => {
    visits.push("connected");
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => visits.push(bytes.toString("latin1")));
  });
  await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : 0;
  return { port, visits, close: () => server.close() };
}

let node: ApiNode;
let evil: Awaited<ReturnType<typeof trap>>;
before(async () => {
  [node, evil] = [await startApi(), await trap()];
});
after(async () => {
  evil.close();
  await node.close();
});

const at = (id: string) => `/api/v1/mailboxes/${id}`;

async function registered(over: { receive?: object; send?: object; address?: string } = {}): Promise<string> {
  const id = randomUUID();
  const receive = { ...exampleBody().receive, host: "127.0.0.1", port: 1, tls: "starttls", auth: { user, password } };
  const made = await node.call("PUT", at(id), exampleBody({ ...over, receive: { ...receive, ...over.receive } }));
  assert.equal(made.status, 201, made.text);
  return id;
}

/** The patch is refused, naming these fields, and the stored mailbox is as it was. */
async function refused(id: string, patch: object, paths: string[]): Promise<void> {
  const earlier = await node.store.mailboxes.get(id);
  const answer = await node.call("PATCH", at(id), patch);
  assert.deepEqual(
    [answer.status, answer.body.code],
    [422, "secret_needed"],
    `${JSON.stringify(patch)} ${answer.text}`,
  );
  assert.deepEqual(
    answer.body.errors.map((error: { path: string }) => error.path),
    paths,
  );
  assert.equal((await node.store.mailboxes.get(id))?.mailbox.revision, earlier?.mailbox.revision);
}

async function accepted(id: string, patch: object): Promise<void> {
  const answer = await node.call("PATCH", at(id), patch);
  assert.equal(answer.status, 200, `${JSON.stringify(patch)} ${answer.text}`);
}

const tokenPatch = (more: object) => ({ receive: { auth: { oauth2: more } } });

describe("a change of the place", () => {
  const receiving = ["receive.auth.password"];
  const moves: [name: string, receive: { auth?: object; [member: string]: unknown }][] = [
    ["host", { host: "evil.example" }],
    ["port", { port: 994 }],
    ["weaker TLS", { tls: "none" }],
    ["another authority", { ca: "-----BEGIN CERTIFICATE-----\nx" }],
    ["another pin", { fingerprint: `sha256/${"0".repeat(64)}` }],
    ["another user", { auth: { user: "root" } }],
    ["POP3 in place of IMAP", { protocol: "pop3", folders: null, mode: "poll" }],
    ["Exchange in place of IMAP", { protocol: "ews", tls: "implicit", port: null }],
  ];
  for (const [name, receive] of moves)
    test(`for receiving needs the password again: ${name}`, async () => {
      const id = await registered();
      await refused(id, { receive }, receiving);
      await refused(id, { receive, deliver: { url: "https://other.example/" } }, receiving);
      const auth = { user, password: "given again", ...receive.auth };
      await accepted(id, { receive: { ...receive, auth } });
    });

  test("also for a pinned certificate that is left out, APOP, the scheme, and where autodiscover looks", async () => {
    const pinned = await registered({ receive: { fingerprint: `sha256/${"0".repeat(64)}` } });
    await refused(pinned, { receive: { fingerprint: null } }, receiving);
    const pop3 = { protocol: "pop3", folders: undefined, mode: "poll", apop: true };
    await refused(await registered({ receive: pop3 }), { receive: { apop: null } }, receiving);
    const exchange = { protocol: "ews", host: undefined, port: undefined, tls: "implicit", scheme: "ntlm" };
    const found = await registered({ receive: exchange });
    await refused(found, { receive: { scheme: "basic" } }, receiving);
    await refused(found, { receive: { redirects: ".*" } }, receiving);
    await refused(found, { receive: { url: "http://evil.example/EWS" } }, receiving);
    await refused(found, { address: "help@evil.example" }, receiving);
  });

  test("for sending never takes the login for receiving along", async () => {
    const id = await registered();
    for (const send of [{ host: "127.0.0.1", port: evil.port, tls: "none" }, { tls: "none" }, { port: evil.port }])
      await refused(id, { send }, receiving);
    await accepted(id, { send: { ...own, port: evil.port } });
    await refused(id, { send: { auth: null } }, receiving);
    await refused(id, { send: { host: "evil.example" } }, ["send.auth.password"]);
    await refused(id, { send: { port: 587 } }, ["send.auth.password"]);
    await refused(id, { send: { auth: { user: "root" } } }, ["send.auth.password"]);
    await accepted(id, { send: { host: "smtp.example.com", auth: { password } } });
    await accepted(id, { send: { from: ["sales@example.com"], perHour: 9 } });
  });

  test("takes each secret of a token for itself: all that would move must be given", async () => {
    const id = await registered({ receive: { auth: { user, oauth2 } } });
    const both = ["receive.auth.oauth2.clientSecret", "receive.auth.oauth2.refreshToken"];
    await refused(id, { receive: { host: "evil.example" } }, both);
    await refused(id, tokenPatch({ tokenUrl: "https://evil.example/" }), both);
    await refused(id, tokenPatch({ clientId: "d" }), both);
    await refused(id, tokenPatch({ tokenUrl: "https://evil.example/", clientSecret: "s" }), both.slice(1));
    await accepted(id, tokenPatch({ scope: "mail" }));
    await accepted(id, tokenPatch({ tokenUrl: "https://other.example/", clientSecret: "s", refreshToken: "r" }));
  });

  test("is none: the same place in other words, stronger TLS, the provider's server for sending", async () => {
    const id = await registered({ receive: { host: "imap.example.com", port: undefined } });
    await accepted(id, { receive: { host: "IMAP.example.COM.", port: 143, folders: ["INBOX", "Sent"] } });
    await accepted(id, { receive: { tls: "implicit", port: null } });
    await refused(id, { receive: { tls: "starttls" } }, receiving);
    await accepted(id, { send: {} });
    await accepted(id, { send: null, name: "Help Desk", deliver: { url: "https://other.example/" } });
  });

  test("in a preflight uses no stored secret, whatever id the body has", async () => {
    const id = await registered();
    const tried = {
      ...exampleBody(),
      id,
      receive: { ...exampleBody().receive, host: "127.0.0.1", port: evil.port, tls: "none" },
    };
    const { auth: _, ...withoutLogin } = tried.receive;
    const answer = await node.call("POST", "/api/v1/mailboxes/validate", { ...tried, receive: withoutLogin });
    assert.equal(answer.status, 422, answer.text);
    assert.deepEqual(evil.visits, []);
  });
});

const evilServer = () => ({ ServiceUrl: "127.0.0.1", Port: evil.port, UseSsl: false, SecureOption: 0 });
const send = (Id: string, more: object, version = "/v2") =>
  node.call("POST", `/api${version}/emails/send`, {
    Email: {
      Id: `<${randomUUID()}@example.com>`,
      Sender: `${Id}@example.com`,
      Recepients: ["a@example.net"],
      Body: "x",
    },
    Credentials: { SenderEmailAddress: `${Id}@example.com`, ...more },
  });

describe("a CRM", () => {
  const IMAP = "844f0837-eaa0-4f40-b965-71f5db9eae6e";
  const endpoint = "http://crm.example.com/ServiceModel/ExchangeListenerService.svc/NewEmail";
  const credentials = (Id: string, more: object = {}) => ({
    Id,
    SenderEmailAddress: `${Id}@example.com`,
    UserName: user,
    ServerTypeId: IMAP,
    ServiceUrl: "imap.example.com",
    Port: 993,
    UseSsl: true,
    BpmEndpoint: endpoint,
    ...more,
  });
  const subscribed = async () => {
    const id = randomUUID();
    const made = await node.call("POST", "/api/listeners/create", [credentials(id, { Password: password })]);
    assert.equal(made.status, 200, made.text);
    return id;
  };
  test("changes no server of a stored login without its password", async () => {
    const id = await subscribed();
    for (const more of [evilServer(), { Port: 994 }, { UserName: "root" }, { ServiceUrl: "evil.example" }]) {
      const answer = await node.call("POST", "/api/listeners/update", [credentials(id, more)]);
      assert.deepEqual([answer.status, answer.body.code], [422, "secret_needed"], JSON.stringify(more));
      assert.equal(answer.body.errors[0].path, "receive.auth.password");
    }
    const stored = (await node.store.mailboxes.get(id))?.mailbox;
    assert.ok(stored && "host" in stored.receive);
    assert.equal(stored.receive.host, "imap.example.com");
    const same = await node.call("POST", "/api/listeners/update", [credentials(id)]);
    assert.equal(same.status, 200, same.text);
  });

  test("sends through no other server by address alone, by id, or with another user", async () => {
    const id = await subscribed();
    for (const more of [{}, evilServer(), { Id: id, ...evilServer() }, { UserName: "root" }])
      for (const [version, status] of [
        ["/v2", 200],
        ["", 500],
      ] as const) {
        const answer = await send(id, more, version);
        assert.equal(answer.status, status);
        assert.match(answer.text, /Password must be given again/, JSON.stringify(more));
      }
    const stored = (await node.store.mailboxes.get(id))?.mailbox;
    assert.equal(stored?.send, undefined);
    assert.equal((await node.store.outbox.list({ mailbox: id, limit: 1 })).total, 0);
    assert.deepEqual(evil.visits, []);
  });

  test("keeps a stored login for sending at its server, whatever server it names later", async () => {
    const id = await subscribed();
    const { mailbox: stored } = (await node.store.mailboxes.get(id)) ?? {};
    assert.ok(stored);
    const { auth } = stored.receive;
    assert.ok("user" in auth);
    const settings = { perHour: 500, saveSent: "never", notify: false, allowSelf: false } as const;
    // The login goes to a server that follows from the receiving one, so it must not follow that to another.
    await node.store.mailboxes.amend(stored, (now) => ({ ...now, send: { ...settings, auth } }));
    const moved = credentials(id, { Password: "another", ServiceUrl: "imap.evil.example" });
    assert.equal((await node.call("POST", "/api/listeners/recreate", [moved])).status, 200);
    assert.equal((await node.store.mailboxes.get(id))?.mailbox.send, undefined);
  });
});
