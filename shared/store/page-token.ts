/** Page tokens: where the next page of a list begins. They are opaque to clients. */
import { Problem } from "../contract/problem.ts";

/** Encodes the key of a page's last row. */
export function encodePageToken(key: readonly string[]): string {
  return Buffer.from(JSON.stringify(key)).toString("base64url");
}

/** Decodes a token into `parts` strings. Throws `invalid` for a text that no page returned. */
export function decodePageToken(token: string, parts: number): string[] {
  const key = parseJson(Buffer.from(token, "base64url").toString());
  if (Array.isArray(key) && key.length === parts && key.every((part) => typeof part === "string")) return key;
  const message = "must be the `next` of an earlier page";
  throw new Problem("invalid", `cursor ${message}`, { retry: "never", errors: [{ path: "cursor", message }] });
}

/** Undefined for a text that is not JSON. The caller reports it together with JSON of a wrong shape. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/**
 * Splits `limit + 1` rows into a page of `limit` rows and the token of the next page. The token is null on the last
 * page.
 */
export function paginate<Row>(
  rows: Row[],
  limit: number,
  keyOf: (row: Row) => string[],
): { rows: Row[]; next: string | null } {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { rows: page, next: rows.length > limit && last !== undefined ? encodePageToken(keyOf(last)) : null };
}
