/** Proves the fake Exchange server that other tests rely on. */
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { Agent, type IncomingHttpHeaders, request as httpRequest } from "node:http";
import { describe, test } from "node:test";
import { md4 } from "./servers/exchange/ntlm.ts";
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

function listen(subscription: string): string {
  return `<GetStreamingEvents><SubscriptionIds><t:SubscriptionId>${subscription}</t:SubscriptionId></SubscriptionIds>
    <ConnectionTimeout>1</ConnectionTimeout></GetStreamingEvents>`;
}

/** A connection that is kept over requests: each asks for the inbox under this Authorization. */
function keptConnection({ port }: Exchange) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const body = request(
    `<GetFolder><FolderShape><t:BaseShape>IdOnly</t:BaseShape></FolderShape>
    <FolderIds><t:DistinguishedFolderId Id="inbox"/></FolderIds></GetFolder>`,
  );
  return {
    post: (authorization: string | undefined) =>
      new Promise<{ status: number | undefined; headers: IncomingHttpHeaders }>((resolve, reject) => {
        const headers = { "content-type": "text/xml", ...(authorization ? { authorization } : {}) };
        const options = { host: "127.0.0.1", port, path: "/EWS/Exchange.asmx", method: "POST", agent, headers };
        const sent = httpRequest(options, (answer) => {
          answer.resume().once("end", () => resolve({ status: answer.statusCode, headers: answer.headers }));
        });
        sent.once("error", reject);
        sent.end(body);
      }),
    end: async () => agent.destroy(),
  };
}

const GREETING = Buffer.concat([Buffer.from("NTLMSSP\0\x01\0\0\0\x05\x82\x08\0", "latin1"), Buffer.alloc(16)]).toString(
  "base64",
);

const wide = (text: string) => Buffer.from(text, "utf16le");
const hmac = (key: Buffer, content: Buffer) => createHmac("md5", key).update(content).digest();

/** A third message with an NTLMv2 response for ann, whose hash is of the vectors' kind: HMAC-MD5 over MD4 ([MS-NLMP] 3.3.2). */
function ntlmAnswer(challenge: string, password: string): Buffer {
  const server = Buffer.from(challenge, "base64").subarray(24, 32);
  const blob = Buffer.concat([Buffer.from("0101000000000000", "hex"), Buffer.alloc(28)]);
  const key = hmac(md4(wide(password)), wide(ANN.toUpperCase()));
  const response = Buffer.concat([hmac(key, Buffer.concat([server, blob])), blob]);
  const message = Buffer.alloc(64 + wide(ANN).length + response.length);
  message.write("NTLMSSP\0", 0, "latin1");
  message.writeUInt32LE(3, 8);
  const place = (field: number, value: Buffer, offset: number) => {
    message.writeUInt16LE(value.length, field);
    message.writeUInt16LE(value.length, field + 2);
    message.writeUInt32LE(offset, field + 4);
    value.copy(message, offset);
  };
  place(36, wide(ANN), 64);
  place(20, response, 64 + wide(ANN).length);
  message.writeUInt32LE(1, 60);
  return message;
}

