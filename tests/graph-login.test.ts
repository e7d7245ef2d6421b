/** Logins to Graph, and what an administrator is told about each refusal: by a subscription, and step by step in a preflight. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { asProblem, type Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { openMailbox, preflights } from "../shared/mail/open.ts";
import { all, watchOn } from "./promises/mailbox-rig.ts";
import { graphDeps, graphLogin, graphMailboxOn, type GraphWish } from "./promises/graph-rig.ts";
import { clientCertificate } from "./servers/certificates.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { numbered } from "./servers/mail.ts";

const { signal } = new AbortController();

describe("A login to Graph", () => {
  let server: GraphServer;
  let user: string;
  let users = 0;
  before(async () => {
    server = await startGraphServer();
  });
  beforeEach(async () => {
    user = `user${++users}`;
    await server.addUser(user);
  });
  afterEach(() => server.faults.clear());
  after(() => server.stop());

  /** Why a watch ends, or undefined when it connects. */
  const refusalOf = async (wish: GraphWish = {}): Promise<Problem | undefined> => {
    const watch = watchOn(graphMailboxOn(server, user, wish), graphDeps());
    try {
      return await watch.connected().then(() => undefined, asProblem);
    } finally {
      await watch.stop();
    }
  };
  const isRefused = async (wish: GraphWish, code: string, cause: RegExp, fix: RegExp) => {
    const problem = await refusalOf(wish);
    assert.ok(problem, `not refused: ${String(cause)}`);
    assert.equal(problem.code, code, JSON.stringify(problem.view()));
    assert.match(problem.message, cause);
    assert.match(problem.fix, fix);
    const report = await preflights.graph(graphDeps(), graphMailboxOn(server, user, wish), signal);
    const failed = report.steps.find((one) => !one.ok);
    assert.match(failed?.cause ?? "", cause);
    assert.match(failed?.fix ?? "", fix);
  };

  test("works with a secret, a certificate, a refresh token and a given token", async () => {
    const { certificate, privateKey } = await clientCertificate("RS256");
    server.application.certificates.push(certificate);
    const { tokenUrl, clientId } = graphLogin(server, "").oauth2;
    const common = { tokenUrl, clientId };
    const logins = [
      { oauth2: { ...common, clientSecret: new Secret(server.clientSecret) } },
      { oauth2: { ...common, certificate, privateKey: new Secret(privateKey) } },
      {
        oauth2: {
          ...common,
          clientSecret: new Secret(server.clientSecret),
          refreshToken: new Secret(server.consent(user)),
        },
      },
      { accessToken: new Secret(server.accessToken()) },
    ];
    for (const auth of logins) assert.equal(await refusalOf({ auth }), undefined, Object.keys(auth).join());
  });

  test("tells each refusal of the token server apart, with its fix", async () => {
    const wrong: [number, string, RegExp, RegExp][] = [
      [7000215, "token", /secret is wrong/, /value/],
      [7000222, "token", /secret has expired/, /new client secret/],
      [700016, "token", /does not know this application/, /client id/],
      [7000229, "token", /no service principal/, /admin consent/],
      [90002, "token", /does not know this tenant/, /directory/],
      [900023, "token", /does not know this tenant/, /cloud/],
      [700027, "token", /certificate's signature/, /Upload the certificate/],
      [700024, "token", /outside of its time/, /clock/],
      [1002012, "token", /scope/, /\.default/],
      [70011, "token", /scope/, /\.default/],
      [500011, "token", /no such service/, /another cloud/],
      [65001, "token", /consented/, /admin consent/],
      [90094, "token", /consented/, /admin consent/],
      [50173, "token", /revoked/, /Sign in again/],
      [700082, "token", /90 days/, /Sign in again/],
      [70008, "token", /expired/, /Sign in again/],
      [50076, "token", /second factor/, /application permissions/],
      [50079, "token", /second factor/, /application permissions/],
      [53003, "token", /Conditional access/, /application permissions/],
    ];
    for (const [aadsts, code, cause, fix] of wrong) {
      server.faults.always("token", { aadsts });
      await isRefused({}, code, cause, fix);
      server.faults.clear();
    }
    server.faults.always("token", { aadsts: 50196 });
    const busy = await refusalOf();
    assert.deepEqual([busy?.code, busy?.retry], ["unavailable", "later"], "too many requests are no bad credentials");
  });

  test("says that the secret, the application or the tenant is wrong", async () => {
    await isRefused({ auth: graphLogin(server, "not it") }, "token", /secret is wrong/, /value/);
    const { tokenUrl } = graphLogin(server, "").oauth2;
    const other = { tokenUrl, clientId: "00000000-0000-0000-0000-000000000001", clientSecret: new Secret("x") };
    await isRefused({ auth: { oauth2: other } }, "token", /does not know this application/, /client id/);
    const elsewhere = { ...graphLogin({ ...server, tenant: "other.example" }, server.clientSecret) };
    await isRefused({ auth: elsewhere }, "token", /does not know this tenant/, /directory/);
  });

  test("says what is wrong with the mailbox, the user or the licence", async () => {
    server.setMailbox(user, "inactive");
    await isRefused({}, "no_mailbox", /no licence/, /licence/);
    server.setMailbox(user, "none");
    await isRefused({}, "no_mailbox", /no licence/, /licence/);
    server.setMailbox(user, "consumer");
    await isRefused({}, "no_mailbox", /personal account/, /IMAP/);
    server.setMailbox(user, "ok");
    server.behaviour.unknownUser = "Request_ResourceNotFound";
    await isRefused({ user: "nobody@example.com" }, "no_mailbox", /no user of this name/, /object id/);
    server.setMailbox(user, "moving");
    const moving = await refusalOf();
    assert.deepEqual([moving?.code, moving?.retry], ["unavailable", "later"]);
  });

  test("names the commands for Exchange Online where the application may not read the mailbox", async () => {
    const { clientId, permissions } = server.application;
    server.application.permissions = [];
    const commands = new RegExp(
      `New-ServicePrincipal -AppId ${clientId}.*Test-ServicePrincipalAuthorization.*${user}@`,
    );
    await isRefused({}, "access", /permission is missing/, commands);
    // Roles in Exchange do not show in the token, and work.
    server.application.exchangeRoles = [{ permission: "Mail.ReadWrite", mailboxes: [server.addressOf(user)] }];
    assert.equal(await refusalOf(), undefined);
    server.application.exchangeRoles = [];
    server.application.permissions = permissions;
    server.application.policy = [];
    await isRefused({}, "access", /access policy/, /Get-ApplicationAccessPolicy/);
    server.application.policy = undefined;
  });

  test("says of a given token that it is for another service or has expired", async () => {
    const ews = server.accessToken({ audience: "https://outlook.office365.com" });
    await isRefused(
      { auth: { accessToken: new Secret(ews) } },
      "token",
      /is for https:\/\/outlook\.office365\.com/,
      /cloud/,
    );
    server.tokenSeconds = -10;
    const old = server.accessToken();
    server.tokenSeconds = 3599;
    await isRefused({ auth: { accessToken: new Secret(old) } }, "token", /expired at/, /cloud/);
    const cut = server.accessToken().slice(0, 40);
    await isRefused({ auth: { accessToken: new Secret(cut) } }, "token", /refused the token/, /cloud/);
  });

  test("takes one new token when one is refused before its time", async () => {
    const watch = watchOn(graphMailboxOn(server, user), graphDeps());
    await watch.connected();
    const earlier = server.tokenRequests.length;
    server.forgetTokens();
    await server.append(user, "inbox", numbered(1));
    await watch.until(1);
    assert.equal(server.tokenRequests.length, earlier + 1);
    await watch.stop();
  });

  test("finds the user of an address that is an alias", async () => {
    await server.addUser("somebody", { aliases: ["help@example.com"] });
    const mailbox = { ...graphMailboxOn(server, "somebody"), address: "help@example.com" };
    await server.append("somebody", "inbox", numbered(1));
    const connection = openMailbox.graph(graphDeps(), mailbox);
    try {
      assert.equal((await all(connection.listSince(new Date(0), [], signal))).flat().length, 1);
    } finally {
      await connection.close();
    }
  });

  test("is proved by real requests in a preflight", async () => {
    await server.append(user, "inbox", numbered(1));
    const { ok, steps } = await preflights.graph(graphDeps(), graphMailboxOn(server, user), signal);
    assert.ok(ok, JSON.stringify(steps));
    assert.deepEqual(
      steps.map(({ name }) => name),
      ["dns", "tcp", "tls", "login", "folders", "capabilities", "idle"],
    );
    assert.match(steps.find(({ name }) => name === "folders")?.detail ?? "", /INBOX \(1 messages\)/);
    server.application.permissions = ["Mail.ReadBasic.All"];
    const basic = await preflights.graph(graphDeps(), graphMailboxOn(server, user), signal);
    server.application.permissions = ["Mail.ReadWrite", "Mail.Send", "User.Read.All"];
    assert.deepEqual([basic.ok, basic.steps.at(-1)?.name, basic.steps.at(-1)?.ok], [false, "capabilities", false]);
  });

  test("is proved for changes after the delivery too, where the mailbox wants them", async () => {
    const wanting = graphMailboxOn(server, user, { afterDelivery: "markRead" });
    const good = await preflights.graph(graphDeps(), wanting, signal);
    assert.ok(good.ok, JSON.stringify(good.steps));
    server.application.permissions = ["Mail.Read"];
    const reading = await preflights.graph(graphDeps(), graphMailboxOn(server, user), signal);
    const changing = await preflights.graph(graphDeps(), wanting, signal);
    server.application.permissions = ["Mail.ReadWrite", "Mail.Send", "User.Read.All"];
    assert.deepEqual([reading.ok, changing.ok], [true, false]);
    assert.match(changing.steps.at(-1)?.fix ?? "", /Mail\.ReadWrite/);
    assert.equal(await server.count(user, "drafts"), 0);
  });

  test("shows no token in any problem", async () => {
    const token = server.accessToken();
    const message = `The token ${token} is refused`;
    server.faults.always("getFolder", { status: 403, code: "ErrorAccessDenied", message });
    const problem = await refusalOf({ auth: { accessToken: new Secret(token) } });
    assert.ok(problem?.evidence);
    assert.ok(!JSON.stringify(problem.view()).includes(token.slice(-40)), problem.evidence);
  });
});

