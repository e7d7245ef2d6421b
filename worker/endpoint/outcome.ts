/** What an endpoint's answer, or its absence, means for a delivery: one table of statuses, one of network faults. */
import { Problem } from "../../shared/contract/problem.ts";
import type { PostOutcome } from "./endpoint.ts";

/** The head of an answer and the beginning of its body, when it was read. */
export type Answer = {
  status: number;
  headers: { "retry-after"?: string | undefined; location?: string | undefined };
  text: string;
};

type Verdict = { retry: "later" | "never"; says: string; gone?: true };

/**
 * Answers that mean something of their own; any other status that is not 2xx is tried again, 4xx included: an endpoint under
 * repair or behind a wrong proxy often answers 401 or 404.
 */
const VERDICTS: ReadonlyMap<number, Verdict> = new Map<number, Verdict>([
  [401, { retry: "later", says: "it wants credentials" }],
  [403, { retry: "later", says: "it forbids the request" }],
  [404, { retry: "later", says: "there is nothing at this address" }],
  [408, { retry: "later", says: "it timed out" }],
  [410, { retry: "never", says: "Gone: it wants no more messages", gone: true }],
  [413, { retry: "never", says: "the message is too large for it; lower maxAttachmentBytes or raise its limit" }],
  [425, { retry: "later", says: "it is too early" }],
  [429, { retry: "later", says: "too many requests" }],
]);

/** Statuses that are about one message, not about the endpoint. */
const ABOUT_THE_MESSAGE = new Set([400, 409, 413, 415, 422, 431]);

const SECOND = 1000;
/** Retry-After is honoured within these bounds: an endpoint can neither hammer itself nor put us off for a week. */
const RETRY_AFTER = { least: SECOND, most: 3600 * SECOND };
const REASON_LENGTH = 500;

/** Whether an outcome says that the endpoint as a whole is in trouble (for its circuit breaker). */
export function isTrouble(outcome: PostOutcome): boolean {
  return outcome.kind === "refused" && !outcome.gone && !ABOUT_THE_MESSAGE.has(outcome.status ?? 0);
}

/** The outcome of a POST that got an answer. Only 2xx accepts; redirects are refused, since they would leave what was checked. */
export function answered(answer: Answer, ms: number, now: Date): PostOutcome {
  const { status } = answer;
  if (status >= 200 && status < 300) return { kind: "accepted", status, ms };
  const verdict = VERDICTS.get(status) ?? { retry: "later", says: redirects(answer) };
  const words = [`the endpoint answered ${status}`, verdict.says && ` (${verdict.says})`, quoted(answer.text)];
  return {
    kind: "refused",
    status,
    ms,
    reason: words.join("").slice(0, REASON_LENGTH),
    retry: verdict.retry,
    retryAt: verdict.retry === "later" ? retryAfter(answer.headers["retry-after"], now) : null,
    gone: verdict.gone ?? false,
  };
}

/** The outcome of a POST that got no answer. */
export function unanswered(error: unknown, ms: number): PostOutcome {
  const never = error instanceof Problem && error.retry === "never";
  const reason = error instanceof Problem ? error.message : networkFault(error);
  return { kind: "refused", status: null, ms, reason, retry: never ? "never" : "later", retryAt: null, gone: false };
}

function redirects({ status, headers }: Answer): string {
  if (status < 300 || status > 399) return "";
  const location = headers.location ?? "";
  const target = URL.canParse(location) ? new URL(location) : undefined;
  const where = target ? ` to ${target.origin}` : "";
  return `it redirects${where}, which is not followed; set deliver.url to the final address`;
}

// Control characters would forge log lines.
function quoted(text: string): string {
  const words = text
    .replace(/[\p{Cc}\p{Cf}\s]+/gu, " ")
    .trim()
    .toWellFormed();
  return words === "" ? "" : `: ${words}`;
}

/** What is compared of a message, and how long a piece of it counts as repeated. */
const REPEATED = { bytes: 1024 * 1024, piece: 24 };

/** The endpoint's words, unless they repeat the message: no part of a message may get into logs. */
export function ownWords(words: string, body: Uint8Array | string): string {
  if (words.length < REPEATED.piece) return words;
  const sent = typeof body === "string" ? body : Buffer.from(body.subarray(0, REPEATED.bytes)).toString("utf8");
  const most = sent.slice(0, REPEATED.bytes);
  for (let at = 0; at < words.length; at += REPEATED.piece / 2) {
    const piece = words.slice(at, at + REPEATED.piece);
    if (piece.length === REPEATED.piece && most.includes(piece)) return "(its words repeat the message)";
  }
  return words;
}

/** Retry-After (RFC 9110 section 10.2.3), in seconds or as a date, within the bounds; null when there is none. */
export function retryAfter(value: string | undefined, now: Date): Date | null {
  const text = value?.trim() ?? "";
  const wait = /^\d{1,10}$/.test(text) ? Number(text) * SECOND : Date.parse(text) - now.getTime();
  if (text === "" || Number.isNaN(wait)) return null;
  return new Date(now.getTime() + Math.min(Math.max(wait, RETRY_AFTER.least), RETRY_AFTER.most));
}

/** Codes of Node, Bun and Deno in words; the beginning of a code is enough. */
const FAULTS: [RegExp, string][] = [
  [/^ECONNREFUSED/, "the endpoint refuses connections"],
  [/^(ECONNRESET|EPIPE)/, "the endpoint closed the connection without an answer"],
  [/^(ETIMEDOUT|ESOCKETTIMEDOUT)/, "the endpoint does not answer"],
  [/^(EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL)/, "the endpoint's network cannot be reached"],
  [/^CERT_HAS_EXPIRED/, "the endpoint's certificate has expired"],
  [/^ERR_TLS_CERT_ALTNAME_INVALID/, "the endpoint's certificate is for another name"],
  [/^(DEPTH_ZERO_|SELF_SIGNED|UNABLE_TO_|CERT_)/, "the endpoint's certificate is not trusted"],
  [/^(EPROTO|ERR_SSL|ERR_TLS)/, "the endpoint does not speak TLS properly"],
  [/^HPE_/, "the endpoint does not speak HTTP"],
];

function networkFault(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const text = error instanceof Error ? error.message : String(error);
  // A connection that just ends has its own message and not always a code.
  const words = /socket hang up/i.test(text) ? FAULTS[1]?.[1] : FAULTS.find(([pattern]) => pattern.test(code))?.[1];
  return words ? `${words}${code ? ` (${code})` : ""}` : `no answer from the endpoint: ${quoted(text).slice(2, 300)}`;
}
