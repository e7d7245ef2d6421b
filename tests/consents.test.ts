/** Links for consent: who may make them, and every page that a person can come to. Google and Graph are fakes of the tests. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { idOfLink } from "../api/consent/links.ts";
import { clock } from "../shared/time.ts";
import { type ApiNode, type Reply, startApi } from "./api-node.ts";
import { clientCertificate } from "./servers/certificates.ts";
import { type Google, startGoogle } from "./servers/google.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { type Arrival, newPerson } from "./stories/person.ts";

const ADMIN = "admin-0123456789abcdef";
const PUBLIC = "https://mail.example.com";
const CALLBACK = `${PUBLIC}/consent/callback`;
const ANN = "ann@example.com";
const deliver = { url: "https://crm.example.com/mail" };

describe("A link for consent", () => {
  let node: ApiNode;
  let google: Google;
  let graph: GraphServer;
  before(async () => {
    [node, google, graph] = await Promise.all([
      startApi({ API_TOKENS: ADMIN, PUBLIC_URL: `${PUBLIC}/any, http://inside.example` }),
      startGoogle(async () => undefined),
      startGraphServer(),
    ]);
    google.redirectUris.push(CALLBACK);
    graph.application.redirectUris.push(CALLBACK);
    await graph.addUser(ANN);
    await graph.addUser("bob@example.com");
    const { authorizeUrl, tokenUrl, clientId, clientSecret } = google;
    const imap = { host: "127.0.0.1", port: 9, tls: "none" };
    const servers = { authorizeUrl, tokenUrl, imap, smtp: imap };
    await put("google", { provider: "google", clientId, clientSecret, ...servers });
    await put("contoso", graphApplication());
  });
  after(async () => {
    await node.close();
    await google.stop();
    await graph.stop();
  });

  const call = (method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Reply> =>
    node.call(method, path, body, { authorization: `Bearer ${ADMIN}`, ...headers });
  const put = async (id: string, body: object) => {
    const { status, text } = await call("PUT", `/api/v1/applications/${id}`, body);
    assert.ok(status < 300, text);
  };
  const graphApplication = () => {
    const { root: graphUrl, tokenRoot, tenant, clientId, clientSecret } = graph;
    const tokenUrl = `${tokenRoot}/${tenant}/oauth2/v2.0/token`;
    return { provider: "microsoft", tenant, clientId, clientSecret, graphUrl, tokenUrl };
  };
  const link = async (wish: object): Promise<Reply["body"]> => {
    const made = await call("POST", "/api/v1/consents", { application: "google", address: ANN, ...wish });
    assert.equal(made.status, 201, made.text);
    return made.body;
  };
  const isPage = ({ status, text }: Arrival, wanted: number, words: RegExp) => {
    assert.equal(status, wanted, text);
    assert.match(text, words);
    for (const secret of [google.clientSecret, graph.clientSecret, "ya29.", "1//"]) assert.ok(!text.includes(secret));
  };

  test("registers a Gmail mailbox with the account that signed in, once, and returns to the client", async () => {
    const returnUrl = "https://127.0.0.1/back?tab=2";
    const { url, expiresAt, mailbox, secret } = await link({ mailbox: { id: "g1", deliver, send: {} }, returnUrl });
    assert.ok(url.startsWith(`${PUBLIC}/consent?link=`) && Date.parse(expiresAt) > Date.now(), url);
    assert.match(secret, /^whsec_/);
    const person = newPerson(PUBLIC);
    isPage(await person.open(url, node.url), 200, /Connect with Google[\s\S]*ann@example\.com[\s\S]*crm\.example\.com/);
    google.signIn({ email: "Ann@Example.com" });
    const back = await person.goToProvider(url, node.url);
    const asked = google.asked.at(-1);
    assert.deepEqual(
      ["scope", "access_type", "prompt", "code_challenge_method", "login_hint"].map((name) => asked?.get(name)),
      ["openid email https://mail.google.com/", "offline", "consent", "S256", ANN],
    );
    const { status, location } = await person.comeBack(back, node.url);
    assert.equal(status, 303);
    assert.equal(location, "https://127.0.0.1/back?tab=2&result=connected&mailbox=g1&address=ann%40example.com");
    const { body } = await call("GET", `/api/v1/mailboxes/${mailbox}`);
    const { protocol, host, port, auth } = body.receive;
    assert.deepEqual([body.address, protocol, host, port, auth.user], [ANN, "imap", "127.0.0.1", 9, ANN]);
    assert.equal(auth.oauth2.application, "google");
    const stored = (await node.store.mailboxes.get("g1"))?.mailbox;
    assert.equal(stored?.deliver.secret?.reveal(), secret);
    const login = stored?.receive.auth;
    assert.ok(
      login && "oauth2" in login && login.oauth2.clientSecret === undefined,
      "the secret stays in the application",
    );
    // Neither the way back nor the link works again.
    isPage(await person.comeBack(back, node.url), 410, /used before/);
    isPage(await person.open(url, node.url), 410, /used before/);
    const { text } = await call("GET", "/api/v1/audit?mailbox=g1");
    assert.ok(text.includes('"/consent/callback"') && text.includes("API_TOKENS#1"), text);
    assert.ok(!JSON.stringify(node.told).includes(new URL(url).searchParams.get("link") ?? ""));
    assert.equal((await call("DELETE", "/api/v1/applications/google")).status, 409);
  });

  test("without an address takes the account that the person chooses", async () => {
    const { url } = await link({ address: undefined, mailbox: { id: "g2", deliver } });
    google.signIn({ email: "carl@example.com" });
    isPage(await newPerson(PUBLIC).follow(url, node.url), 200, /is connected[\s\S]*carl@example\.com/);
    assert.equal((await call("GET", "/api/v1/mailboxes/g2")).body.address, "carl@example.com");
  });

  test("for Microsoft asks for what the mailbox needs, and Graph says who signed in", async () => {
    const wish = { application: "contoso", mailbox: { id: "m1", deliver, receive: { folders: "all" } } };
    const person = newPerson(PUBLIC);
    graph.signIn("bob");
    const wrong = await person.follow((await link(wish)).url, node.url);
    isPage(wrong, 400, /signed in as bob@example\.com, and the link is for ann@example\.com/);
    assert.equal((await call("GET", "/api/v1/mailboxes/m1")).status, 404);
    const { url } = await link(wish);
    graph.signIn("ann");
    isPage(await person.follow(url, node.url), 200, /is connected/);
    const { receive } = (await call("GET", "/api/v1/mailboxes/m1")).body;
    assert.deepEqual([receive.protocol, receive.folders, receive.graphUrl], ["graph", "all", graph.root]);
    assert.equal(receive.auth.oauth2.application, "contoso");
    const folders = await call("GET", "/api/v1/mailboxes/m1/folders");
    assert.ok(folders.text.includes('"INBOX"'), folders.text);
    // A new secret of the application is used at once.
    graph.application.secrets.splice(0, Infinity, "the second secret");
    graph.forgetTokens();
    await put("contoso", { ...graphApplication(), clientSecret: "the second secret" });
    assert.equal((await call("GET", "/api/v1/mailboxes/m1/folders")).status, 200);
    assert.equal(graph.application.secrets[0], "the second secret");
  });

  test("for an application with a certificate is redeemed and renewed with its key", async () => {
    const { certificate, privateKey } = await clientCertificate("RS256");
    graph.application.certificates.push(certificate);
    const { clientSecret: _, ...application } = graphApplication();
    await put("by-key", { ...application, certificate, privateKey });
    const { url } = await link({ application: "by-key", mailbox: { id: "m2", deliver } });
    graph.signIn("ann");
    isPage(await newPerson(PUBLIC).follow(url, node.url), 200, /is connected/);
    const folders = await call("GET", "/api/v1/mailboxes/m2/folders");
    assert.equal(folders.status, 200, folders.text);
    const grants = graph.tokenRequests.slice(-2).map(({ grantType }) => grantType);
    assert.deepEqual(grants, ["authorization_code", "refresh_token"]);
  });

  test("says on a page of its own why nothing was connected", async () => {
    const person = newPerson(PUBLIC);
    const mailbox = { id: "never", deliver };
    const { url } = await link({ mailbox, returnUrl: "https://127.0.0.1/back" });
    const refusals: [Parameters<Google["signIn"]>[0], RegExp][] = [
      [{ email: ANN, error: "access_denied" }, /You did not agree[\s\S]*Try again[\s\S]*reason=declined/],
      [{ email: ANN, error: "admin_policy_enforced" }, /administrator must agree/],
      [{ email: ANN, error: "<b>odd</b>" }, /The provider says: an unknown error/],
      [{ email: ANN, noRefreshToken: true }, /no lasting access/],
      [{ email: ANN, unticked: ["https://mail.google.com/"] }, /permission is missing/],
      [{ email: ANN, verified: false }, /no proved address/],
      [{ email: "eve@example.com" }, /signed in as eve@example\.com, and the link is for ann@example\.com/],
    ];
    for (const [one, words] of refusals) {
      google.signIn(one);
      const arrived = await person.follow(url, node.url);
      assert.ok(arrived.status >= 400, arrived.text);
      isPage(arrived, arrived.status, words);
    }
    google.signIn({ email: ANN });
    const back = await person.goToProvider(url, node.url);
    isPage(await newPerson(PUBLIC).comeBack(back, node.url), 400, /another browser/);
    const newer = await person.goToProvider(url, node.url);
    isPage(await person.comeBack(back, node.url), 400, /sign-in is over/);
    isPage(await person.comeBack(newer.replace(/code=[^&]*/, "code=4%2Fmade-up"), node.url), 502, /no longer accepts/);
    isPage(await person.comeBack(newer, node.url), 400, /sign-in is over/);
    isPage(await person.open(`${PUBLIC}/consent?link=made-up`, node.url), 404, /not known/);
    isPage(await person.open(`${PUBLIC}/consent/callback?state=made.up&code=x`, node.url), 404, /not known/);
    assert.equal((await call("GET", "/api/v1/mailboxes/never")).status, 404);
    const reasons = node.told.flatMap((fact) => (fact.kind === "consent.refused" ? [fact.reason] : []));
    assert.ok(reasons.includes("other_account") && reasons.includes("stale"), reasons.join());
    assert.ok(JSON.stringify(node.told).includes("signed in as eve@example.com"));
    // The mailbox got another address while its person was at the provider.
    const renewal = await link({ address: undefined, mailbox: { id: "g1" } });
    google.signIn({ email: ANN });
    const way = await person.goToProvider(renewal.url, node.url);
    const { mailbox: changed } = (await node.store.mailboxes.get("g1")) ?? assert.fail();
    await node.store.mailboxes.put({ ...changed, address: "other@example.com" });
    isPage(await person.comeBack(way, node.url), 502, /has another address now/);
  });

  test("for Microsoft names the page where an administrator agrees", async () => {
    const { url } = await link({ application: "contoso", mailbox: { deliver } });
    graph.signIn("ann", "AADSTS65001: The user or administrator has not consented to use the application.");
    const arrived = await newPerson(PUBLIC).follow(url, node.url);
    isPage(arrived, 400, /administrator must agree/);
    assert.ok(arrived.text.includes(`${graph.tokenRoot}/${graph.tenant}/adminconsent?client_id=${graph.clientId}`));
  });

  test("is over after 30 minutes, and is known for a day", async () => {
    const { url } = await link({ mailbox: { deliver } });
    const id = idOfLink(new URL(url).searchParams.get("link") ?? "");
    const stored = await node.store.consents.get(id);
    assert.ok(stored);
    await node.store.consents.put({ ...stored, expiresAt: new Date(clock.now() - 1000).toISOString() });
    isPage(await newPerson(PUBLIC).open(url, node.url), 410, /expired/);
    await node.store.trim(new Date(clock.now() + 25 * 3_600_000));
    isPage(await newPerson(PUBLIC).open(url, node.url), 404, /not known/);
  });

  test("is refused with the field that is wrong and what to do", async () => {
    assert.equal((await call("PUT", "/api/v1/mailboxes/imap", imapMailbox())).status, 201);
    const mailbox = { deliver };
    const wrong: [object, string, RegExp][] = [
      [{ application: "unknown", mailbox }, "application", /registered application/],
      [{ mailbox: {} }, "mailbox.deliver", /missing/],
      [{ mailbox: { ...mailbox, address: ANN } }, "mailbox.address", /beside/],
      [{ mailbox: { ...mailbox, receive: { host: "evil.example" } } }, "mailbox.receive.host", /from the application/],
      [{ mailbox: { ...mailbox, receive: { auth: {} } } }, "mailbox.receive.auth", /from the application/],
      [{ mailbox: { ...mailbox, receive: { protocol: "pop3" } } }, "mailbox.receive.protocol", /imap/],
      [{ mailbox: { ...mailbox, receive: { foldrs: [] } } }, "mailbox.receive.foldrs", /folders/],
      [{ mailbox: { ...mailbox, send: { host: "evil.example" } } }, "mailbox.send.host", /from the application/],
      [{ mailbox: { ...mailbox, id: "a b" } }, "mailbox.id", /may use/],
      [{ mailbox: { id: "imap" } }, "mailbox.id", /not received from the application/],
      [{ address: undefined, mailbox: { id: "imap", deliver } }, "mailbox.deliver", /only its login/],
      [{ mailbox, returnUrl: "javascript:alert(1)" }, "returnUrl", /http/],
      [{ mailbox, returnUrl: "https://a:b@crm.example.com/" }, "returnUrl", /login/],
      [{ mailbox, returnUrl: "http://169.254.169.254/latest" }, "returnUrl", /may post to/],
    ];
    for (const [wish, path, words] of wrong) {
      const { status, body, text } = await call("POST", "/api/v1/consents", {
        application: "google",
        address: ANN,
        ...wish,
      });
      assert.equal(status, 422, `${path}: ${text}`);
      const error = body.errors.find((one: { path: string }) => one.path === path);
      assert.ok(error, `${path}: ${text}`);
      assert.match(error.message, words, path);
    }
    const scopes = ["read", "manage"];
    const { body } = await call("POST", "/api/v1/tokens", { name: "acme", scopes, mailboxPrefix: "acme-" });
    const bound = { authorization: `Bearer ${body.token}` };
    await put("acme-google", {
      provider: "google",
      clientId: google.clientId,
      clientSecret: google.clientSecret,
    });
    const asAcme = (wish: object) =>
      node.call("POST", "/api/v1/consents", { application: "acme-google", address: ANN, ...wish }, bound);
    assert.equal((await asAcme({ mailbox: { id: "other", deliver } })).status, 404);
    assert.equal((await asAcme({ application: "google", mailbox })).status, 422);
    assert.match((await asAcme({ mailbox })).body.mailbox, /^acme-/);
  });
});

function imapMailbox() {
  const auth = { user: ANN, password: "words" };
  return { address: ANN, receive: { protocol: "imap", host: "imap.example.com", auth }, deliver };
}
