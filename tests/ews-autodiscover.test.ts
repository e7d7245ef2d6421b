/** What autodiscover promises: Microsoft's order, credentials for nobody but the domain's own hosts and those the client allowed, no second guess of a password. */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import type { ServerResponse } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { discover } from "../shared/mail/ews/autodiscover/autodiscover.ts";
import { ewsAccounts } from "../shared/mail/ews/account.ts";
import { ewsHttp } from "../shared/mail/ews/transport/http.ts";
import { compilePattern } from "../shared/mail/ews/autodiscover/pattern.ts";
import { redirectFilter } from "../shared/mail/ews/autodiscover/redirects.ts";
import type { LoginGate } from "../shared/mail/net/login-gate.ts";
import { executeOperation } from "../shared/mail/ews/client/operations.ts";
import { openEws } from "../shared/mail/ews/client/session.ts";
import { PASSWORD } from "./bodies.ts";
import {
  exchangeDeps,
  localLogins,
  exchangeMailbox,
  INBOX_ANSWER,
  inboxName,
  type Visit,
  type WebServer,
  webServer,
} from "./promises/exchange-rig.ts";
import { isProblem } from "./promises/mailbox-rig.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { startExchange } from "./servers/exchange/server.ts";

const GONE_ANSWER = INBOX_ANSWER.replace('ResponseClass="Success"', 'ResponseClass="Error"').replace(
  "NoError",
  "ErrorNonExistentMailbox",
);
const { signal } = new AbortController();
const ADDRESS = "anna@example.test";
const EWS = "https://mail.example.test/EWS/Exchange.asmx";
const NAMESPACE = "http://schemas.microsoft.com/exchange/2010/Autodiscover";

type Say = (response: ServerResponse, visit: Visit) => void;
const status =
  (code: number, headers: Record<string, string> = {}, body = ""): Say =>
  (response) =>
    response.writeHead(code, headers).end(body);
const soap = (inner: string): Say =>
  status(
    200,
    { "content-type": "text/xml" },
    `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><GetUserSettingsResponseMessage xmlns="${NAMESPACE}"><Response><ErrorCode>NoError</ErrorCode><UserResponses><UserResponse>${inner}</UserResponse></UserResponses></Response></GetUserSettingsResponseMessage></s:Body></s:Envelope>`,
  );
const settings = (url: string) =>
  soap(
    `<ErrorCode>NoError</ErrorCode><UserSettings><UserSetting><Name>ExternalEwsUrl</Name><Value>${url}</Value></UserSetting><UserSetting><Name>GroupingInformation</Name><Value>SITE-1</Value></UserSetting></UserSettings>`,
  );
const pox = (inner: string): Say =>
  status(
    200,
    { "content-type": "text/xml" },
    `<?xml version="1.0"?><Autodiscover xmlns="http://schemas.microsoft.com/exchange/autodiscover/responseschema/2006"><Response xmlns="http://schemas.microsoft.com/exchange/autodiscover/outlook/responseschema/2006a"><Account>${inner}</Account></Response></Autodiscover>`,
  );
/** An Exchange server that wants basic authentication, and says this to whoever has it. */
const exchangeSays =
  (svc: Say, xml: Say = status(404)): Say =>
  (response, visit) => {
    if (!visit.authorization.startsWith("Basic "))
      return status(401, { "www-authenticate": 'Basic realm="x"', "x-feserver": "EX01" })(response, visit);
    return (visit.path.endsWith(".svc") ? svc : xml)(response, visit);
  };

const resolve = () => Promise.resolve([{ address: "127.0.0.1", family: 4 }]);
const failure = async (work: Promise<unknown>): Promise<Problem> => {
  const error: unknown = await work.catch((failed: unknown) => failed);
  assert.ok(error instanceof Problem, String(error));
  return error;
};

