/** The HTTP side of the node: a fetch handler made from its dependencies. It answers only the routes listed here. */
import { type Context, Hono } from "hono";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import type { Actor } from "../shared/contract/token.ts";
import { endpointRoutes } from "./endpoints/routes.ts";
import { recordRoutes } from "./records/routes.ts";
import { bulkRoutes } from "./bulk/routes.ts";
import { auditChange } from "./http/audit-trail.ts";
import { authenticator, requireScope, untilRevoked } from "./http/auth.ts";
import { type Client, clientOf } from "./http/client.ts";
import { guessLimiter } from "./http/guesses.ts";
import { createStreamSeats, type StreamSeats } from "./http/stream-seats.ts";
import type { ApiDeps } from "./deps.ts";
import { importRoutes } from "./registration/routes.ts";
import { consoleRoutes } from "./routes/console/routes.ts";
import type { CallApi } from "./routes/console/page.ts";
import { creatioListeners } from "./routes/creatio/listeners.ts";
import { pageRoutes } from "./routes/pages.ts";
import { errorResponse, problemResponse } from "./http/problems.ts";
import { checkRoutes } from "./routes/checks.ts";
import { deliveryRoutes } from "./routes/deliveries.ts";
import { discoveryRoutes } from "./routes/discovery/discover.ts";
import { diagnosticRoutes } from "./routes/diagnostics.ts";
import { eventRoutes } from "./routes/events.ts";
import { outgoingRoutes } from "./routes/outgoing.ts";
import { graphNotificationRoutes } from "./routes/graph-notifications.ts";
import { healthRoutes } from "./routes/health.ts";
import { mailboxActionRoutes } from "./routes/mailbox-actions.ts";
import { mailboxRoutes } from "./routes/mailboxes.ts";
import { nodeRoutes } from "./routes/nodes.ts";
import { parkedRoutes } from "./routes/parked.ts";
import { applicationRoutes } from "./routes/applications.ts";
import { consentPages, consentRoutes } from "./routes/consents.ts";
import { moveRoutes } from "./routes/move-to-graph.ts";
import { alarmRoutes } from "./routes/alarms.ts";
import { auditRoutes } from "./routes/audit.ts";
import { tokenRoutes } from "./routes/tokens.ts";
import { type CheckRunner, checkRunner } from "./checks/runner.ts";
import { type ScopedDeps, scopedDeps } from "./scoped-deps.ts";
import { sizingRoutes } from "./routes/sizing.ts";
import type { Caller, Route } from "./http/route.ts";
import type { ConnectionInfo } from "./http/server.ts";

/** What is one for all routes of the node, whichever mailboxes their callers see. */
type NodeWide = { startedAt: Date; seats: StreamSeats; checks: CheckRunner; jobs: ApiDeps["store"] };

/** Every route of the API. Specific paths come before general ones. */
function apiRoutes(deps: ScopedDeps, { startedAt, seats, checks, jobs }: NodeWide, stop: AbortSignal): Route[] {
  return [
    ...tokenRoutes(deps),
    ...auditRoutes(deps),
    ...applicationRoutes(deps),
    ...consentRoutes(deps),
    ...moveRoutes(deps),
    ...discoveryRoutes(deps),
    ...mailboxActionRoutes(deps),
    ...outgoingRoutes(deps),
    ...importRoutes(deps),
    ...mailboxRoutes(deps),
    ...deliveryRoutes(deps),
    ...parkedRoutes(deps),
    ...eventRoutes(deps, seats, stop),
    ...nodeRoutes(deps),
    ...sizingRoutes(),
    ...diagnosticRoutes(deps, startedAt),
    ...checkRoutes(deps, checks),
    ...alarmRoutes(deps),
    ...bulkRoutes({ ...deps, jobs }),
    ...endpointRoutes({ ...deps, all: jobs }),
    ...recordRoutes({ ...deps, all: jobs }),
    ...healthRoutes(deps),
  ];
}

/** `actor` is set on calls that the service makes itself: of the console for who is logged in, and of a bulk action. */
type AppEnv = { Bindings: Partial<ConnectionInfo> & { actor?: Actor }; Variables: { actor?: Actor } };

