/** One logged-in SMTP connection: messages go over it one after the other, and each ends in a verdict for every recipient. */
import { isAscii } from "node:buffer";
import type { Socket } from "node:net";
import { Readable } from "node:stream";
import { TLSSocket } from "node:tls";
import SMTPConnection, { type SMTPConnectionSendInfo, type SMTPEnvelope } from "nodemailer/lib/smtp-connection";
import XOAuth2 from "nodemailer/lib/xoauth2";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import type { Credentials } from "../credentials.ts";
import type { BeforeEnd, Order, SendSession, Transmission, Verdict } from "../outgoing.ts";
import { needsUtf8 } from "./addresses.ts";
import { heard, smtpProblem, verdictOf } from "./replies.ts";

/** Milliseconds the server may be silent at each step, and after the end of a message (RFC 5321 section 4.5.3.2.6: 10 minutes). */
export type SmtpTimeouts = { step: number; end: number };

const CHUNK = 64 * 1024;

/** Logs in on a connection that is up to EHLO, and wraps it. Throws the Problem of the login. */
export async function smtpSession(
  connection: SMTPConnection,
  auth: Credentials,
  timeouts: SmtpTimeouts,
  signal: AbortSignal,
): Promise<SendSession> {
  const secrets = ["pass" in auth ? auth.pass : auth.accessToken];
  // A server that does not ask for a login (a relay inside a network) would refuse one.
  if (connection.allowsAuth) await logIn(connection, auth, { secrets, timeouts }, signal);
  let open = true;
  connection.once("end", () => {
    open = false;
  });
  return {
    get open() {
      return open && !connection.destroyed;
    },
    transmit: (order, beforeEnd, given) => transmit({ connection, secrets, timeouts }, order, beforeEnd, given),
    describe: () => {
      const size = numberOf(connection, "_maxAllowedSize");
      return [extensionsOf(connection).join(" "), size > 0 ? `messages up to ${size} bytes` : ""]
        .filter(Boolean)
        .join("; ");
    },
    close() {
      if (open) connection.quit();
      // QUIT is a courtesy: whoever does not answer it is cut off.
      setTimeout(() => connection.close(), 1000).unref();
    },
  };
}

async function logIn(
  connection: SMTPConnection,
  auth: Credentials,
  { secrets, timeouts }: { secrets: string[]; timeouts: SmtpTimeouts },
  signal: AbortSignal,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const token =
    "accessToken" in auth
      ? { method: "XOAUTH2", oauth2: new XOAuth2({ user: auth.user, accessToken: auth.accessToken }) }
      : { user: auth.user, pass: auth.pass };
  connection.once("error", reject);
  connection.login(token, (error) => (error ? reject(error) : resolve()));
  try {
    await within(4 * timeouts.step, "Logging in", promise, signal);
    connection.removeListener("error", reject);
  } catch (error) {
    connection.close();
    if (signal.aborted) throw signal.reason;
    throw smtpProblem(error, secrets);
  }
}

type Wire = { connection: SMTPConnection; secrets: string[]; timeouts: SmtpTimeouts };

async function transmit(wire: Wire, order: Order, beforeEnd: BeforeEnd, signal: AbortSignal): Promise<Transmission> {
  const { connection, secrets, timeouts } = wire;
  checkReach(connection, order);
  const envelope = envelopeOf(order);
  const end = endOf(wire, () => beforeEnd(listOf(envelope, "accepted")), signal);
  try {
    const { response, serverMessageId = null } = await handedOver(wire, envelope, lastly(order.raw, end.pass), signal);
    socketOf(connection)?.setTimeout(timeouts.step);
    const sent = listOf(envelope, "accepted").map((address): Verdict => ({ address, state: "sent", response }));
    return { verdicts: [...sent, ...refusedOnes(envelope, secrets)], serverMessageId };
  } catch (error) {
    connection.close();
    const released = await end.settled();
    return { verdicts: afterFault({ error, envelope, secrets, released }, order, signal), serverMessageId: null };
  }
}