describe("autodiscover", () => {
  let web: WebServer;
  let plain: WebServer;
  let fingerprint: string;
  let hosts: Record<string, Say> = {};
  let clear: Say = status(404);
  before(async () => {
    const { server } = await makeCertificates();
    fingerprint = `sha256/${createHash("sha256").update(new X509Certificate(server.cert).raw).digest("hex")}`;
    web = await webServer((visit, response) => {
      const say = hosts[visit.host.split(":")[0] ?? ""];
      if (say) say(response, visit);
      else response.destroy();
    }, server);
    plain = await webServer((visit, response) => clear(response, visit));
  });
  after(async () => {
    await web.stop();
    await plain.stop();
  });
  afterEach(() => {
    web.visits.length = 0;
    plain.visits.length = 0;
    hosts = {};
    clear = status(404);
  });
  const here = (path = "/autodiscover/autodiscover.xml", host = "autodiscover.example.test") =>
    `https://${host}:${web.port}${path}`;

  type More = {
    redirects?: string;
    srv?: string;
    pass?: string;
    command?: number;
    logins?: LoginGate;
  };

  async function find(more: More = {}) {
    const deps = exchangeDeps({ egress: egress("allow", { resolve }), timeouts: { command: 5000 } });
    const { account, over } = ewsAccounts().acquire(deps, { key: "test", trust: { ca: undefined, fingerprint } });
    const password = new Secret(more.pass ?? PASSWORD);
    const login = { user: ADDRESS, password, gate: more.logins, secrets: () => [] };
    const search = {
      http: ewsHttp(account, login),
      stranger: ewsHttp(account, "nobody"),
      command: more.command ?? 5000,
      ports: { secure: web.port, plain: plain.port },
      srv: () => Promise.resolve(more.srv ? [{ name: more.srv, port: web.port, priority: 1, weight: 1 }] : []),
    };
    try {
      return await discover(search, { address: ADDRESS, redirects: more.redirects }, signal);
    } finally {
      over();
    }
  }
  const shownTo = () => [
    ...new Set(web.visits.filter((one) => one.authorization.startsWith("Basic")).map((one) => one.host)),
  ];

  test("asks the domain, then autodiscover under it, and takes what SOAP says", async () => {
    hosts = { "example.test": status(404), "autodiscover.example.test": exchangeSays(settings(EWS)) };
    assert.deepEqual(await find(), { url: EWS, grouping: "SITE-1" });
    assert.deepEqual(
      [...new Set(web.visits.map(({ host }) => host))],
      [`example.test:${web.port}`, `autodiscover.example.test:${web.port}`],
    );
    assert.match(web.visits.at(-1)?.body ?? "", /<a:Mailbox>anna@example\.test<\/a:Mailbox>/);
  });

  test("shows no password to a web server of the domain that wants a login but is no Exchange", async () => {
    hosts = {
      "example.test": status(401, { "www-authenticate": "Basic realm=members" }),
      "autodiscover.example.test": exchangeSays(settings(EWS)),
    };
    assert.equal((await find()).url, EWS);
    assert.deepEqual(shownTo(), [`autodiscover.example.test:${web.port}`]);
  });

  test("asks by plain XML where SOAP is not known, and prefers the protocol for outside", async () => {
    const answer = pox(
      `<Action>settings</Action><Protocol><Type>EXCH</Type><EwsUrl>https://inside.example.test/EWS/Exchange.asmx</EwsUrl></Protocol><Protocol><Type>EXPR</Type><EwsUrl>${EWS}</EwsUrl></Protocol>`,
    );
    hosts = { "example.test": exchangeSays(status(404), answer) };
    assert.deepEqual(await find(), { url: EWS, grouping: null });
  });

  test("follows a redirect to another address of the domain, and does not run in circles", async () => {
    let answers = 0;
    hosts = {
      "example.test": exchangeSays((response, visit) => {
        const target = visit.body.includes("new@") && answers++ === 0 ? ADDRESS : "new@example.test";
        soap(`<ErrorCode>RedirectAddress</ErrorCode><RedirectTarget>${target}</RedirectTarget>`)(response, visit);
      }),
    };
    assert.ok(isProblem("autodiscover", "later")(await failure(find())));
    hosts["example.test"] = exchangeSays((response, visit) =>
      (visit.body.includes("new@")
        ? settings(EWS)
        : soap("<ErrorCode>RedirectAddress</ErrorCode><RedirectTarget>new@example.test</RedirectTarget>"))(
        response,
        visit,
      ),
    );
    assert.equal((await find()).url, EWS);
  });

  test("a redirect to a foreign host is followed only where the client allows it", async () => {
    const foreign = here(undefined, "cloud.other.test");
    hosts = {
      "example.test": exchangeSays(
        soap(`<ErrorCode>RedirectUrl</ErrorCode><RedirectTarget>${foreign}</RedirectTarget>`),
      ),
      "cloud.other.test": exchangeSays(settings(EWS)),
    };
    const refused = await failure(find());
    assert.equal(refused.retry, "never");
    assert.match(refused.evidence ?? "", /cloud\.other\.test.*receive\.redirects/);
    assert.ok(!shownTo().includes(`cloud.other.test:${web.port}`));
    assert.equal((await find({ redirects: "^https://[a-z.]+\\.other\\.test[:/]" })).url, EWS);
  });

  test("redirects in plain XML are followed by the same rules", async () => {
    const elsewhere = here(undefined, "other.example.test");
    hosts = {
      "example.test": exchangeSays(status(404), (response, visit) =>
        (visit.body.includes("new@")
          ? pox(`<Action>redirectUrl</Action><RedirectUrl>${elsewhere}</RedirectUrl>`)
          : pox("<Action>redirectAddr</Action><RedirectAddr>new@example.test</RedirectAddr>"))(response, visit),
      ),
      "other.example.test": exchangeSays(
        status(404),
        pox(`<Action>settings</Action><Protocol><Type>EXPR</Type><EwsUrl>${EWS}</EwsUrl></Protocol>`),
      ),
    };
    assert.equal((await find()).url, EWS);
  });

  test("a server that says nothing does not keep the next one from being asked", async () => {
    hosts = { "example.test": () => undefined, "autodiscover.example.test": exchangeSays(settings(EWS)) };
    assert.equal((await find({ command: 1000 })).url, EWS);
  });

  test("a search is given up, to be tried again, where every step is slow", async () => {
    for (let n = 0; n < 13; n++) {
      const next = status(302, { location: here(undefined, `h${n + 1}.example.test`) });
      hosts[n === 0 ? "example.test" : `h${n}.example.test`] = (response, visit) =>
        void setTimeout(() => next(response, visit), 150);
    }
    const refused = await failure(find({ command: 200 }));
    assert.ok(isProblem("autodiscover", "later")(refused), String(refused));
    assert.ok(web.visits.length < 10, String(web.visits.length));
  });

  test("redirects without end are given up", async () => {
    hosts = Object.fromEntries(
      Array.from({ length: 30 }, (_, n) => [
        n === 0 ? "example.test" : `h${n}.example.test`,
        status(302, { location: here(undefined, `h${n + 1}.example.test`) }),
      ]),
    );
    const refused = await failure(find());
    assert.match(refused.message, /without end/);
    assert.ok(web.visits.length < 15, String(web.visits.length));
  });

  test("a redirect found in clear leads only to TLS, and only where it is allowed", async () => {
    hosts = { "cloud.other.test": exchangeSays(settings(EWS)) };
    clear = status(302, { location: here(undefined, "cloud.other.test") });
    assert.equal((await find({ redirects: "cloud\\.other\\.test" })).url, EWS);
    clear = status(302, { location: `http://cloud.other.test:${plain.port}/autodiscover/autodiscover.xml` });
    const refused = await failure(find({ redirects: ".*" }));
    assert.equal(refused.code, "autodiscover");
    assert.ok(plain.visits.every(({ authorization }) => authorization === ""));
  });

  test("an SRV record leads to a host of the domain, and to no other", async () => {
    hosts = { "ex.example.test": exchangeSays(settings(EWS)), "ex.other.test": exchangeSays(settings(EWS)) };
    assert.equal((await find({ srv: "ex.example.test" })).url, EWS);
    assert.equal((await failure(find({ srv: "ex.other.test" }))).retry, "never");
    assert.deepEqual(shownTo(), [`ex.example.test:${web.port}`]);
  });

  test("a refused password ends the search: it is shown to nobody else", async () => {
    const refusing = status(401, { "www-authenticate": "Basic realm=x", "x-feserver": "EX01" });
    hosts = { "example.test": refusing, "autodiscover.example.test": refusing };
    const logins = localLogins();
    for (const _ of ["one mailbox", "another"])
      assert.ok(isProblem("auth")(await failure(find({ pass: "wrong", logins }))));
    assert.equal(web.visits.filter(({ authorization }) => authorization.startsWith("Basic")).length, 1);
  });

  test("a service without TLS is not taken, and a busy server is asked later", async () => {
    hosts = { "example.test": exchangeSays(settings("http://mail.example.test/EWS/Exchange.asmx")) };
    assert.match((await failure(find())).evidence ?? "", /without TLS/);
    hosts = { "example.test": exchangeSays(soap("<ErrorCode>ServerBusy</ErrorCode>")) };
    assert.equal((await failure(find())).code, "throttled");
  });

  test("where nothing is found the report says what was tried, and it is tried again", async () => {
    const refused = await failure(find());
    assert.ok(isProblem("autodiscover", "later")(refused));
    assert.match(refused.evidence ?? "", /example\.test.*autodiscover\.example\.test/);
  });

  // Where somebody else's mailbox is opened, the old server says so inside an answer that is otherwise in order.
  for (const [how, gone] of [
    ["knows nothing of it", { answer: status(404), code: "connect" }],
    ["says so", { answer: status(200, {}, GONE_ANSWER), code: "no_mailbox" }],
  ] as const)
    test(`a mailbox without a server is found, remembered, and found anew when it was moved and the old one ${how}`, () =>
      foundAnew(gone));

  async function foundAnew({ answer, code }: { answer: Say; code: "connect" | "no_mailbox" }) {
    let home = "old";
    const visited: string[] = [];
    const service: Say = (response, visit) => {
      visited.push(visit.path);
      return visit.path.startsWith(`/${home}`)
        ? status(200, {}, INBOX_ANSWER)(response, visit)
        : answer(response, visit);
    };
    hosts = {
      "example.test": exchangeSays((response, visit) =>
        settings(here(`/${home}/EWS/Exchange.asmx`, "mail.example.test"))(response, visit),
      ),
      "mail.example.test": (response, visit) => exchangeSays(service, service)(response, visit),
    };
    const deps = exchangeDeps({ egress: egress("allow", { resolve }) });
    const mailbox = exchangeMailbox(ADDRESS, undefined, { port: web.port, fingerprint });
    const open = () => openEws(deps, mailbox, signal);
    const first = await open();
    assert.equal(await inboxName(first, signal), "Inbox");
    assert.equal(first.grouping, "SITE-1");
    const asked = web.visits.length;
    const second = await open();
    assert.equal(web.visits.length, asked, "the place was remembered");
    home = "new";
    const asking = { name: "GetFolder", content: "" };
    await assert.rejects(executeOperation(second, asking, signal), isProblem(code, "later"));
    assert.equal(second.open, false);
    const third = await open();
    assert.equal(await inboxName(third, signal), "Inbox");
    assert.deepEqual(visited, ["/old/EWS/Exchange.asmx", "/old/EWS/Exchange.asmx", "/new/EWS/Exchange.asmx"]);
    await Promise.all([first, second, third].map((one) => one.close()));
  }

  test("finds a mailbox on an Exchange server, by SOAP and NTLM", async () => {
    const server = await startExchange({ tls: true });
    await server.addUser("max@localhost", PASSWORD);
    const deps = exchangeDeps();
    const auth = { user: "max@localhost", password: new Secret(PASSWORD) };
    const mailbox = exchangeMailbox("max@localhost", undefined, { auth, port: server.port, ca: server.ca });
    const session = await openEws(deps, mailbox, signal);
    assert.equal(
      session.url.toLowerCase(),
      server.url.replace("127.0.0.1", new URL(session.url).hostname).toLowerCase(),
    );
    await session.close();
    await server.stop();
  });
});

