/** Opens an SMTP connection: egress guard, TLS as the mailbox requires, EHLO, login. */
import type { Socket } from "node:net";
import { hostname } from "node:os";
import { domainToASCII } from "node:url";
import SMTPConnection from "nodemailer/lib/smtp-connection";
import type { Mailbox } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import { withTimeout } from "../../time.ts";
import { type LoginDeps, withLoginGate } from "../net/login-gate.ts";
import { withLoginRate, type LoginRateDeps } from "../net/login-rate.ts";
import type { Credentials } from "../oauth/credentials.ts";
import type { TokenLogin, Tokens } from "../oauth/tokens.ts";
import type { SendSession } from "../outgoing.ts";
import { hideLogins, type OpenTap, type Tap } from "../net/tap.ts";
import { checkPinnedCertificate, upgradeToTls, getTlsOptions } from "../net/tls.ts";
import { getTlsSocket } from "./library.ts";
import { LOGIN_HANDLERS } from "./login.ts";
import { type SmtpServer, getSmtpServer } from "./server.ts";
import { openSmtpSession, type SmtpTimeouts } from "./session.ts";
import { MAX_REPLY_BYTES, toSmtpProblem } from "./replies.ts";

/** What an SMTP connection needs; `command` in milliseconds, the same as for receiving. */
export type SmtpDeps = LoginRateDeps &
  LoginDeps & {
    egress: Egress;
    tokens?: Tokens;
    timeouts: { command: number };
    /** The name for EHLO. If absent or empty, the service chooses one. */
    ehloName?: string | undefined;
    /** Hears what is said on each connection. */
    openTap?: OpenTap;
  };

/**
 * Sending servers are slower than receiving ones on purpose (tarpits), and the end of a message may take 10 minutes.
 */
const STEP_FACTOR = 4;
const END_FACTOR = 40;

/** Connects, secures, greets and logs in. Throws the Problem of the failed step; then nothing stays open. */
export async function connectSmtp(deps: SmtpDeps, mailbox: Mailbox, signal: AbortSignal): Promise<SendSession> {
  const server = getSmtpServer(mailbox);
  const open = () => withLoginRate(deps, server.host, () => connectAndGreet(deps, mailbox, server, signal), signal);
  return withLoginGate(deps, server, server.auth, open, signal);
}

async function connectAndGreet(
  deps: SmtpDeps,
  mailbox: Mailbox,
  server: SmtpServer,
  signal: AbortSignal,
): Promise<SendSession> {
  const auth = await getSmtpCredentials(deps, mailbox, server, signal);
  try {
    return await openWith(deps, { mailbox, server, auth }, signal);
  } catch (error) {
    if (!("accessToken" in auth) || !isRefusedLogin(error)) throw error;
    // A provider may end a token early, and servers report that in different words. So a new token is tried once. If
    // it cannot be renewed, the same one comes back.
    deps.tokens?.forget(getTokenLogin(mailbox, server).owner, auth.accessToken);
    const renewed = await getSmtpCredentials(deps, mailbox, server, signal);
    if (!("accessToken" in renewed) || renewed.accessToken === auth.accessToken) throw error;
    return openWith(deps, { mailbox, server, auth: renewed }, signal);
  }
}

function isRefusedLogin(error: unknown): boolean {
  return (
    error instanceof Problem &&
    ["auth", "auth_method", "unavailable"].includes(error.code) &&
    /^(5|4(?!21))/.test(error.evidence ?? "")
  );
}

type Login = { mailbox: Mailbox; server: SmtpServer; auth: Credentials };

/** One connection with one login. */
async function openWith(deps: SmtpDeps, { mailbox, server, auth }: Login, signal: AbortSignal): Promise<SendSession> {
  const timeouts = getTimeouts(deps);
  const raw = await deps.egress.connect(
    { host: server.host, port: server.port, timeoutMs: deps.timeouts.command },
    signal,
  );
  raw.on("error", () => undefined);
  const socket = server.tls === "implicit" ? await upgradeToTls(raw, server, timeouts.step, signal) : raw;
  const name = deps.ehloName || getEhloName(hostname(), mailbox.address);
  const secrets = ["pass" in auth ? auth.pass : auth.accessToken];
  const tap = deps.openTap && hideLogins(deps.openTap(mailbox, "smtp", secrets), LOGINS);
  const connection = await greet({ socket, place: server, timeouts, name, secrets, tap }, signal);
  try {
    return await openSmtpSession(connection, auth, timeouts, signal);
  } catch (error) {
    connection.close();
    throw error;
  }
}

/**
 * The name of this machine if it has a domain, else the domain of the sender's address. Servers may refuse names
 * without a dot and loopback addresses (RFC 5321 section 4.1.4).
 */
