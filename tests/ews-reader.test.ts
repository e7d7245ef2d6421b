/** The reader of Exchange's answers: whatever the network cuts, whatever prefixes a server likes, the same comes out. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as fc from "fast-check";
import { base64Decoder } from "../shared/mail/ews/soap/base64.ts";
import { type XmlElement, readElements, findText, findElement } from "../shared/mail/ews/soap/elements.ts";
import { escapeXml, unescapeXml } from "../shared/mail/ews/soap/xml.ts";
import { parseNotifications } from "../shared/mail/ews/soap/notifications.ts";

async function* cut(bytes: Buffer, lengths: Iterable<number>): AsyncGenerator<Buffer> {
  let at = 0;
  for (const length of lengths) {
    if (at >= bytes.length) return;
    yield bytes.subarray(at, at + length);
    at += length;
  }
  if (at < bytes.length) yield bytes.subarray(at);
}

async function read(text: string | Buffer, lengths: Iterable<number> = [], names = ["Envelope"], base64?: string) {
  const all: XmlElement[] = [];
  const wanted = { names, ...(base64 !== undefined && { base64 }) };
  for await (const one of readElements(cut(Buffer.from(text), lengths), wanted)) all.push(one);
  return all;
}

const everyByte = (text: string) => Array.from({ length: Buffer.byteLength(text) }, () => 1);
const cutting = fc.array(fc.integer({ min: 1, max: 40 }), { maxLength: 200 });

const tag = (prefix: string, name: string) => (prefix ? `${prefix}:${name}` : name);

/** An envelope as Exchange writes it, or with other prefixes, or none. */
function envelope(p: { s: string; m: string; t: string }, id: string, folders: string[]): string {
  const [S, M, T] = [
    (name: string) => tag(p.s, name),
    (name: string) => tag(p.m, name),
    (name: string) => tag(p.t, name),
  ];
  const events = folders.map(
    (folder) =>
      `<${T("NewMailEvent")}><${T("TimeStamp")}>2026-11-22T10:00:00Z</${T("TimeStamp")}><${T("ItemId")} Id="AA=" ChangeKey='x>"y'/><${T("ParentFolderId")} Id="${escapeXml(folder)}" ChangeKey="AQ=="/></${T("NewMailEvent")}>`,
  );
  const notification = `<${M("Notification")}><${T("SubscriptionId")}>${escapeXml(id)}</${T("SubscriptionId")}>${events.join("\n")}</${M("Notification")}>`;
  return `<?xml version="1.0" encoding="utf-8"?>\r\n<${S("Envelope")} xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><!-- <Envelope> --><${S("Body")}>
<${M("GetStreamingEventsResponse")}><${M("ResponseMessages")}><${M("GetStreamingEventsResponseMessage")} ResponseClass="Success"><${M("ResponseCode")}>NoError</${M("ResponseCode")}>
<${M("Notifications")}>${notification}</${M("Notifications")}><${M("ConnectionStatus")}>OK</${M("ConnectionStatus")}></${M("GetStreamingEventsResponseMessage")}></${M("ResponseMessages")}></${M("GetStreamingEventsResponse")}></${S("Body")}></${S("Envelope")}>`;
}

const prefixes = fc.constantFrom({ s: "s", m: "m", t: "t" }, { s: "soap", m: "", t: "t" }, { s: "", m: "", t: "" });
const word = fc
  .string({ unit: "grapheme", minLength: 1, maxLength: 12 })
  .map((text) => unescapeXml(escapeXml(text)).trim() || "x");

