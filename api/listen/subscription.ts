/**
 * Keeps the subscription of one mailbox running: connects, watches, waits after failures, and pauses where only a
 * person can help.
 */
import { applicationOf } from "../../shared/contract/application.ts";
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import { asProblem, type Problem } from "../../shared/contract/problem.ts";
import { isPolled } from "../../shared/mail/defaults.ts";
import type { MailConnection, WatchEvent } from "../../shared/mail/mail.ts";
import { LOGINS_BEFORE_ATTENTION, type LoginGate } from "../../shared/mail/net/login-gate.ts";
import { isUnclearRefusal } from "../../shared/mail/problems.ts";
import { isForDomain, withGraphHint } from "../../shared/served-mailboxes.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { type Backoff, clock, sleep } from "../../shared/time.ts";
import type { Lease } from "../lease/lease.ts";
import type { ConnectionBoard } from "./connections.ts";
import type { MailboxStates, StateReporter } from "./states.ts";
import { watchMailbox, type WatchMailboxDeps } from "./watch.ts";

export type RunSubscriptionDeps = WatchMailboxDeps & {
  mailboxes: Pick<Mailboxes, "get">;
  board: MailboxStates;
  connections: Pick<ConnectionBoard, "note" | "forget">;
  backoff: Backoff;
  logins?: Pick<LoginGate, "refusalOf">;
  /** Called with the application that the mailbox names. The connection was, or will be, made with it. */
  noteApplication?: (mailbox: string, application: string) => void;
  /** Creates a connection to this mailbox. It is not open yet. */
  connect: (mailbox: Mailbox) => MailConnection;
  /** The connections of the running subscriptions, by mailbox. Workers in this process may borrow them. */
  watched: Map<string, MailConnection>;
};

/** In place of an application's id, where each of them may become the mailbox's, by its domain. */
export const ANY_APPLICATION = "*";
const DAY_MS = 24 * 3_600_000;
const HOUR_MS = 3_600_000;
/** If a subscription worked for this long, the next failure counts as the first. */
const HEALTHY_AFTER_MS = 60_000;

/**
 * Runs until the lease ends, the mailbox is paused or gone, or another node owns it. It handles failures of the mail
 * server itself, and rejects only when the store fails.
 */
export async function runSubscription(deps: RunSubscriptionDeps, id: string, lease: Lease): Promise<void> {
  const first = await deps.mailboxes.get(id);
  if (!first) return;
  const own = applicationOf(first.mailbox.receive.auth);
  const application = own ?? (isForDomain(first.mailbox) ? ANY_APPLICATION : undefined);
  if (application !== undefined) deps.noteApplication?.(id, application);
  const reporter = deps.board.reporter(first);
  if (!(await sleep(remainingLoginPause(first.state), lease.signal))) return;
  if (reporter.state.status === "paused") reporter.setStatus("initializing", null);
  for (let failures = 1; !lease.signal.aborted; failures += 1) {
    // Read again before each connection, because a refresh token may have been rotated meanwhile.
    const found = await deps.mailboxes.get(id);
    if (!found || found.mailbox.paused) return;
    const { problem, goodMs } = await listenOnce(deps, found.mailbox, reporter, lease);
    if (!problem || problem.code === "conflict") return;
    if (goodMs >= HEALTHY_AFTER_MS) failures = 1;
    const wait = planRetry(deps, reporter, problem, { mailbox: found.mailbox, failures });
    const retryAt = new Date(clock.now() + wait.ms);
    reporter.setStatus(wait.status, problem, retryAt);
    const { code, message } = problem;
    deps.emit({
      kind: "mailbox.disconnected",
      mailbox: id,
      failure: { code, cause: message },
      retryAt: retryAt.toISOString(),
    });
    if (!(await sleep(wait.ms, lease.signal))) return;
  }
}

/** The rest of the wait after a refused login, in milliseconds. A restart or another owner does not shorten it. */
function remainingLoginPause({ failedLogins, problem }: MailboxState): number {
  const until = failedLogins > 0 && problem?.retryAt ? Date.parse(problem.retryAt) : 0;
  return Math.max(0, until - clock.now());
}

/**
 * One connection from opening to its end. `goodMs` is how long it is known to have worked. Without a problem the lease
 * ended.
 */
