/**
 * A `send` task: one attempt to hand a message to its mail server, recorded so that no recipient ever gets it twice.
 */
import { delayedSignal } from "../../shared/concurrency/abort.ts";
import { getClosedUntil } from "../../shared/contract/learned.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { type Recipient, type Sending, overallState } from "../../shared/contract/sending.ts";
import type { SendTask, TaskOutcome } from "../../shared/contract/task.ts";
import { CUT_AT_RECIPIENT, type SendResult, type RecipientResult } from "../../shared/mail/outgoing.ts";
import { getSendTarget } from "../../shared/mail/sending.ts";
import { isAbortError } from "../../shared/run.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import { clock } from "../../shared/time.ts";
import { NO_ANSWER } from "../shares/answers.ts";
import type { Lines, Visit } from "../shares/lines.ts";
import { MEMORY_LIMITS, type MemoryShares } from "../shares/memory.ts";
import type { GetDestinations } from "../shares/strangers.ts";
import type { SenderPool } from "../mail/sender-pool.ts";

export type SendDeps = {
  store: Pick<Store, "outbox" | "mailboxes">;
  tasks: TaskSender;
  emit: Emit;
  backoff: Backoff;
  senders: SenderPool;
  lines: Pick<Lines, "enter">;
  memory: MemoryShares;
  getDestinations: GetDestinations;
  /** How long a sending stays claimed, in milliseconds: during an attempt, and from the end of the message on. */
  claimDurations: { attempt: number; end: number };
};

/** The lowest speed that counts, in bytes per millisecond. */
const MIN_BYTES_PER_MS = 20;
/**
 * How long a shutdown waits for an answer. If the attempt were cut off after the end of the message, its outcome would
 * be unknown.
 */
const GRACE_MS = 8_000;
/** How long to wait for the mailbox's turn at its relay. */
const LINE_MS = 60_000;

/**
 * Makes the next attempt if it is due and not claimed. Before the end of the message leaves this process, its
 * recipients are recorded as `transmitting`. If a sending has recipients in this state at the start, a crash cut it
 * off, and they become unknown. The message goes only to recipients that are still queued.
 */
export async function send(deps: SendDeps, task: SendTask, tries: number, signal: AbortSignal): Promise<TaskOutcome> {
  const { outbox, mailboxes } = deps.store;
  const found = await mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  const { mailbox } = found;
  // Without its own login the mailbox waits until the CRM creates it again.
  const closedUntil = mailbox.send?.auth === undefined ? getClosedUntil(mailbox) : undefined;
  if (closedUntil) return { kind: "again", task, at: closedUntil };
  const current = await outbox.get(task.sending);
  if (current?.state !== "queued") return current ? followUp(deps, mailbox, task, current) : { kind: "done" };
  const { relay } = deps.getDestinations(mailbox);
  const request = { owner: mailbox.id, bytes: current.size, heldFor: relay };
  using _ = await deps.memory.acquire(request, MEMORY_LIMITS, signal);
  using visit = await deps.lines.enter(relay, mailbox.id, { ms: LINE_MS }, signal);
  const notBefore = deps.senders.notBefore(mailbox);
  if (notBefore) return { kind: "again", task, at: notBefore };
  const claimed = await outbox.claim(task.sending, deps.claimDurations.attempt);
  if (!claimed) return handleUnclaimed(deps, mailbox, task, tries);
  const sending =
    claimed.transmitting.length > 0
      ? await recordOutcome(deps, claimed, { recipients: claimed.transmitting.map(asUnknown), serverMessageId: null })
      : await attemptSend(deps, { mailbox, claimed, visit }, signal);
  return followUp(deps, mailbox, task, sending);
}

/** The sending is not due, claimed by another worker, or already ended. */
async function handleUnclaimed(deps: SendDeps, mailbox: Mailbox, task: SendTask, tries: number): Promise<TaskOutcome> {
  const current = await deps.store.outbox.get(task.sending);
  if (!current) return { kind: "done" };
  if (current.state !== "queued") return followUp(deps, mailbox, task, current);
  const soon = clock.now() + deps.backoff.task(tries);
  return { kind: "again", task, at: new Date(Math.max(soon, Date.parse(current.nextAttemptAt ?? ""))) };
}

