/** Writes a message from winmail.dat in Internet form (RFC 5322), when it is a file in another message. */
import type { TnefMessage } from "../tnef/message.ts";

const LINE = 76;
/** The bytes of text in one encoded word, which may have 75 characters. */
const WORD_BYTES = 42;

/** The message with its body, files and nested messages. It is ASCII only. */
export function writeMessage(message: TnefMessage, depth = 0): Buffer {
  const boundary = `=_part_${depth}`;
  const { subject, from, date, text, html, files } = message;
  const head = [
    ...(from ? [`From: ${encodeWords(from.name)} <${from.address.replace(/[^\x21-\x7e]|[<>]/g, "")}>`] : []),
    ...(subject === null ? [] : [`Subject: ${encodeWords(subject)}`]),
    ...(date ? [`Date: ${date.toUTCString().replace("GMT", "+0000")}`] : []),
    "MIME-Version: 1.0",
    `Content-Type: multipart/mixed; boundary="${boundary}"`,
    "",
  ];
  const bodies = [
    ...(text === null ? [] : [encodePart("text/plain; charset=utf-8", null, Buffer.from(text))]),
    ...(html === null ? [] : [encodePart("text/html; charset=utf-8", null, Buffer.from(html))]),
  ];
  const body = bodies.length > 1 ? [joinParts(`=_body_${depth}`, bodies)] : bodies;
  const parts = files.map((file) =>
    file.message
      ? Buffer.concat([Buffer.from("Content-Type: message/rfc822\r\n\r\n"), writeMessage(file.message, depth + 1)])
      : encodePart("application/octet-stream", file.name, file.content),
  );
  const delimiter = Buffer.from(`\r\n--${boundary}\r\n`);
  return Buffer.concat([
    Buffer.from(head.join("\r\n")),
    ...[...body, ...parts].flatMap((part) => [delimiter, part]),
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
}

function joinParts(boundary: string, parts: Buffer[]): Buffer {
  const delimiter = Buffer.from(`\r\n--${boundary}\r\n`);
  return Buffer.concat([
    Buffer.from(`Content-Type: multipart/alternative; boundary="${boundary}"\r\n`),
    ...parts.flatMap((part) => [delimiter, part]),
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
}

function encodePart(type: string, name: string | null, content: Buffer): Buffer {
  const filename =
    name === null ? "" : `; filename*=utf-8''${encodeURIComponent(name.toWellFormed()).replaceAll("'", "%27")}`;
  const disposition = name === null ? "" : `Content-Disposition: attachment${filename}\r\n`;
  const lines = content.toString("base64").replace(new RegExp(`.{${LINE}}`, "g"), "$&\r\n");
  return Buffer.from(`Content-Type: ${type}\r\n${disposition}Content-Transfer-Encoding: base64\r\n\r\n${lines}`);
}

// RFC 2047, if there is anything but plain words.
function encodeWords(text: string): string {
  const line = text.toWellFormed().replace(/[\r\n]+/g, " ");
  if (/^[A-Za-z0-9 .,!?'+/-]*$/.test(line)) return line;
  const words: string[] = [];
  let word = "";
  for (const character of line) {
    if (Buffer.byteLength(word + character) > WORD_BYTES) {
      words.push(word);
      word = "";
    }
    word += character;
  }
  return [...words, word].map((one) => `=?utf-8?B?${Buffer.from(one).toString("base64")}?=`).join("\r\n ");
}
