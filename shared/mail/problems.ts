/**
 * Turns the words of mail servers (IMAP, POP3) and network errors into Problems. The tables are data: a new text is one
 * new row and one line in their test. An error without a row is tried again later and never given up.
 */
import { Problem } from "../contract/problem.ts";
import { quoteWords } from "../evidence/evidence.ts";
import { clock } from "../time.ts";
import { getCodeFault } from "./error-codes.ts";
import { type Fault, type Step, TEXT_RULES } from "./server-words.ts";

export type { Step };

/** When it failed, whose words are secret, the server's BYE, and the host for people to recognise. */
type Circumstances = {
  step: Step;
  secrets?: readonly string[];
  bye?: string | undefined;
  where?: string | undefined;
  now?: number;
};

/**
 * Turns any error of a conversation with a mail server into a Problem. `secrets` are removed from the evidence. `bye`
 * is the server's BYE, which says more than the broken connection after it.
 */
export function toProblem(error: unknown, at: Circumstances): Problem {
  if (error instanceof Problem) return withWhere(error, at.where);
  const details = parseLibraryError(error);
  const text = details.text || at.bye || "";
  const given = { secrets: at.secrets ?? [] };
  const evidence = quoteWords(text, given);
  const message = quoteWords(details.message, given);
  const fault = findFault({ ...details, message }, { text, shown: evidence }, at);
  if (fault.isUnclear && error instanceof Error) unclearRefusals.add(error);
  const problem = new Problem(fault.code, fault.cause, {
    ...(text && { evidence }),
    ...(fault.fix !== undefined && { fix: fault.fix }),
    cause: error,
    retry: fault.retry ?? "later",
  });
  return withWhere(problem, at.where);
}

/** The server's own words come before what its code or the broken connection may mean. */
function findFault(
  details: LibraryError,
  { text, shown }: { text: string; shown: string },
  { step, bye, now = clock.now() }: Circumstances,
): Fault {
  const known = text ? matchTextRules(text, step, now) : undefined;
  if (known) return { ...known, cause: `${known.cause}: ${quote(shown)}` };
  const starttls = getStarttlsFault(details);
  if (starttls) return starttls;
  if (details.refused) return getUnknownRefusal(step, shown);
  if (bye) return { code: "unavailable", cause: `The server closed the connection and said: ${quote(shown)}` };
  return getCodeFault(details.code, details.message) ?? getUnknownFault(details);
}

/** The same problem with the host in its cause, unless it is there. */
export function withWhere(problem: Problem, where: string | undefined): Problem {
  if (where === undefined || problem.message.includes(where)) return problem;
  const { code, message, retry, evidence, fix, errors, cause } = problem;
  return new Problem(code, `${message} (${where})`, {
    retry,
    fix,
    errors,
    cause,
    ...(evidence !== null && { evidence }),
  });
}

/** The Problem that a BYE means, or a plain lost connection. */
export function toDisconnectProblem(bye: string | undefined, secrets: readonly string[], where?: string): Problem {
  const error = Object.assign(new Error("The connection was closed"), { code: "NoConnection" });
  return toProblem(error, { step: "command", secrets, bye, where });
}

function matchTextRules(text: string, step: Step, now: number): Fault | undefined {
  for (const row of TEXT_RULES) {
    if (row.at && row.at !== step) continue;
    const match = row.pattern.exec(text);
    if (!match) continue;
    const retry = typeof row.retry === "function" ? row.retry(match, now) : (row.retry ?? "later");
    return { code: row.code, cause: row.cause, retry, ...(row.fix !== undefined && { fix: row.fix }) };
  }
  return undefined;
}

function getStarttlsFault(details: LibraryError): Fault | undefined {
  if (!/STARTTLS/.test(details.message) || details.code) return undefined;
  return { code: "starttls", cause: "The connection could not be secured with STARTTLS", retry: "never" };
}

/** Words that nobody knows are no reason to give up: only words that name the credentials say that these are wrong. */
function getUnknownRefusal(step: Step, text: string): Fault {
  const said = text ? `: ${quote(text)}` : " without saying why";
  if (step === "login")
    return {
      code: "unavailable",
      cause: `The server refused the login${said}`,
      fix: UNCLEAR_LOGIN_FIX,
      isUnclear: true,
    };
  return { code: "protocol", cause: `The server refused a command${said}` };
}

const UNCLEAR_LOGIN_FIX =
  "It is tried again. If it does not pass, check user name and password, and ask the server's operator what these words mean.";

/** The client libraries' errors for logins that were refused in words that nobody knows. */
const unclearRefusals = new WeakSet<Error>();

/** True if a login was refused and nobody knows why. It may be a wrong password: servers lock accounts after a few of them. */
export function isUnclearRefusal(problem: Problem): boolean {
  for (let one: unknown = problem; one instanceof Error; one = one.cause) if (unclearRefusals.has(one)) return true;
  return false;
}

function quote(text: string): string {
  return `"${shorten(text)}"`;
}

function shorten(text: string): string {
  return text.length > 200 ? `${text.slice(0, 200)}...` : text;
}

/** The message of a library may contain a whole answer of the server. */
function getUnknownFault({ message, code }: LibraryError): Fault {
  const known = shorten(message);
  return { code: "connect", cause: `The connection failed: ${known || code || "no reason was given"}` };
}

type LibraryError = { text: string; code: string; message: string; refused: boolean };

/** The parts of a client library error: the server's text with its response code in brackets, and error codes. */
function parseLibraryError(error: unknown): LibraryError {
  if (!(error instanceof Error)) return { text: "", code: "", message: String(error), refused: false };
  const field = (name: string): string => {
    const value: unknown = Reflect.get(error, name);
    return typeof value === "string" ? value : "";
  };
  const code = field("code");
  const serverText = field("response").replace(/^\S+ (NO|BAD) /, "") || field("responseText") || field("reason");
  const bracket = field("serverResponseCode");
  const text = bracket && !serverText.includes("[") ? `[${bracket}] ${serverText}` : serverText;
  const status = field("responseStatus");
  const libraryText = /authentication (method|mechanism)|Login is disabled/i.test(error.message) ? error.message : "";
  return { text: text || libraryText, code, message: error.message, refused: status === "NO" || status === "BAD" };
}
