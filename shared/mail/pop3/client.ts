/** Opens a POP3 session: egress guard, TLS or STLS (RFC 2595), login by password, APOP or OAuth2. */
import { createHash } from "node:crypto";
import type { Socket } from "node:net";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Emit } from "../../telemetry/events.ts";
import { checkProtocol } from "../net/greeting.ts";
import { type MailboxLogin, type MailboxLoginDeps, openMailbox } from "../net/mailbox-login.ts";
import type { Credentials } from "../oauth/credentials.ts";
import type { Intake } from "../net/intake.ts";
import { toServerFacts } from "../net/server-facts.ts";
import { hideLogins, type OpenTap } from "../net/tap.ts";
import { upgradeToTls } from "../net/tls.ts";
import { toProblem } from "../problems.ts";
import { type LineStream, createLineStream, tapped } from "./stream.ts";
import { type Pop3Connection, readGreeting, readResponse, sendCommand } from "./response.ts";
import { createSession, getCapabilities, type Session } from "./session.ts";

/** What a POP3 session needs, as for IMAP. */
export type Pop3Deps = MailboxLoginDeps & {
  /** What servers may make this process read. Without it a connection has one of its own. */
  intake?: Intake;
  emit?: Emit;
  /** Hears what is said on each connection. */
  openTap?: OpenTap;
};

export type Pop3Mailbox = MailboxOf<"pop3">;

/** The commands that log in. */
const LOGINS = /^(PASS|APOP|AUTH \S+)(?= |$)/i;
const GREETING = { protocol: "POP3", starts: ["+OK", "-ERR"], port: "995 with TLS, 110 with STLS" };

/** Connects and logs in. Throws the Problem of the failed step; then nothing stays open. */
export function openSession(deps: Pop3Deps, mailbox: Pop3Mailbox, signal: AbortSignal): Promise<Session> {
  return openMailbox(deps, mailbox, (login) => logIn(deps, mailbox, login, signal), signal);
}

/**
 * Speaks POP3 on a connected socket (already TLS if the mailbox says implicit) up to a logged-in session. `onUpgrade` is
 * called before STLS is sent, `onSecure` when it succeeded.
 */