/** Expressions that are short, and would take seconds to minutes over one address, or the memory of the process. */
const LARGE = [
  "(((a{100}){100}){100})",
  `${"(".repeat(9)}${"){99}".repeat(9)}x`,
  `${".{0,1000}".repeat(113)}x`,
  `${"(?:.{0,30}){0,30}".repeat(3)}x`,
];

describe("the rule for redirects", () => {
  test("allows the domain and its hosts over TLS, and what the pattern matches", () => {
    const allowed = redirectFilter("example.test", "^https://autodiscover(-s)?\\.(.*\\.)?outlook\\.com/");
    for (const [url, is] of [
      ["https://example.test/x", true],
      ["https://a.b.example.test/x", true],
      ["http://example.test/x", false],
      ["https://notexample.test/x", false],
      ["https://example.test.evil.test/x", false],
      ["https://user:pass@example.test/x", false],
      ["https://autodiscover-s.outlook.com/autodiscover/autodiscover.xml", true],
      ["https://AUTODISCOVER.x.Outlook.com/autodiscover/autodiscover.xml", true],
      ["https://autodiscover-s.outlook.com.evil.test/", false],
    ] as const)
      assert.equal(allowed(new URL(url)), is, url);
  });

  test("a pattern of any kind costs no more than its length times the text's", () => {
    const text = `${"a".repeat(2000)}!`;
    for (const pattern of ["^(a+)+$", "^(a|a)*$", "^(a?){50}a{50}$", ".*.*.*.*.*.*x", "((a*)*)*$b"]) {
      assert.equal(compilePattern(pattern)(text), false, pattern);
    }
  });

  test("patterns mean what the runtime's regular expressions mean, and know the border of a word", () => {
    const patterns = [
      "a{2,3}b",
      "[^.]+\\.(com|de)$",
      "^https?://[\\w.-]+/",
      "(?:x|yy)*?z",
      "^$",
      "a\\.b",
      "\\d{3}",
      "[\\]a-]x",
      "a+?b",
      "(a|)b",
      "x{2,}y",
      "\\bx",
    ];
    const texts = [
      "",
      "aab",
      "ab",
      "aaab",
      "mail.x.com",
      "mail.x.com/",
      "HTTPS://a-b.c/",
      "yyxz",
      "a.b",
      "axb",
      "12",
      "0123",
      "]x",
      "-x",
      "b",
      "xxxy",
      "xy",
    ];
    for (const pattern of patterns)
      for (const text of texts)
        assert.equal(compilePattern(pattern)(text), new RegExp(pattern, "is").test(text), `${pattern} on ${text}`);
  });

  for (const pattern of ["(?=a)", "(a)\\1", "(a", "a)", "a**", "[a", "\\", ...LARGE])
    test(`${pattern.slice(0, 40)} is refused with a reason`, () => {
      assert.throws(() => redirectFilter("example.test", pattern), isProblem("autodiscover", "never"));
    });
});
