/** Proves the fake Exchange server that other tests rely on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Exchange, type ExchangeOptions, startExchange } from "./servers/exchange/server.ts";
import { at, readXml, textAt, type Xml } from "./servers/exchange/xml.ts";
import { exchangelibOrSkip } from "./servers/exchangelib.ts";
import { numbered } from "./servers/mail.ts";
import { run } from "./servers/program.ts";

const ANN = "ann@corp.example";
const BASIC = `Basic ${Buffer.from(`${ANN}:secret`).toString("base64")}`;

async function withAnn(t: { after(work: () => Promise<void>): void }, options?: ExchangeOptions): Promise<Exchange> {
  const server = await startExchange(options);
  t.after(server.stop);
  await server.addUser(ANN, "secret");
  return server;
}

function request(content: string, header = ""): string {
  return `<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"
    xmlns:t="http://schemas.microsoft.com/exchange/services/2006/types"
    xmlns="http://schemas.microsoft.com/exchange/services/2006/messages"><e:Header>
    <t:RequestServerVersion Version="Exchange2013_SP1"/>${header}</e:Header><e:Body>${content}</e:Body></e:Envelope>`;
}

function post(server: Exchange, content: string, more: { header?: string; authorization?: string } = {}) {
  const headers = { "content-type": "text/xml; charset=utf-8", authorization: more.authorization ?? BASIC };
  return fetch(server.url, { method: "POST", headers, body: request(content, more.header) });
}

/** The first response message. */
async function ask(server: Exchange, content: string): Promise<Xml> {
  const answer = readXml(await (await post(server, content)).text());
  const message = at(answer, "Body")?.children[0]?.children[0]?.children[0];
  assert.ok(message, "a response message");
  return message;
}

const sync = (state: string, most: number) =>
  `<SyncFolderItems><ItemShape><t:BaseShape>IdOnly</t:BaseShape></ItemShape>
  <SyncFolderId><t:DistinguishedFolderId Id="inbox"/></SyncFolderId>${state ? `<SyncState>${state}</SyncState>` : ""}
  <MaxChangesReturned>${most}</MaxChangesReturned></SyncFolderItems>`;

/** Pages through what is new: "Create id" and the like, and the state after it. */
async function synced(server: Exchange, state = "", most = 2): Promise<{ changes: string[]; state: string }> {
  const changes: string[] = [];
  for (let now = state; ;) {
    const page = await ask(server, sync(now, most));
    assert.equal(textAt(page, "ResponseCode"), "NoError");
    now = textAt(page, "SyncState") ?? "";
    for (const one of at(page, "Changes")?.children ?? []) {
      const id = at(one, "ItemId") ?? one.children[0]?.children.find(({ name }) => name === "ItemId");
      changes.push(`${one.name} ${id?.attributes["Id"]}`);
    }
    if (textAt(page, "IncludesLastItemInRange") === "true") return { changes, state: now };
  }
}

