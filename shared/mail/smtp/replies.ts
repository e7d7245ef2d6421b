/**
 * What an SMTP server's replies mean, and no reply: for one recipient a result, for the whole conversation a Problem.
 */
import { Problem, type ProblemCode } from "../../contract/problem.ts";
import { type Given, quoteWords, withoutGiven } from "../../evidence/evidence.ts";
import { toWrongPortProblem } from "../net/greeting.ts";
import { clock } from "../../time.ts";
import type { RecipientResult } from "../outgoing.ts";
import { excessProblem, sizeText } from "../net/excess.ts";
import { toProblem } from "../problems.ts";

/** RFC 5321 section 4.5.3.1.5 allows 512 for each of its lines. */
export const MAX_REPLY_BYTES = 64 * 1024;

/** The parts of an SMTP library error that are used. */
export type SmtpReply = {
  code: string;
  originalCode: string;
  response: string;
  status: number;
  command: string;
  text: string;
};

export function parseReply(error: unknown): SmtpReply {
  const field = (name: string): unknown => (error instanceof Error ? Reflect.get(error, name) : undefined);
  const stringField = (name: string): string => {
    const value = field(name);
    return typeof value === "string" ? value : "";
  };
  const status = field("responseCode");
  return {
    code: stringField("code"),
    originalCode: stringField("originalCode"),
    response: stringField("response"),
    status: typeof status === "number" ? status : 0,
    command: stringField("command"),
    text: error instanceof Error ? error.message : String(error),
  };
}

/** RFC 5321 section 4.5.3.1.10 (452, in older servers 552), RFC 3463 (X.5.3), and servers' own words. */
const SESSION_LIMIT_PATTERN =
  /\b[45]\.5\.3\b|too many (recipients|rcpts?|addresses|messages|e?-?mails|transactions|errors)|(recipients?|messages?|e?-?mails|transactions) (limit|(allowed )?(per|in (this|one|a single)) (session|connection|message|transaction))/i;

/** True if the refusal is about what this transaction or connection already had. Another one may succeed at once. */
export function isSessionLimit({ status, response }: Pick<SmtpReply, "status" | "response">): boolean {
  return status === 421 || (status >= 400 && SESSION_LIMIT_PATTERN.test(response));
}

/**
 * True for a reply that will be the same next time. 503 concerns the order of commands, not the message. Too many
 * recipients are fewer the next time. Both are tried again.
 */
export function isPermanent({ status, response, command }: SmtpReply): boolean {
  if (status < 500 || status === 503) return false;
  return !(command === "RCPT TO" && isSessionLimit({ status, response }));
}

/** The result that a reply means for a recipient. */
export function toRecipientResult(address: string, reply: SmtpReply, given: Given): RecipientResult {
  const response = quoteWords(reply.response || reply.text, given);
  return { address, state: isPermanent(reply) ? "failed" : "queued", response };
}

/** The same for several recipients of one reply, which is compared with the message once. */
export function toRecipientResults(addresses: readonly string[], reply: SmtpReply, given: Given): RecipientResult[] {
  const result = toRecipientResult("", reply, given);
  return addresses.map((address) => ({ ...result, address }));
}

const THROTTLE_PATTERN = /too many|rate|throttl|4\.7\.(28|650)|4\.3\.2/i;

/** What an SMTP server's reply to a login means. The first match wins. A reply code alone means less than words. */
const LOGIN_RULES: { pattern: RegExp; code: ProblemCode; cause: string; retry: "never" | "later" }[] = [
  {
    pattern: /app(lication)?[ -](specific )?password/i,
    code: "auth_method",
    cause: "The provider wants an app password for sending instead of the account's own",
    retry: "never",
  },
  {
    pattern: /web ?browser|5\.7\.14\b/i,
    code: "auth_method",
    cause: "The provider wants a person to log in with a browser once",
    retry: "never",
  },
  {
    pattern:
      /basic auth\w* (is )?(not|disabled|blocked)|(SmtpClientAuthentication|SMTP AUTH\w*) (is )?(not|disabled)|security defaults|conditional access|did not meet the criteria|5\.7\.30\b/i,
    code: "auth_method",
    cause: "The provider does not allow this way to log in for sending",
    retry: "never",
  },
  {
    pattern: /^538|STARTTLS|(encryption|TLS|SSL) (is )?required|must use (TLS|SSL)/i,
    code: "auth_method",
    cause: "The mail server takes a login over TLS only",
    retry: "never",
  },
  {
    pattern: /^504|^534|(unrecogni[sz]ed|unsupported|unknown|not supported).{0,30}(auth|mechanism)|mechanism/i,
    code: "auth_method",
    cause: "The mail server wants another way to log in for sending",
    retry: "never",
  },
  {
    pattern: /too many|rate limit|throttl|try again in|temporarily (locked|blocked)/i,
    code: "throttled",
    cause: "The mail server takes no more logins for now",
    retry: "later",
  },
  {
    pattern: /^4|temporar|try (again )?later|(service|server) (is )?(busy|unavailable)/i,
    code: "unavailable",
    cause: "The mail server cannot check the login now",
    retry: "later",
  },
  {
    pattern:
      /^535|(password|credential|user ?name|login|account|authentication).{0,40}(incorrect|invalid|wrong|bad|fail|not accepted|unsuccessful|expired|disabled|suspended)|(incorrect|invalid|wrong|bad|expired) (password|credential|user|login|token)/i,
    code: "auth",
    cause: "The mail server refused the login for sending",
    retry: "never",
  },
];

