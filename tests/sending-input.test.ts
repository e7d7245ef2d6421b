/** Whatever a client sends, the message on the wire has the headers and the recipients that were checked, and no others. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import addressparser from "nodemailer/lib/addressparser";
import * as v from "valibot";
import { OutgoingMessage } from "../shared/contract/outgoing.ts";
import { type FieldError, Problem } from "../shared/contract/problem.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { addressesIn, parties, plainAddress } from "../shared/mail/smtp/addresses.ts";
import { compose } from "../shared/mail/smtp/compose.ts";
import { checkHeaders } from "../shared/mail/smtp/headers.ts";
import { ready } from "../shared/mail/smtp/ready.ts";

/** Text with much of what has ever broken out of a header or an address. */
const nasty = fc
  .array(
    fc.oneof(
      fc.constantFrom(
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\u2028",
        "\u0085",
        "Bcc: eve@evil.example",
        " ",
        "\t",
        "\u00a0",
        "\u200b",
      ),
      fc.constantFrom(
        "<",
        ">",
        ",",
        ";",
        ":",
        '"',
        "\\",
        "(",
        ")",
        "[",
        "]",
        "@",
        ".",
        "=?utf-8?Q?=0D=0ABcc:?=",
        "=0D=0A",
      ),
      fc.constantFrom("a", "bob@example.net", "eve@evil.example", "ü", "世", "\ud800", "xn--", "%00", "."),
      fc.string({ maxLength: 5, unit: "binary" }),
    ),
    { maxLength: 12 },
  )
  .map((parts) => parts.join(""));

const FIELDS = new Set([
  "from",
  "to",
  "cc",
  "reply-to",
  "subject",
  "message-id",
  "date",
  "mime-version",
  "content-type",
  "content-transfer-encoding",
  "x-a",
]);
const domainOf = (address: string) => address.slice(address.lastIndexOf("@") + 1);

describe("any input", () => {
  test("a plain address is what the composer's parser makes of it, in angle brackets too", () => {
    const word = fc.string({ unit: fc.constantFrom(..."abZ09._+-"), maxLength: 15 });
    const plain = fc.tuple(word, word).map((words) => words.join("@"));
    fc.assert(
      fc.property(plain, fc.boolean(), (text, bracketed) => {
        const [party] = parties([bracketed ? `<${text}>` : text], "to", []);
        const [read, ...more] = addressparser(bracketed ? `<${text}>` : text);
        const address = read && more.length === 0 ? plainAddress(read.address ?? "") : undefined;
        assert.deepEqual(party, address === undefined ? undefined : { name: read?.name, address });
      }),
      { numRuns: 2000 },
    );
  });

  test("makes an address of one plain mailbox or none, which is read as itself wherever it stands", () => {
    fc.assert(
      fc.property(nasty, nasty, (name, address) => {
        const errors: FieldError[] = [];
        const [party] = parties([{ name, address }], "to", errors);
        if (!party) return assert.equal(errors.length, 1);
        assert.equal(plainAddress(party.address), party.address);
        assert.match(party.address, /^[^\s<>,;:"()[\]\\@]+@[a-z0-9._-]+$/u);
        assert.deepEqual(addressesIn(`x <${party.address}>, last@example.org`), [party.address, "last@example.org"]);
      }),
      { numRuns: 3000 },
    );
  });

  test("as one text is that one address and its name, or refused", () => {
    fc.assert(
      fc.property(nasty, (text) => {
        const [party] = parties([text], "to", []);
        if (party)
          assert.ok(text.toLowerCase().includes(`@${domainOf(party.address).slice(0, 3)}`) || /[^\0-\x7f]/.test(text));
      }),
      { numRuns: 3000 },
    );
  });

  test("in names, subject and headers adds no header and no recipient to the message", async () => {
    const message = fc.record({
      name: nasty,
      subject: nasty,
      header: nasty,
      headerName: fc.oneof(fc.constant("X-A"), nasty),
    });
    await fc.assert(
      fc.asyncProperty(message, async ({ name, subject, header, headerName }) => {
        const body = {
          to: [{ name, address: "bob@example.net" }],
          subject,
          text: "Hello",
          headers: { [headerName]: header },
        };
        const result = v.safeParse(OutgoingMessage, body);
        const errors: FieldError[] = [];
        if (!result.success) return;
        checkHeaders(result.output.headers, errors);
        const to = parties(result.output.to, "to", errors);
        if (errors.length > 0) return;
        const people = { from: { name, address: "me@example.com" }, to, cc: [], bcc: [], replyTo: [] };
        const { raw, recipients } = await compose(result.output, people, new Date(0));
        assert.deepEqual(recipients, ["bob@example.net"]);
        const parsed = await parseMessage(raw, { maxAttachmentBytes: 0 });
        const names = parsed.headers.map(([one]) => one);
        const unknown = names.filter((one) => !FIELDS.has(one) && one !== headerName.toLowerCase());
        assert.deepEqual(unknown, [], raw.toString());
        assert.equal(new Set(names).size, names.length, raw.toString());
        assert.deepEqual(
          [...parsed.to, ...parsed.cc, ...parsed.bcc].map(({ address }) => address),
          ["bob@example.net"],
        );
        assert.equal(parsed.from?.address, "me@example.com");
        assert.doesNotMatch(raw.toString("latin1"), /(?<!\r)\n|\r(?!\n)/, "only CRLF ends a line");
      }),
      { numRuns: 1500 },
    );
  });

  test("as a ready message is refused, or has exactly the recipients that its header shows to everybody", () => {
    const field = fc.tuple(fc.constantFrom("To", "Cc", "Bcc", "From", "Subject", "X-A", "Sender"), nasty);
    fc.assert(
      fc.property(fc.array(field, { maxLength: 4 }), (fields) => {
        const lines = [
          "From: me@example.com",
          "To: bob@example.net",
          ...fields.map(([name, value]) => `${name}: ${value}`),
        ];
        try {
          const { raw, from, recipients } = ready(Buffer.from(`${lines.join("\r\n")}\r\n\r\nHello`), [], new Date(0));
          assert.equal(from, "me@example.com");
          assert.ok(recipients.includes("bob@example.net"));
          for (const to of recipients) assert.equal(plainAddress(to), to);
          assert.doesNotMatch(raw.toString("latin1"), /(?<!\r)\n|\r(?!\n)|\0/);
          assert.equal(
            raw
              .toString("latin1")
              .split("\r\n\r\n")[0]
              ?.match(/^(bcc|from):/gim)?.length,
            1,
          );
        } catch (error) {
          assert.ok(error instanceof Problem && error.retry === "never", String(error));
        }
      }),
      { numRuns: 3000 },
    );
  });
});
