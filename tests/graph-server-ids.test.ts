/** Proves that the fake Graph server knows users, ids and properties as Graph does, and batches requests. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { startExchange } from "./servers/exchange/server.ts";
import { ANN, type Json, json, refusal, withAnn } from "./servers/graph/asking.ts";
import { mirrored } from "./servers/graph/mirror.ts";
import { message, numbered } from "./servers/mail.ts";

const BOB = "bob@example.com";
const USER = `users/${ANN}`;
const post = (body: object) => ({ method: "POST", body });

describe("the fake Graph server's users, ids and batches", () => {
  test("a batch is answered in any order, each part on its own, and an answer may be missing", async (t) => {
    const server = await withAnn(t);
    const names = ["inbox", "drafts", "clutter", "sentitems", "archive", "outbox"];
    const requests = names.map((name, at) => ({ id: String(at), method: "GET", url: `/${USER}/mailFolders/${name}` }));
    const answers = async (body: object) => (await json(server, "$batch", post(body)))["responses"] as Json[];
    const all = await answers({ requests });
    assert.deepEqual(all.map(({ id }) => id).toSorted(), ["0", "1", "2", "3", "4", "5"]);
    assert.deepEqual(
      [all.find(({ id }) => id === "2")?.["status"], all.find(({ id }) => id === "0")?.["status"]],
      [404, 200],
    );
    const dependent = [
      { ...requests[2], id: "a" },
      { ...requests[0], id: "b", dependsOn: ["a"] },
    ];
    assert.equal((await answers({ requests: dependent })).find(({ id }) => id === "b")?.["status"], 424);
    server.behaviour.missingInBatch = 1;
    assert.equal((await answers({ requests })).length, 5);
    const twice = [requests[0], requests[0]];
    assert.equal(await refusal(server, "$batch", post({ requests: twice })), "400 BadRequest");
    const many = Array.from({ length: 21 }, (_, at) => ({ ...requests[0], id: String(at) }));
    assert.equal(await refusal(server, "$batch", post({ requests: many })), "400 MaximumValueExceeded");
    assert.equal(
      await refusal(server, "$batch", { ...post({ requests }), token: "x" }),
      "401 InvalidAuthenticationToken",
    );
  });

  test("ids of EWS are translated, as far as they are known", async (t) => {
    const server = await withAnn(t);
    const ewsId = `AAMk${"ab/+".repeat(20)}AAA=`;
    const id = await server.append(ANN, "inbox", numbered(1), { ewsId });
    const ids = { inputIds: [ewsId, "AAMkunknown"], sourceIdType: "ewsId", targetIdType: "restImmutableEntryId" };
    const { value } = (await json(server, `${USER}/translateExchangeIds`, post(ids))) as { value: Json[] };
    assert.deepEqual(value[0], { sourceId: ewsId, targetId: id });
    assert.ok(value[1]?.["errorDetails"]);
    assert.equal((await json(server, `${USER}/messages/${ewsId.replaceAll("/", "-").replaceAll("+", "_")}`))["id"], id);
    const basic = { token: server.accessToken({ permissions: ["Mail.ReadWrite"] }) };
    assert.equal(
      await refusal(server, `${USER}/translateExchangeIds`, { ...post(ids), ...basic }),
      "403 ErrorAccessDenied",
    );
  });

  test("a mailbox of a fake Exchange is there with the same mail, and its ids translate", async (t) => {
    const server = await withAnn(t);
    const exchange = await startExchange();
    t.after(exchange.stop);
    await exchange.addUser(BOB, "secret");
    await exchange.createFolder(BOB, "Orders");
    await exchange.append(BOB, "inbox", numbered(1), { isRead: true });
    await exchange.append(BOB, "Orders", numbered(2));
    const { twins, append } = await mirrored(exchange, server, BOB, ["Orders"]);
    assert.equal(twins.length, 2);
    assert.equal(server.isRead(BOB, twins[0]?.immutableId ?? ""), true);
    const later = await append("inbox", numbered(3));
    const all = [...twins, later];
    const folder = exchange.folderId(BOB, "Orders");
    const into = async (targetIdType: string, inputIds: string[]) => {
      const body = { inputIds, sourceIdType: "ewsId", targetIdType };
      const { value } = await json(server, `users/${BOB}/translateExchangeIds`, post(body));
      return (value as Json[]).map(({ targetId }) => targetId);
    };
    const immutable = await into(
      "restImmutableEntryId",
      all.map(({ ewsId }) => ewsId),
    );
    assert.deepEqual(
      immutable,
      all.map(({ immutableId }) => immutableId),
    );
    assert.deepEqual(await into("restId", [folder]), [server.folderId(BOB, "Orders")]);
    assert.equal(
      (await json(server, `users/${BOB}/mailFolders/${server.folderId(BOB, "inbox")}`))["totalItemCount"],
      2,
    );
  });

  test("a user is found by object id and name, and by an address in the directory alone; a rename keeps the object id", async (t) => {
    const server = await withAnn(t);
    await server.addUser("carl", { mail: "carl.smith@example.com", aliases: ["cs@example.com"] });
    const id = server.userId("carl");
    for (const name of [id, "carl@example.com", "CARL%40example.com"])
      assert.equal((await json(server, `users/${name}/mailFolders/inbox`))["displayName"], "Inbox");
    assert.equal(await refusal(server, "users/cs@example.com/mailFolders/inbox"), "404 ErrorInvalidUser");
    const filter = "$filter=proxyAddresses/any(p:p eq 'smtp:cs@example.com')&$select=id,userPrincipalName";
    assert.deepEqual((await json(server, `users?${filter}`))["value"], [{ id, userPrincipalName: "carl@example.com" }]);
    const mailOnly = { token: server.accessToken({ permissions: ["Mail.Read"] }) };
    assert.equal(await refusal(server, `users?${filter}`, mailOnly), "403 Authorization_RequestDenied");
    server.renameUser("carl", "karl");
    assert.equal(await refusal(server, "users/carl@example.com/messages"), "404 ErrorInvalidUser");
    assert.deepEqual((await json(server, `users/${id}/messages`))["value"], []);
    const own = { token: server.accessToken({ user: ANN }) };
    assert.equal((await json(server, "me/mailFolders/inbox", own))["displayName"], "Inbox");
    assert.equal(await refusal(server, `users/${id}/messages`, own), "403 ErrorAccessDenied");
    assert.equal(await refusal(server, "me/messages"), "400 BadRequest");
  });

  test("a message shows what was asked for and no more than may be read; what the server does not know it refuses", async (t) => {
    const server = await withAnn(t);
    const raw = message({ html: "<p>x</p>", attachments: [{ filename: "a.txt", content: "a" }] });
    const id = await server.append(ANN, "inbox", raw);
    const path = `${USER}/messages/${id}`;
    const get = async (query: string, more = {}) => json(server, `${path}?${query}`, more);
    assert.equal(((await get("$select=body"))["body"] as Json)["contentType"], "html");
    const asText = { headers: { prefer: 'IdType="ImmutableId", outlook.body-content-type="text"' } };
    assert.equal(((await get("$select=body", asText))["body"] as Json)["contentType"], "text");
    const headers = (await get("$select=internetMessageHeaders"))["internetMessageHeaders"] as Json[];
    assert.ok(headers.some(({ name }) => name === "Message-ID"));
    assert.equal("internetMessageHeaders" in (await get("")), false);
    assert.equal(((await get("$expand=attachments"))["attachments"] as Json[])[0]?.["name"], "a.txt");
    const basic = { token: server.accessToken({ permissions: ["Mail.ReadBasic.All"] }) };
    const seen = await get("", basic);
    assert.deepEqual(["body" in seen, "bodyPreview" in seen, seen["hasAttachments"]], [false, false, true]);
    assert.equal(await refusal(server, `${USER}/messages?$search="x"`), "501 NotImplemented");
    assert.equal(await refusal(server, `${USER}/nonsense`), "400 BadRequest");
    assert.equal(await refusal(server, `${USER}/%zz`), "400 BadRequest");
    assert.equal(await refusal(server, path, { method: "PUT", body: {} }), "405 ErrorInvalidRequest");
    assert.equal(await refusal(server, path, { method: "PATCH", body: "{" }), "400 BadRequest");
  });
});
