/** Problems: what went wrong, in words for an administrator, and whether trying again can help. */

import type { Evidence } from "./evidence.ts";

/** `never`: only a person can fix it; `later`: the caller's own schedule; a Date: not before then. */
export type Retry = "never" | "later" | Date;

/**
 * All kinds of problems, each with the HTTP status of an API answer and the advice for an administrator. Each protocol
 * translates its own errors into these (`shared/mail/`, `worker/endpoint/`).
 */
export const PROBLEMS = {
  auth: {
    status: 422,
    title: "The server refused the login",
    fix: "Check user name and password (or token), then save the mailbox again.",
  },
  auth_method: {
    status: 422,
    title: "The server wants another way to log in",
    fix: "Use an app password or OAuth2, whichever the provider asks for.",
  },
  token: {
    status: 422,
    title: "No valid OAuth2 token",
    fix: "Renew the consent or the client secret, then save the mailbox again.",
  },
  too_many_connections: {
    status: 429,
    title: "The server allows no more connections",
    fix: "Close other mail clients of this mailbox, or raise the server's limit. The service tries again by itself.",
  },
  access: {
    status: 422,
    title: "The login may not open this mailbox",
    fix: "Give the login full access to the mailbox or the role ApplicationImpersonation, and set `receive.access`. Check that Exchange Web Services are switched on for the mailbox.",
  },
  no_mailbox: {
    status: 422,
    title: "The server has no such mailbox",
    fix: "Check the mailbox's primary address. If the mailbox moved to another server, leave out `receive.host` and `receive.url`.",
  },
  autodiscover: {
    status: 422,
    title: "The Exchange server of this address was not found",
    fix: "Set `receive.host` or `receive.url`, or allow a redirect in `receive.redirects`.",
  },
  throttled: {
    status: 429,
    title: "The server asks to slow down",
    fix: "Nothing to do: the service waits as long as the server asks.",
  },
  unavailable: {
    status: 503,
    title: "The server is temporarily unavailable",
    fix: "Wait. If the problem stays, ask the server's operator.",
  },
  dns: {
    status: 422,
    title: "The host name cannot be resolved",
    fix: "Check the spelling of the host and the name servers of this machine.",
  },
  connect: {
    status: 503,
    title: "No connection to the server",
    fix: "Check host and port, the firewall, and that the server is running.",
  },
  tls: {
    status: 422,
    title: "No trusted TLS connection",
    fix: "Set the server's CA in `ca` or its certificate in `fingerprint`, or use the host name that its certificate names.",
  },
  starttls: {
    status: 422,
    title: "The server does not offer STARTTLS",
    fix: "Use `tls: implicit` with the TLS port, or `tls: none` if the network is trusted.",
  },
  egress: {
    status: 422,
    title: "This address is not allowed",
    fix: "Use a public address and a usual port. EGRESS_PRIVATE=allow allows private addresses, EGRESS_PORTS further ports. Cloud metadata and the service's own servers are never allowed.",
  },
  timeout: {
    status: 504,
    title: "The server did not answer in time",
    fix: "Check the network and the server's load. The service tries again by itself.",
  },
  connection_stale: {
    status: 503,
    title: "The connection was open, but nothing came through it any more",
    fix: "Nothing to do: it was reopened. If it recurs, look for a NAT or firewall that drops idle connections.",
  },
  protocol: {
    status: 502,
    title: "The server answered something unexpected",
    fix: "Read the evidence. If the server follows the standard, report a bug.",
  },
  excess: {
    status: 502,
    title: "The server sent more than the service accepts",
    fix: "Check that host and port are those of the mail server. If they are, its operator can see what it sends. The service tries again every hour.",
  },
  folder: {
    status: 422,
    title: "A folder cannot be opened",
    fix: "Choose one of the folders that `GET /api/v1/mailboxes/{id}/folders` lists, or give the login access to it; it is tried again every FOLDER_POLL_SECONDS.",
  },
  confirm: {
    status: 409,
    title: "More messages would be delivered than is to be expected",
    fix: "Look whether they are new; then `POST /api/v1/mailboxes/{id}/confirm` delivers them, and `POST /api/v1/mailboxes/{id}/resync` with a date delivers those since then and passes the others over.",
  },
  gone: {
    status: 404,
    title: "The message is no longer on the server",
    fix: "Nothing to do: somebody deleted or moved it before it could be downloaded.",
  },
  endpoint: {
    status: 502,
    title: "The endpoint did not accept the message",
    fix: "Look at the attempts of the delivery. Fix the endpoint, then replay the delivery.",
  },
  endpoint_gone: {
    status: 410,
    title: "The endpoint answered 410 Gone",
    fix: "Set a new `deliver.url`, then replay the parked deliveries.",
  },
  message: {
    status: 422,
    title: "The message cannot be handled",
    fix: "Download the raw message and look at it. Replay it after an update of the service.",
  },
  no_sending: {
    status: 422,
    title: "This mailbox does not send",
    fix: "Add `send` with the host of its SMTP server. For a well-known provider `send: {}` is enough.",
  },
  sender: {
    status: 422,
    title: "The mailbox may not send under this address",
    fix: "Send from the mailbox's own address, or add the other one to `send.from`.",
  },
  loop: {
    status: 422,
    title: "This could become a mail loop",
    fix: "Do not answer automatic mail automatically. Set `send.allowSelf` if the mailbox may write to itself.",
  },
  key_reused: {
    status: 422,
    title: "The Idempotency-Key was used for another message",
    fix: "Repeat the request with the same key and body, or use a new key for a new message.",
  },
  rate: {
    status: 429,
    title: "The mailbox has reached its limit for this hour",
    fix: "Wait as long as Retry-After says, or raise `send.perHour`.",
  },
  refused: {
    status: 422,
    title: "The mail server refused the message",
    fix: "Read the server's answer. Correct the addresses or the message, then send it again.",
  },
  invalid: { status: 422, title: "The request is not valid", fix: "Correct the fields named in `errors`." },
  secret_needed: {
    status: 422,
    title: "A secret must be given again",
    fix: "Send the secrets named in `errors` in the same request. A stored secret is used only for the server, port, TLS and account that it was given for.",
  },
  malformed: { status: 400, title: "The body is not valid JSON", fix: "Send JSON with content-type application/json." },
  not_found: { status: 404, title: "It does not exist", fix: "Check the id. The lists show what exists." },
  conflict: { status: 409, title: "Somebody else changed it meanwhile", fix: "Read it again and repeat the change." },
  precondition: {
    status: 412,
    title: "It has another revision than If-Match asks for",
    fix: "Read it again and repeat the change with its present ETag.",
  },
  method: {
    status: 405,
    title: "This path does not take that method",
    fix: "Use one of the methods in the Allow header.",
  },
  media_type: {
    status: 415,
    title: "The body has the wrong content type",
    fix: "Send a JSON body with content-type application/json.",
  },
  unauthorized: {
    status: 401,
    title: "A valid bearer token is needed",
    fix: "Send `Authorization: Bearer <token>` with one of API_TOKENS, or with a token that `POST /api/v1/tokens` made.",
  },
  scope: {
    status: 403,
    title: "The token may not do this",
    fix: "Use a token with the scope that the message names. `POST /api/v1/tokens` makes one.",
  },
  guesses: {
    status: 429,
    title: "Too many wrong credentials from this address",
    fix: "Wait as long as Retry-After says, then send the right token.",
  },
  forbidden: {
    status: 403,
    title: "Not allowed from here",
    fix: "Call from an address, or with a path or credentials, that the setting allows.",
  },
  streams: { status: 429, title: "Too many event streams are open", fix: "Close the streams that nobody reads." },
  too_large: { status: 413, title: "The body is too large", fix: "Send a smaller body." },
  store: {
    status: 503,
    title: "The store cannot be used now",
    fix: "Check the store that the log names at the start: disk space, permissions, network.",
  },
  queue: {
    status: 503,
    title: "The queue cannot be used now",
    fix: "Check the queue that the log names at the start: network, user, virtual host, memory and disk alarms.",
  },
  full: {
    status: 503,
    title: "No room for more undelivered messages",
    fix: "Fix the endpoints that refuse deliveries, or raise SPOOL_BYTES.",
  },
  config: {
    status: 500,
    title: "A setting is not valid",
    fix: "Correct the named setting. docs/settings.md lists all settings.",
  },
  internal: {
    status: 500,
    title: "Something failed inside the service",
    fix: "Look at the log, and report a bug with it.",
  },
} as const satisfies Record<string, { status: number; title: string; fix: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

/** Codes with another name in 0.1. */
const RENAMED_CODES: ReadonlyMap<string, ProblemCode> = new Map([["deaf", "connection_stale"]]);

/** A stored failure or problem, with the new name of a code that 0.1 may have written. */
export function withCurrentCode<T extends { code: string }>(stored: T): T {
  return { ...stored, code: RENAMED_CODES.get(stored.code) ?? stored.code };
}

/** One wrong field of a request: a dotted path (`receive.host`) and what to do about it. */
export type FieldError = { path: string; message: string };

/** How a problem appears in a state, a report or an attempt: without stack and without secrets. */
export type ProblemView = {
  code: ProblemCode;
  cause: string;
  fix: string;
  evidence: string | null;
  retryAt: string | null;
};

/**
 * The service's only error class. `message` is the cause in plain language, `evidence` the other side's own words
 * (without secrets), `cause` the original error for the log.
 */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly fix: string;
  readonly retry: Retry;
  readonly evidence: Evidence | null;
  readonly errors: FieldError[];

  constructor(
    code: ProblemCode,
    message: string,
    more: { retry?: Retry; fix?: string; evidence?: Evidence; errors?: FieldError[]; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? {} : { cause: more.cause });
    this.name = "Problem";
    this.code = code;
    this.fix = more.fix ?? PROBLEMS[code].fix;
    this.retry = more.retry ?? "later";
    this.evidence = more.evidence ?? null;
    this.errors = more.errors ?? [];
  }

  view(): ProblemView {
    const { code, message, fix, evidence, retry } = this;
    return { code, cause: message, fix, evidence, retryAt: retry instanceof Date ? retry.toISOString() : null };
  }
}

/** Turns any thrown value into a Problem. An unknown error becomes `internal`, to be tried again later. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new Problem("internal", text || "An unknown error", { cause: error });
}

/** True if a TLS connection failed because of the peer's certificate: untrusted, expired, or for another name. */
export function isCertificateError(error: unknown): boolean {
  return error instanceof Error && "code" in error && /CERT|UNABLE_TO_(GET|VERIFY)/.test(String(error.code));
}
