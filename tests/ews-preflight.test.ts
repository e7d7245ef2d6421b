/** Trying out an Exchange mailbox: every step is named, and the first that fails says why and what to do. */
import assert from "node:assert/strict";
import { after, before, beforeEach, describe, test } from "node:test";
import { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { exchangeOnlineNotice } from "../shared/mail/ews/soap/exchange-online.ts";
import { preflight } from "../shared/mail/ews/preflight.ts";
import type { PreflightReport } from "../shared/mail/mail.ts";
import { runPreflight as tryAll } from "../shared/mail/open.ts";
import { PASSWORD } from "./bodies.ts";
import { exchangeDeps, exchangeMailbox, type EwsWish } from "./promises/exchange-rig.ts";
import { depsFor } from "./promises/mailbox-rig.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { eventually } from "./servers/waiting.ts";

const { signal } = new AbortController();
const ADDRESS = "anna@localhost";

const outcome = ({ steps }: PreflightReport) =>
  steps.map(({ name, ok }) => `${name} ${ok ? "ok" : "failed"}`).join(", ");

const detailOf = ({ steps }: PreflightReport, name: string) => steps.find((one) => one.name === name)?.detail ?? "";

const names = (host: string) =>
  host === "nowhere.invalid"
    ? Promise.reject(Object.assign(new Error("no"), { code: "ENOTFOUND" }))
    : Promise.resolve([{ address: host, family: 4 }]);

describe("the preflight of an Exchange mailbox", () => {
  let server: Exchange;
  before(async () => {
    server = await startExchange({ tls: true });
    await server.addUser(ADDRESS, PASSWORD, { login: "CORP\\anna" });
    await server.append(ADDRESS, "inbox", "Subject: one\r\n\r\nHello");
  });
  after(() => server.stop());
  beforeEach(() => {
    server.faults.clear();
    server.rejectStreaming(false);
    server.calls.length = 0;
  });
  const tryOut = (wish: EwsWish = {}, deps = exchangeDeps()) =>
    preflight(deps, exchangeMailbox(ADDRESS, server.url, { ca: server.ca, ...wish }), signal);

  test("goes through every step, says what it found, and leaves nothing behind", async () => {
    const report = await tryOut();
    assert.equal(outcome(report), "dns ok, tcp ok, tls ok, login ok, capabilities ok, folders ok, idle ok");
    assert.ok(report.ok);
    assert.match(detailOf(report, "capabilities"), /^Exchange 2016 \(15\.1\./);
    assert.match(detailOf(report, "folders"), /INBOX \(1 messages\)/);
    assert.match(detailOf(report, "idle"), /notifies/);
    assert.equal(server.subscriptions(), 0);
    await eventually(() => server.connections() === 0, "all connections to be closed");
  });

  test("says where autodiscover found the mailbox", async () => {
    const mailbox = exchangeMailbox(ADDRESS, undefined, { ca: server.ca, port: server.port });
    const report = await preflight(exchangeDeps(), mailbox, signal);
    assert.ok(report.ok, JSON.stringify(report.steps));
    assert.match(detailOf(report, "dns"), /found by autodiscover/);
  });

  test("stops at a wrong password, which it shows once", async () => {
    const auth = { user: ADDRESS, password: new Secret("wrong horse") };
    const report = await tryOut({ auth });
    assert.equal(outcome(report), "dns ok, tcp ok, tls ok, login failed");
    assert.match(report.steps.at(-1)?.cause ?? "", /refused user name or password/);
    assert.ok(!JSON.stringify(report).includes("horse"));
  });

  test("does not show a password once more for sending after it was refused", async () => {
    const auth = { user: ADDRESS, password: new Secret("wrong horse") };
    const mailbox = exchangeMailbox(ADDRESS, server.url, { ca: server.ca, auth });
    const send = { perHour: 500, saveSent: "auto", notify: false, allowSelf: false } as const;
    const report = await tryAll(depsFor(), { ...mailbox, send }, signal);
    assert.equal(outcome(report), "dns ok, tcp ok, tls ok, login failed, send failed");
    assert.match(report.steps.at(-1)?.cause ?? "", /^Not tried/);
  });

  for (const [what, wish, failed] of [
    ["a name that does not exist", { url: "https://nowhere.invalid/EWS/Exchange.asmx" }, "dns failed"],
    ["a closed port", { url: "https://127.0.0.1:9/EWS/Exchange.asmx" }, "dns ok, tcp failed"],
    ["an unknown authority", { ca: undefined }, "dns ok, tcp ok, tls failed"],
  ] as const)
    test(`names the step that fails with ${what}`, async () => {
      const report = await tryOut(wish, exchangeDeps({ egress: egress("allow", { resolve: names }) }));
      assert.equal(outcome(report), failed);
      assert.ok(report.steps.at(-1)?.fix);
    });

  test("a folder that is not there is named with the step", async () => {
    const report = await tryOut({ folders: ["Inbox/Nowhere"] });
    assert.equal(outcome(report), "dns ok, tcp ok, tls ok, login ok, capabilities ok, folders failed");
  });

  test("says how new mail is found where the server refuses streams", async () => {
    server.rejectStreaming();
    const report = await tryOut();
    assert.ok(report.ok, JSON.stringify(report.steps));
    assert.match(detailOf(report, "idle"), /no streams/);
  });

  test("a throttled server is reported with the time it asks for", async () => {
    server.faults.always("GetFolder", { soapFault: "ErrorServerBusy", backOffMs: 5000 });
    const report = await tryOut();
    assert.match(report.steps.at(-1)?.cause ?? "", /slow down/);
  });
});

test("mailboxes in Microsoft's clouds are told when their EWS ends, others are not", () => {
  for (const host of ["outlook.office365.com", "outlook.office.com", "outlook.office365.us", "partner.outlook.cn"]) {
    const notice = exchangeOnlineNotice(`https://${host}/EWS/Exchange.asmx`);
    assert.match(notice?.cause ?? "", /2027-04-01/);
    assert.match(notice?.fix ?? "", /move-to-graph.*EwsAllowedAppIDs.*EwsEnabled/);
  }
  for (const host of ["mail.example.com", "outlook.com.example.org", "myoutlook.company"])
    assert.equal(exchangeOnlineNotice(`https://${host}/EWS/Exchange.asmx`), undefined);
});