/** Resolves with the server's reply to the whole message; rejects at once when the signal aborts, with the connection closed. */
async function handedOver({ connection }: Wire, envelope: SMTPEnvelope, message: Readable, signal: AbortSignal) {
  const { promise, resolve, reject } = Promise.withResolvers<SMTPConnectionSendInfo>();
  const stop = () => {
    reject(signal.reason);
    connection.close();
  };
  signal.throwIfAborted();
  signal.addEventListener("abort", stop, { once: true });
  try {
    connection.send(envelope, message, (error, info) => (error ? reject(error) : resolve(info)));
    return await promise;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

type End = {
  /** Resolves when the message may be ended, which happens right after. */
  pass(): Promise<void>;
  /** Whether it was passed, once that is decided; throws what `beforeEnd` threw. */
  settled(): Promise<boolean>;
};

/** The gate in front of the line that ends the message: closed for good where the connection or the signal ended first. */
function endOf({ connection, timeouts }: Wire, beforeEnd: () => Promise<void>, signal: AbortSignal): End {
  let written: Promise<void> | undefined;
  let released = false;
  return {
    async pass() {
      written = beforeEnd();
      await written;
      if (connection.destroyed || signal.aborted) throw new Error("The connection ended before the message");
      released = true;
      socketOf(connection)?.setTimeout(timeouts.end);
    },
    async settled() {
      await written;
      return released;
    },
  };
}

type Fault = { error: unknown; envelope: SMTPEnvelope; secrets: string[]; released: boolean };

/** What a fault leaves of each recipient; throws where nothing was handed over and nobody was refused by name. */
function afterFault({ error, envelope, secrets, released }: Fault, order: Order, signal: AbortSignal): Verdict[] {
  const said = heard(error);
  const refused = refusedOnes(envelope, secrets);
  const accepted = listOf(envelope, "accepted");
  const replied = said.status >= 400 && said.code !== "ECONNECTION";
  if (released && !replied) {
    const why = signal.aborted ? "the service stopped before the server answered" : smtpProblem(error, secrets).message;
    const response = `The message was handed over and no answer came: ${why}`;
    return [...accepted.map((address): Verdict => ({ address, state: "unknown", response })), ...refused];
  }
  if (signal.aborted) throw signal.reason;
  const aboutMessage = ["MAIL FROM", "DATA"].includes(said.command) && said.status >= 400 && said.status !== 421;
  // A pipelined envelope has replies for the recipients too, which after a refused sender say nothing about them.
  if (aboutMessage && said.command === "MAIL FROM") return order.to.map((address) => verdictOf(address, said, secrets));
  if (refused.length > 0 && refused.length === order.to.length) return refused;
  if (!released && !aboutMessage) throw smtpProblem(error, secrets);
  const known = new Set(refused.map(({ address }) => address));
  const rest = order.to.filter((address) => !known.has(address));
  return [...rest.map((address) => verdictOf(address, said, secrets)), ...refused];
}

/** The library writes its bookkeeping into the envelope it is given. */
function envelopeOf({ id, from, to, raw, dsn }: Order): SMTPEnvelope {
  const notify = dsn && (dsn.notify.length > 0 ? dsn.notify : ["never"]);
  return {
    from,
    to: [...to],
    size: raw.length,
    use8BitMime: !isAscii(raw),
    ...(dsn && notify && { dsn: { envid: id, ret: dsn.return === "full" ? "FULL" : "HDRS", notify } }),
  };
}

function listOf(envelope: SMTPEnvelope, name: string): string[] {
  const list: unknown = Reflect.get(envelope, name);
  return Array.isArray(list) ? list.filter((one) => typeof one === "string") : [];
}

function refusedOnes(envelope: SMTPEnvelope, secrets: string[]): Verdict[] {
  const errors: unknown = Reflect.get(envelope, "rejectedErrors");
  return (Array.isArray(errors) ? errors : []).map((error: unknown) =>
    verdictOf(String(error instanceof Error ? Reflect.get(error, "recipient") : ""), heard(error), secrets),
  );
}

/** The message as a stream that does not end, and so lets nobody end the message on the wire, before `pass` has resolved. */
function lastly(raw: Buffer, pass: () => Promise<void>): Readable {
  let at = 0;
  return new Readable({
    read() {
      if (at < raw.length) {
        this.push(raw.subarray(at, at + CHUNK));
        at += CHUNK;
        return;
      }
      // The library rewrites the error it hears of, so it gets one of its own.
      const refuse = (cause: unknown) => this.destroy(new Error("The message must not be ended", { cause }));
      pass().then(() => this.push(null), refuse);
    },
  });
}

/** What the server cannot take is refused here in clear words; the library would send a non-ASCII address to anybody. */
function checkReach(connection: SMTPConnection, { to, from, raw }: Order): void {
  const odd = [from, ...to].find(needsUtf8);
  if (odd !== undefined && !extensionsOf(connection).includes("SMTPUTF8"))
    throw new Problem("refused", `The mail server does not take international addresses (SMTPUTF8) such as ${odd}`, {
      retry: "never",
    });
  const most = numberOf(connection, "_maxAllowedSize");
  if (most > 0 && raw.length > most)
    throw new Problem("refused", `The message has ${raw.length} bytes, the mail server takes ${most}`, {
      retry: "never",
    });
}

function extensionsOf(connection: SMTPConnection): string[] {
  const list: unknown = Reflect.get(connection, "_supportedExtensions");
  return Array.isArray(list) ? list.map(String) : [];
}

function numberOf(connection: SMTPConnection, name: string): number {
  const value: unknown = Reflect.get(connection, name);
  return typeof value === "number" ? value : 0;
}

function socketOf(connection: SMTPConnection): Socket | undefined {
  const { _socket: socket } = connection;
  return socket || undefined;
}

/** The socket as TLS, undefined while it is plain. */
export function tlsSocketOf(connection: SMTPConnection): TLSSocket | undefined {
  const socket = socketOf(connection);
  return socket instanceof TLSSocket ? socket : undefined;
}
