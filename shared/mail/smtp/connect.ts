/** Opening an SMTP connection: address guard, TLS as the mailbox demands it, EHLO, login. */
import type { Socket } from "node:net";
import SMTPConnection from "nodemailer/lib/smtp-connection";
import type { Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import { within } from "../../time.ts";
import { atPace, type Paced } from "../net/login-rate.ts";
import type { Credentials } from "../credentials.ts";
import type { Tokens } from "../oauth/tokens.ts";
import type { SendSession } from "../outgoing.ts";
import { pinProblem, secured, trusting } from "../net/tls.ts";
import { type SmtpPlace, smtpPlace } from "./server.ts";
import { smtpSession, type SmtpTimeouts, tlsSocketOf } from "./session.ts";
import { smtpProblem } from "./replies.ts";

/** What an SMTP connection needs; `command` in milliseconds, the same as for receiving. */
export type SmtpDeps = Paced & {
  egress: Egress;
  tokens?: Tokens;
  timeouts: { command: number };
};

/** Sending servers are slower than receiving ones on purpose (tarpits), and the end of a message may take 10 minutes. */
const STEP = 4;
const END = 40;

/** Connects, secures, greets and logs in. Throws the Problem of the step that failed; nothing stays open then. */
export async function openSmtp(deps: SmtpDeps, mailbox: Mailbox, signal: AbortSignal): Promise<SendSession> {
  const place = smtpPlace(mailbox);
  return atPace(deps, place.host, () => connected(deps, mailbox, place, signal), signal);
}

async function connected(
  deps: SmtpDeps,
  mailbox: Mailbox,
  place: SmtpPlace,
  signal: AbortSignal,
): Promise<SendSession> {
  const auth = await smtpCredentials(deps, mailbox, place, signal);
  const timeouts = timeoutsOf(deps);
  const raw = await deps.egress.connect(
    { host: place.host, port: place.port, timeoutMs: deps.timeouts.command },
    signal,
  );
  raw.on("error", () => undefined);
  const socket = place.tls === "implicit" ? await secured(raw, place, timeouts.step, signal) : raw;
  const connection = await greeted({ socket, place, timeouts }, signal);
  try {
    return await smtpSession(connection, auth, timeouts, signal);
  } catch (error) {
    connection.close();
    if (error instanceof Problem && error.code === "auth" && !("password" in place.auth)) forget(deps, mailbox);
    throw error;
  }
}

/** How long an attempt may take up to the end of a small message, and from there to the answer, with some time to spare (milliseconds). */
export function holdsOf(deps: Pick<SmtpDeps, "timeouts">): { attempt: number; end: number } {
  const { step, end } = timeoutsOf(deps);
  return { attempt: 4 * step, end: end + step };
}

function timeoutsOf({ timeouts }: Pick<SmtpDeps, "timeouts">): SmtpTimeouts {
  return { step: STEP * timeouts.command, end: END * timeouts.command };
}

/** The id under which the tokens of a mailbox's own login for sending are kept; `/` is no character of a mailbox's id. */
export const SENDING = "/send";

/** The login for sending in clear; a mailbox with one login for both ways shares its token. */
async function smtpCredentials(
  { tokens }: SmtpDeps,
  mailbox: Mailbox,
  { auth }: SmtpPlace,
  signal: AbortSignal,
): Promise<Credentials> {
  if ("password" in auth) return { user: auth.user, pass: auth.password.reveal() };
  if ("accessToken" in auth) return { user: auth.user, accessToken: auth.accessToken.reveal() };
  if (!tokens) throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
  return { user: auth.user, accessToken: (await tokens.access(tokenOwner(mailbox), signal)).reveal() };
}

function tokenOwner(mailbox: Mailbox): Mailbox {
  const auth = mailbox.send?.auth;
  return auth ? { ...mailbox, id: mailbox.id + SENDING, receive: { ...mailbox.receive, auth } } : mailbox;
}

function forget({ tokens }: SmtpDeps, mailbox: Mailbox): void {
  tokens?.forget(tokenOwner(mailbox).id);
}

/** A connection that has greeted; with STARTTLS only once TLS has begun and the server has proven itself. */
async function greeted(
  { socket, place, timeouts }: { socket: Socket; place: SmtpPlace; timeouts: SmtpTimeouts },
  signal: AbortSignal,
): Promise<SMTPConnection> {
  const { host, port, tls } = place;
  const connection = new SMTPConnection({
    connection: socket,
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port,
    secure: tls === "implicit",
    secured: tls === "implicit",
    requireTLS: tls === "starttls",
    ignoreTLS: tls === "none",
    tls: trusting(place),
    socketTimeout: timeouts.step,
    greetingTimeout: timeouts.step,
    connectionTimeout: 2 * timeouts.step,
    socketCloseTimeout: 1000,
    logger: false,
  });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  // The listener stays: an error without one would end the process.
  connection.on("error", reject);
  connection.connect((error) => (error ? reject(error) : resolve()));
  try {
    await within(3 * timeouts.step, "Greeting the mail server", promise, signal);
    if (tls !== "starttls") return connection;
    const secure = tlsSocketOf(connection);
    const problem = secure
      ? pinProblem(secure, place)
      : new Problem("starttls", "TLS did not begin", { retry: "never" });
    if (problem) throw problem;
    return connection;
  } catch (error) {
    connection.close();
    socket.destroy();
    if (signal.aborted) throw signal.reason;
    throw smtpProblem(error, []);
  }
}
