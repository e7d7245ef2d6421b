/** Large mail through Exchange, connections that break on the way, and a service that is killed: never two copies, no draft left behind. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import type { Fault } from "./servers/exchange/faults.ts";
import { startSluice } from "./servers/sluice.ts";
import { type ExchangeScene, exchangeScene } from "./stories/exchange.ts";

const MB = 1024 * 1024;
/** More than the system's buffers hold on the way: what lies there counts as handed over. */
const BEYOND_BUFFERS = 12 * MB;
const base64 = (bytes: Buffer) => bytes.toString("base64");
const hash = (content: Uint8Array | null) =>
  createHash("sha256")
    .update(content ?? "")
    .digest("hex");

const file = (name: string, bytes: number) => ({ filename: name, content: base64(randomBytes(bytes)) });

describe("large mail through Exchange", { timeout: 600_000 }, () => {
  let s: ExchangeScene;
  before(async () => {
    s = await exchangeScene();
  });
  after(() => s.end());
  const operations = (from: number) => s.exchange.calls.slice(from).map(({ operation }) => operation);

  test("what is too large for one request is sent whole as a draft with its files added one by one", async () => {
    const { id, address } = await s.sender();
    s.exchange.limits.messageBytes = 60 * MB;
    const [first, earlier] = [s.exchange.calls.length, s.exchange.sent.length];
    const attachments = [
      file("a <&> é.bin", 12 * MB),
      { ...file("logo.png", 8 * MB), contentId: "logo", disposition: "inline" },
      file("small.bin", 1000),
    ];
    const html = '<p>Look <img src="cid:logo"></p>';
    const message = { text: "Look", html, attachments, bcc: ["eve@example.net"], messageId: "<large@example.com>" };
    const { body } = await s.send(id, message);
    await s.until(body.id, "sent", 120_000);
    assert.deepEqual(operations(first), ["FindItem", "CreateItem", "CreateAttachment", "SendItem"]);
    assert.equal(s.exchange.sent.length - earlier, 1);
    const { raw, recipients } = s.exchange.sent.at(-1) ?? assert.fail();
    assert.deepEqual(recipients, ["bob@example.net", "eve@example.net"]);
    const got = await parseMessage(raw, { maxAttachmentBytes: 100 * MB });
    assert.deepEqual([got.messageId, got.text?.trim()], ["<large@example.com>", "Look"]);
    assert.ok(got.html?.includes("cid:logo"));
    assert.deepEqual(
      got.attachments.map((one) => [one.filename, one.contentId, hash(one.content)].join()).toSorted(),
      attachments
        .map((one) =>
          [one.filename, "contentId" in one ? one.contentId : null, hash(Buffer.from(one.content, "base64"))].join(),
        )
        .toSorted(),
    );
    assert.deepEqual(s.exchange.items(address, "drafts"), []);
    assert.equal(s.exchange.items(address, "sentitems").length, 1);
  });

  test("a server with a smaller limit is met: the same message goes in parts after its refusal", async () => {
    const { id, address } = await s.sender();
    const { requestBytes } = s.exchange.limits;
    s.exchange.limits.requestBytes = 2 * MB;
    try {
      const first = s.exchange.calls.length;
      const attachments = [file("a.bin", MB), file("b.bin", MB), file("c.bin", 1000)];
      const { body } = await s.send(id, { attachments });
      assert.equal((await s.until(body.id, "sent", 120_000)).attempts, 1);
      assert.deepEqual(operations(first).slice(-4), ["CreateItem", "CreateAttachment", "CreateAttachment", "SendItem"]);
      const tooLarge = await s.send(id, { attachments: [file("d.bin", 3 * MB)] });
      assert.match((await s.until(tooLarge.body.id, "failed", 120_000)).reason, /larger/);
      const text = await s.send(id, { text: "x".repeat(3 * MB) });
      assert.match((await s.until(text.body.id, "failed", 120_000)).reason, /cannot be taken out/);
      assert.deepEqual(s.exchange.items(address, "drafts"), []);
    } finally {
      s.exchange.limits.requestBytes = requestBytes;
    }
  });

  /** What a fault at an operation of the large way leads to. A draft whose fate is unknown stays. */
  type Case = { at: string; fault: Fault; ends: string; copies: number; drafts: number };
  const cases: Case[] = [
    { at: "FindItem", fault: { status: 503, retryAfter: 1 }, ends: "sent", copies: 1, drafts: 0 },
    { at: "CreateAttachment", fault: { cut: "before" }, ends: "sent", copies: 1, drafts: 0 },
    { at: "CreateAttachment", fault: { cut: "after" }, ends: "sent", copies: 1, drafts: 0 },
    {
      at: "CreateAttachment",
      fault: { responseCode: "ErrorAttachmentSizeLimitExceeded" },
      ends: "failed",
      copies: 0,
      drafts: 0,
    },
    { at: "SendItem", fault: { responseCode: "ErrorServerBusy", backOffMs: 100 }, ends: "sent", copies: 1, drafts: 0 },
    { at: "SendItem", fault: { responseCode: "ErrorInvalidRecipients" }, ends: "failed", copies: 0, drafts: 0 },
    { at: "SendItem", fault: { cut: "before" }, ends: "unknown", copies: 0, drafts: 1 },
    { at: "SendItem", fault: { cut: "after" }, ends: "unknown", copies: 1, drafts: 0 },
  ];

  for (const { at, fault, ends, copies, drafts } of cases) {
    test(`with ${JSON.stringify(fault)} at ${at} it is ${ends}, sent ${copies} times, and ${drafts} drafts remain`, async () => {
      const { id, address } = await s.sender();
      const { requestBytes } = s.exchange.limits;
      s.exchange.limits.requestBytes = 2 * MB;
      const earlier = s.exchange.sent.length;
      s.exchange.faults.once(at, fault, { user: address });
      try {
        const { body } = await s.send(id, { attachments: [file("a.bin", MB), file("b.bin", MB)] });
        await s.until(body.id, ends, 120_000);
        await new Promise((resolve) => setTimeout(resolve, ends === "unknown" ? 300 : 20));
      } finally {
        s.exchange.limits.requestBytes = requestBytes;
      }
      assert.equal(s.exchange.sent.length - earlier, copies);
      assert.equal(s.exchange.items(address, "drafts").length, drafts);
      assert.equal(s.exchange.faults.left(), 0);
    });
  }
});

