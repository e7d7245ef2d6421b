/** Proves the fake Graph server that other tests rely on. */
import assert from "node:assert/strict";
import { constants, createHash, randomUUID, sign } from "node:crypto";
import { describe, test } from "node:test";
import { clientCertificate } from "./servers/certificates.ts";
import { ANN, ask, type Item, json, refusal, round, withAnn } from "./servers/graph/asking.ts";
import type { GraphServer } from "./servers/graph/server.ts";
import { message, numbered } from "./servers/mail.ts";

const INBOX = `users/${ANN}/mailFolders/inbox`;
const idsOf = (items: Item[]) => items.map(({ id }) => id);
const prefer = (size: number) => ({ headers: { prefer: `IdType="ImmutableId", odata.maxpagesize=${size}` } });

/** Asks the login server for a token. */
async function token(server: GraphServer, form: Record<string, string>, tenant = server.tenant) {
  const url = `${server.tokenRoot}/${tenant}/oauth2/v2.0/token`;
  const answer = await fetch(url, { method: "POST", body: new URLSearchParams(form) });
  const body = (await answer.json()) as Record<string, unknown>;
  return { status: answer.status, body, code: (body["error_codes"] as number[] | undefined)?.[0] };
}

function credentials(server: GraphServer, more: Record<string, string> = {}) {
  const scope = `${server.root}/.default`;
  return {
    grant_type: "client_credentials",
    client_id: server.clientId,
    client_secret: server.clientSecret,
    scope,
    ...more,
  };
}

