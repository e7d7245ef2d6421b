/**
 * One POST to an endpoint: to exactly the addresses the egress guard allows, over connections that are kept alive, never longer
 * than the deadline, whatever the endpoint does.
 */
import { Agent as PlainAgent, type ClientRequest, request as plainRequest } from "node:http";
import { Agent as TlsAgent, request as tlsRequest } from "node:https";
import { isIP } from "node:net";
import type { Address, Egress } from "../../shared/egress.ts";
import { within } from "../../shared/time.ts";
import type { PostOutcome, WireRequest } from "./endpoint.ts";
import { exchange, Unconnected, type Until } from "./http-exchange.ts";
import { type Answer, answered, ownWords, unanswered } from "./outcome.ts";

type Deps = {
  egress: Pick<Egress, "addresses">;
  /** For everything from the look-up of the name to the endpoint's status. */
  timeoutMs: number;
  /** Authorities to trust instead of the runtime's own, PEM. */
  ca?: string;
};

export type Post = {
  /** Resolves with what became of it. Rejects only with the signal's reason: a shutdown is no attempt. */
  (wire: WireRequest, signal: AbortSignal): Promise<PostOutcome>;
  /** Closes all connections. */
  close(): void;
};

/** How long addresses are used again: a burst of messages asks the name servers once. */
const REMEMBER = { ms: 10_000, most: 1000 };
/** A connection to one of several addresses gives way to the next after this time. */
const PER_ADDRESS_MS = 5_000;
const IDLE_SOCKET_MS = 30_000;

type Client = Deps & {
  agents: { plain: PlainAgent; tls: TlsAgent };
  remembered: Remembered;
};
type Letter = { wire: WireRequest; url: URL; address: Address };

/** A client for endpoints. A kept connection that turns out to be dead is replaced once, unnoticed. */
export function httpPost(deps: Deps): Post {
  const options = { keepAlive: true, timeout: IDLE_SOCKET_MS, scheduling: "lifo" } as const;
  const agents = { plain: new PlainAgent(options), tls: new TlsAgent(options) };
  const client: Client = { ...deps, agents, remembered: rememberedAddresses(deps.egress) };

  async function post(wire: WireRequest, signal: AbortSignal): Promise<PostOutcome> {
    signal.throwIfAborted();
    const started = performance.now();
    const deadline = new AbortController();
    const timer = setTimeout(() => deadline.abort(), deps.timeoutMs);
    try {
      const answer = await send(client, wire, { signal, late: deadline.signal });
      const text = ownWords(answer.text, wire.body);
      return answered({ ...answer, text }, performance.now() - started, new Date());
    } catch (error) {
      signal.throwIfAborted();
      return unanswered(error, performance.now() - started);
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

async function send(client: Client, wire: WireRequest, until: Until): Promise<Answer> {
  const url = new URL(wire.url);
  const list = client.remembered.known(url.hostname) ?? (await resolved(client, url.hostname, until.signal));
  for (const [index, address] of list.entries()) {
    const last = index === list.length - 1;
    try {
      return await sendTo(client, { wire, url, address }, last ? undefined : PER_ADDRESS_MS, until);
    } catch (error) {
      if (!(error instanceof Unconnected)) throw error;
      if (last || until.late.aborted) throw error.cause;
    }
  }
  throw new Error(`${url.hostname} has no address`);
}

function resolved({ remembered, timeoutMs }: Client, host: string, signal: AbortSignal): Promise<Address[]> {
  return within(timeoutMs, `Resolving ${host}`, remembered.ask(host, signal), signal);
}

async function sendTo(client: Client, letter: Letter, connectMs: number | undefined, until: Until): Promise<Answer> {
  const first = start(client, letter, {});
  try {
    return await exchange(first, letter.wire.body, connectMs, until);
  } catch (error) {
    // The endpoint closed an idle connection just as it was used again. To post once more is safe: the webhook-id is the same.
    if (!first.reusedSocket || !isCut(error) || until.late.aborted || until.signal.aborted) throw error;
  }
  return exchange(start(client, letter, { agent: false }), letter.wire.body, connectMs, until);
}

/** Opens the request to the address itself; the name goes into Host and, for the certificate, into SNI. */
function start({ agents, ca }: Client, { wire, url, address }: Letter, other: { agent?: false }): ClientRequest {
  const secure = url.protocol === "https:";
  const to = {
    host: address.address,
    family: address.family,
    port: url.port || (secure ? 443 : 80),
    path: `${url.pathname}${url.search}`,
    method: "POST",
    headers: headersOf(wire, url),
    agent: secure ? agents.tls : agents.plain,
    ...other,
  };
  if (!secure) return plainRequest(to);
  const named = isIP(url.hostname.replace(/^\[(.*)\]$/, "$1")) === 0;
  return tlsRequest({ ...to, ...(named && { servername: url.hostname }), ...(ca && { ca }) });
}

function isCut(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ECONNRESET" || code === "EPIPE" || (error instanceof Error && error.message === "socket hang up");
}

function headersOf(wire: WireRequest, url: URL): Record<string, string> {
  const login = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  return {
    ...wire.headers,
    host: url.host,
    "content-length": String(Buffer.byteLength(wire.body)),
    ...(login !== ":" && { authorization: `Basic ${Buffer.from(login).toString("base64")}` }),
  };
}

type Remembered = {
  known(host: string): Address[] | undefined;
  ask(host: string, signal: AbortSignal): Promise<Address[]>;
};

/** Allowed addresses by name, for a few seconds. Failures are not remembered. */
function rememberedAddresses(egress: Pick<Egress, "addresses">): Remembered {
  const answers = new Map<string, { list: Address[]; until: number }>();
  return {
    known(host) {
      const found = answers.get(host);
      return found && found.until > performance.now() ? found.list : undefined;
    },
    async ask(host, signal) {
      const now = performance.now();
      const list = await egress.addresses(host, signal);
      if (answers.size >= REMEMBER.most) answers.clear();
      answers.set(host, { list, until: now + REMEMBER.ms });
      return list;
    },
  };
}
