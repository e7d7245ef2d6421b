/** GET /api/v1/nodes: who is there, what each node listens to, and how the queue between them stands. */
import * as v from "valibot";
import type { ApiDeps } from "../deps.ts";
import { json, route, type Route } from "./route.ts";

const Node = v.object({
  name: v.string(),
  role: v.picklist(["api", "worker"]),
  version: v.string(),
  startedAt: v.string(),
  mailboxes: v.number(),
  capacity: v.number(),
});
const Nodes = v.object({
  items: v.array(Node),
  tasks: v.object({ ready: v.number(), delayed: v.number(), running: v.number(), consumers: v.optional(v.number()) }),
});

export function nodeRoutes({ nodes, tasks }: Pick<ApiDeps, "nodes" | "tasks">): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/nodes",
      tag: "Operation",
      summary: "List the nodes",
      about:
        "Every live node with the mailboxes it listens to (a worker has capacity 0), and the tasks that wait for workers. `consumers` are those on the broker.",
      answers: { 200: { about: "The nodes now", schema: Nodes } },
      problems: ["store", "queue"],
      async handle() {
        const [live, waiting] = await Promise.all([nodes(), tasks.depth()]);
        return json({ items: live.map((node) => v.parse(Node, node)), tasks: waiting });
      },
    }),
  ];
}
