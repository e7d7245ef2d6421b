/** format=flowed (RFC 3676): joins lines that were broken for sending, within their quote depth. */

/** Joins the lines of a flowed text. With `deleteSpace` (DelSp=yes) the blank of a soft break is removed too. */
export function joinFlowed(text: string, deleteSpace: boolean): string {
  const lines: string[] = [];
  let [open, openDepth] = [false, 0];
  for (const raw of text.split(/\r?\n/)) {
    const depth = /^>*/.exec(raw)?.[0].length ?? 0;
    const rest = raw.slice(depth);
    // Space-stuffing: the sender added a blank before a line that would look like a quote.
    const line = rest.startsWith(" ") ? rest.slice(1) : rest;
    const flows = line.endsWith(" ") && line !== "-- ";
    const used = flows && deleteSpace ? line.slice(0, -1) : line;
    const joins = open && depth === openDepth && line !== "-- ";
    if (joins) lines.push((lines.pop() ?? "") + used);
    else lines.push(depth > 0 ? `${">".repeat(depth)} ${used}` : used);
    [open, openDepth] = [flows, depth];
  }
  return lines.join("\n");
}
