import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { deliveryId, fingerprint, fingerprintInTurns } from "../shared/mail/fingerprint.ts";
import { message, numbered } from "./servers/mail.ts";
import { rewrapped } from "./servers/graph/mail/value.ts";
import { oddMessages } from "./servers/odd-mail.ts";

const TRACES = [
  "Received: from a.example by b.example;\r\n\tMon, 5 Jan 2026 09:00:00 +0000",
  "RETURN-PATH: <ann@sender.example>",
  "Delivered-To: bob@receiver.example",
  "X-UID: 17",
  "Status: RO",
  "X-Keywords: \r\n  $Label1",
  "X-Mozilla-Status2: 00000000",
  "X-GM-MSGID: 1278455344230334865",
  "Keywords: Creatio, Taken",
  "X-MS-Exchange-Organization-SCL: 1",
];

function withTraces(raw: Buffer, places: number[]): Buffer {
  const [head = "", ...rest] = raw.toString("latin1").split("\r\n\r\n");
  const fields = head.split(/\r\n(?![ \t])/);
  for (const place of places) fields.splice(place % (fields.length + 1), 0, TRACES[place % TRACES.length] ?? "");
  return Buffer.from([fields.join("\r\n"), ...rest].join("\r\n\r\n"), "latin1");
}

function withBareLines(raw: Buffer): Buffer {
  return Buffer.from(raw.toString("latin1").replaceAll("\r\n", "\n"), "latin1");
}

describe("The fingerprint of a message", () => {
  const raw = message({ subject: "Grüße", text: "One\r\n\r\nTwo\r\n", html: "<p>One</p>" });

  test("stays the same whatever trace fields stand where and whichever line ends are used", () => {
    const print = fingerprint(raw);
    assert.match(print, /^[0-9a-f]{32}$/);
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { maxLength: 12 }), fc.boolean(), (places, bare) => {
        const copy = withTraces(raw, places);
        assert.equal(fingerprint(bare ? withBareLines(copy) : copy), print);
      }),
      { numRuns: 60 },
    );
  });

  test("stays the same with other boundaries where those are ignored, and only there", () => {
    const parts = message({ subject: "Parts", text: "One", attachments: [{ filename: "a", content: "abc" }] });
    const copies = [rewrapped(parts), rewrapped(parts)];
    assert.equal(new Set(copies.map((copy) => fingerprint(copy))).size, 2);
    const prints = copies.map((copy) => fingerprint(copy, { ignoresBoundaries: true }));
    assert.equal(new Set(prints).size, 1);
    const other = message({ subject: "Parts", text: "One", attachments: [{ filename: "a", content: "abd" }] });
    assert.notEqual(fingerprint(rewrapped(other), { ignoresBoundaries: true }), prints[0]);
    const plain = Buffer.from("Subject: boundary=\r\n\r\nNo parts\r\n");
    assert.equal(fingerprint(plain, { ignoresBoundaries: true }), fingerprint(plain));
  });

  test("of a large message is the same when other work goes on meanwhile, whatever its lines are", async () => {
    const boundary = "=_0123456789abcdef";
    const lines = `x\r\n--${boundary}\r\n`.repeat(450_000);
    const head = `Content-Type: multipart/mixed; boundary="${boundary}"\r\n\r\n`;
    for (const body of [
      lines,
      lines.replaceAll("\r\n", "\n"),
      "x".repeat(9_000_000),
      `${"y".repeat(5_000_000)}\r\nz`,
    ]) {
      const large = Buffer.from(head + body, "latin1");
      for (const options of [{}, { ignoresBoundaries: true }]) {
        let turns = 0;
        const counting = setInterval(() => void turns++, 0);
        const print = await fingerprintInTurns(large, options);
        clearInterval(counting);
        assert.equal(print, fingerprint(large, options));
        if (body === lines) assert.ok(turns > 0);
      }
      const other = Buffer.from(large);
      other[other.length - 1] = 0x77;
      assert.notEqual(await fingerprintInTurns(other), fingerprint(large));
    }
    const withBareEnds = fingerprint(Buffer.from(head + lines.replaceAll("\r\n", "\n"), "latin1"));
    assert.equal(fingerprint(Buffer.from(head + lines, "latin1")), withBareEnds);
  });

  test("ignores the case of header names and empty lines at the end", () => {
    const text = raw.toString("latin1");
    assert.equal(fingerprint(Buffer.from(text.replace("Subject:", "SUBJECT:"), "latin1")), fingerprint(raw));
    assert.equal(fingerprint(Buffer.from(`${text}\r\n\n\r\n`, "latin1")), fingerprint(raw));
    assert.equal(fingerprint(Buffer.from(text.trimEnd(), "latin1")), fingerprint(raw));
  });

  test("differs when a header field, its order or a byte of the body differs", () => {
    const text = raw.toString("latin1");
    const others = [
      text.replace("To: Bob", "To: Rob"),
      text.replace("One\r\n\r\nTwo", "One\r\n\r\ntwo"),
      text.replace("One\r\n\r\nTwo", "One\r\nTwo"),
      `X-New: 1\r\n${text}`,
      text.replace("\r\n\r\n", "\r\n"),
      text.replace(/(From: .*\r\n)(To: .*\r\n)/, "$2$1"),
    ];
    const prints = [raw, ...others.map((other) => Buffer.from(other, "latin1"))].map((one) => fingerprint(one));
    assert.equal(new Set(prints).size, prints.length);
  });

  test("leaves the value of a trace field in the body alone: forwarded headers are content", () => {
    const one = message({ text: "Received: from a\r\n" });
    const two = Buffer.from(one.toString().replace("Received: from a", "Received: from b"));
    assert.notEqual(fingerprint(one), fingerprint(two));
  });

  test("is made for any bytes", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => fingerprint(bytes).length === 32));
    for (const make of Object.values(oddMessages)) assert.equal(fingerprint(make()).length, 32);
  });

  test("does not depend on where in a larger buffer the message lies", () => {
    const around = Buffer.concat([Buffer.from("junk"), raw, Buffer.from("junk")]);
    assert.equal(fingerprint(around.subarray(4, 4 + raw.length)), fingerprint(raw));
  });
});

describe("The delivery id", () => {
  const twin = { folder: "INBOX", epoch: "1", uid: 7 };

  test("is the same for the same content in the same mailbox and has no dot in it", () => {
    const print = fingerprint(numbered(1));
    assert.match(deliveryId("a", print), /^msg_[a-z2-7]{26}$/);
    assert.equal(deliveryId("a", print), deliveryId("a", print));
  });

  test("tells mailboxes, contents and twins apart", () => {
    const print = "00".repeat(16);
    const ids = [
      deliveryId("a", print),
      deliveryId("b", print),
      deliveryId("a", "11".repeat(16)),
      deliveryId("a", print, twin),
      deliveryId("a", print, { ...twin, uid: 8 }),
      deliveryId("a", print, { ...twin, folder: "INBOX,1" }),
    ];
    assert.equal(new Set(ids).size, ids.length);
  });
});
