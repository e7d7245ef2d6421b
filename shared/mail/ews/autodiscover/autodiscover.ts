/**
 * Autodiscover for Exchange: finds the web services of an address, at the places that Microsoft documents (except SCP,
 * which needs the domain's directory). It sends credentials only over TLS, and only to hosts of the address's own
 * domain or that the client allowed. A password that one host refused is not shown to another.
 */
import { resolveSrv } from "node:dns/promises";
import { Problem } from "../../../contract/problem.ts";
import { withTimeout } from "../../../time.ts";
import { quoteWords } from "../../../evidence/evidence.ts";
import { readText, type HttpResponse } from "../../http/response.ts";
import { type AutodiscoverResponse, parseResponse, POX, type AutodiscoverRequest, SOAP } from "./protocol.ts";
import type { EwsHttp } from "../transport/http.ts";
import { problemFromStatus } from "../soap/errors.ts";
import { type IsAllowed, redirectFilter } from "./redirects.ts";
import type { ServiceUrl } from "../service-url.ts";

export type AutodiscoverDeps = {
  /** HTTP with the mailbox's credentials. */
  http: EwsHttp;
  /** HTTP without credentials. */
  stranger: EwsHttp;
  /** The deadline of one step, in milliseconds. */
  command: number;
  ports?: { secure: number; plain: number };
  srv?: (name: string) => Promise<{ name: string; port: number; priority: number; weight: number }[]>;
};

type AutodiscoverTarget = { address: string; redirects?: string | undefined };
/** `root` is the web server of the domain itself, which may be anything. */
type Candidate = { url: URL; root?: boolean };
type Discovery = {
  deps: AutodiscoverDeps;
  isAllowed: IsAllowed;
  address: string;
  asked: Set<string>;
  hops: number;
  reasons: string[];
  refused: boolean;
};

const MAX_HOPS = 10;
/** The deadline of the whole search, in steps. */
const STEPS_FACTOR = 6;
const MAX_REASONS = 8;

/** The service URL of an address. Throws `auth` when the login is refused, `autodiscover` when nothing was found. */
export async function discover(
  deps: AutodiscoverDeps,
  { address, redirects }: AutodiscoverTarget,
  signal: AbortSignal,
): Promise<ServiceUrl> {
  const isAllowed = redirectFilter(domainOf(address), redirects);
  const discovery: Discovery = { deps, isAllowed, address, asked: new Set(), hops: 0, reasons: [], refused: false };
  const deadline = AbortSignal.timeout(STEPS_FACTOR * deps.command);
  try {
    return await followAddresses(discovery, AbortSignal.any([signal, deadline]));
  } catch (error) {
    signal.throwIfAborted();
    if (!deadline.aborted) throw error;
    throw notFoundProblem(discovery, "took too long", error);
  }
}

/**
 * The first Exchange server for an address, as the URL that asks for a login. Undefined if there is none. It shows no login, so it
 * follows redirects to any host with TLS.
 */
export async function findExchangeServer(
  deps: Omit<AutodiscoverDeps, "http">,
  address: string,
  signal: AbortSignal,
): Promise<URL | undefined> {
  const all = { ...deps, http: deps.stranger };
  const discovery = {
    deps: all,
    isAllowed: hasTls,
    address,
    asked: new Set<string>(),
    hops: 0,
    reasons: [],
    refused: false,
  };
  for await (const candidate of candidates(discovery, signal)) {
    let next: Candidate | undefined = candidate;
    while (next && discovery.hops <= MAX_HOPS) {
      const probed = await probe(discovery, next.url, signal);
      if (!("status" in probed)) break;
      if (probed.status === 401 && isExchangeServer(probed)) return next.url;
      next = followRedirect(discovery, next.url, locationOf(probed));
    }
  }
  return undefined;
}

function hasTls({ protocol }: URL): boolean {
  return protocol === "https:";
}

async function followAddresses(discovery: Discovery, signal: AbortSignal): Promise<ServiceUrl> {
  const addresses = new Set<string>();
  while (!addresses.has(discovery.address.toLowerCase())) {
    addresses.add(discovery.address.toLowerCase());
    const response = await tryCandidates(discovery, signal);
    if (response?.kind === "place") return response.serviceUrl;
    if (response?.kind !== "address") break;
    discovery.reasons.push(`redirected to the address ${response.address}`);
    discovery.address = response.address;
    if (++discovery.hops > MAX_HOPS) break;
  }
  throw notFoundProblem(discovery, discovery.hops > MAX_HOPS ? "redirects without end" : "found no server");
}

/** The first useful answer for the present address; undefined when all candidates failed. */
async function tryCandidates(discovery: Discovery, signal: AbortSignal): Promise<AutodiscoverResponse | undefined> {
  for await (const candidate of candidates(discovery, signal)) {
    let next: Candidate | undefined = candidate;
    while (next && discovery.hops <= MAX_HOPS) {
      const answer: AutodiscoverResponse = await tryCandidate(discovery, next, signal);
      if (answer.kind === "place" || answer.kind === "address") return answer;
      if (answer.kind === "none") discovery.reasons.push(`${next.url.host}: ${answer.words}`);
      next = answer.kind === "url" ? followRedirect(discovery, next.url, answer.url) : undefined;
    }
  }
  return undefined;
}

