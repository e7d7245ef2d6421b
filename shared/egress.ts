/**
 * The guard in front of every connection the service opens to a host that a client named: names are resolved here, forbidden
 * addresses are refused, and connections go to exactly the addresses that were checked (no second look-up to rebind).
 */
import { lookup } from "node:dns/promises";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import ipaddr from "ipaddr.js";
import { Problem } from "./contract/problem.ts";
import { within } from "./time.ts";

export type Address = { address: string; family: 4 | 6 };
export type Policy = "allow" | "deny";

/** Resolves a name to all its addresses, as `node:dns/promises` lookup does. */
export type Resolve = (host: string) => Promise<{ address: string; family: number }[]>;

export interface Egress {
  /**
   * The addresses of `host` (a name or a literal, brackets allowed) that may be connected to, in the resolver's order, at
   * least one. Throws `egress` (retry never) when all are forbidden, `dns` or `timeout` (retry later) when there is no answer.
   */
  addresses(host: string, signal: AbortSignal): Promise<Address[]>;
  /**
   * A TCP connection to the first allowed address that answers; a dead one costs a part of `timeoutMs` only. For TLS
   * wrap it: `tls.connect({ socket, servername })`. Throws as `addresses`, and `connect` or `timeout`.
   */
  connect(to: { host: string; port: number; timeoutMs: number }, signal: AbortSignal): Promise<Socket>;
}

/** Never a mail server or an endpoint: cloud metadata and fabric services, whatever the policy. */
const METADATA = new Set([
  "100.100.100.200", // Alibaba Cloud
  "168.63.129.16", // Azure
  "192.0.0.192", // Oracle Cloud
  "fd00:ec2::254", // AWS over IPv6
  "fd20:ce::254", // Google Cloud over IPv6
]);
/** IANA ranges (by their names in ipaddr.js) that are refused whatever the policy. */
const NEVER = new Set(["unspecified", "linkLocal", "multicast", "broadcast"]);
/** Ranges beside plain unicast that lead to the public internet: judged by the IPv4 address inside them. */
const CARRIERS = new Set(["ipv4Mapped", "rfc6145", "rfc6052", "6to4", "teredo"]);
const RESOLVE_MS = 15_000;
/** What one address of several may take before the next is tried, as RFC 8305 wants it, only one at a time. */
const PER_ADDRESS_MS = 2_500;

/**
 * The guard for a policy: `deny` refuses everything but public addresses, `allow` also lets private, loopback, carrier-grade
 * NAT and unique local ones pass. Cloud metadata, link-local, unspecified and multicast addresses are always refused.
 */
export function egress(policy: Policy, options: { resolve?: Resolve; timeoutMs?: number } = {}): Egress {
  const resolve = options.resolve ?? ((host) => lookup(host, { all: true, verbatim: true }));
  const timeoutMs = options.timeoutMs ?? RESOLVE_MS;

  async function addresses(host: string, signal: AbortSignal): Promise<Address[]> {
    const name = host.replace(/^\[(.*)\]$/, "$1");
    const literal = isIP(name);
    const found = literal ? [{ address: name, family: literal }] : await answers(name, signal);
    const allowed = found.filter(({ address }) => !refusal(address, policy));
    if (allowed.length === 0) throw refused(name, found[0]?.address ?? name, policy);
    return allowed.map(({ address }) => ({ address, family: isIP(address) === 6 ? 6 : 4 }));
  }

  async function answers(name: string, signal: AbortSignal) {
    const work = resolve(name).catch((error: unknown) => {
      throw unresolved(name, error);
    });
    const found = await within(timeoutMs, `Resolving ${name}`, work, signal);
    if (found.length === 0) throw new Problem("dns", `The name ${name} has no address`);
    return found;
  }

  return {
    addresses,
    async connect({ host, port, timeoutMs: total }, signal) {
      return firstThatAnswers(await addresses(host, signal), port, total, signal);
    },
  };
}

async function firstThatAnswers(list: Address[], port: number, totalMs: number, signal: AbortSignal): Promise<Socket> {
  const end = performance.now() + totalMs;
  let failure: unknown;
  for (const [index, { address }] of list.entries()) {
    const left = end - performance.now();
    if (left <= 0) break;
    const last = index === list.length - 1;
    try {
      return await dial(address, port, last ? left : Math.min(left, PER_ADDRESS_MS, totalMs / 2), signal);
    } catch (error) {
      if (signal.aborted) throw error;
      failure = error;
    }
  }
  throw failure;
}

