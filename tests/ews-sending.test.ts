/** Mail that goes out through Exchange: whole, under its own Message-ID, to whom it is for, once; `unknown` only where nobody can know. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { ewsBody, imapBody, PASSWORD, register } from "./bodies.ts";
import type { Fault } from "./servers/exchange/faults.ts";
import { type ExchangeScene, exchangeScene } from "./stories/exchange.ts";

const base64 = (bytes: Buffer | string) => Buffer.from(bytes).toString("base64");

/** What a fault of the request that sends, once, leads to in the end, and how many copies the server has sent then. */
type Case = { fault: Fault; ends: "sent" | "failed" | "unknown"; copies: 0 | 1; says?: RegExp };

const CASES: Case[] = [
  { fault: { responseCode: "ErrorServerBusy", backOffMs: 200 }, ends: "sent", copies: 1 },
  { fault: { responseCode: "ErrorQuotaExceeded" }, ends: "sent", copies: 1 },
  { fault: { responseCode: "ErrorSubmissionQuotaExceeded" }, ends: "sent", copies: 1 },
  { fault: { responseCode: "ErrorMailboxMoveInProgress" }, ends: "sent", copies: 1 },
  { fault: { responseCode: "ErrorMailboxStoreUnavailable" }, ends: "sent", copies: 1 },
  { fault: { responseCode: "ErrorSomethingNew" }, ends: "sent", copies: 1 },
  { fault: { responseCode: "ErrorInvalidRecipients" }, ends: "failed", copies: 0, says: /does not accept a recipient/ },
  { fault: { responseCode: "ErrorMessageSizeExceeded" }, ends: "failed", copies: 0, says: /larger than Exchange/ },
  { fault: { responseCode: "ErrorSendAsDenied" }, ends: "failed", copies: 0, says: /ErrorSendAsDenied/ },
  { fault: { responseCode: "ErrorMessageSubmissionBlocked" }, ends: "failed", copies: 0, says: /may not send/ },
  { fault: { responseCode: "ErrorMimeContentInvalid" }, ends: "failed", copies: 0 },
  { fault: { responseCode: "ErrorInternalServerError" }, ends: "unknown", copies: 0 },
  { fault: { soapFault: "ErrorServerBusy", backOffMs: 200 }, ends: "sent", copies: 1 },
  { fault: { soapFault: "ErrorSchemaValidation" }, ends: "failed", copies: 0 },
  { fault: { soapFault: "ErrorInternalServerError" }, ends: "unknown", copies: 0 },
  { fault: { status: 503, retryAfter: 1 }, ends: "sent", copies: 1 },
  { fault: { status: 429, retryAfter: 1 }, ends: "sent", copies: 1 },
  { fault: { status: 403 }, ends: "failed", copies: 0, says: /forbids/ },
  { fault: { status: 500 }, ends: "unknown", copies: 0 },
  { fault: { status: 502 }, ends: "unknown", copies: 0 },
  { fault: { status: 504 }, ends: "unknown", copies: 0 },
  { fault: { redirect: "https://elsewhere.example/" }, ends: "sent", copies: 1 },
  { fault: { cut: "before" }, ends: "unknown", copies: 0 },
  { fault: { cut: "after" }, ends: "unknown", copies: 1 },
  { fault: { cut: 150 }, ends: "unknown", copies: 1 },
  { fault: { cut: 700 }, ends: "unknown", copies: 1 },
];

