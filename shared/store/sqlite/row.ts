/** Reads rows and checks that each column has the type it was written with, so that a damaged file is noticed. */
import type { SQLOutputValue } from "node:sqlite";
import { setImmediate } from "node:timers/promises";
import { Problem } from "../../contract/problem.ts";

export type Row = Record<string, SQLOutputValue>;

/** The column as a number. Throws `store` when there is no row or the column holds something else. */
export function integer(row: Row | undefined, column: string): number {
  const value = row?.[column];
  if (typeof value === "number") return value;
  throw toColumnProblem(column);
}

export function text(row: Row | undefined, column: string): string {
  const value = row?.[column];
  if (typeof value === "string") return value;
  throw toColumnProblem(column);
}

export function textOrNull(row: Row | undefined, column: string): string | null {
  return row?.[column] === null ? null : text(row, column);
}

export function bytes(row: Row | undefined, column: string): Uint8Array {
  const value = row?.[column];
  if (value instanceof Uint8Array) return value;
  throw toColumnProblem(column);
}

/** The column's JSON text, parsed but not yet checked. */
export function json(row: Row | undefined, column: string): unknown {
  return JSON.parse(text(row, column));
}

/** Reading, parsing and decrypting this many rows takes about two milliseconds. */
const BATCH_SIZE = 50;

/** Reads many rows in batches. Other work gets its turn between two batches. */
export async function readInBatches<T>(rows: Row[], read: (row: Row) => T): Promise<T[]> {
  const results: T[] = [];
  for (const row of rows) {
    if (results.length % BATCH_SIZE === BATCH_SIZE - 1) await setImmediate();
    results.push(read(row));
  }
  return results;
}

function toColumnProblem(column: string): Problem {
  return new Problem("store", `The database holds something unexpected in "${column}"`, { retry: "never" });
}
