/** Opens the connection of a mailbox that is received by IMAP or POP3: rate, gate, egress guard, TLS, login. */
import type { Socket } from "node:net";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import { describeServer, portOf } from "../../places.ts";
import { type Credentials, withCredentials } from "../oauth/credentials.ts";
import type { Tokens } from "../oauth/tokens.ts";
import { withWhere } from "../problems.ts";
import { type LoginDeps, withLoginGate } from "./login-gate.ts";
import { type LoginRateDeps, withLoginRate } from "./login-rate.ts";
import { upgradeToTls } from "./tls.ts";

/** `timeouts.command` is how long the server may be silent at any step, in milliseconds. */
export type MailboxLoginDeps = LoginRateDeps &
  LoginDeps & { egress: Egress; tokens?: Tokens; timeouts: { command: number } };

type ReceivedMailbox = MailboxOf<"imap"> | MailboxOf<"pop3">;

/** A connected socket (already TLS if the mailbox says implicit), and what to log in with. */
export type MailboxLogin = { socket: Socket; auth: Credentials };

/** The usual keep-alive of a client library is a packet every 5 seconds. One a minute is enough for a NAT's table. */
const KEEP_ALIVE_MS = 60_000;

/** Connects and calls `logIn`. Throws the Problem of the failed step, which names the server; then nothing stays open. */
export function openMailbox<T>(
  deps: MailboxLoginDeps,
  mailbox: ReceivedMailbox,
  logIn: (login: MailboxLogin) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const { host, auth } = mailbox.receive;
  const open = () => withLoginRate(deps, host, () => withServerNamed(deps, mailbox, logIn, signal), signal);
  return withLoginGate(deps, { host, port: portOf(mailbox.receive) }, auth, open, signal);
}

async function withServerNamed<T>(
  deps: MailboxLoginDeps,
  mailbox: ReceivedMailbox,
  logIn: (login: MailboxLogin) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  const connect = async (auth: Credentials) => {
    const { raw, socket } = await openSocket(deps, mailbox, signal);
    try {
      return await logIn({ socket, auth });
    } finally {
      raw.setKeepAlive(true, KEEP_ALIVE_MS);
    }
  };
  try {
    return await withCredentials(deps, mailbox, connect, signal);
  } catch (error) {
    throw error instanceof Problem ? withWhere(error, describeServer(mailbox.receive)) : error;
  }
}

async function openSocket({ egress, timeouts }: MailboxLoginDeps, { receive }: ReceivedMailbox, signal: AbortSignal) {
  const timeoutMs = timeouts.command;
  const raw = await egress.connect({ host: receive.host, port: portOf(receive), timeoutMs }, signal);
  // Without a listener, an error at this moment would end the process. Later readers get the error too.
  raw.on("error", () => undefined);
  return { raw, socket: receive.tls === "implicit" ? await upgradeToTls(raw, receive, timeoutMs, signal) : raw };
}
