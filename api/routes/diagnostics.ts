/** GET /api/v1/diagnostics: what a person needs to know of the node to judge it, in one answer without secrets. */
import * as v from "valibot";
import type { ApiDeps } from "../deps.ts";
import { counted } from "../counts.ts";
import { json, route, type Route } from "../http/route.ts";

const Counts = v.record(v.string(), v.number());
const Diagnostics = v.object({
  version: v.string(),
  runtime: v.object({ name: v.string(), version: v.string(), platform: v.string() }),
  startedAt: v.string(),
  uptimeSeconds: v.number(),
  memory: v.object({ residentBytes: v.number(), heapUsedBytes: v.number() }),
  store: v.string(),
  mailboxes: v.object({ total: v.number(), wanted: v.number(), byStatus: Counts }),
  deliveries: Counts,
  tasks: v.nullable(Counts),
  connections: Counts,
  settings: v.record(v.string(), v.unknown()),
});

/** The route; `startedAt` is when the node came up. */
export function diagnosticRoutes(
  deps: Pick<ApiDeps, "config" | "version" | "store" | "tasks" | "subscriptions">,
  startedAt: Date,
): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/diagnostics",
      tag: "Operation",
      summary: "The state of this node",
      about: "Versions, memory, counts and settings; secrets are shown as [secret]. Made to be pasted into a report.",
      answers: { 200: { about: "The state", schema: Diagnostics } },
      problems: [],
      async handle() {
        const { rss, heapUsed } = process.memoryUsage();
        return json({
          version: deps.version,
          runtime: runtime(),
          startedAt: startedAt.toISOString(),
          uptimeSeconds: Math.round((Date.now() - startedAt.getTime()) / 1000),
          memory: { residentBytes: rss, heapUsedBytes: heapUsed },
          store: deps.store.description,
          ...(await counted(deps)),
          connections: deps.subscriptions.connections(),
          settings: deps.config,
        });
      },
    }),
  ];
}

/** Bun and Deno call themselves Node too; they are told by the member they add to the versions. */
function runtime(): { name: string; version: string; platform: string } {
  const { bun, deno, node } = process.versions;
  const name = bun ? "bun" : deno ? "deno" : "node";
  return { name, version: bun ?? deno ?? node, platform: `${process.platform} ${process.arch}` };
}