export async function logIn(
  deps: Pop3Deps,
  mailbox: Pop3Mailbox,
  login: MailboxLogin & { onUpgrade?: () => void; onSecure?: () => void },
  signal: AbortSignal,
): Promise<Session> {
  const secrets = ["pass" in login.auth ? login.auth.pass : login.auth.accessToken];
  const streams: LineStream[] = [];
  const tap = deps.openTap && hideLogins(deps.openTap(mailbox, "pop3", secrets), LOGINS);
  const createConnection = (socket: Socket): Pop3Connection => {
    const plain = createLineStream(socket, deps.intake);
    const stream = tap ? tapped(plain, tap) : plain;
    streams.push(stream);
    return { stream, idleMs: deps.timeouts.command, secrets };
  };
  await checkProtocol(deps, mailbox.receive, { socket: login.socket, expected: GREETING }, signal);
  const onAbort = () => streams.at(-1)?.destroy(new Problem("connect", "It was called off"));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    throwIfEnded(login.socket);
    let socket = login.socket;
    let connection = createConnection(socket);
    const greeting = await readGreeting(connection);
    let capabilities = await getCapabilities(connection);
    if (mailbox.receive.tls === "starttls") {
      login.onUpgrade?.();
      socket = await upgradeWithStls(deps, mailbox, connection, signal);
      connection = createConnection(socket);
      login.onSecure?.();
      // Nothing that was said before TLS counts.
      capabilities = await getCapabilities(connection);
    }
    await authenticate(connection, { mailbox, auth: login.auth, greeting, capabilities });
    connection.stream.loggedIn();
    // RFC 2449 section 6.9; the greeting says it too, with less.
    const words = capabilities.get("IMPLEMENTATION") ?? greeting;
    const facts = toServerFacts({ words, capabilities: capabilities.keys(), socket }, secrets);
    // Copied into it, because `open` is read anew each time.
    return Object.assign(createSession(connection, capabilities), { facts });
  } catch (error) {
    streams.at(-1)?.destroy(new Problem("connect", "The login failed"));
    login.socket.destroy();
    signal.throwIfAborted();
    throw toLoginProblem(mailbox, error);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** Nobody is told again of an end before the greeting. */
function throwIfEnded(socket: Socket): void {
  if (!socket.destroyed) return;
  if (socket.errored) throw toProblem(socket.errored, { step: "command" });
  throw new Problem("connect", "The server closed the connection");
}

async function upgradeWithStls(
  deps: Pop3Deps,
  { receive }: Pop3Mailbox,
  connection: Pop3Connection,
  signal: AbortSignal,
) {
  await sendCommand(connection, "STLS").catch((error: unknown) => {
    if (connection.stream.ended.aborted) throw error;
    throw new Problem("starttls", "The server does not offer STLS", { retry: "never", cause: error });
  });
  if (connection.stream.unread > 0) {
    throw new Problem("starttls", "Somebody injected text into the connection before TLS began", { retry: "never" });
  }
  return upgradeToTls(connection.stream.detach(), receive, deps.timeouts.command, signal);
}

type Login = {
  mailbox: Pop3Mailbox;
  auth: Credentials;
  greeting: string;
  capabilities: ReadonlyMap<string, string>;
};

async function authenticate(connection: Pop3Connection, login: Login): Promise<void> {
  const { auth, capabilities, mailbox } = login;
  if ("accessToken" in auth) {
    const text = `user=${auth.user}\x01auth=Bearer ${auth.accessToken}\x01\x01`;
    return logInBySasl(connection, "XOAUTH2", text);
  }
  const { user, pass } = auth;
  if (/[\r\n\0]/.test(user + pass)) {
    throw new Problem("auth", "User name or password has a character that POP3 cannot carry", { retry: "never" });
  }
  const { apop, tls } = mailbox.receive;
  const timestamp = parseTimestamp(login.greeting);
  if (apop === true && timestamp === undefined) {
    throw new Problem("auth_method", "The server does not offer APOP, which `apop: true` requires", { retry: "never" });
  }
  if (timestamp !== undefined && (apop ?? tls === "none")) {
    // Some servers greet with a timestamp and do not support APOP. Falling back without TLS and without `apop: true`
    // reveals nothing more: an attacker who can refuse APOP could also remove the timestamp, and then the password is
    // sent in any case.
    const mayFallBack = tls !== "none" || apop === undefined;
    if (await tryApop(connection, timestamp, { user, pass, mayFallBack })) return;
  }
  const plain = !capabilities.has("USER") && / PLAIN\b/i.test(` ${capabilities.get("SASL") ?? ""}`);
  if (plain) return logInBySasl(connection, "PLAIN", `\0${user}\0${pass}`);
  await sendCommand(connection, `USER ${user}`, "login");
  await sendCommand(connection, `PASS ${pass}`, "login");
}

/** These refusals are temporary. Another way to log in would get them too. */
const MOMENTARY = new Set<Problem["code"]>(["throttled", "too_many_connections"]);

/** True after the login. False if APOP was refused and another way may be tried. Throws a final refusal. */
async function tryApop(
  connection: Pop3Connection,
  timestamp: string,
  { user, pass, mayFallBack }: { user: string; pass: string; mayFallBack: boolean },
): Promise<boolean> {
  const digest = createHash("md5").update(`${timestamp}${pass}`).digest("hex");
  // Whoever sees it can try passwords against it.
  connection.secrets.push(digest);
  try {
    await sendCommand(connection, `APOP ${user} ${digest}`, "login");
    return true;
  } catch (error) {
    if (!(error instanceof Problem) || connection.stream.ended.aborted || MOMENTARY.has(error.code)) throw error;
    if (mayFallBack) return false;
    if (error.code !== "auth") throw error;
    const { evidence, retry } = error;
    const cause = "The server refused the login by APOP; with `apop: false` the service logs in by USER and PASS";
    throw new Problem("auth", cause, { retry, cause: error, ...(evidence === null ? {} : { evidence }) });
  }
}

/**
 * The timestamp of a greeting, if it has the form of a message id (RFC 1939 section 7). Anything else would help an
 * attacker.
 */
function parseTimestamp(greeting: string): string | undefined {
  return /<[\x21-\x3b\x3d\x3f\x41-\x7e]+@[\x21-\x3b\x3d\x3f\x41-\x7e]+>/.exec(greeting)?.[0];
}

/** One SASL exchange (RFC 5034): the server asks, and gets the whole answer at once. */
async function logInBySasl(connection: Pop3Connection, mechanism: string, text: string): Promise<void> {
  connection.stream.send(`AUTH ${mechanism}\r\n`);
  await readResponse(connection, "AUTH", "login");
  connection.stream.send(`${Buffer.from(text).toString("base64")}\r\n`);
  const response = await readResponse(connection, "AUTH", "login");
  // The server explains a refused token in a challenge. An empty answer to it brings the refusal itself.
  if (mechanism === "XOAUTH2" && /^[A-Za-z0-9+/]{8,}=*$/.test(response)) {
    connection.stream.send("\r\n");
    await readResponse(connection, "AUTH", "login");
  }
}

function toLoginProblem(mailbox: Pop3Mailbox, error: unknown): unknown {
  if (!(error instanceof Problem) || error.code !== "auth" || !("oauth2" in mailbox.receive.auth)) return error;
  const { message, evidence } = error;
  // Another token may be accepted. The subscription counts the attempts.
  return new Problem("auth", message, { cause: error, ...(evidence === null ? {} : { evidence }) });
}
