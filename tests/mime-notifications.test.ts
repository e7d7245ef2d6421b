/** Messages about other messages: bounces in many forms, delays, complaints, read receipts and automatic replies. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";

const parse = (lines: string[] | Buffer) =>
  parseMessage(Buffer.isBuffer(lines) ? lines : Buffer.from(lines.join("\r\n")), { maxAttachmentBytes: 1000 });

const daemon = (subject = "Undelivered", more: string[] = []) => [
  "Return-Path: <>",
  "From: MAILER-DAEMON@mail.example.net",
  "To: me@example.com",
  `Subject: ${subject}`,
  "MIME-Version: 1.0",
  ...more,
];
const status = (fields: string[], words = ["Sorry."], copy = ["Message-ID: <sent@example.com>"]) => [
  ...daemon("Undelivered", ["Content-Type: multipart/report; report-type=delivery-status; boundary=b", ""]),
  "--b",
  "Content-Type: text/plain",
  "",
  ...words,
  "--b",
  "Content-Type: message/delivery-status",
  "",
  "Reporting-MTA: dns; mail.example.net",
  "",
  ...fields,
  "",
  "--b",
  "Content-Type: text/rfc822-headers",
  "",
  ...copy,
  "--b--",
];

const feedbackReport = (type: string, more: string[] = []) =>
  parse([
    ...daemon("Report", ["Content-Type: multipart/report; report-type=feedback-report; boundary=b", ""]),
    "--b",
    "",
    "A report.",
    "--b",
    "Content-Type: message/feedback-report",
    "",
    `Feedback-Type: ${type}`,
    "Version: 1",
    ...more,
    "",
    "--b",
    "Content-Type: message/rfc822",
    "",
    "To: reader@example.org",
    "Message-ID: <sent@example.com>",
    "",
    "--b--",
  ]);

const readReceipt = (fields: string[]) =>
  parse([
    "From: Reader <reader@example.org>",
    "Subject: Read: Hello",
    "Content-Type: multipart/report; report-type=disposition-notification; boundary=b",
    "",
    "--b",
    "",
    "Your message was read. It could not be delivered faster.",
    "--b",
    "Content-Type: message/disposition-notification",
    "",
    ...fields,
    "",
    "--b--",
  ]);

const statusOnly = (code: string) => parse(status(["Final-Recipient: rfc822; gone@example.org", `Status: ${code}`]));
const sesNotice = (about: object) => {
  const footer = ["", "--", "To stop this, follow the link."];
  return parse([
    "From: no-reply@sns.amazonaws.com",
    "Subject: AWS Notification Message",
    "",
    JSON.stringify(about),
    ...footer,
  ]);
};

describe("A delivery status", () => {
  test("is read past a diagnostic that goes on in lines of its own, whatever the order of the fields", async () => {
    const { bounce } = await parse(
      status([
        "Diagnostic-Code: smtp; 554-Your server is listed",
        "554 see https://list.example.org: ask there",
        "Final-Recipient: rfc822; gone@example.org",
        "Status: 5.7.1",
        "Action: failed",
      ]),
    );
    assert.deepEqual([bounce?.recipient, bounce?.action, bounce?.status], ["gone@example.org", "failed", "5.7.1"]);
    assert.match(bounce?.diagnostic ?? "", /^554-Your server is listed 554 see/);
    assert.equal(bounce?.originalMessageId, "<sent@example.com>");
  });

  test("without an action takes it from the status", async () => {
    const [permanent, temporary, delivered] = await Promise.all(["5.1.1", "4.4.1", "2.0.0"].map(statusOnly));
    assert.deepEqual([permanent?.bounce?.action, permanent?.bounce?.recipient], ["failed", "gone@example.org"]);
    assert.deepEqual([temporary?.bounce, temporary?.delay?.action], [null, "delayed"]);
    assert.deepEqual([delivered?.bounce, delivered?.delay?.action], [null, "delivered"]);
  });

  test("names the address alone, whatever stands around it", async () => {
    for (const written of [
      'rfc822; "gone@example.org"',
      "RFC822;<gone@example.org>",
      "gone@example.org",
      "rfc822; Gone <gone@example.org>",
    ]) {
      const { bounce } = await parse(status([`Final-Recipient: ${written}`, "Action: failed", "Status: 5.1.1"]));
      assert.equal(bounce?.recipient, "gone@example.org", written);
    }
    const unicode = await parse(
      status(["Final-Recipient: utf-8; gr\\x{FC}n@example.org", "Action: failed", "Status: 5.1.1"]),
    );
    assert.equal(unicode.bounce?.recipient, "grün@example.org");
  });

  test("keeps what failed apart from what is late or arrived", async () => {
    const { bounce, delay } = await parse(
      status([
        "Final-Recipient: rfc822; gone@example.org",
        "Action: failed",
        "Status: 5.1.1",
        "",
        "Final-Recipient: rfc822; slow@example.org",
        "Action: delayed",
        "Status: 4.4.1",
        "",
        "Final-Recipient: rfc822; there@example.org",
        "Action: relayed",
        "Status: 2.0.0",
      ]),
    );
    assert.deepEqual(
      bounce?.recipients.map(({ recipient }) => recipient),
      ["gone@example.org"],
    );
    assert.deepEqual(
      delay?.recipients.map(({ action }) => action),
      ["delayed", "relayed"],
    );
    assert.deepEqual([delay?.originalMessageId, delay?.reason], ["<sent@example.com>", "temporary"]);
  });

  test("is completed from the words beside it: the code and the reason it leaves out", async () => {
    const { bounce } = await parse(
      status(
        ["Final-Recipient: rfc822; full@example.org", "Action: failed", "Status: 5.0.0"],
        ["The list of recipients:", "", "full@example.org: 552 5.2.2 The mailbox is over its quota"],
      ),
    );
    assert.deepEqual([bounce?.status, bounce?.reason], ["5.2.2", "mailbox_full"]);
  });
});

describe("The reason of a bounce", () => {
  test("is policy for a group of Google, in whatever language it is said", async () => {
    const words =
      "Skupina order neexistuje, nebo do ní nemáte oprávnění přidávat příspěvky.\r\n\r\nViz https://groups.google.com/support/.";
    const from =
      "From: Mail Delivery Subsystem <mailer-daemon@googlemail.com>\r\nX-Failed-Recipients: order@googlegroups.com\r\n";
    const { bounce } = await parse(Buffer.from(`${from}Content-Type: text/plain; charset=utf-8\r\n\r\n${words}`));
    assert.deepEqual([bounce?.recipient, bounce?.reason], ["order@googlegroups.com", "policy"]);
    assert.match(bounce?.diagnostic ?? "", /^Skupina order neexistuje/);
  });

  const reasons: [string, string, string][] = [
    ["5.1.1", "550 5.1.1 <x@example.org>: user not known here", "user_unknown"],
    ["5.0.0", "User mailbox exceeds the allowed size", "mailbox_full"],
    ["5.0.0", "DNS lookup failure: host mx.example.org not found", "host_unknown"],
    ["5.0.0", "Delivery failed 20 attempts", "temporary"],
    ["5.0.0", "550 No such person at this address", "user_unknown"],
    ["5.2.2", "552 over quota", "mailbox_full"],
    ["5.1.1", "550 5.1.1 the mailbox of this user is full", "mailbox_full"],
    ["5.2.1", "550 this account has been disabled", "mailbox_disabled"],
    ["5.1.2", "Host or domain name not found", "host_unknown"],
    ["5.3.4", "552 message exceeds the maximum size", "too_large"],
    ["5.7.1", "554 your address 192.0.2.1 is on the blocklist zen.example", "blocked"],
    ["5.7.1", "550 no PTR record for your host", "blocked"],
    ["5.7.1", "554 rejected as spam", "spam"],
    ["5.7.26", "550 neither SPF nor DKIM passed", "authentication"],
    ["5.7.1", "554 relaying denied", "policy"],
    ["5.1.8", "553 sender address rejected: no such domain", "policy"],
    ["4.4.7", "delivery time expired", "temporary"],
    ["4.7.0", "421 too many connections, try again later", "temporary"],
    ["5.4.6", "mail loops back to myself", "server_error"],
    ["5.1.1", "", "user_unknown"],
    ["5.0.0", "554 no", "unknown"],
  ];
  for (const [code, words, reason] of reasons) {
    test(`is ${reason} for ${code} ${words}`, async () => {
      const { bounce } = await parse(
        status(
          [
            "Final-Recipient: rfc822; x@example.org",
            "Action: failed",
            `Status: ${code}`,
            `Diagnostic-Code: smtp; ${words}`,
          ],
          [""],
        ),
      );
      assert.equal(bounce?.reason, reason);
      assert.equal(bounce?.recipients[0]?.reason, reason);
    });
  }
});

describe("A notification in words", () => {
  test("needs no Message-ID in the copy", async () => {
    const { bounce } = await parse([
      ...daemon("failure notice", [""]),
      "This is the mail program at mail.example.net. I could not deliver your message.",
      "",
      "<gone@example.org>:",
      "The host said: 550 5.1.1 nobody of that name",
      "",
      "--- Below this line is a copy of the message.",
      "",
      "Return-Path: <me@example.com>",
      "Subject: Hello",
    ]);
    assert.deepEqual(
      [bounce?.recipient, bounce?.status, bounce?.originalMessageId],
      ["gone@example.org", "5.1.1", null],
    );
  });

  test("may have the address and the reason on one line, more than once", async () => {
    const { bounce } = await parse([
      ...daemon("Delivery status notification", [""]),
      "    An error has occurred while attempting to deliver a message for",
      "    the following list of recipients:",
      "",
      "gone@example.org: 550 5.1.1 user unknown",
      "full@example.org: 552 5.2.2 mailbox full",
      "",
      "    Below is a copy of the original message:",
      "",
      "To: gone@example.org",
      "Message-ID: <sent@example.com>",
    ]);
    assert.deepEqual(
      bounce?.recipients.map(({ recipient, status: code, reason }) => [recipient, code, reason]),
      [
        ["gone@example.org", "5.1.1", "user_unknown"],
        ["full@example.org", "5.2.2", "mailbox_full"],
      ],
    );
    assert.equal(bounce?.originalMessageId, "<sent@example.com>");
  });

  test("is read in its own charset: a byte that only looks like @ is none", async () => {
    const japanese = Buffer.from("1b2442242a3b48244f2440243540242c1b2842", "hex");
    const head = [...daemon("Undelivered", ["Content-Type: text/plain; charset=iso-2022-jp", "", ""])].join("\r\n");
    const rest = "\r\nYour message was not delivered\r\n\r\n<gone@example.org>:\r\n550 5.1.1 no\r\n";
    const { bounce } = await parse(Buffer.concat([Buffer.from(head), japanese, Buffer.from(rest)]));
    assert.equal(bounce?.recipient, "gone@example.org");
  });

  test("never takes the sender, the postmaster or who to ask for the recipient", async () => {
    const { bounce } = await parse([
      ...daemon("Returned mail", [""]),
      "A message sent by me@example.com could not be delivered.",
      "Please contact postmaster@mail.example.net or support@mail.example.net for help.",
      "",
      "  Recipient: gone@example.org",
      "  Reason: mailbox unavailable, no such user",
    ]);
    assert.deepEqual(
      bounce?.recipients.map(({ recipient }) => recipient),
      ["gone@example.org"],
    );
    assert.equal(bounce?.reason, "user_unknown");
  });

  test("that it is still being tried is a delay", async () => {
    const { bounce, delay } = await parse([
      ...daemon("Warning: could not send message for past 4 hours", [""]),
      "THIS IS A WARNING MESSAGE ONLY. YOU DO NOT NEED TO RESEND YOUR MESSAGE.",
      "",
      "<slow@example.org>: 451 4.4.1 connection timed out",
    ]);
    assert.deepEqual([bounce, delay?.recipient, delay?.action], [null, "slow@example.org", "delayed"]);
  });

  test("of success is a delivery", async () => {
    const { bounce, delay } = await parse([
      ...daemon("Successful Mail Delivery Report", [""]),
      "Your message was delivered to the destination listed below. If it had failed, you would read so.",
      "",
      "<there@example.org>: delivery via mx.example.org: 250 2.1.5 Ok",
    ]);
    assert.deepEqual(
      [bounce, delay?.recipient, delay?.action, delay?.reason],
      [null, "there@example.org", "delivered", null],
    );
  });

  test("may be in HTML alone", async () => {
    const { bounce, text } = await parse([
      ...daemon("Undeliverable: Hello", ["Precedence: bulk", "Content-Type: text/html", ""]),
      '<h2>Delivery has failed to these recipients:</h2><p><a href="mailto:gone@example.org">gone@example.org</a></p>',
      "<p>The address could not be found.</p><p>gone@example.org<br>The server returned '550 5.1.10 not found'</p>",
    ]);
    assert.deepEqual(
      [text, bounce?.recipient, bounce?.status, bounce?.reason],
      [null, "gone@example.org", "5.1.10", "user_unknown"],
    );
  });

  test("by a person whose name or subject sounds like one is none", async () => {
    const words = ["", "I could not reach jane@example.org about the delivery. It failed.", "", "jane@example.org"];
    const named = await parse(["From: Postmaster Smith <smith@example.org>", "Subject: Delivery failed", ...words]);
    const answer = await parse([
      "From: Mail Delivery System <smith@example.org>",
      "Subject: Re: Undelivered",
      ...words,
    ]);
    assert.deepEqual([named.bounce, answer.bounce], [null, null]);
  });

  test("by a person or by an out-of-office assistant is none", async () => {
    const words = [
      "",
      "Your message could not be delivered to the following address:",
      "",
      "<gone@example.org>: 550 5.1.1 unknown",
    ];
    const person = await parse(["From: Bob <bob@example.org>", "Subject: Undelivered", ...words]);
    const away = await parse([
      "Return-Path: <>",
      "From: bob@example.org",
      "Subject: Undeliverable? No, I am away",
      "Auto-Submitted: auto-replied",
      ...words,
    ]);
    assert.deepEqual([person.bounce, away.bounce], [null, null]);
  });

  test("may be the JSON of Amazon SES", async () => {
    const mail = { commonHeaders: { messageId: "<sent@example.com>" } };
    const recipient = {
      emailAddress: "gone@example.org",
      action: "failed",
      status: "5.1.1",
      diagnosticCode: "smtp; 550 5.1.1 user unknown",
    };
    const bounced = await sesNotice({ notificationType: "Bounce", bounce: { bouncedRecipients: [recipient] }, mail });
    assert.deepEqual(
      [bounced.bounce?.recipient, bounced.bounce?.reason, bounced.bounce?.originalMessageId],
      ["gone@example.org", "user_unknown", "<sent@example.com>"],
    );
    const arrived = await sesNotice({
      notificationType: "Delivery",
      delivery: { recipients: ["there@example.org"], smtpResponse: "250 2.6.0 ok" },
      mail,
    });
    assert.deepEqual([arrived.bounce, arrived.delay?.action], [null, "delivered"]);
  });
});

describe("A feedback report", () => {
  test("of abuse is a complaint, by the recipient of the returned message where it names none", async () => {
    const { bounce } = await feedbackReport("abuse");
    assert.deepEqual(
      [bounce?.recipient, bounce?.action, bounce?.reason],
      ["reader@example.org", "complaint", "complaint"],
    );
  });

  for (const type of ["auth-failure", "opt-out", "opt-out-list", "not-spam", "virus", "other"]) {
    test(`of ${type} marks nobody`, async () => {
      const { bounce, delay, automatic } = await feedbackReport(type, ["Original-Rcpt-To: <reader@example.org>"]);
      assert.deepEqual([bounce, delay, automatic], [null, null, "auto-generated"]);
    });
  }
});

describe("A read receipt", () => {
  test("says what became of which message, and is automatic", async () => {
    const parsed = await readReceipt([
      "Reporting-UA: Some Client",
      "Final-Recipient: rfc822;reader@example.org",
      "Original-Message-ID: <sent@example.com>",
      "Disposition: manual-action/MDN-sent-manually; Displayed/error",
    ]);
    const expected = {
      originalMessageId: "<sent@example.com>",
      disposition: "displayed",
      recipient: "reader@example.org",
    };
    assert.deepEqual(parsed.receipt, expected);
    assert.deepEqual([parsed.automatic, parsed.bounce], ["auto-generated", null]);
  });

  test("without fields is a receipt about nothing", async () => {
    const parsed = await readReceipt([]);
    assert.deepEqual(parsed.receipt, { originalMessageId: null, disposition: null, recipient: null });
  });
});

describe("An automatic reply", () => {
  const exchange = ["Auto-Submitted: auto-generated", "X-Auto-Response-Suppress: All"];
  const signs: [string[], string | null][] = [
    [["X-Autoresponder: yes"], "auto-replied"],
    [["X-Autorespond: away"], "auto-replied"],
    [["X-Mail-Autoreply: Bob"], "auto-replied"],
    [["X-Autoresponder: no"], null],
    [["Delivered-To: Autoresponder"], "auto-replied"],
    [["Precedence: auto_reply"], "auto-replied"],
    [["Subject: Automatic reply: Hello", "In-Reply-To: <a@example.com>", ...exchange], "auto-replied"],
    [["Subject: Automatische Antwort: Hallo", ...exchange], "auto-replied"],
    [["Subject: =?utf-8?Q?R=C3=A9ponse_automatique_=3A_Bonjour?=", "In-Reply-To: <a@example.com>"], "auto-replied"],
    [["In-Reply-To: <a@example.com>", ...exchange], "auto-replied"],
    [["In-Reply-To: <a@example.com>", "List-Id: <issues.example>", ...exchange], "auto-generated"],
    [exchange, "auto-generated"],
    [["Subject: Out of office furniture", "In-Reply-To: <a@example.com>"], null],
    [["Subject: Re: Automatic reply: Hello", "In-Reply-To: <a@example.com>"], null],
  ];
  for (const [header, expected] of signs) {
    test(`${expected ?? "is none"}: ${header.join(", ")}`, async () => {
      assert.equal((await parse(["From: bob@example.org", ...header, "", "Hi"])).automatic, expected);
    });
  }
});
