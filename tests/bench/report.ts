/** What a part of the bench gets and gives, and how it is printed. */
import type { Mail, Runtime } from "./rivals.ts";

type Sizes = { mailboxes: number; mails: number; burst: number; bytes: number; idle: number };
export type Bench = {
  mail: Mail;
  /** So many users of the mail server that no other part has. */
  users: (count: number) => string[];
  sizes: Sizes;
  runtime: Runtime;
};
export type Row = { what: string; ours: string; bare: string; compared: string };

export function shown(value: number, unit = ""): string {
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return `${value.toFixed(digits)} ${unit}`.trim();
}

export const ratio = (ours: number, bare: number) => `x ${(ours / bare).toFixed(2)}`;

/** Columns as wide as their widest cell. */
export function table(rows: Row[], titles = ["service", "bare loop"]): string {
  const cells = [["", ...titles, "compared"], ...rows.map((row) => [row.what, row.ours, row.bare, row.compared])];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("   "),
    )
    .join("\n");
}
