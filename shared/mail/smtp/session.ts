/**
 * One logged-in SMTP connection. Messages go over it one after the other, and each ends with a result for every
 * recipient.
 */
import { isAscii } from "node:buffer";
import { Readable } from "node:stream";
import type SMTPConnection from "nodemailer/lib/smtp-connection";
import type { SMTPConnectionSendInfo, SMTPEnvelope } from "nodemailer/lib/smtp-connection";
import { Problem } from "../../contract/problem.ts";
import { type Given, quoteWords } from "../../evidence/evidence.ts";
import type { Credentials } from "../oauth/credentials.ts";
import type { BeforeEnd, SendRequest, SendSession, SendResult, RecipientResult } from "../outgoing.ts";
import { needsUtf8 } from "./addresses.ts";
import { hasInternationalAddress } from "./international.ts";
import {
  getExtensions,
  getMaxBytes,
  getMechanisms,
  getPendingRecipient,
  getSocket,
  readTexts,
  requestSmtpUtf8,
  withoutPipelining,
} from "./library.ts";
import { logIn } from "./login.ts";
import { getRefusedRecipients, getResultsAfterFailure, hasSessionLimit } from "./recipient-results.ts";

/**
 * Milliseconds the server may be silent at each step, and after the end of a message (RFC 5321 section 4.5.3.2.6: 10
 * minutes).
 */
export type SmtpTimeouts = { step: number; end: number };

const CHUNK = 64 * 1024;

/** Logs in on a connection after EHLO, and wraps it. Throws the Problem of the login. */
export async function openSmtpSession(
  connection: SMTPConnection,
  auth: Credentials,
  timeouts: SmtpTimeouts,
  signal: AbortSignal,
): Promise<SendSession> {
  const given = { secrets: ["pass" in auth ? auth.pass : auth.accessToken] };
  const offered = getMechanisms(connection);
  // A server that does not ask for a login (a relay inside a network) would refuse one.
  if (offered.length > 0)
    await logIn(connection, auth, { offered, secrets: given.secrets, ms: 4 * timeouts.step }, signal);
  let open = true;
  connection.once("end", () => {
    open = false;
  });
  return {
    get open() {
      return open && !connection.destroyed;
    },
    send: (order, beforeEnd, during) => sendMessage({ connection, given, timeouts }, order, beforeEnd, during),
    describe: () => {
      const size = getMaxBytes(connection);
      return [getExtensions(connection).join(" "), size > 0 ? `messages up to ${size} bytes` : ""]
        .filter(Boolean)
        .join("; ");
    },
    close() {
      if (open) connection.quit();
      // QUIT is only polite. A server that does not answer it is cut off.
      setTimeout(() => connection.close(), 1000).unref();
    },
  };
}

type SmtpContext = { connection: SMTPConnection; given: Given; timeouts: SmtpTimeouts };

async function sendMessage(
  context: SmtpContext,
  order: SendRequest,
  beforeEnd: BeforeEnd,
  signal: AbortSignal,
): Promise<SendResult> {
  const { connection, timeouts } = context;
  checkServerLimits(connection, order);
  const tooInternational = getExtensions(connection).includes("SMTPUTF8") ? [] : order.to.filter(needsUtf8);
  if (tooInternational.length > 0) {
    const to = order.to.filter((address) => !tooInternational.includes(address));
    const sent = await sendMessage(context, { ...order, to }, beforeEnd, signal);
    const refused = tooInternational.map(refuseInternational);
    return { ...sent, recipients: [...sent.recipients, ...refused] };
  }
  if (order.stepwise) withoutPipelining(connection);
  const envelope = toEnvelope(order);
  const endGuard = createEndGuard(context, () => beforeEnd(readTexts(envelope, "accepted")), signal);
  // If the server has no SMTPUTF8, `checkServerLimits` has refused such a message before.
  const restore = hasInternationalAddress(order.raw) ? requestSmtpUtf8(connection) : undefined;
  try {
    const stream = createMessageStream(order.raw, endGuard.release);
    const { response, serverMessageId = null } = await sendEnvelope(context, envelope, stream, signal);
    getSocket(connection)?.setTimeout(timeouts.step);
    const words = quoteWords(response, { ...context.given, message: order.raw });
    const sentRecipients = readTexts(envelope, "accepted").map((address): RecipientResult => ({
      address,
      state: "sent",
      response: words,
    }));
    const recipients = [...sentRecipients, ...getRefusedRecipients({ envelope, given: context.given })];
    if (!hasSessionLimit(envelope)) return { recipients, serverMessageId };
    connection.close();
    return { recipients, serverMessageId, otherConnection: "continue" };
  } catch (error) {
    const pending = order.stepwise ? getPendingRecipient(connection) : undefined;
    connection.close();
    const released = await endGuard.wasReleased();
    const results = getResultsAfterFailure(
      { error, envelope, given: context.given, message: order.raw, released, pending },
      order,
      signal,
    );
    return { ...results, serverMessageId: null };
  } finally {
    restore?.();
  }
}

