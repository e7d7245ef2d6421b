/** What all stores of tokens, audit entries and lists by prefix have in common. */
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { Problem } from "../contract/problem.ts";
import { AuditEntry } from "../contract/token.ts";

export const MAX_TOKENS = 1_000;
/** Entries that are kept of one actor. */
export const MAX_ENTRIES = 2_000;
const KEEP_ENTRIES_MS = 90 * 24 * 3_600_000;
/** An expired token is listed for so long, so that people see why it no longer works. */
const KEEP_EXPIRED_MS = 30 * 24 * 3_600_000;

/** Audit entries before `entries` and tokens that expired before `tokens` are deleted. Both in milliseconds. */
export function expiryTimes(now: Date): { entries: number; tokens: number } {
  return { entries: now.getTime() - KEEP_ENTRIES_MS, tokens: now.getTime() - KEEP_EXPIRED_MS };
}

/** Makes ids of audit entries that sort in their order: a number that only grows, and what other processes do not make. */
export function entryIds(): () => string {
  let made = 0;
  return () => (made++).toString(16).padStart(8, "0") + randomBytes(8).toString("hex");
}

export function tooManyTokens(): Problem {
  return new Problem("conflict", `There are ${MAX_TOKENS} tokens already. Remove one that nobody uses.`, {
    retry: "never",
  });
}

/**
 * A text after all ids that begin with this prefix, and before all others that are greater: no id has a tilde, which
 * sorts after all characters of ids. Undefined without a prefix.
 */
export function endOfPrefix(prefix: string | undefined): string | undefined {
  return prefix ? `${prefix}~` : undefined;
}

export function parseEntry(doc: string): AuditEntry {
  const result = v.safeParse(AuditEntry, JSON.parse(doc));
  if (result.success) return result.output;
  throw new Problem("store", "The store holds an audit entry that cannot be read", { retry: "never" });
}

/** Tries that an address has: at most `size`, and one more every `refillMs`. */
export type Tries = { size: number; refillMs: number };

/** Wrong credentials by address, counted over all nodes. */
export interface WrongCredentials {
  /** Takes one try. Resolves how many are left: less than 0 if there was none, at least `-size`. */
  take(address: string, tries: Tries): Promise<number>;
}
