/**
 * Turns errors of Exchange into Problems: response codes of EWS, SOAP faults and HTTP statuses. The tables are data. An
 * error without a row is tried again later and never given up.
 */
import type { IncomingHttpHeaders } from "node:http";
import type { Evidence } from "../../../contract/evidence.ts";
import { Problem, type ProblemCode, type Retry } from "../../../contract/problem.ts";
import { quoteWords } from "../../../evidence/evidence.ts";
import { clock } from "../../../time.ts";
/** What the server said: its response code (ErrorServerBusy, ...), and how long it wants no requests. */
export type EwsError = { code: string; backOffMs?: number | null | undefined };

type Row = { code: ProblemCode; cause: string; retry?: Retry | { ms: number } };

const MINUTE = 60_000;
/** The server chooses the time, within these bounds. */
const MAX_BACK_OFF_MS = 60 * MINUTE;
/** Used if the server asks to slow down without a time. */
const DEFAULT_BACK_OFF_MS = 30_000;

const THROTTLED: Row = { code: "throttled", cause: "Exchange asks to slow down", retry: { ms: DEFAULT_BACK_OFF_MS } };
const MAILBOX_NOT_FOUND = "Exchange has no mailbox for this address, or the mailbox moved to another server";
const SUBSCRIPTION_EXPIRED = "The server no longer knows a subscription; the service makes a new one";
const NO_ACCESS = "The login may not open this mailbox";

