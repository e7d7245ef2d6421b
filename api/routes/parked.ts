/**
 * /api/v1/parked: everything that the service no longer tries until a person decides, deliveries and tasks alike.
 * /api/v1/tasks/parked: the tasks among it as they are.
 */
import * as v from "valibot";
import type { Delivery } from "../../shared/contract/delivery.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { Task } from "../../shared/contract/task.ts";
import type { ParkedTask } from "../../shared/queue/queue.ts";
import type { ScopedDeps } from "../scoped-deps.ts";
import { pageOf, pageQuery } from "../http/paging.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import { replay as replayDeliveries, replaySince } from "./replay.ts";

type ParkedRoutesDeps = Pick<ScopedDeps, "parked" | "tasks" | "store" | "config" | "countParkedTasks">;

const tag = "Operation";
const everythingPath = "/api/v1/parked";
const path = "/api/v1/tasks/parked";
const problems = ["queue" as const];

const ParkedTaskView = v.object({
  id: v.string(),
  task: v.nullable(Task),
  tries: v.number(),
  reason: v.nullable(v.string()),
  parkedAt: v.nullable(v.string()),
});
const ListQuery = v.strictObject({
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(1000)), 100),
});
const Ids = v.pipe(v.array(v.string()), v.minLength(1), v.maxLength(1000));

/** `what` is the kind of a task, `message` for a delivery. `messages` counts the received messages that it holds up. */
const ParkedItem = v.object({
  kind: v.picklist(["delivery", "task"]),
  id: v.string(),
  mailbox: v.nullable(v.string()),
  what: v.nullable(v.string()),
  messages: v.number(),
  tries: v.number(),
  reason: v.nullable(v.string()),
  parkedAt: v.nullable(v.string()),
});
type ParkedItem = v.InferOutput<typeof ParkedItem>;

/** As many as the queue lists at once. */
const MAX_TASKS = 1_000;
const EPOCH = new Date(0).toISOString();

export function parkedRoutes(deps: ParkedRoutesDeps): Route[] {
  return [listEverything(deps), replayEverything(deps), list(deps), replay(deps), drop(deps)];
}

function listEverything(deps: ParkedRoutesDeps): Route {
  return route({
    method: "get",
    path: everythingPath,
    tag,
    scope: "read",
    summary: "List everything that is parked",
    description:
      "Deliveries that were given up, and tasks that failed for good or during which workers died, on every queue. First the tasks, the oldest in front, then the deliveries, the newest in front. Nothing here is tried again until somebody replays it. `what` is the kind of the task, or null if another version of the service wrote it.",
    query: v.strictObject({ ...pageQuery, mailbox: v.exactOptional(v.string()) }),
    responses: { 200: { description: "A page of what is parked", schema: pageOf(ParkedItem) } },
    problems,
    async handle({ query: { limit, cursor, mailbox } }) {
      const from = parseCursor(cursor);
      const all = await parkedTasksOf(deps, mailbox);
      const tasks = "task" in from ? all.items.slice(from.task, from.task + limit) : [];
      const page = await deps.store.deliveries.list({
        state: "parked",
        limit: Math.max(1, limit - tasks.length),
        ...("delivery" in from && from.delivery && { cursor: from.delivery }),
        ...(mailbox !== undefined && { mailbox }),
      });
      const total = all.total + page.total;
      const nextTask = "task" in from ? from.task + tasks.length : all.items.length;
      if (nextTask < all.items.length) return jsonResponse({ items: tasks, next: `t${nextTask}`, total });
      // The page is full of tasks: the deliveries begin on the next one.
      if (tasks.length === limit) return jsonResponse({ items: tasks, next: page.total > 0 ? "d" : null, total });
      const items = [...tasks, ...page.items.map(deliveryItem)];
      return jsonResponse({ items, next: page.next === null ? null : `d${page.next}`, total });
    },
  });
}

/** Where a page begins: at a task by its number, or at a delivery by the cursor in its list. */
function parseCursor(cursor: string | undefined): { task: number } | { delivery: string } {
  const [, task, delivery] = /^(?:t(\d{1,9})|d(.*))$/.exec(cursor ?? "t0") ?? [];
  if (task !== undefined) return { task: Number(task) };
  if (delivery !== undefined) return { delivery };
  const message = "must be the `next` of an earlier page";
  throw new Problem("invalid", `cursor ${message}`, { retry: "never", errors: [{ path: "cursor", message }] });
}

