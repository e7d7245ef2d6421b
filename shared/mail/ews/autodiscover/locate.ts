/**
 * The service URL of an Exchange mailbox: as the mailbox says, or as autodiscover found it. A found URL is cached until
 * it turns out to be wrong.
 */
import { isIPv6 } from "node:net";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import { discover } from "./autodiscover.ts";
import { type EwsAccounts, accountKey } from "../account.ts";
import { ewsHttp } from "../transport/http.ts";
import type { ConnectionPoolDeps } from "../../http/connection-pool.ts";
import type { HttpTap } from "../../http/record/tap.ts";
import type { Login } from "../transport/authentication.ts";
import type { ServiceUrl, LocatedServiceUrl } from "../service-url.ts";

/** The service URL that the mailbox itself names; undefined if it has to be found. */
function configuredServiceUrl({ receive }: MailboxOf<"ews">): ServiceUrl | undefined {
  if (receive.url !== undefined) return { url: receive.url, grouping: null };
  if (receive.host === undefined) return undefined;
  const scheme = receive.tls === "none" ? "http" : "https";
  const host = isIPv6(receive.host) ? `[${receive.host}]` : receive.host;
  const port = receive.port === undefined ? "" : `:${receive.port}`;
  return { url: `${scheme}://${host}${port}/EWS/Exchange.asmx`, grouping: null };
}

type LocateDeps = ConnectionPoolDeps & { exchange: EwsAccounts; tap?: HttpTap | undefined };

/** The mailbox's service URL. It asks autodiscover if the mailbox names none and the cache has none of the last day. */
export async function locateServiceUrl(
  deps: LocateDeps,
  mailbox: MailboxOf<"ews">,
  login: Login,
  signal: AbortSignal,
): Promise<LocatedServiceUrl> {
  const configured = configuredServiceUrl(mailbox);
  if (configured) return { serviceUrl: configured, invalidate: (problem) => problem };
  const { serviceUrls } = deps.exchange;
  const key = accountKey(deps.exchange, mailbox, `${mailbox.address} ${mailbox.receive.redirects ?? ""}`);
  const cached = serviceUrls.get(key);
  const serviceUrl = cached ?? (await discoverServiceUrl(deps, mailbox, login, signal));
  if (!cached) serviceUrls.set(key, serviceUrl);
  const invalidate = (problem: Problem) => {
    serviceUrls.delete(key);
    const { code, message, evidence } = problem;
    if (!cached || code === "auth") return problem;
    return new Problem(code, message, { retry: "later", cause: problem, ...(evidence !== null && { evidence }) });
  };
  return { serviceUrl, invalidate };
}

async function discoverServiceUrl(
  deps: LocateDeps,
  mailbox: MailboxOf<"ews">,
  login: Login,
  signal: AbortSignal,
): Promise<ServiceUrl> {
  const { address, receive } = mailbox;
  const key = accountKey(deps.exchange, mailbox, "autodiscover");
  const { account, over } = deps.exchange.acquire(deps, { key, trust: receive });
  const search = {
    http: ewsHttp(account, login, deps.tap),
    stranger: ewsHttp(account, "nobody", deps.tap),
    command: deps.timeouts.command,
    ports: { secure: receive.port ?? 443, plain: 80 },
  };
  try {
    return await discover(search, { address, redirects: receive.redirects }, signal);
  } finally {
    over();
  }
}