describe("the fake Exchange server", () => {
  test("synchronization tells every item once, in pages, and then only what changed", async (t) => {
    const server = await withAnn(t);
    const ids = await server.appendMany(
      ANN,
      "inbox",
      [1, 2, 3, 4, 5].map((one) => numbered(one)),
    );
    const first = await synced(server);
    assert.deepEqual(
      first.changes,
      ids.toReversed().map((id) => `Create ${id}`),
    );
    assert.deepEqual((await synced(server, first.state)).changes, []);
    server.remove(ANN, ids[0] ?? "");
    const later = await server.append(ANN, "inbox", numbered(6));
    const second = await synced(server, first.state);
    assert.deepEqual(second.changes, [`Delete ${ids[0]}`, `Create ${later}`]);
    server.invalidateSyncStates();
    assert.equal(textAt(await ask(server, sync(second.state, 5)), "ResponseCode"), "ErrorInvalidSyncStateData");
  });

  test("a stream tells of new mail, beats and ends with its lifetime", async (t) => {
    const server = await withAnn(t, { heartbeatMs: 50, minuteMs: 600 });
    const subscribed = await ask(
      server,
      `<Subscribe><StreamingSubscriptionRequest SubscribeToAllFolders="true"><t:EventTypes>
      <t:EventType>NewMailEvent</t:EventType></t:EventTypes></StreamingSubscriptionRequest></Subscribe>`,
    );
    const id = textAt(subscribed, "SubscriptionId");
    const stream = await post(
      server,
      `<GetStreamingEvents><SubscriptionIds><t:SubscriptionId>${id}</t:SubscriptionId></SubscriptionIds>
      <ConnectionTimeout>1</ConnectionTimeout></GetStreamingEvents>`,
    );
    assert.deepEqual(server.streams(), [1]);
    const item = await server.append(ANN, "inbox", numbered(1));
    const text = await stream.text();
    const envelopes = text.split(/(?=<\?xml)/).map(readXml);
    assert.ok(text.includes("<Envelope "), "envelopes of streams have no prefix");
    assert.ok(envelopes.length > 4, "heartbeats");
    assert.ok(text.includes(`<t:ItemId Id="${item}"`));
    assert.ok(text.includes("<m:ConnectionStatus>Closed</m:ConnectionStatus>"));
    assert.deepEqual(server.streams(), []);
  });

  test("a wrong password, an unknown version and a fault on command are refused as Exchange refuses them", async (t) => {
    const server = await withAnn(t);
    const find = `<FindFolder Traversal="Shallow"><FolderShape><t:BaseShape>IdOnly</t:BaseShape></FolderShape>
      <ParentFolderIds><t:DistinguishedFolderId Id="msgfolderroot"/></ParentFolderIds></FindFolder>`;
    const refused = await post(server, find, { authorization: `Basic ${Buffer.from(`${ANN}:x`).toString("base64")}` });
    assert.equal(refused.status, 401);
    assert.match(refused.headers.get("www-authenticate") ?? "", /Negotiate, NTLM, Basic realm=/);
    server.faults.once("FindFolder", { soapFault: "ErrorServerBusy", backOffMs: 1234 });
    const busy = await post(server, find);
    assert.equal(busy.status, 500);
    assert.match(await busy.text(), /<t:Value Name="BackOffMilliseconds">1234</);
    server.faults.once("*", { status: 503, retryAfter: 7 });
    assert.equal((await post(server, find)).headers.get("retry-after"), "7");
    server.faults.once("FindFolder", { responseCode: "ErrorMailboxStoreUnavailable" });
    assert.equal(textAt(await ask(server, find), "ResponseCode"), "ErrorMailboxStoreUnavailable");
    assert.equal(textAt(await ask(server, find), "ResponseCode"), "NoError");
  });

  for (const scheme of ["basic", "NTLM"]) {
    test(`exchangelib, which nobody here wrote, is content with it (${scheme})`, async (t) => {
      const python = await exchangelibOrSkip(t);
      if (!python) return;
      const server = await startExchange({ heartbeatMs: 500, minuteMs: 20_000 });
      t.after(server.stop);
      await server.addUser(ANN, "secret", { login: "CORP\\ann" });
      await server.addUser("bob@corp.example", "hush");
      await server.addUser("shared@corp.example", "-", { delegates: ["CORP\\ann"] });
      await server.addUser("carl@corp.example", "-", { impersonators: ["CORP\\ann"] });
      await server.appendMany(
        ANN,
        "inbox",
        [0, 1, 2, 3, 4].map((one) => numbered(one)),
      );
      for (const one of ["shared@corp.example", "carl@corp.example"]) await server.append(one, "inbox", numbered(1));
      await server.createFolder(ANN, "Inbox/Orders");
      const script = new URL("servers/exchange/exchangelib-check.py", import.meta.url).pathname;
      const said = await run(python, [script, server.url, scheme], { timeoutMs: 180_000 });
      assert.match(said, /exchangelib is content/);
    });
  }
});
