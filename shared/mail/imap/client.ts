/** Opens an IMAP connection: egress guard, TLS, login. The result is a Session that is ready for commands. */
import type { Socket } from "node:net";
import manifest from "../../../package.json" with { type: "json" };
import { ImapFlow, type ImapFlowOptions, type ImapTransport, type Logger } from "imapflow";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Emit } from "../../telemetry/events.ts";
import { type MailboxLogin, type MailboxLoginDeps, openMailbox } from "../net/mailbox-login.ts";
import type { Credentials } from "../oauth/credentials.ts";
import { describeServer, portOf } from "../../places.ts";
import { checkProtocol } from "../net/greeting.ts";
import { toProblem } from "../problems.ts";
import { withIdleTimeout } from "../net/idle-timeout.ts";
import { type Session, createSession } from "./session.ts";
import { startTls } from "../net/tls.ts";
import { createIntake, type Intake } from "../net/intake.ts";
import { hideLogins, type OpenTap, type Tap } from "../net/tap.ts";
import type { SuspectsOf } from "./suspects.ts";
import { createGate, type Gate } from "./wire/gate.ts";

/** What an IMAP connection needs. Times in milliseconds. `command` is how long the server may be silent at any step. */
export type ImapDeps = MailboxLoginDeps & {
  /** What servers may make this process read. Without it a connection has one of its own. */
  intake?: Intake;
  /** How long a subscription may go without an answer of the server. */
  probeMs: number;
  /** How often other folders are polled, and all folders of a server that cannot push. */
  folderPollMs: number;
  /** Without it nothing is known of earlier connections. */
  suspects?: SuspectsOf;
  emit?: Emit;
  /** Hears what is said on each connection. */
  openTap?: OpenTap;
};

type ImapMailbox = MailboxOf<"imap">;

/** Every value of an answer becomes an object. The numbers of SEARCH do not count. Bytes are counted in `wire/traffic.ts`. */
const MAX_RESPONSE_TOKENS = 20_000;
const UNUSED_CLOSE_MS = 29 * 60_000;

/** Connects and logs in. Throws the Problem of the failed step; then nothing stays open. */
export function openSession(deps: ImapDeps, mailbox: ImapMailbox, signal: AbortSignal): Promise<Session> {
  return openMailbox(deps, mailbox, (login) => logIn(deps, mailbox, login, signal), signal);
}

const GREETING = { protocol: "IMAP", starts: ["* "], port: "993 with TLS, 143 with STARTTLS" };

/**
 * Speaks IMAP on a connected socket (already TLS if the mailbox says implicit) up to a logged-in session. `onUpgrade` is
 * called before STARTTLS is sent, `onSecure` when it succeeded.
 */
export async function logIn(
  deps: ImapDeps,
  mailbox: ImapMailbox,
  login: MailboxLogin & { onUpgrade?: () => void; onSecure?: () => void },
  signal: AbortSignal,
): Promise<Session> {
  // Otherwise the client library would wait for a greeting that does not come.
  await checkProtocol(deps, mailbox.receive, { socket: login.socket, expected: GREETING }, signal);
  const { auth } = login;
  const secrets = ["pass" in auth ? auth.pass : auth.accessToken];
  const hooks: LogHooks = { isLoggedIn: false };
  const line = openLine(deps, mailbox.receive, login);
  const tap = deps.openTap && hideLogins(deps.openTap(mailbox, "imap", secrets), LOGINS);
  const client = new ImapFlow(getClientOptions(deps, mailbox.receive, { auth, line, tap }, hooks));
  // Until the session listens: an error without a listener would end the process.
  client.on("error", () => undefined);
  const idleMs = deps.timeouts.command;
  const received = () => line.gate.activity();
  const onAbort = () => client.close();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    signal.throwIfAborted();
    await withIdleTimeout({ received, idleMs, maxMs: 8 * idleMs }, "Logging in", client.connect(), onAbort);
  } catch (error) {
    client.close();
    login.socket.destroy();
    if (signal.aborted) throw signal.reason;
    throw toLoginProblem(mailbox, toProblem(error, { step: "login", secrets, bye: client.byeReason }));
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
  const { traffic } = line.gate;
  traffic.loggedIn();
  hooks.isLoggedIn = true;
  const expectContent = (bytes: number) => traffic.expectContent(bytes);
  const where = describeServer(mailbox.receive);
  const session = createSession(client, {
    quietMs: idleMs,
    secrets,
    where,
    received,
    expectContent,
    socket: () => line.socket,
  });
  hooks.throttled = (ms) => session.destroy(toProblem(createThrottleError(ms), { step: "command" }));
  return session;
}

