/** Exchange mailboxes of a CRM of the Creatio family: what it says of them, and the life of one from its first save to its mail. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { MailboxOf } from "../shared/contract/mailbox.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { PASSWORD } from "./bodies.ts";
import { savedMails } from "./servers/crm.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";
import { type CrmScene, crmScene } from "./stories/crm-scene.ts";
import { status } from "./stories/scene.ts";

const EXCHANGE = "3490BD45-4F4D-4613-AA06-454546F3342A";
const ID = "0b1c6c0e-1111-4222-8333-944445555666";
const ADDRESS = "help@example.com";

const subject = (n: number) => `Message ${String(n).padStart(3, "0")}`;
const mail = (n: number) => numbered(n, { subject: subject(n), to: ADDRESS });

function credentials(more: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    Id: ID,
    SenderEmailAddress: ADDRESS,
    UserName: "EXAMPLE\\help",
    Password: PASSWORD,
    UseOAuth: false,
    AccessToken: "",
    ServiceUrl: "mail.example.com",
    IsAutodiscover: false,
    AutodiscoverRedirectUrl: ".*",
    ServerTypeId: EXCHANGE,
    Port: 993,
    UseSsl: true,
    FolderIds: [],
    FeatureValues: { MarkEmailsAsSynchronized: true },
    BpmEndpoint: "https://crm.example.com/0/ServiceModel/ExchangeListenerService.svc/NewEmail",
    ...more,
  };
}

async function post(node: ApiNode, path: string, body: unknown) {
  const response = await fetch(`${node.url}/api/listeners/${path}`, {
    method: "POST",
    headers: { "content-type": "application/json; charset=utf-8" },
    body: JSON.stringify(body),
  });
  return { status: response.status, text: await response.text() };
}

async function stored(node: ApiNode): Promise<MailboxOf<"ews">> {
  const { mailbox } = (await node.store.mailboxes.get(ID)) ?? assert.fail("not stored");
  assert.equal(mailbox.receive.protocol, "ews");
  return mailbox as MailboxOf<"ews">;
}

describe("what a CRM says of an Exchange mailbox", () => {
  test("its host, a URL somebody typed, or autodiscover with its redirects; the port of IMAP means nothing", async () => {
    const node = await startApi();
    try {
      assert.equal((await post(node, "create", [credentials()])).status, 200);
      const { receive } = await stored(node);
      assert.deepEqual(
        [receive.host, receive.port, receive.url, receive.tls],
        ["mail.example.com", undefined, undefined, "implicit"],
      );
      assert.deepEqual([receive.auth.user, receive.access, receive.folders], ["EXAMPLE\\help", "own", "all"]);
      assert.deepEqual(receive.afterDelivery, { keyword: "Creatio" });
      await post(node, "recreate", [credentials({ ServiceUrl: "https://mail.example.com:8443/EWS/Exchange.asmx" })]);
      assert.deepEqual((await stored(node)).receive.url, "https://mail.example.com:8443/EWS/Exchange.asmx");
      await post(node, "recreate", [credentials({ ServiceUrl: "mail.example.com:8443" })]);
      assert.deepEqual((await stored(node)).receive.port, 8443);
      const found = { ServiceUrl: null, IsAutodiscover: true, AutodiscoverRedirectUrl: "^https://mail\\." };
      await post(node, "recreate", [credentials(found)]);
      const { receive: discovered } = await stored(node);
      assert.deepEqual(
        [discovered.host, discovered.url, discovered.redirects],
        [undefined, undefined, "^https://mail\\."],
      );
    } finally {
      await node.close();
    }
  });

  test("an update with little more than a token changes nothing else", async () => {
    const node = await startApi();
    try {
      const oauth = { UseOAuth: true, AccessToken: "first", Password: null, FolderIds: ["AAMkAD1=", "AAMkAD2="] };
      await post(node, "create", [credentials({ ...oauth, UserName: ADDRESS })]);
      const before = await stored(node);
      await post(node, "update", [{ Id: ID, UserName: ADDRESS, UseOAuth: true, AccessToken: "second" }]);
      const after = await stored(node);
      assert.ok("accessToken" in after.receive.auth && after.receive.auth.accessToken.reveal() === "second");
      assert.deepEqual({ ...after.receive, auth: null }, { ...before.receive, auth: null });
      await post(node, "update", [credentials({ ...oauth, ServiceUrl: null, IsAutodiscover: true })]);
      assert.equal((await stored(node)).receive.host, undefined);
      const imap = { ServerTypeId: "844f0837-eaa0-4f40-b965-71f5db9eae6e", ServiceUrl: "imap.example.com" };
      await post(node, "update", [credentials(imap)]);
      assert.equal((await node.store.mailboxes.get(ID))?.mailbox.receive.protocol, "imap");
      await post(node, "update", [credentials()]);
      assert.equal((await stored(node)).receive.host, "mail.example.com");
    } finally {
      await node.close();
    }
  });
});

async function exchangeCrm(): Promise<{ s: CrmScene; exchange: Exchange; end(): Promise<void> }> {
  const s = await crmScene({ COMMAND_TIMEOUT_SECONDS: "5", BACKOFF_SCALE: "0.01" });
  const exchange = await startExchange();
  await exchange.addUser(ADDRESS, PASSWORD, { login: "EXAMPLE\\help" });
  return {
    s,
    exchange,
    async end() {
      await s.end();
      await exchange.stop();
    },
  };
}

const at = (exchange: Exchange, more: Record<string, unknown> = {}) => ({
  user: "help",
  address: ADDRESS,
  port: 0,
  folders: [],
  server: { ServerTypeId: EXCHANGE, ServiceUrl: exchange.url, UserName: "EXAMPLE\\help", ...more },
});

/** What the CRM was told that it had not been told just before: it may hear the same again. */
const newsOf = (s: CrmScene) => () =>
  s.crm.states.filter(({ Avaliable }, n) => n === 0 || s.crm.states[n - 1]?.Avaliable !== Avaliable);

