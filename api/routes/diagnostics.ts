/** GET /api/v1/diagnostics: the state of the node in one answer without secrets. */
import * as v from "valibot";
import { clock } from "../../shared/time.ts";
import type { ApiDeps } from "../deps.ts";
import { collectCounts } from "../counts.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

const Counts = v.record(v.string(), v.number());
const Diagnostics = v.object({
  version: v.string(),
  runtime: v.object({ name: v.string(), version: v.string(), platform: v.string() }),
  startedAt: v.string(),
  uptimeSeconds: v.number(),
  memory: v.object({ residentBytes: v.number(), heapUsedBytes: v.number() }),
  store: v.string(),
  mailboxes: v.object({
    total: v.number(),
    enabled: v.number(),
    wanted: v.pipe(v.number(), v.description("Old name of `enabled`, removed in 0.3.")),
    byStatus: Counts,
  }),
  deliveries: Counts,
  tasks: v.nullable(Counts),
  connections: Counts,
  settings: v.record(v.string(), v.unknown()),
});

/** The route. `startedAt` is when the node started. */
export function diagnosticRoutes(
  deps: Pick<ApiDeps, "config" | "version" | "store" | "tasks" | "subscriptions">,
  startedAt: Date,
): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/diagnostics",
      tag: "Operation",
      scope: "admin",
      summary: "The state of this node",
      description:
        "Versions, memory, counts and settings. Secrets appear as [secret], so you can paste the answer into a report.",
      responses: { 200: { description: "The state", schema: Diagnostics } },
      problems: [],
      async handle() {
        const { rss, heapUsed } = process.memoryUsage();
        const { mailboxes, deliveries, tasks } = await collectCounts(deps);
        return jsonResponse({
          version: deps.version,
          runtime: runtime(),
          startedAt: startedAt.toISOString(),
          uptimeSeconds: Math.round((clock.now() - startedAt.getTime()) / 1000),
          memory: { residentBytes: rss, heapUsedBytes: heapUsed },
          store: deps.store.description,
          mailboxes: { ...mailboxes, wanted: mailboxes.enabled },
          deliveries,
          tasks,
          connections: deps.subscriptions.connections(),
          settings: deps.config,
        });
      },
    }),
  ];
}

/** Bun and Deno also call themselves Node. They add their own member to the versions. */
function runtime(): { name: string; version: string; platform: string } {
  const { bun, deno, node } = process.versions;
  const name = bun ? "bun" : deno ? "deno" : "node";
  return { name, version: bun ?? deno ?? node, platform: `${process.platform} ${process.arch}` };
}
