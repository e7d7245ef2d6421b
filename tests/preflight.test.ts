/** The preflight of a mailbox: each wrong setting is found at its step, with a cause and a fix in plain words. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { preflights } from "../shared/mail/open.ts";
import { depsFor, mailboxOn, PASSWORD, type Wish } from "./promises/mailbox-rig.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";

const signal = AbortSignal.timeout(60_000);

describe("A preflight", () => {
  let server: ImapServer;
  before(async () => {
    server = await startImapServer({ users: { bob: PASSWORD } });
  });
  afterEach(() => server.faults.clear());
  after(() => server.stop());
  const bob = (wish: Wish = {}): Mailbox => mailboxOn(server, "bob", wish);

  for (const tls of ["implicit", "starttls", "none"] as const) {
    test(`goes through all steps with tls ${tls}, and leaves no connection behind`, async () => {
      const port = tls === "implicit" ? server.imapsPort : server.imapPort;
      const report = await run(bob({ tls, port }));
      assert.ok(report.ok, JSON.stringify(report));
      assert.deepEqual(report.names, ["dns", "tcp", "tls", "login", "capabilities", "folders", "idle"]);
      assert.ok(report.steps.every((one) => one.ms >= 0 && one.detail));
    });
  }

  const FAILING: [string, () => Wish, string, RegExp][] = [
    ["a name that does not exist", () => ({ host: "no-such-host.invalid" }), "dns", /no host named|name servers/],
    ["a port where nobody listens", () => ({ port: 1 }), "tcp", /refuses connections/],
    [
      "TLS on a port for plain connections",
      () => ({ port: server.imapPort }),
      "tls",
      /does not speak TLS|not answer|cut/,
    ],
    [
      "STARTTLS that is not offered",
      () => {
        server.capabilities.starttls = false;
        return { tls: "starttls", port: server.imapPort };
      },
      "tls",
      /STARTTLS/,
    ],
    [
      "a wrong password",
      () => ({ auth: { user: "bob", password: new Secret("no") } }),
      "login",
      /refused user name or password/,
    ],
    ["a folder that does not exist", () => ({ folders: ["Nope"] }), "folders", /"Nope".*there are "INBOX"/],
    [
      "an IDLE that is never answered",
      () => {
        server.faults.onCommand("IDLE", { hang: true });
        return {};
      },
      "idle",
      /said nothing/,
    ],
  ];
  for (const [name, spoil, step, cause] of FAILING) {
    test(`finds ${name}`, async () => {
      const report = await run(bob(spoil()));
      server.capabilities.starttls = true;
      assert.equal(report.ok, false);
      assert.equal(report.last?.name, step, JSON.stringify(report.steps));
      assert.match(report.last?.cause ?? "", cause);
      assert.ok(report.last?.fix);
    });
  }

  test("finds a forbidden address before anything is sent there", async () => {
    const { accepted } = server;
    const report = await run(bob(), depsFor({ egress: egress("deny") }));
    assert.deepEqual([report.ok, report.names, server.accepted], [false, ["dns"], accepted]);
  });
});

async function run(mailbox: Mailbox, deps = depsFor({ timeouts: { command: 500 } })) {
  const report = await preflights.imap(deps, mailbox, signal);
  return { ...report, names: report.steps.map((one) => one.name), last: report.steps.at(-1) };
}