describe("A download from Graph", () => {
  let server: GraphServer;
  before(async () => {
    server = await startGraphServer();
    await server.addUser("ann");
  });
  after(() => server.stop());

  const fetchAll = async () => {
    const connection = openMailbox.graph(graphDeps(), graphMailboxOn(server, "ann"));
    try {
      const refs = (await all(connection.listSince(new Date(0), [], signal))).flat();
      return await all(connection.fetch(refs, signal));
    } finally {
      await connection.close();
    }
  };

  test("keeps every byte of a message in an 8-bit charset", async () => {
    const raw = Buffer.from(
      "Subject: 8 bit\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n\xf0\xd2\xc9\xd7\xc5\xd4\r\n",
      "latin1",
    );
    await server.append("ann", "inbox", raw);
    const [got] = await fetchAll();
    assert.ok(got && "raw" in got);
    assert.ok(Buffer.from(got.raw).includes(Buffer.from("\xf0\xd2\xc9\xd7\xc5\xd4", "latin1")));
  });

  test("yields what is wrong with one message in Exchange's words, and the others whole", async () => {
    const faults: [number, string][] = [
      [500, "ErrorCorruptData"],
      [400, "ErrorInvalidRecipients"],
      [500, "ErrorCannotOpenFileAttachment"],
      [500, "ErrorTooManyObjectsOpened"],
      [504, "UnknownError"],
    ];
    const ids = await server.appendMany(
      "ann",
      "inbox",
      faults.map((_, index) => numbered(index)),
    );
    for (const [index, [status, code]] of faults.entries())
      server.refuseContent(ids[index] ?? "", { status, code, message: "OLE conversion failed" });
    const got = await fetchAll();
    const problems = got.flatMap((one) => ("problem" in one ? [one.problem] : []));
    assert.equal(problems.length, faults.length);
    assert.ok(problems.every(({ code, retry }) => code === "message" && retry === "later"));
    for (const [, code] of faults)
      assert.ok(
        problems.some(({ evidence }) => evidence?.includes(code)),
        code,
      );
    assert.equal(got.length - problems.length, 1);
    for (const id of ids) server.refuseContent(id, undefined);
    assert.ok((await fetchAll()).every((one) => "raw" in one));
  });

  test("takes no message that was cut on the way", async () => {
    for (const cut of [60, 400]) {
      server.faults.always("getContent", { cut });
      await assert.rejects(fetchAll());
      server.faults.clear();
    }
    assert.ok((await fetchAll()).every((one) => "raw" in one));
  });
});
