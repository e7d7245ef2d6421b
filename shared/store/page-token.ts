/** Page marks: where the next page of a list begins, opaque to clients. */
import { Problem } from "../contract/problem.ts";

/** The key of a page's last row as an opaque text. */
export function markAfter(key: readonly string[]): string {
  return Buffer.from(JSON.stringify(key)).toString("base64url");
}

/** The reverse, `parts` strings long. Throws `invalid` for anything that no page gave out. */
export function readMark(mark: string, parts: number): string[] {
  const key = parsed(Buffer.from(mark, "base64url").toString());
  if (Array.isArray(key) && key.length === parts && key.every((part) => typeof part === "string")) return key;
  const message = "must be the `next` of an earlier page";
  throw new Problem("invalid", `cursor ${message}`, { retry: "never", errors: [{ path: "cursor", message }] });
}

/** Undefined for what is not JSON: the caller reports it together with JSON of a wrong shape. */
function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Splits `limit + 1` rows into a page of `limit` and the mark of the next one, null when this is the last. */
export function cut<Row>(
  rows: Row[],
  limit: number,
  keyOf: (row: Row) => string[],
): { rows: Row[]; next: string | null } {
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return { rows: page, next: rows.length > limit && last !== undefined ? markAfter(keyOf(last)) : null };
}
