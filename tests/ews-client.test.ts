/** What a session with an Exchange server promises: proven connections, logins that lock nobody out, and failures in plain words. */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import { after, before, beforeEach, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { ewsAccounts } from "../shared/mail/ews/account.ts";
import { type EwsDeps, type EwsSession, openEws } from "../shared/mail/ews/client/session.ts";
import { PASSWORD } from "./bodies.ts";
import {
  exchangeDeps,
  exchangeMailbox,
  type EwsWish,
  INBOX_ANSWER,
  inboxName,
  webServer,
} from "./promises/exchange-rig.ts";
import { movableClock } from "./clock.ts";
import { all, isProblem } from "./promises/mailbox-rig.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { challengeMessage, messageType, readAnswer } from "./servers/exchange/ntlm.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { eventually } from "./servers/waiting.ts";

const { signal } = new AbortController();
const ADDRESS = "anna@example.com";
const SERVICE = "service@example.com";
const GET_FOLDER =
  '<m:GetFolder xmlns:m="http://schemas.microsoft.com/exchange/services/2006/messages" xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"><m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds><t:DistinguishedFolderId Id="inbox"/></m:FolderIds></m:GetFolder>';

const bytesOf = (authorization: string) => Buffer.from(authorization.split(" ")[1] ?? "", "base64");

const taken = () => Promise.reject(new Problem("conflict", "Somebody else sends it"));

const opened: EwsSession[] = [];
async function open(url: string, wish: EwsWish = {}, deps: Partial<EwsDeps> = {}): Promise<EwsSession> {
  const session = await openEws(exchangeDeps(deps), exchangeMailbox(ADDRESS, url, wish), signal);
  opened.push(session);
  return session;
}
after(async () => {
  for (const session of opened) await session.close();
});

describe("a session with an Exchange server", () => {
  let server: Exchange;
  before(async () => {
    server = await startExchange({ tls: true });
    await server.addUser(SERVICE, PASSWORD, { login: "CORP\\service" });
    await server.addUser(ADDRESS, PASSWORD, {
      login: "CORP\\anna",
      delegates: ["CORP\\service"],
      impersonators: ["CORP\\service"],
    });
    server.tokens.accept("good token", ADDRESS);
  });
  after(() => server.stop());
  beforeEach(() => {
    server.faults.clear();
    server.schemes = ["ntlm", "basic", "bearer"];
    server.calls.length = 0;
  });
  const trusted = () => ({ ca: server.ca });

  for (const user of [ADDRESS, "CORP\\anna", "anna"])
    test(`NTLM logs ${user} in once for a connection, which is used again`, async () => {
      server.schemes = ["ntlm"];
      const login = { user, password: new Secret(PASSWORD) };
      const session = await open(server.url, { ...trusted(), auth: login });
      assert.equal(await inboxName(session, signal), "Inbox");
      assert.equal(await inboxName(session, signal), "Inbox");
      assert.deepEqual(
        server.calls.map(({ user: who, anchor }) => [who, anchor]),
        [
          [ADDRESS, ADDRESS],
          [ADDRESS, ADDRESS],
        ],
      );
      assert.equal(new Set(server.calls.map(({ wire }) => wire)).size, 1);
      assert.equal(server.calls[1]?.headers["authorization"], undefined);
    });

  test("names and passwords may have any letters", async () => {
    const pass = "Pässwörd € 日本";
    await server.addUser("jurgen@example.com", pass, { login: "CORP\\jürgen.öz" });
    for (const scheme of ["ntlm", "basic"] as const) {
      server.schemes = [scheme];
      const auth = { user: "CORP\\jürgen.öz", password: new Secret(pass) };
      const session = await open(server.url, { ...trusted(), auth });
      assert.equal(await inboxName(session, signal), "Inbox");
    }
  });

  test("a password is shown by basic authentication where the server offers nothing else, or the mailbox says so", async () => {
    server.schemes = ["basic"];
    assert.equal(await inboxName(await open(server.url, trusted()), signal), "Inbox");
    server.schemes = ["ntlm", "basic"];
    assert.equal(await inboxName(await open(server.url, { ...trusted(), scheme: "basic" }), signal), "Inbox");
    assert.ok(server.calls.every(({ headers }) => headers["authorization"]?.startsWith("Basic ")));
  });

  test("a scheme that the server does not offer is a problem of its own, and no password is shown", async () => {
    server.schemes = ["basic"];
    const session = await open(server.url, { ...trusted(), scheme: "ntlm" });
    await assert.rejects(inboxName(session, signal), isProblem("auth_method", "never"));
  });

  test("a token that is refused before its end is replaced, and the new one tried once, before anything fails", async () => {
    const forgotten: string[] = [];
    let newest = "good token";
    const tokens = {
      access: () => Promise.resolve(new Secret(forgotten.length > 0 ? newest : "old token")),
      endOf: () => undefined,
      forget: (_: string, refused: string) => void forgotten.push(refused),
    };
    const oauth2 = { tokenUrl: "https://login.example.com/token", clientId: "app", clientSecret: new Secret("s") };
    const openWithToken = () => open(server.url, { ...trusted(), auth: { user: ADDRESS, oauth2 } }, { tokens });
    const session = await openWithToken();
    const earlier = server.refusedLogins.length;
    assert.equal(await inboxName(session, signal), "Inbox");
    assert.deepEqual(forgotten, ["old token"]);
    assert.equal(session.open, true);
    forgotten.length = 0;
    newest = "another bad token";
    const refused = await openWithToken();
    await assert.rejects(inboxName(refused, signal), isProblem("auth", "later"));
    assert.deepEqual(forgotten, ["old token", newest]);
    assert.equal(server.refusedLogins.length, earlier + 3, "each refused token is shown once");
    assert.equal(refused.open, false);
    // A token that cannot be renewed is not shown again.
    newest = "old token";
    forgotten.length = 0;
    await assert.rejects(inboxName(await openWithToken(), signal), isProblem("auth", "later"));
    assert.equal(server.refusedLogins.length, earlier + 4);
  });

  test("a service account opens a shared mailbox by delegation, or acts as it by impersonation", async () => {
    const auth = { user: "CORP\\service", password: new Secret(PASSWORD) };
    for (const access of ["delegate", "impersonate"] as const) {
      await server.append(ADDRESS, "inbox", `Subject: by ${access}\r\n\r\nHello`);
      const session = await open(server.url, { ...trusted(), auth, access });
      const { library } = session;
      const inbox = await session.callLibrary(
        "GetFolder",
        (by) => library.Folder.Bind(by, session.folder("inbox")),
        signal,
      );
      assert.equal(inbox.TotalCount, server.items(ADDRESS, "inbox").length);
      assert.equal(server.calls.at(-1)?.impersonated, access === "impersonate" ? ADDRESS : undefined);
    }
  });

  test("a mailbox that the login may not open is an access problem for a person to mend", async () => {
    await server.addUser("closed@example.com", PASSWORD);
    const mailbox = exchangeMailbox("closed@example.com", server.url, {
      ...trusted(),
      auth: { user: ADDRESS, password: new Secret(PASSWORD) },
      access: "impersonate",
    });
    const session = await openEws(exchangeDeps(), mailbox, signal);
    opened.push(session);
    await assert.rejects(inboxName(session, signal), isProblem("access", "never"));
  });

  test("who is asked to slow down asks nothing before the time is over, whichever session asks", async () => {
    using clock = movableClock();
    const shared = { exchange: ewsAccounts() };
    const session = await open(server.url, trusted(), shared);
    server.faults.once("GetFolder", { soapFault: "ErrorServerBusy", backOffMs: 300_000 });
    const startedAt = Date.now();
    const refused: unknown = await inboxName(session, signal).catch((error: unknown) => error);
    assert.ok(refused instanceof Problem && refused.code === "throttled" && refused.retry instanceof Date);
    assert.ok(refused.retry.getTime() >= startedAt + 299_900, refused.retry.toISOString());
    const other = await open(server.url, trusted(), shared);
    await assert.rejects(inboxName(other, signal), isProblem("throttled"));
    assert.equal(server.calls.length, 1);
    const until = refused.retry.getTime();
    await clock.advance(until - Date.now() + 50);
    assert.equal(await inboxName(session, signal), "Inbox");
  });

  test("a busy answer inside a response carries its time as well", async () => {
    const session = await open(server.url, trusted());
    server.faults.once("GetFolder", { responseCode: "ErrorServerBusy", backOffMs: 60_000 });
    const refused: unknown = await inboxName(session, signal).catch((error: unknown) => error);
    assert.ok(refused instanceof Problem && refused.retry instanceof Date && refused.code === "throttled");
    assert.ok(refused.retry.getTime() > Date.now() + 50_000);
  });

  test("what a streamed answer says of the server is learnt as well", async () => {
    const session = await open(server.url, trusted());
    server.faults.once("GetFolder", { responseCode: "ErrorServerBusy", backOffMs: 60_000 });
    await all(await session.postSoap("GetFolder", GET_FOLDER, signal));
    await assert.rejects(session.postSoap("GetFolder", GET_FOLDER, signal), isProblem("throttled"));
    assert.equal(server.calls.length, 1);
    const other = await open(server.url, trusted());
    server.faults.once("GetFolder", { responseCode: "ErrorExceededConnectionCount" });
    await all(await other.postSoap("GetFolder", GET_FOLDER, signal));
    server.faults.once("GetFolder", { responseCode: "ErrorNonExistentMailbox" });
    await all(await other.postSoap("GetFolder", GET_FOLDER, signal));
    assert.equal(other.open, false);
  });

  test("an older server is spoken to in its own version of the schema", async () => {
    const session = await open(server.url, trusted());
    server.faults.once("GetFolder", { soapFault: "ErrorInvalidServerVersion" });
    assert.equal(await inboxName(session, signal), "Inbox");
    assert.match(server.calls[0]?.body ?? "", /Version="Exchange2013"/);
    assert.match(server.calls[1]?.body ?? "", /Version="Exchange2010_SP2"/);
    await all(await session.postSoap("GetFolder", GET_FOLDER, signal));
    assert.match(server.calls[2]?.body ?? "", /Version="Exchange2010_SP2"/);
  });

  test("a kept connection that the server closed is replaced without a word", async () => {
    const session = await open(server.url, trusted());
    assert.equal(await inboxName(session, signal), "Inbox");
    server.faults.once("GetFolder", { cut: "before" });
    assert.equal(await inboxName(session, signal), "Inbox");
    server.disconnectAll();
    assert.equal(await inboxName(session, signal), "Inbox");
  });

  test("an answer is read as it comes; who stops reading cuts the connection", async () => {
    const session = await open(server.url, trusted());
    const text = Buffer.concat(await all(await session.postSoap("GetFolder", GET_FOLDER, signal))).toString("utf8");
    assert.match(text, /ResponseCode>NoError/);
    const chunks = await session.postSoap("GetFolder", GET_FOLDER, signal, { idleMs: 60_000 });
    const connections = server.connections();
    await chunks.return?.();
    await eventually(() => server.connections() < connections, "a connection to be closed");
  });

  test("a session that nobody uses any more leaves no connection behind", async () => {
    const session = await open(server.url, trusted());
    await inboxName(session, signal);
    await session.close();
    assert.equal(session.open, false);
    for (const one of opened) await one.close();
    await eventually(() => server.connections() === 0, "all connections to be closed");
  });

  test("a certificate of an unknown authority is refused, a pinned one is enough", async () => {
    const refused: unknown = await inboxName(await open(server.url), signal).catch((error: unknown) => error);
    assert.ok(isProblem("tls")(refused), String(refused));
    const other = `sha256/${"0".repeat(64)}`;
    const pinned: unknown = await inboxName(await open(server.url, { fingerprint: other }), signal).catch(
      (e: unknown) => e,
    );
    assert.ok(pinned instanceof Problem && pinned.code === "tls" && pinned.evidence?.startsWith("sha256/"));
    const right = await open(server.url, { fingerprint: pinned.evidence ?? "" });
    assert.equal(await inboxName(right, signal), "Inbox");
  });

  test("an address that is not allowed is never connected to", async () => {
    const session = await open(server.url, trusted(), { egress: egress("deny") });
    await assert.rejects(inboxName(session, signal), isProblem("egress", "never"));
    assert.equal(server.calls.length, 0);
  });

  test("a hundred sessions of one account share a handful of connections", async () => {
    const shared = { exchange: ewsAccounts() };
    const sessions = await Promise.all(Array.from({ length: 100 }, () => open(server.url, trusted(), shared)));
    await Promise.all(sessions.map((session) => inboxName(session, signal)));
    assert.equal(server.calls.length, 100);
    assert.ok(new Set(server.calls.map(({ wire }) => wire)).size <= 8);
  });
});

describe("a refused login", () => {
  for (const offered of ["NTLM, Basic realm=x", "Basic realm=x"])
    test(`a wrong password is shown once where ${offered} is offered, and in no other way after that`, async () => {
      const web = await webServer(({ authorization }, response) => {
        const greeting = authorization.startsWith("NTLM ") && messageType(bytesOf(authorization)) === 1;
        const challenge = `NTLM ${challengeMessage("CORP").message.toString("base64")}`;
        const asked = greeting && offered.startsWith("NTLM") ? challenge : offered;
        response.writeHead(401, { "www-authenticate": asked, "x-ms-diagnostics": "4001;reason=no" }).end("no");
      });
      const auth = { user: ADDRESS, password: new Secret("wrong horse") };
      const session = await open(web.url, { auth });
      const refused: unknown = await inboxName(session, signal).catch((error: unknown) => error);
      await web.stop();
      assert.ok(refused instanceof Problem && refused.code === "auth" && refused.retry === "never", String(refused));
      assert.equal(refused.evidence, `401; offers ${offered.replace(" realm=x", "")}; diagnostics 4001`);
      const proofs = web.visits.filter(
        ({ authorization: shown }) => shown.startsWith("Basic") || bytesOf(shown)[8] === 3,
      );
      assert.equal(proofs.length, 1, JSON.stringify(web.visits.map(({ authorization }) => authorization.slice(0, 20))));
      assert.equal(session.open, false);
    });

  test("a wrong password of many mailboxes is shown once, whether they start together or one after the other", async () => {
    const web = await webServer(({ authorization }, response) => {
      const status = authorization.startsWith("Basic") ? 401 : 500;
      setTimeout(() => response.writeHead(status, { "www-authenticate": "Basic realm=x" }).end(), 50);
    });
    const proofs = () => web.visits.filter(({ authorization }) => authorization.startsWith("Basic")).length;
    const deps = exchangeDeps();
    const auth = { user: ADDRESS, password: new Secret("wrong horse") };
    const refused = async (address: string) => {
      const session = await openEws(deps, exchangeMailbox(address, web.url, { auth, scheme: "basic" }), signal);
      await assert.rejects(inboxName(session, signal), isProblem("auth"));
      await session.close();
    };
    const addresses = Array.from({ length: 30 }, (_, at) => `box${at}@example.com`);
    await Promise.all(addresses.map(refused));
    assert.equal(proofs(), 1);
    for (const address of ["b@example.com", "c@example.com", ...addresses]) await refused(address);
    assert.equal(proofs(), 1);
    await web.stop();
  });

  for (const scheme of ["basic", "ntlm"] as const)
    test(`a password that was changed on the server is shown once by all that was going on (${scheme})`, async () => {
      let accepted = true;
      const web = await webServer(({ authorization }, response) => {
        const greets = authorization.startsWith("NTLM ") && messageType(bytesOf(authorization)) === 1;
        const challenge = `NTLM ${challengeMessage("CORP").message.toString("base64")}`;
        const isShown = authorization !== "" && !greets;
        // Slow enough for all requests to be on their way before the first answer.
        const answer = () => {
          if (isShown && accepted) return response.end(INBOX_ANSWER);
          return response.writeHead(401, { "www-authenticate": greets ? challenge : "NTLM, Basic realm=x" }).end();
        };
        setTimeout(answer, 30);
      });
      const shown = () =>
        web.visits.filter(({ authorization: one }) => one.startsWith("Basic") || bytesOf(one)[8] === 3).length;
      const deps = exchangeDeps();
      const auth = { user: ADDRESS, password: new Secret("yesterday's") };
      const sessions = await Promise.all(
        ["a", "b", "c"].map((name) =>
          openEws(deps, exchangeMailbox(`${name}@x.test`, web.url, { auth, scheme }), signal),
        ),
      );
      await Promise.all(sessions.map((session) => inboxName(session, signal)));
      accepted = false;
      web.server.closeIdleConnections();
      const shownBefore = shown();
      const asked = sessions.flatMap((session) => Array.from({ length: 10 }, () => inboxName(session, signal)));
      for (const { status } of await Promise.allSettled(asked)) assert.equal(status, "rejected");
      assert.equal(shown() - shownBefore, 1);
      for (const session of sessions) await session.close();
      await web.stop();
    });

  test("a 401 after a greeting that was not answered is a trouble of the server: no password was shown", async () => {
    let overloaded = true;
    const web = await webServer(({ authorization }, response) => {
      if (authorization === "") return response.writeHead(401, { "www-authenticate": "NTLM" }).end();
      if (overloaded) return response.writeHead(503, { "retry-after": "1" }).end();
      const greets = messageType(bytesOf(authorization)) === 1;
      const challenge = `NTLM ${challengeMessage("CORP").message.toString("base64")}`;
      return greets ? response.writeHead(401, { "www-authenticate": challenge }).end() : response.end(INBOX_ANSWER);
    });
    const deps = exchangeDeps();
    const [one, other] = await Promise.all(
      ["one@x.test", "other@x.test"].map((name) => openEws(deps, exchangeMailbox(name, web.url), signal)),
    );
    assert.ok(one && other);
    await assert.rejects(inboxName(one, signal), isProblem("unavailable", "later"));
    overloaded = false;
    assert.equal(await inboxName(other, signal), "Inbox");
    for (const session of [one, other]) await session.close();
    await web.stop();
  });

  test("what a server repeats of the login is not told on", async () => {
    for (const auth of [
      { user: ADDRESS, password: new Secret("wrong horse") },
      { user: ADDRESS, accessToken: new Secret("wrong.horse.token") },
    ]) {
      const web = await webServer(({ authorization }, response) => {
        response
          .writeHead(500, { "content-type": "text/html" })
          .end(`<title>You said ${authorization} wrong horse</title>`);
      });
      const session = await open(web.url, { scheme: "basic", auth });
      const refused: unknown = await inboxName(session, signal).catch((error: unknown) => error);
      await web.stop();
      assert.ok(refused instanceof Problem, String(refused));
      assert.equal(refused.evidence, "HTTP 500");
    }
  });

  test("a refusal whose page does not end is still a refusal", async () => {
    const web = await webServer((_, response) => {
      response.writeHead(401, { "www-authenticate": "Basic realm=x" }).write("<html>");
    });
    const session = await open(web.url, { scheme: "basic" });
    await assert.rejects(inboxName(session, signal), isProblem("auth", "never"));
    assert.equal(web.visits.length, 1);
    await web.stop();
  });

  test("an answer by NTLM is bound to the certificate of its connection, as Extended Protection wants it", async () => {
    const { ca, server } = await makeCertificates();
    const web = await webServer((_, response) => {
      const challenge = challengeMessage("CORP").message.toString("base64");
      response.writeHead(401, { "www-authenticate": `NTLM ${challenge}` }).end();
    }, server);
    const session = await open(web.url, { ca });
    await assert.rejects(inboxName(session, signal), isProblem("auth", "never"));
    await web.stop();
    const answer = readAnswer(bytesOf(web.visits.at(-1)?.authorization ?? ""));
    const end = createHash("sha256").update(new X509Certificate(server.cert).raw).digest();
    const binding = Buffer.concat([
      Buffer.alloc(16),
      Buffer.from([53, 0, 0, 0]),
      Buffer.from("tls-server-end-point:"),
      end,
    ]);
    const pair = Buffer.concat([Buffer.from([10, 0, 16, 0]), createHash("md5").update(binding).digest()]);
    assert.ok(answer.response.includes(pair));
  });

  test("NTLM without its second version is not safe, and not used", async () => {
    const old = challengeMessage("CORP").message;
    old.writeUInt32LE(old.readUInt32LE(20) & ~0x80000, 20);
    const web = await webServer((_, response) => {
      response.writeHead(401, { "www-authenticate": `NTLM ${old.toString("base64")}` }).end();
    });
    await assert.rejects(inboxName(await open(web.url), signal), isProblem("auth_method", "never"));
    await web.stop();
  });

  for (const [status, headers, body, code, retry] of [
    [403, {}, "<html><title>403 - Forbidden</title></html>", "access", "never"],
    [404, {}, "", "connect", "later"],
    [302, { location: "/owa/auth/logon.aspx?secret=1" }, "", "connect", "later"],
    [503, { "retry-after": "120" }, "", "unavailable", "a time"],
    [503, {}, "Service Unavailable", "unavailable", "later"],
    [500, {}, "<html>oops</html>", "unavailable", "later"],
    [456, {}, "", "auth", "never"],
  ] as const) {
    test(`HTTP ${status} ${JSON.stringify(headers)} is ${code}, to be tried ${retry}`, async () => {
      const web = await webServer((_, response) => response.writeHead(status, headers).end(body));
      const session = await open(web.url, { scheme: "basic" });
      const refused: unknown = await inboxName(session, signal).catch((error: unknown) => error);
      await web.stop();
      assert.ok(refused instanceof Problem, String(refused));
      assert.equal(refused.code, code);
      assert.equal(refused.retry instanceof Date ? "a time" : refused.retry, retry);
      assert.ok(!(refused.evidence ?? "").includes("secret"), refused.evidence ?? "");
    });
  }

  test("a password that expired is said in words", async () => {
    const fault =
      '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><s:Fault><faultcode xmlns:a="x">a:ErrorPasswordExpired</faultcode><faultstring>The password has expired.</faultstring></s:Fault></s:Body></s:Envelope>';
    const web = await webServer((_, response) => response.writeHead(500, { "content-type": "text/xml" }).end(fault));
    const session = await open(web.url, { scheme: "basic" });
    const refused: unknown = await inboxName(session, signal).catch((error: unknown) => error);
    await web.stop();
    assert.ok(refused instanceof Problem && refused.code === "auth" && refused.retry === "never");
    assert.match(refused.message, /expired/);
  });
});

describe("requests to an Exchange server", () => {
  test("the last byte of a message goes out only when the sender says so, on a connection of its own", async () => {
    const begun: unknown[] = [];
    const web = await webServer((_, response) => response.writeHead(200).end(INBOX_ANSWER));
    web.server.on("request", (request) => begun.push(request));
    const session = await open(web.url, { scheme: "basic" });
    const body = GET_FOLDER + " ".repeat(200_000);
    const beforeEnd = async () => {
      await eventually(() => begun.length > 0, "the request to begin");
      await new Promise((resolve) => setTimeout(resolve, 100));
      assert.equal(web.visits.length, 0);
    };
    assert.match(String(await all(await session.postSoap("GetFolder", body, signal, { beforeEnd }))), /NoError/);
    assert.equal(web.visits.length, 1);
    await web.stop();
  });

  test("where the sender changes its mind, the server never has the whole request", async () => {
    const web = await webServer((_, response) => response.writeHead(200).end(INBOX_ANSWER));
    const session = await open(web.url, { scheme: "basic" });
    await assert.rejects(session.postSoap("SendItem", GET_FOLDER, signal, { beforeEnd: taken }), isProblem("conflict"));
    await new Promise((resolve) => setTimeout(resolve, 100));
    assert.equal(web.visits.length, 0);
    await web.stop();
  });

  test("a server that says nothing, or stops in the middle, is given up", async () => {
    const web = await webServer((visit, response) => {
      if (visit.body.includes("IdOnly")) response.writeHead(200).write("<s:Env");
    });
    const session = await open(web.url, { scheme: "basic" }, { timeouts: { command: 100 } });
    await assert.rejects(inboxName(session, signal), isProblem("timeout", "later"));
    await assert.rejects(
      async () => all(await session.postSoap("GetFolder", GET_FOLDER, signal)),
      isProblem("timeout"),
    );
    await web.stop();
  });

  test("an answer that is cut in the middle is a lost connection, not the end", async () => {
    const web = await webServer((_, response) => {
      response.writeHead(200, { "content-length": "1000" }).write("<s:Env");
      setTimeout(() => response.destroy(), 100);
    });
    const session = await open(web.url, { scheme: "basic" });
    await assert.rejects(
      async () => all(await session.postSoap("GetFolder", GET_FOLDER, signal)),
      isProblem("connect"),
    );
    await web.stop();
  });

  test("an aborted request ends at once with the reason", async () => {
    const web = await webServer(() => undefined);
    const session = await open(web.url, { scheme: "basic" });
    const stop = new AbortController();
    const asked = inboxName(session, stop.signal);
    await eventually(() => web.visits.length > 0, "the request");
    stop.abort(new Error("enough"));
    await assert.rejects(asked, /enough/);
    await web.stop();
  });

  test("cookies lead the requests of one anchor mailbox, and of no other", async () => {
    const seen: string[] = [];
    const web = await webServer((_, response, request) => {
      const anchor = String(request.headers["x-anchormailbox"]);
      seen.push(`${anchor} ${request.headers.cookie ?? "-"}`);
      response
        .writeHead(200, { "set-cookie": `X-BackEndOverrideCookie=${anchor}; path=/; HttpOnly` })
        .end(INBOX_ANSWER);
    });
    const session = await open(web.url, { scheme: "basic" });
    for (const anchor of ["a@x", "b@x", "a@x"])
      await all(await session.postSoap("GetFolder", GET_FOLDER, signal, { headers: { "X-AnchorMailbox": anchor } }));
    assert.deepEqual(seen, ["a@x -", "b@x -", "a@x X-BackEndOverrideCookie=a@x"]);
    await web.stop();
  });
});
