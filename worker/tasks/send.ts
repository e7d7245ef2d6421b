/** A `send` task: one attempt to hand a message to its mail server, recorded so that nobody ever gets it twice. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { type Recipient, type Sending, wholeState } from "../../shared/contract/sending.ts";
import type { SendTask, TaskOutcome } from "../../shared/contract/task.ts";
import type { Transmission, Verdict } from "../../shared/mail/outgoing.ts";
import { isAbort } from "../../shared/run.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { type Backoff, graceAfter } from "../../shared/time.ts";
import type { Senders } from "../mail/sender-pool.ts";

export type SendDeps = {
  store: Pick<Store, "outbox" | "mailboxes">;
  tasks: TaskSender;
  emit: Emit;
  backoff: Backoff;
  senders: Senders;
  /** How long others leave a sending alone, in milliseconds: while an attempt is made, and from the end of the message on. */
  holds: { attempt: number; end: number };
};

/** Bytes that leave in a millisecond at worst. */
const SLOWEST = 20;
/** How long a shutdown waits for an answer: cut off after the end of the message, its outcome would be unknown. */
const GRACE_MS = 8_000;

/**
 * Makes the next attempt if it is due and nobody else makes one. Before the end of the message may leave this process, the
 * recipients it is for are written down as `transmitting`; a sending found with some of those was cut off by a crash, and they
 * become unknown. Only recipients that are still queued are sent to.
 */
export async function send(deps: SendDeps, task: SendTask, tries: number, signal: AbortSignal): Promise<TaskOutcome> {
  const { outbox, mailboxes } = deps.store;
  const found = await mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  const { mailbox } = found;
  const wait = deps.senders.notBefore(mailbox);
  if (wait) return { kind: "again", task, at: wait };
  const taken = await outbox.take(task.sending, deps.holds.attempt);
  if (!taken) return whatElse(deps, mailbox, task, tries);
  const sending =
    taken.transmitting.length > 0
      ? await recorded(deps, taken, { verdicts: taken.transmitting.map(lost), serverMessageId: null })
      : await attempted(deps, mailbox, taken, signal);
  return afterwards(deps, mailbox, task, sending);
}

/** Not due, taken by somebody, or over already. */
async function whatElse(deps: SendDeps, mailbox: Mailbox, task: SendTask, tries: number): Promise<TaskOutcome> {
  const known = await deps.store.outbox.get(task.sending);
  if (!known) return { kind: "done" };
  if (known.state !== "queued") return afterwards(deps, mailbox, task, known);
  const soon = Date.now() + deps.backoff.task(tries);
  return { kind: "again", task, at: new Date(Math.max(soon, Date.parse(known.nextAttemptAt ?? ""))) };
}

/** What is left to do once an attempt is recorded: the next one, the endpoint's notice, the copy in the Sent folder. */
async function afterwards(deps: SendDeps, mailbox: Mailbox, task: SendTask, sending: Sending): Promise<TaskOutcome> {
  if (sending.state === "queued") return { kind: "again", task, at: new Date(sending.nextAttemptAt ?? Date.now()) };
  if (sending.notify && !sending.told && mailbox.deliver.dialect === "webhook") {
    const { id, mailbox: at } = sending;
    const about = { event: sending.state, recipient: null, at: sending.updatedAt };
    await deps.tasks.send({ version: 1, kind: "notify", mailbox: at, sending: id, ...about });
    await deps.store.outbox.save({ ...sending, told: true });
  }
  if (sending.copy !== "wanted" || !sending.recipients.some(({ state }) => state === "sent")) return { kind: "done" };
  return { kind: "again", task: { ...task, kind: "copy" }, at: new Date() };
}

