/** The HTTP face of the node: a pure fetch handler made from its dependencies. What is not a route here does not exist. */
import { type Context, Hono } from "hono";
import { requestId } from "hono/request-id";
import { secureHeaders } from "hono/secure-headers";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import { gate } from "./http/auth.ts";
import type { ApiDeps } from "./deps.ts";
import { listeners } from "./routes/creatio/listeners.ts";
import { pageRoutes } from "./routes/pages.ts";
import { errorAnswer, problemAnswer } from "./http/problems.ts";
import { deliveryRoutes } from "./routes/deliveries.ts";
import { diagnosticRoutes } from "./routes/diagnostics.ts";
import { eventRoutes } from "./routes/events.ts";
import { outgoingRoutes } from "./routes/outgoing.ts";
import { healthRoutes } from "./routes/health.ts";
import { mailboxWorkRoutes } from "./routes/mailbox-actions.ts";
import { mailboxRoutes } from "./routes/mailboxes.ts";
import { nodeRoutes } from "./routes/nodes.ts";
import { parkedRoutes } from "./routes/parked.ts";
import { sizingRoutes } from "./routes/sizing.ts";
import type { Route } from "./http/route.ts";
import type { Caller } from "./http/server.ts";

/** Every route of the API; the more particular paths come first. */
function apiRoutes(deps: ApiDeps, stop: AbortSignal): Route[] {
  return [
    ...mailboxWorkRoutes(deps),
    ...outgoingRoutes(deps),
    ...mailboxRoutes(deps),
    ...deliveryRoutes(deps),
    ...parkedRoutes(deps),
    ...eventRoutes(deps, stop),
    ...nodeRoutes(deps),
    ...sizingRoutes(),
    ...diagnosticRoutes(deps, new Date()),
    ...healthRoutes(deps),
  ];
}

/** The app. Its streams end and its waits are cut short when the signal aborts. */
export function createApp(deps: ApiDeps, signal: AbortSignal): Hono<{ Bindings: Partial<Caller> }> {
  const base = deps.config.BASE_PATH;
  const allowed = gate(deps.config.API_TOKENS);
  const api = apiRoutes(deps, signal);
  const routes = [...api, ...pageRoutes(deps, api, allowed)];
  const crm = listeners(deps, allowed, signal);
  const opened = routes.filter((route) => route.open);
  const open = new Set(opened.flatMap((route) => [base + route.path, ...besides(route, base)]));

  const routeName = ({ method, path }: { method: string; path: string }) =>
    templateOf(routes, base, path)?.path ?? crm.template(method, path) ?? "unknown";
  const app = new Hono<{ Bindings: Partial<Caller> }>();
  app.use(requestId(), secureHeaders({ strictTransportSecurity: false, xFrameOptions: "DENY" }));
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
  // A CRM asks under many paths and has no token; what it may is decided there.
  app.use(async (context, next) => crm.answer(context.req.raw, peerOf(context)) ?? next());
  app.use(async (context, next) => {
    const refused = open.has(context.req.path) ? undefined : allowed(context.req.raw);
    return refused ? problemAnswer(refused, base) : next();
  });
  for (const route of routes) {
    const path = (base + route.path).replace(/\{(\w+)\}/g, ":$1");
    const paths = [path, ...besides(route, base)];
    app.on(route.method.toUpperCase(), paths, (context) => route.answer(context, signal));
  }
  app.notFound((context) => unmatched(routes, base, context));
  app.onError((error, context) =>
    errorAnswer(error, base, (problem) => {
      const { code, cause } = asProblem(problem).view();
      const what = `${context.req.method} ${templateOf(routes, base, context.req.path)?.path ?? "unknown"}`;
      deps.facts.emit({ kind: "service.failed", what, failure: { code, cause } });
    }),
  );
  return app;
}

/** Asked by machines that come without the proxy and know nothing of its prefix. */
const ASKED_DIRECTLY = new Set(["/healthz", "/readyz", "/metrics"]);

/** Where a route is found besides its path under the prefix. */
function besides({ path }: Route, base: string): string[] {
  if (!base) return [];
  if (path === "/") return [base];
  return ASKED_DIRECTLY.has(path) ? [path] : [];
}

/** The address that the server gave with the request, if it did. */
function peerOf(context: Context<{ Bindings: Partial<Caller> }>): string {
  return context.env?.peer ?? "";
}

/** 405 with Allow where the path exists for other methods, else 404. */
function unmatched(routes: Route[], base: string, { req }: Context): Response {
  const methods = routes
    .filter((route) => matches(base + route.path, req.path))
    .map((route) => route.method.toUpperCase());
  if (methods.length === 0) {
    return problemAnswer(new Problem("not_found", `There is nothing at ${req.path}.`, { retry: "never" }), base);
  }
  const allow = [...new Set(methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])))].join(", ");
  return problemAnswer(new Problem("method", `${req.path} takes ${allow}.`, { retry: "never" }), base, { allow });
}

function templateOf(routes: Route[], base: string, path: string): Route | undefined {
  return routes.find((route) => matches(base + route.path, path));
}

function matches(template: string, path: string): boolean {
  const wanted = template.split("/");
  const given = path.split("/");
  return (
    wanted.length === given.length &&
    wanted.every((part, i) => (part.startsWith("{") ? given[i] !== "" : part === given[i]))
  );
}
