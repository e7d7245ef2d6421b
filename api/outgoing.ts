/** Taking up a request to send: everything about it is checked and composed here, once, before anybody is told that it will be sent. */
import { createHash } from "node:crypto";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { OutgoingMessage } from "../shared/contract/outgoing.ts";
import { type FieldError, Problem } from "../shared/contract/problem.ts";
import type { Sending } from "../shared/contract/sending.ts";
import { parties, plainAddress, sameAddress } from "../shared/mail/smtp/addresses.ts";
import { type Composed, compose, orderedId, type People, signed } from "../shared/mail/smtp/compose.ts";
import { checkHeaders } from "../shared/mail/smtp/headers.ts";
import { checkReach, filedItself } from "../shared/mail/sending.ts";
import { ready } from "../shared/mail/smtp/ready.ts";
import type { Outbox } from "../shared/store/store.ts";
import type { ApiDeps } from "./deps.ts";

type Deps = Pick<ApiDeps, "store" | "tasks" | "facts">;

const MOST_RECIPIENTS = 500;
const MOST_BYTES = 50 * 1024 * 1024;
const DAY_MS = 24 * 3_600_000;
const LATEST_MS = 90 * DAY_MS;
const GIVE_UP_MS = 3 * DAY_MS;
/** Automatic messages to one address within an hour; a person would hardly want more, and a loop ends here. */
const AUTOMATIC_PER_HOUR = 5;

/**
 * Takes up the message and resolves once it is durable and its task is in the queue. The same key with the same content gives the
 * sending of the first request; without a key every request is a new message. Throws `invalid`, `message`, `sender`, `loop`, `key_reused`,
 * `rate` (with the time when there is room again), `no_sending` or `full`; then nothing was taken up.
 */
export async function takeUp(
  { store, tasks, facts }: Deps,
  mailbox: Mailbox,
  message: OutgoingMessage,
  key: string | null,
): Promise<Sending> {
  const filed = filedItself(mailbox);
  const now = new Date();
  const sendAt = when(message.sendAt, now);
  const composed = await checked(mailbox, message, sendAt);
  checkReach(mailbox, composed.raw, composed.recipients);
  if (composed.automatic) await checkLoop(store.outbox, mailbox.id, composed.recipients);
  const raw = await signed(composed.raw, mailbox.send?.dkim);
  if (raw.length > MOST_BYTES)
    throw new Problem("too_large", `The message has more than ${MOST_BYTES} bytes.`, { retry: "never" });
  const saveSent = mailbox.send?.saveSent ?? "auto";
  const copied = saveSent === "always" || (saveSent === "auto" && !filed);
  const sending: Sending = {
    id: `snd_${orderedId()}`,
    mailbox: mailbox.id,
    revision: 0,
    key,
    contentHash: key === null ? "" : createHash("sha256").update(JSON.stringify(message)).digest("base64url"),
    state: "queued",
    messageId: composed.messageId,
    serverMessageId: null,
    from: composed.from,
    recipients: composed.recipients.map((address) => ({ address, state: "queued", response: null })),
    transmitting: [],
    size: raw.length,
    dsn: message.dsn ?? null,
    notify: message.notify ?? mailbox.send?.notify ?? false,
    told: false,
    copy: copied ? "wanted" : "none",
    attempts: 0,
    reason: null,
    createdAt: now.toISOString(),
    updatedAt: now.toISOString(),
    sendAt: sendAt.toISOString(),
    giveUpAt: new Date(sendAt.getTime() + GIVE_UP_MS).toISOString(),
    nextAttemptAt: sendAt.toISOString(),
    sentAt: null,
  };
  const acceptance = await store.outbox.accept(sending, raw, mailbox.send?.perHour ?? 500);
  if (acceptance.kind === "limited")
    throw new Problem("rate", "The mailbox has taken up as many messages as it may within an hour.", {
      retry: acceptance.until,
    });
  if (acceptance.kind === "differs") throw reused(acceptance.sending);
  const taken = acceptance.sending;
  // A crash may have come between an earlier request and its task; another task for the same sending does no harm.
  if (taken.state === "queued")
    await tasks.send(
      { version: 1, kind: "send", mailbox: mailbox.id, sending: taken.id },
      { notBefore: new Date(taken.sendAt) },
    );
  if (acceptance.kind === "known") return taken;
  if (composed.automatic)
    for (const to of composed.recipients) await store.outbox.noteAutomatic(mailbox.id, to, "sent");
  const about = { mailbox: mailbox.id, sending: taken.id, recipients: taken.recipients.length, bytes: taken.size };
  facts.emit({ kind: "send.queued", ...about, sendAt: taken.sendAt });
  return taken;
}

