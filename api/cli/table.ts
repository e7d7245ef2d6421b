/** How commands print lists for people. */

const GAP = "  ";
/** Longer cells are cut, so that a row stays a row. The last one of a row may be longer. */
const [MAX_CELL, MAX_LAST_CELL] = [100, 300];

/** Rows as aligned columns below their names. The last column is not padded. */
export function formatTable(names: string[], rows: unknown[][]): string {
  const last = names.length - 1;
  const toCell = (value: unknown, column: number) => formatCell(value, column === last ? MAX_LAST_CELL : MAX_CELL);
  const cells = [names, ...rows.map((row) => row.map(toCell))];
  const widths = names.map((_, column) => Math.max(...cells.map((row) => (row[column] ?? "").length)));
  return cells
    .map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(GAP))
    .map((line) => line.trimEnd())
    .join("\n");
}

/** The text in one line. Control characters are replaced, because mail servers and senders choose some of the text. */
export function cleanLine(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\s]+/gu, " ").trim();
}

function formatCell(value: unknown, most: number): string {
  const text = value === null || value === undefined || value === "" ? "-" : String(value);
  const line = cleanLine(text);
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

/** The fields of a fact in one line: `folder=INBOX count=1`. */
export function formatFields(fields: [name: string, value: unknown][]): string {
  return fields
    .map(([name, value]) => `${name}=${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(" ");
}
