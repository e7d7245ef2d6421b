/**
 * Mailboxes as they are served. A CRM registers a mailbox for Exchange with a login for Exchange Web Services. If it is at
 * Microsoft, and an application names its domain, it is received and sent by Graph through this application instead.
 */
import type { Application } from "./contract/application.ts";
import type { Mailbox, MailboxOf } from "./contract/mailbox.ts";
import { Problem } from "./contract/problem.ts";
import { isExchangeOnline } from "./mail/ews/soap/exchange-online.ts";
import { toGraphMailbox } from "./mail/exchange/at-graph.ts";
import type { Applications } from "./store/sealed-applications.ts";
import type { Mailboxes } from "./store/store.ts";

/** The mailbox as it is served now. */
export type ServeMailbox = (mailbox: Mailbox) => Promise<Mailbox>;

/** Asks for the applications again only when one of them has changed. */
export function serveByDomain(applications: Pick<Applications, "list" | "listVersions">): ServeMailbox {
  let known: { versions: string; byDomain: ReadonlyMap<string, string> } | undefined;
  return async (mailbox) => {
    if (!isForDomain(mailbox)) return mailbox;
    const versions = JSON.stringify([...(await applications.listVersions())].toSorted());
    if (known?.versions !== versions) known = { versions, byDomain: listDomains(await applications.list()) };
    const id = known.byDomain.get(domainOf(mailbox));
    return id === undefined ? mailbox : toGraphMailbox(mailbox, id);
  };
}

/** The mailboxes of a store, each as it is served. What is written is not changed. */
export function servedMailboxes(mailboxes: Mailboxes, serve: ServeMailbox): Mailboxes {
  return {
    ...mailboxes,
    async get(id) {
      const found = await mailboxes.get(id);
      return found && { ...found, mailbox: await serve(found.mailbox) };
    },
  };
}

/** True for a CRM's Exchange mailbox that may be at Microsoft: at one of its hosts, or wherever autodiscover says. */
export function isForDomain(mailbox: Mailbox): mailbox is Mailbox & MailboxOf<"ews"> {
  const { receive, deliver } = mailbox;
  if (receive.protocol !== "ews" || deliver.dialect !== "creatio") return false;
  const server = serverOf(receive);
  return server === undefined || isExchangeOnline(server);
}

/** Undefined if autodiscover finds the server. */
function serverOf({ url, host }: MailboxOf<"ews">["receive"]): string | undefined {
  return url ?? (host === undefined ? undefined : `https://${host}/`);
}

function domainOf({ address }: Pick<Mailbox, "address">): string {
  return address.slice(address.lastIndexOf("@") + 1).toLowerCase();
}

function listDomains(applications: readonly Application[]): Map<string, string> {
  const pairs = applications.flatMap((one) =>
    one.provider === "microsoft" ? (one.domains ?? []).map((domain) => [domain.toLowerCase(), one.id] as const) : [],
  );
  // The first one counts.
  return new Map(pairs.toReversed());
}

/** What an administrator can do for a mailbox that could be served by Graph and is not. */
export function graphHint(mailbox: Mailbox): string | undefined {
  if (!isForDomain(mailbox)) return undefined;
  return `If the mailbox is in Exchange Online, name ${domainOf(mailbox)} in \`domains\` of an application (PUT /api/v1/applications/{id}): then it is received by Microsoft Graph.`;
}

/** The problem of a mailbox with this hint. If nobody knows whether the mailbox is at Microsoft, only a lasting problem has it. */
export function withGraphHint(problem: Problem, mailbox: Mailbox): Problem {
  const hint = graphHint(mailbox);
  if (hint === undefined || !isForDomain(mailbox)) return problem;
  if (serverOf(mailbox.receive) === undefined && problem.retry !== "never") return problem;
  const { code, message, fix, retry, evidence, errors, cause } = problem;
  return new Problem(code, message, {
    fix: `${fix} ${hint}`,
    retry,
    errors,
    cause,
    ...(evidence !== null && { evidence }),
  });
}
