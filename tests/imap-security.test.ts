/** The security of IMAP connections: certificates, pins, STARTTLS without a way around it, forbidden addresses, no secret told. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { egress } from "../shared/egress.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, isProblem, mailboxOn, type Watch, watchOn, type Wish } from "./promises/mailbox-rig.ts";
import { type Certificates, makeCertificates } from "./servers/certificates.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";

describe("An IMAP connection", () => {
  let certificates: Certificates;
  let server: ImapServer;
  let users = 0;
  const open: Watch[] = [];
  before(async () => {
    certificates = await makeCertificates();
    server = await startImapServer({ tls: { ca: certificates.ca, ...certificates.server } });
  });
  afterEach(async () => {
    server.faults.clear();
    server.capabilities.starttls = true;
    for (const watch of open.splice(0)) await watch.stop();
  });
  after(() => server.stop());
  const someone = async () => {
    const user = `user${++users}`;
    await server.addUser(user, PASSWORD);
    return user;
  };
  const watching = (user: string, wish: Wish = {}, deps = depsFor()) => {
    const watch = watchOn(mailboxOn(server, user, wish), deps);
    open.push(watch);
    return watch;
  };
  const upgraded = () => ({ tls: "starttls", port: server.imapPort }) as const;

  describe("is secure:", () => {
    test("without the server's CA there is no connection", async () => {
      const { ca: _, ...receive } = mailboxOn(server, "x").receive;
      const mailbox = { ...mailboxOn(server, "x"), receive };
      assert.ok(isProblem("tls", "later")(await watchOn(mailbox).ended()));
      assert.equal(server.logins.length, 0);
    });

    test("a pinned certificate is enough, and another one is refused", async () => {
      const user = await someone();
      const { fingerprint256 } = new X509Certificate(certificates.server.cert);
      const { ca: _, ...receive } = mailboxOn(server, user).receive;
      const pinned = (fingerprint: string) => ({
        ...mailboxOn(server, user),
        receive: { ...receive, fingerprint: `sha256/${fingerprint}` },
      });
      const base64 = Buffer.from(fingerprint256.replaceAll(":", ""), "hex").toString("base64");
      for (const form of [fingerprint256, fingerprint256.replaceAll(":", "").toLowerCase(), base64]) {
        const watch = watchOn(pinned(form));
        await watch.connected();
        await watch.stop();
      }
      const other = new X509Certificate(certificates.expired.cert).fingerprint256;
      assert.ok(isProblem("tls")(await watchOn(pinned(other)).ended()));
    });

    test("certificates that expired or name another host are refused with that cause", async () => {
      for (const [pair, cause] of [
        ["expired", /expired/],
        ["wrongName", /another name/],
      ] as const) {
        const bad = await startImapServer({
          tls: { ca: certificates.ca, ...certificates[pair] },
          users: { bob: PASSWORD },
        });
        for (const host of ["127.0.0.1", "localhost"]) {
          const error = await watchOn(mailboxOn(bad, "bob", { host })).ended();
          assert.ok(isProblem("tls", "later")(error) && cause.test(String(error)), String(error));
        }
        await bad.stop();
      }
    });

    test("where STARTTLS is wanted and not offered, no password is sent", async () => {
      server.capabilities.starttls = false;
      const user = await someone();
      assert.ok(isProblem("starttls", "never")(await watching(user, upgraded()).ended()));
      assert.ok(!server.logins.some((login) => login.user === user));
    });

    test("a PREAUTH greeting and words put before the handshake are refused", async () => {
      server.faults.greeting = "PREAUTH come in";
      assert.ok(isProblem("starttls")(await watching(await someone(), upgraded()).ended()));
      server.faults.clear();
      server.faults.sendAfterStartTls = "* OK [ALERT] injected\r\n";
      const error = await watching(await someone(), upgraded()).ended();
      assert.ok(error instanceof Problem && ["starttls", "tls"].includes(error.code), String(error));
    });

    test("a forbidden address is never connected to", async () => {
      const { accepted } = server;
      const deps = depsFor({ egress: egress("deny") });
      assert.ok(isProblem("egress", "never")(await watching(await someone(), {}, deps).ended()));
      assert.equal(server.accepted, accepted);
    });

    test("no password appears in what is said about a refusal", async () => {
      server.faults.onCommand("AUTHENTICATE", { reply: `NO you said ${PASSWORD}` });
      const error = await watching(await someone()).ended();
      assert.ok(error instanceof Problem && error.evidence?.includes("[secret]"));
      assert.ok(!JSON.stringify(error.view()).includes(PASSWORD));
    });
  });
});
