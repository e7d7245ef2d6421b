/** format=flowed (RFC 3676): joins lines that were broken for sending, within their quote depth. */

import { textPieces } from "./charset/text-pieces.ts";

/** Joins the lines of a flowed text. With `deleteSpace` (DelSp=yes) the blank of a soft break is removed too. */
export function joinFlowed(text: string, deleteSpace: boolean): string {
  const joined = textPieces();
  let [open, openDepth] = [false, 0];
  for (let at = 0; at <= text.length;) {
    const { line: raw, next } = lineAt(text, at);
    const depth = quoteDepth(raw);
    const rest = raw.slice(depth);
    // Space-stuffing: the sender added a blank before a line that would look like a quote.
    const line = rest.startsWith(" ") ? rest.slice(1) : rest;
    const flows = line.endsWith(" ") && line !== "-- ";
    const used = flows && deleteSpace ? line.slice(0, -1) : line;
    if (!open || depth !== openDepth || line === "-- ")
      joined.add(`${at > 0 ? "\n" : ""}${depth > 0 ? `${">".repeat(depth)} ` : ""}`);
    joined.add(used);
    [open, openDepth] = [flows, depth];
    at = next;
  }
  return joined.text();
}

// After the last line, `next` is behind the end.
function lineAt(text: string, at: number): { line: string; next: number } {
  const feed = text.indexOf("\n", at);
  if (feed < 0) return { line: text.slice(at), next: text.length + 1 };
  return { line: text.slice(at, text.charAt(feed - 1) === "\r" && feed > at ? feed - 1 : feed), next: feed + 1 };
}

function quoteDepth(line: string): number {
  let depth = 0;
  while (line.charAt(depth) === ">") depth++;
  return depth;
}
