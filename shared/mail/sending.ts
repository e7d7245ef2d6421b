/** Where a mailbox sends, by protocol: SMTP, or for Exchange mailboxes the service they are received from. */
import type { Mailbox, Send } from "../contract/mailbox.ts";
import { asProblem, Problem } from "../contract/problem.ts";
import type { PreflightStep } from "./mail.ts";
import type { SendSession } from "./outgoing.ts";
import { openSmtp, type SmtpDeps } from "./smtp/connect.ts";
import { paceOf as smtpPace, smtpPlace } from "./smtp/place.ts";

type SendProtocol = NonNullable<Send["protocol"]>;

export type SendingDeps = SmtpDeps;

/** `savesItself`: what is sent comes into the Sent folder without us. `name` is for people. */
type Way = {
  place: (mailbox: Mailbox) => { savesItself: boolean; name: string };
  pace: (mailbox: Mailbox) => number | null;
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
    place: () => ({ savesItself: true, name: "Exchange Web Services" }),
    pace: ({ send }) => send?.ratePerMinute ?? null,
    open: () =>
      Promise.reject(new Problem("no_sending", "Exchange mailboxes cannot send by EWS yet", { retry: "never" })),
  },
};

/** The protocol a mailbox sends by: as it says, else by the one it is received by where that can send. */
export function sendsBy({ send, receive }: Mailbox): SendProtocol {
  return send?.protocol ?? (receive.protocol === "ews" ? "ews" : "smtp");
}

/** Whether what the mailbox sends is filed by its provider; throws `no_sending` where it cannot send. */
export function filedItself(mailbox: Mailbox): boolean {
  if (!mailbox.send) throw new Problem("no_sending", "The mailbox has no `send`", { retry: "never" });
  return WAYS[sendsBy(mailbox)].place(mailbox).savesItself;
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
    const detail = `${name}: ${session.describe()}`;
    session.close();
    return { name: "send", ok: true, ms: took(), detail };
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix, evidence } = asProblem(error);
    return { name: "send", ok: false, ms: took(), cause: message, fix, ...(evidence !== null && { detail: evidence }) };
  }
}
