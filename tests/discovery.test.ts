/** What the discovery of mail servers promises: where it looks, in which order it trusts, and that a stranger's answer costs little and says little. */
import assert from "node:assert/strict";
import { createHash, X509Certificate } from "node:crypto";
import type { ServerResponse } from "node:http";
import { after, afterEach, before, describe, test } from "node:test";
import { egress } from "../shared/egress.ts";
import { type DiscoverDeps, discoverMailServers } from "../shared/mail/discovery/discover.ts";
import { nameServers } from "../shared/mail/discovery/records.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { type WebServer, webServer } from "./promises/exchange-rig.ts";
import { makeCertificates } from "./servers/certificates.ts";
import { type DnsServer, startDns } from "./servers/dns.ts";

const { signal } = new AbortController();
const ADDRESS = "anna@example.test";

type Say = (response: ServerResponse) => void;
const file =
  (inner: string, head = '<?xml version="1.0"?>'): Say =>
  (response) =>
    response.end(
      `${head}<clientConfig version="1.1"><emailProvider id="example.test">${inner}</emailProvider></clientConfig>`,
    );
const server = (kind: string, fields: Record<string, string>) =>
  `<${kind}>${Object.entries(fields)
    .map(([name, value]) => `<${name}>${value}</${name}>`)
    .join("")}</${kind.split(" ")[0]}>`;
const IMAP = { hostname: "imap.example.test", port: "993", socketType: "SSL", username: "%EMAILLOCALPART%" };
const SMTP = { hostname: "smtp.example.test", port: "587", socketType: "STARTTLS" };
const incoming = (changes: Record<string, string> = {}) =>
  server('incomingServer type="imap"', { ...IMAP, ...changes });
const outgoing = (changes: Record<string, string> = {}) =>
  server('outgoingServer type="smtp"', { ...SMTP, ...changes });

const srv = (port: number, priority: number, target: string) =>
  ({ type: "SRV", priority, weight: 1, port, target }) as const;
const exchange: Say = (response) => response.writeHead(401, { "x-feserver": "EX1", "www-authenticate": "NTLM" }).end();
const endless: Say = (response) => {
  const more = () => {
    if (!response.destroyed && response.write("<!--x-->".repeat(2000))) setImmediate(more);
  };
  response.on("drain", more);
  more();
};
const allTo = (address: string) => async () => [{ address, family: 4 }];

