/** GET /api/v1/sizing: how many replicas, vCPU and memory so many mailboxes and so much mail need. */
import * as v from "valibot";
import { Sizing, sizing } from "../sizing.ts";
import { json, route, type Route } from "../http/route.ts";

const Asked = v.object({
  mailboxes: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(1_000_000)), 1000),
  flow: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(10_000)), 1),
});

export function sizingRoutes(): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/sizing",
      tag: "Operation",
      summary: "Reckon replicas and memory",
      about:
        "For `mailboxes` and `flow`, the mails per second in busy hours. `cpu` (vCPU) and `memoryMiB` are of one replica, `total` is of all. The same numbers are the targets of the autoscalers in `k8s/`.",
      query: Asked,
      answers: { 200: { about: "What they need", schema: Sizing } },
      problems: ["invalid"],
      handle: ({ query }) => json(sizing(query)),
    }),
  ];
}
