/**
 * Guards every connection that the service opens to a host which a client named. Names are resolved here, forbidden
 * addresses are refused, and a connection goes to exactly the checked address. There is no second look-up that an
 * attacker could change.
 */
import { lookup } from "node:dns/promises";
import { connect as connectTcp, isIP, type Socket } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { Problem } from "./contract/problem.ts";
import { type EgressPolicy, forbiddenReason } from "./egress/addresses.ts";
import { type LookUp, type OwnServers, ownServers, type Target } from "./egress/own-servers.ts";
import { withTimeout } from "./time.ts";

export type IpAddress = { address: string; family: 4 | 6 };
export type HostAndPort = { host: string; port: number };

/** The port that a URL of http or https means. */
export function portOfUrl({ port, protocol }: URL): number {
  return port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
}

/** Resolves a name to all its addresses, as `node:dns/promises` lookup does. */
export type ResolveHost = (host: string) => Promise<ResolvedAddress[]>;
type ResolvedAddress = { address: string; family: number };

export interface Egress {
  /**
   * The addresses of `host` (a name or a literal, with or without brackets) that the service may connect to on this
   * port, in the resolver's order, at least one. Throws `egress` (retry never) when all are forbidden, `dns` or
   * `timeout` (retry later) when there is no answer.
   */
  resolve(to: HostAndPort, signal: AbortSignal): Promise<IpAddress[]>;
  /**
   * A TCP connection to the first allowed address that answers. A dead address costs only a part of `timeoutMs`. For
   * TLS wrap it: `tls.connect({ socket, servername })`. Throws as `resolve`, and `connect` or `timeout`.
   */
  connect(to: { host: string; port: number; timeoutMs: number }, signal: AbortSignal): Promise<Socket>;
}

/** With `deny`, what mail servers and endpoints use; EGRESS_PORTS adds others. */
const USUAL_PORTS = new Set([25, 80, 110, 143, 443, 465, 587, 993, 995, 2525]);
const RESOLVE_MS = 15_000;
const LOOPBACKS = [
  { address: "::1", family: 6 },
  { address: "127.0.0.1", family: 4 },
];
/**
 * How long one of several addresses may take before the next is tried beside it (RFC 8305). Longer than the 250 ms there,
 * because a mail server counts connections.
 */
const NEXT_ADDRESS_MS = 1_000;

export type EgressOptions = {
  resolve?: ResolveHost;
  timeoutMs?: number;
  /** Ports that `deny` allows besides the usual ones. */
  ports?: readonly number[];
  /** Prefixes of this network's translators from IPv6 to IPv4, as CIDR. */
  nat64?: readonly string[];
  own?: OwnServers;
};

/**
 * The guard for a policy. `deny` allows only public addresses, and only the ports of mail and of the web. `allow` also
 * allows private, loopback, carrier-grade NAT and unique local addresses, and every port. Cloud metadata, link-local,
 * unspecified and multicast addresses are always refused, and so are the servers of the service itself.
 */
export function egress(policy: EgressPolicy, options: EgressOptions = {}): Egress {
  const lookUp = createLookUp(options);
  const getReason = createJudge(policy, options, lookUp);

  async function resolveAllowed({ host, port }: HostAndPort, signal: AbortSignal): Promise<IpAddress[]> {
    const name = host.replace(/^\[(.*)\]$/, "$1");
    const literal = isIP(name);
    const resolved = literal ? [{ address: name, family: literal }] : await lookUp(name, signal);
    const reasons = await Promise.all(resolved.map(({ address }) => getReason({ address, port }, signal)));
    const allowed = resolved.filter((_, at) => reasons[at] === undefined);
    if (allowed.length === 0) throw forbiddenProblem(name, resolved[0]?.address ?? name, reasons[0]);
    return allowed.map(({ address }) => ({ address, family: isIP(address) === 6 ? 6 : 4 }));
  }

  return {
    resolve: resolveAllowed,
    async connect({ host, port, timeoutMs: total }, signal) {
      return connectFirst(await resolveAllowed({ host, port }, signal), port, total, signal);
    },
  };
}

function createLookUp({ resolve, timeoutMs = RESOLVE_MS }: EgressOptions): LookUp {
  const lookUpAll = resolve ?? ((host) => lookup(host, { all: true, verbatim: true }));
  return async (name, signal) => {
    const work = lookUpAll(name).catch((error: unknown) => {
      throw dnsProblem(name, error);
    });
    const resolved = await withTimeout(timeoutMs, `Resolving ${name}`, work, signal);
    if (resolved.length === 0) throw new Problem("dns", `The name ${name} has no address`);
    return isLocalhost(name) ? withBothLoopbacks(resolved) : resolved;
  };
}