async function dial(address: string, port: number, ms: number, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ host: address, port });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("connect", resolve);
  socket.once("error", reject);
  try {
    await within(Math.max(1, Math.round(ms)), `Connecting to ${address} port ${port}`, promise, signal);
    socket.removeListener("error", reject);
    return socket;
  } catch (error) {
    // An error that arrives after the deadline has nobody else to hear it.
    socket.on("error", () => undefined);
    socket.destroy();
    if (signal.aborted || error instanceof Problem) throw error;
    throw unreachable(address, port, error);
  }
}

/** Why an address may not be connected to under a policy; undefined when it may. */
export function refusal(text: string, policy: Policy): string | undefined {
  const bare = text.replace(/%.*$/, "");
  if (!ipaddr.isValid(bare)) return "not an address";
  const address = ipaddr.parse(bare);
  if (isMetadata(address)) return "a cloud metadata address";
  const range = address.range();
  const carried = address instanceof ipaddr.IPv6 ? inside(address, range) : [];
  for (const inner of carried) {
    const reason = refusal(inner, policy);
    if (reason) return `${reason} in an IPv6 disguise`;
  }
  // "This network" (0.0.0.0/8) reaches the machine itself on Linux; ipaddr.js calls it unspecified.
  if (NEVER.has(range)) return `a ${range} address`;
  if (policy === "allow" || range === "unicast") return undefined;
  if (carried.length > 0 && CARRIERS.has(range)) return undefined;
  return `a ${range} address`;
}

function isMetadata(address: ipaddr.IPv4 | ipaddr.IPv6): boolean {
  for (const text of METADATA) {
    const known = ipaddr.parse(text);
    if (known.kind() === address.kind() && known.toNormalizedString() === address.toNormalizedString()) return true;
  }
  return false;
}

/**
 * The IPv4 addresses an IPv6 address stands for: mapped and translated (RFC 4291, 6052, 7915, 8215), 6to4 (RFC 3056), Teredo
 * (RFC 4380, its server and its inverted client), the old compatible form, and ISATAP (RFC 5214).
 */
function inside(address: ipaddr.IPv6, range: string): string[] {
  const [p0 = 0, p1 = 0, p2 = 0, p3 = 0, p4 = 0, p5 = 0, p6 = 0, p7 = 0] = address.parts;
  const low = quad(p6, p7);
  if (range === "ipv4Mapped" || range === "rfc6145" || range === "rfc6052") return [low];
  if (range === "6to4") return [quad(p1, p2)];
  if (range === "teredo") return [quad(p2, p3), quad(p6 ^ 0xffff, p7 ^ 0xffff)];
  if (p0 === 0x64 && p1 === 0xff9b) return [low];
  if (p4 === 0 || p4 === 0x200) {
    if (p5 === 0x5efe) return [low];
  }
  const compatible = [p0, p1, p2, p3, p4, p5].every((p) => p === 0) && (p6 !== 0 || p7 > 1);
  return compatible ? [low] : [];
}

function quad(high: number, low: number): string {
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}

function refused(host: string, address: string, policy: Policy): Problem {
  const what = host === address ? address : `${host} (${address})`;
  return new Problem("egress", `${what} is ${refusal(address, policy) ?? "not allowed"}`, { retry: "never" });
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** Never permanent: a name server that fails or a network that is not up yet looks much like a name that does not exist. */
function unresolved(name: string, error: unknown): Problem {
  const code = codeOf(error);
  const unknown = /ENOTFOUND|ENODATA|EAI_NONAME|EAI_NODATA/.test(code);
  const cause = unknown ? `There is no host named ${name}` : `The name servers did not answer for ${name} (${code})`;
  return new Problem("dns", cause, { cause: error });
}

const NO_CONNECTION: Record<string, string> = {
  ECONNREFUSED: "refuses connections",
  ETIMEDOUT: "does not answer",
  EHOSTUNREACH: "cannot be reached",
  ENETUNREACH: "is in a network that cannot be reached",
  ECONNRESET: "cut the connection",
};

function unreachable(address: string, port: number, error: unknown): Problem {
  const code = codeOf(error);
  const words = NO_CONNECTION[code] ?? `cannot be connected to (${code || String(error)})`;
  return new Problem("connect", `${address} port ${port} ${words}`, { cause: error });
}
