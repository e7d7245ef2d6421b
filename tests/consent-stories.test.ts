/** Stories of people who connect mailboxes at two nodes over Redis: new ones, and ones whose consent has ended. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { toEndpoint } from "./bodies.ts";
import { clusterRig, expect, type Rig } from "./cluster-rig.ts";
import { type Google, startGoogle } from "./servers/google.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { message, numbered } from "./servers/mail.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { type SmtpScript, startSmtpScript } from "./servers/smtp-script.ts";
import type { Service } from "./service.ts";
import { newPerson } from "./stories/person.ts";
import { status, subjects } from "./stories/scene.ts";

const PUBLIC = "https://mail.example.com";
const ANN = "ann@example.com";
const ENV = { PUBLIC_URL: PUBLIC, PROBE_SECONDS: "1", FOLDER_POLL_SECONDS: "0.4" };

describe("a person connects a mailbox", { timeout: 300_000 }, () => {
  let redis: Redis | undefined;
  let rig: Rig;
  let nodes: [Service, Service];
  let google: Google;
  let graph: GraphServer;
  let smtp: SmtpScript;

  before(async () => {
    redis = (await provide("redis"))?.server;
    if (!redis) return;
    rig = await clusterRig({ redisUrl: redis.url, env: ENV });
    const { mail } = rig;
    [google, graph, smtp] = await Promise.all([
      startGoogle((email, token) => mail.addToken(email, token)),
      startGraphServer(),
      startSmtpScript(),
    ]);
    nodes = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
    for (const one of [google, graph.application]) one.redirectUris.push(`${PUBLIC}/consent/callback`);
    await graph.addUser(ANN);
    const { authorizeUrl, tokenUrl, clientId, clientSecret } = google;
    const place = { host: "127.0.0.1", tls: "none" };
    const servers = { imap: { ...place, port: mail.imapPort }, smtp: { ...place, port: smtp.port } };
    const application = { provider: "google", clientId, clientSecret, authorizeUrl, tokenUrl, ...servers };
    expect(await nodes[0].call("PUT", "/api/v1/applications/google", application), 201);
    const { root: graphUrl, tokenRoot, tenant } = graph;
    const contoso = { provider: "microsoft", tenant, clientId: graph.clientId, clientSecret: graph.clientSecret };
    const roots = { graphUrl, tokenUrl: `${tokenRoot}/${tenant}/oauth2/v2.0/token` };
    expect(await nodes[1].call("PUT", "/api/v1/applications/contoso", { ...contoso, ...roots }), 201);
  });
  after(async () => {
    await rig?.end();
    await Promise.all([google?.stop(), graph?.stop(), smtp?.stop()]);
    await redis?.remove();
  });

  const link = async (body: object): Promise<string> =>
    expect(await nodes[0].call("POST", "/api/v1/consents", body), 201).url;
  const arrived = (subject: string) => nodes[0].until(subject, () => subjects(rig.endpoint).includes(subject), 60_000);
  const once = (subject: string) => subjects(rig.endpoint).filter((one) => one === subject).length;

  test("of Gmail, which receives and sends with the consent, and goes on where it stopped after a new one", async (t) => {
    if (!redis) return t.skip("no redis");
    const [one, two] = nodes;
    const letter = (subject: string) => rig.mail.append(ANN, "INBOX", message({ subject, text: subject }));
    const mailbox = { id: "gmail", deliver: toEndpoint(rig.endpoint), send: {} };
    const url = await link({ application: "google", address: ANN, mailbox });
    google.signIn({ email: ANN });
    const person = newPerson(PUBLIC);
    const way = await person.goToProvider(url, two.url);
    // Two nodes get the same answer at the same time: one of them connects the mailbox.
    const ends = await Promise.all([person.comeBack(way, one.url), person.comeBack(way, two.url)]);
    assert.deepEqual(
      ends.map((end) => end.status === 200).toSorted(),
      [false, true],
      ends.map((end) => end.text).join(),
    );
    await status(two, "gmail", "listening");
    await letter("gmail first");
    await arrived("gmail first");
    const sent = await one.call(
      "POST",
      "/api/v1/mailboxes/gmail/messages?wait=30",
      { to: ["someone@example.net"], subject: "gmail sent", text: "Hello" },
      { "idempotency-key": "k1" },
    );
    assert.equal(sent.body.state, "sent", JSON.stringify(sent.body));
    assert.ok(smtp.moments.some(({ step, line }) => step === "auth" && line.startsWith("AUTH XOAUTH2 ")));

    google.revoke(ANN);
    await rig.mail.setPassword(ANN, "nobody knows it");
    for (const token of google.givenTo(ANN)) await rig.mail.removeToken(ANN, token);
    await rig.mail.disconnectAll();
    const { problem } = await status(one, "gmail", "needs_attention");
    assert.equal(problem.code, "token");
    await letter("gmail missed");
    const again = await newPerson(PUBLIC).follow(
      await link({ application: "google", mailbox: { id: "gmail" } }),
      one.url,
      two.url,
    );
    assert.match(again.text, /connected again/);
    await status(one, "gmail", "listening");
    await arrived("gmail missed");
    assert.deepEqual([once("gmail first"), once("gmail missed")], [1, 1]);
  });

  test("of Microsoft 365, and keeps its cursors when the consent is renewed", async (t) => {
    if (!redis) return t.skip("no redis");
    const [one, two] = nodes;
    const letter = (subject: string) => graph.append(ANN, "inbox", numbered(1, { subject }));
    const mailbox = { id: "graph", deliver: toEndpoint(rig.endpoint), send: {} };
    graph.signIn("ann");
    const url = await link({ application: "contoso", address: ANN, mailbox });
    assert.match((await newPerson(PUBLIC).follow(url, one.url, two.url)).text, /is connected/);
    await status(two, "graph", "polling");
    await letter("graph first");
    await arrived("graph first");

    graph.revoke("ann");
    graph.forgetTokens();
    const { problem } = await status(one, "graph", "needs_attention");
    assert.match(problem.cause, /revoked/);
    assert.match(problem.fix, /POST \/api\/v1\/consents/);
    await letter("graph missed");
    const renewal = await link({ application: "contoso", mailbox: { id: "graph" } });
    assert.match((await newPerson(PUBLIC).follow(renewal, two.url, one.url)).text, /connected again/);
    await status(two, "graph", "polling");
    await arrived("graph missed");
    assert.deepEqual([once("graph first"), once("graph missed")], [1, 1]);
    for (const { output } of nodes)
      for (const secret of [google.clientSecret, graph.clientSecret, ...google.givenTo(ANN)])
        assert.ok(!output.includes(secret), "a secret is in the log");
  });
});
