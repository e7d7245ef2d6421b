/**
 * A real HTTP server that takes webhooks: it checks every signature with the independent verifier of Standard
 * Webhooks, keeps what arrived, and answers as a test tells it: refuses, is slow, hangs, closes the connection.
 */
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { setTimeout as sleep } from "node:timers/promises";
import { Webhook } from "standardwebhooks";
import type { KeyPair } from "./certificates.ts";
import { listenOn } from "./ports.ts";
import { tally, waitingRoom } from "./waiting.ts";

/** One request as it arrived; `responded` is the status it got, undefined while (or if) it got none. */
export type EndpointRequest = {
  /** The webhook-id, or "" when the request carries none. */
  id: string;
  /** When its head arrived, in ms since 1970. */
  at: number;
  method: string;
  path: string;
  headers: Record<string, string>;
  raw: Buffer;
  /** The body as JSON, undefined when it is none. */
  json: unknown;
  verified: boolean;
  /** Why it is not verified. */
  problem: string | undefined;
  /** How many requests with this id came before. */
  earlier: number;
  responded: number | undefined;
};

/** What to answer: by default 200 with an empty JSON object at once. */
export type Answer = {
  status?: number;
  headers?: Record<string, string>;
  body?: string;
  delayMs?: number;
  /** Never answers; the connection stays open until the client or `stop()` ends it. */
  hang?: boolean;
  /** Reads the whole request, then closes the connection without a byte of answer. */
  closeBefore?: boolean;
  /** Answers in full, then closes the connection without having announced it. */
  closeAfterBody?: boolean;
  /** Announces more bytes than it sends, then closes the connection. */
  cut?: boolean;
};

export type EndpointOptions = {
  /** The secret, or several during a rotation; null takes requests without a signature. Made up if left out. */
  secret?: string | string[] | null;
  tls?: KeyPair;
  port?: number;
};

export type Endpoint = {
  url: string;
  port: number;
  /** The first secret, "" without one. */
  secret: string;
  /** Every request, in order of arrival. */
  requests: readonly EndpointRequest[];
  /** The requests that were verified and answered with 2xx, in order of their answers. */
  received: readonly EndpointRequest[];
  /** Those among `received` whose id had been received before: what a consumer would call duplicates. */
  repeats: readonly EndpointRequest[];
  /** How many requests are unanswered now, and the most there ever were at once. */
  open(): { now: number; most: number };
  byId(id: string): EndpointRequest[];
  /** Sets what every request from now on is answered. */
  answer(program: (request: EndpointRequest) => Answer | Promise<Answer>): void;
  /** Resolves once so many different ids were received, or with the first request (past or future) that matches. */
  waitFor(count: number, timeoutMs?: number): Promise<readonly EndpointRequest[]>;
  waitFor(predicate: (request: EndpointRequest) => boolean, timeoutMs?: number): Promise<EndpointRequest>;
  /** Forgets what arrived so far. */
  clear(): void;
  stop(): Promise<void>;
  /** Listens again on the same port. */
  start(): Promise<void>;
};

/** Starts an endpoint on a free port of 127.0.0.1; resolves once it listens. */
export async function startEndpoint(options: EndpointOptions = {}): Promise<Endpoint> {
  const secrets =
    options.secret === null ? [] : [options.secret ?? `whsec_${randomBytes(32).toString("base64")}`].flat();
  const book = new RequestBook(secrets);
  let server: Server | undefined;
  const endpoint: Endpoint = {
    url: "",
    port: options.port ?? 0,
    secret: secrets[0] ?? "",
    requests: book.requests,
    received: book.received,
    repeats: book.repeats,
    open: () => ({ now: book.openNow, most: book.openMost }),
    byId: (id) => book.byId.get(id) ?? [],
    answer: (program) => {
      book.program = program;
    },
    waitFor: book.waitFor.bind(book) as Endpoint["waitFor"],
    clear: () => book.clear(),
    stop: async () => {
      const closed = server && new Promise((resolve) => server?.close(resolve));
      server?.closeAllConnections();
      server = undefined;
      await closed;
    },
    start: async () => {
      server = options.tls ? createTlsServer(options.tls) : createServer();
      server.on("request", (request, response) => void book.take(request, response));
      endpoint.port = await listenOn(server, endpoint.port);
      endpoint.url = `${options.tls ? "https" : "http"}://127.0.0.1:${endpoint.port}/`;
    },
  };
  await endpoint.start();
  return endpoint;
}

class RequestBook {
  readonly requests: EndpointRequest[] = [];
  readonly received: EndpointRequest[] = [];
  readonly repeats: EndpointRequest[] = [];
  readonly byId = new Map<string, EndpointRequest[]>();
  readonly #acceptedIds = new Set<string>();
  readonly #changed = waitingRoom();
  readonly #verifiers: Webhook[];
  openNow = 0;
  openMost = 0;
  program: (request: EndpointRequest) => Answer | Promise<Answer> = () => ({});

