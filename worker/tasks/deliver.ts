/** A `deliver` task: claims its messages, downloads them together, delivers each, and settles every one of them. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { FetchedMessage, MessageRef } from "../../shared/contract/message.ts";
import type { DeliverTask, TaskOutcome, Tried } from "../../shared/contract/task.ts";
import { isAbortError } from "../../shared/run.ts";
import { deliveryId, fingerprintInTurns } from "../../shared/mail/fingerprint.ts";
import type { Identity, Store } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";
import { findAgeReason } from "../delivery/age.ts";
import { attempt, type AttemptDeps } from "../delivery/attempt.ts";
import { DIALECT_HOOKS } from "../endpoint/dialect.ts";
import { withClaimHeartbeat, recheckDelayMs } from "../delivery/claim-heartbeat.ts";
import { download, type Downloads } from "../delivery/download.ts";
import { filterAfterDownload, filterBeforeDownload } from "../delivery/filtered.ts";
import { newDelivery } from "../delivery/new-delivery.ts";
import { settleRenumbered } from "../delivery/renumbered.ts";
import {
  closeWithheld,
  findParked,
  isOwnFault,
  parkWithheld,
  showDownloadFault,
  toDownloadFault,
  wasDeliveredSince,
  withheldId,
} from "../delivery/withheld.ts";
import type { ReaderPool } from "../mail/reader-pool.ts";
import { MEMORY_LIMITS, type MemoryShares } from "../shares/memory.ts";
import { awaitsLogin, toRetryableProblem } from "../mail/login-wait.ts";

export type DeliverDeps = AttemptDeps & {
  store: Store;
  readers: ReaderPool;
  memory: MemoryShares;
  retryHours: number;
  claimMs: number;
};

/** How long content that is being delivered from one place blocks the same content from another place. */
const CONTENT_CLAIM_MS = 150_000;
/** After this many tries (about half an hour) a message that the server does not give is parked. */
const MAX_FETCH_ATTEMPTS = 10;
/** How often the server must say that a message is gone, over different connections. */
const MAX_ABSENT_ANSWERS = 3;

/** `onFetched` is called when the download is over and the messages wait for the endpoint. */
type Claimed = { mine: MessageRef[]; task: DeliverTask; onFetched: () => void };
/** Messages to try again, and how often each was tried in vain. */
type Unfinished = { messages: MessageRef[]; tried: Record<string, Tried> };

/**
 * Delivers every message of the task that is not done and that no other worker has claimed. When this resolves, each
 * message is done (delivered, spooled, parked, gone, or a duplicate) or part of the `again` outcome. If this throws,
 * the messages are free again.
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
  if (awaitsLogin(found.state)) return { kind: "again", task, at: new Date(clock.now() + deps.backoff.login(1)) };
  const bytes = task.messages.reduce((sum, { size }) => sum + size, 0);
  const { mail, endpoint } = deps.getDestinations(mailbox);
  const isPaused = deps.circuitBreakers.isPaused(mailbox.deliver.url);
  const request = { owner: mailbox.id, bytes, heldFor: mail, nextFor: isPaused ? undefined : endpoint };
  using memory = await deps.memory.acquire(request, MEMORY_LIMITS, signal);
  const onFetched = () => memory.moveTo(endpoint);
  const claims = await deps.store.ledger.claim(mailbox.id, task.messages, deps.claimMs);
  const mine = task.messages.filter((_ref, index) => claims[index] === "yours");
  const busy = task.messages.filter((_ref, index) => claims[index] === "busy");
  const unfinished = await deliverClaimed(deps, mailbox, { mine, task, onFetched }, signal);
  const messages = [...busy, ...unfinished.messages];
  if (messages.length === 0) return { kind: "done" };
  const { tried: _tried, ...order } = task;
  const counted = { ...countsOf(task, busy), ...unfinished.tried };
  const tried = Object.keys(counted).length > 0 ? { tried: counted } : {};
  const at = new Date(clock.now() + waitBeforeRetry(deps, { busy, mine, unfinished, tries }));
  return { kind: "again", task: { ...order, messages, ...tried }, at };
}

/** What was counted before of these messages. */
function countsOf({ tried = {} }: Pick<DeliverTask, "tried">, messages: MessageRef[]): Record<string, Tried> {
  const uids = messages.map(({ uid }) => String(uid));
  return Object.fromEntries(Object.entries(tried).filter(([uid]) => uids.includes(uid)));
}

/** Milliseconds until the rest is tried again. */
function waitBeforeRetry(
  { backoff, claimMs }: DeliverDeps,
  rest: { busy: MessageRef[]; mine: MessageRef[]; unfinished: Unfinished; tries: number },
): number {
  const { busy, mine, unfinished, tries } = rest;
  // The worker that has claimed the busy messages may be dead. So they are checked again soon, not by the schedule of
  // failures.
  if (busy.length > 0) return recheckDelayMs(claimMs);
  const times = Object.values(unfinished.tried).map(({ absent, failed }) => absent + failed);
  if (times.length > 0) return backoff.task(Math.min(...times));
  return unfinished.messages.length === mine.length ? backoff.task(tries) : recheckDelayMs(claimMs);
}