const inboxOf = (address: string) =>
  `<GetFolder><FolderShape><t:BaseShape>IdOnly</t:BaseShape></FolderShape><FolderIds>
  <t:DistinguishedFolderId Id="inbox"><t:Mailbox><t:EmailAddress>${address}</t:EmailAddress></t:Mailbox>
  </t:DistinguishedFolderId></FolderIds></GetFolder>`;

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
  test("its MD4 is that of RFC 1320", () => {
    assert.equal(md4(Buffer.from("")).toString("hex"), "31d6cfe0d16ae931b73c59d7e0c089c0");
    assert.equal(md4(Buffer.from("message digest")).toString("hex"), "d9130a8164549fe818874806e1c7014b");
    assert.equal(md4(Buffer.from("1234567890".repeat(8))).toString("hex"), "e33b4ddc9c38f2199c3e7b164fcc0536");
  });

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

  test("NTLM is proved by NTLMv2 alone, on one connection, and each challenge holds for one answer", async (t) => {
    const server = await withAnn(t);
    server.schemes = ["ntlm"];
    const wire = keptConnection(server);
    t.after(wire.end);
    const answered = async (password: string) => {
      const { headers } = await wire.post(`NTLM ${GREETING}`);
      const challenge = /^NTLM (.+)$/.exec(headers["www-authenticate"] ?? "")?.[1] ?? "";
      return `NTLM ${ntlmAnswer(challenge, password).toString("base64")}`;
    };
    assert.equal((await wire.post(undefined)).status, 401);
    assert.equal((await wire.post(await answered("wrong"))).status, 401);
    const good = await answered("secret");
    assert.equal((await wire.post(good)).status, 200);
    assert.equal((await wire.post(undefined)).status, 200, "the connection stays proven");
    const other = keptConnection(server);
    t.after(other.end);
    assert.equal((await other.post(good)).status, 401, "another connection has another challenge");
    assert.equal((await other.post(undefined)).status, 401);
  });

  test("limits, lost events and restarts are told as Exchange tells them; mail and sync states outlast a restart", async (t) => {
    const server = await withAnn(t, { minuteMs: 300 });
    Object.assign(server.limits, { connections: 1, subscriptions: 2 });
    const subscribe = `<Subscribe><StreamingSubscriptionRequest><t:FolderIds><t:DistinguishedFolderId Id="inbox"/></t:FolderIds>
      <t:EventTypes><t:EventType>NewMailEvent</t:EventType></t:EventTypes></StreamingSubscriptionRequest></Subscribe>`;
    const first = textAt(await ask(server, subscribe), "SubscriptionId") ?? "";
    const second = textAt(await ask(server, subscribe), "SubscriptionId") ?? "";
    assert.match(await (await post(server, subscribe)).text(), /ErrorExceededSubscriptionCount/);
    const listening = await post(server, listen(first));
    assert.match(await (await post(server, listen(second))).text(), /ErrorExceededConnectionCount/);
    server.missEvents();
    const said = await listening.text();
    assert.match(said, /ErrorMissedNotificationEvents.*<m:ErrorSubscriptionIds><t:SubscriptionId>/s);
    await server.append(ANN, "inbox", numbered(1));
    const { state } = await synced(server);
    await server.stop();
    await server.start();
    // Connections that fetch has kept are dead, and it says so once.
    await post(server, listen(second)).catch(() => undefined);
    assert.match(await (await post(server, listen(second))).text(), /ErrorSubscriptionNotFound/);
    assert.deepEqual((await synced(server, state)).changes, []);
    assert.equal(server.items(ANN, "inbox").length, 1);
  });

  test("pull subscriptions tell what happened since a watermark, and a status when nothing did", async (t) => {
    const server = await withAnn(t);
    const subscribed = await ask(
      server,
      `<Subscribe><PullSubscriptionRequest><t:FolderIds><t:DistinguishedFolderId Id="inbox"/></t:FolderIds><t:EventTypes>
      <t:EventType>MovedEvent</t:EventType></t:EventTypes><t:Timeout>10</t:Timeout></PullSubscriptionRequest></Subscribe>`,
    );
    const id = await server.append(ANN, "drafts", numbered(1));
    const events = async (watermark: string | undefined) => {
      const message = await ask(
        server,
        `<GetEvents><SubscriptionId>${textAt(subscribed, "SubscriptionId")}</SubscriptionId>
        <Watermark>${watermark}</Watermark></GetEvents>`,
      );
      return at(message, "Notification")?.children.filter(({ name }) => name.endsWith("Event")) ?? [];
    };
    const start = textAt(subscribed, "Watermark");
    assert.equal((await events(start))[0]?.name, "StatusEvent");
    const moved = server.move(ANN, id, "inbox");
    const [event] = await events(start);
    assert.equal(event?.name, "MovedEvent");
    assert.equal(at(event, "ItemId")?.attributes["Id"], moved);
    assert.equal(at(event, "OldItemId")?.attributes["Id"], id);
    assert.equal((await events(textAt(event, "Watermark")))[0]?.name, "StatusEvent");
  });

  test("requests that the schema does not allow, and folders of others, are refused", async (t) => {
    const server = await withAnn(t);
    await server.addUser("bob@corp.example", "hush");
    const shape = "<ItemShape><t:BaseShape>IdOnly</t:BaseShape></ItemShape>";
    const wrong = await post(server, `<GetItem><ItemIds><t:ItemId Id="x"/></ItemIds>${shape}</GetItem>`);
    assert.equal(wrong.status, 500);
    assert.match(await wrong.text(), /ErrorSchemaValidation/);
    assert.equal(textAt(await ask(server, inboxOf("bob@corp.example")), "ResponseCode"), "ErrorAccessDenied");
    assert.equal(textAt(await ask(server, inboxOf("eve@corp.example")), "ResponseCode"), "ErrorNonExistentMailbox");
    assert.equal(textAt(await ask(server, inboxOf(ANN)), "ResponseCode"), "NoError");
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
