/** How a mailbox sends: by SMTP, or for Exchange mailboxes by EWS. */
import { createHash } from "node:crypto";
import type { Mailbox, MailboxInput, Send } from "../contract/mailbox.ts";
import { asProblem, Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";
import { exchangeOnlineNotice } from "./ews/soap/exchange-online.ts";
import { getBccRecipients } from "./exchange/recipients.ts";
import type { GraphDeps } from "./graph/client/session.ts";
import { openGraphSending } from "./graph/sending/send.ts";
import { openEwsSending } from "./ews/sending/send.ts";
import type { EwsDeps } from "./ews/client/session.ts";
import type { PreflightStep } from "./mail.ts";
import type { SendSession } from "./outgoing.ts";
import { connectSmtp, type SmtpDeps } from "./smtp/connect.ts";
import { getRatePerMinute as smtpPace, getSmtpServer } from "./smtp/server.ts";

type SendProtocol = NonNullable<Send["protocol"]>;

export type SendingDeps = SmtpDeps & EwsDeps & GraphDeps;

/**
 * `savesToSent`: the provider itself puts the message into the Sent folder. `name` is for people. `checkRecipients`
 * throws `message` if the message would reach no recipient, or others too.
 */
type SendTransport = {
  getTarget: (mailbox: Mailbox) => { savesToSent: boolean; name: string };
  getRatePerMinute: (mailbox: Mailbox) => number | null;
  checkRecipients?: (raw: Buffer, to: readonly string[]) => void;
  open: (deps: SendingDeps, mailbox: Mailbox, signal: AbortSignal) => Promise<SendSession>;
};

const TRANSPORTS: Record<SendProtocol, SendTransport> = {
  smtp: {
    getTarget(mailbox) {
      const { host, port, tls, savesToSent } = getSmtpServer(mailbox);
      return { savesToSent, name: `${host} port ${port}, tls ${tls}` };
    },
    getRatePerMinute: smtpPace,
    open: connectSmtp,
  },
  ews: {
    getTarget({ receive }) {
      // Only `receive` says where the Exchange server of a mailbox is.
      if (receive.protocol !== "ews")
        throw new Problem("no_sending", "Only a mailbox that is received by ews can send by it", { retry: "never" });
      return { savesToSent: true, name: "Exchange" };
    },
    getRatePerMinute: (mailbox) =>
      mailbox.send?.ratePerMinute ?? (isExchangeOnline(mailbox) ? ONLINE_PER_MINUTE : null),
    checkRecipients: (raw, to) => void getBccRecipients(raw, to),
    open: openEwsSending,
  },
  graph: {
    getTarget({ receive }) {
      if (receive.protocol !== "graph")
        throw new Problem("no_sending", "Only a mailbox that is received by graph can send by it", { retry: "never" });
      return { savesToSent: true, name: "Microsoft Graph" };
    },
    getRatePerMinute: (mailbox) => mailbox.send?.ratePerMinute ?? GRAPH_PER_MINUTE,
    checkRecipients: (raw, to) => void getBccRecipients(raw, to),
    open: openGraphSending,
  },
};

/** Below the 30 of Exchange Online, because other programs may send from the mailbox too. */
const GRAPH_PER_MINUTE = 28;
/** Exchange Online accepts 30 messages a minute from a mailbox (Microsoft's page on limits). */
const ONLINE_PER_MINUTE = 30;

function isExchangeOnline({ receive }: Mailbox): boolean {
  if (receive.protocol !== "ews") return false;
  const url = receive.url ?? (receive.host === undefined ? undefined : `https://${receive.host}/`);
  return url !== undefined && exchangeOnlineNotice(url) !== undefined;
}

/** The protocol that a mailbox sends by: the one in `send`, else the one it is received by if that can send. */
function getSendProtocol({ send, receive }: Pick<Mailbox | MailboxInput, "send" | "receive">): SendProtocol {
  const { protocol } = receive;
  return send?.protocol ?? (protocol === "ews" || protocol === "graph" ? protocol : "smtp");
}

/** Members of `send` that describe a server. */
const SERVER_FIELDS = ["host", "port", "tls", "ca", "fingerprint"] as const;

/** The first member of `send` that its protocol cannot do, with its path. */
export function validateSending(input: MailboxInput): { path: string; message: string } | undefined {
  const { send, receive } = input;
  if (!send) return undefined;
  const protocol = getSendProtocol(input);
  if (protocol === "smtp") return receive.protocol === "graph" ? checkOwnServer(send) : undefined;
  if (receive.protocol !== protocol)
    return {
      path: "send.protocol",
      message: `can be ${protocol} only where the mailbox is received by ${protocol}`,
    };
  const server = SERVER_FIELDS.find((name) => send[name] !== undefined);
  if (server !== undefined)
    return {
      path: `send.${server}`,
      message: `needs protocol smtp: ${protocol} sends through the server it receives from`,
    };
  if (protocol === "graph" && send.auth !== undefined)
    return { path: "send.auth", message: "needs protocol smtp: graph sends with the login it receives by" };
  if (protocol === "graph" && send.saveSent === "never")
    return { path: "send.saveSent", message: "needs protocol smtp: Graph files every sent message in Sent Items" };
  if (send.dkim === undefined) return undefined;
  return {
    path: "send.dkim",
    message: "needs protocol smtp: Exchange writes the message anew, and no signature holds",
  };
}

/** Nothing of a server for sending follows from a mailbox by Graph. */
function checkOwnServer(send: NonNullable<MailboxInput["send"]>): { path: string; message: string } | undefined {
  if (send.host === undefined)
    return { path: "send.host", message: "is missing: no server for sending follows from a mailbox by graph" };
  if (send.auth !== undefined) return undefined;
  return { path: "send.auth", message: "is missing: SMTP cannot use the login for Graph" };
}

/** True if the provider puts sent messages into the Sent folder. Throws `no_sending` if the mailbox cannot send. */
export function isFiledByServer(mailbox: Mailbox): boolean {
  if (!mailbox.send) throw new Problem("no_sending", "The mailbox has no `send`", { retry: "never" });
  return TRANSPORTS[getSendProtocol(mailbox)].getTarget(mailbox).savesToSent;
}

/** A name for the server that the mailbox sends through, for people, and as the key of what is remembered about it. */
export function getSendTarget(mailbox: Mailbox): string {
  return TRANSPORTS[getSendProtocol(mailbox)].getTarget(mailbox).name;
}

/** Throws `message` if the message would not reach exactly its recipients by the protocol of the mailbox. */
export function checkRecipients(mailbox: Mailbox, raw: Buffer, to: readonly string[]): void {
  TRANSPORTS[getSendProtocol(mailbox)].checkRecipients?.(raw, to);
}

/** Messages a minute: the mailbox's own setting, else the provider's limit. Null if there is none. */
export function getRatePerMinute(mailbox: Mailbox): number | null {
  return TRANSPORTS[getSendProtocol(mailbox)].getRatePerMinute(mailbox);
}

/**
 * The server that the mailbox sends through, as `host:port`. Undefined if it is the one it is received from. Throws
 * `no_sending` if the mailbox cannot send.
 */
export function getSendServer(mailbox: Mailbox): string | undefined {
  if (getSendProtocol(mailbox) !== "smtp") return undefined;
  const { host, port } = getSmtpServer(mailbox);
  return `${host.toLowerCase()}:${port}`;
}

/**
 * A digest of the server and the login for sending. Mailboxes with the same digest share a connection. A mailbox's
 * revision is not part of it, because a token may change without a new revision.
 */
export function describeLogin({ address, receive, send }: Mailbox): string {
  const { protocol, host, port, tls, ca, fingerprint, auth } = send ?? {};
  const parts = { address, receive, send: { protocol, host, port, tls, ca, fingerprint, auth } };
  return createHash("sha256").update(JSON.stringify(parts, revealSecret)).digest("base64");
}

/** A `Secret` prints the same text whatever it contains, and its `toJSON` runs before this function gets the value. */
function revealSecret(this: Record<string, unknown>, name: string, value: unknown): unknown {
  const held = this[name];
  return held instanceof Secret ? held.reveal() : value;
}

/** Connects and logs in. Throws the Problem of the failed step; then nothing stays open. */
export function openSendSession(deps: SendingDeps, mailbox: Mailbox, signal: AbortSignal): Promise<SendSession> {
  return TRANSPORTS[getSendProtocol(mailbox)].open(deps, mailbox, signal);
}

/**
 * How long this step may take, so that a preflight of several steps ends in time. Some servers for sending are slow on
 * purpose.
 */
const SEND_STEP_MS = 20_000;

/** Tries a mailbox's settings for sending without sending anything. Throws only if the signal aborts. */
export async function runSendStep(deps: SendingDeps, mailbox: Mailbox, signal: AbortSignal): Promise<PreflightStep> {
  const startedAt = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedAt);
  const deadline = AbortSignal.timeout(SEND_STEP_MS);
  const within = AbortSignal.any([signal, deadline]);
  try {
    const session = await openSendSession(deps, mailbox, within);
    try {
      await session.verifyPermission?.(within);
      const detail = `${getSendTarget(mailbox)}: ${session.describe()}`;
      return { name: "send", ok: true, ms: elapsedMs(), detail };
    } finally {
      session.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix, evidence } = deadline.aborted ? toSilenceProblem(mailbox) : asProblem(error);
    // The server's own words come first, then the service's reading of them.
    const cause = evidence === null ? message : `${evidence} (${message})`;
    return { name: "send", ok: false, ms: elapsedMs(), cause, fix, ...(evidence !== null && { detail: evidence }) };
  }
}

/** A port that expects TLS from the first byte sends nothing, while the client waits for a greeting. */
function toSilenceProblem(mailbox: Mailbox): Problem {
  const silent = `${getSendTarget(mailbox)} did not answer within ${SEND_STEP_MS / 1000} seconds`;
  const expectsTls = getSendProtocol(mailbox) === "smtp" && getSmtpServer(mailbox).tls !== "implicit";
  if (!expectsTls) return new Problem("timeout", silent);
  return new Problem("starttls", `${silent}; a port that expects TLS from the first byte, such as 465, is silent too`);
}