/** Returns the messages to try again. If it throws, all unsettled messages are released first. */
async function deliverClaimed(
  deps: DeliverDeps,
  mailbox: Mailbox,
  claimed: Claimed,
  signal: AbortSignal,
): Promise<Unfinished> {
  const { mine } = claimed;
  if (mine.length === 0) return { messages: [], tried: {} };
  const pending = new Set(mine);
  try {
    return await withClaimHeartbeat(
      deps.claimMs,
      () => deps.store.ledger.renew(mailbox.id, [...pending], deps.claimMs),
      () => deliverPending(deps, mailbox, { ...claimed, pending }, signal),
    );
  } finally {
    if (pending.size > 0) await deps.store.ledger.release(mailbox.id, [...pending]);
  }
}

/** Removes settled messages from `pending`. */
async function deliverPending(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { mine, task, pending, onFetched }: Claimed & { pending: Set<MessageRef> },
  signal: AbortSignal,
): Promise<Unfinished> {
  const wanted = await filterBeforeDownload(deps, mailbox, mine, signal);
  for (const ref of mine) if (!wanted.includes(ref)) pending.delete(ref);
  const { tried = {} } = task;
  const suspects = new Set(wanted.filter(({ uid }) => tried[uid] !== undefined));
  const timesFailed = ({ uid }: MessageRef) => tried[uid]?.failed ?? 0;
  const messages = wanted.toSorted((a, b) => timesFailed(a) - timesFailed(b));
  const askedAt = new Date().toISOString();
  const downloads = await download(deps, mailbox, { messages, suspects }, signal);
  onFetched();
  // Before the others are delivered, so that whoever receives those finds the reason why one is missing.
  if (downloads.failed.size > 0 || mailbox.downloads)
    await showDownloadFault(deps, mailbox, toDownloadFault(downloads.failed));
  const unfinished: Unfinished = { messages: [], tried: {} };
  const outcomes = [...downloads.fetched].map(async ([ref, message]) => {
    signal.throwIfAborted();
    if (await deliverOne(deps, mailbox, { message, task }, signal)) pending.delete(ref);
    else unfinished.messages.push(ref);
  });
  throwFirst(await Promise.allSettled(outcomes));
  for (const ref of await settleUndelivered(deps, mailbox, { downloads, task, askedAt, unfinished }, signal))
    pending.delete(ref);
  const { fault } = downloads;
  if (fault?.code === "gone") {
    const left = wanted.filter((ref) => pending.has(ref));
    const { settled, absent } = await settleRenumbered(deps, mailbox, { ...task, messages: left }, signal);
    settled.push(...(await settleAbsent(deps, mailbox, { absent, task, askedAt, unfinished })));
    for (const ref of settled) pending.delete(ref);
    unfinished.messages = wanted.filter((ref) => pending.has(ref));
  } else if (fault) throw toRetryableProblem(fault, deps.backoff.login(2));
  return unfinished;
}

type Undelivered = { downloads: Downloads; task: DeliverTask; askedAt: string; unfinished: Unfinished };

/**
 * Counts the messages that were not downloaded, settles those that are certainly gone, and parks those after the last
 * try. Returns the settled ones.
 */
async function settleUndelivered(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { downloads, task, askedAt, unfinished }: Undelivered,
  signal: AbortSignal,
): Promise<MessageRef[]> {
  const { absent, failed, fetched, postponed } = downloads;
  const settled = await settleAbsent(deps, mailbox, { absent, task, askedAt, unfinished });
  const again = (ref: MessageRef, times: Tried) => {
    unfinished.messages.push(ref);
    unfinished.tried[ref.uid] = times;
  };
  unfinished.messages.push(...postponed);
  Object.assign(unfinished.tried, countsOf(task, postponed));
  for (const [ref, problem] of failed) {
    const { failed: before = 0, since = askedAt } = task.tried?.[ref.uid] ?? {};
    const times = { absent: 0, failed: before + 1, since };
    const { code, message: cause } = problem;
    const { folder, uid } = ref;
    deps.emit({ kind: "mail.download_failed", mailbox: mailbox.id, folder, uid, failure: { code, cause } });
    if (times.failed < MAX_FETCH_ATTEMPTS) again(ref, times);
    else if (await isOwnFault(deps, mailbox, { ref, failed, fetched: fetched.size, since: times.since }, signal)) {
      const id = await findParked(deps, mailbox, ref, task.replays?.[ref.uid]);
      const delivery = newDelivery(deps, mailbox, { id, ref, flags: [] });
      await parkWithheld(deps, delivery, problem);
      settled.push(ref);
    } else again(ref, { ...times, failed: MAX_FETCH_ATTEMPTS / 2 });
  }
  return settled;
}