/**
 * Resolves with the server's reply to the whole message. Rejects at once when the signal aborts, and closes the
 * connection.
 */
async function sendEnvelope(
  { connection }: SmtpContext,
  envelope: SMTPEnvelope,
  message: Readable,
  signal: AbortSignal,
) {
  const { promise, resolve, reject } = Promise.withResolvers<SMTPConnectionSendInfo>();
  const onAbort = () => {
    reject(signal.reason);
    connection.close();
  };
  signal.throwIfAborted();
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    connection.send(envelope, message, (error, info) => (error ? reject(error) : resolve(info)));
    return await promise;
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

type EndGuard = {
  /** Resolves when the message may end, which happens right after. */
  release(): Promise<void>;
  /** Whether the message may have ended, once that is decided. Throws what `beforeEnd` threw. */
  wasReleased(): Promise<boolean>;
};

/** Guards the line that ends the message. It closes for good if the connection or the signal ends first. */
function createEndGuard(
  { connection, timeouts }: SmtpContext,
  beforeEnd: () => Promise<void>,
  signal: AbortSignal,
): EndGuard {
  let pending: Promise<void> | undefined;
  let released = false;
  return {
    async release() {
      pending = beforeEnd();
      await pending;
      if (connection.destroyed || signal.aborted) throw new Error("The connection ended before the message");
      released = true;
      getSocket(connection)?.setTimeout(timeouts.end);
    },
    async wasReleased() {
      await pending;
      return released;
    },
  };
}

/** The library writes into the envelope that it is given, so it gets a copy. */
function toEnvelope({ id, from, to, raw, dsn }: SendRequest): SMTPEnvelope {
  const notify = dsn && (dsn.notify.length > 0 ? dsn.notify : ["never"]);
  return {
    from,
    to: [...to],
    size: raw.length,
    use8BitMime: !isAscii(raw),
    ...(dsn && notify && { dsn: { envid: id, ret: dsn.return === "full" ? "FULL" : "HDRS", notify } }),
  };
}

/**
 * The message as a stream. It does not end before `release` has resolved, so nobody can end the message on the wire
 * before that.
 */
function createMessageStream(raw: Buffer, release: () => Promise<void>): Readable {
  let at = 0;
  return new Readable({
    read() {
      if (at < raw.length) {
        this.push(raw.subarray(at, at + CHUNK));
        at += CHUNK;
        return;
      }
      // The library changes the error that it gets, so it gets its own.
      const refuse = (cause: unknown) => this.destroy(new Error("The message must not be ended", { cause }));
      release().then(() => this.push(null), refuse);
    },
  });
}

const NO_SMTPUTF8 = "The mail server does not accept international addresses (SMTPUTF8)";

function refuseInternational(address: string): RecipientResult {
  return { address, state: "failed", response: `${NO_SMTPUTF8} such as ${address}` };
}

/**
 * Refuses what the server cannot accept, in clear words. The library would send a non-ASCII address to any server. An
 * international recipient whom the header does not name is no reason to refuse the message for the others.
 */
function checkServerLimits(connection: SMTPConnection, { to, from, raw }: SendRequest): void {
  const extensions = getExtensions(connection);
  const address = needsUtf8(from) ? from : to.every(needsUtf8) ? to[0] : undefined;
  if (!extensions.includes("SMTPUTF8") && (address !== undefined || hasInternationalAddress(raw)))
    throw new Problem(
      "refused",
      address === undefined ? `${NO_SMTPUTF8}, and the header has one` : `${NO_SMTPUTF8} such as ${address}`,
      { retry: "never" },
    );
  const maxBytes = getMaxBytes(connection);
  if (maxBytes > 0 && raw.length > maxBytes)
    throw new Problem("refused", `The message has ${raw.length} bytes, and the mail server accepts ${maxBytes}`, {
      retry: "never",
    });
}
