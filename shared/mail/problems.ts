/**
 * The words of mail servers (IMAP, POP3) and of the network beneath, translated into Problems. The tables are data: a new text is one new
 * row and one line in their test. What no row knows is to be tried again later, never given up.
 */
import { Problem, type ProblemCode, type Retry } from "../contract/problem.ts";

const HOUR = 60 * 60 * 1000;
const DAY = 24 * HOUR;

/** Where in the conversation it went wrong: some words mean different things before and after login. */
export type Step = "connect" | "login" | "command";

type Row = {
  says: RegExp;
  /** Only at this step; everywhere when absent. */
  at?: Step;
  code: ProblemCode;
  cause: string;
  retry?: Retry | ((match: RegExpExecArray, now: number) => Retry);
};

/** Microsoft says how long to wait (failure to do so prolongs it); bounded, as the number is the server's to choose. */
const suggested = (match: RegExpExecArray, now: number) => new Date(now + Math.min(Number(match[1]), DAY));
const inAnHour = (_: RegExpExecArray, now: number) => new Date(now + HOUR);

/** The first row that matches wins, so the certain and the temporary come before the general. */
const TEXTS: Row[] = [
  {
    says: /Suggested Backoff Time[:=\s]+(\d+)/i,
    code: "throttled",
    cause: "The server asks to wait before the next request",
    retry: suggested,
  },
  // Gmail: 2.5 GB a day; hammering prolongs the lock-out.
  {
    says: /exceeded (command or )?bandwidth limits|exceeded .*download limit/i,
    code: "throttled",
    cause: "The account used up its bandwidth for now",
    retry: inAnHour,
  },
  {
    says: /too many (simultaneous |concurrent |open )?(connections|sessions|logins)|max(imum)? (number of )?connections|connection limit|(connections|sessions) exceeded/i,
    code: "too_many_connections",
    cause: "The server allows no more connections for this account or address",
  },
  {
    says: /application-specific password|app(lication)?[ -]password (is )?required/i,
    code: "auth_method",
    cause: "The provider wants an app password instead of the account's own",
    retry: "never",
  },
  {
    says: /WEBALERT|web login required|log in via your web browser/i,
    code: "auth_method",
    cause: "The provider wants a person to log in with a browser once",
    retry: "never",
  },
  // Microsoft 365: password login where only OAuth2 is allowed, or a real outage; one cannot tell.
  {
    says: /Server Unavailable\. ?15/i,
    code: "auth_method",
    cause: "The server is unavailable for this way to log in; Microsoft 365 says so where only OAuth2 is allowed",
  },
  {
    says: /authenticated but not connected/i,
    code: "unavailable",
    cause:
      "The login was accepted but no mailbox opened: wrong mailbox name, missing full access or scope, or too many connections",
  },
  {
    says: /basic auth\w* is (disabled|blocked|not)|LOGINDISABLED|Login is disabled|\[PRIVACYREQUIRED\]|plaintext auth\w* (disallowed|disabled)/i,
    code: "auth_method",
    cause: "The server accepts no password on this connection",
    retry: "never",
  },
  {
    says: /No matching authentication method|Unsupported authentication mechanism/i,
    code: "auth_method",
    cause: "The server offers none of the ways to log in that these credentials allow",
    retry: "never",
  },
  {
    says: /Request is throttled|sent too fast|rate limit|\[THROTTLED\]|too many (requests|commands|(login|authentication) (attempts|failures))/i,
    code: "throttled",
    cause: "The server asks to slow down",
  },
  // POP3 gives a maildrop to one session at a time (RFC 2449 section 8.1.1).
  {
    says: /\[IN-USE\]|(maildrop|mail drop|mailbox).{0,20}(already|is|being) .{0,20}(locked|in use|open)|(lock|busy).{0,20}(maildrop|mailbox)/i,
    at: "login",
    code: "unavailable",
    cause: "Another program has this mailbox open",
  },
  { says: /\[LOGIN-DELAY\]/i, code: "throttled", cause: "The server wants more time between logins" },
  {
    says: /not enabled for POP|POP(3)? (access|service)? ?(is )?(disabled|not enabled)/i,
    code: "auth_method",
    cause: "The provider has POP3 switched off for this account",
    retry: "never",
  },
  { says: /\[SYS\/TEMP\]/i, code: "unavailable", cause: "The server has a temporary problem" },
  {
    says: /\[SYS\/PERM\]/i,
    code: "unavailable",
    cause: "The server cannot open this mailbox until its operator mends it",
    retry: "never",
  },
  {
    says: /\[UNAVAILABLE\]|\[INUSE\]|\[SERVERBUG\]|temporar(y|ily)|internal (server )?error|shutting down|system busy/i,
    code: "unavailable",
    cause: "The server has a temporary problem",
  },
  { says: /\[LIMIT\]/i, code: "throttled", cause: "A limit of the server was reached" },
  { says: /\[OVERQUOTA\]/i, code: "unavailable", cause: "The mailbox is over its quota" },
  {
    says: /\[EXPIRED\]/i,
    code: "auth",
    cause: "The password has expired",
    retry: "never",
  },
  {
    says: /\[(AUTHENTICATIONFAILED|AUTHORIZATIONFAILED)\]/i,
    code: "auth",
    cause: "The server refused user name or password",
    retry: "never",
  },
  // RFC 3206 section 4.
  { says: /\[AUTH\]/, code: "auth", cause: "The server refused user name or password", retry: "never" },
  { says: /\[CONTACTADMIN\]/i, code: "auth", cause: "The server's operator must unlock this account", retry: "never" },
  {
    says: /invalid (credentials|login|user|password)|(bad|incorrect|wrong) (user ?name|password|credentials)|password (is )?(incorrect|invalid|wrong)/i,
    at: "login",
    code: "auth",
    cause: "The server refused user name or password",
    retry: "never",
  },
  { says: /try again later/i, code: "unavailable", cause: "The server has a temporary problem" },
  { says: /\[ALERT\]/i, at: "login", code: "unavailable", cause: "The server has a message for the account's owner" },
  {
    says: /\[NONEXISTENT\]|\[TRYCREATE\]/i,
    at: "command",
    code: "folder",
    cause: "There is no such folder",
    retry: "never",
  },
];

