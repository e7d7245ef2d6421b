/**
 * What Exchange says went wrong, translated into Problems: response codes of EWS, SOAP faults and HTTP statuses. The tables are data;
 * what no row knows is to be tried again later, never given up.
 */
import type { IncomingHttpHeaders } from "node:http";
import { asProblem, Problem, type ProblemCode, type Retry } from "../../../contract/problem.ts";
import { withoutSecrets } from "../../problems.ts";
import type { EwsLibrary } from "../client/library.ts";

/** What the server said: its response code (ErrorServerBusy, ...), its words, and how long it wants to be left alone. */
export type EwsFault = { code: string; words: string; backOffMs?: number | null | undefined };

type Row = { code: ProblemCode; cause: string; retry?: Retry | { ms: number } };

const MINUTE = 60_000;
/** The server's to choose, within bounds. */
const LONGEST_BACK_OFF_MS = 60 * MINUTE;
/** Where it asks to slow down without saying for how long. */
const BACK_OFF_MS = 30_000;

const BUSY: Row = { code: "throttled", cause: "Exchange asks to slow down", retry: { ms: BACK_OFF_MS } };
const LOST_MAILBOX = "Exchange has no mailbox for this address, or it was moved to another server";
const STALE = "A subscription is no longer known to the server; a new one is made";
const NO_ACCESS = "The login may not open this mailbox";

/** Response codes (messages.xsd, ResponseCodeType), the ones that call for more than another try. */
const CODES: Record<string, Row> = {
  ErrorServerBusy: BUSY,
  ErrorTooManyObjectsOpened: BUSY,
  ErrorExceededConnectionCount: {
    code: "too_many_connections",
    cause: "Exchange allows no more connections for this account",
    retry: { ms: BACK_OFF_MS },
  },
  ErrorExceededSubscriptionCount: {
    code: "too_many_connections",
    cause: "Exchange allows no more subscriptions for this account",
    retry: { ms: 5 * MINUTE },
  },
  ErrorSubscriptionNotFound: { code: "unavailable", cause: STALE },
  ErrorInvalidSubscription: { code: "unavailable", cause: STALE },
  ErrorExpiredSubscription: { code: "unavailable", cause: STALE },
  ErrorSubscriptionUnsubscribed: { code: "unavailable", cause: STALE },
  ErrorSubscriptionAccessDenied: { code: "access", cause: "The subscription belongs to another login", retry: "later" },
  ErrorMissedNotificationEvents: {
    code: "unavailable",
    cause: "Exchange lost notifications; the folders are compared",
  },
  ErrorInvalidSyncStateData: { code: "unavailable", cause: "The sync state is no longer valid; it is built anew" },
  ErrorNonExistentMailbox: { code: "no_mailbox", cause: LOST_MAILBOX, retry: "never" },
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
  ErrorSubmissionQuotaExceeded: { code: "throttled", cause: "The account's share of messages is used up" },
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
    cause: "The token is an application's, which has no mailbox of its own: it needs `access: impersonate`",
    retry: "never",
  },
  ErrorImpersonationFailed: { code: "access", cause: "Exchange could not impersonate this mailbox", retry: "never" },
  ErrorNonPrimarySmtpAddress: {
    code: "no_mailbox",
    cause: "The address is not the primary one of its mailbox, which impersonation needs",
    retry: "never",
  },
  ErrorInvalidSmtpAddress: { code: "no_mailbox", cause: "Exchange does not accept the address", retry: "never" },
  ErrorInvalidUserPrincipalName: { code: "no_mailbox", cause: "Exchange knows no such login", retry: "never" },
  ErrorAccountDisabled: { code: "auth", cause: "The account is disabled", retry: "never" },
  ErrorPasswordExpired: { code: "auth", cause: "The password has expired", retry: "never" },
  ErrorPasswordChangeRequired: { code: "auth", cause: "The password must be changed first", retry: "never" },
  ErrorSendAsDenied: { code: "sender", cause: "The login may not send under this address", retry: "never" },
  ErrorFolderNotFound: { code: "folder", cause: "There is no such folder", retry: "never" },
  ErrorToFolderNotFound: { code: "folder", cause: "There is no such folder", retry: "never" },
  ErrorInvalidFolderId: { code: "folder", cause: "There is no folder with this id", retry: "never" },
  ErrorItemNotFound: { code: "gone", cause: "The message is no longer there", retry: "never" },
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

const NO_EWS =
  "The server forbids Exchange Web Services to this login or application: they are switched off for the mailbox, or a policy allows other applications only";
const NOT_THERE = "There are no Exchange Web Services at this address";

