/** A `notify` task: the endpoint hears by a signed webhook what became of a sending. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { type MessageSent, type Sending, shownSending } from "../../shared/contract/sending.ts";
import type { NotifyTask, TaskOutcome } from "../../shared/contract/task.ts";
import type { Store } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import type { PostOutcome, WireRequest } from "../endpoint/endpoint.ts";
import type { EndpointGates } from "../endpoint/circuit-breaker.ts";
import { signedRequest } from "../endpoint/webhook.ts";

export type NotifyDeps = {
  store: Pick<Store, "outbox" | "mailboxes">;
  gates: EndpointGates;
  post: (request: WireRequest, signal: AbortSignal) => Promise<PostOutcome>;
  emit: Emit;
  backoff: Backoff;
  retryHours: number;
};

/**
 * Posts the event once and puts itself back on the schedule of deliveries until the endpoint accepts it or the hours of retrying are
 * over. The webhook-id is the same in every attempt.
 */
export async function notify(
  deps: NotifyDeps,
  task: NotifyTask,
  tries: number,
  signal: AbortSignal,
): Promise<TaskOutcome> {
  const { outbox, mailboxes } = deps.store;
  const [found, sending] = [await mailboxes.get(task.mailbox), await outbox.get(task.sending)];
  if (!found || !sending || found.mailbox.endpointGone || found.mailbox.deliver.dialect !== "webhook")
    return { kind: "done" };
  const endpoint = new URL(found.mailbox.deliver.url).origin;
  const entry = await deps.gates.enter(endpoint, signal);
  if (entry.kind === "rest") return { kind: "again", task, at: entry.until };
  let outcome: PostOutcome | undefined;
  try {
    outcome = await deps.post(requestFor(found.mailbox, sending, task), signal);
  } finally {
    entry.leave(outcome);
  }
  if (outcome.kind === "accepted") return { kind: "done" };
  const late = Date.now() - Date.parse(task.at) > deps.retryHours * 3_600_000;
  const { reason, retry, retryAt } = outcome;
  const own = new Date(Date.now() + deps.backoff.redeliver(tries));
  const at = retryAt && retryAt > own ? retryAt : own;
  const over = late || retry === "never";
  const about = { mailbox: task.mailbox, sending: task.sending, event: task.event };
  deps.emit({ kind: "send.untold", ...about, reason, retryAt: over ? null : at.toISOString() });
  return over ? { kind: "done" } : { kind: "again", task, at };
}

function requestFor(mailbox: Mailbox, sending: Sending, task: NotifyTask): WireRequest {
  const { event, recipient, at } = task;
  const body: MessageSent = {
    type: `message.${event}`,
    timestamp: at,
    data: { ...shownSending(sending), recipient },
  };
  const nth = recipient === null ? "" : `_${sending.recipients.findIndex((one) => one.address === recipient)}`;
  const id = `evt_${sending.id.replace(/^snd_/, "")}_${event}${nth}`;
  return signedRequest(
    mailbox,
    { id, contentType: "application/json", headers: {}, body: JSON.stringify(body) },
    new Date(),
  );
}
