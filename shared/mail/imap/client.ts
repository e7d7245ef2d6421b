/** Opening an IMAP connection: address guard, TLS, login. What comes out is a Session that is ready for commands. */
import type { Socket } from "node:net";
import { ImapFlow, type ImapFlowOptions, type ImapTransport, type Logger } from "imapflow";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import type { Emit } from "../../telemetry/events.ts";
import { atPace, type Paced } from "../net/login-rate.ts";
import { type Credentials, credentials } from "../credentials.ts";
import { portOf } from "../defaults.ts";
import type { Tokens } from "../oauth/tokens.ts";
import { problemOf } from "../problems.ts";
import { patiently } from "../net/idle-timeout.ts";
import { type Session, sessionOver } from "./session.ts";
import { secured, startTls } from "../net/tls.ts";

/** What an IMAP connection needs. Times in milliseconds; `command` is how long the server may be silent at any step. */
export type ImapDeps = Paced & {
  egress: Egress;
  tokens?: Tokens;
  timeouts: { command: number };
  /** How long a subscription may go without proof that it hears. */
  probeMs: number;
  /** How often other folders, or servers that cannot push, are looked at. */
  folderPollMs: number;
  emit?: Emit;
};

type ImapMailbox = MailboxOf<"imap">;

const MIB = 1024 * 1024;
/** The server's to send, this process's to hold: a message may be large, a line may not (failure modes of hostile servers). */
const LIMITS = { maxLineLength: 16 * MIB, maxLiteralSize: 256 * MIB, maxResponseSize: 260 * MIB };
const KEEP_ALIVE_MS = 60_000;
const UNUSED_MS = 29 * 60_000;

/** Connects and logs in. Throws the Problem of the step that failed; nothing stays open then. */
export function openSession(deps: ImapDeps, mailbox: ImapMailbox, signal: AbortSignal): Promise<Session> {
  return atPace(deps, mailbox.receive.host, () => connected(deps, mailbox, signal), signal);
}

async function connected(deps: ImapDeps, mailbox: ImapMailbox, signal: AbortSignal): Promise<Session> {
  const { receive } = mailbox;
  const auth = await credentials(deps, mailbox, signal);
  const timeoutMs = deps.timeouts.command;
  const raw = await deps.egress.connect({ host: receive.host, port: portOf(receive), timeoutMs }, signal);
  // Whoever reads from the connection hears its errors too; without a listener the time between would end the process.
  raw.on("error", () => undefined);
  const socket = receive.tls === "implicit" ? await secured(raw, receive, timeoutMs, signal) : raw;
  try {
    return await logIn(deps, mailbox, { socket, auth }, signal);
  } finally {
    // The library asks for a probe every 5 seconds; a minute keeps NAT entries alive with a twelfth of the packets.
    raw.setKeepAlive(true, KEEP_ALIVE_MS);
  }
}

/**
 * Speaks IMAP on a connected socket (already TLS where the mailbox says implicit) up to a logged-in session. `onSecure` is
 * called when STARTTLS succeeded. A refused OAuth2 token is forgotten, so that the next try fetches a new one.
 */
export async function logIn(
  deps: ImapDeps,
  mailbox: ImapMailbox,
  by: { socket: Socket; auth: Credentials; onSecure?: () => void },
  signal: AbortSignal,
): Promise<Session> {
  const { auth } = by;
  const secrets = ["pass" in auth ? auth.pass : auth.accessToken];
  const ear: { throttled?: (ms: number) => void } = {};
  const client = new ImapFlow(optionsFor(deps, mailbox.receive, by, ear));
  // Until the session listens: an error without a listener would end the process.
  client.on("error", () => undefined);
  const quietMs = deps.timeouts.command;
  const received = () => client.stats().received;
  const stop = () => client.close();
  signal.addEventListener("abort", stop, { once: true });
  try {
    signal.throwIfAborted();
    await patiently({ received, quietMs, capMs: 8 * quietMs }, "Logging in", client.connect(), stop);
  } catch (error) {
    client.close();
    by.socket.destroy();
    if (signal.aborted) throw signal.reason;
    throw refusedLogin(deps, mailbox, problemOf(error, { step: "login", secrets, bye: client.byeReason }));
  } finally {
    signal.removeEventListener("abort", stop);
  }
  const session = sessionOver(client, { quietMs, secrets });
  ear.throttled = (ms) => session.cut(problemOf(throttling(ms), { step: "command" }));
  return session;
}

function refusedLogin(deps: ImapDeps, mailbox: ImapMailbox, problem: Problem): Problem {
  if (problem.code !== "auth" || !("oauth2" in mailbox.receive.auth)) return problem;
  deps.tokens?.forget(mailbox.id);
  const { message, evidence } = problem;
  // Another token may be accepted; how often that is tried is the subscription's to count.
  return new Problem("auth", message, { cause: problem, ...(evidence === null ? {} : { evidence }) });
}

function throttling(ms: number): Error {
  const response = `Request is throttled. Suggested Backoff Time: ${ms} milliseconds`;
  return Object.assign(new Error("Throttled"), { response, responseStatus: "BAD" });
}

function optionsFor(
  deps: ImapDeps,
  receive: ImapMailbox["receive"],
  by: { socket: Socket; auth: Credentials; onSecure?: () => void },
  ear: { throttled?: (ms: number) => void },
): ImapFlowOptions {
  return {
    host: receive.host.replace(/^\[(.*)\]$/, "$1"),
    port: portOf(receive),
    secure: receive.tls === "implicit",
    // Undefined would mean "if offered", which an attacker on the line decides.
    ...(receive.tls === "implicit" ? {} : { doSTARTTLS: receive.tls === "starttls" }),
    transport: transportOver(by.socket, receive, by.onSecure),
    auth: by.auth,
    logger: throttleEar(ear),
    clientInfo: { name: "Email Listener", version: "0.1.0", vendor: "Email Listener", "support-url": false },
    disableAutoIdle: true,
    // A decompressor is one more thing a hostile server can make burst.
    disableCompression: true,
    // CONDSTORE and UTF8=ACCEPT bring nothing here, and IMAP4rev2 mode breaks some servers.
    disableAutoEnable: true,
    disableIMAP4rev2: true,
    greetingTimeout: deps.timeouts.command,
    connectionTimeout: deps.timeouts.command,
    // Our own deadlines are shorter; this one ends a connection that nobody uses, before the server does (RFC 3501 section 5.4).
    socketTimeout: UNUSED_MS,
    ...LIMITS,
  };
}

/** Hands the library a socket that is connected, checked and secured, and does its STARTTLS upgrade by our rules. */
function transportOver(socket: Socket, receive: ImapMailbox["receive"], onSecure?: () => void): ImapTransport {
  return {
    connect(_, onConnect) {
      queueMicrotask(onConnect);
      return socket;
    },
    upgrade: (_, __, onUpgraded) =>
      startTls(socket, receive, () => {
        onSecure?.();
        onUpgraded();
      }),
  };
}

/** The library waits out a throttling by itself and tells only its log; the subscription should know, and let go. */
function throttleEar(ear: { throttled?: (ms: number) => void }): Logger {
  return {
    warn: (entry: { throttleDelay?: unknown }) => {
      if (typeof entry.throttleDelay === "number") ear.throttled?.(entry.throttleDelay);
    },
    debug: deafEar,
    info: deafEar,
    error: deafEar,
    fatal: deafEar,
  };
}

const deafEar = () => undefined;
