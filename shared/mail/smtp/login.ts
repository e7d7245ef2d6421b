/**
 * Logs in to an SMTP server (RFC 4954) with a mechanism that the server offers. A server that offers none gets no
 * password or token.
 */
import { createHmac } from "node:crypto";
import type { SMTPConnectionCustomAuthContext, SMTPConnectionCustomAuthResponse } from "nodemailer/lib/smtp-connection";
import type SMTPConnection from "nodemailer/lib/smtp-connection";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import type { Credentials } from "../oauth/credentials.ts";
import { toSmtpProblem } from "./replies.ts";

/** Sends one line and resolves with the server's reply. */
type Say = (line: string) => Promise<SMTPConnectionCustomAuthResponse>;
/** Takes what was computed from a password, so that no evidence shows it: it is enough to guess the password. */
type Hide = (derived: string) => void;
/** Runs a mechanism up to the server's last reply. */
type Mechanism<C extends Credentials> = (
  say: Say,
  credentials: C,
  hide: Hide,
) => Promise<SMTPConnectionCustomAuthResponse>;
type Password = Extract<Credentials, { pass: string }>;
type Token = Extract<Credentials, { accessToken: string }>;

/** In order of preference. LOGIN is not standardized, but some servers offer nothing else. */
const PASSWORD_MECHANISMS: Record<string, Mechanism<Password>> = {
  async PLAIN(say, { user, pass }) {
    const response = base64(`\0${user}\0${pass}`);
    const reply = await say(`AUTH PLAIN ${response}`);
    // A server from before RFC 4954 ignores the initial response and asks for it.
    return reply.status === 334 ? say(response) : reply;
  },
  async LOGIN(say, { user, pass }) {
    const asked = await say("AUTH LOGIN");
    if (asked.status !== 334) return asked;
    const askedAgain = await say(base64(user));
    return askedAgain.status === 334 ? say(base64(pass)) : askedAgain;
  },
  async "CRAM-MD5"(say, { user, pass }, hide) {
    const challenge = await say("AUTH CRAM-MD5");
    if (challenge.status !== 334) return challenge;
    const digest = createHmac("md5", pass).update(Buffer.from(challenge.text, "base64")).digest("hex");
    hide(digest);
    return say(base64(`${user} ${digest}`));
  },
};

const TOKEN_MECHANISMS: Record<string, Mechanism<Token>> = {
  XOAUTH2: (say, { user, accessToken }) =>
    sayToken(say, `AUTH XOAUTH2 ${base64(`user=${user}\x01auth=Bearer ${accessToken}\x01\x01`)}`, ""),
  // RFC 7628 section 3.1: `,` and `=` in the user name are escaped.
  OAUTHBEARER: (say, { user, accessToken }) => {
    const name = user.replaceAll("=", "=3D").replaceAll(",", "=2C");
    return sayToken(say, `AUTH OAUTHBEARER ${base64(`n,a=${name},\x01auth=Bearer ${accessToken}\x01\x01`)}`, "AQ==");
  },
};

/**
 * The server answers a bad token with 334 and details. Its refusal comes after an empty line from the client (RFC 7628
 * section 3.2.3).
 */
async function sayToken(say: Say, command: string, acknowledgement: string): Promise<SMTPConnectionCustomAuthResponse> {
  const reply = await say(command);
  return reply.status === 334 ? say(acknowledgement) : reply;
}

/** The name under which the library calls `authenticate`. No server offers a mechanism of this name. */
const METHOD = "OFFERED";

/** The option of `new SMTPConnection` that `logIn` needs. */
export const LOGIN_HANDLERS = { [METHOD]: authenticate };

async function authenticate({ auth, sendCommand, reject, resolve }: SMTPConnectionCustomAuthContext): Promise<void> {
  const run: unknown = auth["run"];
  if (typeof run !== "function") return reject("There is no mechanism to log in with");
  const reply: SMTPConnectionCustomAuthResponse = await run((line: string) => sendCommand(line));
  if (reply.status >= 200 && reply.status < 300) resolve();
  else reject("The login was refused");
}

/**
 * Logs in. If it fails, it closes the connection and throws the Problem. `ms` is the time for the whole login. Adds to
 * `secrets` what it computes from the password.
 */
export async function logIn(
  connection: SMTPConnection,
  credentials: Credentials,
  { offered, secrets, ms }: { offered: string[]; secrets: string[]; ms: number },
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  connection.once("error", reject);
  try {
    const run = chooseMechanism(credentials, offered, (derived) => secrets.push(derived));
    connection.login({ method: METHOD, run }, (error) => (error ? reject(error) : resolve()));
    await withTimeout(ms, "Logging in", promise, signal);
    connection.removeListener("error", reject);
  } catch (error) {
    connection.close();
    if (signal.aborted) throw signal.reason;
    throw toSmtpProblem(error, { secrets });
  }
}

/** The first mechanism that both sides know. Throws `auth_method` if there is none; no secret was sent then. */
function chooseMechanism(
  credentials: Credentials,
  offered: string[],
  hide: Hide,
): (say: Say) => Promise<SMTPConnectionCustomAuthResponse> {
  const run = "pass" in credentials ? pick(PASSWORD_MECHANISMS, credentials) : pick(TOKEN_MECHANISMS, credentials);
  if (run) return run;
  const needed = "pass" in credentials ? "a password" : "an OAuth2 token";
  throw new Problem(
    "auth_method",
    `The mail server accepts no login with ${needed}; it offers ${offered.join(", ") || "no mechanism"}`,
    { retry: "never" },
  );

  function pick<C extends Credentials>(mechanisms: Record<string, Mechanism<C>>, own: C) {
    const name = Object.keys(mechanisms).find((one) => offered.includes(one));
    const mechanism = name === undefined ? undefined : mechanisms[name];
    return mechanism && ((say: Say) => mechanism(say, own, hide));
  }
}

function base64(text: string): string {
  return Buffer.from(text, "utf8").toString("base64");
}