describe("a CRM with an Exchange mailbox", { timeout: 240_000 }, () => {
  test("it is added, its folders are listed by id, mail is loaded, arrives and is marked, each once", async () => {
    const { s, exchange, end } = await exchangeCrm();
    try {
      const orders = await exchange.createFolder(ADDRESS, "Inbox/Orders");
      await exchange.createFolder(ADDRESS, "Meetings", "IPF.Appointment");
      const loaded = await exchange.append(ADDRESS, "inbox", mail(1));
      await exchange.append(ADDRESS, "Inbox/Orders", mail(2));
      const wish = at(exchange);
      const folders = async (FolderClassName: string) =>
        JSON.parse((await s.crm.call("folders", { ...s.crm.credentials(wish), FolderClassName })).text) as Folder[];
      type Folder = { Id: string; ParentId: string; Name: string };
      const listed = await folders("");
      assert.ok(listed.every((one) => Object.keys(one).join() === "Id,ParentId,Name"));
      const inbox = listed.find(({ Name }) => Name === "Inbox");
      assert.equal(inbox?.ParentId, "");
      assert.deepEqual(
        listed.find(({ Name }) => Name === "Orders"),
        { Id: orders, ParentId: inbox?.Id, Name: "Orders" },
      );
      assert.ok(!listed.some(({ Name }) => Name === "Drafts" || Name === "Meetings" || Name === "Calendar"));
      assert.ok((await folders("IPF.Appointment")).some(({ Name }) => Name === "Meetings"));
      const chosen = { ...wish, folders: [inbox?.Id ?? "", orders], mark: true };
      const { id, credentials: given } = await s.crm.addMailbox(chosen);
      assert.deepEqual(await savedMails(s.crm, 2), [subject(1), subject(2)]);
      await status(s.service, id, "listening");
      const pushed = await exchange.append(ADDRESS, "Inbox/Orders", mail(3));
      await savedMails(s.crm, 3);
      await s.service.until("the category", () => {
        const items = [...exchange.items(ADDRESS, "inbox"), ...exchange.items(ADDRESS, "Inbox/Orders")];
        const marked = items.filter(({ categories }) => categories.includes("Creatio")).map((item) => item.id);
        return marked.includes(pushed) && marked.includes(loaded);
      });
      // A CRM that was served by another listener knows the inbox by its id.
      given["FolderIds"] = [exchange.folderId(ADDRESS, "inbox")];
      await s.crm.call("recreate", [given]);
      await status(s.service, id, "listening");
      await exchange.append(ADDRESS, "inbox", mail(4));
      await savedMails(s.crm, 4);
      assert.deepEqual([s.crm.violations, s.crm.lost], [[], []]);
    } finally {
      await end();
    }
  });

  test("that was an IMAP mailbox before, closed and created anew under its id, misses nothing and gets nothing twice", async () => {
    const { s, exchange, end } = await exchangeCrm();
    try {
      await s.mail.addUser("help", PASSWORD);
      const { id, credentials: imap } = await s.crm.addMailbox({ user: "help", port: s.mail.imapPort });
      await status(s.service, id, "listening");
      const letters = [1, 2, 3].map((n) => mail(n));
      await s.mail.appendMany("help", "INBOX", letters.slice(0, 2));
      await savedMails(s.crm, 2);
      await s.crm.call("close", [id]);
      // The mailbox moved: the new server has the old mail, and some that came meanwhile.
      for (const letter of letters) await exchange.append(ADDRESS, "inbox", letter);
      const given = { ...s.crm.credentials(at(exchange)), Id: id, BpmEndpoint: imap["BpmEndpoint"] };
      assert.equal((await s.crm.call("create", [given])).status, 200);
      await status(s.service, id, "listening");
      await exchange.append(ADDRESS, "inbox", mail(4));
      assert.deepEqual(await savedMails(s.crm, 4), [1, 2, 3, 4].map(subject));
      assert.equal(s.crm.arrived.length, 4);
    } finally {
      await end();
    }
  });

  test("it sends, also before it is saved, under the CRM's Message-ID, with a copy among the sent ones and no second mail", async () => {
    const { s, exchange, end } = await exchangeCrm();
    try {
      const wish = at(exchange);
      const unsaved: Record<string, unknown> = { ...s.crm.credentials(wish), BpmEndpoint: undefined };
      const command = {
        Email: {
          Id: "<5f1c@example.com>",
          Subject: "Angebot №1",
          Body: "<p>Look</p>",
          IsHtmlBody: true,
          Sender: ADDRESS,
          Recepients: ["bob@example.net"],
          CopyRecepients: [],
          BlindCopyRecepients: ["Eve <eve@example.net>"],
          Importance: 2,
          Headers: ["MessageId=<5f1c@example.com>", "X-Ticket=17"],
          Attachments: [],
        },
        Credentials: unsaved,
      };
      exchange.faults.once("CreateItem", { responseCode: "ErrorSendAsDenied" });
      const refused = await s.crm.call("v2/send", command);
      assert.equal(refused.status, 200);
      assert.match(refused.text, /may not send under this address.*ErrorSendAsDenied/);
      for (let time = 0; time < 2; time++) {
        const answer = await s.crm.call("v2/send", command);
        assert.deepEqual([answer.status, answer.text], [200, ""]);
      }
      assert.equal(exchange.sent.length, 1, "the same Message-ID is not sent twice");
      const raw = exchange.sent[0]?.raw.toString("latin1") ?? "";
      assert.match(raw, /^Message-ID: <5f1c@example\.com>/im);
      assert.match(raw, /^X-Ticket: 17/im);
      assert.doesNotMatch(raw, /eve/);
      assert.deepEqual(exchange.sent[0]?.recipients, ["bob@example.net", "eve@example.net"]);
      assert.equal(exchange.items(ADDRESS, "sentitems").length, 1);
      assert.equal((await s.crm.call("state", [unsaved["Id"]])).text, "{}", "sending subscribes to nothing");
      const { id } = await s.crm.addMailbox({ ...wish, id: String(unsaved["Id"]) });
      await status(s.service, id, "listening");
      const next = { ...command, Email: { ...command.Email, Id: "<6a2d@example.com>", Headers: [] } };
      assert.equal((await s.crm.call("v2/send", next)).text, "");
      assert.equal(exchange.sent.length, 2);
    } finally {
      await end();
    }
  });

  test("a refused login and a lost right are told in the words of Microsoft's library, and so is their end", async () => {
    const { s, exchange, end } = await exchangeCrm();
    try {
      const { id, credentials: given } = await s.crm.addMailbox(at(exchange));
      const news = newsOf(s);
      await s.service.until("the good news", () => news().length === 1);
      exchange.setPassword(ADDRESS, "another one");
      exchange.disconnectAll();
      await s.service.until("the bad news", () => news().length === 2);
      const [, bad] = news();
      assert.equal(bad?.Avaliable, false);
      assert.match(bad?.ExceptionClassName ?? "", /\.ServiceRequestException$/);
      assert.match(bad?.ExceptionMessage ?? "", /\(401\) Unauthorized/);
      given["Password"] = "another one";
      await s.crm.call("recreate", [given]);
      await s.service.until("the good news again", () => news().length === 3);
      assert.equal(news()[2]?.Avaliable, true);
      await status(s.service, id, "listening");
      exchange.faults.always("*", { responseCode: "ErrorAccessDenied" });
      exchange.disconnectAll();
      await s.service.until("the other bad news", () => news().length === 4);
      const denied = news()[3];
      assert.equal(denied?.Avaliable, false);
      assert.match(denied?.ExceptionClassName ?? "", /\.ServiceResponseException$/);
      assert.match(denied?.ExceptionMessage ?? "", /ErrorAccessDenied/);
    } finally {
      await end();
    }
  });

  test("a token that expires is asked for and arrives from inside the callback", async () => {
    const { s, exchange, end } = await exchangeCrm();
    try {
      exchange.tokens.accept("first", ADDRESS);
      s.crm.freshToken = () => {
        exchange.tokens.accept("second", ADDRESS);
        return "second";
      };
      const { id } = await s.crm.addMailbox({ ...at(exchange, { UserName: ADDRESS }), token: "first" });
      await status(s.service, id, "listening");
      exchange.tokens.forget("first");
      exchange.disconnectAll();
      await exchange.append(ADDRESS, "inbox", mail(1));
      await savedMails(s.crm, 1);
      assert.ok(s.crm.tokensAsked.length > 0);
      assert.ok(
        s.crm.states.every((state) => state.Avaliable),
        "an expired token is no fault of the mailbox",
      );
    } finally {
      await end();
    }
  });
});