/** Response codes (messages.xsd, ResponseCodeType) that need more than another attempt. */
const RESPONSE_CODES: Record<string, Row> = {
  ErrorServerBusy: THROTTLED,
  ErrorTooManyObjectsOpened: THROTTLED,
  ErrorExceededConnectionCount: {
    code: "too_many_connections",
    cause: "Exchange allows no more connections for this account",
    retry: { ms: DEFAULT_BACK_OFF_MS },
  },
  ErrorExceededSubscriptionCount: {
    code: "too_many_connections",
    cause: "Exchange allows no more subscriptions for this account",
    retry: { ms: 5 * MINUTE },
  },
  ErrorSubscriptionNotFound: { code: "unavailable", cause: SUBSCRIPTION_EXPIRED },
  ErrorInvalidSubscription: { code: "unavailable", cause: SUBSCRIPTION_EXPIRED },
  ErrorExpiredSubscription: { code: "unavailable", cause: SUBSCRIPTION_EXPIRED },
  ErrorSubscriptionUnsubscribed: { code: "unavailable", cause: SUBSCRIPTION_EXPIRED },
  ErrorSubscriptionAccessDenied: { code: "access", cause: "The subscription belongs to another login", retry: "later" },
  ErrorMissedNotificationEvents: {
    code: "unavailable",
    cause: "Exchange lost notifications; the service compares the folders",
  },
  ErrorInvalidSyncStateData: {
    code: "unavailable",
    cause: "The sync state is no longer valid; the folder is read again",
  },
  ErrorNonExistentMailbox: { code: "no_mailbox", cause: MAILBOX_NOT_FOUND, retry: "never" },
  ErrorMissingEmailAddress: { code: "no_mailbox", cause: "The login has no mailbox", retry: "never" },
  ErrorMailboxMoveInProgress: { code: "unavailable", cause: "The mailbox is being moved to another server" },
  ErrorMailboxStoreUnavailable: { code: "unavailable", cause: "The database of the mailbox is not available" },
  ErrorMailboxFailover: { code: "unavailable", cause: "The database of the mailbox is moving to another server" },
  ErrorConnectionFailed: { code: "unavailable", cause: "Exchange could not reach the mailbox" },
  ErrorMailboxConfiguration: { code: "no_mailbox", cause: "The mailbox is not set up correctly", retry: "never" },
  ErrorADUnavailable: { code: "unavailable", cause: "The directory behind Exchange is not available" },
  ErrorADOperation: { code: "unavailable", cause: "The directory behind Exchange did not answer" },
  ErrorInternalServerError: { code: "unavailable", cause: "Exchange has a temporary problem" },
  ErrorInternalServerTransientError: { code: "unavailable", cause: "Exchange has a temporary problem" },
  ErrorTimeoutExpired: { code: "unavailable", cause: "Exchange took too long" },
  ErrorProxyRequestProcessingFailed: { code: "unavailable", cause: "Exchange could not pass the request on" },
  ErrorProxyRequestNotAllowed: { code: "access", cause: "Exchange may not pass the request on", retry: "never" },
  ErrorMessageRateLimitExceeded: { code: "throttled", cause: "Too many messages were sent", retry: { ms: MINUTE } },
  ErrorSubmissionQuotaExceeded: { code: "throttled", cause: "The account has used up its limit of messages" },
  ErrorAccessDenied: { code: "access", cause: NO_ACCESS, retry: "never" },
  ErrorAccessModeSpecified: { code: "access", cause: NO_ACCESS, retry: "never" },
  ErrorImpersonateUserDenied: {
    code: "access",
    cause: "The login may not impersonate this mailbox (it lacks the role ApplicationImpersonation)",
    retry: "never",
  },
  ErrorImpersonationDenied: { code: "access", cause: "The login may not impersonate others", retry: "never" },
  ErrorImpersonationRequired: {
    code: "access",
    cause: "The token belongs to an application, which has no mailbox: set `access: impersonate`",
    retry: "never",
  },
  ErrorImpersonationFailed: { code: "access", cause: "Exchange could not impersonate this mailbox", retry: "never" },
  ErrorNonPrimarySmtpAddress: {
    code: "no_mailbox",
    cause: "The address is not the primary one of its mailbox, which impersonation needs",
    retry: "never",
  },
  ErrorInvalidSmtpAddress: { code: "no_mailbox", cause: "Exchange does not accept the address", retry: "never" },
  ErrorInvalidUserPrincipalName: { code: "no_mailbox", cause: "Exchange does not know this login", retry: "never" },
  ErrorAccountDisabled: { code: "auth", cause: "The account is disabled", retry: "never" },
  ErrorPasswordExpired: { code: "auth", cause: "The password has expired", retry: "never" },
  ErrorPasswordChangeRequired: { code: "auth", cause: "The password must be changed first", retry: "never" },
  ErrorSendAsDenied: { code: "sender", cause: "The login may not send under this address", retry: "never" },
  ErrorFolderNotFound: { code: "folder", cause: "There is no such folder", retry: "never" },
  ErrorToFolderNotFound: { code: "folder", cause: "There is no such folder", retry: "never" },
  ErrorInvalidFolderId: { code: "folder", cause: "There is no folder with this id", retry: "never" },
  ErrorItemNotFound: { code: "gone", cause: "The message is no longer in the mailbox", retry: "never" },
  ErrorMessageSizeExceeded: { code: "refused", cause: "The message is larger than Exchange allows", retry: "never" },
  ErrorAttachmentSizeLimitExceeded: {
    code: "refused",
    cause: "An attachment is larger than Exchange allows",
    retry: "never",
  },
  ErrorQuotaExceeded: { code: "unavailable", cause: "The mailbox is over its quota" },
  ErrorInvalidServerVersion: {
    code: "protocol",
    cause: "The server is older than Exchange 2010 SP2",
    retry: "never",
  },
  ErrorInvalidRequest: { code: "protocol", cause: "Exchange did not understand the request" },
  ErrorSchemaValidation: { code: "protocol", cause: "Exchange did not understand the request" },
};

const EWS_FORBIDDEN =
  "The server forbids Exchange Web Services to this login or application: they are switched off for the mailbox, or a policy allows only other applications";
const EWS_NOT_FOUND = "There are no Exchange Web Services at this address";

/** HTTP statuses other than 200, without a SOAP fault. */
const STATUSES: Record<number, Row> = {
  400: { code: "protocol", cause: "The server did not understand the request" },
  403: { code: "access", cause: EWS_FORBIDDEN, retry: "never" },
  404: { code: "connect", cause: EWS_NOT_FOUND },
  405: { code: "connect", cause: EWS_NOT_FOUND },
  407: { code: "connect", cause: "A proxy before the server wants a login" },
  413: { code: "refused", cause: "The request is larger than the server allows", retry: "never" },
  429: THROTTLED,
  440: { code: "auth_method", cause: "The server wants a login on a web page", retry: "never" },
  456: { code: "auth", cause: "The account is locked; the server wants its owner to unlock it", retry: "never" },
  502: { code: "unavailable", cause: "The server in front of Exchange could not reach it" },
  503: { code: "unavailable", cause: "Exchange is busy or restarting" },
  504: { code: "unavailable", cause: "The server in front of Exchange got no answer from it" },
};

