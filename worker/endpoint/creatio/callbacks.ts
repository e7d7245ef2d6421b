/** Calls to a CRM of the Creatio family beside mail: how a mailbox is doing, the wish for a new token, and whether it hears us at all. */
import type { Mailbox, MailboxState, Protocol } from "../../../shared/contract/mailbox.ts";
import { PROBLEMS, type ProblemView } from "../../../shared/contract/problem.ts";
import { exceptionOf, METHODS, SERVICE, wordsFor } from "./names.ts";
import type { WireRequest } from "../endpoint.ts";
import { USER_AGENT } from "../webhook.ts";

/**
 * The URL of a callback: whatever method the CRM's setting ends in (installations differ), the service is called with ours. The
 * part before, with or without the `/0/` of .NET Framework, stays as it came.
 */
export function callbackUrl(endpoint: string, method: (typeof METHODS)[keyof typeof METHODS]): string {
  const at = endpoint.toLowerCase().indexOf(SERVICE.toLowerCase());
  if (at >= 0) return `${endpoint.slice(0, at + SERVICE.length)}/${method}`;
  const url = new URL(endpoint);
  url.pathname = url.pathname.replace(/\/?[^/]*$/, `/${method}`);
  url.search = "";
  return url.href;
}

/** A callback as it goes on the wire. */
export function callback(endpoint: string, method: (typeof METHODS)[keyof typeof METHODS], body: string): WireRequest {
  const headers = { "content-type": "application/json; charset=utf-8", "user-agent": USER_AGENT };
  return { url: callbackUrl(endpoint, method), headers, body };
}

/** What a CRM needs to know a mailbox by. */
export type Known = Pick<Mailbox, "id" | "address" | "receive"> & {
  deliver: Pick<Mailbox["deliver"], "url" | "creatio">;
};

/** ProcessMailboxState: `problem` null means that the mailbox is well (again). */
export function mailboxState(mailbox: Known, problem: ProblemView | null): WireRequest {
  const { user = "", workspace = "", context = "" } = mailbox.deliver.creatio ?? {};
  const { protocol } = mailbox.receive;
  const state = {
    MailboxId: mailbox.id,
    SenderEmailAddress: mailbox.address,
    BpmUserName: user,
    BpmUserWorkspace: workspace,
    Avaliable: problem === null,
    ExceptionClassName: problem ? exceptionOf(problem.code, protocol) : "",
    ExceptionMessage: problem ? described(problem, protocol) : "",
    Context: context,
  };
  return callback(mailbox.deliver.url, METHODS.state, JSON.stringify(state));
}

/** The server's own words are part of it: the CRM's rules look for fragments of them. */
function described({ cause, evidence, code, fix }: ProblemView, protocol: Protocol): string {
  return [cause || PROBLEMS[code].title, evidence && `(${evidence})`, wordsFor(code, protocol), fix]
    .filter(Boolean)
    .join(". ")
    .replaceAll(". (", " (");
}

/** RefreshToken: the CRM answers after it has called `Update` on this service from inside the request. */
export function refreshToken(mailbox: Known): WireRequest {
  const { id, address, deliver } = mailbox;
  const body = { MailboxId: id, SenderEmailAddress: address, BpmUserName: deliver.creatio?.user ?? "" };
  return callback(deliver.url, METHODS.token, JSON.stringify(body));
}

/** Asks the CRM for nothing: accepted, it proves name resolution, TLS, anonymous access and the binding of JSON. */
export function probe(endpoint: string): WireRequest {
  return callback(endpoint, METHODS.mail, JSON.stringify({ Emails: [], SubscriptionInfo: { Id: "probe" } }));
}

/** What a CRM ought to have heard of a mailbox in this state; null where there is nothing to say: outages are ridden out quietly. */
export function news(
  state: Pick<MailboxState, "status" | "problem">,
): { told: string; problem: ProblemView | null } | null {
  const { status, problem } = state;
  if (status === "listening" || status === "polling") return { told: "available", problem: null };
  if (status !== "needs_attention" || !problem) return null;
  return { told: `unavailable: ${problem.code}`, problem };
}
