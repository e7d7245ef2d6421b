/**
 * Decides whether a task starts now. A task that would wait for a busy or silent stranger (a mail host, an endpoint, a
 * relay) is put off. Every queue calls `perform` through this, so the rules are the same for all. A queue gives out
 * many more tasks than the process could work on, because most of them wait for an answer.
 */
import type { Task } from "../../shared/contract/task.ts";
import type { PerformTask } from "../../shared/queue/queue.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { clock, jitter } from "../../shared/time.ts";
import { type Destination, LineFull, type Lines } from "./lines.ts";
import { type Destinations, destinationsOfTask, type GetDestinations } from "./strangers.ts";

export type AdmissionDeps = {
  mailboxes: Pick<Mailboxes, "get">;
  lines: Lines;
  getDestinations: GetDestinations;
  /** Nobody waits for a paused endpoint. The attempt itself spools a message for it. */
  isPaused: (url: string) => boolean;
  /** How many tasks may be in hand at the same time. */
  inHand: number;
};

/** The part of the tasks in hand that may wait for strangers that do not answer. */
const NOT_ANSWERING = { silent: 1 / 4, doubtful: 1 / 2 };
/** When a task is offered again if too many tasks wait for strangers that do not answer. */
const OFFER_AGAIN_MS = 2_000;
/** A task that started this short a time ago may not be in its line yet. */
const COMING_MS = 1_000;
/** How long a mailbox's servers are cached. After a change its tasks may wait in the old line for this time. */
const KNOWN_MS = 5_000;
const MOST_KNOWN = 10_000;

/** `perform` for the queues. Its outcome is `later` if the task was not started. */
export function admitInTurn(deps: AdmissionDeps, perform: PerformTask): PerformTask {
  const getExpected = expectations(deps);
  const inHand = new Map<Destination[], number>();

  const countInHand = (isSo: (destination: Destination) => boolean, since = -Infinity) => {
    let count = 0;
    for (const [destinations, begunAt] of inHand) if (begunAt >= since && destinations.some(isSo)) count += 1;
    return count;
  };
  const isSilent = (destination: Destination) => deps.lines.standing(destination) === "silent";
  const isDoubtful = (destination: Destination) => deps.lines.standing(destination) !== "answering";

  const offerAgainAt = (task: Task, destinations: Destination[]): Date | undefined => {
    for (const destination of destinations) {
      const isSame = ({ own }: Destination) => own.name === destination.own.name;
      const coming = countInHand(isSame, performance.now() - COMING_MS);
      const at = deps.lines.offerAgainAt(destination, task.mailbox, coming);
      if (at) return at;
    }
    const tooMany =
      (destinations.some(isSilent) && countInHand(isSilent) >= deps.inHand * NOT_ANSWERING.silent) ||
      (destinations.some(isDoubtful) && countInHand(isDoubtful) >= deps.inHand * NOT_ANSWERING.doubtful);
    return tooMany ? new Date(clock.now() + jitter(OFFER_AGAIN_MS)) : undefined;
  };

  return async (task, attempt, signal) => {
    const destinations = await getExpected(task);
    const at = offerAgainAt(task, destinations);
    if (at) return { kind: "later", at };
    inHand.set(destinations, performance.now());
    try {
      return await perform(task, attempt, signal);
    } catch (error) {
      if (error instanceof LineFull && !signal.aborted) return { kind: "later", at: error.at };
      throw error;
    } finally {
      inHand.delete(destinations);
    }
  };
}

/** Finds the destinations that a task waits for. */
function expectations({ mailboxes, getDestinations, isPaused }: AdmissionDeps) {
  const known = new Map<string, { to: Destinations; url: string; until: number }>();

  const getMailbox = async (id: string) => {
    const found = known.get(id);
    if (found && found.until > performance.now()) return found;
    known.delete(id);
    const mailbox = (await mailboxes.get(id))?.mailbox;
    if (!mailbox) return undefined;
    if (known.size >= MOST_KNOWN) known.clear();
    const fresh = { url: mailbox.deliver.url, to: getDestinations(mailbox), until: performance.now() + KNOWN_MS };
    known.set(id, fresh);
    return fresh;
  };

  return async (task: Task): Promise<Destination[]> => {
    const found = await getMailbox(task.mailbox);
    if (!found) return [];
    const { to, url } = found;
    return destinationsOfTask(to, task, isPaused(url));
  };
}
