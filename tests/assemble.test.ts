/** Messages assembled at once: byte for byte what the composer's own streams give. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import MailComposer from "nodemailer/lib/mail-composer";
import { assembleMessage } from "../shared/mail/smtp/assemble.ts";
import { composeMessage } from "../shared/mail/smtp/compose.ts";

const crlf = (text: string) => text.toWellFormed().replace(/\r\n|\r|\n/g, "\r\n");
const line = fc.string({ maxLength: 200, unit: "binary" }).map((text) => text.replaceAll("\0", ""));
const body = fc
  .array(fc.oneof(line, fc.constant("."), fc.constant(".."), fc.constant("=3D x  "), fc.constant("x".repeat(100))), {
    maxLength: 12,
  })
  .map((lines) => crlf(lines.join("\n")));
const file = fc.record(
  {
    filename: fc.oneof(fc.constant<false>(false), fc.string({ maxLength: 60, unit: "grapheme" })),
    content: fc.uint8Array({ maxLength: 600 }).map((bytes) => Buffer.from(bytes)),
    contentType: fc.constantFrom("text/plain", "application/pdf", "message/rfc822", "image/png"),
    cid: fc.constantFrom("one@example.com", "two@example.com"),
  },
  { requiredKeys: ["filename", "content"] },
);
const message = fc.record(
  { text: body, html: body, attachments: fc.array(file, { maxLength: 3 }), subject: line },
  { requiredKeys: [] },
);

describe("a message assembled at once", () => {
  test("is what the streams of the composer give, whatever is in it", () =>
    fc.assert(
      fc.asyncProperty(message, async (mail) => {
        const from = { name: "Ann", address: "ann@example.com" };
        const composer = new MailComposer({ from, to: "bob@example.net", newline: "win", ...mail });
        const node = composer.compile();
        const once = await assembleMessage(node);
        assert.equal(once.toString("latin1"), (await node.build()).toString("latin1"));
      }),
      { numRuns: 300 },
    ));

  test("is left to the streams when it is large", async () => {
    const content = Buffer.alloc(400_000, 7);
    const node = new MailComposer({ text: "x", newline: "win", attachments: [{ content, filename: "a" }] }).compile();
    assert.ok((await assembleMessage(node)).equals(await node.build()));
  });

  test("ends with a line end, and has none but CRLF", async () => {
    const people = { from: { name: "", address: "a@example.com" }, to: [], cc: [], bcc: [], replyTo: [] };
    const parts = { to: [], cc: [], bcc: [], attachments: [], headers: { "X-One": "1" } };
    for (const text of ["a\nb", "a\rb\r\n", "", ".", "\n.\n"]) {
      const { raw } = await composeMessage({ ...parts, text, html: text }, people, new Date());
      assert.ok(raw.toString().endsWith("\r\n"));
      assert.doesNotMatch(raw.toString(), /(^|[^\r])\n|\r([^\n]|$)/);
    }
  });
});
