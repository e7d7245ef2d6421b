/** What went wrong, in words an administrator can act on, and whether trying again can help. */

/** `never`: only a person can mend it; `later`: the caller's own schedule; a Date: not before then. */
export type Retry = "never" | "later" | Date;

/**
 * Every kind of fault the service tells apart, with the HTTP status an API answer carries and the advice that
 * goes with it. A protocol's own texts are translated into these at its border (`mail/`, `endpoint/`).
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
    fix: "Close other mail clients of this mailbox or raise the server's limit; the service tries again by itself.",
  },
  access: {
    status: 422,
    title: "The login may not open this mailbox",
    fix: "Give the login full access to the mailbox or the role ApplicationImpersonation, and say which in `receive.access`; look whether Exchange Web Services are switched on for it.",
  },
  no_mailbox: {
    status: 422,
    title: "The server has no such mailbox",
    fix: "Check the mailbox's address (its primary one); if it was moved to another server, leave out `receive.host` and `receive.url`.",
  },
  autodiscover: {
    status: 422,
    title: "The Exchange server of this address was not found",
    fix: "Give the server in `receive.host` or `receive.url`, or allow a redirect in `receive.redirects`.",
  },
  throttled: {
    status: 429,
    title: "The server asks to slow down",
    fix: "Nothing to do: the service waits as long as the server asks.",
  },
  unavailable: {
    status: 503,
    title: "The server is temporarily unavailable",
    fix: "Nothing to do if it passes; otherwise ask the server's operator.",
  },
  dns: {
    status: 422,
    title: "The host name cannot be resolved",
    fix: "Check the spelling of the host and the name servers of this machine.",
  },
  connect: {
    status: 503,
    title: "No connection to the server",
    fix: "Check host and port, the firewall between, and that the server is running.",
  },
  tls: {
    status: 422,
    title: "No trusted TLS connection",
    fix: "Give the server's CA in `ca` or its certificate in `fingerprint`, or use the name its certificate was issued for.",
  },
  starttls: {
    status: 422,
    title: "The server does not offer STARTTLS",
    fix: "Use `tls: implicit` with the TLS port, or `tls: none` if the network is trusted.",
  },
  egress: {
    status: 422,
    title: "This address is not allowed",
    fix: "Use a public address, or allow private ranges with EGRESS_PRIVATE=allow; cloud metadata addresses are never allowed.",
  },
  timeout: {
    status: 504,
    title: "The server did not answer in time",
    fix: "Check the network path and the server's load; the service tries again by itself.",
  },
  deaf: {
    status: 503,
    title: "The connection was open but no longer heard",
    fix: "Nothing to do: it was reopened. If it recurs, look for a NAT or firewall that drops idle connections.",
  },
  protocol: {
    status: 502,
    title: "The server answered something unexpected",
    fix: "Look at the evidence; report it if the server follows the standard.",
  },
  folder: {
    status: 422,
    title: "A folder does not exist",
    fix: "Choose one of the folders that `GET /api/v1/mailboxes/{id}/folders` lists.",
  },
  gone: {
    status: 404,
    title: "The message is no longer on the server",
    fix: "Nothing to do: it was deleted or moved before it could be fetched.",
  },
  endpoint: {
    status: 502,
    title: "The endpoint did not accept the message",
    fix: "Look at the attempts of the delivery; after mending the endpoint, replay it.",
  },
  endpoint_gone: {
    status: 410,
    title: "The endpoint answered 410 Gone",
    fix: "Set a new `deliver.url`, then replay what was parked.",
  },
  message: {
    status: 422,
    title: "The message cannot be handled",
    fix: "Download the raw message and look at it; replay it after an update.",
  },
  no_sending: {
    status: 422,
    title: "This mailbox does not send",
    fix: "Give it `send` with the host of its SMTP server; `send: {}` is enough where the host can be told from the receiving one.",
  },
  sender: {
    status: 422,
    title: "The mailbox may not send under this address",
    fix: "Send from the mailbox's own address, or add the other one to `send.from`.",
  },
  loop: {
    status: 422,
    title: "This could become a mail loop",
    fix: "Do not answer automatic mail automatically; set `send.allowSelf` if the mailbox shall write to itself.",
  },
  key_reused: {
    status: 422,
    title: "The Idempotency-Key was used for another message",
    fix: "Repeat a request with the same key and body, or take a new key for a new message.",
  },
  rate: {
    status: 429,
    title: "The mailbox has sent its share for this hour",
    fix: "Wait as long as Retry-After says, or raise `send.perHour`.",
  },
  refused: {
    status: 422,
    title: "The mail server refused the message",
    fix: "Read the server's own words; mend the addresses or the message, then send it again.",
  },
  invalid: { status: 422, title: "The request is not valid", fix: "Mend the fields named in `errors`." },
  malformed: {
    status: 400,
    title: "The body is not valid JSON",
    fix: "Send a JSON body with content-type application/json.",
  },
  not_found: { status: 404, title: "There is no such thing here", fix: "Check the id; the lists show what exists." },
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
    fix: "Send `Authorization: Bearer <token>` with one of API_TOKENS.",
  },
  forbidden: {
    status: 403,
    title: "Not allowed from here",
    fix: "Use an address, path or credentials that the setting allows.",
  },
  too_large: { status: 413, title: "The body is too large", fix: "Send less." },
  store: {
    status: 503,
    title: "The store cannot be used now",
    fix: "Check the store the service named at start (disk space, permissions, reachability).",
  },
  queue: {
    status: 503,
    title: "The queue cannot be used now",
    fix: "Check the broker the service named at start: reachable, user and virtual host right, no memory or disk alarm.",
  },
  full: {
    status: 503,
    title: "No room for more undelivered messages",
    fix: "Mend the endpoints that refuse deliveries, or raise SPOOL_BYTES.",
  },
  config: { status: 500, title: "A setting is not valid", fix: "Mend the setting named; the README lists them all." },
  internal: {
    status: 500,
    title: "Something failed inside the service",
    fix: "Look at the log; report it with the evidence.",
  },
} as const satisfies Record<string, { status: number; title: string; fix: string }>;

export type ProblemCode = keyof typeof PROBLEMS;

/** One field of a request that is wrong: a dotted path (`receive.host`) and what to do about it. */
export type FieldError = { path: string; message: string };