type Fault = { code: ProblemCode; cause: string; retry?: Retry };
const WRONG_TLS: Fault = {
  code: "tls",
  cause: "The port does not speak TLS; it may want STARTTLS, or another port is meant",
};
const UNTRUSTED: Fault = { code: "tls", cause: "The certificate is signed by an authority that is not trusted here" };
const SELF_SIGNED: Fault = { code: "tls", cause: "The certificate is self-signed" };
const SILENT: Fault = { code: "timeout", cause: "The server did not answer in time" };
const CUT: Fault = { code: "connect", cause: "The connection was cut" };
const UNREADABLE: Fault = { code: "protocol", cause: "The server sent more than can be taken or something unreadable" };

/** Codes of sockets, TLS and the client library. */
const CODES: Record<string, Fault> = {
  ECONNREFUSED: { code: "connect", cause: "The server refuses connections" },
  EHOSTUNREACH: { code: "connect", cause: "The server cannot be reached" },
  ENETUNREACH: { code: "connect", cause: "The server's network cannot be reached" },
  ECONNRESET: CUT,
  EPIPE: CUT,
  NoConnection: CUT,
  EConnectionClosed: CUT,
  ClosedAfterConnectTLS: CUT,
  ClosedAfterConnectText: CUT,
  ETIMEDOUT: SILENT,
  ETIMEOUT: SILENT,
  CONNECT_TIMEOUT: SILENT,
  GREETING_TIMEOUT: SILENT,
  UPGRADE_TIMEOUT: { code: "timeout", cause: "TLS was not agreed on in time" },
  ENOTFOUND: { code: "dns", cause: "There is no host of this name" },
  EAI_AGAIN: { code: "dns", cause: "The name servers did not answer" },
  CERT_HAS_EXPIRED: { code: "tls", cause: "The certificate has expired" },
  CERT_NOT_YET_VALID: { code: "tls", cause: "The certificate is not valid yet; check this machine's clock" },
  CERT_REVOKED: { code: "tls", cause: "The certificate was revoked" },
  ERR_TLS_CERT_ALTNAME_INVALID: { code: "tls", cause: "The certificate was issued for another name" },
  HOSTNAME_MISMATCH: { code: "tls", cause: "The certificate was issued for another name" },
  DEPTH_ZERO_SELF_SIGNED_CERT: SELF_SIGNED,
  SELF_SIGNED_CERT_IN_CHAIN: UNTRUSTED,
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT: UNTRUSTED,
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: UNTRUSTED,
  ERR_SSL_WRONG_VERSION_NUMBER: WRONG_TLS,
  EPROTO: { code: "tls", cause: "Client and server could not agree on TLS" },
  STARTTLS_INJECTION: { code: "starttls", cause: "Somebody put words into the connection before TLS began" },
  LineTooLarge: UNREADABLE,
  LiteralTooLarge: UNREADABLE,
  ResponseTooLarge: UNREADABLE,
  TooManyTokens: UNREADABLE,
};

