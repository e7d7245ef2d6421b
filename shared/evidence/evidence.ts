/**
 * What a server, an endpoint or a proxy said, fit to be shown, stored and sent on: in one printable line, without the
 * secrets that it was given and without the message that it was given, in whatever form it repeats them.
 */
import type { Evidence } from "../contract/evidence.ts";
import { Problem } from "../contract/problem.ts";
import { findMessage } from "./message.ts";
import { findSecrets, type Place } from "./secrets.ts";

/** What the other side was given and must not be repeated. */
export type Given = { secrets: readonly string[]; message?: Uint8Array | string };

/** So much is read. It bounds what a long answer costs. */
const MAX_READ = 1000;
const MAX_SHOWN = 500;

/** One printable line of at most `most` characters, without what was given. */
export function quoteWords(words: string, given: Given, most = MAX_SHOWN): Evidence {
  const line = hideGiven(words.slice(0, MAX_READ).toWellFormed(), given)
    .replaceAll(/\p{Cc}+/gu, " ")
    .replaceAll(/\p{C}/gu, "");
  // This is the only place that makes evidence of a text from outside.
  return line.trim().slice(0, most) as Evidence;
}

/** The text with each part of a secret as `[secret]`, and of the message as `[message]`. */
export function hideGiven(text: string, { secrets, message }: Given): string {
  const repeated = message === undefined ? [] : findMessage(text, message);
  return replaceAt(text, [
    ...findSecrets(text, secrets).map((place) => ({ ...place, name: "[secret]" })),
    ...repeated.map((place) => ({ ...place, name: "[message]" })),
  ]);
}

/** The text with each group of places that touch replaced by the name of its first. */
function replaceAt(text: string, places: (Place & { name: string })[]): string {
  let result = "";
  let at = 0;
  for (const { start, end, name } of places.toSorted((a, b) => a.start - b.start)) {
    if (start > at || (start === 0 && at === 0)) result += text.slice(at, start) + name;
    at = Math.max(at, end);
  }
  return result + text.slice(at);
}

/** The same Problem without what the other side was given, in its cause too; other errors as they are. */
export function withoutGiven<E>(error: E, given: Given): E | Problem {
  if (!(error instanceof Problem)) return error;
  const { code, message, fix, retry, errors, cause } = error;
  const shown = hideGiven(message, given);
  const evidence = error.evidence === null ? null : quoteWords(error.evidence, given);
  if (shown === message && evidence === error.evidence) return error;
  return new Problem(code, shown, { fix, retry, errors, cause, ...(evidence !== null && { evidence }) });
}