/** The Problem for a response code. A time that the server asks for becomes the earliest time of the next attempt. */
export function problemFromCode({ code, backOffMs }: EwsError, now = clock.now()): Problem {
  const row = RESPONSE_CODES[code] ?? { code: "protocol", cause: "Exchange refused the request" };
  const retry = toRetry(row, backOffMs, now);
  return new Problem(row.code, row.cause, { retry, evidence: toEvidence(code) });
}

/**
 * Only the code: `MessageText` explains it in other words, and may repeat anything that the request had.
 */
export function toEvidence(code: string): Evidence {
  return quoteWords(/^Error[A-Za-z0-9]{1,80}$/.test(code) ? code : "a response code of another form", { secrets: [] });
}

/**
 * The Problem for an answer that is neither 200 nor 401, from its status, Retry-After, and the fault or page in its
 * body.
 */
export function problemFromStatus(
  status: number,
  headers: IncomingHttpHeaders,
  body: string,
  now = clock.now(),
): Problem {
  const fault = findFault(body);
  if (fault)
    return problemFromCode({ ...fault, backOffMs: fault.backOffMs ?? retryAfterMs(headers, now) ?? null }, now);
  if (status >= 300 && status < 400) return redirectProblem(status, headers);
  const row = STATUSES[status] ?? {
    code: status >= 500 ? ("unavailable" as const) : ("protocol" as const),
    cause: `The server answered with HTTP ${status}`,
  };
  const evidence = quoteWords([`HTTP ${status}`, ...toDiagnosticsCode(headers)].join("; "), { secrets: [] });
  return new Problem(row.code, row.cause, { retry: toRetry(row, retryAfterMs(headers, now), now), evidence });
}

function redirectProblem(status: number, headers: IncomingHttpHeaders): Problem {
  const target = URL.parse(headerText(headers.location))?.origin ?? "";
  const evidence = quoteWords(`HTTP ${status} ${target}`, { secrets: [] });
  const cause = "The server redirects to another address: a login page or another server answers";
  return new Problem("connect", cause, { retry: "later", evidence });
}

function toRetry({ retry = "later" }: Row, backOffMs: number | null | undefined, now: number): Retry {
  if (retry === "never") return retry;
  const ms = backOffMs ?? (typeof retry === "object" && "ms" in retry ? retry.ms : undefined);
  if (ms !== undefined) return new Date(now + Math.min(Math.max(ms, 1000), MAX_BACK_OFF_MS));
  return retry instanceof Date ? retry : "later";
}

/** The fault or the first failed response in a SOAP answer, whatever its prefixes. Undefined if there is none. */
export function findFault(body: string): EwsError | undefined {
  const code =
    /<(?:\w{1,50}:)?ResponseCode[^<>]{0,500}>\s{0,100}(Error\w{1,100})/.exec(body)?.[1] ??
    /<faultcode[^<>]{0,500}>\s{0,100}(?:\w{1,50}:)?(Error\w{1,100})/.exec(body)?.[1];
  const backOff = /Name="BackOffMilliseconds"[^<>]{0,500}>\s{0,100}(\d{1,9})/.exec(body)?.[1];
  if (code === undefined && !/<faultcode/.test(body)) return undefined;
  return { code: code ?? "ErrorInternalServerError", backOffMs: backOff === undefined ? null : Number(backOff) };
}

/** Milliseconds to wait by Retry-After (RFC 9110 section 10.2.3): seconds, or a date. */
export function retryAfterMs(headers: IncomingHttpHeaders, now: number): number | undefined {
  const value = headerText(headers["retry-after"]).trim();
  if (value === "") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(ms) && ms >= 0 ? ms : undefined;
}

/** The number with which Exchange begins its own diagnosis. The words after it may repeat anything. */
export function toDiagnosticsCode(headers: IncomingHttpHeaders): string[] {
  const [code] = /^\d{1,10}(?=;|$)/.exec(headerText(headers["x-ms-diagnostics"])) ?? [];
  return code === undefined ? [] : [`diagnostics ${code}`];
}

function headerText(value: string | string[] | undefined): string {
  return typeof value === "string" ? value : (value?.[0] ?? "");
}

/** The Exchange response code in a Problem's evidence; empty if there is none. */
export function getResponseCode({ evidence }: Problem): string {
  return /\bError[A-Za-z0-9]+/.exec(evidence ?? "")?.[0] ?? "";
}