/**
 * Any error of a conversation with a mail server as a Problem. `secrets` are taken out of the evidence, `bye` is the
 * server's farewell, which says more than the broken connection after it.
 */
export function problemOf(
  error: unknown,
  at: { step: Step; secrets?: readonly string[]; bye?: string | undefined; now?: number },
): Problem {
  if (error instanceof Problem) return error;
  const heard = wordsOf(error);
  const text = heard.text || at.bye || "";
  const evidence = text ? { evidence: withoutSecrets(text, at.secrets ?? []) } : {};
  const spoken = text ? fromText(text, at.step, at.now ?? Date.now()) : undefined;
  const coded = CODES[heard.code] ?? (/^ERR_(SSL|TLS)_/.test(heard.code) ? CODES["EPROTO"] : undefined);
  const fault =
    spoken ?? starttls(heard) ?? (heard.refused ? unknownRefusal(at.step) : coded) ?? unknown(heard, at.bye);
  return new Problem(fault.code, fault.cause, { ...evidence, cause: error, retry: fault.retry ?? "later" });
}

/** The Problem a farewell stands for, or a plain lost connection. */
export function farewell(bye: string | undefined, secrets: readonly string[]): Problem {
  const lost = Object.assign(new Error("The connection was closed"), { code: "NoConnection" });
  return problemOf(lost, { step: "command", secrets, bye });
}

function fromText(text: string, step: Step, now: number): Fault | undefined {
  for (const row of TEXTS) {
    if (row.at && row.at !== step) continue;
    const match = row.says.exec(text);
    if (!match) continue;
    const retry = typeof row.retry === "function" ? row.retry(match, now) : (row.retry ?? "later");
    return { code: row.code, cause: row.cause, retry };
  }
  return undefined;
}

function starttls(heard: Heard): Fault | undefined {
  if (!/STARTTLS/.test(heard.message) || heard.code) return undefined;
  return { code: "starttls", cause: "The connection could not be secured with STARTTLS", retry: "never" };
}

function unknownRefusal(step: Step): Fault {
  if (step === "login") return { code: "auth", cause: "The server refused the login without saying why" };
  return { code: "protocol", cause: "The server refused a command" };
}

function unknown(heard: Heard, bye: string | undefined): Fault {
  if (bye) return { code: "unavailable", cause: "The server closed the connection" };
  return { code: "connect", cause: `The connection failed: ${heard.message || heard.code || "no reason was given"}` };
}

type Heard = { text: string; code: string; message: string; refused: boolean };

/** What the client library knows of a failure: the server's text with its response code in brackets, and error codes. */
function wordsOf(error: unknown): Heard {
  if (!(error instanceof Error)) return { text: "", code: "", message: String(error), refused: false };
  const field = (name: string): string => {
    const value: unknown = Reflect.get(error, name);
    return typeof value === "string" ? value : "";
  };
  const code = field("code");
  const words = field("response").replace(/^\S+ (NO|BAD) /, "") || field("responseText") || field("reason");
  const bracket = field("serverResponseCode");
  const text = bracket && !words.includes("[") ? `[${bracket}] ${words}` : words;
  const status = field("responseStatus");
  const known = /authentication (method|mechanism)|Login is disabled/i.test(error.message) ? error.message : "";
  return { text: text || known, code, message: error.message, refused: status === "NO" || status === "BAD" };
}

/** One line of at most 500 characters, each secret replaced, also in its base64 forms. */
export function withoutSecrets(text: string, secrets: readonly string[]): string {
  let clean = text.replaceAll(/\p{Cc}+/gu, " ");
  for (const secret of secrets.filter(Boolean)) {
    for (const form of [secret, Buffer.from(secret).toString("base64")]) clean = clean.replaceAll(form, "[secret]");
  }
  return clean.trim().slice(0, 500);
}
