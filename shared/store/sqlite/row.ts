/** Reading rows: each column is checked to be of the type it was written with, so that a damaged file is noticed. */
import type { SQLOutputValue } from "node:sqlite";
import { setImmediate } from "node:timers/promises";
import { Problem } from "../../contract/problem.ts";

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

/** As many rows as are read, parsed and opened in about two milliseconds. */
const AT_ONCE = 50;

/** Reads many rows without holding up everybody else: after every few of them others have their turn. */
export async function readInTurns<T>(rows: Row[], read: (row: Row) => T): Promise<T[]> {
  const results: T[] = [];
  for (const row of rows) {
    if (results.length % AT_ONCE === AT_ONCE - 1) await setImmediate();
    results.push(read(row));
  }
  return results;
}

function damaged(column: string): Problem {
  return new Problem("store", `The database holds something unexpected in "${column}"`, { retry: "never" });
}
