/** Calls to a CRM of the Creatio family besides mail: a mailbox's state, the request for a new token, and a probe. */
import { urlWithLogin } from "../../../shared/contract/endpoint.ts";
import type { Mailbox, MailboxState, Protocol } from "../../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemView } from "../../../shared/contract/problem.ts";
import { exceptionOf, METHODS, SERVICE, libraryMessageFor } from "./names.ts";
import type { Body } from "../body.ts";
import type { WireRequest } from "../endpoint.ts";
import { USER_AGENT } from "../webhook.ts";

/**
 * The URL of a callback. The CRM's setting may end in any method (installations differ); this one replaces it. The part
 * before it, with or without the `/0/` of .NET Framework, stays.
 */
export function callbackUrl(endpoint: string, method: (typeof METHODS)[keyof typeof METHODS]): string {
  const at = endpoint.toLowerCase().indexOf(SERVICE.toLowerCase());
  if (at >= 0) return `${endpoint.slice(0, at + SERVICE.length)}/${method}`;
  const url = new URL(endpoint);
  url.pathname = `${url.pathname.slice(0, url.pathname.lastIndexOf("/"))}/${method}`;
  url.search = "";
  return url.href;
}

/** The request of a callback. */
export function callbackRequest(
  endpoint: string,
  method: (typeof METHODS)[keyof typeof METHODS],
  body: Body,
): WireRequest {
  const headers = { "content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT };
  return { url: callbackUrl(endpoint, method), headers, body };
}

/** What the CRM needs to recognise a mailbox. */
export type CallbackMailbox = Pick<Mailbox, "id" | "address" | "receive"> & {
  deliver: Pick<Mailbox["deliver"], "url" | "auth" | "creatio">;
};

/** ProcessMailboxState. `problem` null means that the mailbox works (again). */
export function mailboxStateRequest(mailbox: CallbackMailbox, problem: ProblemView | null): WireRequest {
  const { user = "", workspace = "", context = "" } = mailbox.deliver.creatio ?? {};
  const { protocol } = mailbox.receive;
  const state = {
    MailboxId: mailbox.id,
    SenderEmailAddress: mailbox.address,
    BpmUserName: user,
    BpmUserWorkspace: workspace,
    Avaliable: problem === null,
    ExceptionClassName: problem ? exceptionOf(problem.code, protocol) : "",
    ExceptionMessage: problem ? describeProblem(problem, protocol) : "",
    Context: context,
  };
  return callbackRequest(urlWithLogin(mailbox.deliver), METHODS.state, JSON.stringify(state));
}

/** It contains the mail server's own words, because rules in the CRM search for fragments of them. */
function describeProblem({ cause, evidence, code, fix }: ProblemView, protocol: Protocol): string {
  return [cause || PROBLEMS[code].title, evidence && `(${evidence})`, libraryMessageFor(code, protocol), fix]
    .filter(Boolean)
    .join(". ")
    .replaceAll(". (", " (");
}

/** RefreshToken. Before it answers, the CRM calls `Update` on this service from inside the request. */
export function refreshTokenRequest(mailbox: CallbackMailbox): WireRequest {
  const { id, address, deliver } = mailbox;
  const body = { MailboxId: id, SenderEmailAddress: address, BpmUserName: deliver.creatio?.user ?? "" };
  return callbackRequest(urlWithLogin(deliver), METHODS.token, JSON.stringify(body));
}

/** Asks the CRM for nothing. If the CRM accepts it, name resolution, TLS, anonymous access and JSON binding work. */
export function probeRequest(endpoint: string): WireRequest {
  return callbackRequest(endpoint, METHODS.mail, JSON.stringify({ Emails: [], SubscriptionInfo: { Id: "probe" } }));
}

/**
 * What a CRM must know about a mailbox in this state; null when there is nothing to report: short outages are not
 * reported.
 */
export function stateToReport(
  state: Pick<MailboxState, "status" | "problem">,
): { told: string; problem: ProblemView | null } | null {
  const { status, problem } = state;
  if (status === "listening" || status === "polling") return { told: "available", problem: null };
  if (status !== "needs_attention" || !problem) return null;
  return { told: `unavailable: ${problem.code}`, problem };
}