describe("sending by Exchange", { timeout: 240_000 }, () => {
  let s: ExchangeScene;
  before(async () => {
    s = await exchangeScene({ BACKOFF_SCALE: "0.002" }, { tls: true });
  });
  after(() => s.end());

  const sent = async (id: string, message: object = {}) => {
    const earlier = s.exchange.sent.length;
    const answer = await s.send(id, message, { wait: 25 });
    assert.equal(answer.status, 200, JSON.stringify(answer.body));
    assert.equal(answer.body.state, "sent", JSON.stringify(answer.body));
    const [one, ...more] = s.exchange.sent.slice(earlier);
    assert.deepEqual([one === undefined, more.length], [false, 0]);
    return { answer, raw: one?.raw ?? Buffer.alloc(0), recipients: one?.recipients ?? [], savedTo: one?.savedTo };
  };

  test("a message arrives whole under its own Message-ID, with a copy among the sent ones; Bcc is told to nobody", async () => {
    const { id, address } = await s.sender();
    const message = {
      to: [{ name: "Bób", address: "bob@example.net" }],
      cc: ["Carol <carol@example.net>"],
      bcc: ["dave@bücher.example", "erin@example.net"],
      subject: "Grüße, 世界 <&>",
      text: "Hello\n.\n..dots ]]> &amp;\n",
      attachments: [{ filename: "résumé.txt", content: base64("a\r\nb") }],
      messageId: "<kept.as.it.is@example.com>",
    };
    const { answer, raw, recipients, savedTo } = await sent(id, message);
    assert.equal(answer.body.messageId, message.messageId);
    assert.equal(answer.body.serverMessageId, null);
    assert.deepEqual(recipients.toSorted(), [
      "bob@example.net",
      "carol@example.net",
      "dave@xn--bcher-kva.example",
      "erin@example.net",
    ]);
    assert.equal(savedTo, "sentitems");
    const got = await parseMessage(raw, { maxAttachmentBytes: 1e6 });
    assert.deepEqual([got.messageId, got.subject, got.from?.address], [message.messageId, message.subject, address]);
    assert.equal(got.text?.replaceAll("\r\n", "\n"), message.text);
    assert.deepEqual(
      got.attachments.map(({ filename, content }) => [filename, Buffer.from(content ?? []).toString("base64")]),
      [["résumé.txt", base64("a\r\nb")]],
    );
    assert.ok(!/dave|erin/.test(raw.toString("latin1")), "Bcc is told to nobody");
    assert.deepEqual(
      s.exchange.items(address, "sentitems").map(({ raw: copy }) => /kept\.as\.it\.is/.test(copy.toString("latin1"))),
      [true],
    );
  });

  test("without copies nothing is filed; one key is one message", async () => {
    const { id, address } = await s.sender({ send: { saveSent: "never" } });
    const earlier = s.exchange.sent.length;
    const answers = await Promise.all(Array.from({ length: 8 }, () => s.send(id, {}, { key: "order-1", wait: 20 })));
    assert.deepEqual(new Set(answers.map(({ body }) => body.state)), new Set(["sent"]));
    assert.equal(s.exchange.sent.length - earlier, 1);
    assert.deepEqual(s.exchange.items(address, "sentitems"), []);
  });

  test("a shared mailbox sends by delegation and by impersonation, its copy in its own folder", async () => {
    for (const access of ["delegate", "impersonate"]) {
      const login = `${access}-login@example.com`;
      await s.exchange.addUser(login, PASSWORD);
      const shared = `${access}-shared@example.com`;
      await s.exchange.addUser(shared, "unknown", { delegates: [login], impersonators: [login] });
      const receive = { access, auth: { user: login, password: PASSWORD } };
      const { id } = await registered(shared, receive);
      const { raw } = await sent(id);
      assert.match(raw.toString("latin1"), new RegExp(`^From: .*${shared}`, "im"));
      assert.equal(s.exchange.items(shared, "sentitems").length, 1);
      assert.equal(s.exchange.items(login, "sentitems").length, 0);
    }
  });

  const registered = async (address: string, receive: object) => {
    const id = await register(s.service, ewsBody(s.exchange, address, { receive, send: {} }));
    await s.service.call("POST", `/api/v1/mailboxes/${id}/pause`);
    return { id };
  };

  test("what Exchange would send to others than it is for, or cannot do, is refused with the field named", async () => {
    const { id, address } = await s.sender();
    const ready = `From: ${address}\r\nTo: bob@example.net, carol@example.net\r\nSubject: x\r\n\r\nx`;
    const narrowed = await s.send(id, {
      to: ["bob@example.net"],
      subject: undefined,
      text: undefined,
      raw: base64(ready),
    });
    assert.equal(narrowed.status, 422, JSON.stringify(narrowed.body));
    assert.match(JSON.stringify(narrowed.body), /carol@example\.net/);
    const wrong: [object, string][] = [
      [{ host: "smtp.example.com" }, "send.host"],
      [{ tls: "implicit" }, "send.tls"],
      [{ dkim: { domain: "example.com", selector: "s", privateKey: "k" } }, "send.dkim"],
    ];
    for (const [send, path] of wrong) {
      const answer = await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, { send });
      assert.equal(answer.status, 422);
      assert.deepEqual(answer.body.errors[0].path, path);
    }
    const body = imapBody({ imapPort: 143 }, address, { send: { protocol: "ews" } });
    assert.equal((await s.service.call("POST", "/api/v1/mailboxes", body)).body.errors[0].path, "send.protocol");
  });

  test("a refused login is tried once and fails the message in the server's words", async () => {
    const { id } = await s.sender({ receive: { auth: { user: "nobody@example.com", password: "wrong" } } });
    const { body } = await s.send(id, {}, { wait: 20 });
    assert.equal(body.state, "failed");
    assert.match(body.reason, /refused user name or password/);
  });

  test("with NTLM the login comes before the message, which goes on its way once", async () => {
    const earlier = s.exchange.schemes;
    s.exchange.schemes = ["ntlm"];
    try {
      const { id } = await s.sender();
      const first = s.exchange.calls.length;
      await sent(id);
      assert.deepEqual(
        s.exchange.calls.slice(first).map(({ operation }) => operation),
        ["CreateItem"],
      );
    } finally {
      s.exchange.schemes = earlier;
    }
  });

  test("trying it out asks the server, with the login that sends", async () => {
    const { id, address } = await s.sender();
    const { body } = await s.service.call("GET", `/api/v1/mailboxes/${id}`);
    const tried = async (send: object) => {
      const whole = ewsBody(s.exchange, address, { send, deliver: body.deliver });
      const { body: report } = await s.service.call("POST", "/api/v1/mailboxes/validate", whole);
      return report.steps.find(({ name }: { name: string }) => name === "send");
    };
    assert.equal((await tried({})).ok, true);
    const wrong = await tried({ auth: { user: address, password: "wrong" } });
    assert.equal(wrong.ok, false);
    assert.match(wrong.cause, /refused user name or password/);
  });

  for (const { fault, ends, copies, says } of CASES) {
    test(`with ${JSON.stringify(fault)} the message is ${ends}, and the server sent it ${copies === 1 ? "once" : "not"}`, async () => {
      const { id } = await s.sender();
      const earlier = s.exchange.sent.length;
      s.exchange.faults.once("CreateItem", fault);
      const { body } = await s.send(id);
      const sending = await s.until(body.id, ends, 60_000);
      if (says) assert.match(sending.reason, says);
      if (ends !== "sent") assert.equal(sending.recipients[0].state, ends);
      // Time for a second copy, were there one.
      await new Promise((resolve) => setTimeout(resolve, ends === "unknown" ? 300 : 20));
      assert.equal(s.exchange.sent.length - earlier, copies);
      assert.equal(s.exchange.faults.left(), 0);
    });
  }
});
