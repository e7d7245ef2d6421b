/** GET /api/v1/sizing: how many replicas, vCPU and memory this many mailboxes and mails need. */
import * as v from "valibot";
import { Sizing, computeSizing } from "../sizing.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

const SizingQuery = v.object({
  mailboxes: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1_000_000)), 1000),
  flow: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(10_000)), 1),
});

export function sizingRoutes(): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/sizing",
      tag: "Operation",
      scope: "read",
      summary: "Compute replicas and memory",
      description:
        "For `mailboxes` and `flow` (mails per second in busy hours). `cpu` (vCPU) and `memoryMiB` are for one replica, `total` is for all. The autoscalers in `k8s/` use the same numbers.",
      query: SizingQuery,
      responses: { 200: { description: "What they need", schema: Sizing } },
      problems: ["invalid"],
      handle: ({ query }) => jsonResponse(computeSizing(query)),
    }),
  ];
}