describe("The reader of envelopes", () => {
  test("any envelopes in any cutting give the same notices, with whatever prefixes", async () => {
    const news = fc.tuple(prefixes, word, fc.array(word, { minLength: 1, maxLength: 3 }));
    await fc.assert(
      fc.asyncProperty(
        fc.array(news, { maxLength: 4 }),
        fc.constantFrom("", "\r\n", " "),
        cutting,
        async (all, gap, lengths) => {
          const text = all.map(([p, id, folders]) => envelope(p, id, folders)).join(gap);
          const notices = (await read(text, lengths)).flatMap(parseNotifications);
          assert.deepEqual(
            notices.map(({ code, changes: told }) => ({ code, told: [...told] })),
            all.map(([, id, folders]) => ({ code: "NoError", told: [[id, [...new Set(folders)]]] })),
          );
        },
      ),
      { numRuns: 200 },
    );
  });

  test("an envelope cut at every byte, inside its characters too, is one envelope", async () => {
    const text = envelope({ s: "s", m: "m", t: "t" }, "Grüße 👋 & <more>", ["Ordner/ä"]);
    const [only, ...more] = await read(text, everyByte(text));
    assert.ok(only);
    assert.equal(more.length, 0);
    assert.equal(findText(only, "SubscriptionId"), "Grüße 👋 & <more>");
    assert.equal(findElement(only, "ItemId")?.attributes["ChangeKey"], 'x>"y');
  });

  test("an envelope is handed over when its last byte is there, not when the next one begins", async () => {
    const text = envelope({ s: "", m: "", t: "" }, "id", ["f"]);
    let sent = 0;
    async function* chunks() {
      for (const part of [text, text.slice(0, 10), text.slice(10)]) {
        sent++;
        yield Buffer.from(part);
      }
    }
    const seen: number[] = [];
    for await (const one of readElements(chunks(), { names: ["Envelope"] })) if (one) seen.push(sent);
    assert.deepEqual(seen, [1, 3]);
  });

  test("text is what was written, in CDATA and in references", async () => {
    const [one] = await read(
      "<a><b>1 &lt; 2 &amp;&#x41;&#66; &nosuch; &#x110000;</b><c><![CDATA[a <b> & ]] c]]></c></a>",
      [3, 5, 7],
      ["a"],
    );
    assert.equal(one && findText(one, "b"), "1 < 2 &AB &nosuch; &#x110000;");
    assert.equal(one && findText(one, "c"), "a <b> & ]] c");
  });

  for (const [what, text] of [
    ["a document type", '<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>'],
    ["elements that cross", "<a><b></a></b>"],
    ["half an answer", "<a><b>"],
    ["a page that is no XML", "<a <b>></a>"],
    ["elements without end", "<a>".repeat(5000)],
  ] as const) {
    test(`${what} is a Problem, not a guess`, async () => {
      await assert.rejects(() => read(text, [7, 1, 2], ["a"]), { name: "Problem" });
    });
  }

  test("a tag without an end is given up before it fills the memory", async () => {
    const page = Buffer.from(`<a ${"x".repeat(3_000_000)}`);
    await assert.rejects(
      () =>
        read(
          page,
          Array.from({ length: 100 }, () => 60_000),
          ["a"],
        ),
      { name: "Problem" },
    );
  });
});

describe("Base64 as it comes", () => {
  const bytes = fc.uint8Array({ maxLength: 300 });

  test("any bytes, wrapped in lines or not, in any cutting, are the same bytes", async () => {
    await fc.assert(
      fc.property(
        bytes,
        cutting,
        fc.constantFrom("", "\r\n", "\n", "&#xD;\n", "&#13;"),
        fc.integer({ min: 1, max: 80 }),
        (raw, lengths, end, width) => {
          const letters = Buffer.from(raw)
            .toString("base64")
            .replaceAll(new RegExp(`.{${width}}`, "g"), (line) => line + end);
          const decoder = base64Decoder();
          let at = 0;
          for (const length of [...lengths, letters.length]) {
            decoder.write(Buffer.from(letters.slice(at, at + length)));
            at += length;
          }
          assert.deepEqual(new Uint8Array(decoder.end() ?? []), new Uint8Array(raw));
        },
      ),
      { numRuns: 500 },
    );
  });

  test("anything else is no content, and a half of it neither", () => {
    for (const text of ["!!!! not base64 ???", "SGVsbG8gd29ybGQ\u0000", "SGVs<x>", "SGVsbG8_"]) {
      const decoder = base64Decoder();
      for (const byte of Buffer.from(text)) decoder.write(Buffer.from([byte]));
      assert.equal(decoder.end(), null, text);
    }
  });

  test("of several messages in one answer each has its own bytes", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(bytes, { maxLength: 5 }), cutting, async (raws, lengths) => {
        const items = raws.map(
          (raw, at) =>
            `<m:One><t:Mime CharacterSet="UTF-8">${Buffer.from(raw).toString("base64")}</t:Mime><t:Id Id="${at}"/></m:One>`,
        );
        const all = await read(`<s:Envelope>${items.join("")}</s:Envelope>`, lengths, ["One"], "Mime");
        assert.deepEqual(
          all.map((one) => findElement(one, "Id")?.attributes["Id"]),
          raws.map((_, at) => String(at)),
        );
        assert.deepEqual(
          all.map((one) => new Uint8Array(findElement(one, "Mime")?.bytes ?? [])),
          raws.map((raw) => new Uint8Array(raw)),
        );
      }),
    );
  });
});