function reused({ key, id }: Sending): Problem {
  const why = `The Idempotency-Key ${JSON.stringify(key)} belongs to ${id}, which has other content.`;
  return new Problem("key_reused", why, { retry: "never" });
}

function when(sendAt: string | undefined, now: Date): Date {
  const asked = sendAt === undefined ? now : new Date(sendAt);
  if (asked.getTime() - now.getTime() > LATEST_MS)
    throw invalid([{ path: "sendAt", message: "must be within 90 days" }]);
  return asked > now ? asked : now;
}

/** The message as bytes, and its envelope, after all checks that need nobody else. */
async function checked(mailbox: Mailbox, message: OutgoingMessage, date: Date): Promise<Composed> {
  const errors: FieldError[] = [];
  checkHeaders(message.headers, errors);
  const people = peopleOf(mailbox, message, errors);
  if (message.raw !== undefined) checkNothingElse(message, errors);
  if (errors.length > 0) throw invalid(errors);
  const composed =
    message.raw === undefined
      ? await compose(message, people, date)
      : ready(Buffer.from(message.raw, "base64"), [...people.to, ...people.cc, ...people.bcc], date);
  const { recipients, from } = composed;
  if (recipients.length === 0) throw invalid([{ path: "to", message: "must name somebody" }]);
  if (recipients.length > MOST_RECIPIENTS)
    throw invalid([{ path: "to", message: `must, with cc and bcc, name at most ${MOST_RECIPIENTS} recipients` }]);
  const own = [mailbox.address, ...(mailbox.send?.from ?? [])].map((address) => plainAddress(address) ?? address);
  if (!own.some((address) => sameAddress(address, from)))
    throw new Problem("sender", `The mailbox may not send as ${from}.`, { retry: "never" });
  const self = recipients.find((to) => own.some((address) => sameAddress(address, to)));
  if (self !== undefined && mailbox.send?.allowSelf !== true)
    throw new Problem("loop", `The mailbox would write to itself (${self}).`, { retry: "never" });
  return composed;
}

function peopleOf(mailbox: Mailbox, message: OutgoingMessage, errors: FieldError[]): People {
  const own = { address: mailbox.address, ...(mailbox.name !== undefined && { name: mailbox.name }) };
  const [from] = parties([message.from ?? own], "from", errors);
  return {
    from: from ?? { name: "", address: "" },
    to: parties(message.to, "to", errors),
    cc: parties(message.cc, "cc", errors),
    bcc: parties(message.bcc, "bcc", errors),
    replyTo: parties([message.replyTo ?? []].flat(), "replyTo", errors),
  };
}

/** A ready message says everything by itself, but for its envelope. */
function checkNothingElse(message: OutgoingMessage, errors: FieldError[]): void {
  const parts = [
    "from",
    "replyTo",
    "subject",
    "text",
    "html",
    "messageId",
    "inReplyTo",
    "references",
    "importance",
  ] as const;
  const given: string[] = parts.filter((name) => message[name] !== undefined);
  if (message.attachments.length > 0) given.push("attachments");
  if (Object.keys(message.headers).length > 0) given.push("headers");
  for (const path of given) errors.push({ path, message: "cannot be given together with raw" });
}

async function checkLoop(outbox: Outbox, mailbox: string, recipients: string[]): Promise<void> {
  for (const to of recipients) {
    const { heard, sent } = await outbox.automatic(mailbox, to);
    const why =
      heard > 0
        ? `${to} sent automatic mail within the last hour, and this would be an automatic message to it.`
        : sent >= AUTOMATIC_PER_HOUR
          ? `${to} got ${sent} automatic messages within the last hour.`
          : undefined;
    if (why !== undefined) throw new Problem("loop", why, { retry: "never" });
  }
}

function invalid(errors: FieldError[]): Problem {
  const named = errors.map(({ path, message }) => `${path} ${message}`).join("; ");
  return new Problem("invalid", `Not valid: ${named}`, { retry: "never", errors });
}
