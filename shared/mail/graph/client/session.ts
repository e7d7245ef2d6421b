/** One mailbox at Microsoft Graph: requests for it with JSON or bytes as their answers. Every failure is a Problem. */
import * as v from "valibot";
import { graphRootOf } from "../../../contract/graph.ts";
import type { ServerFacts } from "../../../contract/learned.ts";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem, type ProblemCode } from "../../../contract/problem.ts";
import { quoteWords } from "../../../evidence/evidence.ts";
import type { ConnectionPoolDeps } from "../../http/connection-pool.ts";
import { httpTap } from "../../http/record/tap.ts";
import type { RequestBody } from "../../http/request-body.ts";
import { createIntake, type Intake } from "../../net/intake.ts";
import type { OpenTap } from "../../net/tap.ts";
import type { Tokens } from "../../oauth/tokens.ts";
import { type ApplicationDeps, withApplication } from "./application.ts";
import { GraphRefusal } from "./errors.ts";
import { type GraphAnswer, type GraphRequest, putPiece, request, type RequestContext } from "./request.ts";
import { type GraphService, graphService } from "./service.ts";
import { showJson } from "./shown.ts";

/** What a Graph mailbox needs. Without `graph` it shares nothing with other mailboxes. */
export type GraphDeps = ConnectionPoolDeps &
  ApplicationDeps & { tokens?: Tokens; graph?: GraphService; intake?: Intake; openTap?: OpenTap };

/** A path below the root, or an absolute link that Graph gave. */
type Place = string | { link: string };

export type CallOptions = Partial<Pick<GraphRequest, "kind" | "headers" | "maxBytes">>;

export interface GraphSession {
  readonly open: boolean;
  /** The user's folder and message paths begin with this. */
  readonly base: string;
  /** False when the application was changed since the session was opened with its credentials. */
  isCurrent(): Promise<boolean>;
  /** The token that is used now, for reading its claims. */
  token(signal: AbortSignal): Promise<string>;
  /** A GET whose answer is JSON of this shape. Links of Graph are followed below its root only. */
  get<S extends v.GenericSchema>(
    what: string,
    place: Place,
    shape: S,
    signal: AbortSignal,
    options?: CallOptions,
  ): Promise<v.InferOutput<S>>;
  /** A GET whose answer is bytes. */
  getBytes(what: string, path: string, maxBytes: number, signal: AbortSignal): Promise<Buffer>;
  /** A change whose effect is the same when it is made twice, and that needs no answer. */
  change(order: ChangeOrder, signal: AbortSignal): Promise<void>;
  /**
   * A POST whose answer is JSON of this shape. It is never repeated by itself. A body with a content type goes as it is,
   * any other as JSON.
   */
  create<S extends v.GenericSchema>(
    what: string,
    path: string,
    order: PostBody & { shape: S },
    signal: AbortSignal,
  ): Promise<v.InferOutput<S>>;
  /**
   * A POST that needs no answer. It is never repeated by itself. `onLeave` is called before it leaves: what fails earlier
   * had no effect.
   */
  submit(what: string, path: string, order: PostBody & { onLeave?: () => void }, signal: AbortSignal): Promise<void>;
  /**
   * Puts a piece of a file to an address that Graph gave. It may be on another server, so it gets no token. The address is
   * a secret.
   */
  putPiece(address: string, piece: { bytes: Buffer; range: string }, signal: AbortSignal): Promise<void>;
  /** What is known of the service. */
  describe(): ServerFacts;
  close(): Promise<void>;
}

export type PostBody = { body: RequestBody; contentType: "text/plain" } | { body: unknown; contentType?: undefined };

export type ChangeOrder = {
  what: string;
  method: "POST" | "PATCH" | "DELETE";
  path: string;
  body?: unknown;
  headers?: Record<string, string>;
};

/** Ids that stay the same when a message moves. It counts only for the request that has it. */
const IMMUTABLE_IDS = 'IdType="ImmutableId"';
const API_VERSION = "v1.0";
const MAX_JSON_BYTES = 32 * 1024 * 1024;
/** After these problems the session is useless. A new one may have a new token, or find the user under another name. */
const SESSION_ENDING = new Set<ProblemCode>(["token", "no_mailbox"]);

