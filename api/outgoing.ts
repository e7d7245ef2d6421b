/** Accepts a request to send. The message is checked and composed here, once, before the client gets an answer. */
import { createHash } from "node:crypto";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { OutgoingMessage } from "../shared/contract/outgoing.ts";
import type { Actor } from "../shared/contract/token.ts";
import { asProblem, type FieldError, Problem } from "../shared/contract/problem.ts";
import type { Sending } from "../shared/contract/sending.ts";
import { parseParties, normalizeAddress, sameAddress } from "../shared/mail/smtp/addresses.ts";
import {
  type ComposedMessage,
  composeMessage,
  newOrderedId,
  type Participants,
  signWithDkim,
} from "../shared/mail/smtp/compose.ts";
import { checkHeaders } from "../shared/mail/smtp/headers.ts";
import { checkRecipients, isFiledByServer } from "../shared/mail/sending.ts";
import { prepareRawMessage } from "../shared/mail/smtp/raw-message.ts";
import type { Acceptance, Outbox } from "../shared/store/store.ts";
import { withTimeout } from "../shared/time.ts";
import type { ApiDeps } from "./deps.ts";

type AcceptMessageDeps = Pick<ApiDeps, "store" | "tasks" | "facts">;

const MAX_RECIPIENTS = 500;
const MAX_BYTES = 50 * 1024 * 1024;
const DAY_MS = 24 * 3_600_000;
const MAX_DELAY_MS = 90 * DAY_MS;
const GIVE_UP_MS = 3 * DAY_MS;
/** Automatic messages to one address within an hour. A person hardly wants more, and a mail loop ends here. */
const MAX_AUTOMATIC_PER_HOUR = 5;

/** How long a request waits until the task of its sending is in the queue. */
const ORDER_TIMEOUT_MS = 2_000;

/**
 * Accepts the message, and resolves once it is durable. A second request with the same key and content returns the
 * sending of the first. Without a key every request is a new message. Throws `invalid`, `message`, `sender`, `loop`,
 * `key_reused`, `rate` (with the time when it is allowed again), `no_sending`, `full` or `store`. Then nothing was
 * accepted, except that the text of `store` says if that is not known. Once the message is accepted, it does not throw.
 */
export async function acceptMessage(
  { store, tasks, facts }: AcceptMessageDeps,
  mailbox: Mailbox,
  message: OutgoingMessage,
  { key, actor }: { key: string | null; actor: Pick<Actor, "id" | "name"> },
): Promise<Sending> {
  const filedByServer = isFiledByServer(mailbox);
  const now = new Date();
  const sendAt = sendTime(message.sendAt, now);
  const composed = await composeChecked(mailbox, message, sendAt);
  checkRecipients(mailbox, composed.raw, composed.recipients);
  if (composed.automatic) await checkLoop(store.outbox, mailbox.id, composed.recipients);
  const raw = await signWithDkim(composed.raw, mailbox.send?.dkim);
  if (raw.length > MAX_BYTES)
    throw new Problem("too_large", `The message has more than ${MAX_BYTES} bytes.`, { retry: "never" });
  const saveSent = mailbox.send?.saveSent ?? "auto";
  const wantsCopy = saveSent === "always" || (saveSent === "auto" && !filedByServer);
  const sending: Sending = {
    id: `snd_${newOrderedId()}`,
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
    copy: wantsCopy ? "wanted" : "none",
    attempts: 0,
    reason: null,
    createdAt: now.toISOString(),
    updatedAt: now.toISOString(),
    sendAt: sendAt.toISOString(),
    giveUpAt: new Date(sendAt.getTime() + GIVE_UP_MS).toISOString(),
    nextAttemptAt: sendAt.toISOString(),
    sentAt: null,
  };
  const acceptance = await acceptOrFind(store.outbox, sending, raw, mailbox.send?.perHour ?? 500);
  if (acceptance.kind === "limited")
    throw new Problem("rate", "The mailbox has reached its limit of messages within an hour.", {
      retry: acceptance.until,
    });
  if (acceptance.kind === "differs") throw keyReusedProblem(acceptance.sending);
  const accepted = acceptance.sending;
  // A crash may have come between an earlier request and its task. A second task for the same sending does no harm.
  if (accepted.state === "queued") await orderSending({ tasks, facts }, accepted);
  if (acceptance.kind === "known") return accepted;
  const recipients = accepted.recipients.length;
  facts.emit({
    kind: "send.queued",
    mailbox: mailbox.id,
    actor: { id: actor.id, name: actor.name },
    sending: accepted.id,
    recipients,
    bytes: accepted.size,
    sendAt: accepted.sendAt,
  });
  if (composed.automatic) await recordAutomaticTraffic({ store, facts }, accepted);
  return accepted;
}

/** If the store's answer was lost, this looks in the store for the sending. */
async function acceptOrFind(outbox: Outbox, sending: Sending, raw: Uint8Array, perHour: number): Promise<Acceptance> {
  try {
    return await outbox.accept(sending, raw, perHour);
  } catch (error) {
    const problem = asProblem(error);
    if (problem.code !== "store") throw problem;
    const found = await outbox.get(sending.id).catch(() => {
      const advice = "Repeat the request with an Idempotency-Key";
      const why = `${problem.message}. It is not known whether the message was accepted. ${advice}`;
      throw new Problem("store", why, { cause: error });
    });
    if (found) return { kind: "accepted", sending: found };
    throw problem;
  }
}