/** What a problem looks like in a state, a report or an attempt: no stack, no secret. */
export type ProblemView = {
  code: ProblemCode;
  cause: string;
  fix: string;
  evidence: string | null;
  retryAt: string | null;
};

/**
 * The service's one error class. `message` is the plain-language cause, `evidence` the other side's own words
 * (already free of secrets), `cause` the original error for the log.
 */
export class Problem extends Error {
  readonly code: ProblemCode;
  readonly retry: Retry;
  readonly evidence: string | null;
  readonly errors: FieldError[];

  constructor(
    code: ProblemCode,
    message: string,
    more: { retry?: Retry; evidence?: string; errors?: FieldError[]; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? {} : { cause: more.cause });
    this.name = "Problem";
    this.code = code;
    this.retry = more.retry ?? "later";
    this.evidence = more.evidence ?? null;
    this.errors = more.errors ?? [];
  }

  get fix(): string {
    return PROBLEMS[this.code].fix;
  }

  view(): ProblemView {
    const { code, message, fix, evidence, retry } = this;
    return { code, cause: message, fix, evidence, retryAt: retry instanceof Date ? retry.toISOString() : null };
  }
}

/** Any thrown value as a Problem: unknown errors become `internal`, to be tried again later. */
export function asProblem(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const text = error instanceof Error ? error.message : String(error);
  return new Problem("internal", text || "An unknown error", { cause: error });
}

/** Whether a TLS connection failed because of the peer's certificate: untrusted, expired, or for another name. */
export function isUntrusted(error: unknown): boolean {
  return error instanceof Error && "code" in error && /CERT|UNABLE_TO_(GET|VERIFY)/.test(String(error.code));
}
