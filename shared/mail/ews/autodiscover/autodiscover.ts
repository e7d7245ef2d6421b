/**
 * Autodiscover for Exchange: from an address to its web services, by the places Microsoft documents (SCP, which needs the domain's
 * directory, left out). Credentials go over TLS only, to hosts of the address's own domain or allowed by the client, and a password
 * that was refused once is not shown to anybody else.
 */
import { resolveSrv } from "node:dns/promises";
import { Problem } from "../../../contract/problem.ts";
import { within } from "../../../time.ts";
import { withoutSecrets } from "../../problems.ts";
import { whole } from "../answer.ts";
import { type Answer, answerIn, POX, type Question, SOAP } from "./protocol.ts";
import type { EwsHttp, EwsResponse } from "../transport/http.ts";
import type { Place } from "./locate.ts";
import { statusProblem } from "../soap/errors.ts";
import { type Allowed, allowedBy } from "./redirects.ts";

export type Search = {
  /** Asks with the mailbox's credentials. */
  http: EwsHttp;
  /** Asks without any. */
  stranger: EwsHttp;
  /** The deadline of one step, in milliseconds. */
  command: number;
  ports?: { secure: number; plain: number };
  srv?: (name: string) => Promise<{ name: string; port: number; priority: number; weight: number }[]>;
};

type Wanted = { address: string; redirects?: string | undefined };
/** `root` is the web server of the domain itself, which may be anything. */
type Candidate = { url: URL; root?: boolean };
type Walk = {
  search: Search;
  allowed: Allowed;
  address: string;
  asked: Set<string>;
  hops: number;
  reasons: string[];
  refused: boolean;
};

const MOST_HOPS = 10;
/** All of it, in steps. */
const STEPS = 6;
const MOST_REASONS = 8;

/** Where the mailbox of an address is. Throws `auth` when its login is refused, `autodiscover` when nothing was found. */
export async function discovered(search: Search, { address, redirects }: Wanted, signal: AbortSignal): Promise<Place> {
  const allowed = allowedBy(domainOf(address), redirects);
  const walk: Walk = { search, allowed, address, asked: new Set(), hops: 0, reasons: [], refused: false };
  const deadline = AbortSignal.timeout(STEPS * search.command);
  try {
    return await walked(walk, AbortSignal.any([signal, deadline]));
  } catch (error) {
    signal.throwIfAborted();
    if (!deadline.aborted) throw error;
    throw notFound(walk, "took too long", error);
  }
}

async function walked(walk: Walk, signal: AbortSignal): Promise<Place> {
  const addresses = new Set<string>();
  while (!addresses.has(walk.address.toLowerCase())) {
    addresses.add(walk.address.toLowerCase());
    const answer = await forAddress(walk, signal);
    if (answer?.kind === "place") return answer.place;
    if (answer?.kind !== "address") break;
    walk.reasons.push(`redirected to the address ${answer.address}`);
    walk.address = answer.address;
    if (++walk.hops > MOST_HOPS) break;
  }
  throw notFound(walk, walk.hops > MOST_HOPS ? "leads from one place to the next without end" : "found no server");
}

/** The first answer that settles something for the present address; undefined when all candidates failed. */
async function forAddress(walk: Walk, signal: AbortSignal): Promise<Answer | undefined> {
  for await (const candidate of candidates(walk, signal)) {
    let next: Candidate | undefined = candidate;
    while (next && walk.hops <= MOST_HOPS) {
      const answer: Answer = await tried(walk, next, signal);
      if (answer.kind === "place" || answer.kind === "address") return answer;
      if (answer.kind === "none") walk.reasons.push(`${next.url.host}: ${answer.words}`);
      next = answer.kind === "url" ? following(walk, next.url, answer.url) : undefined;
    }
  }
  return undefined;
}

async function* candidates(walk: Walk, signal: AbortSignal): AsyncGenerator<Candidate, void, undefined> {
  const { ports = { secure: 443, plain: 80 }, srv = resolveSrv, command } = walk.search;
  const domain = domainOf(walk.address);
  yield { url: new URL(`https://${domain}:${ports.secure}${POX.path}`), root: true };
  yield { url: new URL(`https://autodiscover.${domain}:${ports.secure}${POX.path}`) };
  const plain = new URL(`http://autodiscover.${domain}:${ports.plain}${POX.path}`);
  const hint = await visited(walk, plain, signal);
  const led = "status" in hint ? following(walk, plain, locationOf(hint)) : undefined;
  if (led) yield led;
  const records = await within(command, "Asking for SRV records", srv(`_autodiscover._tcp.${domain}`), signal).catch(
    () => [],
  );
  signal.throwIfAborted();
  for (const { name, port } of records.toSorted((a, b) => a.priority - b.priority || b.weight - a.weight))
    yield { url: new URL(`https://${name}:${port}${POX.path}`) };
}

