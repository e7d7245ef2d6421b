/** /api/v1/tasks/parked: tasks on the broker that nobody tries any more, until a person says what becomes of them. */
import * as v from "valibot";
import { Task } from "../../shared/contract/task.ts";
import type { ApiDeps } from "../deps.ts";
import { listOf } from "../http/paging.ts";
import { json, route, type Route } from "../http/route.ts";

type Deps = Pick<ApiDeps, "parked" | "tasks">;

const tag = "Operation";
const path = "/api/v1/tasks/parked";
const problems = ["queue" as const];

const Shown = v.object({
  id: v.string(),
  task: v.nullable(Task),
  tries: v.number(),
  reason: v.nullable(v.string()),
  parkedAt: v.nullable(v.string()),
});
const Query = v.strictObject({
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)), 100),
});
const Ids = v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(1000));

export function parkedRoutes(deps: Deps): Route[] {
  return [list(deps), replay(deps), drop(deps)];
}

function list({ parked, tasks }: Deps): Route {
  return route({
    method: "get",
    path,
    tag,
    summary: "List parked tasks",
    about:
      "Tasks that failed for good, or that workers died of, the oldest first and only so many of them. Their messages are not delivered, or not sent, until they are replayed. `task` is null when another version of the service wrote it, `reason` when the broker gave it up. Without a broker there are none.",
    query: Query,
    answers: { 200: { about: "The first parked tasks", schema: listOf(Shown) } },
    problems,
    async handle({ query }) {
      const items = await parked.parked(query.limit);
      const { parked: all = 0 } = await tasks.depth();
      return json({ items, next: null, total: Math.max(all, items.length) });
    },
  });
}

function replay({ parked }: Deps): Route {
  return route({
    method: "post",
    path: `${path}/replay`,
    tag,
    summary: "Put parked tasks back to work",
    about: "Those with these `ids`, or all when none are named. Each is as new: it has all its tries before it.",
    body: v.strictObject({ ids: v.optional(Ids) }),
    answers: { 202: { about: "So many are in the queue", schema: v.object({ replayed: v.number() }) } },
    problems,
    async handle({ body }) {
      return json({ replayed: await parked.replayParked(body.ids) }, 202);
    },
  });
}

function drop({ parked }: Deps): Route {
  return route({
    method: "post",
    path: `${path}/drop`,
    tag,
    summary: "Forget parked tasks for good",
    about: "Messages of a dropped `deliver` task are never delivered, unless the mailbox is told to `resync`.",
    body: v.strictObject({ ids: Ids }),
    answers: { 200: { about: "So many were forgotten", schema: v.object({ dropped: v.number() }) } },
    problems,
    async handle({ body }) {
      return json({ dropped: await parked.dropParked(body.ids) });
    },
  });
}
