/**
 * Turns answers of Graph into Problems. The tables are data, keyed by Graph's error code without regard to case. An error
 * without a row is tried again later and never given up.
 */
import type { IncomingHttpHeaders } from "node:http";
import { Problem, type ProblemCode, type Retry } from "../../../contract/problem.ts";
import { quoteWords } from "../../../evidence/evidence.ts";
import { clock } from "../../../time.ts";
import { type Asker, accessFix, OTHER_TOKEN_FIX, policyFix, USER_FIX } from "./fixes.ts";

type Row = { code: ProblemCode; cause: string; retry?: Retry; fix?: string | ((asker: Asker) => string) };

/** What an error answer said: its codes, the outer one first, and the words. */
export type GraphError = { codes: string[]; message: string };

const MINUTE = 60_000;
const MAX_BACK_OFF_MS = 60 * MINUTE;
const MAX_WORDS = 300;

const THROTTLED: Row = { code: "throttled", cause: "Microsoft Graph asks to slow down" };
const BUSY: Row = { code: "unavailable", cause: "Microsoft Graph has a temporary problem" };
const NO_USER: Row = {
  code: "no_mailbox",
  cause: "The directory has no user of this name",
  retry: "never",
  fix: USER_FIX,
};
const NO_LICENCE: Row = {
  code: "no_mailbox",
  cause: "The user has no mailbox in Exchange Online: no licence, not set up yet, deleted, or a mailbox on premises",
  retry: "never",
  fix: "Give the user a licence with Exchange Online and wait 15 minutes. If the mailbox is on a server of your own, set `receive.protocol` to ews.",
};
const NO_ACCESS: Row = {
  code: "access",
  cause:
    "The application may not do this with the mailbox: the permission is missing or was not consented to, or the mailbox is outside of the application's scope",
  retry: "never",
  fix: accessFix,
};
const REFUSED_TOKEN: Row = {
  code: "token",
  cause: "Microsoft Graph refused the token",
  retry: "never",
  fix: OTHER_TOKEN_FIX,
};
const FULL: Row = {
  code: "unavailable",
  cause: "The mailbox is full",
  fix: "Ask the mailbox's user to delete messages, or raise its quota. Until then the service lists new messages by date.",
};
const CORRUPT: Row = {
  code: "message",
  cause: "Exchange cannot give this message",
  fix: "Open the message in Outlook. If it opens there, save it anew or forward it to the mailbox.",
};
const OURS: Row = { code: "protocol", cause: "Microsoft Graph did not understand the request" };

const CODES: Record<string, Row> = {
  invalidauthenticationtoken: REFUSED_TOKEN,
  compacttoken: REFUSED_TOKEN,
  erroraccessdenied: NO_ACCESS,
  accessdenied: NO_ACCESS,
  errorinsufficientpermissionsinaccesstoken: NO_ACCESS,
  authorization_requestdenied: {
    code: "access",
    cause: "The application may not read the directory",
    retry: "never",
    fix: "Grant the application permission User.Read.All, or set `receive.user` to the user's object id.",
  },
  request_resourcenotfound: NO_USER,
  resourcenotfound: NO_USER,
  errorinvaliduser: NO_LICENCE,
  mailboxnotenabledforrestapi: NO_LICENCE,
  errornonexistentmailbox: NO_LICENCE,
  mailboxnotsupportedforrestapi: {
    code: "no_mailbox",
    cause: "This is a personal account, and not a mailbox of an organisation",
    retry: "never",
    fix: "Receive it by IMAP (outlook.office365.com) with the consent of its owner.",
  },
  erroritemnotfound: { code: "gone", cause: "The message or folder is no longer in the mailbox", retry: "never" },
  errorsyncfoldernotfound: { code: "folder", cause: "There is no such folder any more", retry: "never" },
  errorfoldernotfound: { code: "folder", cause: "There is no such folder any more", retry: "never" },
  errorinvalididmalformed: {
    code: "gone",
    cause: "The message has an id that Graph cannot read; another protocol may have given it",
    retry: "never",
  },
  inefficientfilter: OURS,
  errorinvalidurlquery: OURS,
  errorquotaexceeded: FULL,
  quotaexceeded: FULL,
  errorsendasdenied: { code: "sender", cause: "The mailbox may not send under this address", retry: "never" },
  errormessagesizeexceeded: { code: "refused", cause: "The message is larger than Exchange allows", retry: "never" },
  errorcorruptdata: CORRUPT,
  erroritemcorrupt: CORRUPT,
  errorinvalidrecipients: CORRUPT,
  errorcannotopenfileattachment: CORRUPT,
  errormimecontentconversionfailed: CORRUPT,
  errortoomanyobjectsopened: CORRUPT,
  applicationthrottled: THROTTLED,
  toomanyrequests: THROTTLED,
  activitylimitreached: THROTTLED,
  errorserverbusy: THROTTLED,
  errormailboxmoveinprogress: { code: "unavailable", cause: "The mailbox is being moved to another database" },
  errormailboxstoreunavailable: { code: "unavailable", cause: "The database of the mailbox is not available" },
  errorinternalservertransienterror: BUSY,
  errorinternalservererror: BUSY,
};

const STATUSES: Record<number, Row> = {
  400: OURS,
  401: REFUSED_TOKEN,
  403: NO_ACCESS,
  404: { code: "protocol", cause: "Microsoft Graph does not know this path" },
  413: { code: "refused", cause: "The request is larger than Graph allows", retry: "never" },
  429: THROTTLED,
  507: FULL,
  509: { ...THROTTLED, cause: "The mailbox has used up its bandwidth" },
};

