/** The odd messages that are dangerous by size: many parts, deep nesting, huge headers, a large attachment. */
import { type Head, headLines, joined, leaf, message, multipart } from "./mail.ts";

/** The bombs by name; each takes the head and how much of it there shall be. */
export const bombs = { manyParts, deepNesting, largeAttachment, hugeHeaders, manyAddresses, manyParameters };

function manyParts(head?: Head, count = 10_000): Buffer {
  const parts = Array.from({ length: count }, (_, index) => leaf("text/plain", `part ${index}`));
  return joined(headLines({ subject: `A message of ${count} parts`, ...head }), multipart("mixed", parts, "p"));
}

function deepNesting(head?: Head, levels = 300): Buffer {
  let inside = leaf("text/plain", "at the bottom");
  for (let level = levels; level > 0; level--) inside = multipart("mixed", [inside], `level-${level}`);
  return joined(headLines({ subject: `${levels} levels deep`, ...head }), inside);
}

/** One attachment of `bytes` bytes (60 MB), so about 82 MB on the wire: written in place, without a copy as lines. */
function largeAttachment(head?: Head, bytes = 60 * 1024 * 1024): Buffer {
  const whole = Math.ceil(bytes / 57);
  // 57 bytes are one base64 line of 76 characters, and the pattern repeats itself every 57 bytes.
  const line = `${Buffer.from("Fifty-seven bytes make one whole line of base64, no more.").toString("base64")}\r\n`;
  const around = message({
    subject: "A large attachment",
    ...head,
    attachments: [{ filename: "large.bin", content: "PLACEHOLDER" }],
  }).toString("latin1");
  const [before, after] = around.split(Buffer.from("PLACEHOLDER").toString("base64"));
  const content = Buffer.alloc(whole * line.length, line);
  return Buffer.concat([
    Buffer.from(before ?? "", "latin1"),
    content,
    Buffer.from((after ?? "").trimStart(), "latin1"),
  ]);
}

function hugeHeaders(head?: Head, bytes = 4 * 1024 * 1024): Buffer {
  const folded = Array.from({ length: Math.ceil(bytes / 2 / 76) }, () => "x".repeat(72)).join("\r\n ");
  const single = "y".repeat(bytes / 2);
  const headers = { "X-Folded": folded, "X-One-Line": single, ...head?.headers };
  return message({ subject: "Huge headers", text: "small body\r\n", ...head, headers });
}

function manyAddresses(head?: Head, count = 50_000): Buffer {
  const addresses = Array.from({ length: count }, (_, index) => `u${index}@receiver.example`).join(",\r\n ");
  return message({ subject: `${count} receivers`, ...head, to: addresses });
}

// RFC 2231 continuations without end (CVE-2026-27859).
function manyParameters(head?: Head, count = 20_000): Buffer {
  const parameters = Array.from({ length: count }, (_, index) => ` name*${index}*=utf-8''x${index}`).join(";\r\n");
  return joined(
    headLines({ subject: "Many parameters", ...head }),
    leaf(`application/x-odd;\r\n${parameters}`, "Hi\r\n"),
  );
}
