/** Proves that the fake Graph server sends, takes files, batches and translates ids as Graph does. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import PostalMime from "postal-mime";
import { ANN, ask, type Json, json, refusal, withAnn } from "./servers/graph/asking.ts";
import type { GraphServer } from "./servers/graph/server.ts";
import { message, numbered } from "./servers/mail.ts";
import { eventually } from "./servers/waiting.ts";

const BOB = "bob@example.com";
const USER = `users/${ANN}`;
const to = (address: string) => [{ emailAddress: { address, name: "Bob Б" } }];
const post = (body: object | string, headers: Record<string, string> = {}) => ({ method: "POST", body, headers });
const mime = (raw: Buffer) => post(raw.toString("base64"), { "content-type": "text/plain" });

/** The only message that was sent, once it is. */
async function sent(server: GraphServer) {
  await eventually(() => server.sent.length > 0, "the sent message");
  assert.equal(server.sent.length, 1);
  const [one] = server.sent;
  assert.ok(one);
  return { ...one, email: await PostalMime.parse(one.raw) };
}

describe("the fake Graph server's sending", () => {
  test("a draft keeps its immutable id until it lies in Sent Items, and can be asked for by its Message-ID", async (t) => {
    const server = await withAnn(t, { behaviour: { transportMs: 300 } });
    await server.addUser(BOB);
    const wish = {
      subject: "Привет",
      body: { contentType: "html", content: "<p>Grüße</p>" },
      toRecipients: to(BOB),
      bccRecipients: to("carl@elsewhere.example"),
      internetMessageId: "<own@us.example>",
      internetMessageHeaders: [{ name: "X-Ours", value: "yes" }],
      attachments: [
        {
          "@odata.type": "#microsoft.graph.fileAttachment",
          name: "ä.txt",
          contentType: "text/plain",
          contentBytes: "aGk=",
        },
      ],
      singleValueExtendedProperties: [{ id: "String {66f5a359-4659-4830-9070-00047ec6ac6e} Name Key", value: "k1" }],
    };
    const draft = await json(server, `${USER}/messages`, post(wish), 201);
    assert.deepEqual(
      [draft["isDraft"], draft["internetMessageId"], draft["hasAttachments"]],
      [true, "<own@us.example>", true],
    );
    const drafts = `${USER}/mailFolders/drafts/messages?$filter=`;
    const key =
      "singleValueExtendedProperties/any(p:p/id eq 'String {66f5a359-4659-4830-9070-00047ec6ac6e} Name Key' and p/value eq 'k1')";
    for (const filter of ["internetMessageId eq '<own@us.example>'", key])
      assert.equal(((await json(server, drafts + filter))["value"] as Json[])[0]?.["id"], draft["id"]);
    const path = `${USER}/messages/${draft["id"]}`;
    await json(server, path, { method: "PATCH", body: { subject: "Привет 2" } });
    assert.equal((await ask(server, `${path}/send`, { method: "POST" })).status, 202);
    assert.equal(await refusal(server, path), "404 ErrorItemNotFound");
    const one = await sent(server);
    assert.deepEqual([one.recipients, one.filedAs], [[BOB, "carl@elsewhere.example"], draft["id"]]);
    assert.deepEqual(
      [
        one.email.subject,
        one.email.html?.trim(),
        one.email.messageId,
        one.email.bcc,
        one.email.attachments[0]?.filename,
      ],
      ["Привет 2", "<p>Grüße</p>", "<own@us.example>", undefined, "ä.txt"],
    );
    assert.deepEqual(one.email.to?.[0], { name: "Bob Б", address: BOB });
    const there = await json(server, path);
    assert.deepEqual([there["isDraft"], there["parentFolderId"]], [false, server.folderId(ANN, "sentitems")]);
    assert.equal(await server.count(BOB, "inbox"), 1);
    assert.equal(await refusal(server, `${path}/send`, { method: "POST" }), "400 ErrorInvalidRequest");
    assert.equal(await refusal(server, path, { method: "PATCH", body: { subject: "no" } }), "403 ErrorAccessDenied");
  });

  test("sendMail takes JSON and MIME, and refuses what Exchange refuses", async (t) => {
    const server = await withAnn(t, { behaviour: { transportMs: 0 } });
    const text = { subject: "x", toRecipients: to("bob@elsewhere.example") };
    const send = (body: object) => post({ message: { ...text, ...body } });
    assert.equal((await ask(server, `${USER}/sendMail`, mime(numbered(1, { from: "eve@evil.example" })))).status, 202);
    const one = await sent(server);
    assert.deepEqual([one.from, one.recipients], [ANN, ["bob@receiver.example"]]);
    assert.equal(await server.count(ANN, "sentitems"), 1);
    const silent = post({ message: text, saveToSentItems: false });
    assert.equal((await ask(server, `${USER}/sendMail`, silent)).status, 202);
    assert.equal(await server.count(ANN, "sentitems"), 1);
    const refused = (more: ReturnType<typeof post>) => refusal(server, `${USER}/sendMail`, more);
    const headers = (count: number, start: string) =>
      send({ internetMessageHeaders: Array.from({ length: count }, (_, n) => ({ name: `${start}${n}`, value: "1" })) });
    assert.equal(await refused(headers(6, "x-")), "400 InvalidInternetMessageHeaderCollection");
    assert.equal(await refused(headers(1, "References")), "400 InvalidInternetMessageHeader");
    assert.equal(await refused(send({ toRecipients: [] })), "400 ErrorInvalidRecipients");
    assert.equal(
      await refused(send({ from: { emailAddress: { address: "boss@example.com" } } })),
      "403 ErrorSendAsDenied",
    );
    assert.equal(await refused(send({ inReplyTo: "<x@y>" })), "400 BadRequest");
    const badMime = post("?".repeat(8), { "content-type": "text/plain" });
    assert.equal(await refused(badMime), "400 ErrorMimeContentInvalidBase64String");
    assert.equal(await refused(mime(numbered(2, { bytes: 4_000_000 }))), "413 ErrorMessageSizeExceeded");
    const onlySend = { token: server.accessToken({ permissions: ["Mail.Send"] }) };
    assert.equal(await refusal(server, `${USER}/messages`, { ...post(text), ...onlySend }), "403 ErrorAccessDenied");
    assert.equal((await ask(server, `${USER}/sendMail`, { ...silent, ...onlySend })).status, 202);
    await server.addUser("boss@example.com", { delegates: [ANN] });
    const asBoss = send({ from: { emailAddress: { address: "boss@example.com" } } });
    assert.equal((await ask(server, `${USER}/sendMail`, asBoss)).status, 202);
    server.limits.sendsPerMinute = 4;
    assert.equal(await refused(silent), "429 ErrorExceededMessageLimit");
  });

  test("an answer can be lost before a message is sent and after it", async (t) => {
    const server = await withAnn(t, { behaviour: { transportMs: 0, replacesMessageIds: true } });
    const draft = await json(server, `${USER}/messages`, mime(numbered(1, { messageId: "<own@us.example>" })), 201);
    const path = `${USER}/messages/${draft["id"]}`;
    server.faults.once("sendDraft", { cut: "before" });
    await assert.rejects(ask(server, `${path}/send`, { method: "POST" }));
    assert.equal((await json(server, path))["isDraft"], true);
    server.faults.once("sendDraft", { after: { status: 504, body: "" } });
    assert.equal((await ask(server, `${path}/send`, { method: "POST" })).status, 504);
    assert.notEqual((await sent(server)).messageId, "<own@us.example>");
    assert.equal((await json(server, path))["isDraft"], false);
  });

  test("files are listed, read, added and removed; large ones come in ordered pieces to another server", async (t) => {
    const server = await withAnn(t);
    const raw = message({
      html: "<img src=cid:a>",
      attachments: [
        { filename: "a.png", type: "image/png", content: "i", cid: "a" },
        { filename: "b.bin", content: Buffer.from([0, 255]) },
      ],
    });
    const id = await server.append(ANN, "inbox", raw);
    const list = async (of: unknown) =>
      (await json(server, `${USER}/messages/${of}/attachments?$select=id,name,size,isInline`))["value"] as Json[];
    const [inline, file] = await list(id);
    assert.deepEqual([inline?.["isInline"], file?.["name"], "contentBytes" in (file ?? {})], [true, "b.bin", false]);
    const content = await ask(server, `${USER}/messages/${id}/attachments/${file?.["id"]}/$value`);
    assert.deepEqual(Buffer.from(await content.arrayBuffer()), Buffer.from([0, 255]));
    const draft = (await json(server, `${USER}/messages`, post({ subject: "x" }), 201))["id"];
    const files = `${USER}/messages/${draft}/attachments`;
    const small = await json(
      server,
      files,
      post({ "@odata.type": "#microsoft.graph.fileAttachment", name: "s", contentBytes: "aGk=" }),
      201,
    );
    assert.equal((await ask(server, `${files}/${small["id"]}`, { method: "DELETE" })).status, 204);
    const size = 5_000_000;
    const item = { attachmentType: "file", name: "large.bin", size };
    const session = (more: object = {}) => post({ AttachmentItem: { ...item, ...more } });
    const create = `${files}/createUploadSession`;
    assert.equal(
      await refusal(server, create, session({ size: 10 })),
      "400 ErrorAttachmentSizeShouldNotBeLessThanMinimumSize",
    );
    const { uploadUrl } = await json(server, create, session(), 201);
    assert.notEqual(new URL(String(uploadUrl)).origin, server.root);
    const put = (from: number, end: number, headers: object = {}) => {
      const range = { "content-range": `bytes ${from}-${end - 1}/${size}`, ...headers };
      return fetch(String(uploadUrl), { method: "PUT", headers: range, body: Buffer.alloc(end - from, 7) });
    };
    assert.equal((await put(0, 4_000_000, { authorization: "Bearer x" })).status, 401);
    assert.equal((await put(4_000_000, size)).status, 416);
    const first = (await (await put(0, 4_000_000)).json()) as Json;
    assert.deepEqual(first["nextExpectedRanges"], ["4000000"]);
    assert.equal((await put(0, 4_000_000)).status, 416);
    const last = await put(4_000_000, size);
    assert.equal(last.status, 201);
    assert.match(last.headers.get("location") ?? "", /Attachments\('/);
    assert.deepEqual(
      (await list(draft)).map(({ name }) => name),
      ["large.bin"],
    );
    server.limits.uploadBytes = size;
    const again = await json(server, create, session(), 201);
    const over = await fetch(String(again["uploadUrl"]), {
      method: "PUT",
      headers: { "content-range": `bytes 0-0/${size}` },
      body: Buffer.alloc(1),
    });
    assert.equal(over.status, 429);
  });

  test("a person signs in once for each code, proven by the verifier", async (t) => {
    const server = await withAnn(t);
    server.signIn(ANN);
    const verifier = "v".repeat(50);
    const hash = await crypto.subtle.digest("SHA-256", Buffer.from(verifier));
    const callback = "http://127.0.0.1:9999/callback";
    const scope = `openid offline_access ${server.root}/Mail.ReadWrite`;
    const query = new URLSearchParams({
      client_id: server.clientId,
      response_type: "code",
      redirect_uri: callback,
      scope,
      state: "s1",
      code_challenge: Buffer.from(hash).toString("base64url"),
      code_challenge_method: "S256",
    });
    const base = `${server.tokenRoot}/common/oauth2/v2.0`;
    const signIn = async () => {
      const answer = await fetch(`${base}/authorize?${query}`, { redirect: "manual" });
      return new URL(answer.headers.get("location") ?? "").searchParams;
    };
    const redeem = async (code: string | null, more: object = {}) => {
      const form = { grant_type: "authorization_code", client_id: server.clientId, client_secret: server.clientSecret };
      const body = new URLSearchParams({
        ...form,
        code: code ?? "",
        redirect_uri: callback,
        code_verifier: verifier,
        ...more,
      });
      return (await (await fetch(`${base}/token`, { method: "POST", body })).json()) as Json;
    };
    const back = await signIn();
    assert.equal(back.get("state"), "s1");
    const given = await redeem(back.get("code"));
    assert.equal(given["scope"], `${server.root}/Mail.ReadWrite`);
    const claims = JSON.parse(
      Buffer.from(String(given["id_token"]).split(".")[1] ?? "", "base64url").toString(),
    ) as Json;
    assert.deepEqual(
      [claims["preferred_username"], claims["tid"], claims["oid"]],
      [ANN, server.tenant, server.userId(ANN)],
    );
    assert.ok(given["refresh_token"]);
    assert.deepEqual((await redeem(back.get("code")))["error_codes"], [54005]);
    assert.deepEqual((await redeem((await signIn()).get("code"), { code_verifier: "other" }))["error_codes"], [501481]);
    server.signIn(undefined);
    assert.equal((await signIn()).get("error"), "access_denied");
  });
});
