/** How the console shows a mailbox: its state as far as it is known, its problem, and its servers. */
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemView } from "../../../shared/contract/problem.ts";
import { claimsToListen, isVerified, type Periods } from "../../../shared/mail/verified.ts";
import { findUnreadableSecret } from "../../../shared/store/sealed-mailboxes.ts";
import type { MailboxWithState } from "../../../shared/store/store.ts";
import type { ShownState } from "./states.ts";

export type ShownMailbox = MailboxWithState & { shown: ShownState; problem: ProblemView | null };

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
  return claimsToListen(state) && !isVerified(mailbox.receive, state, periods) ? "unverified" : state.status;
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