export function getEhloName(host: string, address: string): string {
  const hasDomain =
    /^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$/.test(host) && !/^[\d.]+$|\.(localdomain|local|internal)$/i.test(host);
  return hasDomain ? host : domainToASCII(address.slice(address.lastIndexOf("@") + 1)) || "localhost.localdomain";
}

/**
 * How long an attempt may take up to the end of a small message, and from there to the answer, with some reserve
 * (milliseconds).
 */
export function getMaxDurations(deps: Pick<SmtpDeps, "timeouts">): { attempt: number; end: number } {
  const { step, end } = getTimeouts(deps);
  return { attempt: 4 * step, end: end + step };
}

function getTimeouts({ timeouts }: Pick<SmtpDeps, "timeouts">): SmtpTimeouts {
  return { step: STEP_FACTOR * timeouts.command, end: END_FACTOR * timeouts.command };
}

/** The id for tokens of a mailbox's own login for sending. A mailbox's id cannot contain `/`. */
export const SEND_TOKEN_SUFFIX = "/send";

/** The login for sending, in clear. A mailbox with one login for receiving and sending shares its token. */
async function getSmtpCredentials(
  { tokens }: SmtpDeps,
  mailbox: Mailbox,
  server: SmtpServer,
  signal: AbortSignal,
): Promise<Credentials> {
  const { auth } = server;
  if ("password" in auth) return { user: auth.user, pass: auth.password.reveal() };
  if ("accessToken" in auth) return { user: auth.user, accessToken: auth.accessToken.reveal() };
  if (!tokens) throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
  return {
    user: auth.user,
    accessToken: (await tokens.access(mailbox, signal, getTokenLogin(mailbox, server))).reveal(),
  };
}

function getTokenLogin({ id, send }: Mailbox, { auth }: SmtpServer): TokenLogin {
  return { owner: send?.auth ? id + SEND_TOKEN_SUFFIX : id, auth };
}

/**
 * A connection after EHLO. With STARTTLS it resolves only after the handshake and the check of the server's
 * certificate.
 */
async function greet(
  {
    socket,
    place: server,
    timeouts,
    name,
    secrets,
    tap,
  }: {
    socket: Socket;
    place: SmtpServer;
    timeouts: SmtpTimeouts;
    name: string;
    secrets: string[];
    tap: Tap | undefined;
  },
  signal: AbortSignal,
): Promise<SMTPConnection> {
  const { host, port, tls } = server;
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const connection = new SMTPConnection({
    connection: socket,
    host: host.replace(/^\[(.*)\]$/, "$1"),
    port,
    name,
    customAuth: LOGIN_HANDLERS,
    secure: tls === "implicit",
    secured: tls === "implicit",
    requireTLS: tls === "starttls",
    ignoreTLS: tls === "none",
    tls: getTlsOptions(server),
    socketTimeout: timeouts.step,
    greetingTimeout: timeouts.step,
    connectionTimeout: 2 * timeouts.step,
    socketCloseTimeout: 1000,
    maxResponseSize: MAX_REPLY_BYTES,
    transactionLog: tap !== undefined,
    logger: createLogger(reject, tap),
  });
  // The listener stays, because an error without a listener would end the process.
  connection.on("error", reject);
  connection.connect((error) => (error ? reject(error) : resolve()));
  try {
    await withTimeout(3 * timeouts.step, "Greeting the mail server", promise, signal);
    if (tls !== "starttls") return connection;
    const tlsSocket = getTlsSocket(connection);
    const problem = tlsSocket
      ? checkPinnedCertificate(tlsSocket, server)
      : new Problem("starttls", "TLS did not begin", { retry: "never" });
    if (problem) throw problem;
    return connection;
  } catch (error) {
    connection.close();
    socket.destroy();
    if (signal.aborted) throw signal.reason;
    throw toSmtpProblem(error, { secrets });
  }
}

/** The command that logs in. */
const LOGINS = /^AUTH \S+(?= |$)/i;

/**
 * The library drops what came between the reply to STARTTLS and TLS, and mentions it only in its log. It also tells each command
 * and reply there, and of a message its size.
 */
function createLogger(onInjection: (problem: Problem) => void, tap: Tap | undefined) {
  const tell = (entry: unknown, text: unknown) => {
    if (typeof entry !== "object" || entry === null || !("tnx" in entry) || typeof text !== "string") return;
    if (entry.tnx === "client" || entry.tnx === "server") tap?.line(entry.tnx === "client" ? "C" : "S", text);
  };
  const warn = (entry: unknown) => {
    if (typeof entry === "object" && entry !== null && "discarded" in entry)
      onInjection(
        new Problem("starttls", "Somebody injected text into the connection before TLS began", { retry: "never" }),
      );
  };
  return { trace: noop, debug: tap ? tell : noop, info: noop, warn, error: noop, fatal: noop };
}

const noop = () => undefined;