function assertion(server: GraphServer, pair: { certificate: string; privateKey: string }, more: object = {}): string {
  const der = Buffer.from(pair.certificate.replace(/-----[^-]*-----|\s/g, ""), "base64");
  const now = Math.floor(Date.now() / 1000);
  const head = { alg: "PS256", typ: "JWT", "x5t#S256": createHash("sha256").update(der).digest("base64url") };
  const claims = {
    aud: `${server.tokenRoot}/${server.tenant}/oauth2/v2.0/token`,
    iss: server.clientId,
    sub: server.clientId,
    jti: randomUUID(),
    nbf: now,
    exp: now + 300,
    ...more,
  };
  const text = [head, claims].map((one) => Buffer.from(JSON.stringify(one)).toString("base64url")).join(".");
  const key = { key: pair.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
  return `${text}.${sign("sha256", Buffer.from(text), key).toString("base64url")}`;
}

/** All boundaries are B. */
function undone(bytes: Buffer): string {
  return bytes.toString("latin1").replace(/(?<=^--|boundary=")[^"\r\n]*?(?=--\r$|\r$|")/gm, "B");
}

describe("the fake Graph server", () => {
  test("the login server gives tokens for a secret and refuses with the numbers of Entra", async (t) => {
    const server = await withAnn(t);
    const good = await token(server, credentials(server));
    assert.deepEqual([good.status, good.body["token_type"], good.body["expires_in"]], [200, "Bearer", 3599]);
    const own = { token: String(good.body["access_token"]) };
    assert.equal((await json(server, INBOX, own))["displayName"], "Inbox");
    assert.equal((await token(server, credentials(server), server.domain)).status, 200);
    const wrong = async (more: Record<string, string>, tenant?: string) =>
      (await token(server, credentials(server, more), tenant)).code;
    assert.equal(await wrong({ client_secret: "no" }), 7000215);
    assert.equal(await wrong({ client_id: randomUUID() }), 700016);
    assert.equal(await wrong({ scope: "Mail.Read" }), 1002012);
    assert.equal(await wrong({ scope: "https://graph.microsoft.us/.default" }), 500011);
    assert.equal(await wrong({}, randomUUID()), 90002);
    assert.equal(await wrong({}, "what!"), 900023);
    assert.equal(await wrong({}, "common"), 50059);
    server.faults.once("token", { aadsts: 7000222 });
    assert.equal(await wrong({}), 7000222);
    assert.equal((await token(server, credentials(server))).status, 200);
  });

  test("a client assertion is checked with the uploaded certificate", async (t) => {
    const server = await withAnn(t);
    const [pair, other] = await Promise.all([clientCertificate("RS256"), clientCertificate("RS256")]);
    const { client_secret: _, ...base } = credentials(server);
    const type = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    const by = async (text: string) =>
      (await token(server, { ...base, client_assertion_type: type, client_assertion: text })).code ?? "good";
    assert.equal(await by(assertion(server, pair)), 700027);
    server.application.certificates.push(pair.certificate);
    assert.equal(await by(assertion(server, pair)), "good");
    assert.equal(await by(assertion(server, { ...pair, privateKey: other.privateKey })), 700027);
    assert.equal(await by(assertion(server, pair, { exp: 1_000_000_000 })), 700024);
    assert.equal(await by(assertion(server, pair, { aud: "https://elsewhere.example" })), 700023);
    assert.equal(await by("a.b.c"), 50027);
  });

  test("refresh tokens are renewed at each use until consent is revoked, and name one resource at a time", async (t) => {
    const server = await withAnn(t);
    const first = server.consent(ANN);
    const form = { client_id: server.clientId, client_secret: server.clientSecret, grant_type: "refresh_token" };
    const renewed = await token(server, { ...form, refresh_token: first });
    const next = String(renewed.body["refresh_token"]);
    assert.notEqual(next, first);
    const me = await json(server, "me/mailFolders/Inbox", { token: String(renewed.body["access_token"]) });
    assert.equal(me["displayName"], "Inbox");
    assert.equal((await token(server, { ...form, refresh_token: first })).status, 200);
    const two = `${server.root}/Mail.Send https://outlook.office.com/SMTP.Send`;
    assert.equal((await token(server, { ...form, refresh_token: next, scope: two })).code, 28000);
    server.revoke(ANN);
    assert.equal((await token(server, { ...form, refresh_token: next })).code, 50173);
  });

  test("who has no good token, no permission or no mailbox is refused as Graph refuses", async (t) => {
    const server = await withAnn(t);
    const unknown = `users/eve@example.com/mailFolders/inbox`;
    assert.equal(await refusal(server, INBOX, { token: "" }), "401 InvalidAuthenticationToken");
    assert.equal(await refusal(server, INBOX, { token: "abc" }), "401 InvalidAuthenticationToken");
    const foreign = server.accessToken({ audience: "https://outlook.office.com" });
    const answer = await ask(server, INBOX, { token: foreign });
    assert.equal(answer.status, 401);
    assert.match(await answer.text(), /Invalid audience.*"request-id":"[\da-f-]{36}"/);
    assert.equal(await refusal(server, unknown), "404 ErrorInvalidUser");
    const basic = server.accessToken({ permissions: ["Mail.ReadBasic"] });
    assert.equal((await ask(server, INBOX, { token: basic })).status, 200);
    const id = await server.append(ANN, "inbox", numbered(1));
    assert.equal(
      await refusal(server, `users/${ANN}/messages/${id}/$value`, { token: basic }),
      "403 ErrorAccessDenied",
    );
    server.application.policy = ["bob@example.com"];
    assert.match(await (await ask(server, INBOX)).text(), /Access to OData is disabled/);
    server.application.exchangeRoles = [{ permission: "Mail.Read", mailboxes: [ANN] }];
    assert.equal((await ask(server, INBOX)).status, 200);
    server.setMailbox(ANN, "inactive");
    assert.equal(await refusal(server, INBOX), "404 MailboxNotEnabledForRESTAPI");
  });

  test("folders have names in the mailbox's language, siblings of one name, and well-known names in any case", async (t) => {
    const server = await withAnn(t);
    await server.addUser("jan", { language: "de" });
    const made = [await server.createFolder("jan", "Büro/Akten"), await server.createFolder("jan", "Büro/Akten")];
    await server.createFolder("jan", "Verborgen", { hidden: true });
    await server.createFolder("jan", "Suche", { search: true });
    const base = "users/jan@example.com/mailFolders";
    const names = async (query: string) =>
      ((await json(server, `${base}?${query}`))["value"] as { displayName: string }[]).map((one) => one.displayName);
    assert.equal((await names("")).length, 10);
    assert.ok((await names("$top=100")).includes("Posteingang"));
    assert.ok(!(await names("$top=100")).includes("Verborgen"));
    assert.ok((await names("%24top=100&includeHiddenFolders=true")).includes("Verborgen"));
    assert.equal((await json(server, `${base}/INBOX`))["displayName"], "Posteingang");
    assert.equal((await json(server, `${base}('${made[0]}')`))["displayName"], "Büro/Akten");
    assert.equal(await refusal(server, `${base}/clutter`), "404 ErrorItemNotFound");
    assert.equal(await refusal(server, `${base}/Büro`), "400 ErrorInvalidIdMalformed");
    assert.equal(await refusal(server, `${base}/${made[0]?.toLowerCase()}`), "400 ErrorInvalidIdMalformed");
    const all = await round(server, `${base}/delta`, prefer(5));
    assert.ok(all.pages > 2 && made.every((id) => idsOf(all.items).includes(id)));
    server.renameFolder("jan", made[0] ?? "", "Neu");
    server.removeFolder("jan", made[1] ?? "");
    const later = await round(server, all.link, prefer(5));
    assert.equal(later.items.find(({ id }) => id === made[0])?.["displayName"], "Neu");
    assert.ok(later.items.find(({ id }) => id === made[1])?.["@removed"]);
  });

  test("lists are filtered, ordered and paged, and refuse what Exchange finds too complex", async (t) => {
    const server = await withAnn(t);
    for (const hour of [1, 2, 3, 4]) {
      const receivedAt = new Date(Date.UTC(2026, 0, 1, hour));
      await server.append(ANN, "inbox", numbered(hour, { messageId: `<${hour}@a.example>` }), { receivedAt });
    }
    const subjects = async (query: string) => {
      const page = await json(server, `users/${ANN}/messages?${query}`);
      return { page, subjects: (page["value"] as { subject: string }[]).map((one) => one.subject.slice(8)).join("") };
    };
    assert.equal((await subjects("")).subjects, "4321");
    const since = "$filter=receivedDateTime ge 2026-01-01T02:00:00Z and receivedDateTime lt 2026-01-01T04:00:00Z";
    assert.equal((await subjects(`${since}&$orderby=receivedDateTime`)).subjects, "23");
    assert.equal((await subjects("$filter=internetMessageId eq '<3@a.example>'")).subjects, "3");
    const first = await subjects("$top=3&$select=subject");
    assert.deepEqual(Object.keys((first.page["value"] as object[])[0] ?? {}).toSorted(), [
      "@odata.etag",
      "id",
      "subject",
    ]);
    const rest = await json(server, String(first.page["@odata.nextLink"]));
    assert.deepEqual(
      (rest["value"] as Item[]).map(({ subject }) => subject),
      ["Message 1"],
    );
    const complex = `users/${ANN}/messages?$filter=isRead eq false&$orderby=receivedDateTime`;
    assert.equal(await refusal(server, complex), "400 InefficientFilter");
    assert.equal(await refusal(server, `users/${ANN}/messages?$top=1001`), "400 ErrorInvalidUrlQuery");
    assert.equal(await refusal(server, `users/${ANN}/messages?$select=nonsense`), "400 BadRequest");
  });

  test("content comes as bytes in another wrapping at each download", async (t) => {
    const server = await withAnn(t);
    const raw = message({
      text: "Grüße",
      html: "<p>x</p>",
      attachments: [{ filename: "a.bin", content: Buffer.from([0, 255]) }],
    });
    const latin1 = Buffer.from(
      "Subject: x\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ncaf\xe9\r\n",
      "latin1",
    );
    const [id, plain] = await server.appendMany(ANN, "inbox", [raw, latin1]);
    const content = async (of: string | undefined) => {
      const answer = await ask(server, `users/${ANN}/messages/${of}/$value`);
      assert.equal(answer.headers.get("content-type"), "text/plain");
      return Buffer.from(await answer.arrayBuffer());
    };
    const [one, two] = [await content(id), await content(id)];
    assert.notDeepEqual(one, two);
    assert.equal(undone(one), undone(raw));
    assert.deepEqual(await content(plain), latin1);
    server.faults.once("getContent", { cut: 300 });
    await assert.rejects(content(id));
    server.refuseContent(id ?? "", { status: 500, code: "ErrorCorruptData", message: "Data is corrupt." });
    assert.equal(await refusal(server, `users/${ANN}/messages/${id}/$value`), "500 ErrorCorruptData");
    assert.equal(await refusal(server, `${INBOX}/messages/${plain}/$value`), "405 ErrorInvalidRequest");
  });

  test("marks, moves and deletions keep the immutable id and change the other one", async (t) => {
    const server = await withAnn(t);
    const id = await server.append(ANN, "inbox", numbered(1));
    const path = `users/${ANN}/messages/${id}`;
    const { "@odata.etag": etag } = await json(server, path);
    const marked = { method: "PATCH", body: { isRead: true, categories: ["Red", "Taken"] } };
    const headers = { "if-match": String(etag) };
    await json(server, path, { ...marked, headers });
    assert.equal(await refusal(server, path, { ...marked, headers }), "412 ErrorIrresolvableConflict");
    assert.deepEqual([server.isRead(ANN, id), server.categories(ANN, id)], [true, ["Red", "Taken"]]);
    const mutable = (await json(server, path, { headers: { prefer: "" } }))["id"];
    assert.notEqual(mutable, id);
    const moved = await json(server, `${path}/move`, { method: "POST", body: { destinationId: "archive" } }, 201);
    assert.equal(moved["id"], id);
    assert.equal(await refusal(server, `users/${ANN}/messages/${mutable}`), "404 ErrorItemNotFound");
    assert.equal(
      await refusal(server, `users/${ANN}/messages/${String(mutable).replaceAll("A", "/")}`),
      "400 BadRequest",
    );
    assert.equal(await refusal(server, `users/${ANN}/messages/cut`), "400 ErrorInvalidIdMalformed");
    assert.equal((await ask(server, path, { method: "DELETE" })).status, 204);
    assert.equal(await server.count(ANN, "deleteditems"), 1);
    assert.equal((await ask(server, path, { method: "DELETE" })).status, 204);
    assert.equal(await server.count(ANN, "recoverableitemsdeletions"), 1);
    assert.equal((await ask(server, `${path}/permanentDelete`, { method: "POST" })).status, 204);
    assert.equal(await refusal(server, path), "404 ErrorItemNotFound");
  });

  test("a fifth request at once, and one above ten thousand, is throttled; all of them are logged", async (t) => {
    const server = await withAnn(t, { behaviour: { latencyMs: 200 } });
    const six = await Promise.all(Array.from({ length: 6 }, () => ask(server, INBOX)));
    const refused = six.filter((one) => one.status === 429);
    assert.equal(refused.length, 2);
    assert.equal(refused[0]?.headers.get("retry-after"), "2.128");
    assert.match(await (refused[0]?.text() ?? ""), /ApplicationThrottled.*MailboxConcurrency/);
    assert.equal(server.mostAtOnce(), 5);
    assert.deepEqual(server.requests.map(({ atOnce }) => atOnce).toSorted(), [0, 0, 1, 2, 3, 4]);
    Object.assign(server.limits, { requests: 7, retryAfter: "date" });
    assert.equal((await ask(server, INBOX)).status, 200);
    const over = await ask(server, INBOX);
    assert.ok(Date.parse(over.headers.get("retry-after") ?? "") > 0);
    const { method, path, operation, user, status } = server.requests.at(-1)!;
    assert.deepEqual([method, path, operation, user, status], ["GET", `/${INBOX}`, "getFolder", ANN, 429]);
  });

  test("answers fail and are cut on command, before the work and after it; mail outlasts a restart", async (t) => {
    const server = await withAnn(t);
    const id = await server.append(ANN, "inbox", numbered(1));
    const move = () =>
      ask(server, `users/${ANN}/messages/${id}/move`, { method: "POST", body: { destinationId: "archive" } });
    server.faults.once("move", { cut: "before" });
    await assert.rejects(move());
    assert.equal(await server.count(ANN, "archive"), 0);
    server.faults.once("move", { cut: "after" }, { user: ANN });
    await assert.rejects(move());
    assert.equal(await server.count(ANN, "archive"), 1);
    server.faults.once("*", { status: 503, code: "ErrorMailboxStoreUnavailable", retryAfter: "7" });
    const busy = await ask(server, INBOX);
    assert.deepEqual([busy.status, busy.headers.get("retry-after")], [503, "7"]);
    server.faults.once("getFolder", { status: 200, body: "<html>Sign in</html>" });
    assert.equal(await (await ask(server, INBOX)).text(), "<html>Sign in</html>");
    server.faults.once("getFolder", { after: { status: 200, body: "" } });
    assert.equal(await (await ask(server, INBOX)).text(), "");
    const { link } = await round(server, `${INBOX}/messages/delta`);
    await server.kill();
    await server.start();
    // Connections that fetch has kept are dead, and it says so once.
    await ask(server, INBOX).catch(() => undefined);
    assert.deepEqual((await round(server, link)).items, []);
  });
});
