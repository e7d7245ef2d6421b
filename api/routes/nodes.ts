/** GET /api/v1/nodes: the live nodes, how many mailboxes each listens to, and the state of the queue. */
import * as v from "valibot";
import { getTaskDepth } from "../../shared/queue/depth.ts";
import type { ApiDeps } from "../deps.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

const NodeView = v.object({
  name: v.string(),
  role: v.picklist(["api", "worker"]),
  version: v.string(),
  startedAt: v.string(),
  mailboxes: v.number(),
  capacity: v.number(),
  keys: v.optional(
    v.pipe(v.array(v.string()), v.description("Ids of its encryption keys. It encrypts with the first.")),
  ),
});
const NodesView = v.object({
  items: v.array(NodeView),
  unserved: v.number(),
  tasks: v.nullable(
    v.object({
      ready: v.number(),
      delayed: v.number(),
      running: v.number(),
      consumers: v.optional(v.number()),
      parked: v.optional(v.number()),
      longestWaitSeconds: v.optional(v.number()),
      waitedSeconds: v.optional(v.pipe(v.number(), v.description("Old name of `longestWaitSeconds`, removed in 0.3."))),
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
      scope: "admin",
      summary: "List the nodes",
      description:
        "Every live node with the mailboxes it listens to (a worker has capacity 0), and the tasks that wait for workers. `unserved` mailboxes have no node, because all nodes are full. `consumers` are workers, and API nodes that " +
        "take tasks too. While the broker cannot count its tasks, `tasks` is null and `problem` says why.",
      responses: { 200: { description: "The nodes now", schema: NodesView } },
      problems: ["store"],
      async handle() {
        const [liveNodes, { tasks: depth, problem }] = await Promise.all([nodes.now(), getTaskDepth(tasks)]);
        return jsonResponse({
          items: liveNodes.map((node) => v.parse(NodeView, { ...node, keys: node.keyring?.map(({ id }) => id) })),
          unserved: subscriptions.unserved(),
          tasks: depth && { ...depth, waitedSeconds: depth.longestWaitSeconds },
          problem,
        });
      },
    }),
  ];
}
