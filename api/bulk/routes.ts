/** /api/v1/bulk: one action over all mailboxes, or all parked deliveries, of a filter, in the background. */
import * as v from "valibot";
import { DateInput, parseDate } from "../http/dates.ts";
import { notFound } from "../http/problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import type { ScopedDeps } from "../scoped-deps.ts";
import { addJob, BulkJob, type BulkOrder, listJobs, updateJob } from "./book.ts";
import { DeliveryFilter, MailboxFilter } from "./filters.ts";
import { countTargets, type TargetDeps } from "./targets.ts";

/** `jobs` is the store that has the jobs of all. The others are what the token sees. */
export type BulkRoutesDeps = Pick<ScopedDeps, "config" | "mailboxPrefix" | "wakeBulk"> &
  TargetDeps & { jobs: Parameters<typeof listJobs>[0] };

const tag = "Operation";
const PATH = "/api/v1/bulk";
const COUNT_MS = 60_000;

const ofMailboxes = { filter: v.optional(MailboxFilter, {}) };
const BulkInput = v.variant("action", [
  v.strictObject({ action: v.literal("pause"), ...ofMailboxes }),
  v.strictObject({ action: v.literal("resume"), ...ofMailboxes }),
  v.strictObject({ action: v.literal("test"), ...ofMailboxes }),
  v.strictObject({ action: v.literal("resync"), since: DateInput, ...ofMailboxes }),
  v.strictObject({ action: v.literal("replay"), filter: v.optional(DeliveryFilter, {}) }),
]);

export const BulkView = v.object({
  id: v.string(),
  action: v.picklist(["pause", "resume", "test", "resync", "replay"]),
  filter: v.union([MailboxFilter, DeliveryFilter]),
  since: v.exactOptional(v.string()),
  startedBy: v.string(),
  state: v.pipe(
    v.picklist(["running", "done", "stopped", "failed"]),
    v.description("It ended in the middle if it is `stopped` or `failed`: at `done` of `total`."),
  ),
  cause: v.pipe(v.nullable(v.string()), v.description("Why it failed.")),
  total: v.pipe(v.nullable(v.number()), v.description("How many matched when it began; null until they are counted.")),
  done: v.pipe(v.number(), v.description("How many of them are done, the failed ones among them.")),
  failed: v.number(),
  problems: v.pipe(
    v.array(v.object({ id: v.string(), cause: v.string() })),
    v.description("The first that failed, by the id of the mailbox or delivery."),
  ),
  node: v.pipe(v.nullable(v.string()), v.description("The node that works on it, or did last.")),
  createdAt: v.string(),
  updatedAt: v.string(),
  endedAt: v.nullable(v.string()),
});
export type BulkView = v.InferOutput<typeof BulkView>;

export function toBulkView({ actor, ...job }: BulkJob): BulkView {
  return v.parse(BulkView, { ...job, startedBy: actor.name });
}

export function bulkRoutes(deps: BulkRoutesDeps): Route[] {
  return [count(deps), begin(deps), list(deps), read(deps), stop(deps)];
}

function count(deps: BulkRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/count`,
    tag,
    scope: "read",
    audited: false,
    summary: "Count what a bulk action would change",
    description: "Nothing begins. The body is that of the action itself.",
    body: BulkInput,
    responses: { 200: { description: "How many match", schema: v.object({ total: v.number() }) } },
    problems: ["not_found"],
    handle: async ({ body, signal }) =>
      jsonResponse({ total: await countTargets(deps, toOrder(deps, body), null, signal(COUNT_MS)) }),
  });
}

function begin(deps: BulkRoutesDeps): Route {
  return route({
    method: "post",
    path: PATH,
    tag,
    scope: "manage",
    summary: "Do something with all that match",
    description:
      "Pauses, resumes, tests or resyncs all mailboxes of a filter, or replays all parked deliveries of one. It runs in the background, also after the " +
      "client has gone: when its node ends, another goes on, or the same one after its next start. " +
      "One runs at a time for each token, and three for all. One begins at most 50 calls a second. Each mailbox or delivery has its entry in the audit.",
    body: BulkInput,
    responses: {
      202: { description: "It runs", schema: BulkView, headers: { location: "Its path, for the progress." } },
    },
    problems: ["conflict", "not_found"],
    async handle({ body, caller, note }) {
      const job = await addJob(deps.jobs, toOrder(deps, body), caller.actor);
      note({ target: job.id });
      deps.wakeBulk();
      return jsonResponse(toBulkView(job), 202, { location: `${deps.config.BASE_PATH}${PATH}/${job.id}` });
    },
  });
}

/** Throws `not_found` for the deliveries of a mailbox that the token does not see. */
function toOrder({ mailboxPrefix }: BulkRoutesDeps, order: BulkOrder): BulkOrder {
  if (order.action === "resync") return { ...order, since: parseDate(order.since).toISOString() };
  const mailbox = order.action === "replay" ? order.filter.mailbox : undefined;
  if (mailbox?.startsWith(mailboxPrefix) === false) throw notFound("mailbox", mailbox);
  return order;
}

/** The jobs of tokens whose mailboxes this token sees, the newest first. */
async function listOwn({ jobs, mailboxPrefix }: BulkRoutesDeps): Promise<BulkJob[]> {
  return (await listJobs(jobs)).filter(({ actor }) => actor.mailboxPrefix.startsWith(mailboxPrefix));
}

function list(deps: BulkRoutesDeps): Route {
  return route({
    method: "get",
    path: PATH,
    tag,
    scope: "read",
    summary: "List bulk actions",
    description: "Those that run, and the last that ended, 20 in all. A token with a prefix sees those of its prefix.",
    responses: { 200: { description: "The newest first", schema: v.object({ items: v.array(BulkView) }) } },
    problems: [],
    handle: async () => jsonResponse({ items: (await listOwn(deps)).map(toBulkView) }),
  });
}

async function getOwn(deps: BulkRoutesDeps, id: string): Promise<BulkJob> {
  const found = (await listOwn(deps)).find((one) => one.id === id);
  if (!found) throw notFound("bulk action", id);
  return found;
}

function read(deps: BulkRoutesDeps): Route {
  return route({
    method: "get",
    path: `${PATH}/{id}`,
    tag,
    scope: "read",
    summary: "Read how far a bulk action is",
    description: "Its node writes the progress every second.",
    responses: { 200: { description: "The bulk action", schema: BulkView } },
    problems: ["not_found"],
    handle: async ({ id }) => jsonResponse(toBulkView(await getOwn(deps, id))),
  });
}

function stop(deps: BulkRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/{id}/stop`,
    tag,
    scope: "manage",
    summary: "Stop a bulk action",
    description: "It ends within seconds. What is done stays done. Stopping one that has ended changes nothing.",
    responses: { 202: { description: "It is about to end", schema: BulkView } },
    problems: ["not_found"],
    async handle({ id }) {
      await getOwn(deps, id);
      const job = await updateJob(deps.jobs, id, ({ state }) => ({ stopRequested: state === "running" }));
      if (!job) throw notFound("bulk action", id);
      return jsonResponse(toBulkView(job), 202);
    },
  });
}