/**
 * Sends the task and waits a moment until it is durable. The sending is durable already. If its task is lost, the
 * search for overdue work finds the sending.
 */
async function orderSending(
  { tasks, facts }: Pick<AcceptMessageDeps, "tasks" | "facts">,
  { mailbox, id, sendAt }: Sending,
): Promise<void> {
  const task = { version: 1, kind: "send", mailbox, sending: id } as const;
  const ordered = tasks
    .send(task, { notBefore: new Date(sendAt) })
    .catch((error: unknown) => reportFailure(facts, `ordering the sending ${id}`, error));
  // After this time the request goes on without waiting.
  await withTimeout(ORDER_TIMEOUT_MS, "Ordering a sending", ordered).catch(() => undefined);
}

async function recordAutomaticTraffic(
  { store, facts }: Pick<AcceptMessageDeps, "store" | "facts">,
  { mailbox, recipients }: Sending,
): Promise<void> {
  for (const { address } of recipients)
    await store.outbox
      .recordAutomatic(mailbox, address, "sent")
      .catch((error: unknown) => reportFailure(facts, `counting automatic messages to ${address}`, error));
}

function reportFailure({ emit }: AcceptMessageDeps["facts"], what: string, error: unknown): void {
  const { code, message } = asProblem(error);
  emit({ kind: "service.failed", what, failure: { code, cause: message } });
}

function keyReusedProblem({ key, id }: Sending): Problem {
  const why = `The Idempotency-Key ${JSON.stringify(key)} belongs to ${id}, which has other content.`;
  return new Problem("key_reused", why, { retry: "never" });
}

function sendTime(sendAt: string | undefined, now: Date): Date {
  const requested = sendAt === undefined ? now : new Date(sendAt);
  if (requested.getTime() - now.getTime() > MAX_DELAY_MS)
    throw invalidProblem([{ path: "sendAt", message: "must be within 90 days" }]);
  return requested > now ? requested : now;
}

/** The message as bytes and its envelope, after all checks that need no server. */
async function composeChecked(mailbox: Mailbox, message: OutgoingMessage, date: Date): Promise<ComposedMessage> {
  const errors: FieldError[] = [];
  checkHeaders(message.headers, errors);
  const people = peopleOf(mailbox, message, errors);
  if (message.raw !== undefined) checkRawAlone(message, errors);
  if (errors.length > 0) throw invalidProblem(errors);
  const composed =
    message.raw === undefined
      ? await composeMessage(message, people, date)
      : prepareRawMessage(Buffer.from(message.raw, "base64"), [...people.to, ...people.cc, ...people.bcc], date);
  const { recipients, from } = composed;
  if (recipients.length === 0) throw invalidProblem([{ path: "to", message: "must name at least one recipient" }]);
  if (recipients.length > MAX_RECIPIENTS)
    throw invalidProblem([
      { path: "to", message: `must name at most ${MAX_RECIPIENTS} recipients together with cc and bcc` },
    ]);
  const ownAddresses = [mailbox.address, ...(mailbox.send?.from ?? [])].map(
    (address) => normalizeAddress(address) ?? address,
  );
  if (!ownAddresses.some((address) => sameAddress(address, from)))
    throw new Problem("sender", `The mailbox may not send as ${from}.`, { retry: "never" });
  const self = recipients.find((to) => ownAddresses.some((address) => sameAddress(address, to)));
  if (self !== undefined && mailbox.send?.allowSelf !== true)
    throw new Problem("loop", `The mailbox would send to itself (${self}).`, { retry: "never" });
  return composed;
}

function peopleOf(mailbox: Mailbox, message: OutgoingMessage, errors: FieldError[]): Participants {
  const ownAddress = { address: mailbox.address, ...(mailbox.name !== undefined && { name: mailbox.name }) };
  const [from] = parseParties([message.from ?? ownAddress], "from", errors);
  return {
    from: from ?? { name: "", address: "" },
    to: parseParties(message.to, "to", errors),
    cc: parseParties(message.cc, "cc", errors),
    bcc: parseParties(message.bcc, "bcc", errors),
    replyTo: parseParties([message.replyTo ?? []].flat(), "replyTo", errors),
  };
}

/** A ready message has everything inside, except its envelope. */
function checkRawAlone(message: OutgoingMessage, errors: FieldError[]): void {
  const fields = [
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
  const given: string[] = fields.filter((name) => message[name] !== undefined);
  if (message.attachments.length > 0) given.push("attachments");
  if (Object.keys(message.headers).length > 0) given.push("headers");
  for (const path of given) errors.push({ path, message: "cannot be given together with raw" });
}

async function checkLoop(outbox: Outbox, mailbox: string, recipients: string[]): Promise<void> {
  for (const to of recipients) {
    const { heard, sent } = await outbox.getAutomaticTraffic(mailbox, to);
    const why =
      heard > 0
        ? `${to} sent automatic mail within the last hour, and this would be an automatic message to it.`
        : sent >= MAX_AUTOMATIC_PER_HOUR
          ? `${to} got ${sent} automatic messages within the last hour.`
          : undefined;
    if (why !== undefined) throw new Problem("loop", why, { retry: "never" });
  }
}

function invalidProblem(errors: FieldError[]): Problem {
  const named = errors.map(({ path, message }) => `${path} ${message}`).join("; ");
  return new Problem("invalid", `Not valid: ${named}`, { retry: "never", errors });
}
