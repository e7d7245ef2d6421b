/** A `notify` task: a signed webhook that reports the result of a sending to the endpoint. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { type MessageSent, type Sending, toSendingView } from "../../shared/contract/sending.ts";
import type { NotifyTask, TaskOutcome } from "../../shared/contract/task.ts";
import type { Later } from "../../shared/queue/queue.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import { clock } from "../../shared/time.ts";
import type { PostOutcome, WireRequest } from "../endpoint/endpoint.ts";
import type { CircuitBreakers } from "../endpoint/circuit-breaker.ts";
import type { GetDestinations } from "../shares/strangers.ts";
import { signRequest } from "../endpoint/webhook.ts";

export type NotifyDeps = {
  store: Pick<Store, "outbox" | "mailboxes">;
  circuitBreakers: CircuitBreakers;
  getDestinations: GetDestinations;
  findPause: (mailbox: Mailbox) => Promise<unknown>;
  post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome>;
  emit: Emit;
  backoff: Backoff;
  retryHours: number;
};

/** While a person has paused the endpoint, it is looked at again after the longest rest of a failing one. */
const PAUSE_CHECK = 6;

/**
 * Posts the event once. The task repeats on the schedule of deliveries until the endpoint accepts the event or
 * RETRY_HOURS have passed. The webhook-id is the same in every attempt.
 */
export async function notify(
  deps: NotifyDeps,
  task: NotifyTask,
  tries: number,
  signal: AbortSignal,
): Promise<TaskOutcome | Later> {
  const { outbox, mailboxes } = deps.store;
  const [found, sending] = [await mailboxes.get(task.mailbox), await outbox.get(task.sending)];
  if (!found || !sending || found.mailbox.endpointGone || found.mailbox.deliver.dialect !== "webhook")
    return { kind: "done" };
  const { mailbox } = found;
  if (await deps.findPause(mailbox))
    return { kind: "later", at: new Date(clock.now() + deps.backoff.rest(PAUSE_CHECK)) };
  const { endpoint: destination } = deps.getDestinations(mailbox);
  const target = { url: mailbox.deliver.url, destination, owner: mailbox.id };
  const permit = await deps.circuitBreakers.acquire(target, signal);
  // A pause is no attempt, else it would lengthen the waits between the attempts.
  if (permit.kind === "rest") return { kind: "later", at: permit.until };
  let outcome: PostOutcome | undefined;
  try {
    outcome = await deps.post(await notificationRequest(mailbox, sending, task), signal);
  } finally {
    permit.release(outcome);
  }
  if (outcome.kind === "accepted") return { kind: "done" };
  const expired = clock.now() - Date.parse(task.at) > deps.retryHours * 3_600_000;
  const { reason, retry, retryAt } = outcome;
  const backoffAt = new Date(clock.now() + deps.backoff.redeliver(tries));
  const at = retryAt && retryAt > backoffAt ? retryAt : backoffAt;
  const givenUp = expired || retry === "never";
  const about = { mailbox: task.mailbox, sending: task.sending, event: task.event };
  deps.emit({ kind: "send.notify_failed", ...about, reason, retryAt: givenUp ? null : at.toISOString() });
  return givenUp ? { kind: "done" } : { kind: "again", task, at };
}

function notificationRequest(mailbox: Mailbox, sending: Sending, task: NotifyTask): Promise<WireRequest> {
  const { event, recipient, at } = task;
  const body: MessageSent = {
    type: `message.${event}`,
    timestamp: at,
    data: { ...toSendingView(sending), recipient },
  };
  const suffix = recipient === null ? "" : `_${sending.recipients.findIndex((one) => one.address === recipient)}`;
  const id = `evt_${sending.id.replace(/^snd_/, "")}_${event}${suffix}`;
  return signRequest(
    mailbox,
    { id, contentType: "application/json", headers: {}, body: JSON.stringify(body) },
    new Date(),
  );
}