describe("a service that is killed while it sends by Exchange", { timeout: 600_000 }, () => {
  let s: ExchangeScene;
  before(async () => {
    s = await exchangeScene();
  });
  after(() => s.end());

  test("while the message is on its way: it is sent after the restart, once", async () => {
    const sluice = await startSluice(s.exchange.port);
    try {
      const { id } = await s.sender({ receive: { url: `http://127.0.0.1:${sluice.port}/EWS/Exchange.asmx` } });
      const earlier = s.exchange.sent.length;
      sluice.close(200_000);
      const { body } = await s.send(id, { attachments: [file("a.bin", BEYOND_BUFFERS)] });
      await sluice.full();
      await s.service.kill();
      sluice.open();
      await s.service.start();
      await s.until(body.id, "sent", 120_000);
      assert.equal(s.exchange.sent.length - earlier, 1);
    } finally {
      await sluice.stop();
    }
  });

  test("while the server works on it: unknown, and never sent again", async () => {
    const { id } = await s.sender();
    const earlier = s.exchange.sent.length;
    s.exchange.faults.once("CreateItem", { delayMs: 1_500 });
    const first = s.exchange.calls.length;
    const { body } = await s.send(id);
    await s.service.until("the request", () => s.exchange.calls.length > first);
    await s.service.kill();
    await s.service.start();
    await s.until(body.id, "unknown", 120_000);
    await new Promise((resolve) => setTimeout(resolve, 1_800));
    assert.ok(s.exchange.sent.length - earlier <= 1);
    assert.equal((await s.service.call("GET", `/api/v1/messages/${body.id}`)).body.state, "unknown");
  });

  test("while its files are added: the draft is found again and deleted, and the message is sent once", async () => {
    const { id, address } = await s.sender();
    const { requestBytes } = s.exchange.limits;
    s.exchange.limits.requestBytes = 2 * MB;
    try {
      const earlier = s.exchange.sent.length;
      s.exchange.faults.once("CreateAttachment", { hang: true });
      const { body } = await s.send(id, { attachments: [file("a.bin", MB), file("b.bin", MB)] });
      await s.service.until("the request", () => s.exchange.faults.left() === 0);
      await s.service.kill();
      assert.equal(s.exchange.items(address, "drafts").length, 1);
      await s.service.start();
      await s.until(body.id, "sent", 120_000);
      assert.equal(s.exchange.sent.length - earlier, 1);
      assert.deepEqual(s.exchange.items(address, "drafts"), []);
    } finally {
      s.exchange.limits.requestBytes = requestBytes;
    }
  });

  test("by a stop in order: what is not handed over yet is sent by the next process", async () => {
    const sluice = await startSluice(s.exchange.port);
    try {
      const { id } = await s.sender({ receive: { url: `http://127.0.0.1:${sluice.port}/EWS/Exchange.asmx` } });
      const earlier = s.exchange.sent.length;
      sluice.close(200_000);
      const { body } = await s.send(id, { attachments: [file("a.bin", BEYOND_BUFFERS)] });
      await sluice.full();
      const { code } = await s.service.stop();
      assert.equal(code, 0);
      sluice.open();
      await s.service.start();
      await s.until(body.id, "sent", 120_000);
      assert.equal(s.exchange.sent.length - earlier, 1);
    } finally {
      await sluice.stop();
    }
  });
});

test(
  "a connection that breaks before the end of a message costs another attempt, never a second copy",
  { timeout: 300_000 },
  async () => {
    const s = await exchangeScene();
    const sluice = await startSluice(s.exchange.port);
    try {
      const { id } = await s.sender({ receive: { url: `http://127.0.0.1:${sluice.port}/EWS/Exchange.asmx` } });
      sluice.close(200_000);
      const { body } = await s.send(id, { attachments: [file("a.bin", BEYOND_BUFFERS)] });
      await sluice.full();
      sluice.cut();
      sluice.open();
      const sending = await s.until(body.id, "sent", 120_000);
      assert.ok(sending.attempts >= 1);
      assert.equal(s.exchange.sent.length, 1);
    } finally {
      await s.end();
      await sluice.stop();
    }
  },
);