/**
 * After an attempt is recorded: sends the tasks for the next attempt, the notice to the endpoint, and the copy in the
 * Sent folder.
 */
async function followUp(deps: SendDeps, mailbox: Mailbox, task: SendTask, sending: Sending): Promise<TaskOutcome> {
  if (sending.state === "queued") return { kind: "again", task, at: new Date(sending.nextAttemptAt ?? clock.now()) };
  if (sending.notify && !sending.told && mailbox.deliver.dialect === "webhook") {
    const { id, mailbox: at } = sending;
    const about = { event: sending.state, recipient: null, at: sending.updatedAt };
    await deps.tasks.send({ version: 1, kind: "notify", mailbox: at, sending: id, ...about });
    await deps.store.outbox.save({ ...sending, told: true });
  }
  if (sending.copy !== "wanted" || !sending.recipients.some(({ state }) => state === "sent")) return { kind: "done" };
  return { kind: "again", task: { ...task, kind: "copy" }, at: new Date(clock.now() + getCopyWait(deps, mailbox)) };
}

/** How long the provider has to put a copy into the Sent folder itself, in milliseconds. */
function getCopyWait({ backoff }: SendDeps, mailbox: Mailbox): number {
  if (mailbox.send?.saveSent === "always") return 0;
  return backoff.sentCopy(mailbox.sentFiledBy === getSendTarget(mailbox) ? 2 : 1);
}

type ClaimedSending = { mailbox: Mailbox; claimed: Sending; visit: Visit };

async function attemptSend(
  deps: SendDeps,
  { mailbox, claimed, visit }: ClaimedSending,
  signal: AbortSignal,
): Promise<Sending> {
  const { outbox } = deps.store;
  const raw = await outbox.getRaw(claimed.id);
  using grace = delayedSignal(signal, GRACE_MS);
  let current =
    claimed.size > 1e6
      ? await outbox.save(claimed, deps.claimDurations.attempt + claimed.size / MIN_BYTES_PER_MS)
      : claimed;
  const to = chooseRecipients(claimed);
  const markTransmitting = async (accepted: string[]) => {
    current = await outbox.save({ ...current, transmitting: accepted }, deps.claimDurations.end);
  };
  try {
    if (!raw) throw new Problem("internal", "The bytes of the message are missing", { retry: "never" });
    const save = mailbox.send?.saveSent !== "never";
    const stepwise = claimed.attempts > 0;
    const order = { id: claimed.id, from: claimed.from, to, raw: Buffer.from(raw), dsn: claimed.dsn, save, stepwise };
    const transmission = await deps.senders.send(mailbox, order, markTransmitting, grace.signal);
    visit.end("answered");
    return await recordOutcome(deps, current, transmission);
  } catch (error) {
    // A stop counts as no attempt. The message is free for the next process at once.
    if (isAbortError(error)) await outbox.save({ ...current, transmitting: [] });
    const problem = asProblem(error);
    if (isAbortError(error) || problem.code === "store" || problem.code === "conflict") throw error;
    visit.end(NO_ANSWER.has(problem.code) ? "failed" : "unclear");
    // The server's own words come first, then the service's reading of them.
    const response = problem.evidence === null ? problem.message : `${problem.evidence} (${problem.message})`;
    const state = problem.retry === "never" ? "failed" : "queued";
    const verdicts = to.map((address): RecipientResult => ({ address, state, response }));
    const notBefore = problem.retry instanceof Date ? problem.retry : undefined;
    return recordOutcome(deps, current, { recipients: verdicts, serverMessageId: null }, notBefore);
  }
}

/**
 * The recipients of this attempt. If the server closes the connection at a recipient, that one would keep the message from
 * the others. So it gets attempts of its own, every second one.
 */
function chooseRecipients({ recipients, attempts }: Sending): string[] {
  const queued = recipients.filter(({ state }) => state === "queued");
  const cut = queued.filter(({ response }) => response === CUT_AT_RECIPIENT);
  const others = queued.filter((one) => !cut.includes(one));
  const [first, second] = attempts % 2 === 0 && attempts > 1 ? [cut, others] : [others, cut];
  return (first.length > 0 ? first : second).map(({ address }) => address);
}