async function* candidates(discovery: Discovery, signal: AbortSignal): AsyncGenerator<Candidate, void, undefined> {
  const { ports = { secure: 443, plain: 80 }, srv = resolveSrv, command } = discovery.deps;
  const domain = domainOf(discovery.address);
  yield { url: new URL(`https://${domain}:${ports.secure}${POX.path}`), root: true };
  yield { url: new URL(`https://autodiscover.${domain}:${ports.secure}${POX.path}`) };
  const plain = new URL(`http://autodiscover.${domain}:${ports.plain}${POX.path}`);
  const redirect = await probe(discovery, plain, signal);
  const redirected = "status" in redirect ? followRedirect(discovery, plain, locationOf(redirect)) : undefined;
  if (redirected) yield redirected;
  const records = await withTimeout(
    command,
    "Asking for SRV records",
    srv(`_autodiscover._tcp.${domain}`),
    signal,
  ).catch(() => []);
  signal.throwIfAborted();
  for (const { name, port } of records.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight))
    yield { url: new URL(`https://${name}:${port}${POX.path}`) };
}

/** Asks one candidate: first without credentials, then by SOAP, then by plain XML (POX). */
async function tryCandidate(
  discovery: Discovery,
  { url, root }: Candidate,
  signal: AbortSignal,
): Promise<AutodiscoverResponse> {
  const askedKey = `${discovery.address.toLowerCase()} ${url.origin}`;
  if (discovery.asked.has(askedKey)) return { kind: "none", words: "asked before" };
  if (!discovery.isAllowed(url)) {
    discovery.refused = true;
    return { kind: "none", words: "not a host of the address's domain, and receive.redirects does not allow it" };
  }
  const probed = await probe(discovery, url, signal);
  if (!("status" in probed)) return { kind: "none", words: probed.message };
  const elsewhere = locationOf(probed);
  if (elsewhere !== "") return { kind: "url", url: elsewhere };
  if (probed.status !== 401) return { kind: "none", words: `HTTP ${probed.status}` };
  if (root && !isExchangeServer(probed)) return { kind: "none", words: "wants a login, but is not an Exchange server" };
  discovery.asked.add(askedKey);
  const first = await requestSettings(discovery, url, SOAP, signal);
  if (first.kind !== "none") return first;
  const second = await requestSettings(discovery, url, POX, signal);
  return second.kind === "none" ? { kind: "none", words: `${first.words}; ${second.words}` } : second;
}

async function requestSettings(
  discovery: Discovery,
  { origin }: URL,
  question: AutodiscoverRequest,
  signal: AbortSignal,
): Promise<AutodiscoverResponse> {
  const url = `${origin}${question.path}`;
  const body = question.body(discovery.address, url);
  const order = { url, body, what: "Autodiscover", ...(question.headers && { headers: question.headers }) };
  const response = await discovery.deps.http.post(order, signal);
  if (response.status !== 200) {
    const { status, headers } = response;
    const words = await readText(response.chunks, 1024 * 1024);
    if (status === 429 || status === 503) throw problemFromStatus(status, headers, words);
    const elsewhere = locationOf(response);
    return elsewhere === "" ? { kind: "none", words: `HTTP ${status}` } : { kind: "url", url: elsewhere };
  }
  const answer = await parseResponse(response.chunks);
  if (answer.kind === "busy") throw new Problem("throttled", "Autodiscover asks to slow down");
  if (answer.kind !== "place" || answer.serviceUrl.url.toLowerCase().startsWith("https://")) return answer;
  return { kind: "none", words: "names a service URL without TLS" };
}

/**
 * A request without credentials (over plain HTTP by GET, as Microsoft documents). Returns the Problem if nobody
 * answers.
 */
async function probe({ deps }: Discovery, url: URL, signal: AbortSignal): Promise<HttpResponse | Problem> {
  try {
    const order = { url: url.href, body: "", what: "Autodiscover", answerMs: deps.command };
    const method = url.protocol === "http:" ? ({ method: "GET" } as const) : {};
    const response = await deps.stranger.post({ ...order, ...method }, signal);
    await response.chunks.return?.();
    return response;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Problem) return error;
    throw error;
  }
}

/** The target of a redirect; undefined, with the reason noted, if it must not be followed. */
function followRedirect(discovery: Discovery, from: URL, location: string): Candidate | undefined {
  if (location === "" || !URL.canParse(location, from.href)) return undefined;
  discovery.hops++;
  const url = new URL(location, from);
  if (discovery.isAllowed(url)) return { url };
  discovery.refused = true;
  discovery.reasons.push(`${from.host} redirects to ${url.origin}, which receive.redirects does not allow`);
  return undefined;
}

function locationOf({ status, headers }: Pick<HttpResponse, "status" | "headers">): string {
  return status >= 300 && status < 400 ? (headers.location ?? "") : "";
}

/** Headers that distinguish an Exchange server from any other web server that wants a login. */
function isExchangeServer({ headers }: HttpResponse): boolean {
  const marks = ["x-feserver", "x-soap-enabled", "x-calculatedbetarget", "x-ms-diagnostics", "request-id"];
  return marks.some((name) => name in headers) || /\b(NTLM|Negotiate)\b/i.test(headers["www-authenticate"] ?? "");
}

function notFoundProblem({ address, reasons, refused }: Discovery, what: string, cause?: unknown): Problem {
  const evidence = quoteWords([...new Set(reasons)].slice(-MAX_REASONS).join("; "), { secrets: [] });
  // A redirect that is not allowed stays forbidden until somebody allows it.
  return new Problem("autodiscover", `Autodiscover ${what} for ${address}`, {
    retry: refused ? "never" : "later",
    evidence,
    cause,
  });
}

function domainOf(address: string): string {
  return address.slice(address.lastIndexOf("@") + 1).toLowerCase();
}
