/** Bounces, complaints and automatic replies in the forms of large providers and mail servers, written after their published formats. */

/** Whom and what a returned message is about. */
export type About = { recipient: string; messageId: string; to: string };

type Sample = {
  raw: (about: About) => Buffer;
  /** What the diagnostic contains. */
  says: RegExp;
};

const lines = (...all: string[]): Buffer => Buffer.from(`${all.flatMap((one) => one.split("\n")).join("\r\n")}\r\n`);

const head = (from: string, { to }: About, subject: string, more: string[] = []): string[] => [
  "Return-Path: <>",
  `From: ${from}`,
  `To: ${to}`,
  `Subject: ${subject}`,
  "Date: Mon, 05 Jan 2026 09:00:00 +0000",
  `Message-ID: <${subject.length}.returned@example.net>`,
  "MIME-Version: 1.0",
  ...more,
];

const report = (about: About, status: string[], original: string[], words: string): string[] => [
  'Content-Type: multipart/report; report-type=delivery-status; boundary="b"',
  "",
  "--b",
  "Content-Type: text/plain; charset=utf-8",
  "",
  words,
  "--b",
  "Content-Type: message/delivery-status",
  "",
  "Reporting-MTA: dns; mx.example.net",
  "",
  ...status,
  "",
  "--b",
  ...original,
  "--b--",
];

const returnedHeaders = ({ messageId, to, recipient }: About, type = "text/rfc822-headers"): string[] => [
  `Content-Type: ${type}`,
  "",
  `From: ${to}`,
  `To: ${recipient}`,
  "Subject: Hello",
  `Message-ID: ${messageId}`,
  "",
];