const UNITS = { second: 1000, minute: 60_000, hour: 3_600_000 } as const;
const MAX_WAIT_MS = 24 * 3_600_000;

/** The time after "in 15 minutes", at most a day. */
function getStatedTime(response: string): Date | undefined {
  const [, count, unit] = /\b(?:in|after|for) (\d{1,5}) (second|minute|hour)s?\b/i.exec(response) ?? [];
  const ms = Number(count) * (UNITS[unit?.toLowerCase() as keyof typeof UNITS] ?? Number.NaN);
  return Number.isNaN(ms) ? undefined : new Date(clock.now() + Math.min(ms, MAX_WAIT_MS));
}

/** The Problem of a refused login. Unknown words do not prove that the credentials are wrong. */
function toLoginProblem(error: unknown, reply: SmtpReply, given: Given): Problem {
  const rule = LOGIN_RULES.find(({ pattern }) => pattern.test(reply.response));
  const evidence = quoteWords(reply.response, given);
  if (!rule)
    return new Problem("unavailable", "The mail server refused the login for sending, and its words name no reason", {
      evidence,
      cause: error,
    });
  const retry = rule.retry === "later" ? (getStatedTime(reply.response) ?? "later") : "never";
  return new Problem(rule.code, rule.cause, { evidence, retry, cause: error });
}

/**
 * The Problem of a conversation that failed as a whole, before the message was handed over. 5xx is permanent (retry
 * never). 4xx and network errors are tried later.
 */
export function toSmtpProblem(error: unknown, given: Given): Problem {
  if (error instanceof Problem) return withoutGiven(error, given);
  const reply = parseReply(error);
  if (reply.code === "EPROTOCOL" && /maximum allowed size/.test(reply.text))
    return excessProblem(`a reply of over ${sizeText(MAX_REPLY_BYTES)}`);
  if (isWrongPort(reply)) return toWrongPortProblem(reply.response, SUBMISSION);
  const evidence = reply.response ? { evidence: quoteWords(reply.response, given) } : {};
  const createProblem = (code: ProblemCode, cause: string, forGood = isPermanent(reply)) =>
    new Problem(code, cause, { ...evidence, cause: error, retry: forGood ? "never" : "later" });
  if (reply.code === "EAUTH" && reply.status >= 400) return toLoginProblem(error, reply, given);
  if (reply.code === "ETLS" && reply.response) return createProblem("starttls", "The mail server refuses STARTTLS");
  if (reply.status >= 500) return createProblem("refused", "The mail server refused the message");
  if (reply.status >= 400)
    return THROTTLE_PATTERN.test(reply.response)
      ? createProblem("throttled", "The mail server asks to slow down")
      : createProblem("unavailable", "The mail server asks to try again later");
  if (reply.code === "EMESSAGE") return createProblem("refused", reply.text, true);
  return withoutGiven(toNetworkProblem(error, reply), given);
}

const SUBMISSION = { protocol: "SMTP", port: "587 with STARTTLS, 465 with TLS" };

/** Anything but a reply in place of the greeting, and a refused EHLO: FTP greets with 220 too. */
function isWrongPort({ code, command, response, status }: SmtpReply): boolean {
  if (code === "EPROTOCOL" && command === "CONN") return !/^[245]\d\d[ -]/.test(response);
  return /^(EHLO|HELO|LHLO)$/.test(command) && (status === 500 || status === 502 || status === 530);
}

function toNetworkProblem(error: unknown, reply: SmtpReply): Problem {
  const code = reply.originalCode || { ECONNECTION: "NoConnection", ESOCKET: "NoConnection" }[reply.code] || reply.code;
  const translated = Object.assign(new Error(reply.text, { cause: error }), { code });
  return toProblem(translated, { step: "connect" });
}
