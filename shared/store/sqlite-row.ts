/** Reading rows: each column is checked to be of the type it was written with, so that a damaged file is noticed. */
import type { SQLOutputValue } from "node:sqlite";
import { Problem } from "../contract/problem.ts";

export type Row = Record<string, SQLOutputValue>;

/** The column as a number. Throws `store` when there is no row or it holds something else. */
export function integer(row: Row | undefined, column: string): number {
  const value = row?.[column];
  if (typeof value === "number") return value;
  throw damaged(column);
}

export function text(row: Row | undefined, column: string): string {
  const value = row?.[column];
  if (typeof value === "string") return value;
  throw damaged(column);
}

export function textOrNull(row: Row | undefined, column: string): string | null {
  return row?.[column] === null ? null : text(row, column);
}

export function bytes(row: Row | undefined, column: string): Uint8Array {
  const value = row?.[column];
  if (value instanceof Uint8Array) return value;
  throw damaged(column);
}

/** The column's JSON text, parsed but not yet checked. */
export function json(row: Row | undefined, column: string): unknown {
  return JSON.parse(text(row, column));
}

function damaged(column: string): Problem {
  return new Problem("store", `The database holds something unexpected in "${column}"`, { retry: "never" });
}
