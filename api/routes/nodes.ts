/** GET /api/v1/nodes: who is there, what each node listens to, and how the queue between them stands. */
import * as v from "valibot";
import { tasksNow } from "../../shared/queue/depth.ts";
import type { ApiDeps } from "../deps.ts";
import { json, route, type Route } from "../http/route.ts";

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
  unserved: v.number(),
  tasks: v.nullable(
    v.object({
      ready: v.number(),
      delayed: v.number(),
      running: v.number(),
      consumers: v.optional(v.number()),
      parked: v.optional(v.number()),
      waitedSeconds: v.optional(v.number()),
    }),
  ),
  problem: v.nullable(v.string()),
});

export function nodeRoutes({
  nodes,
  tasks,
  subscriptions,
}: Pick<ApiDeps, "nodes" | "tasks" | "subscriptions">): Route[] {
  return [
    route({
      method: "get",
      path: "/api/v1/nodes",
      tag: "Operation",
      summary: "List the nodes",
      about:
        "Every live node with the mailboxes it listens to (a worker has capacity 0), and the tasks that wait for workers. `unserved` mailboxes are listened to by nobody, because no node has room for them. With a broker also its `consumers` (workers, and API nodes that " +
        "stand in for them) and the tasks that are `parked` there. While the broker is away `tasks` is null and `problem` says why; the API nodes do the tasks then.",
      answers: { 200: { about: "The nodes now", schema: Nodes } },
      problems: ["store"],
      async handle() {
        const [live, waiting] = await Promise.all([nodes.now(), tasksNow(tasks)]);
        return json({ items: live.map((node) => v.parse(Node, node)), unserved: subscriptions.unserved(), ...waiting });
      },
    }),
  ];
}
