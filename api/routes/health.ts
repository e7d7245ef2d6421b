/** What machines ask about the node itself: alive, ready, metrics, and the status page of the listeners. */
import * as v from "valibot";
import type { ApiDeps } from "../deps.ts";
import { json, route, type Route } from "../http/route.ts";

type Deps = Pick<ApiDeps, "version" | "ready" | "metrics" | "subscriptions" | "nodes">;

const tag = "Operation";
const ReadinessShown = v.object({
  ok: v.boolean(),
  checks: v.array(v.object({ name: v.string(), ok: v.boolean(), cause: v.optional(v.string()) })),
});
const ServiceStatus = v.object({
  ServiceStatus: v.literal("Started"),
  version: v.string(),
  connections: v.looseObject({ open: v.number() }),
  nodes: v.array(v.object({ name: v.string(), role: v.picklist(["api", "worker"]), mailboxes: v.number() })),
});

export function healthRoutes(deps: Deps): Route[] {
  return [alive(), ready(deps), metrics(deps), ...status(deps)];
}

function alive(): Route {
  return route({
    method: "get",
    path: "/healthz",
    tag,
    open: true,
    summary: "Whether the process is alive",
    about: "Asks nothing of store, queue or mail servers: restarting the process would not mend those.",
    answers: { 200: { about: "It is", schema: v.object({ ok: v.boolean() }) } },
    problems: [],
    handle: () => json({ ok: true }),
  });
}

function ready({ ready: check }: Deps): Route {
  return route({
    method: "get",
    path: "/readyz",
    tag,
    open: true,
    summary: "Whether the node can do its work",
    answers: {
      200: { about: "It can", schema: ReadinessShown },
      503: { about: "It cannot; the checks say why", schema: ReadinessShown },
    },
    problems: [],
    async handle() {
      const readiness = await check();
      return json(readiness, readiness.ok ? 200 : 503);
    },
  });
}

function metrics({ metrics: registry }: Deps): Route {
  return route({
    method: "get",
    path: "/metrics",
    tag,
    summary: "Metrics in Prometheus' text format",
    about:
      "Needs the bearer token like the API (`authorization: { credentials }` in a Prometheus scrape configuration). No label names a mailbox, so the number of series does not grow with them.",
    answers: { 200: { about: "The metrics", type: "text/plain" } },
    problems: [],
    async handle() {
      return new Response(await registry.render(), { headers: { "content-type": registry.contentType } });
    },
  });
}

/** The other addresses that a CRM asks it under are in the table of `api/routes/creatio/paths.ts`. */
function status(deps: Deps): Route[] {
  return [
    route({
      method: "get",
      path: "/api/listeners/status",
      tag,
      open: true,
      summary: "The status of the service, as a CRM asks for it",
      answers: { 200: { about: "The service is running", schema: ServiceStatus } },
      problems: [],
      handle: () => serviceStatus(deps),
    }),
  ];
}

/** The answer by which a CRM knows that the service is there; made without asking anybody, so that it also comes while Redis is away. */
export function serviceStatus({
  version,
  subscriptions,
  nodes,
}: Pick<Deps, "version" | "subscriptions" | "nodes">): Response {
  const live = nodes.known().map(({ name, role, mailboxes }) => ({ name, role, mailboxes }));
  return json({ ServiceStatus: "Started", version, connections: subscriptions.connections(), nodes: live });
}
