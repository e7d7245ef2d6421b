/** How a mailbox sends, by protocol: SMTP, or for Exchange mailboxes the service they are received from. */
import type { Mailbox, MailboxInput, Send } from "../contract/mailbox.ts";
import { asProblem, Problem } from "../contract/problem.ts";
import { onlineNotice } from "./ews/soap/exchange-online.ts";
import { hiddenRecipients } from "./ews/sending/recipients.ts";
import { openEwsSending } from "./ews/sending/send.ts";
import type { EwsDeps } from "./ews/client/session.ts";
import type { PreflightStep } from "./mail.ts";
import type { SendSession } from "./outgoing.ts";
import { openSmtp, type SmtpDeps } from "./smtp/connect.ts";
import { paceOf as smtpPace, smtpPlace } from "./smtp/server.ts";

type SendProtocol = NonNullable<Send["protocol"]>;

export type SendingDeps = SmtpDeps & EwsDeps;

/**
 * `savesItself`: what is sent comes into the Sent folder without us. `name` is for people. `check` throws `message` for what can go this
 * way to none, or not only to those it is for.
 */
type Way = {
  place: (mailbox: Mailbox) => { savesItself: boolean; name: string };
  pace: (mailbox: Mailbox) => number | null;
  check?: (raw: Buffer, to: readonly string[]) => void;
  open: (deps: SendingDeps, mailbox: Mailbox, signal: AbortSignal) => Promise<SendSession>;
};

const WAYS: Record<SendProtocol, Way> = {
  smtp: {
    place(mailbox) {
      const { host, port, tls, savesItself } = smtpPlace(mailbox);
      return { savesItself, name: `${host} port ${port}, tls ${tls}` };
    },
    pace: smtpPace,
    open: openSmtp,
  },
  ews: {
    place({ receive }) {
      // Only where a mailbox is received from is it known where its Exchange server is.
      if (receive.protocol !== "ews")
        throw new Problem("no_sending", "Only a mailbox that is received by ews can send by it", { retry: "never" });
      return { savesItself: true, name: "Exchange" };
    },
    pace: (mailbox) => mailbox.send?.ratePerMinute ?? (isOnline(mailbox) ? ONLINE_PER_MINUTE : null),
    check: (raw, to) => void hiddenRecipients(raw, to),
    open: openEwsSending,
  },
};

/** Exchange Online takes 30 messages a minute from a mailbox (its own limits page). */
const ONLINE_PER_MINUTE = 30;

function isOnline({ receive }: Mailbox): boolean {
  if (receive.protocol !== "ews") return false;
  const url = receive.url ?? (receive.host === undefined ? undefined : `https://${receive.host}/`);
  return url !== undefined && onlineNotice(url) !== undefined;
}

/** The protocol a mailbox sends by: as it says, else by the one it is received by where that can send. */
function sendsBy({ send, receive }: Pick<Mailbox | MailboxInput, "send" | "receive">): SendProtocol {
  return send?.protocol ?? (receive.protocol === "ews" ? "ews" : "smtp");
}

/** Members of `send` that name a server of its own. */
const SERVER = ["host", "port", "tls", "ca", "fingerprint"] as const;

/** What `send` asks for that its protocol cannot do, by its field. */
export function wrongSending(input: MailboxInput): { path: string; message: string } | undefined {
  const { send, receive } = input;
  if (!send || sendsBy(input) !== "ews") return undefined;
  if (receive.protocol !== "ews")
    return { path: "send.protocol", message: "can be ews only where the mailbox is received by ews" };
  const server = SERVER.find((name) => send[name] !== undefined);
  if (server !== undefined)
    return { path: `send.${server}`, message: "needs protocol smtp: ews sends through the server it receives from" };
  if (send.dkim === undefined) return undefined;
  return {
    path: "send.dkim",
    message: "needs protocol smtp: Exchange writes the message anew, and no signature holds",
  };
}

/** Whether what the mailbox sends is filed by its provider; throws `no_sending` where it cannot send. */
export function filedItself(mailbox: Mailbox): boolean {
  if (!mailbox.send) throw new Problem("no_sending", "The mailbox has no `send`", { retry: "never" });
  return WAYS[sendsBy(mailbox)].place(mailbox).savesItself;
}

/** Throws `message` where the way the mailbox sends could not bring the message to its recipients, and to nobody else. */
export function checkReach(mailbox: Mailbox, raw: Buffer, to: readonly string[]): void {
  WAYS[sendsBy(mailbox)].check?.(raw, to);
}

/** Messages a minute: as the mailbox says, else as its provider allows, null where nobody set a pace. */
export function paceOf(mailbox: Mailbox): number | null {
  return WAYS[sendsBy(mailbox)].pace(mailbox);
}

/** Connects and logs in. Throws the Problem of the step that failed; nothing stays open then. */
export function openSending(deps: SendingDeps, mailbox: Mailbox, signal: AbortSignal): Promise<SendSession> {
  return WAYS[sendsBy(mailbox)].open(deps, mailbox, signal);
}

/** Tries out a mailbox's settings for sending, without sending anything. Throws only when the signal aborts. */
export async function sendStep(deps: SendingDeps, mailbox: Mailbox, signal: AbortSignal): Promise<PreflightStep> {
  const startedAt = performance.now();
  const took = () => Math.round(performance.now() - startedAt);
  try {
    const { name } = WAYS[sendsBy(mailbox)].place(mailbox);
    const session = await openSending(deps, mailbox, signal);
    try {
      await session.prove?.(signal);
      return { name: "send", ok: true, ms: took(), detail: `${name}: ${session.describe()}` };
    } finally {
      session.close();
    }
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix, evidence } = asProblem(error);
    return { name: "send", ok: false, ms: took(), cause: message, fix, ...(evidence !== null && { detail: evidence }) };
  }
}