/** Messages that the server did not show. Returns those that it did not show several times: they are gone. */
async function settleAbsent(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { absent, task, askedAt, unfinished }: Omit<Undelivered, "downloads"> & { absent: MessageRef[] },
): Promise<MessageRef[]> {
  const gone: MessageRef[] = [];
  for (const ref of absent) {
    const { absent: before = 0, since = askedAt } = task.tried?.[ref.uid] ?? {};
    if (before + 1 >= MAX_ABSENT_ANSWERS) gone.push(ref);
    else {
      unfinished.messages.push(ref);
      unfinished.tried[ref.uid] = { absent: before + 1, failed: 0, since };
    }
  }
  if (gone.length === 0) return gone;
  await deps.store.ledger.markDone(mailbox.id, gone);
  for (const { folder, uid } of gone) deps.emit({ kind: "mail.gone", mailbox: mailbox.id, folder, uid });
  return gone;
}

/** True if the message is settled, false to try it again. */
async function deliverOne(
  deps: DeliverDeps,
  mailbox: Mailbox,
  { message, task: { again, backlog, seenAt, replays } }: { message: FetchedMessage; task: DeliverTask },
  signal: AbortSignal,
) {
  const { ref, raw, flags, leftOut } = message;
  const reason =
    DIALECT_HOOKS[mailbox.deliver.dialect]?.skipReason(flags) ??
    (again ? undefined : findAgeReason(mailbox, message, backlog));
  if (reason !== undefined) {
    await deps.store.ledger.markDone(mailbox.id, [ref]);
    deps.emit({ kind: "mail.skipped", mailbox: mailbox.id, folder: ref.folder, uid: ref.uid, reason });
    return true;
  }
  if (await filterAfterDownload(deps, mailbox, message, signal)) return true;
  // Graph makes the boundaries between the parts anew at each download.
  const ignoresBoundaries = mailbox.receive.protocol === "graph";
  const contentFingerprint = await fingerprintInTurns(raw, { ignoresBoundaries });
  const { kind, sharesContent: twin } = await identify(deps, mailbox, { ref, raw, contentFingerprint });
  if (kind === "busy") return false;
  const id = deliveryId(mailbox.id, contentFingerprint, twin ? ref : undefined);
  const replayed = replays?.[ref.uid] ?? (again ? withheldId(mailbox, ref) : undefined);
  const isReplay = again || replayed === id;
  if (kind === "duplicate" && !isReplay) {
    await deps.store.ledger.markDone(mailbox.id, [ref]);
    deps.emit({ kind: "mail.duplicate", mailbox: mailbox.id, folder: ref.folder, uid: ref.uid });
    // Content that was delivered before the replayed message was parked is of another message.
    if (replayed && (await wasDeliveredSince(deps, replayed, id))) await closeWithheld(deps, replayed, id);
    return true;
  }
  const previous = isReplay ? await deps.store.deliveries.get(id) : undefined;
  const delivery = {
    ...newDelivery(deps, mailbox, { id, ref, flags }),
    ...(leftOut && { leftOut }),
    ...(seenAt !== undefined && { seenAt }),
    ...(previous && { attempts: previous.attempts, attemptCount: previous.attemptCount }),
  };
  await attempt(deps, mailbox, delivery, raw, signal);
  if (replayed) await closeWithheld(deps, replayed, id);
  return true;
}

/**
 * What the ledger knows about the content. A message of Exchange Web Services is also recorded in the way in which Graph
 * shows it, for the time after the mailbox has moved there.
 */
async function identify(
  { store }: DeliverDeps,
  { id, receive }: Mailbox,
  { ref, raw, contentFingerprint }: { ref: MessageRef; raw: Uint8Array; contentFingerprint: string },
): Promise<Identity> {
  const identity = await store.ledger.identify(id, ref, contentFingerprint, CONTENT_CLAIM_MS);
  const atGraph =
    receive.protocol === "ews" ? await fingerprintInTurns(raw, { ignoresBoundaries: true }) : contentFingerprint;
  if (identity.kind !== "new" || atGraph === contentFingerprint) return identity;
  const { kind } = await store.ledger.identify(id, ref, atGraph, CONTENT_CLAIM_MS);
  return { ...identity, kind };
}

/** Throws the stop before any failure, because a stop counts as no try. */
function throwFirst(results: PromiseSettledResult<void>[]): void {
  const reasons = results.flatMap((result) => (result.status === "rejected" ? [result.reason as unknown] : []));
  if (reasons.length > 0) throw reasons.find(isAbortError) ?? reasons[0];
}