function asUnknown(address: string): RecipientResult {
  const response = "The message was handed over, and the service ended before the answer came";
  return { address, state: "unknown", response };
}

/** Records the outcome of an attempt, and reports it. Changes by others in the meantime (a bounce) are kept. */
async function recordOutcome(
  deps: SendDeps,
  sending: Sending,
  transmission: SendResult,
  notBefore?: Date,
): Promise<Sending> {
  const { outbox } = deps.store;
  const write = (now: Sending) => outbox.save(applyOutcome(deps.backoff, now, transmission, notBefore));
  const saved = await write(sending).catch(async (error: unknown) => {
    const now = await outbox.get(sending.id);
    const ours = now?.attempts === sending.attempts && String(now.transmitting) === String(sending.transmitting);
    if (asProblem(error).code !== "conflict" || !now || !ours) throw error;
    return write(now);
  });
  announce(deps.emit, saved);
  return saved;
}

/** The sending after an attempt: results for the queued recipients, and the next time or the end. */
function applyOutcome(backoff: Backoff, sending: Sending, result: SendResult, notBefore?: Date): Sending {
  const now = new Date();
  const { recipients: verdicts, serverMessageId } = result;
  const attempts = sending.attempts + 1;
  const continues = mayContinue(result, sending);
  const wait = continues ? 0 : backoff.send(attempts);
  const next = new Date(Math.max(now.getTime() + wait, notBefore?.getTime() ?? 0));
  const givenUp = now.getTime() >= Date.parse(sending.giveUpAt) && !continues;
  const byAddress = new Map(verdicts.map((verdict) => [verdict.address, verdict]));
  const recipients = sending.recipients.map((recipient): Recipient => {
    const verdict = recipient.state === "queued" ? (byAddress.get(recipient.address) ?? recipient) : recipient;
    if (!givenUp || verdict.state !== "queued") return verdict;
    return { ...verdict, state: "failed", response: `Given up after ${attempts} attempts: ${verdict.response}` };
  });
  const state = overallState(recipients);
  const sent = recipients.some((one) => one.state === "sent");
  return {
    ...sending,
    state,
    recipients,
    transmitting: [],
    attempts: continues && state === "queued" ? sending.attempts : attempts,
    serverMessageId: serverMessageId ?? sending.serverMessageId,
    reason: recipients.find((one) => one.state === state && state !== "sent")?.response ?? null,
    updatedAt: now.toISOString(),
    nextAttemptAt: state === "queued" ? next.toISOString() : null,
    sentAt: sending.sentAt ?? (sent ? now.toISOString() : null),
  };
}

/**
 * How many recipients are set aside one by one. If a server closes the connection at more of them, the message waits
 * for the next attempt.
 */
const MAX_CUT = 10;

/**
 * Whether the attempt continues over another connection at once. Each connection gives a result for at least one
 * recipient, or sets one aside, so this ends.
 */
function mayContinue({ recipients, otherConnection }: SendResult, sending: Sending): boolean {
  if (otherConnection !== "continue") return false;
  const cut = sending.recipients.filter(({ response }) => response === CUT_AT_RECIPIENT);
  return cut.length < MAX_CUT || recipients.some(({ state }) => state !== "queued");
}

function announce(emit: Emit, sending: Sending): void {
  const { id, mailbox, attempts, state, nextAttemptAt } = sending;
  const about = { mailbox, sending: id, attempts };
  const reason = sending.reason ?? "";
  if (state === "queued") emit({ kind: "send.retrying", ...about, reason, retryAt: nextAttemptAt ?? "" });
  else if (state === "sent") {
    const ms = Math.max(0, clock.now() - Date.parse(sending.sendAt));
    emit({ kind: "send.sent", ...about, recipients: sending.recipients.length, bytes: sending.size, ms });
  } else if (state === "failed" || state === "unknown") emit({ kind: `send.${state}`, ...about, reason });
}
