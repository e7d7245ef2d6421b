/**
 * The subscription of one watched mailbox: made, renewed at half its life, and made again when it is gone. It is never
 * needed: without it the mailbox is polled.
 */
import * as v from "valibot";
import { wakeup } from "../../../concurrency/wakeup.ts";
import { asProblem, Problem } from "../../../contract/problem.ts";
import { clock, jitter } from "../../../time.ts";
import { GraphRefusal } from "../client/errors.ts";
import type { GraphSession } from "../client/session.ts";
import type { GraphPush, NotificationAddress } from "./push.ts";

export type SubscriptionWish = {
  session: GraphSession;
  push: GraphPush;
  mailbox: string;
  address: NotificationAddress;
  /** What is watched: `users/<id>/messages`, or the messages of one folder. */
  resource: string;
  /** True for a mailbox that was watched before: after a restart all of them would subscribe at once. */
  spread: boolean;
  /** Compare now: something is new, or may have been missed. */
  onNews: () => void;
  /** Whether notifications come from now on. Without them `problem` says why. */
  onPush: (problem: Problem | null) => void;
};

/** Graph allows seven days. A subscription that nobody wants any more ends within a day, and needs no request for that. */
const LIFE_MS = 24 * 3_600_000;
/** One that an earlier watch has left is used as it is while more than this is left of its life. */
const MIN_LEFT_MS = LIFE_MS / 4;

const Subscription = v.object({ id: v.string(), expirationDateTime: v.string(), notificationUrl: v.string() });
type Subscription = v.InferOutput<typeof Subscription>;

/** Runs until the signal aborts. Never rejects: what fails is reported, and tried again later. */
export async function keepSubscribed(wish: SubscriptionWish, signal: AbortSignal): Promise<void> {
  const { push, onNews, onPush } = wish;
  const due = wakeup();
  let removed = false;
  using _ = push.hints.listen(wish.mailbox, (hint) => {
    if (hint !== "renew") onNews();
    if (hint === "removed") removed = true;
    if (hint === "removed" || hint === "renew") due.trigger();
  });
  if (wish.spread && (await due.wait(Math.random() * push.spreadMs, signal)) === "aborted") return;
  for (let failures = 0; !signal.aborted;) {
    removed = false;
    const problem = await subscribeAndRenew(
      wish,
      { due, isRemoved: () => removed, onMade: () => (failures = 0) },
      signal,
    );
    if (signal.aborted) return;
    if (problem === null) continue;
    onPush(problem);
    const { retry } = problem;
    const asked = retry instanceof Date ? retry.getTime() - clock.now() : 0;
    await due.wait(Math.max(asked, jitter(push.retryMs(++failures))), signal);
  }
}

type Turns = { due: ReturnType<typeof wakeup>; isRemoved: () => boolean; onMade: () => void };

/** Resolves when the subscription is gone (null), or with the problem that ended it. */
async function subscribeAndRenew(wish: SubscriptionWish, turns: Turns, signal: AbortSignal): Promise<Problem | null> {
  try {
    let { id, expirationDateTime } = await subscribe(wish, signal);
    turns.onMade();
    wish.onPush(null);
    // What came before there was a subscription was not notified.
    wish.onNews();
    for (;;) {
      const leftMs = Date.parse(expirationDateTime) - clock.now();
      const how = await turns.due.wait(Math.max(0, jitter(leftMs / 2)), signal);
      if (how === "aborted" || turns.isRemoved()) return null;
      const renewed = await renew(wish.session, id, signal);
      if (renewed === undefined) return null;
      expirationDateTime = renewed;
    }
  } catch (error) {
    return asProblem(error);
  }
}

const inLife = () => new Date(clock.now() + LIFE_MS).toISOString();

/** Makes the subscription, or finds the one that an earlier watch of the same mailbox has left. */
async function subscribe({ session, address, resource }: SubscriptionWish, signal: AbortSignal): Promise<Subscription> {
  const body = { changeType: "created", resource, ...address, expirationDateTime: inLife() };
  try {
    return await session.create("Subscribing", "subscriptions", { body, shape: Subscription }, signal);
  } catch (error) {
    const id = error instanceof GraphRefusal && error.status === 409 ? getExistingId(error) : undefined;
    if (id === undefined) throw explain(error, address);
    const present = await session.get("Reading the subscription", `subscriptions/${id}`, Subscription, signal);
    if (present.notificationUrl !== address.notificationUrl) throw takenProblem();
    if (Date.parse(present.expirationDateTime) - clock.now() > MIN_LEFT_MS) return present;
    const renewed = await renew(session, id, signal);
    if (renewed === undefined) throw new Problem("unavailable", "The subscription at Microsoft Graph has just ended");
    return { ...present, expirationDateTime: renewed };
  }
}

/** The new end. Undefined if Graph has no such subscription any more. */
async function renew(session: GraphSession, id: string, signal: AbortSignal): Promise<string | undefined> {
  const expirationDateTime = inLife();
  const path = `subscriptions/${encodeURIComponent(id)}`;
  const order = { what: "Renewing the subscription", method: "PATCH", path, body: { expirationDateTime } } as const;
  try {
    await session.change(order, signal);
    return expirationDateTime;
  } catch (error) {
    if (error instanceof GraphRefusal && error.status === 404) return undefined;
    throw error;
  }
}

function getExistingId({ evidence }: Problem): string | undefined {
  return /Subscription Id ([\da-f-]{36})/i.exec(evidence ?? "")?.[1];
}

/** Another application's mailbox in this service, or another installation, listens already. Graph allows one. */
function takenProblem(): Problem {
  return new Problem("unavailable", "Microsoft Graph already notifies another address about this mailbox", {
    fix: "The mailbox is polled. For notifications register it once only, or give each installation an application of its own.",
  });
}

/** Graph calls the address before it accepts it. */
function explain(error: unknown, { notificationUrl }: NotificationAddress): unknown {
  if (!(error instanceof GraphRefusal) || error.status !== 400) return error;
  return new Problem("unavailable", `Microsoft Graph cannot send notifications to ${new URL(notificationUrl).origin}`, {
    fix: "Let Microsoft reach PUBLIC_URL by https with a certificate that everybody trusts, or leave it: the mailbox is polled.",
    ...(error.evidence !== null && { evidence: error.evidence }),
  });
}
