/** Where a request comes from: the client's address behind known proxies, and whether a browser made it for a foreign page. */
import { hostname } from "node:os";
import ipaddr from "ipaddr.js";
import type { Config } from "../../shared/config.ts";
import { Problem } from "../../shared/contract/problem.ts";

/**
 * `address` is the client's; "" when it is not known. `isCertain` is false when a proxy forwarded the request that
 * TRUSTED_PROXIES does not name. Then `address` is the proxy's, and anybody may be behind it.
 */
export type Client = { address: string; isCertain: boolean };

const FORWARDING_HEADERS = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip"];

/** True if a proxy forwarded the request, or the client wants it to look so. */
export function isForwarded({ headers }: Request): boolean {
  return FORWARDING_HEADERS.some((name) => headers.has(name));
}

/**
 * Who makes the request. `peer` is the other end of the connection. Only if it is one of TRUSTED_PROXIES, its
 * X-Forwarded-For counts: the last address in it that is no trusted proxy itself.
 */
export function clientOf(request: Request, peer: string, { TRUSTED_PROXIES }: Pick<Config, "TRUSTED_PROXIES">): Client {
  if (!isForwarded(request)) return { address: peer, isCertain: true };
  const isTrusted = (address: string) => TRUSTED_PROXIES.some((cidr) => isInNetwork(address, cidr));
  if (!isTrusted(peer)) return { address: peer, isCertain: false };
  const hops = (request.headers.get("x-forwarded-for") ?? "").split(",").map(addressOf);
  const client = hops.findLast((hop) => !isTrusted(hop)) ?? hops[0] ?? "";
  return ipaddr.isValid(client) ? { address: client, isCertain: true } : { address: peer, isCertain: false };
}

/** An entry of X-Forwarded-For may have a port, and an IPv6 address then has brackets. */
function addressOf(entry: string): string {
  return entry
    .trim()
    .replace(/^\[([^\]]*)\](:\d+)?$/, "$1")
    .replace(/^(\d+(?:\.\d+){3}):\d+$/, "$1");
}

/** True if the address is in the network, which is a CIDR. An IPv4 address in IPv6 form counts as IPv4. */
export function isInNetwork(address: string, cidr: string): boolean {
  if (!ipaddr.isValid(address)) return false;
  const parsed = ipaddr.process(address);
  const [network, bits] = ipaddr.parseCIDR(cidr);
  return parsed.kind() === network.kind() && parsed.match(network, bits);
}

export function isLoopback(address: string): boolean {
  return ipaddr.isValid(address) && ipaddr.process(address).range() === "loopback";
}

/**
 * True if a browser made the request for a page of another site (Fetch Metadata, and Origin as in RFC 6454). The pages
 * of the service itself have the host of the request, or one of `publicUrls`.
 */
export function isCrossSite(request: Request, publicUrls: readonly string[] = []): boolean {
  const site = request.headers.get("sec-fetch-site");
  if (site !== null && site !== "same-origin" && site !== "none") return true;
  const origin = request.headers.get("origin");
  if (origin === null) return false;
  const hosts = [request.url, ...publicUrls].map((url) => new URL(url).host);
  return !URL.canParse(origin) || !hosts.includes(new URL(origin).host);
}

/** True if no browser made the request: a browser names the page (Origin) in each POST that has a body. */
export function isFromProgram({ headers }: Request): boolean {
  return !headers.has("origin") && !headers.has("sec-fetch-site");
}

/**
 * The problem of a request that a web page may have made from the browser of somebody who may call. A page of another
 * site says so. A page whose name was made to point to this machine (DNS rebinding) uses a Host that is none of the
 * service's names: those of PUBLIC_URL, addresses, this machine's name, and names that exist only in the own network.
 */
export function browserProblem(request: Request, { PUBLIC_URL }: Pick<Config, "PUBLIC_URL">): Problem | undefined {
  if (isCrossSite(request, PUBLIC_URL))
    return forbiddenProblem("A web page of another site made this request (Origin, Sec-Fetch-Site).");
  const names = [...PUBLIC_URL.map((url) => new URL(url).hostname), hostname()].map(bareName);
  const hosts = [new URL(request.url).hostname, nameIn(request.headers.get("host"))].map(bareName);
  const foreign = hosts.find((host) => host !== "" && !names.includes(host) && !isOwnName(host));
  if (foreign === undefined) return undefined;
  return forbiddenProblem(`The Host "${foreign.slice(0, 100)}" is not a name of this service; add it to PUBLIC_URL.`);
}

/** An address, or a name that no public name server answers for. The unspecified address reaches the own machine. */
function isOwnName(host: string): boolean {
  if (ipaddr.isValid(host)) return ipaddr.process(host).range() !== "unspecified";
  return !host.includes(".") || /\.svc(\.cluster\.local)?$/.test(host);
}

function nameIn(host: string | null): string {
  return host !== null && URL.canParse(`http://${host}`) ? new URL(`http://${host}`).hostname : "";
}

function bareName(host: string): string {
  return host
    .toLowerCase()
    .replace(/\.$/, "")
    .replace(/^\[(.*)\]$/, "$1");
}

function forbiddenProblem(why: string): Problem {
  return new Problem("forbidden", why, { retry: "never" });
}
