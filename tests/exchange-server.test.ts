/** Proves the fake Exchange server that other tests rely on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ANN, ask, post, withAnn } from "./servers/exchange/asking.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { at, readXml, textAt } from "./servers/exchange/xml.ts";
import { exchangelibOrSkip } from "./servers/exchangelib.ts";
import { numbered } from "./servers/mail.ts";
import { run } from "./servers/program.ts";

function listen(subscription: string): string {
  return `<GetStreamingEvents><SubscriptionIds><t:SubscriptionId>${subscription}</t:SubscriptionId></SubscriptionIds>
    <ConnectionTimeout>1</ConnectionTimeout></GetStreamingEvents>`;
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

  test("an item that the server refuses does not keep the others of a request from being read", async (t) => {
    const server = await withAnn(t);
    const ids = await server.appendMany(ANN, "inbox", [numbered(1), numbered(2), numbered(3)]);
    server.refuseItem(ids[1] ?? "", "ErrorItemCorrupt");
    server.remove(ANN, ids[2] ?? "");
    const wanted = ids.map((id) => `<t:ItemId Id="${id}"/>`).join("");
    const answer = await post(
      server,
      `<GetItem><ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:IncludeMimeContent>true</t:IncludeMimeContent></ItemShape>
      <ItemIds>${wanted}</ItemIds></GetItem>`,
    );
    const text = await answer.text();
    const codes = [...text.matchAll(/<m:ResponseCode>(\w+)</g)].map(([, code]) => code);
    assert.deepEqual(codes, ["NoError", "ErrorItemCorrupt", "ErrorItemNotFound"]);
    const mime = /<t:MimeContent CharacterSet="UTF-8">([^<]*)</.exec(text)?.[1] ?? "";
    assert.deepEqual(Buffer.from(mime, "base64"), server.items(ANN, "inbox")[0]?.raw);
  });

  test("answers come in pieces of any size, cut where a test wants, with any prefix", async (t) => {
    for (const [prefix, element] of [
      ["soap", "<soap:Envelope"],
      ["", "<Envelope"],
    ] as const) {
      const server = await withAnn(t, { chunkBytes: 1, prefix });
      const whole = await (await post(server, inboxOf(ANN))).text();
      assert.ok(whole.includes(element) && whole.includes("<t:FolderId"), whole);
      server.faults.once("GetFolder", { cut: 300 });
      await assert.rejects(post(server, inboxOf(ANN)).then((answer) => answer.text()));
      server.faults.once("GetFolder", { cut: "before" });
      await assert.rejects(post(server, inboxOf(ANN)));
    }
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
