/** What downloading from Exchange promises: the bytes that the server has, each message for itself. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import PostalMime from "postal-mime";
import type { Problem } from "../shared/contract/problem.ts";
import { downloadMime } from "../shared/mail/ews/items/mime-content.ts";
import { type EwsSession, openEws } from "../shared/mail/ews/client/session.ts";
import { PASSWORD } from "./bodies.ts";
import { exchangeDeps, exchangeMailbox } from "./promises/exchange-rig.ts";
import { all, isProblem } from "./promises/mailbox-rig.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { message, numbered } from "./servers/mail.ts";

const { signal } = new AbortController();

describe("Downloading from Exchange", () => {
  let server: Exchange;
  let session: EwsSession;
  before(async () => {
    server = await startExchange({ chunkBytes: 1000 });
    await server.addUser("a@example.com", PASSWORD);
  });
  // Each on its own: what one learnt of a busy server would keep the next one waiting.
  beforeEach(async () => {
    session = await openEws(exchangeDeps(), exchangeMailbox("a@example.com", server.url), signal);
  });
  afterEach(() => session.close());
  after(() => server.stop());

  test("several messages come in one request, byte for byte, with what the server knows of them", async () => {
    const raws = [1, 2, 3].map((at) => Buffer.concat([Buffer.from(numbered(at)), Buffer.from([0x80, 0xff, 0x0a])]));
    const ids: string[] = [];
    for (const [at, raw] of raws.entries())
      ids.push(await server.append("a@example.com", "inbox", raw, { isRead: at === 1 }));
    const calls = server.calls.length;
    const got = await all(downloadMime(session, ids, signal));
    assert.equal(server.calls.length, calls + 1);
    assert.deepEqual(
      got.map((one) => one.id),
      ids,
    );
    assert.deepEqual(
      got.map((one) => "raw" in one && Buffer.from(one.raw)),
      raws,
    );
    assert.deepEqual(
      got.map((one) => "raw" in one && one.flags),
      [[], ["\\Seen"], []],
    );
  });

  test("a message that is gone, or that the server cannot give, does not keep the others back", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(4), numbered(5), numbered(6)]);
    server.remove("a@example.com", ids[1]!);
    const got = await all(downloadMime(session, [ids[0]!, ids[1]!, "no id at all", ids[2]!], signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? "raw" : one.problem === "gone" ? "gone" : one.problem.code)),
      ["raw", "gone", "message", "raw"],
    );
  });

  for (const code of ["ErrorInternalServerError", "ErrorAccessDenied", "ErrorMailboxStoreUnavailable", "ErrorNew"]) {
    test(`a message that the server refuses with ${code} keeps no other of its request back`, async () => {
      const ids = await server.appendMany("a@example.com", "inbox", [numbered(30), numbered(31), numbered(32)]);
      server.refuseItem(ids[1]!, code);
      const got = await all(downloadMime(session, ids, signal));
      assert.deepEqual(
        got.filter((one) => "raw" in one).map(({ id }) => id),
        [ids[0], ids[2]],
      );
      const refused = got.find(({ id }) => id === ids[1]);
      assert.ok(refused && "problem" in refused && isProblem("message")(refused.problem));
      assert.match((refused.problem as Problem).evidence ?? "", new RegExp(code));
    });
  }

  test("a message without MIME content in an answer that says success is put together from its parts", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(40), numbered(41)]);
    server.withholdMime(ids[0]!);
    const got = await all(downloadMime(session, ids, signal));
    assert.deepEqual(
      new Map(got.map((one) => [one.id, "raw" in one && /Subject: (.*)\r/.exec(Buffer.from(one.raw).toString())?.[1]])),
      new Map([
        [ids[1], "Message 41"],
        [ids[0], "Message 40"],
      ]),
    );
  });

  test("a file that the server does not give is left out of its message, and the message says which", async () => {
    const attachments = ["one.txt", "two.txt"].map((filename) => ({ filename, content: Buffer.from(filename) }));
    const raw = message({ subject: "two files", attachments });
    const id = await server.append("a@example.com", "inbox", raw);
    server.withholdMime(id);
    server.faults.once("GetAttachment", { responseCode: "ErrorCannotOpenFileAttachment" }, { times: 2 });
    const [got] = await all(downloadMime(session, [id], signal));
    assert.ok(got && "raw" in got);
    const files = (await PostalMime.parse(got.raw)).attachments.map(({ filename }) => filename);
    assert.deepEqual(files, ["two.txt"]);
    assert.equal(got.leftOut?.length, 1);
    assert.match(got.leftOut?.[0] ?? "", /"one\.txt": ErrorCannotOpenFileAttachment/);
    server.faults.once("GetAttachment", { responseCode: "ErrorInternalServerError" });
    const [again] = await all(downloadMime(session, [id], signal));
    assert.ok(again && "raw" in again && again.leftOut === undefined, "a file is requested twice");
    server.faults.once("GetAttachment", { responseCode: "ErrorServerBusy" });
    await assert.rejects(() => all(downloadMime(session, [id], signal)), isProblem("throttled"));
  });

  test("what concerns the mailbox ends the request: it is no fault of a message", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(7)]);
    server.faults.once("GetItem", { responseCode: "ErrorMailboxStoreUnavailable" });
    await assert.rejects(() => all(downloadMime(session, ids, signal)), isProblem("unavailable", "later"));
    server.faults.once("GetItem", { responseCode: "ErrorServerBusy", backOffMs: 2000 });
    await assert.rejects(() => all(downloadMime(session, ids, signal)), isProblem("throttled"));
  });

  test("a message that the server cannot give as a whole is put together from its parts, always the same way", async () => {
    const file = Buffer.from(Array.from({ length: 200_000 }, (_, at) => (at * 7) % 256));
    const attachments = [
      { filename: "Bericht – März.pdf", type: "application/pdf", content: file },
      { filename: "logo.png", type: "image/png", content: Buffer.from([1, 2, 3]), cid: "logo@example.com" },
    ];
    const subject = "Größe – " + "long ".repeat(300);
    const raw = message({ subject, from: "Jörg <j@example.com>", html: "<p>Grüße</p>", attachments });
    const id = await server.append("a@example.com", "inbox", raw, { isRead: true });
    const got = [];
    for (const code of ["ErrorMimeContentConversionFailed", "ErrorMessageSizeExceeded"]) {
      server.faults.once("GetItem", { responseCode: code });
      got.push(...(await all(downloadMime(session, [id], signal))));
    }
    const [one, two] = got;
    assert.ok(one && two && "raw" in one && "raw" in two);
    assert.deepEqual(one.flags, ["\\Seen"]);
    assert.deepEqual(Buffer.from(one.raw), Buffer.from(two.raw));
    const [was, is] = [await PostalMime.parse(raw), await PostalMime.parse(one.raw)];
    const told = ({ subject: about, from, to, date, messageId, html }: typeof was) => ({
      about: about?.trim(),
      from,
      to,
      date,
      messageId,
      html: html?.trim(),
    });
    assert.deepEqual(told(is), told(was));
    const filesOf = (letter: typeof was) =>
      letter.attachments.map(({ filename, mimeType, contentId, content }) => ({
        filename,
        mimeType,
        contentId,
        content: Buffer.from(content as ArrayBuffer),
      }));
    assert.deepEqual(filesOf(is), filesOf(was));
    assert.ok(
      Buffer.from(one.raw)
        .toString("latin1")
        .split("\r\n")
        .every((line) => line.length <= 998),
    );
  });

  test("parts that cannot be had either are a Problem of that message alone", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(20)]);
    server.faults.once("GetItem", { responseCode: "ErrorMimeContentConversionFailed" }, { times: 2 });
    const [got] = await all(downloadMime(session, ids, signal));
    assert.ok(got && "problem" in got && isProblem("message")(got.problem));
    server.faults.once("GetItem", { responseCode: "ErrorMimeContentConversionFailed" });
    server.faults.once("GetItem", { responseCode: "ErrorServerBusy" });
    await assert.rejects(() => all(downloadMime(session, ids, signal)), isProblem("throttled"));
  });

  test("an answer that is cut gives the messages that are whole, then a Problem", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [
      numbered(8),
      "Subject: large\r\n\r\n".padEnd(200_000, "x"),
    ]);
    server.faults.once("GetItem", { cut: 50_000 });
    const got: string[] = [];
    const read = async () => {
      for await (const one of downloadMime(session, ids, signal)) got.push(one.id);
    };
    await assert.rejects(read, isProblem("connect"));
    assert.deepEqual(got, [ids[0]]);
  });

  test("a message of 60 MB is in memory as bytes, not as text", async () => {
    const large = await startExchange();
    const user = "b@example.com";
    await large.addUser(user, PASSWORD);
    const raw = Buffer.alloc(60 * 1024 * 1024, "0123456789abcdef\r\n");
    const id = await large.append(user, "inbox", raw);
    const its = await openEws(exchangeDeps(), exchangeMailbox(user, large.url), signal);
    const [got] = await all(downloadMime(its, [id], signal, raw.length));
    assert.ok(got && "raw" in got && Buffer.compare(got.raw, raw) === 0);
    await its.close();
    await large.stop();
  });
});