async function listenOnce(
  deps: RunSubscriptionDeps,
  mailbox: Mailbox,
  reporter: StateReporter,
  lease: Lease,
): Promise<{ problem?: Problem; goodMs: number }> {
  let healthySince: number | undefined;
  const notify = (sign: WatchEvent | { kind: "arrival" }) => {
    if (sign.kind === "connected") {
      healthySince = performance.now();
      reporter.clearFailedLogins();
      reporter.markVerified();
      reporter.setStatus(sign.push ? "listening" : "polling", null);
      deps.emit({ kind: "mailbox.connected", mailbox: mailbox.id, push: sign.push, ms: sign.ms });
      noteServer();
    } else if (sign.kind === "arrival") {
      reporter.markArrival();
      if (healthySince === undefined) reporter.setStatus("syncing", null);
    } else if (sign.kind === "folders") reporter.setFolders(sign.problem, sign.watched);
    else if (sign.kind === "slowPush")
      deps.emit({ kind: "mailbox.slow_push", mailbox: mailbox.id, folder: sign.folder });
    else if (sign.kind === "verified") {
      reporter.markVerified();
      noteServer();
    } else if (sign.kind === "ran") reportOverrun(deps, mailbox, sign);
  };
  const noteServer = () => {
    const server = connection.describe?.();
    if (server) deps.connections.note(mailbox.id, server);
  };
  const healthyMs = () => (healthySince === undefined ? 0 : performance.now() - healthySince);
  const connection = deps.connect(mailbox);
  deps.watched.set(mailbox.id, connection);
  try {
    await watchMailbox(deps, mailbox, connection, lease, notify);
    return { goodMs: healthyMs() };
  } catch (error) {
    if (lease.signal.aborted) return { goodMs: healthyMs() };
    return { problem: withGraphHint(asProblem(error), mailbox), goodMs: healthyMs() };
  } finally {
    deps.watched.delete(mailbox.id);
    await connection.close();
  }
}

/** Reports a run that took longer than its interval. The next run handles what is left. */
function reportOverrun(
  { emit }: RunSubscriptionDeps,
  { id, receive }: Mailbox,
  { ms, missed }: { ms: number; missed: number },
): void {
  if (missed > 0)
    emit({ kind: "mailbox.poll_overran", mailbox: id, ms, missed, finished: true, processLock: receive.processLock });
}

/** The status to show after a failure, and how long to wait. */
function planRetry(
  deps: RunSubscriptionDeps,
  reporter: StateReporter,
  problem: Problem,
  { mailbox, failures }: { mailbox: Mailbox; failures: number },
) {
  if (problem.code === "auth" || problem.code === "auth_method") {
    // A refused password is counted over all mailboxes with this login, anything else for this mailbox alone.
    const refused = deps.logins?.refusalOf(problem);
    const times = reporter.countFailedLogin(refused?.times);
    const isLast = times >= LOGINS_BEFORE_ATTENTION;
    const lastMs = wasAcceptedLately(mailbox, reporter.state) ? HOUR_MS : DAY_MS;
    const ms = refused ? Math.max(0, refused.until - clock.now()) : isLast ? lastMs : deps.backoff.login(times);
    return { status: isLast ? "needs_attention" : "reconnecting", ms } as const;
  }
  // A key that is missing here: the other nodes may have it, and take over the mailboxes of this one.
  if (problem.code === "config") return { status: "needs_attention", ms: deps.backoff.reconnect(failures) } as const;
  // Each attempt costs time and memory of this process.
  if (problem.code === "excess") return { status: "needs_attention", ms: HOUR_MS } as const;
  if (problem.retry === "never") return { status: "needs_attention", ms: HOUR_MS } as const;
  const throttled = problem.code === "throttled" || problem.code === "too_many_connections";
  const notBefore = problem.retry instanceof Date ? problem.retry.getTime() - clock.now() : 0;
  const schedule = isUnclearRefusal(problem) ? "unclearLogin" : isPolled(mailbox.receive) ? "poll" : "reconnect";
  const ms = Math.max(notBefore, deps.backoff[schedule](failures));
  return { status: throttled ? "throttled" : "reconnecting", ms } as const;
}

/** These credentials were accepted within a day: more likely something is wrong with the server than with them. */
function wasAcceptedLately({ updatedAt }: Mailbox, { lastVerifiedAt }: MailboxState): boolean {
  const verifiedAt = Date.parse(lastVerifiedAt ?? "");
  return verifiedAt > Date.parse(updatedAt) && verifiedAt > clock.now() - DAY_MS;
}
