/** MIME as Exchange gives it: made anew at each download, so that the boundaries differ and nothing else does. */
import { randomBytes } from "node:crypto";

/** The same message with other boundaries. */
export function rewrapped(raw: Buffer): Buffer {
  const text = raw.toString("latin1");
  const found = [...text.matchAll(/^content-type:\s*multipart\/[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*/gim)].flatMap(
    ([field]) => {
      const [, quoted, plain] = /boundary\s*=\s*(?:"([^"\r\n]+)"|([^\s;"]+))/i.exec(field) ?? [];
      const boundary = quoted ?? plain;
      return boundary === undefined ? [] : [boundary];
    },
  );
  if (found.length === 0) return raw;
  const fresh = new Map(found.map((one) => [one, `_000_${randomBytes(16).toString("hex").toUpperCase()}test_`]));
  // The longest first: one boundary may begin with another.
  const names = [...fresh.keys()].toSorted((a, b) => b.length - a.length).map(escaped);
  const pattern = new RegExp(
    `(^--|boundary\\s*=\\s*"?)(${names.join("|")})(?=(?:--)?[ \\t]*\\r?$|["; \\t\\r\\n])`,
    "gim",
  );
  return Buffer.from(
    text.replace(pattern, (whole, before: string, name: string) => {
      const other = fresh.get(name);
      return other === undefined ? whole : `${before}${other}`;
    }),
    "latin1",
  );
}

function escaped(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");
}
