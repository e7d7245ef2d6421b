/** What an endpoint's answer, or no answer, means for a delivery: one table of statuses, one of network errors. */
import { Problem } from "../../shared/contract/problem.ts";
import { type Given, quoteWords } from "../../shared/evidence/evidence.ts";
import type { PostOutcome } from "./endpoint.ts";

/** The head of an answer, and the beginning of its body if it was read. */
export type EndpointResponse = {
  status: number;
  headers: { "retry-after"?: string | undefined; location?: string | undefined };
  text: string;
};

type StatusRule = { retry: "later" | "never"; meaning: string; gone?: true };

/**
 * Statuses with a meaning of their own. Any other status except 2xx is tried again, also 4xx: an endpoint under repair
 * or behind a wrong proxy often answers 401 or 404.
 */
const STATUS_RULES: ReadonlyMap<number, StatusRule> = new Map<number, StatusRule>([
  [401, { retry: "later", meaning: "it asks for credentials" }],
  [403, { retry: "later", meaning: "it forbids the request" }],
  [404, { retry: "later", meaning: "there is nothing at this address" }],
  [408, { retry: "later", meaning: "it timed out" }],
  [410, { retry: "never", meaning: "Gone: it accepts no more messages", gone: true }],
  [413, { retry: "never", meaning: "the message is too large for it; lower maxAttachmentBytes or raise its limit" }],
  [425, { retry: "later", meaning: "it is too early" }],
  [429, { retry: "later", meaning: "too many requests" }],
]);

/** Statuses that concern one message and not the endpoint. */
const MESSAGE_STATUSES = new Set([400, 409, 413, 415, 422, 431]);

const SECOND = 1000;
/**
 * Retry-After counts within these bounds. An endpoint can neither cause a flood of requests nor delay us for a week.
 */
const RETRY_AFTER_BOUNDS = { least: SECOND, most: 3600 * SECOND };
const MAX_FAULT = 200;

/** Whether an outcome means that the whole endpoint has a problem (for its circuit breaker). */
export function isEndpointFailure(outcome: PostOutcome): boolean {
  return outcome.kind === "refused" && !outcome.gone && !MESSAGE_STATUSES.has(outcome.status ?? 0);
}

/** What a proxy answers while the program behind it is away. */
const GATEWAY_STATUSES = new Set([502, 503, 504]);

/** Whether nobody was there: no connection, or only a proxy. */
export function isAbsent(outcome: { status: number | null; unreached?: boolean; retryAt?: Date | null }): boolean {
  return outcome.unreached === true || (GATEWAY_STATUSES.has(outcome.status ?? 0) && !outcome.retryAt);
}

/**
 * The outcome of a POST with an answer. Only 2xx accepts. Redirects are refused, because they would leave the checked
 * address. `given` is asked only for a refusal.
 */
export function outcomeOfResponse(response: EndpointResponse, given: () => Given, ms: number, now: Date): PostOutcome {
  const { status } = response;
  if (status >= 200 && status < 300) return { kind: "accepted", status, ms };
  const rule = STATUS_RULES.get(status) ?? { retry: "later", meaning: describeRedirect(response) };
  return {
    kind: "refused",
    status,
    ms,
    reason: `the endpoint answered ${status}${rule.meaning && ` (${rule.meaning})`}`,
    words: quoteWords(redirectTarget(response) ?? response.text, given()) || null,
    retry: rule.retry,
    retryAt: rule.retry === "later" ? parseRetryAfter(response.headers["retry-after"], now) : null,
    gone: rule.gone ?? false,
  };
}

/** The outcome of a POST without an answer. `unreached`: there was no connection. */
export function outcomeOfError(error: unknown, ms: number, { unreached }: { unreached: boolean }): PostOutcome {
  const never = error instanceof Problem && error.retry === "never";
  const reason = error instanceof Problem ? error.message : describeNetworkFault(error);
  const retry = never ? "never" : "later";
  const isNameUnknown = error instanceof Problem && error.code === "dns";
  const outcome = {
    kind: "refused",
    status: null,
    ms,
    reason,
    words: null,
    retry,
    retryAt: null,
    gone: false,
  } as const;
  return { ...outcome, unreached: unreached || isNameUnknown };
}

function redirectTarget({ status, headers }: EndpointResponse): string | undefined {
  const target = status >= 300 && status < 400 ? URL.parse(headers.location ?? "") : null;
  return target ? `to ${target.origin}` : undefined;
}

function describeRedirect({ status }: EndpointResponse): string {
  if (status < 300 || status > 399) return "";
  return "it redirects, which is not followed; set deliver.url to the final address";
}

/** Retry-After (RFC 9110 section 10.2.3), in seconds or as a date, within the bounds; null when there is none. */
export function parseRetryAfter(value: string | undefined, now: Date): Date | null {
  const text = value?.trim() ?? "";
  const wait = /^\d{1,10}$/.test(text) ? Number(text) * SECOND : Date.parse(text) - now.getTime();
  if (text === "" || Number.isNaN(wait)) return null;
  return new Date(now.getTime() + Math.min(Math.max(wait, RETRY_AFTER_BOUNDS.least), RETRY_AFTER_BOUNDS.most));
}

/** Error codes of Node, Bun and Deno in words. The beginning of a code is enough. */
const NETWORK_FAULTS: [RegExp, string][] = [
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

function describeNetworkFault(error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const text = error instanceof Error ? error.message : String(error);
  // A connection that just ends has its own message and not always a code.
  const words = /socket hang up/i.test(text)
    ? NETWORK_FAULTS[1]?.[1]
    : NETWORK_FAULTS.find(([pattern]) => pattern.test(code))?.[1];
  return words
    ? `${words}${code ? ` (${code})` : ""}`
    : `no answer from the endpoint: ${quoteWords(text, { secrets: [] }, MAX_FAULT)}`;
}
