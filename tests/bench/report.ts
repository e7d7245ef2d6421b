/** What a part of the bench gets and gives, and how it is printed. */
import type { MEASURED } from "../../api/sizing.ts";
import type { Mail, Runtime } from "./rivals.ts";

type Sizes = {
  mailboxes: number;
  mails: number;
  burst: number;
  bytes: number;
  idle: number;
  held: number;
  dense: number;
  registered: number;
  long: number;
};
export type Setup = { sizes: Sizes; runtime: Runtime };
/** For what needs a Dovecot. */
export type Bench = Setup & {
  mail: Mail;
  /** So many users of the mail server that no other part has. */
  users: (count: number) => string[];
};
export type Row = {
  what: string;
  ours: string;
  bare: string;
  compared: string;
  /** What the sizing table needs of it, in bytes and seconds. */
  sizing?: Partial<Record<keyof typeof MEASURED, number>>;
};
/** How fast messages were worked off, and the CPU seconds of all processes per 1,000 of them. */
export type Result = { perSecond: number; cpu: number };

export function shown(value: number, unit = ""): string {
  const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
  return `${value.toFixed(digits)} ${unit}`.trim();
}

export const ratio = (ours: number, bare: number) => `x ${(ours / bare).toFixed(2)}`;

/** The two rows that set one result beside another. */
export function compared(name: string, ours: Result | undefined, bare: Result | undefined): Row[] {
  if (!ours || !bare) return [];
  return [
    {
      what: `${name}, per second`,
      ours: shown(ours.perSecond),
      bare: shown(bare.perSecond),
      compared: ratio(ours.perSecond, bare.perSecond),
    },
    {
      what: `${name}, CPU per 1,000`,
      ours: shown(ours.cpu, "s"),
      bare: shown(bare.cpu, "s"),
      compared: ratio(ours.cpu, bare.cpu),
    },
  ];
}

/** Columns as wide as their widest cell; `heads` are the names of the two that are set beside each other. */
export function table(rows: Row[], heads: readonly [string, string]): string {
  const cells = [["", ...heads, "compared"], ...rows.map((row) => [row.what, row.ours, row.bare, row.compared])];
  const widths = [0, 1, 2, 3].map((column) => Math.max(...cells.map((row) => row[column]?.length ?? 0)));
  return cells
    .map((row) =>
      row
        .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
        .join("   "),
    )
    .join("\n");
}