/** The app. When the signal aborts, its streams end and its waits stop. */
export function createApp(deps: ApiDeps, signal: AbortSignal): Hono<AppEnv> {
  const base = deps.config.BASE_PATH;
  const guesses = guessLimiter(deps.facts.emit, deps.store.wrongCredentials);
  const authenticate = authenticator({ config: deps.config, store: deps.store, guesses, emit: deps.facts.emit });
  const checks = checkRunner(deps, signal);
  const nodeWide = { startedAt: new Date(), seats: createStreamSeats(), checks, jobs: deps.store };
  const scopedFor = keepRecent((prefix) => scopedDeps(deps, prefix));
  const routesFor = keepRecent((prefix) => apiRoutes(scopedFor(prefix), nodeWide, signal));
  const api = routesFor("");
  const consent = consentPages(deps);
  const callApi: CallApi = async (actor, peer, request) => app.fetch(request, { peer, actor });
  const consolePages = consoleRoutes(deps, { authenticate, scopedFor, callApi });
  const routes = [...api, ...pageRoutes(deps, api), ...consent, ...graphNotificationRoutes(deps), ...consolePages];
  const creatio = creatioListeners(deps, { authenticate, guesses }, signal);
  const publicRoutes = routes.filter((route) => route.scope === "public");
  const publicPaths = new Set(publicRoutes.flatMap((route) => extraPaths(route, base)));
  const isPublic = (path: string) =>
    publicPaths.has(path) || findRoute([...publicRoutes, ...consolePages], base, path) !== undefined;

  const routeName = ({ method, path }: { method: string; path: string }) =>
    findRoute(routes, base, path)?.path ?? creatio.routeName(method, path) ?? "unknown";
  // The server passes the peer's address with the request.
  const client = ({ req, env }: Context<AppEnv>): Client => clientOf(req.raw, env?.peer ?? "", deps.config);
  const app = new Hono<AppEnv>();
  app.use(requestId());
  app.use(async (context, next) => headersFor(context.req.path)(context, next));
  app.use(async (context, next) => {
    const started = performance.now();
    await next();
    context.header("x-request-id", context.get("requestId"));
    deps.facts.emit({
      kind: "http.answered",
      method: context.req.method,
      route: routeName(context.req),
      status: context.res.status,
      ms: Math.round(performance.now() - started),
    });
  });
  // A CRM calls many paths and has no token. `creatio` decides what it may do.
  app.use(async (context, next) => creatio.respond(context.req.raw, client(context)) ?? next());
  app.use(async (context, next) => {
    const { req, env } = context;
    if (!isPublic(req.path)) context.set("actor", env?.actor ?? (await authenticate(req.raw, client(context).address)));
    return next();
  });
  for (const [n, route] of routes.entries()) {
    const path = (base + route.path).replace(/\{(\w+)\}/g, ":$1");
    const paths = [path, ...extraPaths(route, base)];
    app.on(route.method.toUpperCase(), paths, (context) => {
      const actor = context.get("actor") ?? ANYBODY;
      if (route.scope !== "public") requireScope(actor, route.scope);
      const own = route.scope === "public" ? route : (routesFor(actor.mailboxPrefix)[n] ?? route);
      return own.respond(context, callerOf(deps, actor, client(context).address), signal);
    });
  }
  app.notFound((context) => unmatchedResponse(routes, base, context));
  app.onError((error, context) =>
    errorResponse(error, base, (problem) => {
      const { code, cause } = asProblem(problem).view();
      const what = `${context.req.method} ${findRoute(routes, base, context.req.path)?.path ?? "unknown"}`;
      deps.facts.emit({ kind: "service.failed", what, failure: { code, cause } });
    }),
  );
  return app;
}

/** A browser names the page that a form was sent from only to this service. Without that it would name none here either. */
const SECURE_HEADERS = { strictTransportSecurity: false, xFrameOptions: "DENY", referrerPolicy: "same-origin" };
const ofPages = secureHeaders(SECURE_HEADERS);
/** The body of a message is shown in a frame of its page, and tells nobody where it is. */
const ofBodies = secureHeaders({ ...SECURE_HEADERS, xFrameOptions: "SAMEORIGIN", referrerPolicy: "no-referrer" });
const headersFor = (path: string) => (/\/deliveries\/[^/]+\/body$/.test(path) ? ofBodies : ofPages);

/** Tables of routes that are kept. Building one takes less than a millisecond. */
const MAX_TABLES = 100;

/** Makes a value for each key once, and forgets the one that was made first when there are too many. */
function keepRecent<T>(make: (key: string) => T): (key: string) => T {
  const made = new Map<string, T>();
  return (key) => {
    const value = made.get(key) ?? make(key);
    made.set(key, value);
    const [first = ""] = made.keys();
    if (made.size > MAX_TABLES) made.delete(first);
    return value;
  };
}

function callerOf(deps: ApiDeps, actor: Actor, address: string): Caller {
  return {
    address,
    actor,
    untilRevoked: (signal) => untilRevoked(deps.store, actor, signal),
    audit: (change, work) => auditChange(deps, actor, change, work),
  };
}

/** The caller of a public route, who may show no token. */
const ANYBODY: Actor = { id: "anybody", name: "anybody", scopes: [], mailboxPrefix: "" };

/** Paths for machines that call without the proxy and do not know its prefix. */
const UNPREFIXED_PATHS = new Set(["/healthz", "/readyz", "/metrics"]);

/** Further paths of a route, besides its path under the prefix. */
function extraPaths({ path }: Route, base: string): string[] {
  if (!base) return [];
  if (path === "/") return [base];
  return UNPREFIXED_PATHS.has(path) ? [path] : [];
}

/** 405 with Allow if the path exists for other methods, else 404. */
function unmatchedResponse(routes: Route[], base: string, { req }: Context): Response {
  const matching = routes.filter((route) => matches(base + route.path, req.path));
  // A path without a parameter is a resource of its own, and not an id in the path beside it.
  const exact = matching.filter((route) => base + route.path === req.path);
  const methods = (exact.length > 0 ? exact : matching).map((route) => route.method.toUpperCase());
  if (methods.length === 0) {
    const fix = "Check the path: /docs lists the routes.";
    return problemResponse(new Problem("not_found", `There is no route ${req.path}.`, { retry: "never", fix }), base);
  }
  const allow = [...new Set(methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])))].join(", ");
  return problemResponse(new Problem("method", `${req.path} takes ${allow}.`, { retry: "never" }), base, { allow });
}

function findRoute(routes: Route[], base: string, path: string): Route | undefined {
  return routes.find((route) => matches(base + route.path, path));
}

function matches(template: string, path: string): boolean {
  const templateParts = template.split("/");
  const pathParts = path.split("/");
  return (
    templateParts.length === pathParts.length &&
    templateParts.every((part, i) => (part.startsWith("{") ? pathParts[i] !== "" : part === pathParts[i]))
  );
}
