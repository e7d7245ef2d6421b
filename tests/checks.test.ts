/** The checks of the diagnostics over the running service: what is well, what lies, and what stands still. */
import assert from "node:assert/strict";
import { createServer, type Server, type Socket } from "node:net";
import { after, before, describe, test } from "node:test";
import { imapBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { clusterEnv, expect } from "./cluster-rig.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { listenOn } from "./servers/ports.ts";
import { rabbitMqOrSkip, redisOrSkip } from "./servers/provide.ts";
import { type SmtpScript, startSmtpScript } from "./servers/smtp-script.ts";
import { type Service, startService, TOKEN } from "./service.ts";

const PATH = "/api/v1/diagnostics/checks";

let service: Service;
let mail: ImapServer;
let smtp: SmtpScript;
let endpoint: Endpoint;
let silent: Server;
let silentPort: number;
const silenced = new Set<Socket>();

/** The results by name. */
async function check(
  at: Service,
  body?: object,
): Promise<{ ok: boolean | null; by: Record<string, any>; text: string }> {
  const report = expect(await at.call("POST", PATH, body), 200);
  const by = Object.fromEntries(report.checks.map((one: { name: string }) => [one.name, one]));
  return { ok: report.ok, by, text: JSON.stringify(report) };
}

const listening = (id: string) =>
  service.until(`${id} listens`, async () => {
    const { body } = await service.call("GET", `/api/v1/mailboxes/${id}`);
    return body.state.status === "listening" && body.state.lastVerifiedAt !== null;
  });

describe("the checks", () => {
  before(async () => {
    [service, mail, smtp, endpoint] = await Promise.all([
      startService(),
      startImapServer(),
      startSmtpScript(),
      startEndpoint(),
    ]);
    await mail.addUser("anna", PASSWORD);
    silent = createServer((socket) => silenced.add(socket.on("error", () => undefined)));
    silentPort = await listenOn(silent, 0);
  });
  after(async () => {
    for (const socket of silenced) socket.destroy();
    silent.close();
    await Promise.all([service.end(), mail.stop(), smtp.stop(), endpoint.stop()]);
  });

  test("nothing is well before somebody looked, and what is not there is not well either", async () => {
    const first = expect(await service.call("GET", PATH), 200);
    assert.equal(first.ok, null);
    assert.deepEqual([...new Set(first.checks.map(({ status }: { status: string }) => status))], ["not_run"]);

    const { ok, by } = await check(service);
    assert.equal(ok, true);
    for (const name of ["settings", "keys", "nodes", "sqlite", "disk", "parked"])
      assert.equal(by[name].status, "ok", name);
    for (const name of ["redis", "rabbitmq", "subscriptions", "address", "endpoints", "clock", "expiry"]) {
      assert.equal(by[name].status, "not_run", name);
      assert.ok(by[name].cause.length > 0, name);
    }
    const later = expect(await service.call("GET", PATH), 200);
    assert.equal(later.checks.find(({ name }: { name: string }) => name === "sqlite").at, by["sqlite"].at);
  });

  test("an endpoint that hangs fails its check and delays no other; the rest of a mailbox is tried step by step", async () => {
    const login = { host: "127.0.0.1", port: smtp.port, tls: "none", saveSent: "never" };
    await register(service, imapBody(mail, "anna", { id: "anna", deliver: toEndpoint(endpoint), send: login }));
    await listening("anna");
    const well = await check(service, { mailbox: "anna" });
    for (const name of ["subscriptions", "endpoints", "clock", "mailbox"])
      assert.equal(well.by[name].status, "ok", JSON.stringify(well.by[name]));
    assert.ok(well.by["mailbox"].data.steps.some(({ name }: { name: string }) => name === "login"));

    await mail.addUser("bob", PASSWORD);
    const url = `http://127.0.0.1:${silentPort}/secret-path-4711`;
    await register(
      service,
      imapBody(mail, "bob", { id: "bob", receive: { auth: { user: "bob", password: "wrong" } }, deliver: { url } }),
    );
    await service.until("the refusal", async () => {
      const { body } = await service.call("GET", "/api/v1/mailboxes/bob");
      return body.state.problem !== null;
    });
    const { ok, by, text } = await check(service, { mailbox: "bob" });
    assert.equal(ok, false);
    assert.match(
      by["endpoints"].cause,
      new RegExp(`1 of 2 servers cannot be reached\\. http://127\\.0\\.0\\.1:${silentPort}`),
    );
    assert.match(by["subscriptions"].cause, /1 of 2 mailboxes is not listened to.*bob@example\.com/);
    assert.match(by["mailbox"].cause, /^(login|deliver): /);
    assert.equal(by["sqlite"].status, "ok");
    assert.ok(by["endpoints"].fix && by["subscriptions"].fix && by["mailbox"].fix);
    for (const secret of [TOKEN, PASSWORD, "secret-path-4711", endpoint.secret])
      assert.ok(!text.includes(secret), secret);
    await service.call("DELETE", "/api/v1/mailboxes/bob");
  });

  test("a mail to the mailbox itself is followed until the endpoint has it", async () => {
    const delivering = smtp
      .waitFor(smtp.taken.length + 1)
      .then(([first]) => mail.append("anna", "INBOX", first?.raw ?? ""));
    const { by } = await check(service, { checks: ["testMail"], mailbox: "anna" });
    await delivering;
    assert.equal(by["testMail"].status, "ok", JSON.stringify(by["testMail"]));
    assert.deepEqual(
      by["testMail"].data.steps.map(({ name }: { name: string }) => name),
      ["accepted", "sent", "seen", "delivered"],
    );
    smtp.play(({ step }) => (step === "rcpt" ? "550 5.1.1 nobody here" : undefined));
    const refused = await check(service, { checks: ["testMail"], mailbox: "anna" });
    assert.match(refused.by["testMail"].cause, /was not sent: .*nobody here/);
  });

  test("the address is that of this service, of another program, or of a machine that the CRM is not", async () => {
    const own = await check(service, { checks: ["address"], address: `${service.url}/api/listeners` });
    assert.equal(own.by["address"].status, "ok", own.text);
    assert.match(own.by["address"].warnings[0], /this machine only/);

    const other = await check(service, { checks: ["address"], address: new URL(endpoint.url).origin });
    assert.match(other.by["address"].cause, /is not this service: another program answers there/);
    const nobody = await check(service, { checks: ["address"], address: "http://127.0.0.1:1" });
    assert.match(nobody.by["address"].cause, /127\.0\.0\.1/);

    const deliver = {
      url: "http://crm.example.invalid/0/ServiceModel/ExchangeListenerService.svc/NewEmail",
      dialect: "creatio",
    };
    await register(service, imapBody(mail, "anna", { id: "crm", deliver }));
    const local = await check(service, { checks: ["address"], address: service.url.replace("127.0.0.1", "localhost") });
    assert.match(local.by["address"].cause, /localhost:\d+ is this machine only, and the CRM at crm\.example\.invalid/);
    assert.match(local.by["address"].fix, /machine's name or address/);
  });

  test("the pages run one check or all by a form alone, and the report holds no secret", async () => {
    const submit = (path: string, form: Record<string, string>) =>
      fetch(service.url + path, {
        method: "POST",
        headers: { authorization: `Bearer ${TOKEN}` },
        body: new URLSearchParams(form),
      });
    const chosen = await service.call("GET", "/diagnostics?mailbox=anna");
    assert.match(chosen.body, /name="mailbox" value="anna"/);
    const one = await (await submit("/diagnostics", { check: "mailbox", mailbox: "anna@example.com" })).text();
    assert.match(one, /id="check-mailbox"[^]*?<td>login<\/td>/);
    const report = await submit("/diagnostics", { download: "1", mailbox: "anna" });
    assert.match(
      report.headers.get("content-disposition") ?? "",
      /attachment; filename="email-listener-diagnostics\.json"/,
    );
    const text = await report.text();
    assert.equal(JSON.parse(text).checks.length, 14);
    for (const secret of [TOKEN, PASSWORD, endpoint.secret]) assert.ok(!text.includes(secret), secret);

    const expiresAt = new Date(Date.now() + 5 * 86_400_000).toISOString();
    await service.call("POST", "/api/v1/tokens", { name: "for <b>five</b> days", scopes: ["read"], expiresAt });
    assert.match(await (await submit("/upcoming", {})).text(), /The token for &lt;b&gt;five&lt;\/b&gt; days/);
    const made = await service.call("POST", "/api/v1/tokens", { name: "looker", scopes: ["read"] });
    const seen = await service.call("GET", "/diagnostics", undefined, { authorization: `Bearer ${made.body.token}` });
    assert.match(seen.body, /Checks need a token with the scope admin/);
    assert.match(seen.body, /disabled aria-describedby="needs-admin"/);
  });

  test("requests that make no sense are refused, and only administrators may check", async () => {
    assert.equal((await service.call("POST", PATH, { checks: ["mailbox"] })).status, 422);
    assert.equal((await service.call("POST", PATH, { checks: ["nonsense"] })).status, 422);
    assert.equal((await service.call("POST", PATH, { mailbox: "nobody" })).status, 404);
    const made = await service.call("POST", "/api/v1/tokens", { name: "reader", scopes: ["read"] });
    const reader = { authorization: `Bearer ${made.body.token}` };
    assert.equal((await service.call("POST", PATH, undefined, reader)).status, 403);
    assert.equal((await service.call("GET", PATH, undefined, reader)).status, 403);
    assert.equal((await fetch(`${service.url}/api/v1/diagnostics/identity?challenge=short`)).status, 422);
  });

  test("with Redis or RabbitMQ stopped every check still answers, and names what is away", async (t) => {
    const [redis, rabbit] = [await redisOrSkip(t, {}, { owned: true }), await rabbitMqOrSkip(t, {}, { owned: true })];
    if (!redis || !rabbit) return;
    const env = clusterEnv({ redisUrl: redis.url, rabbitUrl: rabbit.url, env: { PUBLIC_URL: service.url } });
    const node = await startService(env);
    try {
      const well = await check(node);
      for (const name of ["redis", "rabbitmq", "clock", "nodes"])
        assert.equal(well.by[name].status, "ok", JSON.stringify(well.by[name]));
      assert.match(well.by["redis"].detail, /^Redis \d+\.\d+/);
      assert.match(well.by["rabbitmq"].detail, /^RabbitMQ \d+\.\d+/);
      assert.match(well.by["address"].cause, /another installation of Email Listener answers there/);

      await rabbit.stop();
      await node.until("the loss of RabbitMQ", () => node.facts.some(({ kind }) => kind === "queue.connection_failed"));
      const withoutRabbit = await check(node);
      assert.equal(withoutRabbit.by["rabbitmq"].status, "failed");
      assert.ok(withoutRabbit.by["rabbitmq"].fix);
      assert.equal(withoutRabbit.by["redis"].status, "ok");

      await redis.stop();
      const { ok, by, text } = await check(node);
      assert.equal(ok, false);
      for (const name of ["redis", "nodes", "subscriptions", "endpoints"])
        assert.equal(by[name].status, "failed", name);
      assert.equal(by["settings"].status, "ok");
      assert.ok(!text.includes(env["ENCRYPTION_KEYS"]?.split(":")[1] ?? "a key"));
    } finally {
      await node.end();
    }
  });
});