function replayEverything(deps: ParkedRoutesDeps): Route {
  return route({
    method: "post",
    path: `${everythingPath}/replay`,
    tag,
    scope: "manage",
    summary: "Replay what is parked",
    description:
      "Replays the deliveries and tasks with these `ids`, or everything, of one mailbox or of all. Each gets all its attempts again.",
    body: v.strictObject({ ids: v.optional(Ids), mailbox: v.optional(v.string()) }),
    responses: { 202: { description: "How many are in the queue", schema: v.object({ replayed: v.number() }) } },
    problems,
    async handle({ body: { ids, mailbox } }) {
      const replayed = ids ? await replayByIds(deps, ids) : await replayAll(deps, mailbox);
      return jsonResponse({ replayed }, 202);
    },
  });
}

async function replayByIds(deps: ParkedRoutesDeps, ids: string[]): Promise<number> {
  const found = await Promise.all(ids.map((id) => deps.store.deliveries.get(id)));
  const deliveries = found.filter((one) => one !== undefined).filter(({ state }) => state === "parked");
  await replayDeliveries(deps, deliveries);
  const others = ids.filter((_, n) => found[n] === undefined);
  return deliveries.length + (others.length > 0 ? await deps.parked.replayParked(others) : 0);
}

async function replayAll(deps: ParkedRoutesDeps, mailbox: string | undefined): Promise<number> {
  const deliveries = await replaySince(deps, { since: EPOCH, mailbox, state: "parked" });
  if (mailbox === undefined) return deliveries + (await deps.parked.replayParked());
  const ids = (await parkedTasksOf(deps, mailbox)).items.map(({ id }) => id);
  return deliveries + (ids.length > 0 ? await deps.parked.replayParked(ids) : 0);
}

/** The parked tasks, of one mailbox or of all, and how many there are. */
async function parkedTasksOf({ parked, countParkedTasks }: ParkedRoutesDeps, mailbox: string | undefined) {
  const all = (await parked.parked(MAX_TASKS, mailbox)).map(taskItem);
  const items = mailbox === undefined ? all : all.filter((item) => item.mailbox === mailbox);
  if (mailbox !== undefined) return { items, total: items.length };
  return { items, total: Math.max((await countParkedTasks()) ?? 0, items.length) };
}

function taskItem({ id, task, tries, reason, parkedAt }: ParkedTask): ParkedItem {
  const messages = task?.kind === "deliver" ? task.messages.length : Number(task?.kind === "redeliver");
  return {
    kind: "task",
    id,
    mailbox: task?.mailbox ?? null,
    what: task?.kind ?? null,
    messages,
    tries,
    reason,
    parkedAt,
  };
}

function deliveryItem({ id, mailbox, attemptCount, reason, updatedAt }: Delivery): ParkedItem {
  return {
    kind: "delivery",
    id,
    mailbox,
    what: "message",
    messages: 1,
    tries: attemptCount,
    reason,
    parkedAt: updatedAt,
  };
}

function list({ parked, countParkedTasks }: ParkedRoutesDeps): Route {
  return route({
    method: "get",
    path,
    tag,
    scope: "read",
    summary: "List parked tasks",
    description:
      "Tasks that failed for good, or during which workers died, the oldest first. Their messages are not delivered, or not sent, until somebody replays the task. `task` is null when another version of the service wrote it. `reason` is null when the broker gave the task up.",
    query: ListQuery,
    responses: { 200: { description: "The first parked tasks", schema: pageOf(ParkedTaskView) } },
    problems,
    async handle({ query }) {
      const items = await parked.parked(query.limit);
      const total = Math.max((await countParkedTasks()) ?? 0, items.length);
      return jsonResponse({ items, next: null, total });
    },
  });
}

function replay({ parked }: ParkedRoutesDeps): Route {
  return route({
    method: "post",
    path: `${path}/replay`,
    tag,
    scope: "manage",
    summary: "Replay parked tasks",
    description:
      "Replays the tasks with these `ids`, or all of them without `ids`. Each task gets all its attempts again.",
    body: v.strictObject({ ids: v.optional(Ids) }),
    responses: { 202: { description: "How many are in the queue", schema: v.object({ replayed: v.number() }) } },
    problems,
    async handle({ body }) {
      return jsonResponse({ replayed: await parked.replayParked(body.ids) }, 202);
    },
  });
}

function drop({ parked }: ParkedRoutesDeps): Route {
  return route({
    method: "post",
    path: `${path}/drop`,
    tag,
    scope: "manage",
    summary: "Drop parked tasks",
    description:
      "Deletes the tasks with these `ids`. Messages of a dropped `deliver` task are never delivered, unless somebody resyncs the mailbox.",
    body: v.strictObject({ ids: Ids }),
    responses: { 200: { description: "How many were dropped", schema: v.object({ dropped: v.number() }) } },
    problems,
    async handle({ body }) {
      return jsonResponse({ dropped: await parked.dropParked(body.ids) });
    },
  });
}
