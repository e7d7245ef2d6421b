/** A `deliver` task: claim its messages, fetch them in one go, deliver each, and account for every one. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { FetchedMessage, MessageRef } from "../../shared/contract/message.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { DeliverTask, TaskOutcome } from "../../shared/contract/task.ts";
import { isAbort } from "../../shared/run.ts";
import { deliveryId, fingerprint } from "../../shared/mail/fingerprint.ts";
import type { Store } from "../../shared/store/store.ts";
import { attempt, type Delivering } from "../delivery/attempt.ts";
import type { Budget } from "../budget.ts";
import { MANNERS } from "../endpoint/dialect.ts";
import { holding, lookAgainMs } from "../delivery/claim-heartbeat.ts";
import { awaitsLogin, forLater } from "../load.ts";
import { filteredAfter, filteredBefore } from "../delivery/filtered.ts";
import type { Readers } from "../mail/reader-pool.ts";

export type DeliverDeps = Delivering & {
  store: Store;
  readers: Readers;
  budget: Budget;
  retryHours: number;
  takenMs: number;
};

/** How long content that is being delivered from one place keeps the same content elsewhere waiting. */
const CONTENT_MS = 150_000;
/** Tries (about half an hour of them) after which a message the server refuses to give is parked. */
const TRIES_TO_FETCH = 10;

/**
 * Delivers every message of the task that is neither done nor in somebody else's hands. A message is either done when this
 * resolves (delivered, waiting in the spool, parked, gone, or a duplicate) or part of the `again` outcome, or free again
 * because this threw.
 */
export async function deliver(
  deps: DeliverDeps,
  task: DeliverTask,
  tries: number,
  signal: AbortSignal,
): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  const { mailbox } = found;
  if (awaitsLogin(found.state)) return { kind: "again", task, at: new Date(Date.now() + deps.backoff.login(1)) };
  const bytes = task.messages.reduce((sum, { size }) => sum + size, 0);
  const release = await deps.budget.take(bytes, signal);
  try {
    const claims = await deps.store.ledger.claim(mailbox.id, task.messages, deps.takenMs);
    const mine = task.messages.filter((_, index) => claims[index] === "yours");
    const busy = task.messages.filter((_, index) => claims[index] === "busy");
    const left = await deliverClaimed(deps, mailbox, { mine, bytes, again: task.again, tries }, signal);
    const rest = [...busy, ...left];
    if (rest.length === 0) return { kind: "done" };
    // Whoever holds the busy ones may have died: they are looked at again soon, not by the schedule of failures.
    const wait =
      busy.length === 0 && left.length === mine.length ? deps.backoff.task(tries) : lookAgainMs(deps.takenMs);
    return { kind: "again", task: { ...task, messages: rest }, at: new Date(Date.now() + wait) };
  } finally {
    release();
  }
}

/** Returns the messages to look at again; on a throw all unfinished ones have been given back. */
async function deliverClaimed(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { mine, bytes, again, tries }: { mine: MessageRef[]; bytes: number; again: boolean; tries: number },
  signal: AbortSignal,
): Promise<MessageRef[]> {
  if (mine.length === 0) return [];
  const open = new Set(mine);
  const rest: MessageRef[] = [];
  const work = async () => {
    const wanted = await filteredBefore(deps, mailbox, mine, signal);
    for (const ref of mine) if (!wanted.includes(ref)) open.delete(ref);
    if (wanted.length === 0) return rest;
    const fetched = await fetchAll(deps, mailbox, { mine: wanted, bytes }, signal);
    const gone = wanted.filter((ref) => !fetched.has(ref));
    await settle(deps, mailbox, gone, open);
    const outcomes = [...fetched].map(async ([ref, message]) => {
      signal.throwIfAborted();
      const finished =
        message instanceof Problem
          ? await unfetched(deps, mailbox, ref, { problem: message, tries })
          : await one(deps, mailbox, { message, again }, signal);
      if (finished) open.delete(ref);
      else rest.push(ref);
    });
    throwFirst(await Promise.allSettled(outcomes));
    return rest;
  };
  try {
    return await holding(deps.takenMs, () => deps.store.ledger.keep(mailbox.id, [...open], deps.takenMs), work);
  } finally {
    if (open.size > 0) await deps.store.ledger.release(mailbox.id, [...open]);
  }
}

