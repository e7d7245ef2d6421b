/** What pages and actions of the console have in common: the login, the frame, the answers to problems, and calls of the API. */
import * as v from "valibot";
import type { Emit } from "../../../shared/telemetry/events.ts";
import { asProblem, Problem, type ProblemCode, PROBLEMS } from "../../../shared/contract/problem.ts";
import type { Actor, TokenScope } from "../../../shared/contract/token.ts";
import type { ApiDeps } from "../../deps.ts";
import { hasScope } from "../../http/auth.ts";
import { checkContentType, readBody } from "../../http/body.ts";
import { isCrossSite } from "../../http/client.ts";
import { isRecord } from "../../http/field-errors.ts";
import type { Caller, Route } from "../../http/route.ts";
import type { Assets } from "../../pages/console/assets.ts";
import {
  consolePage,
  type Frame,
  type PageContent,
  pageResponse,
  problemContent,
  type WrittenPage,
  writePage,
} from "../../pages/console/layout.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import type { SharedPages } from "./fresh.ts";
import { cannotReadProblem, type Sessions } from "./sessions.ts";

export type ConsoleDeps = {
  config: ApiDeps["config"];
  version: string;
  emit: Emit;
  sessions: Sessions;
  assets: Assets;
  /** What a token sees that is bound to this prefix of mailbox ids. */
  scopedFor(prefix: string): ScopedDeps;
  callApi: CallApi;
  /** The pages that renew themselves. */
  renewed: SharedPages<WrittenPage>;
};

/** Answers a request to the API as if this actor had made it: with its scopes, its prefix, and a record of the change. */
export type CallApi = (actor: Actor, address: string, request: Request) => Promise<Response>;