export const bounces: Record<string, Sample> = {
  gmail: {
    raw: (about) =>
      lines(
        ...head(
          "Mail Delivery Subsystem <mailer-daemon@googlemail.com>",
          about,
          "Delivery Status Notification (Failure)",
          [
            "Auto-Submitted: auto-replied",
            `In-Reply-To: ${about.messageId}`,
            `References: ${about.messageId}`,
            `X-Failed-Recipients: ${about.recipient}`,
          ],
        ),
        ...report(
          about,
          [
            `Final-Recipient: rfc822; ${about.recipient}`,
            "Action: failed",
            "Status: 5.1.1",
            "Remote-MTA: dns; gmail-smtp-in.l.google.com.",
            "Diagnostic-Code: smtp; 550-5.1.1 The email account that you tried to reach does not exist.",
          ],
          returnedHeaders(about, "message/rfc822"),
          "** Address not found **",
        ),
      ),
    says: /does not exist/,
  },
  exchange: {
    raw: (about) =>
      lines(
        ...head("Microsoft Outlook <postmaster@contoso.onmicrosoft.com>", about, "Undeliverable: Hello", [
          "Auto-Submitted: auto-replied",
          `In-Reply-To: ${about.messageId}`,
          `References: ${about.messageId}`,
        ]),
        ...report(
          about,
          [
            `Final-Recipient: rfc822;${about.recipient}`,
            "Action: failed",
            "Status: 5.1.10",
            "Diagnostic-Code: smtp;550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup",
          ],
          // Without the original's id: only the notification's own header has it.
          ["Content-Type: text/rfc822-headers", "", "Received: from x by y", "Subject: Hello", ""],
          "Your message couldn't be delivered.",
        ),
      ),
    says: /RecipientNotFound/,
  },
  postfix: {
    raw: (about) =>
      lines(
        ...head("MAILER-DAEMON@mx.example.net (Mail Delivery System)", about, "Undelivered Mail Returned to Sender", [
          "Auto-Submitted: auto-replied",
        ]),
        ...report(
          about,
          [
            `Final-Recipient: rfc822; alias-of-it@example.org`,
            `Original-Recipient: rfc822;${about.recipient}`,
            "Action: failed",
            "Status: 5.2.2",
            "Remote-MTA: dns; mx.example.org",
            "Diagnostic-Code: smtp; 552 5.2.2 mailbox full",
          ],
          returnedHeaders(about, "message/rfc822"),
          "This is the mail system at host mx.example.net.",
        ),
      ),
    says: /mailbox full/,
  },
  exim: {
    raw: (about) =>
      lines(
        ...head(
          "Mail Delivery System <Mailer-Daemon@mx.example.net>",
          about,
          "Mail delivery failed: returning message to sender",
          ["Auto-Submitted: auto-replied", `X-Failed-Recipients: ${about.recipient}`, "Content-Type: text/plain"],
        ),
        "",
        "This message was created automatically by mail delivery software.",
        "",
        "A message that you sent could not be delivered to one or more of its",
        "recipients. This is a permanent error. The following address(es) failed:",
        "",
        `  ${about.recipient}`,
        "    host mx.example.org [192.0.2.1]",
        "    SMTP error from remote mail server after RCPT TO: 550 5.1.1 unrouteable address",
        "",
        "------ This is a copy of the message, including all the headers. ------",
        "",
        `Message-ID: ${about.messageId}`,
        "Subject: Hello",
        "",
        "How are you?",
      ),
    says: /unrouteable address/,
  },
  sendmail: {
    raw: (about) =>
      lines(
        ...head(
          "Mail Delivery Subsystem <MAILER-DAEMON@mx.example.net>",
          about,
          "Returned mail: see transcript for details",
          ["Auto-Submitted: auto-generated (failure)"],
        ),
        ...report(
          about,
          [
            "Arrival-Date: Mon, 5 Jan 2026 09:00:00 GMT",
            "",
            `Final-Recipient: RFC822; ${about.recipient}`,
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: SMTP; 550 5.1.1 User unknown",
            "Last-Attempt-Date: Mon, 5 Jan 2026 09:00:01 GMT",
          ],
          returnedHeaders(about),
          "   ----- The following addresses had permanent fatal errors -----",
        ),
      ),
    says: /User unknown/,
  },
  qmail: {
    raw: (about) =>
      lines(
        ...head("MAILER-DAEMON@mx.example.net", about, "failure notice"),
        "",
        "Hi. This is the qmail-send program at mx.example.net.",
        "I'm afraid I wasn't able to deliver your message to the following addresses.",
        "This is a permanent error; I've given up. Sorry it didn't work out.",
        "",
        `<${about.recipient}>:`,
        "192.0.2.1 does not like recipient.",
        "Remote host said: 550 5.1.1 mailbox unavailable",
        "Giving up on 192.0.2.1.",
        "",
        "--- Below this line is a copy of the message.",
        "",
        `Return-Path: <${about.to}>`,
        `Message-ID: ${about.messageId}`,
        "Subject: Hello",
        "",
        "How are you?",
      ),
    says: /mailbox unavailable/,
  },
  ses: {
    raw: (about) =>
      lines(
        ...head("MAILER-DAEMON@eu-west-1.amazonses.com", about, "Delivery Status Notification (Failure)"),
        ...report(
          about,
          [
            `Original-Recipient: rfc822;${about.recipient}`,
            `Final-Recipient: rfc822;${about.recipient}`,
            "Action: failed",
            "Status: 5.1.1",
            "Diagnostic-Code: smtp; 550 5.1.1 user does not exist",
          ],
          returnedHeaders(about, "message/rfc822"),
          "An error occurred while trying to deliver the mail to the following recipients:",
        ),
      ),
    says: /user does not exist/,
  },
  yahoo: {
    raw: (about) =>
      lines(
        ...head("MAILER-DAEMON@yahoo.com", about, "Failure Notice", ["Content-Type: text/plain; charset=utf-8"]),
        "",
        "Sorry, we were unable to deliver your message to the following address.",
        "",
        `<${about.recipient}>:`,
        "554: delivery error: dd This user doesn't have a yahoo.com account [-9] - mta1.example.net",
        "",
        "--- Below this line is a copy of the message.",
        "",
        `Message-ID: ${about.messageId}`,
        "Subject: Hello",
        "",
      ),
    says: /doesn't have a yahoo.com account/,
  },
  complaint: {
    raw: (about) =>
      lines(
        ...head("feedback@example.net", about, "Abuse report", [
          'Content-Type: multipart/report; report-type=feedback-report; boundary="b"',
        ]),
        "",
        "--b",
        "Content-Type: text/plain",
        "",
        "This is an abuse report.",
        "--b",
        "Content-Type: message/feedback-report",
        "",
        "Feedback-Type: abuse",
        "User-Agent: SomeGenerator/1.0",
        "Version: 1",
        `Original-Rcpt-To: <${about.recipient}>`,
        "",
        "--b",
        ...returnedHeaders(about, "message/rfc822"),
        "--b--",
      ),
    says: /complaint: abuse/,
  },
};