/** One candidate: looked at without credentials first, then asked by SOAP, then by plain XML. */
async function tried(walk: Walk, { url, root }: Candidate, signal: AbortSignal): Promise<Answer> {
  const place = `${walk.address.toLowerCase()} ${url.origin}`;
  if (walk.asked.has(place)) return { kind: "none", words: "asked before" };
  if (!walk.allowed(url)) {
    walk.refused = true;
    return { kind: "none", words: "neither a host of the address's domain nor allowed by receive.redirects" };
  }
  const seen = await visited(walk, url, signal);
  if (!("status" in seen)) return { kind: "none", words: seen.message };
  const elsewhere = locationOf(seen);
  if (elsewhere !== "") return { kind: "url", url: elsewhere };
  if (seen.status !== 401) return { kind: "none", words: `HTTP ${seen.status}` };
  if (root && !isExchange(seen)) return { kind: "none", words: "wants a login, but is no Exchange server" };
  walk.asked.add(place);
  const first = await asked(walk, url, SOAP, signal);
  if (first.kind !== "none") return first;
  const second = await asked(walk, url, POX, signal);
  return second.kind === "none" ? { kind: "none", words: `${first.words}; ${second.words}` } : second;
}

async function asked(walk: Walk, { origin }: URL, question: Question, signal: AbortSignal): Promise<Answer> {
  const url = `${origin}${question.path}`;
  const body = question.body(walk.address, url);
  const order = { url, body, what: "Autodiscover", ...(question.headers && { headers: question.headers }) };
  const response = await walk.search.http.post(order, signal);
  if (response.status !== 200) {
    const { status, headers } = response;
    const words = await whole(response.chunks, 1024 * 1024);
    if (status === 429 || status === 503) throw statusProblem(status, headers, words);
    const elsewhere = locationOf(response);
    return elsewhere === "" ? { kind: "none", words: `HTTP ${status}` } : { kind: "url", url: elsewhere };
  }
  const answer = await answerIn(response.chunks);
  if (answer.kind === "busy")
    throw new Problem("throttled", "Autodiscover asks to slow down", { evidence: answer.words });
  if (answer.kind !== "place" || answer.place.url.toLowerCase().startsWith("https://")) return answer;
  return { kind: "none", words: "names a service without TLS" };
}

/** A look without credentials, in clear by GET as Microsoft documents it; the Problem where nobody is there. */
async function visited({ search }: Walk, url: URL, signal: AbortSignal): Promise<EwsResponse | Problem> {
  try {
    const order = { url: url.href, body: "", what: "Autodiscover", answerMs: search.command };
    const method = url.protocol === "http:" ? ({ method: "GET" } as const) : {};
    const response = await search.stranger.post({ ...order, ...method }, signal);
    await response.chunks.return?.();
    return response;
  } catch (error) {
    signal.throwIfAborted();
    if (error instanceof Problem) return error;
    throw error;
  }
}

/** The candidate behind a redirect; undefined, with the reason noted, where it must not be followed. */
function following(walk: Walk, from: URL, location: string): Candidate | undefined {
  if (location === "" || !URL.canParse(location, from.href)) return undefined;
  walk.hops++;
  const url = new URL(location, from);
  if (walk.allowed(url)) return { url };
  walk.refused = true;
  walk.reasons.push(`${from.host} leads to ${url.origin}, which is not allowed by receive.redirects`);
  return undefined;
}

function locationOf({ status, headers }: Pick<EwsResponse, "status" | "headers">): string {
  return status >= 300 && status < 400 ? (headers.location ?? "") : "";
}

/** Marks by which an Exchange server is told from any web server that wants a login. */
function isExchange({ headers }: EwsResponse): boolean {
  const marks = ["x-feserver", "x-soap-enabled", "x-calculatedbetarget", "x-ms-diagnostics", "request-id"];
  return marks.some((name) => name in headers) || /\b(NTLM|Negotiate)\b/i.test(headers["www-authenticate"] ?? "");
}

function notFound({ address, reasons, refused }: Walk, what: string, cause?: unknown): Problem {
  const evidence = withoutSecrets([...new Set(reasons)].slice(-MOST_REASONS).join("; "), []);
  // A redirect that is not allowed stays so until somebody allows it.
  return new Problem("autodiscover", `Autodiscover ${what} for ${address}`, {
    retry: refused ? "never" : "later",
    evidence,
    cause,
  });
}

function domainOf(address: string): string {
  return address.slice(address.lastIndexOf("@") + 1).toLowerCase();
}
