/**
 * One POST to an endpoint: only to addresses that the egress guard allows, over keep-alive connections, and never
 * longer than the deadline.
 */
import { Agent as PlainAgent, type ClientRequest, request as plainRequest } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { isIP } from "node:net";
import { type IpAddress, type Egress, portOfUrl } from "../../shared/egress.ts";
import { COMPARED_BYTES } from "../../shared/evidence/message.ts";
import { withTimeout } from "../../shared/time.ts";
import { bodyLength, startOfBody } from "./body.ts";
import type { PostOutcome, WireRequest } from "./endpoint.ts";
import { httpExchange, ConnectError, type Cancellation } from "./http-exchange.ts";
import { type EndpointResponse, outcomeOfResponse, outcomeOfError } from "./outcome.ts";

type HttpPostDeps = {
  egress: Pick<Egress, "resolve">;
  /** For everything from the name look-up to the endpoint's status. */
  timeoutMs: number;
  /** PEM of certificate authorities to trust instead of the runtime's own. */
  ca?: string;
};

export type Post = {
  /** Resolves with the outcome. Rejects only with the signal's reason, because a shutdown is no attempt. */
  (wire: WireRequest, signal: AbortSignal): Promise<PostOutcome>;
  /** Closes all connections. */
  close(): void;
};

/** How long addresses are cached, so that a burst of messages asks the name servers once. */
const ADDRESS_CACHE = { ms: 10_000, most: 1000 };
/** After this time a connection attempt to one of several addresses gives way to the next. */
const PER_ADDRESS_MS = 5_000;
const IDLE_SOCKET_MS = 30_000;
const SECRET_PATH_PART = 16;

type Client = HttpPostDeps & {
  agents: { plain: PlainAgent; tls: TlsAgent };
  addressCache: AddressCache;
};
type ResolvedRequest = { wire: WireRequest; url: URL; address: IpAddress };

/** A client for endpoints. A dead keep-alive connection is replaced once. */
export function httpPost(deps: HttpPostDeps): Post {
  const options = { keepAlive: true, timeout: IDLE_SOCKET_MS, scheduling: "lifo" } as const;
  const agents = { plain: new PlainAgent(options), tls: new TlsAgent(options) };
  const client: Client = { ...deps, agents, addressCache: createAddressCache(deps.egress) };

  async function post(wire: WireRequest, signal: AbortSignal): Promise<PostOutcome> {
    signal.throwIfAborted();
    const started = performance.now();
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), deps.timeoutMs);
    try {
      const response = await send(client, wire, { signal, deadline: deadline.signal });
      const given = () => ({ secrets: listUrlSecrets(wire.url), message: startOfBody(wire.body, COMPARED_BYTES) });
      return outcomeOfResponse(response, given, performance.now() - started, new Date());
    } catch (error) {
      signal.throwIfAborted();
      const unreached = error instanceof ConnectError;
      return outcomeOfError(unreached ? error.cause : error, performance.now() - started, { unreached });
    } finally {
      clearTimeout(timer);
    }
  }

  return Object.assign(post, {
    close() {
      agents.plain.destroy();
      agents.tls.destroy();
    },
  });
}

async function send(client: Client, wire: WireRequest, cancellation: Cancellation): Promise<EndpointResponse> {
  const url = new URL(wire.url);
  const addresses = client.addressCache.get(url) ?? (await resolveAddresses(client, url, cancellation.signal));
  for (const [index, address] of addresses.entries()) {
    const last = index === addresses.length - 1;
    try {
      return await sendTo(client, { wire, url, address }, last ? undefined : PER_ADDRESS_MS, cancellation);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      if (last || cancellation.deadline.aborted) throw error;
    }
  }
  throw new Error(`${url.hostname} has no address`);
}

function resolveAddresses({ addressCache, timeoutMs }: Client, url: URL, signal: AbortSignal): Promise<IpAddress[]> {
  return withTimeout(timeoutMs, `Resolving ${url.hostname}`, addressCache.resolve(url, signal), signal);
}

async function sendTo(
  client: Client,
  request: ResolvedRequest,
  connectMs: number | undefined,
  cancellation: Cancellation,
): Promise<EndpointResponse> {
  const first = openRequest(client, request, {});
  try {
    return await httpExchange(first, request.wire.body, connectMs, cancellation);
  } catch (error) {
    // The endpoint closed an idle connection just when it was used again. A second POST is safe, because the
    // webhook-id is the same.
    if (
      !first.reusedSocket ||
      !isConnectionReset(error) ||
      cancellation.deadline.aborted ||
      cancellation.signal.aborted
    )
      throw error;
  }
  return httpExchange(openRequest(client, request, { agent: false }), request.wire.body, connectMs, cancellation);
}

/** Opens the request to the address itself. The name goes into Host and, for the certificate, into SNI. */
function openRequest(
  { agents, ca }: Client,
  { wire, url, address }: ResolvedRequest,
  overrides: { agent?: false },
): ClientRequest {
  const secure = url.protocol === "https:";
  const to = {
    host: address.address,
    family: address.family,
    port: portOfUrl(url),
    path: `${url.pathname}${url.search}`,
    method: "POST",
    headers: headersOf(wire, url),
    agent: secure ? agents.tls : agents.plain,
    ...overrides,
  };
  if (!secure) return plainRequest(to);
  const hasHostname = isIP(url.hostname.replace(/^\[(.*)\]$/, "$1")) === 0;
  return tlsRequest({ ...to, ...(hasHostname && { servername: url.hostname }), ...(ca && { ca }) });
}

/** What may be a secret in a URL: its login, the values of its query, and long parts of its path. */
function listUrlSecrets(address: string): string[] {
  const { username, password, searchParams, pathname } = new URL(address);
  const parts = pathname.split("/").filter((part) => part.length >= SECRET_PATH_PART);
  return [username, password, ...parts, ...searchParams.values()];
}

function isConnectionReset(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ECONNRESET" || code === "EPIPE" || (error instanceof Error && error.message === "socket hang up");
}

function headersOf(wire: WireRequest, url: URL): Record<string, string> {
  const login = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return {
    ...wire.headers,
    host: url.host,
    "content-length": String(bodyLength(wire.body)),
    ...(login !== ":" && { authorization: `Basic ${Buffer.from(login).toString("base64")}` }),
  };
}

type AddressCache = {
  get(url: URL): IpAddress[] | undefined;
  resolve(url: URL, signal: AbortSignal): Promise<IpAddress[]>;
};

/** Allowed addresses by host and scheme or port, cached for a few seconds. Failures are not cached. */
function createAddressCache(egress: Pick<Egress, "resolve">): AddressCache {
  const entries = new Map<string, { list: IpAddress[]; until: number }>();
  return {
    get({ origin }) {
      const entry = entries.get(origin);
      return entry && entry.until > performance.now() ? entry.list : undefined;
    },
    async resolve(url, signal) {
      const now = performance.now();
      const list = await egress.resolve({ host: url.hostname, port: portOfUrl(url) }, signal);
      if (entries.size >= ADDRESS_CACHE.most) entries.clear();
      entries.set(url.origin, { list, until: now + ADDRESS_CACHE.ms });
      return list;
    },
  };
}
