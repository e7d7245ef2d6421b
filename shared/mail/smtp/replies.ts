/** What an SMTP server's replies, and its silence, mean: for one recipient a verdict, for the whole conversation a Problem. */
import { Problem } from "../../contract/problem.ts";
import type { Verdict } from "../outgoing.ts";
import { problemOf, withoutSecrets } from "../problems.ts";

/** An error of the SMTP library, as far as it is looked at. */
export type Heard = {
  code: string;
  originalCode: string;
  response: string;
  status: number;
  command: string;
  text: string;
};

export function heard(error: unknown): Heard {
  const field = (name: string): unknown => (error instanceof Error ? Reflect.get(error, name) : undefined);
  const word = (name: string): string => {
    const value = field(name);
    return typeof value === "string" ? value : "";
  };
  const status = field("responseCode");
  return {
    code: word("code"),
    originalCode: word("originalCode"),
    response: word("response"),
    status: typeof status === "number" ? status : 0,
    command: word("command"),
    text: error instanceof Error ? error.message : String(error),
  };
}

/**
 * True for a reply that will be the same next time. 503 is about the order of commands, not about the message, and 552 to a recipient
 * without a word about storage means too many of them (RFC 5321 section 4.5.3.1.10): both are tried again.
 */
export function isForGood({ status, response, command }: Heard): boolean {
  if (status < 500 || status === 503) return false;
  return !(status === 552 && command === "RCPT TO" && /\b5\.5\.3\b|too many/i.test(response));
}

/** The verdict a reply means for a recipient. */
export function verdictOf(address: string, reply: Heard, secrets: readonly string[]): Verdict {
  const response = withoutSecrets(reply.response || reply.text, secrets);
  return { address, state: isForGood(reply) ? "failed" : "queued", response };
}

/** Words of providers that want another way to log in. */
const OTHER_LOGIN =
  /application-specific password|basic authentication is (not supported|disabled)|5\.7\.(30|139)|SmtpClientAuthentication is disabled/i;
const SLOWER = /too many|rate|throttl|4\.7\.(28|650)|4\.3\.2/i;

/**
 * A conversation that failed as a whole, before the message was handed over. 5xx is for good (retry never), 4xx and the network's
 * faults are for later.
 */
export function smtpProblem(error: unknown, secrets: readonly string[]): Problem {
  if (error instanceof Problem) return error;
  const said = heard(error);
  const evidence = said.response ? { evidence: withoutSecrets(said.response, secrets) } : {};
  const made = (code: Problem["code"], cause: string, forGood = isForGood(said)) =>
    new Problem(code, cause, { ...evidence, cause: error, retry: forGood ? "never" : "later" });
  if (said.code === "EAUTH" && said.status >= 500) {
    return OTHER_LOGIN.test(said.response)
      ? made("auth_method", "The mail server wants another way to log in for sending")
      : made("auth", "The mail server refused the login for sending");
  }
  if (said.code === "ETLS" && said.response) return made("starttls", "The mail server does not begin TLS (STARTTLS)");
  if (said.status >= 500) return made("refused", "The mail server refused the message");
  if (said.status >= 400)
    return SLOWER.test(said.response)
      ? made("throttled", "The mail server asks to slow down")
      : made("unavailable", "The mail server asks to come back later");
  if (said.code === "EMESSAGE") return made("refused", said.text, true);
  return networkProblem(error, said);
}

function networkProblem(error: unknown, said: Heard): Problem {
  const code = said.originalCode || { ECONNECTION: "NoConnection", ESOCKET: "NoConnection" }[said.code] || said.code;
  const plain = Object.assign(new Error(said.text, { cause: error }), { code });
  return problemOf(plain, { step: "connect" });
}
