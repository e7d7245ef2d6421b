/** One attempt to deliver one message to its endpoint, and the record of it. */
import { delayedSignal } from "../../shared/concurrency/abort.ts";
import type { Attempt, Delivery } from "../../shared/contract/delivery.ts";
import { getClosedUntil } from "../../shared/contract/learned.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Deliveries, Mailboxes, Outbox } from "../../shared/store/store.ts";
import { heldReason, isHeld, type pauseFinder } from "../../shared/store/endpoint-pauses.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { afterDeliveryOf } from "../../shared/mail/defaults.ts";
import type { Backoff } from "../../shared/time.ts";
import { clock } from "../../shared/time.ts";
import type { DeliverableMessage, PostOutcome, WireRequest } from "../endpoint/endpoint.ts";
import type { CircuitBreakers } from "../endpoint/circuit-breaker.ts";
import { DIALECT_HOOKS, ENCODERS } from "../endpoint/dialect.ts";
import type { GetDestinations } from "../shares/strangers.ts";
import { splitMessage } from "../endpoint/multipart.ts";
import type { MessageLock } from "../endpoint/message-lock.ts";
import type { ScheduleAfterDelivery } from "./after-delivery-batches.ts";
import { linkToSending } from "./bounces.ts";
import { describeMessage, describeUnread } from "./summary.ts";
import { findMissingContent } from "./hand-over.ts";

export type AttemptDeps = {
  mailboxes: Pick<Mailboxes, "amend">;
  deliveries: Deliveries;
  outbox: Outbox;
  tasks: TaskSender;
  scheduleAfterDelivery: ScheduleAfterDelivery;
  emit: Emit;
  backoff: Backoff;
  circuitBreakers: CircuitBreakers;
  getDestinations: GetDestinations;
  messageLock: MessageLock;
  findPause: ReturnType<typeof pauseFinder>;
  parse: (raw: Uint8Array, limits: { maxAttachmentBytes: number }, signal: AbortSignal) => Promise<ParsedMessage>;
  post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome>;
  /** Whether the record of an attempt has what the endpoint said. */
  showWords: boolean;
  /** Whether the record of a delivery has the subject, the sender and the Message-ID. */
  keepSubjects: boolean;
};

/** How many attempts are kept with a delivery: the first ones show how it started, the last ones its present state. */
const FIRST_ATTEMPTS = 5;
const LAST_ATTEMPTS = 45;
/**
 * How long a shutdown waits for a POST in flight. If the POST were cut off, the endpoint might have the message and get
 * it again.
 */
const GRACE_MS = 5_000;
/** So much of an endpoint's words is kept. */
const MAX_WORDS = 200;
/** A paused endpoint is looked at again after the longest rest of a failing one. */
const LONGEST_REST = 6;
const ENDPOINT_PAUSED = "the endpoint is paused after several failures in a row";
const DUPLICATE_IN_FLIGHT = "another copy of this message is on its way to the endpoint";
const KEPT = "accepted, but left as it is on the mail server";
const ENDPOINT_BUSY = "too many messages were waiting for this endpoint";

/**
 * Posts the message once if its endpoint is not paused, and records the outcome: delivered, retrying (with a task for
 * the next attempt) or parked. The delivery is stored before this resolves. After a crash before that, it is attempted
 * again under the same id. Throws `full` if the message must wait and the spool has no room.
 */
export async function attempt(
  deps: AttemptDeps,
  mailbox: Mailbox,
  delivery: Delivery,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  if (mailbox.endpointGone)
    return park(deps, delivery, raw, "the endpoint answered 410 Gone; set a new deliver.url and replay");
  const closedUntil = getClosedUntil(mailbox);
  if (closedUntil) return postpone(deps, delivery, raw, closedUntil, "the CRM closed the mailbox");
  if (await deps.findPause(mailbox)) return holdBack(deps, delivery, raw);
  const key = DIALECT_HOOKS[mailbox.deliver.dialect]?.lockKey(mailbox, raw);
  const lock = key === undefined ? undefined : await deps.messageLock.tryAcquire(key);
  if (lock?.kind === "wait") return postpone(deps, delivery, raw, lock.until, DUPLICATE_IN_FLIGHT);
  await using _ = lock;
  await attemptNow(deps, mailbox, delivery, raw, signal);
}

