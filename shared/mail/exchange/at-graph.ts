/** A mailbox that is received by Exchange Web Services, as Graph receives the same one. */
import type { Mailbox, MailboxOf, Send } from "../../contract/mailbox.ts";

/** An id of Exchange Web Services as Graph writes it. An id of Graph stays as it is. */
export function toRestId(id: string): string {
  return id.replaceAll("/", "-").replaceAll("+", "_");
}

const EWS_ID = /^A[AQ]M[A-Za-z0-9+/]{60,}=*$/;

/**
 * The mailbox with the same folders, filters and actions, received and sent through this application. Folders that are
 * named by their ids have other ids at Graph.
 */
export function toGraphMailbox(mailbox: Mailbox & MailboxOf<"ews">, application: string): MailboxOf<"graph"> {
  const { send, receive: was, ...others } = mailbox;
  const { folders, since, mode, poll, processLock, filters, afterDelivery } = was;
  const receive: MailboxOf<"graph">["receive"] = {
    protocol: "graph",
    auth: { application },
    folders: withRestIds(folders),
    since,
    mode,
    poll,
    processLock,
    ...(filters && { filters: withRestIds(filters) }),
    ...(afterDelivery && { afterDelivery: withRestIds(afterDelivery) }),
  };
  return { ...others, receive, ...(send && { send: toGraphSend(send) }) };
}

function withRestIds<T>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_name, one: unknown) =>
    typeof one === "string" && EWS_ID.test(one) ? toRestId(one) : one,
  ) as T;
}

/** Graph sends with the login that it receives by. */
function toGraphSend(send: Send): Send {
  if (send.protocol === "smtp") return send;
  const { auth: _auth, ...others } = send;
  return { ...others, protocol: "graph" };
}