/** Notifications about nothing that failed, and what merely looks like a bounce. */
export const notBounces: Record<string, (about: About) => Buffer> = {
  delayed: (about) =>
    lines(
      ...head("MAILER-DAEMON@mx.example.net", about, "Delayed Mail (still being retried)"),
      ...report(
        about,
        [
          `Final-Recipient: rfc822; ${about.recipient}`,
          "Action: delayed",
          "Status: 4.4.1",
          "Diagnostic-Code: smtp; 451 later",
        ],
        returnedHeaders(about),
        "Nothing to do yet.",
      ),
    ),
  receipt: (about) =>
    lines(
      ...head("MAILER-DAEMON@mx.example.net", about, "Successful Mail Delivery Report"),
      ...report(
        about,
        [`Final-Recipient: rfc822; ${about.recipient}`, "Action: delivered", "Status: 2.0.0"],
        returnedHeaders(about),
        "It has arrived.",
      ),
    ),
  relayed: (about) =>
    lines(
      ...head("MAILER-DAEMON@mx.example.net", about, "Mail relayed"),
      ...report(
        about,
        [`Final-Recipient: rfc822; ${about.recipient}`, "Action: relayed", "Status: 2.0.0"],
        returnedHeaders(about),
        "It went on to a server that sends no reports.",
      ),
    ),
  optOut: (about) =>
    lines(
      ...head("feedback@example.net", about, "Opt-out", [
        `X-Original-Message-ID: ${about.messageId}`,
        'Content-Type: multipart/report; report-type=feedback-report; boundary="b"',
      ]),
      "",
      "--b",
      "Content-Type: message/feedback-report",
      "",
      "Feedback-Type: opt-out",
      "Version: 1",
      `Original-Rcpt-To: <${about.recipient}>`,
      "",
      "--b",
      ...returnedHeaders(about, "message/rfc822"),
      "--b--",
    ),
  vacation: (about) =>
    lines(
      ...head(about.recipient, about, "Out of office", [
        "Auto-Submitted: auto-replied",
        `In-Reply-To: ${about.messageId}`,
      ]),
      "",
      "I am away and cannot deliver anything.",
    ),
  person: (about) =>
    lines(
      ...head("Bob <bob@example.net>", about, "Re: Hello", [`In-Reply-To: ${about.messageId}`]).slice(1),
      "",
      `I was unable to deliver your message to <${about.recipient}>:`,
      "no reason",
      `Message-ID: ${about.messageId}`,
    ),
};

/** A read receipt (RFC 8098) of the recipient. */
export const readReceipt = (about: About): Buffer =>
  lines(
    ...head(about.recipient, about, "Read: Hello", [
      'Content-Type: multipart/report; report-type=disposition-notification; boundary="b"',
    ]),
    "",
    "--b",
    "Content-Type: text/plain",
    "",
    "Your message was displayed.",
    "--b",
    "Content-Type: message/disposition-notification",
    "",
    `Final-Recipient: rfc822;${about.recipient}`,
    `Original-Message-ID: ${about.messageId}`,
    "Disposition: manual-action/MDN-sent-manually; displayed",
    "",
    "--b--",
  );
