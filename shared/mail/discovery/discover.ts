/**
 * Finds the mail servers of an address without a login: in the list of known providers, by the mail exchangers of the domain,
 * and by what the domain itself publishes. Every connection goes through the egress guard. What a domain publishes is a
 * proposal for a person, and no password is sent anywhere.
 */
import { domainToASCII } from "node:url";
import type { DiscoveryStep, Proposal } from "./proposal.ts";
import { asProblem, Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import { withTimeout } from "../../time.ts";
import { findExchangeServer } from "../ews/autodiscover/autodiscover.ts";
import { ewsAccounts } from "../ews/account.ts";
import { isExchangeOnline } from "../ews/soap/exchange-online.ts";
import { type EwsHttp, ewsHttp } from "../ews/transport/http.ts";
import type { LoginRateDeps } from "../net/login-rate.ts";
import { autoconfigUrls, fetchAutoconfig, readAutoconfig } from "./autoconfig.ts";
import { findKnownProvider, findProviderOfExchanger } from "./providers.ts";
import { findBySrv, listExchangers, type Records } from "./records.ts";

export type DiscoverDeps = LoginRateDeps & {
  egress: Egress;
  records: Records;
  /** Other ports than those of the web, and the certificate of the servers there, for tests. */
  web?: { ports: { secure: number; plain: number }; fingerprint: string };
};
type Found = { steps: DiscoveryStep[]; proposals: Proposal[] };

/** The deadline of one step. All steps but the first run at the same time. */
const STEP_MS = 8_000;
/** The deadline of one request inside a step. */
const REQUEST_MS = 3_000;

type Search = DiscoverDeps & { address: string; domain: string; stranger: EwsHttp; signal: AbortSignal };
/** What a step found, and in words what it asked and heard. */
type Finding = { proposal?: Proposal | undefined; detail: string };

/**
 * The proposals for an address, the most trustworthy first, and what was asked. Resolves within about STEP_MS. A failed step
 * does not reject. Throws only when the signal aborts.
 */
export async function discoverMailServers(deps: DiscoverDeps, address: string, signal: AbortSignal): Promise<Found> {
  const written = address.slice(address.lastIndexOf("@") + 1).toLowerCase();
  // Name servers know only the ASCII form of an international domain.
  const domain = domainToASCII(written) || written;
  const known = findKnownProvider(address, domain);
  const detail = known ? `${domain} is a domain of ${String(known.provider)}` : `${domain} is in no line of the list`;
  const steps: DiscoveryStep[] = [{ name: "known", found: known !== undefined, ms: 0, detail }];
  if (known) return { steps, proposals: [known] };
  const client = { ...deps, timeouts: { command: REQUEST_MS } };
  const { account, over } = ewsAccounts().acquire(client, {
    key: "discovery",
    trust: { fingerprint: deps.web?.fingerprint },
  });
  try {
    const search = { ...deps, address, domain, stranger: ewsHttp(account, "nobody"), signal };
    // Where the mail of a domain really goes says more than a file that a web host may have put there for all its customers.
    const asked = await Promise.all([
      runStep(search, "mx", askMx),
      runStep(search, "autoconfig", askAutoconfig),
      runStep(search, "srv", askSrv),
      runStep(search, "exchange", askExchange),
    ]);
    signal.throwIfAborted();
    for (const { step } of asked) steps.push(step);
    return { steps, proposals: asked.flatMap(({ proposal }) => proposal ?? []) };
  } finally {
    over();
  }
}

async function runStep(
  search: Search,
  name: DiscoveryStep["name"],
  ask: (search: Search) => Promise<Finding>,
): Promise<{ step: DiscoveryStep; proposal?: Proposal | undefined }> {
  const startedAt = performance.now();
  const stop = AbortSignal.any([search.signal, AbortSignal.timeout(STEP_MS)]);
  const finding = await withTimeout(STEP_MS, `The step ${name}`, ask({ ...search, signal: stop }), search.signal).catch(
    (error: unknown): Finding => ({ detail: wordsOf(error) }),
  );
  const { proposal, detail } = finding;
  const ms = Math.round(performance.now() - startedAt);
  return { step: { name, found: proposal !== undefined, ms, detail }, proposal };
}

/** Only what the service itself says about a failure: a stranger's words are not repeated. */
function wordsOf(error: unknown): string {
  if (error instanceof Problem) return error.message;
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  return code === "" ? asProblem(error).message : `The name servers did not answer (${code})`;
}

async function askMx({ records, domain, address }: Search): Promise<Finding> {
  const exchangers = await listExchangers(records, domain);
  if (exchangers.length === 0) return { detail: `${domain} has no MX record` };
  const [proposal] = exchangers.flatMap((one) => findProviderOfExchanger(address, one) ?? []);
  const names = exchangers.slice(0, 3).join(", ");
  if (proposal) return { proposal, detail: `${names}: ${String(proposal.provider)}` };
  return { detail: `${names}: of no known provider` };
}

async function askSrv(search: Search): Promise<Finding> {
  const proposal = await findBySrv(search.records, search.domain, search.address);
  if (!proposal) return { detail: `${search.domain} has no SRV record for _imaps, _imap or _pop3s` };
  return checkReachable(search, proposal);
}

async function askAutoconfig(search: Search): Promise<Finding> {
  const { address, domain, stranger, web, signal } = search;
  const failures: string[] = [];
  for (const url of autoconfigUrls(domain, web?.ports.secure ?? 443)) {
    const { host } = new URL(url);
    try {
      const file = await fetchAutoconfig(stranger, url, REQUEST_MS, signal);
      const proposal = await readAutoconfig(file, address, url);
      if (proposal) return await checkReachable(search, proposal);
      failures.push(`${host}: its file names no server with TLS`);
    } catch (error) {
      signal.throwIfAborted();
      failures.push(
        `${host}: ${error instanceof Problem && error.code === "protocol" ? "no autoconfig file" : wordsOf(error)}`,
      );
    }
  }
  return { detail: failures.join("; ") };
}

async function askExchange({ address, domain, stranger, records, web, signal }: Search): Promise<Finding> {
  const deps = {
    stranger,
    command: REQUEST_MS,
    srv: records.resolveSrv.bind(records),
    ...(web && { ports: web.ports }),
  };
  const server = await findExchangeServer(deps, address, signal);
  if (!server) return { detail: `No Exchange server answers for ${domain}` };
  const detail = `${server.host} is an Exchange server`;
  const online = isExchangeOnline(server.href)
    ? findProviderOfExchanger(address, "x.mail.protection.outlook.com")
    : undefined;
  const common = { source: "exchange", origin: server.href } as const;
  if (online) return { proposal: { ...online, ...common }, detail: `${server.host}: Microsoft 365` };
  const notes = ["Autodiscover asks only hosts of the address's own domain with the password."];
  const login = { provider: null, user: address, logins: ["password" as const], notes };
  return { proposal: { ...common, ...login, receive: { protocol: "ews" }, send: null }, detail };
}

/** A proposal of a stranger, if the service may connect to its servers. A server for sending that it may not is left out. */
async function checkReachable({ egress, signal }: Search, proposal: Proposal): Promise<Finding> {
  const { receive, send, origin } = proposal;
  if (!("host" in receive)) return { proposal, detail: origin };
  await egress.resolve(receive, signal);
  const sending =
    send &&
    (await egress.resolve(send, signal).then(
      () => send,
      () => null,
    ));
  return { proposal: { ...proposal, send: sending }, detail: `${origin}: ${receive.host} port ${receive.port}` };
}