/** One request to a page or an action by somebody who may read. `id` is the path's parameter; "" if there is none. */
export type ConsoleCall = {
  deps: ScopedDeps;
  base: string;
  actor: Actor;
  id: string;
  query: URLSearchParams;
  /** The fields of the form; empty for a page. */
  form: URLSearchParams;
  request: Request;
  /** Aborts when the client goes away, the node stops, or after `ms`. */
  signal(ms: number): AbortSignal;
  /** Calls the API as this actor. Throws the problem that the API answers. */
  api(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Response>;
  render(content: PageContent): Promise<Response>;
  /** Whether the actor may do what needs this scope. */
  may(scope: TokenScope): boolean;
};

type Handle = (call: ConsoleCall) => Promise<Response> | Response;

/** A form has a few short fields, and at most a list of ids. */
const MAX_FORM_BYTES = 64 * 1024;
const FORM_TYPE = "application/x-www-form-urlencoded";

/** A page for everybody who is logged in and may read. Without a login the answer is 303 to /login. */
export function page(deps: ConsoleDeps, path: string, handle: Handle): Route {
  return consoleRoute(deps, { method: "get", path }, (request, context) =>
    answerCaller(deps, handle, request, context),
  );
}

/** What a form of a page does. Requests from pages of other sites are refused. The answer is 303 to a page, or a page. */
export function action(deps: ConsoleDeps, path: string, handle: Handle): Route {
  return consoleRoute(deps, { method: "post", path }, (request, context) =>
    answerCaller(deps, handle, request, context),
  );
}

type RouteContext = { caller: Caller; id: string; stop: AbortSignal };
type Respond = (request: Request, context: RouteContext) => Promise<Response> | Response;

/** A route of the console: it is open, and asks for the login itself. Problems are answered by pages. */
export function consoleRoute(
  deps: ConsoleDeps,
  { method, path }: Pick<Route, "method" | "path">,
  respond: Respond,
): Route {
  return {
    method,
    path,
    tag: "Console",
    summary: path,
    scope: "public",
    responses: {},
    problems: [],
    async respond(context, caller, stop) {
      const request = context.req.raw;
      try {
        if (method === "post" && isCrossSite(request, deps.config.PUBLIC_URL)) throw crossSiteProblem();
        return await respond(request, { caller, id: Object.values(context.req.param())[0] ?? "", stop });
      } catch (error) {
        return problemPage(deps, request, asProblem(error));
      }
    },
  };
}

async function answerCaller(
  deps: ConsoleDeps,
  handle: Handle,
  request: Request,
  { caller, id, stop }: RouteContext,
): Promise<Response> {
  const actor = await actorOrUndefined(deps, request, caller.address);
  if (!actor) return toLogin(deps, request);
  if (!hasScope(actor, "read")) throw cannotReadProblem(actor);
  const frame = frameOf(deps, request, actor);
  const signal = (ms: number) => AbortSignal.any([request.signal, stop, AbortSignal.timeout(ms)]);
  const key = keyOf(request, actor, frame);
  const kept = request.headers.has(RENEWAL) ? await deps.renewed.find(key) : undefined;
  if (kept) return pageResponse(kept);
  const make = async (keep: (page: WrittenPage) => void) =>
    handle({
      deps: deps.scopedFor(actor.mailboxPrefix),
      base: deps.config.BASE_PATH,
      actor,
      id,
      query: new URL(request.url).searchParams,
      form: await readForm(request),
      request,
      signal,
      api: (method, path, body, headers = {}) =>
        callApi(deps, { actor, address: caller.address, request }, { method, path, body, headers }),
      async render(content) {
        const written = await writePage(frame, content);
        if (content.isLive && written.status === 200) keep(written);
        return pageResponse(written);
      },
      may: (scope) => hasScope(actor, scope),
    });
  try {
    return await (request.method === "GET" ? deps.renewed.make(key, make) : make(() => undefined));
  } catch (error) {
    return problemPage(deps, request, asProblem(error), actor);
  }
}

/** A page asks with this header for itself again. Whoever opens it gets one that was made for him. */
const RENEWAL = "x-renewal";

/** What a page depends on besides the state of the service. */
function keyOf({ url }: Request, { id, name, scopes, mailboxPrefix }: Actor, { acceptsGzip }: Frame): string {
  return JSON.stringify([url, id, name, scopes, mailboxPrefix, acceptsGzip]);
}

async function actorOrUndefined({ sessions }: ConsoleDeps, request: Request, address: string) {
  try {
    return await sessions.actorOf(request, address);
  } catch (error) {
    if (error instanceof Problem && error.code === "unauthorized") return undefined;
    throw error;
  }
}

/** The fields of a form. Throws `media_type` and what `readBody` throws. */
export async function readForm(request: Request): Promise<URLSearchParams> {
  if (request.method !== "POST") return new URLSearchParams();
  checkContentType(request, [FORM_TYPE]);
  return new URLSearchParams(await readBody(request, MAX_FORM_BYTES));
}

/** 303: the browser gets the page by GET, so that a reload repeats nothing. */
export function seeOther(location: string, headers: Record<string, string> = {}): Response {
  return new Response(null, { status: 303, headers: { location, "cache-control": "no-store", ...headers } });
}

function toLogin({ config, sessions }: ConsoleDeps, request: Request): Response {
  const { pathname, search } = new URL(request.url);
  const start = `${config.BASE_PATH}/`;
  const wanted =
    request.method === "POST" || pathname === start || pathname === config.BASE_PATH ? "" : pathname + search;
  const next = wanted === "" ? "" : `?next=${encodeURIComponent(wanted)}`;
  const ended = request.headers.has("cookie") ? { "set-cookie": sessions.endCookie(request) } : {};
  return seeOther(`${config.BASE_PATH}/login${next}`, ended);
}

/** The frame of a page. Without an actor it has no navigation. */
export function frameOf({ config, assets, version }: ConsoleDeps, request: Request, actor?: Actor): Frame {
  const { pathname, search } = new URL(request.url);
  const base = config.BASE_PATH;
  return {
    base,
    assets,
    version,
    path: pathname.slice(base.length) || "/",
    query: search,
    actor,
    isOpen: config.API_TOKENS.length === 0,
    acceptsGzip: /\bgzip\b/.test(request.headers.get("accept-encoding") ?? ""),
  };
}

function problemPage(deps: ConsoleDeps, request: Request, problem: Problem, actor?: Actor): Promise<Response> {
  if (problem.code === "internal") {
    const what = `${request.method} of the console`;
    deps.emit({ kind: "service.failed", what, failure: { code: problem.code, cause: problem.message } });
  }
  return consolePage(frameOf(deps, request, actor), problemContent(problem));
}

type ApiCall = { method: string; path: string; body?: unknown; headers: Record<string, string> };

async function callApi(
  deps: ConsoleDeps,
  { actor, address, request }: { actor: Actor; address: string; request: Request },
  { method, path, body, headers }: ApiCall,
): Promise<Response> {
  const url = new URL(deps.config.BASE_PATH + path, request.url).href;
  const type = { "content-type": "application/json" };
  const sent = body === undefined ? { headers } : { body: JSON.stringify(body), headers: { ...headers, ...type } };
  const answer = await deps.callApi(actor, address, new Request(url, { method, signal: request.signal, ...sent }));
  if (answer.ok) return answer;
  throw toProblem(await answer.json());
}

const FieldErrors = v.array(v.object({ path: v.string(), message: v.string() }));

/** The problem that the API answered. */
function toProblem(answered: unknown): Problem {
  const { code, detail, fix, errors } = isRecord(answered) ? answered : {};
  if (!isProblemCode(code)) return new Problem("internal", "The API answered something unexpected");
  const named = v.safeParse(FieldErrors, errors);
  return new Problem(code, String(detail), { fix: String(fix), ...(named.success && { errors: named.output }) });
}

function isProblemCode(code: unknown): code is ProblemCode {
  return typeof code === "string" && code in PROBLEMS;
}

function crossSiteProblem(): Problem {
  const why = "A web page of another site made this request (Origin, Sec-Fetch-Site).";
  return new Problem("forbidden", why, { retry: "never" });
}