/** Another token may be accepted; how often that is tried is the subscription's to count. */
function toLoginProblem(mailbox: ImapMailbox, problem: Problem): Problem {
  if (problem.code !== "auth" || !("oauth2" in mailbox.receive.auth)) return problem;
  const { message, evidence, fix } = problem;
  return new Problem("auth", message, { cause: problem, fix, ...(evidence === null ? {} : { evidence }) });
}

function createThrottleError(ms: number): Error {
  const response = `Request is throttled. Suggested Backoff Time: ${ms} milliseconds`;
  return Object.assign(new Error("Throttled"), { response, responseStatus: "BAD" });
}

function getClientOptions(
  deps: ImapDeps,
  receive: ImapMailbox["receive"],
  { auth, line, tap }: { auth: Credentials; line: Line; tap: Tap | undefined },
  hooks: LogHooks,
): ImapFlowOptions {
  return {
    host: receive.host.replace(/^\[(.*)\]$/, "$1"),
    port: portOf(receive),
    secure: receive.tls === "implicit",
    // Undefined would mean "if offered", and an attacker on the network could decide that.
    ...(receive.tls === "implicit" ? {} : { doSTARTTLS: receive.tls === "starttls" }),
    transport: line.transport,
    auth,
    logger: createLogger(hooks, tap),
    clientInfo: { name: "Email Listener", version: manifest.version, vendor: "Email Listener", "support-url": false },
    disableAutoIdle: true,
    // A hostile server could send a decompression bomb.
    disableCompression: true,
    // CONDSTORE and UTF8=ACCEPT are not needed here, and IMAP4rev2 mode breaks some servers.
    disableAutoEnable: true,
    disableIMAP4rev2: true,
    greetingTimeout: deps.timeouts.command,
    connectionTimeout: deps.timeouts.command,
    // Our own deadlines are shorter. This one ends an unused connection before the server does (RFC 3501 section
    // 5.4).
    socketTimeout: UNUSED_CLOSE_MS,
    maxResponseTokens: MAX_RESPONSE_TOKENS,
  };
}

type Line = { readonly gate: Gate; readonly socket: Socket; readonly transport: ImapTransport };

/**
 * Gives the library a connected socket behind a gate (`wire/gate.ts`), and does its STARTTLS upgrade with our checks. `gate` and
 * `socket` are the present ones: after STARTTLS nothing that was said before counts.
 */
function openLine(
  { intake = createIntake() }: ImapDeps,
  receive: ImapMailbox["receive"],
  { socket, onUpgrade, onSecure }: { socket: Socket; onUpgrade?: () => void; onSecure?: () => void },
): Line {
  let gate = createGate(socket, intake);
  let current = socket;
  return {
    get gate() {
      return gate;
    },
    get socket() {
      return current;
    },
    transport: {
      connect(_, onConnect) {
        queueMicrotask(onConnect);
        return gate;
      },
      prepareUpgrade: () => onUpgrade?.(),
      upgrade(_, __, onUpgraded) {
        const secure = startTls(gate.detach(), receive, () => {
          onSecure?.();
          onUpgraded();
        });
        current = secure;
        gate = createGate(secure, intake);
        return gate;
      },
    },
  };
}

/** The commands that log in, with their tag. */
const LOGINS = /^\S+ (LOGIN|AUTHENTICATE \S+)(?= |$)/i;

/** `throttled` is called when the server asks to slow down. */
type LogHooks = { throttled?: (ms: number) => void; isLoggedIn: boolean };

/**
 * The library waits out throttling by itself and mentions it only in its log. The subscription must know it and close
 * the connection. The library also tells each command and answer there, with the size in the place of each literal.
 */
function createLogger(hooks: LogHooks, tap: Tap | undefined): Logger {
  const tell = ({ src, msg }: { src?: unknown; msg?: unknown }) => {
    if (typeof msg !== "string" || (src !== "c" && src !== "s")) return;
    tap?.line(src === "c" ? "C" : "S", withoutValues(msg));
  };
  const logger: Logger = {
    warn: (entry: { throttleDelay?: unknown }) => {
      if (typeof entry.throttleDelay === "number") hooks.throttled?.(entry.throttleDelay);
    },
    debug: tell,
    info: noop,
    error: noop,
    fatal: noop,
  };
  // The library prepares commands and answers for the log only if there is such a method. That costs as much as reading
  // them. A login is told from its beginning in any case, because the tap hides it by its first line.
  return Object.defineProperties(logger, {
    trace: { get: () => (tap?.isOn() ? tell : undefined) },
    debug: { get: () => (tap && (!hooks.isLoggedIn || tap.isOn()) ? tell : undefined) },
  });
}

/** An answer about messages may quote their subjects and texts, so each value becomes its size. */
function withoutValues(line: string): string {
  if (!/^\* \d+ FETCH /i.test(line)) return line;
  return line.replaceAll(/"(?:[^"\\]|\\.)*"/g, (value) => `[${value.length - 2} characters]`);
}

const noop = () => undefined;