const FoundUsers = v.object({ value: v.array(v.object({ id: v.string() })) });
const AnyFolder = v.object({ id: v.string() });

/**
 * The mailbox's session. It reads the id of the inbox, which proves the token, the permission and that the mailbox
 * exists. An address that is no userPrincipalName is looked up in the directory.
 */
export async function openGraph(
  deps: GraphDeps,
  given: MailboxOf<"graph">,
  signal: AbortSignal,
): Promise<GraphSession> {
  const { mailbox, version } = await withApplication(deps, given);
  const { receive, address } = mailbox;
  const service = deps.graph ?? graphService();
  const root = graphRootOf(receive);
  const { pool, release } = service.acquire(deps, new URL(root), receive);
  try {
    const context = createContext({ ...deps, graph: service }, mailbox, pool);
    const isCurrent = async () => version === null || (await withApplication(deps, given)).version === version;
    const sessionOf = (user: string) => createSession(context, { root, user, release, isCurrent });
    try {
      return await withInbox(sessionOf(receive.user ?? address), signal);
    } catch (error) {
      const unknown = error instanceof GraphRefusal && error.code === "no_mailbox" && receive.user === undefined;
      const id = unknown ? await findUser(sessionOf(address), address, signal) : undefined;
      if (id === undefined) throw error;
      return await withInbox(sessionOf(id), signal);
    }
  } catch (error) {
    release();
    throw error;
  }
}

/** The session, once it has opened the inbox. */
async function withInbox(session: GraphSession, signal: AbortSignal): Promise<GraphSession> {
  await session.get("Opening the inbox", `${session.base}/mailFolders/inbox?$select=id`, AnyFolder, signal);
  return session;
}

/** The object id of the user who has this address. Undefined if there is none, or if the directory may not be read. */
async function findUser(session: GraphSession, address: string, signal: AbortSignal): Promise<string | undefined> {
  const filter = `proxyAddresses/any(p:p eq 'smtp:${address.replaceAll("'", "''")}')`;
  const path = `users?$select=id&$filter=${encodeURIComponent(filter)}`;
  try {
    const { value } = await session.get("Looking up the user", path, FoundUsers, signal);
    return value.length === 1 ? value[0]?.id : undefined;
  } catch (error) {
    // The first refusal says what to do. This look-up needs a permission that most applications do not have.
    if (error instanceof GraphRefusal) return undefined;
    throw error;
  }
}

/** How this mailbox asks over these connections. */
export function createContext(
  deps: GraphDeps & { graph: GraphService },
  mailbox: MailboxOf<"graph">,
  pool: RequestContext["pool"],
): RequestContext {
  const { receive, address } = mailbox;
  const { auth } = receive;
  const clientId = "oauth2" in auth ? auth.oauth2.clientId : null;
  const root = graphRootOf(receive);
  return {
    pool,
    acquireFor: (url) => deps.graph.acquire(deps, url, {}),
    gate: deps.graph.gate,
    // Graph counts the requests of an application for a mailbox.
    gateKey: JSON.stringify([root, clientId ?? mailbox.id, (receive.user ?? address).toLowerCase()]),
    intake: deps.intake ?? createIntake(),
    asker: { clientId, address },
    root,
    command: deps.timeouts.command,
    async token(signal) {
      if ("accessToken" in auth) return auth.accessToken.reveal();
      if (!deps.tokens) throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
      return (await deps.tokens.access(mailbox, signal)).reveal();
    },
    forgetToken: (refused) => deps.tokens?.forget(mailbox.id, refused),
    // The token of each request is hidden; no other credentials go to Graph.
    tap: deps.openTap && httpTap({ openTap: deps.openTap, showBodies: showJson }, mailbox, "graph", () => []),
  };
}

