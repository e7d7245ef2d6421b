/** How the console shows a mailbox: its state as far as it is known, its problem, and its servers. */
import type { Config } from "../../../shared/config.ts";
import type { Mailbox, MailboxState } from "../../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemView } from "../../../shared/contract/problem.ts";
import { isPolled } from "../../../shared/mail/defaults.ts";
import { nextRun } from "../../../shared/mail/schedule.ts";
import { findUnreadableSecret } from "../../../shared/store/sealed-mailboxes.ts";
import type { MailboxWithState } from "../../../shared/store/store.ts";
import { clock } from "../../../shared/time.ts";
import type { ShownState } from "./states.ts";

export type ShownMailbox = MailboxWithState & { shown: ShownState; problem: ProblemView | null };
type Periods = Pick<Config, "PROBE_SECONDS" | "FOLDER_POLL_SECONDS">;

/** So late the store may know of a verification. */
const WRITE_DELAY_MS = 60_000;
/** Folders of Graph that are quiet are asked four times as seldom as FOLDER_POLL_SECONDS says. */
const SLOWEST_FOLDER = 4;

/** A mailbox counts as listened to only if its server answered within twice the time in which the service asks it. */
export function showMailbox(item: MailboxWithState, periods: Periods): ShownMailbox {
  const { mailbox, state } = item;
  const unreadable = findUnreadableSecret(mailbox)?.view() ?? null;
  const problem = unreadable ?? state.problem ?? (mailbox.endpointGone ? goneView(mailbox) : null);
  return { ...item, problem, shown: shownState(item, problem, periods) };
}

function shownState({ mailbox, state }: MailboxWithState, problem: ProblemView | null, periods: Periods): ShownState {
  if (mailbox.paused) return "paused";
  if (problem?.code === "endpoint_gone" || problem?.code === "config") return "needs_attention";
  return claimsToListen(state) && !isVerified(mailbox, state, periods) ? "unverified" : state.status;
}

function claimsToListen({ status }: MailboxState): boolean {
  return status === "listening" || status === "polling";
}

function isVerified({ receive }: Mailbox, { lastVerifiedAt }: MailboxState, periods: Periods): boolean {
  const verifiedAt = Date.parse(lastVerifiedAt ?? "");
  if (Number.isNaN(verifiedAt)) return false;
  const periodMs = isPolled(receive) ? nextRun(receive.poll, verifiedAt) - verifiedAt : watchPeriodMs(periods);
  return clock.now() - verifiedAt <= 2 * periodMs + WRITE_DELAY_MS;
}

function watchPeriodMs({ PROBE_SECONDS, FOLDER_POLL_SECONDS }: Periods): number {
  return 1000 * Math.max(PROBE_SECONDS, SLOWEST_FOLDER * FOLDER_POLL_SECONDS);
}

/** The interval of most polled mailboxes. */
const USUAL_POLL_MS = 60_000;

/** True if the state is too old for a usual mailbox. Only `showMailbox` knows how often this one is verified. */
export function isPerhapsUnverified(state: MailboxState, periods: Periods): boolean {
  const periodMs = state.status === "polling" ? USUAL_POLL_MS : watchPeriodMs(periods);
  const ageMs = clock.now() - Date.parse(state.lastVerifiedAt ?? "");
  return claimsToListen(state) && !(ageMs <= 2 * periodMs + WRITE_DELAY_MS);
}

function goneView({ deliver }: Mailbox): ProblemView {
  const cause = `The endpoint ${endpointHost(deliver.url)} answered 410 Gone, so nothing is posted to it.`;
  return { code: "endpoint_gone", cause, fix: PROBLEMS.endpoint_gone.fix, evidence: null, retryAt: null };
}

/** The host of the mail server, as far as the mailbox names it. */
export function serverHost({ address, receive }: Pick<Mailbox, "address" | "receive">): string {
  if (receive.protocol === "graph") return "Microsoft Graph";
  if (receive.host !== undefined) return receive.host;
  if ("url" in receive && receive.url !== undefined) return new URL(receive.url).host;
  return `Exchange of ${address.split("@").at(-1) ?? address}`;
}

/** The host of an endpoint, without path and login. */
export function endpointHost(url: string): string {
  return URL.canParse(url) ? new URL(url).host : url;
}
