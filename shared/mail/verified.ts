/** Whether a mailbox is listened to as far as its server has confirmed it. */
import type { MailboxState, Receive } from "../contract/mailbox.ts";
import { clock } from "../time.ts";
import { isPolled } from "./defaults.ts";
import { nextRun } from "./schedule.ts";

/** The settings that say how often a mailbox is asked. */
export type Periods = { PROBE_SECONDS: number; FOLDER_POLL_SECONDS: number };

/** So late the store may know of a verification. */
const WRITE_DELAY_MS = 60_000;
/** Folders of Graph that are quiet are asked four times as seldom as FOLDER_POLL_SECONDS says. */
const SLOWEST_FOLDER = 4;
/** The interval of most polled mailboxes. */
const USUAL_POLL_MS = 60_000;

/** Whether the state says that the mailbox is listened to. */
export function claimsToListen({ status }: Pick<MailboxState, "status">): boolean {
  return status === "listening" || status === "polling";
}

/** Whether its server has answered within twice the time in which the service asks it. */
export function isVerified(
  receive: Pick<Receive, "mode" | "poll">,
  { lastVerifiedAt }: Pick<MailboxState, "lastVerifiedAt">,
  periods: Periods,
): boolean {
  const verifiedAt = Date.parse(lastVerifiedAt ?? "");
  if (Number.isNaN(verifiedAt)) return false;
  const periodMs = isPolled(receive) ? nextRun(receive.poll, verifiedAt) - verifiedAt : watchPeriodMs(periods);
  return isWithin(verifiedAt, periodMs);
}

/** True if the state is too old for a usual mailbox. Only `isVerified` knows how often this one is asked. */
export function isPerhapsUnverified(state: Pick<MailboxState, "status" | "lastVerifiedAt">, periods: Periods): boolean {
  const periodMs = state.status === "polling" ? USUAL_POLL_MS : watchPeriodMs(periods);
  return claimsToListen(state) && !isWithin(Date.parse(state.lastVerifiedAt ?? ""), periodMs);
}

function isWithin(verifiedAt: number, periodMs: number): boolean {
  return clock.now() - verifiedAt <= 2 * periodMs + WRITE_DELAY_MS;
}

function watchPeriodMs({ PROBE_SECONDS, FOLDER_POLL_SECONDS }: Periods): number {
  return 1000 * Math.max(PROBE_SECONDS, SLOWEST_FOLDER * FOLDER_POLL_SECONDS);
}
