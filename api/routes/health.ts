/** Routes for machines that ask about the node itself: alive, ready, metrics, and the status page for CRMs. */
import * as v from "valibot";
import type { ApiDeps } from "../deps.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

type HealthRoutesDeps = Pick<ApiDeps, "version" | "ready" | "metrics" | "subscriptions" | "nodes">;

const tag = "Operation";
const ReadinessView = v.object({
  ok: v.boolean(),
  checks: v.array(v.object({ name: v.string(), ok: v.boolean(), cause: v.optional(v.string()) })),
});
const ServiceStatus = v.object({
  ServiceStatus: v.literal("Started"),
  version: v.string(),
  connections: v.looseObject({ open: v.number() }),
  nodes: v.array(v.object({ name: v.string(), role: v.picklist(["api", "worker"]), mailboxes: v.number() })),
});

export function healthRoutes(deps: HealthRoutesDeps): Route[] {
  return [alive(), ready(deps), metrics(deps), ...status(deps)];
}

function alive(): Route {
  return route({
    method: "get",
    path: "/healthz",
    tag,
    scope: "public",
    summary: "Whether the process is alive",
    description:
      "Does not depend on store, queue or mail servers, because a restart of the process would not fix those.",
    responses: { 200: { description: "It is", schema: v.object({ ok: v.boolean() }) } },
    problems: [],
    handle: () => jsonResponse({ ok: true }),
  });
}

function ready({ ready: check }: HealthRoutesDeps): Route {
  return route({
    method: "get",
    path: "/readyz",
    tag,
    scope: "public",
    summary: "Whether the node can do its work",
    description:
      "The store answers, no encryption key is missing, and RabbitMQ has not refused this node since its start. While RabbitMQ is only away the node is ready, because tasks wait in Redis.",
    responses: {
      200: { description: "It can", schema: ReadinessView },
      503: { description: "It cannot do its work; the checks say why", schema: ReadinessView },
    },
    problems: [],
    async handle() {
      const readiness = await check();
      return jsonResponse(readiness, readiness.ok ? 200 : 503);
    },
  });
}

function metrics({ metrics: registry }: HealthRoutesDeps): Route {
  return route({
    method: "get",
    path: "/metrics",
    tag,
    scope: "metrics",
    summary: "Metrics in Prometheus' text format",
    description:
      "Needs a bearer token as the API does (`authorization: { credentials }` in a Prometheus scrape configuration). No label names a mailbox, so the number of series does not grow with the mailboxes.",
    responses: { 200: { description: "The metrics", type: "text/plain" } },
    problems: [],
    async handle() {
      return new Response(await registry.render(), { headers: { "content-type": registry.contentType } });
    },
  });
}

/** The table in `api/routes/creatio/paths.ts` has the other paths under which a CRM asks for it. */
function status(deps: HealthRoutesDeps): Route[] {
  return [
    route({
      method: "get",
      path: "/api/listeners/status",
      tag,
      scope: "public",
      summary: "The status of the service, as a CRM asks for it",
      responses: { 200: { description: "The service is running", schema: ServiceStatus } },
      problems: [],
      handle: () => statusResponse(deps),
    }),
  ];
}

/** A CRM sees from this answer that the service is there. It needs no backend, so it also works while Redis is away. */
export function statusResponse({
  version,
  subscriptions,
  nodes,
}: Pick<HealthRoutesDeps, "version" | "subscriptions" | "nodes">): Response {
  const liveNodes = nodes.known().map(({ name, role, mailboxes }) => ({ name, role, mailboxes }));
  return jsonResponse({
    ServiceStatus: "Started",
    version,
    connections: subscriptions.connections(),
    nodes: liveNodes,
  });
}
