/** What a person wrote: the letter without quotations and signatures, measured on letters of fourteen languages and many programs. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { oddLetters, replyLetters } from "./letters/replies.ts";

const parse = (type: string, body: string, header: string[] = []) =>
  parseMessage(
    Buffer.from(
      [...header, "From: John <john@example.org>", `Content-Type: ${type}; charset=utf-8`, "", body].join("\r\n"),
    ),
    { maxAttachmentBytes: 0 },
  );
const replyOf = async (type: string, body: string) => (await parse(type, body)).reply;

describe("The reply in a letter in plain text", () => {
  for (const { name, text, reply } of replyLetters) {
    test(`is what its sender wrote: ${name}`, async () => {
      assert.equal(await replyOf("text/plain", text), reply);
    });
  }

  for (const { name, text, reply } of oddLetters) {
    test(`keeps what only looks like a quotation: ${name}`, async () => {
      assert.equal(await replyOf("text/plain", text), reply);
    });
  }

  test("is found in flowed text, where lines of a quotation and an answer follow each other", async () => {
    const lines = [
      "Am 05.01.2026 um 10:00 schrieb Help:",
      "> Which order is it, ",
      "> and was it open?",
      "4711, it was ",
      "open.",
      ">> old ",
      ">> one",
      "> new one",
    ];
    const { text, reply } = await parse("text/plain; format=flowed", lines.join("\r\n"));
    assert.equal(reply, "4711, it was open.");
    assert.equal(
      text,
      "Am 05.01.2026 um 10:00 schrieb Help:\n> Which order is it, and was it open?\n4711, it was open.\n>> old one\n> new one",
    );
  });

  test("is null for a notification, and for a text that is too long for a letter", async () => {
    const bounce = await parse("text/plain", "<a@example.org>: 550 5.1.1 user unknown", [
      "Return-Path: <>",
      "From: MAILER-DAEMON",
      "Subject: Undelivered",
    ]);
    assert.ok(bounce.bounce);
    assert.equal(bounce.reply, null);
    assert.equal(await replyOf("text/plain", "word ".repeat(200_000)), null);
  });
});

describe("The reply in a letter in HTML alone", () => {
  const own = "<p>Thank you,<br>Tuesday suits me.</p>";
  const reply = "Thank you,\nTuesday suits me.";
  const quoted = "<p>Would Tuesday suit you?</p>";
  const wrote = "On Mon, Jan 5, 2026 at 10:00 AM Jane &lt;jane@example.com&gt; wrote:";
  const programs: [string, string][] = [
    [
      "Gmail",
      `<div dir="ltr">${own}</div><br><div class="gmail_quote"><div dir="ltr" class="gmail_attr">${wrote}<br></div><blockquote class="gmail_quote" style="margin:0 0 0 .8ex">${quoted}</blockquote></div>`,
    ],
    [
      "Gmail with a signature",
      `${own}<span class="gmail_signature_prefix">-- </span><br><div class="gmail_signature"><b>John</b></div><div class="gmail_quote">${wrote}<blockquote>${quoted}</blockquote></div>`,
    ],
    [
      "Thunderbird",
      `${own}<div class="moz-cite-prefix">On 05/01/2026 10:00, Jane wrote:<br></div><blockquote type="cite" cite="mid:1@x">${quoted}</blockquote><pre class="moz-signature">-- \nJohn</pre>`,
    ],
    [
      "Outlook on the web",
      `${own}<div id="appendonsend"></div><hr><div id="divRplyFwdMsg"><b>Any label:</b> Jane</div>${quoted}`,
    ],
    [
      "Outlook for telephones",
      `${own}<div id="ms-outlook-mobile-signature">Get Outlook for iOS</div><hr><div id="divRplyFwdMsg"></div>${quoted}`,
    ],
    [
      "Outlook",
      `${own}<div><div style="border:none;border-top:solid #E1E1E1 1.0pt;padding:3.0pt"><p><b>X:</b> Jane</p></div></div>${quoted}`,
    ],
    ["Yahoo", `${own}<div id="ydp1" class="yahoo_quoted"><div>${wrote}</div><div>${quoted}</div></div>`],
    [
      "Apple Mail",
      `${own}<div><br><blockquote type="cite"><div>On 5 Jan 2026, at 10:00, Jane wrote:</div>${quoted}</blockquote></div>`,
    ],
    ["Yandex", `${own}<p>05.01.2026, 10:00, "Jane" &lt;jane@example.com&gt;:</p><blockquote>${quoted}</blockquote>`],
    [
      "Proton",
      `${own}<div class="protonmail_signature_block">Sent with Proton</div><div class="protonmail_quote">${wrote}<blockquote>${quoted}</blockquote></div>`,
    ],
  ];
  for (const [name, html] of programs) {
    test(`is what its sender wrote: ${name}`, async () => {
      assert.equal(
        await replyOf("text/html", `<html><head><style>p { margin: 0 }</style></head><body>${html}</body></html>`),
        reply,
      );
    });
  }

  test("keeps what is only indented, and answers between quotations", async () => {
    const indented =
      '<p>Two things:</p><blockquote style="margin:0 0 0 40px;border:none;padding:0px">one, two</blockquote>';
    assert.equal(await replyOf("text/html", indented), "Two things:\n\none, two");
    assert.equal(
      await replyOf("text/html", "<blockquote>One?</blockquote><p>Yes.</p><blockquote>Two?</blockquote><p>No.</p>"),
      "Yes.\n\nNo.",
    );
  });
});