async function fetchAll(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { mine, bytes }: { mine: MessageRef[]; bytes: number },
  signal: AbortSignal,
) {
  const byUid = new Map(mine.map((ref) => [ref.uid, ref]));
  const fetched = new Map<MessageRef, FetchedMessage | Problem>();
  const read = async () => {
    await deps.readers.use(
      mailbox,
      bytes,
      async (connection) => {
        for await (const got of connection.fetch(mine, signal)) {
          const ref = byUid.get(got.ref.uid);
          if (ref) fetched.set(ref, "problem" in got ? got.problem : got);
        }
      },
      signal,
    );
  };
  await read().catch((error: unknown) => {
    // A renumbered folder: the subscription reads it again and hands these messages over under their new numbers.
    if (asProblem(error).code !== "gone") throw signal.aborted ? error : forLater(error, deps.backoff.login(2));
    fetched.clear();
  });
  return fetched;
}

async function settle(deps: DeliverDeps, mailbox: Mailbox, gone: MessageRef[], open: Set<MessageRef>): Promise<void> {
  if (gone.length === 0) return;
  await deps.store.ledger.settle(mailbox.id, gone);
  for (const ref of gone) {
    open.delete(ref);
    deps.emit({ kind: "mail.gone", mailbox: mailbox.id, folder: ref.folder, uid: ref.uid });
  }
}

/** A message the server will not give is asked for again, and in the end parked without bytes, where a person sees it. */
async function unfetched(
  deps: DeliverDeps,
  mailbox: Mailbox,
  ref: MessageRef,
  { problem, tries }: { problem: Problem; tries: number },
) {
  const { code, message } = problem;
  const { folder, uid } = ref;
  deps.emit({ kind: "mail.unfetched", mailbox: mailbox.id, folder, uid, failure: { code, cause: message } });
  if (tries < TRIES_TO_FETCH) return false;
  const delivery = newDelivery(deps, mailbox, { id: deliveryId(mailbox.id, "", ref), ref, flags: [] });
  const reason = `the mail server does not give this message: ${message}`;
  await deps.store.deliveries.save({ ...delivery, state: "parked", reason });
  deps.emit({
    kind: "mail.parked",
    mailbox: mailbox.id,
    delivery: delivery.id,
    endpoint: delivery.endpoint,
    attempts: 0,
    reason,
  });
  return true;
}

/** True when the message is accounted for, false to look at it again. */
async function one(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { message, again }: { message: FetchedMessage; again: boolean },
  signal: AbortSignal,
) {
  const { ref, raw, flags } = message;
  const reason = MANNERS[mailbox.deliver.dialect]?.refuses(flags);
  if (reason !== undefined) {
    await deps.store.ledger.settle(mailbox.id, [ref]);
    deps.emit({ kind: "mail.skipped", mailbox: mailbox.id, folder: ref.folder, uid: ref.uid, reason });
    return true;
  }
  if (await filteredAfter(deps, mailbox, message, signal)) return true;
  const print = fingerprint(raw);
  const { kind, twin } = await deps.store.ledger.identify(mailbox.id, ref, print, CONTENT_MS);
  if (kind === "busy") return false;
  if (kind === "duplicate" && !again) {
    await deps.store.ledger.settle(mailbox.id, [ref]);
    deps.emit({ kind: "mail.duplicate", mailbox: mailbox.id, folder: ref.folder, uid: ref.uid });
    return true;
  }
  const id = deliveryId(mailbox.id, print, twin ? ref : undefined);
  const before = again ? await deps.store.deliveries.get(id) : undefined;
  const delivery = {
    ...newDelivery(deps, mailbox, { id, ref, flags }),
    ...(before && { attempts: before.attempts, attemptCount: before.attemptCount }),
  };
  await attempt(deps, mailbox, delivery, raw, signal);
  return true;
}

function newDelivery(deps: DeliverDeps, mailbox: Mailbox, of: Pick<Delivery, "id" | "ref" | "flags">): Delivery {
  const now = new Date();
  return {
    ...of,
    mailbox: mailbox.id,
    endpoint: new URL(mailbox.deliver.url).origin,
    state: "retrying",
    attempts: [],
    attemptCount: 0,
    createdAt: now.toISOString(),
    giveUpAt: new Date(now.getTime() + deps.retryHours * 3_600_000).toISOString(),
    updatedAt: now.toISOString(),
    nextAttemptAt: null,
    reason: null,
    spooled: false,
  };
}

/** A shutdown is thrown before any fault: it is no failed try. */
function throwFirst(results: PromiseSettledResult<void>[]): void {
  const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  if (reasons.length > 0) throw reasons.find(isAbort) ?? reasons[0];
}
