/** One attempt to deliver one message to its endpoint, and what is remembered of it. */
import type { Attempt, Delivery } from "../../shared/contract/delivery.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Deliveries, Mailboxes, Outbox } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { type Backoff, graceAfter } from "../../shared/time.ts";
import { DIALECTS } from "../endpoint/dialects.ts";
import type { Letter, PostOutcome, WireRequest } from "../endpoint/endpoint.ts";
import type { EndpointGates } from "../endpoint/circuit-breaker.ts";
import { MANNERS } from "../endpoint/dialect.ts";
import { letters } from "../endpoint/multipart.ts";
import type { Turns } from "../endpoint/message-lock.ts";
import type { Tidying } from "./after-delivery-batches.ts";
import { linkReturned } from "./bounces.ts";

export type Delivering = {
  mailboxes: Pick<Mailboxes, "amend">;
  deliveries: Deliveries;
  outbox: Outbox;
  tasks: TaskSender;
  tidying: Tidying;
  emit: Emit;
  backoff: Backoff;
  gates: EndpointGates;
  turns: Turns;
  parse: (raw: Uint8Array, limits: { maxAttachmentBytes: number }, signal: AbortSignal) => Promise<ParsedMessage>;
  post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome>;
};

/** Attempts kept with a delivery: the first ones tell what began it, the last ones how it stands. */
const FIRST_ATTEMPTS = 5;
const LAST_ATTEMPTS = 45;
/** How long a shutdown waits for a POST in flight: cut off, the endpoint might have it and be asked again. */
const GRACE_MS = 5_000;
const RESTING = "the endpoint is left alone for a while after failures in a row";
const TWIN = "another copy of this message is on its way to the endpoint";
const BUSY = "too many messages were waiting for this endpoint";

/**
 * Posts the message once, if its endpoint is not resting, and records the outcome: delivered, retrying (with a task for the
 * next attempt) or parked. A delivery is recorded before this resolves; what crashes before is attempted again under the same
 * id. Throws `full` when the message must wait and the spool has no room for it.
 */
export async function attempt(
  deps: Delivering,
  mailbox: Mailbox,
  delivery: Delivery,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  if (mailbox.endpointGone)
    return park(deps, delivery, raw, "the endpoint answered 410 Gone; set a new deliver.url and replay");
  const key = MANNERS[mailbox.deliver.dialect]?.turn(mailbox, raw);
  const turn = key === undefined ? undefined : await deps.turns.take(key);
  if (turn?.kind === "wait") return postpone(deps, delivery, raw, turn.until, TWIN);
  try {
    await attemptNow(deps, mailbox, delivery, raw, signal);
  } finally {
    await turn?.done();
  }
}

async function attemptNow(
  deps: Delivering,
  mailbox: Mailbox,
  delivery: Delivery,
  raw: Uint8Array,
  signal: AbortSignal,
): Promise<void> {
  const entry = await deps.gates.enter(delivery.endpoint, signal);
  if (entry.kind === "rest") return postpone(deps, delivery, raw, entry.until, entry.busy ? BUSY : RESTING);
  const grace = graceAfter(signal, GRACE_MS);
  const accepted = new Set(delivery.acceptedParts);
  let outcome: PostOutcome | undefined;
  try {
    const parsed = await deps.parse(raw, mailbox.deliver, grace.signal);
    await linkReturned(deps, mailbox, parsed);
    if (parsed.limited)
      deps.emit({ kind: "mail.limited", mailbox: mailbox.id, delivery: delivery.id, limits: parsed.limited });
    const { ref, flags, id } = delivery;
    const all = letters({ deliveryId: id, mailbox, ref, flags, raw, parsed });
    if (all.length === 0) return await nothingToSend(deps, delivery, parsed);
    outcome = await postedAll(deps, all, accepted, grace.signal);
  } finally {
    grace.over();
    entry.leave(outcome);
  }
  const tried = withAttempt({ ...delivery, ...(accepted.size > 0 && { acceptedParts: [...accepted] }) }, outcome);
  if (outcome.kind === "refused" && outcome.gone) {
    await deps.mailboxes.amend({ ...mailbox, endpointGone: true });
    deps.emit({ kind: "endpoint.gone", mailbox: mailbox.id, endpoint: delivery.endpoint });
  }
  if (outcome.kind === "accepted") return accept(deps, mailbox, tried);
  if (outcome.retry === "never") return park(deps, tried, raw, outcome.reason);
  if (Date.now() >= Date.parse(delivery.giveUpAt))
    return park(deps, tried, raw, `given up after ${tried.attemptCount} attempts: ${outcome.reason}`);
  const ownTime = new Date(Date.now() + deps.backoff.redeliver(tried.attemptCount));
  const at = outcome.retryAt && outcome.retryAt > ownTime ? outcome.retryAt : ownTime;
  return postpone(deps, tried, raw, at, outcome.reason);
}