function isLocalhost(name: string): boolean {
  return /^localhost\.?$/i.test(name);
}

/** RFC 6761 section 6.3: localhost has both loopback addresses, also on a machine whose files name one of them only. */
function withBothLoopbacks(resolved: ResolvedAddress[]): ResolvedAddress[] {
  const missing = LOOPBACKS.filter((one) => !resolved.some(({ address }) => address === one.address));
  return [...missing, ...resolved];
}

/** Tells why an address on a port is forbidden; undefined when it is allowed. */
function createJudge(policy: EgressPolicy, { nat64 = [], own, ports = [] }: EgressOptions, lookUp: LookUp) {
  const isOwnServer = own && ownServers(own, lookUp, nat64);
  return async (target: Target, signal: AbortSignal): Promise<string | undefined> => {
    const { address, port } = target;
    const reason = forbiddenReason(address, policy, nat64);
    if (reason !== undefined) return reason;
    if (await isOwnServer?.(target, signal)) return `a server of this service on port ${port}`;
    if (policy === "allow" || USUAL_PORTS.has(port) || ports.includes(port)) return undefined;
    return `asked for on port ${port}, which is not allowed; EGRESS_PORTS adds ports`;
  };
}

/**
 * Begins with the first address. The next one is tried when the one before has failed, or has been silent for a while. The
 * first that answers is taken, so a list of dead addresses hides no living one. Throws what the last one said.
 */
async function connectFirst(list: IpAddress[], port: number, totalMs: number, signal: AbortSignal): Promise<Socket> {
  const end = performance.now() + totalMs;
  const over = new AbortController();
  const attempts: Promise<void>[] = [];
  let connected: Socket | undefined;
  const take = (socket: Socket) => {
    if (over.signal.aborted) return void socket.destroy();
    connected = socket;
    over.abort();
  };
  try {
    for (const { address } of list) {
      const left = end - performance.now();
      if (left <= 0) break;
      const attempt = dial(address, port, left, AbortSignal.any([signal, over.signal])).then(take);
      attempts.push(attempt);
      const silence = pause(NEXT_ADDRESS_MS, undefined, { signal: over.signal });
      await Promise.race([attempt, silence]).catch(() => undefined);
      if (connected) return connected;
      signal.throwIfAborted();
    }
    await Promise.allSettled(attempts);
    if (connected) return connected;
    await attempts.at(-1);
    throw new Problem("timeout", `Connecting to port ${port} took longer than ${totalMs / 1000} seconds`);
  } finally {
    over.abort();
  }
}

async function dial(address: string, port: number, ms: number, signal: AbortSignal): Promise<Socket> {
  const socket = connectTcp({ host: address, port });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  socket.once("connect", resolve);
  socket.once("error", reject);
  try {
    await withTimeout(Math.max(1, Math.round(ms)), `Connecting to ${address} port ${port}`, promise, signal);
    socket.removeListener("error", reject);
    return socket;
  } catch (error) {
    // After the deadline nobody else listens for the socket's error.
    socket.on("error", () => undefined);
    socket.destroy();
    if (signal.aborted || error instanceof Problem) throw error;
    throw connectProblem(address, port, error);
  }
}

function forbiddenProblem(host: string, address: string, reason = "not allowed"): Problem {
  const what = host === address ? address : `${host} (${address})`;
  return new Problem("egress", `${what} is ${reason}`, { retry: "never" });
}

function errorCode(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/**
 * Never permanent, because a failing name server or a network that is not up yet looks like a name that does not exist.
 */
function dnsProblem(name: string, error: unknown): Problem {
  const code = errorCode(error);
  const isUnknown = /ENOTFOUND|ENODATA|EAI_NONAME|EAI_NODATA/.test(code);
  const cause = isUnknown ? `There is no host named ${name}` : `The name servers did not answer for ${name} (${code})`;
  return new Problem("dns", cause, { cause: error });
}

const CONNECT_ERRORS: Record<string, string> = {
  ECONNREFUSED: "refuses connections",
  ETIMEDOUT: "does not answer",
  EHOSTUNREACH: "cannot be reached",
  ENETUNREACH: "is in a network that cannot be reached",
  ECONNRESET: "cut the connection",
};

function connectProblem(address: string, port: number, error: unknown): Problem {
  const code = errorCode(error);
  const words = CONNECT_ERRORS[code] ?? `cannot be connected to (${code || String(error)})`;
  return new Problem("connect", `${address} port ${port} ${words}`, { cause: error });
}