describe("the discovery of mail servers", () => {
  let dns: DnsServer;
  let web: WebServer;
  let fingerprint: string;
  let hosts: Record<string, Say> = {};

  before(async () => {
    const { server: pair } = await makeCertificates();
    fingerprint = `sha256/${createHash("sha256").update(new X509Certificate(pair.cert).raw).digest("hex")}`;
    dns = await startDns();
    web = await webServer((visit, response) => {
      const say = hosts[`${visit.method} ${visit.host.split(":")[0]}`];
      if (say) say(response);
      else response.writeHead(404).end();
    }, pair);
  });
  after(async () => {
    await web.stop();
    await dns.stop();
  });
  afterEach(() => {
    hosts = {};
    dns.records.clear();
    dns.silent = false;
    web.visits.length = 0;
  });

  function find(more: Partial<DiscoverDeps> = {}, address = ADDRESS) {
    const deps = {
      egress: egress("allow", { resolve: allTo("127.0.0.1") }),
      records: nameServers([dns.address]),
      // Nobody listens at port 9.
      web: { ports: { secure: web.port, plain: 9 }, fingerprint },
    };
    return discoverMailServers({ ...deps, ...more }, address, signal);
  }
  const stepOf = ({ steps }: Awaited<ReturnType<typeof find>>, wanted: string) =>
    steps.find(({ name }) => name === wanted) ?? assert.fail(`no step ${wanted}`);

  test("a known domain needs no request, and says what its provider wants", async () => {
    const gmail = await find({}, "anna@GMail.com");
    assert.deepEqual(gmail.proposals[0]?.receive, {
      protocol: "imap",
      host: "imap.gmail.com",
      port: 993,
      tls: "implicit",
    });
    assert.equal(gmail.proposals[0]?.logins[0], "oauth2");
    const microsoft = await find({}, "anna@contoso.onmicrosoft.com");
    assert.deepEqual(microsoft.proposals[0]?.receive, { protocol: "graph" });
    assert.deepEqual([dns.asked, web.visits], [[], []]);
  });

  test("a domain whose mail goes to a known provider is at that provider, whatever a web host's file says", async () => {
    dns.records.set("example.test", [
      { type: "MX", priority: 20, target: "alt1.aspmx.l.google.com" },
      { type: "MX", priority: 10, target: "ASPMX.L.google.com" },
    ]);
    hosts["GET autoconfig.example.test"] = file(incoming() + outgoing());
    const { proposals } = await find();
    assert.deepEqual(
      proposals.map(({ source, provider }) => [source, provider]),
      [
        ["mx", "Google"],
        ["autoconfig", null],
      ],
    );
    assert.match(proposals[0]?.origin ?? "", /aspmx\.l\.google\.com/);
  });

  test("an international domain is asked for by its ASCII name", async () => {
    dns.records.set("xn--bcher-kva.test", [{ type: "MX", priority: 1, target: "mx00.kundenserver.de" }]);
    const [proposal] = (await find({}, "anna@B\u00FCcher.test")).proposals;
    assert.deepEqual([proposal?.provider, proposal?.user], ["IONOS", "anna@B\u00FCcher.test"]);
  });

  test("a name that only ends like a provider's is not the provider", async () => {
    dns.records.set("example.test", [{ type: "MX", priority: 1, target: "mx.evilgoogle.com" }]);
    assert.deepEqual((await find()).proposals, []);
  });

  test("SRV records name servers by their priority, and a dot says that there is none", async () => {
    dns.records.set("_imaps._tcp.example.test", [
      srv(993, 20, "late.example.test"),
      srv(1993, 10, "imap.example.test"),
    ]);
    dns.records.set("_submissions._tcp.example.test", [srv(0, 0, "")]);
    dns.records.set("_submission._tcp.example.test", [srv(587, 0, "smtp.example.test")]);
    const { proposals } = await find();
    assert.deepEqual(
      proposals.map(({ source, receive, send, user }) => ({ source, receive, send, user })),
      [
        {
          source: "srv",
          receive: { protocol: "imap", host: "imap.example.test", port: 1993, tls: "implicit" },
          send: { host: "smtp.example.test", port: 587, tls: "starttls" },
          user: ADDRESS,
        },
      ],
    );
  });

  test("the autoconfig file is read from both of its places", async () => {
    hosts["GET autoconfig.example.test"] = file(incoming() + outgoing());
    const first = (await find()).proposals[0];
    assert.deepEqual(first?.receive, { protocol: "imap", host: "imap.example.test", port: 993, tls: "implicit" });
    assert.deepEqual(first.send, { host: "smtp.example.test", port: 587, tls: "starttls" });
    assert.deepEqual([first.user, first.logins], ["anna", ["password"]]);
    hosts = { "GET example.test": file(incoming({ authentication: "OAuth2" })) };
    const second = (await find()).proposals[0];
    assert.match(
      second?.origin ?? "",
      /^https:\/\/example\.test:\d+\/\.well-known\/autoconfig\/mail\/config-v1\.1\.xml$/,
    );
    assert.deepEqual([second?.send, second?.logins], [null, ["oauth2"]]);
  });

  test("no server without TLS is proposed, and none with an impossible name", async () => {
    for (const wrong of [
      { socketType: "plain" },
      { hostname: "imap.example.test/x" },
      { hostname: "<b>imap</b>" },
      { port: "70000" },
      { hostname: "" },
    ] as Record<string, string>[]) {
      hosts["GET autoconfig.example.test"] = file(incoming(wrong));
      assert.deepEqual((await find()).proposals, [], JSON.stringify(wrong));
    }
  });

  test("a hostile file costs one small answer, and no words of it are shown", async () => {
    const entity = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>';
    const deep = "<a>".repeat(2000) + incoming() + "</a>".repeat(2000);
    const many = "<a/>".repeat(15_000) + incoming();
    for (const say of [
      file(incoming(), entity),
      file(deep),
      file(many),
      endless,
      ((response) => response.end("<html>evil words</html>")) satisfies Say,
      ((response) => response.writeHead(302, { location: "https://evil.example/" }).end()) satisfies Say,
    ]) {
      hosts["GET autoconfig.example.test"] = say;
      const found = await find();
      assert.deepEqual(found.proposals, []);
      assert.ok(!stepOf(found, "autoconfig").detail.includes("evil"));
    }
  });

  test("a user name that the file cannot mean becomes the address", async () => {
    for (const username of ["%REALNAME%", "x".repeat(400), "a\nb"]) {
      hosts["GET autoconfig.example.test"] = file(incoming({ username }));
      assert.equal((await find()).proposals[0]?.user, ADDRESS);
    }
  });

  test("an Exchange server is recognised without a login, also behind a redirect", async () => {
    hosts["POST autodiscover.example.test"] = exchange;
    const [proposal] = (await find()).proposals;
    assert.deepEqual([proposal?.source, proposal?.receive], ["exchange", { protocol: "ews" }]);
    hosts = {
      "POST autodiscover.example.test": (response) =>
        response
          .writeHead(302, { location: `https://autodiscover-s.outlook.com:${web.port}/autodiscover/autodiscover.xml` })
          .end(),
      "POST autodiscover-s.outlook.com": exchange,
    };
    const [online] = (await find()).proposals;
    assert.deepEqual([online?.provider, online?.receive], ["Microsoft 365", { protocol: "graph" }]);
    assert.ok(web.visits.every(({ authorization }) => authorization === ""));
    // Any other web server that wants a login is none.
    hosts = {
      "POST autodiscover.example.test": (response) => response.writeHead(401, { "www-authenticate": "Basic" }).end(),
    };
    hosts["POST example.test"] = (response) => response.writeHead(401, { "www-authenticate": "Basic" }).end();
    assert.deepEqual((await find()).proposals, []);
  });

  test("what the egress guard forbids is neither asked nor proposed", async () => {
    dns.records.set("_imaps._tcp.example.test", [
      { type: "SRV", priority: 1, weight: 1, port: 993, target: "inside.test" },
    ]);
    hosts["GET autoconfig.example.test"] = file(incoming());
    const found = await find({ egress: egress("deny", { resolve: allTo("10.0.0.1") }) });
    assert.deepEqual(found.proposals, []);
    assert.match(stepOf(found, "srv").detail, /inside\.test \(10\.0\.0\.1\) is/);
    assert.deepEqual(web.visits, []);
  });

  test("silent name servers and web servers cost their deadlines, and each step says so", async () => {
    dns.silent = true;
    for (const name of [
      "GET autoconfig.example.test",
      "GET example.test",
      "POST autodiscover.example.test",
      "POST example.test",
    ])
      hosts[name] = () => undefined;
    const found = await find();
    assert.deepEqual(found.proposals, []);
    assert.deepEqual(
      found.steps.map(({ name, found: has }) => [name, has]),
      [
        ["known", false],
        ["mx", false],
        ["autoconfig", false],
        ["srv", false],
        ["exchange", false],
      ],
    );
    assert.match(stepOf(found, "mx").detail, /did not answer|took|within/);
  });

  describe("as a route", () => {
    let node: ApiNode;
    before(async () => {
      node = await startApi();
    });
    after(() => node.close());

    test("names the registered applications by which the owner can agree", async () => {
      const google = { id: "ours", provider: "google", clientId: "c", clientSecret: "s" };
      assert.equal((await node.call("POST", "/api/v1/applications", google)).status, 201);
      const answer = await node.call("POST", "/api/v1/mailboxes/discover", { address: "anna@gmail.com" });
      assert.equal(answer.status, 200);
      assert.deepEqual(answer.body.proposals[0].consent, { provider: "google", applications: ["ours"] });
      const yahoo = await node.call("POST", "/api/v1/mailboxes/discover", { address: "anna@yahoo.com" });
      assert.equal(yahoo.body.proposals[0].consent, null);
      assert.equal((await node.call("POST", "/api/v1/mailboxes/discover", { address: "anna" })).status, 422);
    });
  });
});