async function attemptNow(
  deps: AttemptDeps,
  mailbox: Mailbox,
  delivery: Delivery,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const { endpoint: destination } = deps.getDestinations(mailbox);
  const changedAt = Date.parse(mailbox.updatedAt);
  const target = { url: mailbox.deliver.url, destination, owner: mailbox.id, changedAt };
  const permit = await deps.circuitBreakers.acquire(target, signal);
  if (permit.kind === "rest")
    return postpone(deps, delivery, raw, permit.until, permit.busy ? ENDPOINT_BUSY : ENDPOINT_PAUSED);
  using grace = delayedSignal(signal, GRACE_MS);
  const accepted = new Set(delivery.acceptedParts);
  let outcome: PostedMessage | undefined;
  let missing: string | null = null;
  let described = delivery;
  try {
    const parsed = addLeftOut(await deps.parse(raw, mailbox.deliver, grace.signal), delivery);
    await linkToSending(deps, mailbox, parsed);
    if (parsed.limited)
      deps.emit({ kind: "mail.limited", mailbox: mailbox.id, delivery: delivery.id, limits: parsed.limited });
    described = describeMessage(deps, delivery, parsed);
    const { ref, flags, id } = delivery;
    const messages = splitMessage({ deliveryId: id, mailbox, ref, flags, raw, parsed });
    if (messages.length === 0) return await completeWithoutPost(deps, described, parsed);
    outcome = await postAll(deps, messages, accepted, grace.signal);
    missing = findMissingContent(mailbox, { ...parsed, leftOut: delivery.leftOut }, outcome.shortened);
  } finally {
    permit.release(outcome);
  }
  const tried = withAttempt(
    deps,
    { ...described, ...(accepted.size > 0 && { acceptedParts: [...accepted] }) },
    outcome,
  );
  if (outcome.kind === "refused" && outcome.gone) {
    await deps.mailboxes.amend(mailbox, (stored) => ({ ...stored, endpointGone: true }));
    deps.emit({ kind: "endpoint.gone", mailbox: mailbox.id, endpoint: delivery.endpoint });
  }
  if (outcome.kind === "accepted") return recordDelivered(deps, mailbox, tried, { bytes: raw.byteLength, missing });
  if (outcome.retry === "never") return park(deps, tried, raw, outcome.reason);
  if (clock.now() >= Date.parse(delivery.giveUpAt))
    return park(deps, tried, raw, `given up after ${tried.attemptCount} attempts: ${outcome.reason}`);
  const backoffAt = new Date(clock.now() + deps.backoff.redeliver(tried.attemptCount));
  const at = outcome.retryAt && outcome.retryAt > backoffAt ? outcome.retryAt : backoffAt;
  return postpone(deps, tried, raw, at, outcome.reason);
}

/**
 * Lets a delivery wait while a person has paused its endpoint. That is no attempt, and its time to give up moves with it. Without `raw`
 * the spool has the message.
 */
export async function holdBack(deps: AttemptDeps, delivery: Delivery, raw?: Uint8Array): Promise<void> {
  const waitMs = deps.backoff.rest(LONGEST_REST);
  const giveUpAt = new Date(Date.parse(delivery.giveUpAt) + waitMs).toISOString();
  await postpone(deps, { ...delivery, giveUpAt }, raw, new Date(clock.now() + waitMs), heldReason(delivery));
}

/** What the mail server does not give is missing for the endpoint as what a limit left out is. */
function addLeftOut(parsed: ParsedMessage, { leftOut }: Delivery): ParsedMessage {
  return leftOut ? { ...parsed, limited: [...(parsed.limited ?? []), ...leftOut] } : parsed;
}

/** `shortened`: attachments were left out, because the endpoint refused the message with them. */
type PostedMessage = PostOutcome & { shortened: boolean };

/**
 * Posts the parts one after the other, up to the first that is refused. Parts in `accepted` are done; each accepted
 * part is added.
 */
async function postAll(
  deps: AttemptDeps,
  messages: DeliverableMessage[],
  accepted: Set<string>,
  signal: AbortSignal,
): Promise<PostedMessage> {
  let outcome: PostedMessage = { kind: "accepted", status: 200, ms: 0, shortened: false };
  for (const message of messages) {
    const { part } = message;
    if (part && accepted.has(part.name)) continue;
    const result = await postOne(deps, message, signal);
    outcome = { ...result, ms: outcome.ms + result.ms, shortened: outcome.shortened || result.shortened };
    if (outcome.kind === "refused") {
      return part
        ? { ...outcome, reason: `part ${part.about.index} of ${part.about.count}: ${outcome.reason}` }
        : outcome;
    }
    if (part) accepted.add(part.name);
  }
  return outcome;
}

/** If no part of a message is wanted, it counts as delivered without a POST. */
async function completeWithoutPost(deps: AttemptDeps, delivery: Delivery, parsed: ParsedMessage): Promise<void> {
  const reason = "deliver.split leaves nothing of this message to deliver";
  await deps.deliveries.save({ ...delivery, state: "delivered", reason, nextAttemptAt: null, spooled: false });
  const { mailbox, ref } = delivery;
  const { folder, uid, size: bytes, receivedAt } = ref;
  const { messageId } = parsed;
  deps.emit({ kind: "mail.filtered", mailbox, folder, uid, bytes, receivedAt, messageId, rule: reason });
}