/** The session of a user over these connections. `release` is called at its end. */
export function createSession(
  context: RequestContext,
  {
    root,
    user,
    release,
    isCurrent,
  }: { root: string; user: string; release: () => void; isCurrent: () => Promise<boolean> },
): GraphSession {
  let open = true;
  const call = async (order: GraphRequest, signal: AbortSignal): Promise<GraphAnswer> => {
    if (!open) throw new Problem("connect", "The session with Microsoft Graph has ended");
    try {
      return await request(context, withImmutableIds(order), signal);
    } catch (error) {
      if (error instanceof Problem && SESSION_ENDING.has(error.code)) open = false;
      throw error;
    }
  };
  const urlOf = (path: string) => new URL(`${root}/${API_VERSION}/${path}`);
  return {
    get open() {
      return open;
    },
    base: `users/${encodeURIComponent(user)}`,
    isCurrent,
    token: context.token,
    async get(what, place, shape, signal, { maxBytes = MAX_JSON_BYTES, ...options } = {}) {
      const url = typeof place === "string" ? urlOf(place) : toOwnUrl(root, place.link);
      const answer = await call({ ...options, method: "GET", url, what, maxBytes, repeatable: true }, signal);
      return parseJson(what, answer, shape);
    },
    async getBytes(what, path, maxBytes, signal) {
      const url = urlOf(path);
      const order = { method: "GET", url, what, kind: "download", maxBytes, repeatable: true } as const;
      return (await call({ ...order, headers: { accept: "*/*" } }, signal)).bytes;
    },
    async change({ what, method, path, body, headers = {} }, signal) {
      const json = body === undefined ? {} : { body: JSON.stringify(body) };
      const all = { ...headers, "content-type": "application/json" };
      const url = urlOf(path);
      await call({ what, method, url, ...json, headers: all, maxBytes: MAX_JSON_BYTES, repeatable: true }, signal);
    },
    async create(what, path, { shape, ...body }, signal) {
      return parseJson(what, await call(toPost(what, urlOf(path), body), signal), shape);
    },
    async submit(what, path, { onLeave, ...body }, signal) {
      await call({ ...toPost(what, urlOf(path), body), ...(onLeave && { onLeave }) }, signal);
    },
    putPiece: (address, piece, signal) => putPiece(context, address, piece, signal),
    describe: () => ({ server: `Microsoft Graph ${API_VERSION}`, capabilities: [], tls: context.pool.tls }),
    close() {
      open = false;
      release();
      return Promise.resolve();
    },
  };
}

function toPost(what: string, url: URL, post: PostBody): GraphRequest {
  const body = post.contentType === undefined ? JSON.stringify(post.body ?? {}) : post.body;
  const headers = { "content-type": post.contentType ?? "application/json" };
  return { method: "POST", url, what, headers, body, maxBytes: MAX_JSON_BYTES, repeatable: false };
}

/** Several preferences go into one header. */
function withImmutableIds(order: GraphRequest): GraphRequest {
  const { prefer, ...others } = order.headers ?? {};
  return {
    ...order,
    headers: { ...others, prefer: prefer === undefined ? IMMUTABLE_IDS : `${IMMUTABLE_IDS}, ${prefer}` },
  };
}

/** A link leads to the same server, otherwise a stored cursor could send the token anywhere. */
function toOwnUrl(root: string, link: string): URL {
  const url = URL.parse(link);
  const own = new URL(root);
  if (url?.origin === own.origin && url.pathname.startsWith(own.pathname)) return url;
  throw new Problem("protocol", "Microsoft Graph gave a link to another server, which is not followed", {
    evidence: quoteWords(url?.origin ?? "not a URL", { secrets: [] }),
  });
}

/** A proxy's page with the status 200 is no answer of Graph, and an empty one is a moment's trouble. */
function parseJson<S extends v.GenericSchema>(
  what: string,
  { bytes, headers, status }: GraphAnswer,
  shape: S,
): v.InferOutput<S> {
  const type = quoteWords(`HTTP ${status}; ${String(headers["content-type"] ?? "no content type")}`, { secrets: [] });
  if (bytes.length === 0)
    throw new Problem("unavailable", `${what}: Microsoft Graph gave an empty answer`, { evidence: type });
  const parsed = v.safeParse(shape, parseText(bytes));
  if (parsed.success) return parsed.output;
  throw new Problem("protocol", `${what}: the answer is not one of Microsoft Graph`, { evidence: type });
}

function parseText(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString("utf8"));
  } catch {
    // The shape decides: undefined fits none.
    return undefined;
  }
}