/** The parts one after the other, up to the first that is refused; those in `accepted` are done, and others join them. */
async function postedAll(
  deps: Delivering,
  all: Letter[],
  accepted: Set<string>,
  signal: AbortSignal,
): Promise<PostOutcome> {
  let outcome: PostOutcome = { kind: "accepted", status: 200, ms: 0 };
  for (const letter of all) {
    const { part } = letter;
    if (part && accepted.has(part.name)) continue;
    const one = await posted(deps, letter, signal);
    outcome = { ...one, ms: outcome.ms + one.ms };
    if (outcome.kind === "refused") {
      return part
        ? { ...outcome, reason: `part ${part.about.index} of ${part.about.count}: ${outcome.reason}` }
        : outcome;
    }
    if (part) accepted.add(part.name);
  }
  return outcome;
}

/** A message none of whose parts is wanted counts as delivered, without a POST. */
async function nothingToSend(deps: Delivering, delivery: Delivery, parsed: ParsedMessage): Promise<void> {
  const reason = "deliver.split leaves nothing of this message to deliver";
  await deps.deliveries.save({ ...delivery, state: "delivered", reason, nextAttemptAt: null, spooled: false });
  const { mailbox, ref } = delivery;
  const { folder, uid, size: bytes, receivedAt } = ref;
  const { messageId } = parsed;
  deps.emit({ kind: "mail.filtered", mailbox, folder, uid, bytes, receivedAt, messageId, rule: reason });
}

/** One POST, or two where the endpoint refuses the message for its size and the dialect knows a smaller form. */
async function posted(deps: Delivering, letter: Letter, signal: AbortSignal): Promise<PostOutcome> {
  const { dialect } = letter.mailbox.deliver;
  const request = DIALECTS[dialect](letter, new Date());
  const outcome = await deps.post(request, signal);
  const smaller = MANNERS[dialect]?.smaller(letter, request, outcome);
  if (!smaller) return outcome;
  const limits = ["attachments left out: the endpoint refused the message as too large"];
  deps.emit({ kind: "mail.limited", mailbox: letter.mailbox.id, delivery: letter.deliveryId, limits });
  return deps.post(smaller, signal);
}

async function accept(deps: Delivering, mailbox: Mailbox, delivery: Delivery): Promise<void> {
  const { id, ref, attemptCount } = delivery;
  await deps.tidying(mailbox, ref);
  const { acceptedParts: _, ...whole } = delivery;
  await deps.deliveries.save({ ...whole, state: "delivered", reason: null, nextAttemptAt: null, spooled: false });
  const ms = Math.max(0, Date.now() - Date.parse(ref.receivedAt));
  const where = { mailbox: mailbox.id, delivery: id, folder: ref.folder, uid: ref.uid };
  deps.emit({ kind: "mail.delivered", ...where, bytes: ref.size, ms, attempts: attemptCount });
}

/**
 * The task goes first: if the process dies between the two, the messages are delivered again by the task this one belongs to. A task
 * that comes so quickly that there is no record yet looks again (`redeliver.ts`).
 */
async function postpone(
  deps: Delivering,
  delivery: Delivery,
  raw: Uint8Array,
  at: Date,
  reason: string,
): Promise<void> {
  const { id, mailbox, endpoint, attemptCount } = delivery;
  await deps.tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id }, { notBefore: at });
  const retryAt = at.toISOString();
  const waiting: Delivery = { ...delivery, state: "retrying", reason, nextAttemptAt: retryAt, spooled: true };
  await deps.deliveries.save(waiting, delivery.spooled ? undefined : raw);
  deps.emit({ kind: "mail.retrying", mailbox, delivery: id, endpoint, attempts: attemptCount, reason, retryAt });
}

async function park(deps: Delivering, delivery: Delivery, raw: Uint8Array, reason: string): Promise<void> {
  const parked: Delivery = { ...delivery, state: "parked", reason, nextAttemptAt: null, spooled: true };
  await deps.deliveries.save(parked, delivery.spooled ? undefined : raw);
  const { id, mailbox, endpoint, attemptCount } = delivery;
  deps.emit({ kind: "mail.parked", mailbox, delivery: id, endpoint, attempts: attemptCount, reason });
}

function withAttempt(delivery: Delivery, outcome: PostOutcome): Delivery {
  const at = new Date().toISOString();
  const problem = outcome.kind === "accepted" ? null : outcome.reason;
  const made: Attempt = { at, ms: Math.round(outcome.ms), status: outcome.status, problem };
  const all = [...delivery.attempts, made];
  const kept =
    all.length <= FIRST_ATTEMPTS + LAST_ATTEMPTS
      ? all
      : [...all.slice(0, FIRST_ATTEMPTS), ...all.slice(-LAST_ATTEMPTS)];
  return { ...delivery, attempts: kept, attemptCount: delivery.attemptCount + 1, updatedAt: at };
}