/** One POST. If the endpoint refuses the message as too large and the dialect has a smaller form, a second POST. */
async function postOne(deps: AttemptDeps, message: DeliverableMessage, signal: AbortSignal): Promise<PostedMessage> {
  const { dialect } = message.mailbox.deliver;
  const request = await ENCODERS[dialect](message, new Date());
  const outcome = await deps.post(request, signal);
  const smaller = await DIALECT_HOOKS[dialect]?.smallerRequest(message, request, outcome);
  if (!smaller) return { ...outcome, shortened: false };
  const limits = ["attachments left out: the endpoint refused the message as too large"];
  deps.emit({ kind: "mail.limited", mailbox: message.mailbox.id, delivery: message.deliveryId, limits });
  return { ...(await deps.post(smaller, signal)), shortened: true };
}

/**
 * `missing` is what the endpoint does not have of the message. Then the mail server's copy is left as it is, and the
 * record has the reason.
 */
async function recordDelivered(
  deps: AttemptDeps,
  mailbox: Mailbox,
  delivery: Delivery,
  { bytes, missing }: { bytes: number; missing: string | null },
): Promise<void> {
  const { id, ref, attemptCount, seenAt } = delivery;
  const kept = missing === null || afterDeliveryOf(mailbox.receive) === "leave" ? null : `${KEPT}: ${missing}`;
  if (kept === null) await deps.scheduleAfterDelivery(mailbox, ref);
  const { acceptedParts: _, ...whole } = delivery;
  await deps.deliveries.save({ ...whole, state: "delivered", reason: kept, nextAttemptAt: null, spooled: false });
  const ms = Math.max(0, clock.now() - Date.parse(ref.receivedAt));
  const seen = seenAt === undefined ? {} : { seenMs: Math.max(0, clock.now() - Date.parse(seenAt)) };
  const where = { mailbox: mailbox.id, folder: ref.folder, uid: ref.uid };
  deps.emit({ kind: "mail.delivered", ...where, delivery: id, bytes, ms, ...seen, attempts: attemptCount });
  if (kept !== null) deps.emit({ kind: "mail.kept", ...where, reason: kept });
}

/**
 * Sends the task first: if the process dies before the record is stored, the task that this attempt belongs to delivers
 * the message again. If the new task runs before the record exists, it tries again later (`redeliver.ts`).
 */
async function postpone(
  deps: AttemptDeps,
  delivery: Delivery,
  raw: Uint8Array | undefined,
  at: Date,
  reason: string,
): Promise<void> {
  const { id, mailbox, endpoint, attemptCount } = delivery;
  await deps.tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id }, { notBefore: at });
  const retryAt = at.toISOString();
  const described = raw ? describeUnread(deps, delivery, raw) : delivery;
  const waiting: Delivery = { ...described, state: "retrying", reason, nextAttemptAt: retryAt, spooled: true };
  await deps.deliveries.save(waiting, delivery.spooled ? undefined : raw);
  // A pause by a person is checked again and again, and tells nothing new.
  if (isHeld(waiting) && delivery.reason === reason) return;
  deps.emit({ kind: "mail.retrying", mailbox, delivery: id, endpoint, attempts: attemptCount, reason, retryAt });
}

async function park(deps: AttemptDeps, delivery: Delivery, raw: Uint8Array, reason: string): Promise<void> {
  const described = describeUnread(deps, delivery, raw);
  const parked: Delivery = { ...described, state: "parked", reason, nextAttemptAt: null, spooled: true };
  await deps.deliveries.save(parked, delivery.spooled ? undefined : raw);
  const { id, mailbox, endpoint, attemptCount } = delivery;
  deps.emit({ kind: "mail.parked", mailbox, delivery: id, endpoint, attempts: attemptCount, reason });
}

function describeRefusal(
  { showWords }: AttemptDeps,
  { reason, words }: Extract<PostOutcome, { kind: "refused" }>,
): string {
  return showWords && words !== null ? `${reason}: ${words.slice(0, MAX_WORDS)}` : reason;
}

function withAttempt(deps: AttemptDeps, delivery: Delivery, outcome: PostOutcome): Delivery {
  const at = new Date().toISOString();
  const problem = outcome.kind === "accepted" ? null : describeRefusal(deps, outcome);
  const latest: Attempt = { at, ms: Math.round(outcome.ms), status: outcome.status, problem };
  const all = [...delivery.attempts, latest];
  const retained =
    all.length <= FIRST_ATTEMPTS + LAST_ATTEMPTS
      ? all
      : [...all.slice(0, FIRST_ATTEMPTS), ...all.slice(-LAST_ATTEMPTS)];
  return { ...delivery, attempts: retained, attemptCount: delivery.attemptCount + 1, updatedAt: at };
}