async function attempted(deps: SendDeps, mailbox: Mailbox, taken: Sending, signal: AbortSignal): Promise<Sending> {
  const { outbox } = deps.store;
  const raw = await outbox.raw(taken.id);
  const grace = graceAfter(signal, GRACE_MS);
  let current = taken.size > 1e6 ? await outbox.save(taken, deps.holds.attempt + taken.size / SLOWEST) : taken;
  const to = taken.recipients.filter(({ state }) => state === "queued").map(({ address }) => address);
  const mark = async (accepted: string[]) => {
    current = await outbox.save({ ...current, transmitting: accepted }, deps.holds.end);
  };
  try {
    if (!raw) throw new Problem("internal", "The bytes of the message are missing", { retry: "never" });
    const save = mailbox.send?.saveSent !== "never";
    const order = { id: taken.id, from: taken.from, to, raw: Buffer.from(raw), dsn: taken.dsn, save };
    const transmission = await deps.senders.send(mailbox, order, mark, grace.signal);
    return await recorded(deps, current, transmission);
  } catch (error) {
    // The stop of the service is no attempt: the message is free for the next process at once.
    if (isAbort(error)) await outbox.save({ ...current, transmitting: [] });
    const problem = asProblem(error);
    if (isAbort(error) || problem.code === "store" || problem.code === "conflict") throw error;
    const response = problem.evidence === null ? problem.message : `${problem.message}: ${problem.evidence}`;
    const state = problem.retry === "never" ? "failed" : "queued";
    const verdicts = to.map((address): Verdict => ({ address, state, response }));
    const notBefore = problem.retry instanceof Date ? problem.retry : undefined;
    return recorded(deps, current, { verdicts, serverMessageId: null }, notBefore);
  } finally {
    grace.over();
  }
}

function lost(address: string): Verdict {
  const response = "The message was handed over and the service ended before it had the answer";
  return { address, state: "unknown", response };
}

/** Writes down what an attempt came to, and says so. What somebody else changed meanwhile (a bounce) is kept. */
async function recorded(
  deps: SendDeps,
  sending: Sending,
  transmission: Transmission,
  notBefore?: Date,
): Promise<Sending> {
  const { outbox } = deps.store;
  const write = (now: Sending) => outbox.save(resulting(deps.backoff, now, transmission, notBefore));
  const saved = await write(sending).catch(async (error: unknown) => {
    const now = await outbox.get(sending.id);
    const ours = now?.attempts === sending.attempts && String(now.transmitting) === String(sending.transmitting);
    if (asProblem(error).code !== "conflict" || !now || !ours) throw error;
    return write(now);
  });
  announce(deps.emit, saved);
  return saved;
}

/** The sending after an attempt: verdicts for those that were queued, the next time, or the end. */
function resulting(
  backoff: Backoff,
  sending: Sending,
  { verdicts, serverMessageId }: Transmission,
  notBefore?: Date,
): Sending {
  const now = new Date();
  const attempts = sending.attempts + 1;
  const next = new Date(Math.max(now.getTime() + backoff.send(attempts), notBefore?.getTime() ?? 0));
  const givenUp = now.getTime() >= Date.parse(sending.giveUpAt);
  const byAddress = new Map(verdicts.map((verdict) => [verdict.address, verdict]));
  const recipients = sending.recipients.map((recipient): Recipient => {
    const verdict = recipient.state === "queued" ? (byAddress.get(recipient.address) ?? recipient) : recipient;
    if (!givenUp || verdict.state !== "queued") return verdict;
    return { ...verdict, state: "failed", response: `Given up after ${attempts} attempts: ${verdict.response}` };
  });
  const state = wholeState(recipients);
  const sent = recipients.some((one) => one.state === "sent");
  return {
    ...sending,
    state,
    recipients,
    transmitting: [],
    attempts,
    serverMessageId: serverMessageId ?? sending.serverMessageId,
    reason: recipients.find((one) => one.state === state && state !== "sent")?.response ?? null,
    updatedAt: now.toISOString(),
    nextAttemptAt: state === "queued" ? next.toISOString() : null,
    sentAt: sending.sentAt ?? (sent ? now.toISOString() : null),
  };
}

function announce(emit: Emit, sending: Sending): void {
  const { id, mailbox, attempts, state, nextAttemptAt } = sending;
  const about = { mailbox, sending: id, attempts };
  const reason = sending.reason ?? "";
  if (state === "queued") emit({ kind: "send.retrying", ...about, reason, retryAt: nextAttemptAt ?? "" });
  else if (state === "sent") {
    const ms = Math.max(0, Date.now() - Date.parse(sending.sendAt));
    emit({ kind: "send.sent", ...about, recipients: sending.recipients.length, bytes: sending.size, ms });
  } else if (state === "failed" || state === "unknown") emit({ kind: `send.${state}`, ...about, reason });
}
