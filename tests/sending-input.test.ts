/** Whatever a client sends, the message on the wire has the headers and the recipients that were checked, and no others. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import addressparser from "nodemailer/lib/addressparser";
import * as v from "valibot";
import { OutgoingMessage } from "../shared/contract/outgoing.ts";
import { type FieldError, Problem } from "../shared/contract/problem.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { parseAddressHeader, parseParties, normalizeAddress } from "../shared/mail/smtp/addresses.ts";
import { composeMessage } from "../shared/mail/smtp/compose.ts";
import { checkHeaders } from "../shared/mail/smtp/headers.ts";
import { prepareRawMessage } from "../shared/mail/smtp/raw-message.ts";

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
        const [party] = parseParties([bracketed ? `<${text}>` : text], "to", []);
        const [read, ...more] = addressparser(bracketed ? `<${text}>` : text);
        const address = read && more.length === 0 ? normalizeAddress(read.address ?? "") : undefined;
        assert.deepEqual(party, address === undefined ? undefined : { name: read?.name, address });
      }),
      { numRuns: 2000 },
    );
  });

  test("makes an address of one plain mailbox or none, which is read as itself wherever it stands", () => {
    fc.assert(
      fc.property(nasty, nasty, (name, address) => {
        const errors: FieldError[] = [];
        const [party] = parseParties([{ name, address }], "to", errors);
        if (!party) return assert.equal(errors.length, 1);
        assert.equal(normalizeAddress(party.address), party.address);
        assert.match(party.address, /^("?)[^\s<>,;:"()[\]\\@]+\1@[a-z0-9._-]+$/u);
        assert.deepEqual(parseAddressHeader(`x <${party.address}>, last@example.org`), [
          party.address,
          "last@example.org",
        ]);
      }),
      { numRuns: 3000 },
    );
  });

  test("as one text is that one address and its name, or refused", () => {
    fc.assert(
      fc.property(nasty, (text) => {
        const [party] = parseParties([text], "to", []);
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
        const to = parseParties(result.output.to, "to", errors);
        if (errors.length > 0) return;
        const people = { from: { name, address: "me@example.com" }, to, cc: [], bcc: [], replyTo: [] };
        const { raw, recipients } = await composeMessage(result.output, people, new Date(0));
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
          const { raw, from, recipients } = prepareRawMessage(
            Buffer.from(`${lines.join("\r\n")}\r\n\r\nHello`),
            [],
            new Date(0),
          );
          assert.equal(from, "me@example.com");
          assert.ok(recipients.includes("bob@example.net"));
          for (const to of recipients) assert.equal(normalizeAddress(to), to);
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

describe("an address as people type it", () => {
  for (const [text, name, address] of [
    ["Doe, John <john@acme.example>", "Doe, John", "john@acme.example"],
    ['"Doe, John (john@acme.example)" <john@acme.example>', "Doe, John (john@acme.example)", "john@acme.example"],
    ["ACME: Support <help@acme.example>", "ACME: Support", "help@acme.example"],
    ["[Team] Bob (Sales) <bob@acme.example>", "[Team] Bob (Sales)", "bob@acme.example"],
    ['John "Johnny" Doe <john@acme.example>', 'John "Johnny" Doe', "john@acme.example"],
    ["bob@acme.example (Bob)", "Bob", "bob@acme.example"],
    ["mailto:bob@acme.example", "", "bob@acme.example"],
    [" bob@acme.example; ", "", "bob@acme.example"],
    ["den...4ik@mail.example", "", '"den...4ik"@mail.example'],
    ["xxx.yyy.@carrier.example", "", '"xxx.yyy."@carrier.example'],
    ['"xxx.yyy."@carrier.example', "", '"xxx.yyy."@carrier.example'],
    ['"bob"@acme.example', "", "bob@acme.example"],
    ["jürgen@müller.example", "", "jürgen@xn--mller-kva.example"],
  ] as const)
    test(`${text} is ${address}`, () => assert.deepEqual(parseParties([text], "to", []), [{ name, address }]));

  for (const text of [
    "a@acme.example, Bob <bob@acme.example>",
    "a@acme.example b@acme.example",
    "Bob <bob@acme.example> <eve@evil.example>",
    "<@relay.example:bob@acme.example>",
    "a@evil.example@acme.example",
    '"a@evil.example"@acme.example',
    "Friends: a@acme.example, b@acme.example;",
  ])
    test(`${text} is refused, for it could be somebody else or several`, () => {
      const errors: FieldError[] = [];
      assert.deepEqual(parseParties([text], "to", errors), []);
      assert.ok(errors[0]?.message.includes(text), "the refusal names it");
    });
});

const composeWith = async (file: object) => {
  const message = v.parse(OutgoingMessage, { text: "Hello", html: "<p>Hello</p>", attachments: [file] });
  const from = { name: "", address: "me@example.com" };
  const to = [{ name: "", address: "bob@example.net" }];
  const { raw } = await composeMessage(message, { from, to, cc: [], bcc: [], replyTo: [] }, new Date(0));
  return raw.toString("utf8");
};

describe("a calendar among the files", () => {
  const calendar = ["BEGIN:VCALENDAR", "VERSION:2.0", "METHOD:REQUEST", "BEGIN:VEVENT", "SUMMARY:Grüße", "END:VEVENT"];
  const content = Buffer.from([...calendar, "END:VCALENDAR", ""].join("\n")).toString("base64");

  for (const contentType of ["text/calendar; method=REQUEST", "text/calendar; charset=utf-8", "TEXT/CALENDAR"])
    test(`that has a METHOD is an invitation beside the text, as ${contentType}`, async () => {
      const raw = await composeWith({ filename: "meeting.ics", contentType, content });
      const [, boundary = ""] = /Content-Type: multipart\/alternative;\s+boundary="([^"]+)"/.exec(raw) ?? [];
      const parts = raw.split(`--${boundary}`).slice(1, -1);
      const types = parts.map((part) => /Content-Type: (\S+)/.exec(part)?.[1]);
      assert.deepEqual(types, ["text/plain;", "text/html;", "text/calendar;"]);
      assert.match(parts[2] ?? "", /Content-Type: text\/calendar; charset=utf-8; method=REQUEST\r\n/);
      assert.match(parts[2] ?? "", /SUMMARY:Gr=C3=BC=C3=9Fe\r\n/);
      assert.match(raw, /filename=meeting\.ics/);
    });

  test("that is given as an attachment, or has no METHOD, stays a file", async () => {
    const files = [
      { filename: "a.ics", contentType: "text/calendar", disposition: "attachment", content },
      { filename: "a.ics", contentType: "text/calendar", content: Buffer.from("BEGIN:VCALENDAR\n").toString("base64") },
    ];
    for (const file of files) assert.doesNotMatch(await composeWith(file), /method=/i);
  });
});

test("a message id that was delivered is taken back for a reply, whatever is inside, and stands in the header as it is", async () => {
  for (const id of ["<20260720.4E@>", "<abc>", "<one@two@three.example>", "<ü@example.com>", '<"a"$b%c@[10.0.0.1]>']) {
    const received = await parseMessage(Buffer.from(`Message-ID: ${id}\r\n\r\nx`), { maxAttachmentBytes: 0 });
    const body = {
      to: ["bob@example.net"],
      text: "x",
      inReplyTo: received.messageId,
      references: [received.messageId],
    };
    const reply = v.parse(OutgoingMessage, body);
    const people = {
      from: { name: "", address: "me@example.com" },
      to: [{ name: "", address: "bob@example.net" }],
      cc: [],
      bcc: [],
      replyTo: [],
    };
    const { raw } = await composeMessage(reply, people, new Date(0));
    for (const name of ["In-Reply-To", "References"])
      assert.ok(raw.toString("utf8").includes(`${name}: ${id}\r\n`), raw.toString("utf8"));
  }
});