/** These codes say that a delta link or sync token is no longer valid (compared without regard to case). */
const DEAD_TOKENS = new Set([
  "syncstatenotfound",
  "syncstateinvalid",
  "resyncrequired",
  "resyncchangesapplydifferences",
]);

/** The error in an answer's body. Without codes if it has none, for example for the page of a proxy. */
export function parseGraphError(body: string): GraphError {
  const codes: string[] = [];
  let message = "";
  try {
    const answer: unknown = JSON.parse(body);
    for (
      let at = memberOf(answer, "error");
      at !== undefined;
      at = memberOf(at, "innerError") ?? memberOf(at, "innererror")
    ) {
      const [code, words] = [memberOf(at, "code"), memberOf(at, "message")];
      if (typeof code === "string" && code !== "") codes.push(code);
      if (message === "" && typeof words === "string") message = words;
    }
  } catch {
    // Not JSON: then only the status counts.
    return { codes: [], message: "" };
  }
  return { codes, message };
}

function memberOf(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null ? (Reflect.get(value, name) as unknown) : undefined;
}

/** An answer of Graph other than 2xx. Its status and codes are for those who must know more than the Problem. */
export class GraphRefusal extends Problem {
  readonly status: number;
  readonly codes: readonly string[];
  constructor(problem: ConstructorParameters<typeof Problem>, { status, codes }: { status: number; codes: string[] }) {
    super(...problem);
    this.status = status;
    this.codes = codes.map((code) => code.toLowerCase());
  }
}

type Answer = { status: number; headers: IncomingHttpHeaders; body: string };

/** The Problem for an answer other than 2xx. `secrets` are removed from the evidence. */
export function problemFromAnswer(
  answer: Answer,
  asker: Asker,
  secrets: readonly string[],
  now = clock.now(),
): GraphRefusal {
  const { status, headers } = answer;
  const { codes, message } = parseGraphError(answer.body);
  const row = findRow(status, codes, message);
  const said = [`HTTP ${status}`, ...codes.slice(0, 3), ...(message ? [message.slice(0, MAX_WORDS)] : [])].join("; ");
  const requestId = headers["request-id"];
  const traced = typeof requestId === "string" ? `${said}; request-id ${requestId}` : said;
  const fix = typeof row.fix === "function" ? row.fix(asker) : row.fix;
  const more = {
    retry: toRetry(row, retryAfterMs(headers, now), now),
    evidence: quoteWords(traced, { secrets }),
    ...(fix !== undefined && { fix }),
  };
  return new GraphRefusal([row.code, row.cause, more], { status, codes });
}

/** The innermost known code counts. Only for a few errors the words say more. */
function findRow(status: number, codes: string[], message: string): Row {
  if (/Access to OData is disabled/i.test(message))
    return {
      ...NO_ACCESS,
      cause: "An application access policy forbids this mailbox to the application",
      fix: policyFix,
    };
  if (/insufficient_claims/i.test(message))
    return {
      code: "token",
      cause: "A rule of conditional access refuses the token",
      retry: "never",
      fix: "Exclude the service from the rule in Microsoft Entra, or use application permissions.",
    };
  if (status === 429) return THROTTLED;
  const known = codes.toReversed().flatMap((code) => CODES[code.toLowerCase()] ?? []);
  const fallback =
    status >= 500 ? BUSY : { code: "protocol" as const, cause: `Microsoft Graph answered HTTP ${status}` };
  return known[0] ?? STATUSES[status] ?? fallback;
}

function toRetry({ code, retry = "later" }: Row, backOffMs: number | undefined, now: number): Retry {
  if (retry === "never") return retry;
  const ms = backOffMs ?? (code === "throttled" ? DEFAULT_BACK_OFF_MS : undefined);
  return ms === undefined ? retry : new Date(now + Math.min(ms, MAX_BACK_OFF_MS));
}

/** Used if Graph asks to slow down without a time. */
const DEFAULT_BACK_OFF_MS = 5_000;

/** Milliseconds to wait by Retry-After: seconds, also with a fraction ("2.128"), or a date (RFC 9110 section 10.2.3). */
export function retryAfterMs(headers: IncomingHttpHeaders, now: number): number | undefined {
  const value = String(headers["retry-after"] ?? "").trim();
  if (value === "") return undefined;
  const ms = /^\d+(\.\d+)?$/.test(value) ? Number(value) * 1000 : Date.parse(value) - now;
  return Number.isFinite(ms) && ms >= 0 ? Math.ceil(ms) : undefined;
}

/** True if a delta round must begin anew, because Graph no longer knows its link. */
export function isDeadLink(error: unknown): error is GraphRefusal {
  if (!(error instanceof GraphRefusal)) return false;
  if (error.status === 410 || error.codes.some((code) => DEAD_TOKENS.has(code))) return true;
  return error.status === 400 && /DeltaToken|SkipToken/i.test(error.evidence ?? "");
}

/** True if Graph refuses a delta because the mailbox is full. Plain lists still work then. */
export function isMailboxFull(error: unknown): error is GraphRefusal {
  return (
    error instanceof GraphRefusal &&
    (error.status === 507 || error.codes.some((code) => /^(error)?quotaexceeded$/.test(code)))
  );
}

/** True if what was asked for is not there. */
export function isNotFound(error: unknown): error is GraphRefusal {
  return error instanceof GraphRefusal && (error.code === "gone" || error.code === "folder");
}

/** True if the login may not read what was asked for. */
export function isAccessRefused(error: unknown): error is GraphRefusal {
  return error instanceof GraphRefusal && error.code === "access";
}