/** HTTP statuses that are not 200 and not a SOAP fault. */
const STATUSES: Record<number, Row> = {
  400: { code: "protocol", cause: "The server did not understand the request" },
  403: { code: "access", cause: NO_EWS, retry: "never" },
  404: { code: "connect", cause: NOT_THERE },
  405: { code: "connect", cause: NOT_THERE },
  407: { code: "connect", cause: "A proxy on the way wants a login" },
  413: { code: "refused", cause: "The request is larger than the server allows", retry: "never" },
  429: BUSY,
  440: { code: "auth_method", cause: "The server wants a login by a web page", retry: "never" },
  456: { code: "auth", cause: "The account is locked; the server wants its owner to unlock it", retry: "never" },
  502: { code: "unavailable", cause: "The server in front of Exchange could not reach it" },
  503: { code: "unavailable", cause: "Exchange is busy or restarting" },
  504: { code: "unavailable", cause: "The server in front of Exchange got no answer from it" },
};

/** The Problem for a response code; a time the server asks for becomes the time not to be tried before. */
export function problemOfCode({ code, words, backOffMs }: EwsFault, now = Date.now()): Problem {
  const row = CODES[code] ?? { code: "protocol", cause: "Exchange refused the request" };
  const retry = retryOf(row, backOffMs, now);
  return new Problem(row.code, row.cause, { retry, evidence: withoutSecrets(`${code}: ${words}`, []) });
}

/** The Problem for an answer that is neither 200 nor 401, read from its status, Retry-After, and the fault or page in its body. */
export function statusProblem(status: number, headers: IncomingHttpHeaders, body: string, now = Date.now()): Problem {
  const fault = faultIn(body);
  if (fault) return problemOfCode({ ...fault, backOffMs: fault.backOffMs ?? retryAfterMs(headers, now) ?? null }, now);
  if (status >= 300 && status < 400) return redirected(status, headers);
  const row = STATUSES[status] ?? {
    code: status >= 500 ? ("unavailable" as const) : ("protocol" as const),
    cause: `The server answered with HTTP ${status}`,
  };
  const evidence = withoutSecrets(`HTTP ${status} ${text(headers["x-ms-diagnostics"])} ${plain(body)}`, []);
  return new Problem(row.code, row.cause, { retry: retryOf(row, retryAfterMs(headers, now), now), evidence });
}

function redirected(status: number, headers: IncomingHttpHeaders): Problem {
  const evidence = withoutSecrets(`HTTP ${status} ${text(headers.location).split("?")[0] ?? ""}`, []);
  const cause = "The address leads elsewhere; a login page or another server answers there";
  return new Problem("connect", cause, { retry: "later", evidence });
}

function retryOf({ retry = "later" }: Row, askedMs: number | null | undefined, now: number): Retry {
  if (retry === "never") return retry;
  const ms = askedMs ?? (typeof retry === "object" && "ms" in retry ? retry.ms : undefined);
  if (ms !== undefined) return new Date(now + Math.min(Math.max(ms, 1000), LONGEST_BACK_OFF_MS));
  return retry instanceof Date ? retry : "later";
}

/** The fault or the first failed response in a SOAP answer; prefixes do not matter. Undefined where there is none. */
export function faultIn(body: string): EwsFault | undefined {
  const code =
    /<(?:\w+:)?ResponseCode[^<>]*>\s*(Error\w+)/.exec(body)?.[1] ??
    /<faultcode[^<>]*>\s*(?:\w+:)?(Error\w+)/.exec(body)?.[1];
  const words =
    /<(?:\w+:)?MessageText[^<>]*>([^<]{0,500})/.exec(body)?.[1] ??
    /<faultstring[^<>]*>([^<]{0,500})/.exec(body)?.[1] ??
    "";
  const asked = /Name="BackOffMilliseconds"[^<>]*>\s*(\d{1,9})/.exec(body)?.[1];
  if (code === undefined && !/<faultcode/.test(body)) return undefined;
  return { code: code ?? "ErrorInternalServerError", words, backOffMs: asked === undefined ? null : Number(asked) };
}

/** Milliseconds to wait by Retry-After (RFC 9110 section 10.2.3): seconds, or a date. */
export function retryAfterMs(headers: IncomingHttpHeaders, now: number): number | undefined {
  const value = text(headers["retry-after"]).trim();
  if (value === "") return undefined;
  const ms = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(ms) && ms >= 0 ? ms : undefined;
}

function plain(body: string): string {
  const title = /<title[^>]*>([^<]{0,200})/i.exec(body)?.[1];
  return (
    title ??
    body
      .replaceAll(/<[^>]{0,2000}>/g, " ")
      .replaceAll(/\s+/g, " ")
      .slice(0, 200)
  );
}

function text(value: string | string[] | undefined): string {
  return typeof value === "string" ? value : (value?.[0] ?? "");
}

/** An error of the library as the Problem that its response code stands for. */
export function libraryProblem(library: EwsLibrary, error: unknown, backOffMs: number | null): Problem {
  if (error instanceof Problem) return error;
  if (error instanceof library.ServiceResponseException) {
    const code = library.ServiceError[error.ErrorCode] ?? "ErrorInternalServerError";
    return problemOfCode({ code, words: error.Message ?? "", backOffMs });
  }
  if (error instanceof library.ServiceRequestException && error.InnerException)
    return libraryProblem(library, error.InnerException, backOffMs);
  return asProblem(error);
}
