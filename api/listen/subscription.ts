/** Keeps one mailbox listened to: connects, watches, waits after failures, and rests where only a person can help. */
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import { asProblem, type Problem } from "../../shared/contract/problem.ts";
import { isPolled } from "../../shared/mail/defaults.ts";
import type { MailConnection, WatchSign } from "../../shared/mail/mail.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { type Backoff, slept } from "../../shared/time.ts";
import type { Lease } from "../lease/lease.ts";
import type { StateBoard, StatePen } from "./states.ts";
import { watchMailbox, type Watching } from "./watch.ts";

export type Listening = Watching & {
  mailboxes: Pick<Mailboxes, "get">;
  board: StateBoard;
  backoff: Backoff;
  /** A connection to this mailbox, not yet opened. */
  connect: (mailbox: Mailbox) => MailConnection;
  /** The connections that are being watched now, by mailbox: workers in this process may borrow them. */
  watched: Map<string, MailConnection>;
};

/** A provider locks the account after some refused logins; the third refusal is the last one a day. */
const LOGINS_BEFORE_ATTENTION = 3;
const DAY_MS = 24 * 3_600_000;
const HOUR_MS = 3_600_000;
/** A subscription that lived this long was a good one: the next failure is the first again. */
const GOOD_AFTER_MS = 60_000;

/**
 * Listens until the lease ends, the mailbox is paused or gone, or another node owns it. Failures of the mail server are ridden
 * out here; it rejects only when the store fails.
 */
export async function keepListening(deps: Listening, id: string, lease: Lease): Promise<void> {
  const first = await deps.mailboxes.get(id);
  if (!first) return;
  const pen = deps.board.pen(first);
  if (!(await slept(restLeft(first.state), lease.signal))) return;
  if (pen.state.status === "paused") pen.to("initializing", null);
  for (let failures = 1; !lease.signal.aborted; failures += 1) {
    // Read again each time: a refresh token may have been exchanged meanwhile.
    const found = await deps.mailboxes.get(id);
    if (!found || found.mailbox.paused) return;
    const { problem, goodMs } = await listenOnce(deps, found.mailbox, pen, lease);
    if (!problem || problem.code === "conflict") return;
    if (goodMs >= GOOD_AFTER_MS) failures = 1;
    const polled = isPolled(found.mailbox.receive);
    const wait = afterFailure(deps, pen, problem, { failures, polled });
    const retryAt = new Date(Date.now() + wait.ms);
    pen.to(wait.status, problem, retryAt);
    const { code, message } = problem;
    deps.emit({
      kind: "mailbox.disconnected",
      mailbox: id,
      failure: { code, cause: message },
      retryAt: retryAt.toISOString(),
    });
    if (!(await slept(wait.ms, lease.signal))) return;
  }
}

/** What is left of the wait after a refused login, in milliseconds: a restart or another owner does not cut it short. */
function restLeft({ failedLogins, problem }: MailboxState): number {
  const until = failedLogins > 0 && problem?.retryAt ? Date.parse(problem.retryAt) : 0;
  return Math.max(0, until - Date.now());
}

/** One connection's life. `goodMs` is how long it was known to hear; no problem means that the lease ended. */
async function listenOnce(
  deps: Listening,
  mailbox: Mailbox,
  pen: StatePen,
  lease: Lease,
): Promise<{ problem?: Problem; goodMs: number }> {
  let goodSince: number | undefined;
  const tell = (sign: WatchSign | { kind: "arrival" }) => {
    if (sign.kind === "connected") {
      goodSince = performance.now();
      pen.loggedIn();
      pen.verified();
      pen.to(sign.push ? "listening" : "polling", null);
      deps.emit({ kind: "mailbox.connected", mailbox: mailbox.id, push: sign.push, ms: sign.ms });
    } else if (sign.kind === "arrival") {
      pen.arrived();
      if (goodSince === undefined) pen.to("syncing", null);
    } else if (sign.kind === "verified") pen.verified();
    else if (sign.kind === "ran") overran(deps, mailbox, sign);
  };
  const good = () => (goodSince === undefined ? 0 : performance.now() - goodSince);
  const connection = deps.connect(mailbox);
  deps.watched.set(mailbox.id, connection);
  try {
    await watchMailbox(deps, mailbox, connection, lease, tell);
    return { goodMs: good() };
  } catch (error) {
    if (lease.signal.aborted) return { goodMs: good() };
    return { problem: asProblem(error), goodMs: good() };
  } finally {
    deps.watched.delete(mailbox.id);
    await connection.close();
  }
}

/** A run that took longer than its interval; what it did not get to is for the next one. */
function overran({ emit }: Listening, { id, receive }: Mailbox, { ms, missed }: { ms: number; missed: number }): void {
  if (missed > 0)
    emit({ kind: "mailbox.overran", mailbox: id, ms, missed, finished: true, locked: receive.processLock });
}

/** How a failure shows and how long to wait after it. */
function afterFailure(
  deps: Listening,
  pen: StatePen,
  problem: Problem,
  { failures, polled }: { failures: number; polled: boolean },
) {
  if (problem.code === "auth" || problem.code === "auth_method") {
    const refused = pen.loginFailed();
    if (refused >= LOGINS_BEFORE_ATTENTION) return { status: "needs_attention", ms: DAY_MS } as const;
    return { status: "reconnecting", ms: deps.backoff.login(refused) } as const;
  }
  if (problem.retry === "never") return { status: "needs_attention", ms: HOUR_MS } as const;
  const throttled = problem.code === "throttled" || problem.code === "too_many_connections";
  const notBefore = problem.retry instanceof Date ? problem.retry.getTime() - Date.now() : 0;
  const ms = Math.max(notBefore, deps.backoff[polled ? "poll" : "reconnect"](failures));
  return { status: throttled ? "throttled" : "reconnecting", ms } as const;
}