  constructor(secrets: string[]) {
    this.#verifiers = secrets.map((secret) => new Webhook(secret));
  }

  clear(): void {
    for (const list of [this.requests, this.received, this.repeats]) list.length = 0;
    this.byId.clear();
    this.#acceptedIds.clear();
    this.openMost = this.openNow;
  }

  async take(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    this.openMost = Math.max(this.openMost, ++this.openNow);
    response.once("close", () => this.openNow--);
    try {
      const request = await this.#record(incoming);
      await respond(incoming, response, await this.program(request), (status) => this.#answered(request, status));
    } catch {
      // The client went away in the middle of its request or of the answer.
      response.destroy();
    }
  }

  async waitFor(wanted: number | ((request: EndpointRequest) => boolean), timeoutMs = 60_000): Promise<unknown> {
    const described = typeof wanted === "number" ? `${wanted} messages` : "a matching request";
    const found = (): unknown => {
      if (typeof wanted === "function") return this.requests.find(wanted);
      return this.#acceptedIds.size >= wanted ? this.received : undefined;
    };
    return this.#changed.until(
      found,
      timeoutMs,
      () => `The endpoint waited in vain for ${described}: ${this.#summary()}`,
    );
  }

  async #record(incoming: IncomingMessage): Promise<EndpointRequest> {
    const at = Date.now();
    const chunks: Buffer[] = [];
    for await (const chunk of incoming) chunks.push(chunk as Buffer);
    const raw = Buffer.concat(chunks);
    const headers = Object.fromEntries(Object.entries(incoming.headers).map(([name, value]) => [name, String(value)]));
    const id = headers["webhook-id"] ?? "";
    const problem = this.#problemWith(raw, headers);
    const same = this.byId.get(id) ?? [];
    const request: EndpointRequest = {
      id,
      at,
      method: incoming.method ?? "",
      path: incoming.url ?? "",
      headers,
      raw,
      json: jsonOf(raw),
      verified: problem === undefined,
      problem,
      earlier: same.length,
      responded: undefined,
    };
    this.requests.push(request);
    same.push(request);
    this.byId.set(id, same);
    this.#changed.wake();
    return request;
  }

  #problemWith(raw: Buffer, headers: Record<string, string>): string | undefined {
    let problem: string | undefined;
    for (const verifier of this.#verifiers) {
      try {
        verifier.verify(raw.toString(), headers, { jsonParse: false });
        return undefined;
      } catch (error) {
        problem = error instanceof Error ? error.message : String(error);
      }
    }
    return problem;
  }

  #answered(request: EndpointRequest, status: number): void {
    request.responded = status;
    if (request.verified && status >= 200 && status < 300) {
      this.received.push(request);
      // Requests without an id are never repeats of each other.
      const id = request.id || `without id ${this.received.length}`;
      if (this.#acceptedIds.has(id)) this.repeats.push(request);
      this.#acceptedIds.add(id);
    }
    this.#changed.wake();
  }

  #summary(): string {
    const outcomes = tally(
      this.requests.map((request) => request.problem ?? `answered ${request.responded ?? "nothing"}`),
    );
    const last = this.requests.slice(-5).map((request) => `${request.method} ${request.path} ${request.id}`);
    return `${this.requests.length} requests (${outcomes}), ${this.#acceptedIds.size} messages received; last: ${last.join(", ")}`;
  }
}

async function respond(
  incoming: IncomingMessage,
  response: ServerResponse,
  answer: Answer,
  answered: (status: number) => void,
): Promise<void> {
  if (answer.delayMs) await sleep(answer.delayMs);
  if (answer.hang) return;
  if (answer.closeBefore) {
    incoming.socket.destroy();
    return;
  }
  const status = answer.status ?? 200;
  const body = Buffer.from(answer.body ?? (status === 204 || status === 304 ? "" : "{}"));
  const length = status === 204 ? {} : { "content-length": String(body.length + (answer.cut ? 100 : 0)) };
  response.writeHead(status, { "content-type": "application/json", ...length, ...answer.headers });
  // Counted before the bytes leave, so that a test which saw the answer also sees the request as received.
  answered(status);
  if (answer.cut) {
    response.write(body, () => incoming.socket.destroy());
    return;
  }
  response.end(body, () => {
    if (answer.closeAfterBody) incoming.socket.end();
  });
}

function jsonOf(raw: Buffer): unknown {
  try {
    return JSON.parse(raw.toString());
  } catch {
    return undefined;
  }
}
