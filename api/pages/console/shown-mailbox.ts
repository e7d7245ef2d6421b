/** How the console shows a mailbox: its state as far as it is known, its problem, and its servers. */
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemView } from "../../../shared/contract/problem.ts";
import { claimsToListen, isVerified, type Periods } from "../../../shared/mail/verified.ts";
import { findUnreadableSecret } from "../../../shared/store/sealed-mailboxes.ts";
import type { Measures } from "../../../shared/store/measured/measures.ts";
import { isNews } from "../../../shared/store/measured/state-entries.ts";
import type { MailboxWithState } from "../../../shared/store/store.ts";
import { clock } from "../../../shared/time.ts";
import type { ShownState } from "./states.ts";

export type ShownMailbox = MailboxWithState & { shown: ShownState; problem: ProblemView | null };

/** What proves that somebody listens: how often servers are asked, and whether the node that does it reported of late. */
export type Proofs = Periods & { hasNews(node: string | null): boolean };

/** Reads which nodes reported within the time for which the bar of a mailbox needs no news. */
export async function readProofs({ store, config }: { store: ProofStore; config: Periods }): Promise<Proofs> {
  const reportedAt = new Map<string, number>();
  for (const { node, until } of await store.measures.listRuns())
    reportedAt.set(node, Math.max(until, reportedAt.get(node) ?? 0));
  const { PROBE_SECONDS, FOLDER_POLL_SECONDS } = config;
  return {
    PROBE_SECONDS,
    FOLDER_POLL_SECONDS,
    // A node that never reported runs an earlier version.
    hasNews: (node) => isNews(reportedAt.get(node ?? "") ?? Number.POSITIVE_INFINITY, clock.now()),
  };
}

type ProofStore = { measures: Pick<Measures, "listRuns"> };

/**
 * A mailbox counts as listened to only if its server answered within twice the time in which the service asks it, and
 * its node reported of late.
 */
export function showMailbox(item: MailboxWithState, proofs: Proofs): ShownMailbox {
  const { mailbox, state } = item;
  const unreadable = findUnreadableSecret(mailbox)?.view() ?? null;
  const problem = unreadable ?? state.problem ?? (mailbox.endpointGone ? goneView(mailbox) : null);
  return { ...item, problem, shown: shownState(item, problem, proofs) };
}

function shownState({ mailbox, state }: MailboxWithState, problem: ProblemView | null, proofs: Proofs): ShownState {
  if (mailbox.paused) return "paused";
  if (problem?.code === "endpoint_gone" || problem?.code === "config") return "needs_attention";
  const isProved = isVerified(mailbox.receive, state, proofs) && proofs.hasNews(state.node);
  return claimsToListen(state) && !isProved ? "unverified" : state.status;
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
