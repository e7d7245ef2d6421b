/** /api/v1/endpoints: pause, resume and test an endpoint, and give it a new webhook secret. */
import { randomBytes } from "node:crypto";
import * as v from "valibot";
import { endpointOf, HttpUrl, TestPostReport } from "../../shared/contract/endpoint.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { addPause, type EndpointPause, removePause } from "../../shared/store/endpoint-pauses.ts";
import type { Store } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";
import type { ApiDeps } from "../deps.ts";
import { invalidField } from "../applications.ts";
import { notFound } from "../http/problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import { checkSecret } from "../mailboxes.ts";
import type { ScopedDeps } from "../scoped-deps.ts";
import {
  collectEndpoints,
  eachMailbox,
  ENDPOINT_STATES,
  type EndpointRow,
  endpointState,
  withPauses,
} from "./overview.ts";
import { bringHeldForward } from "./resume.ts";
import { rotateSecrets } from "./secrets.ts";

/** `all` is what the token does not see: the list of pauses, and all deliveries that wait. */
export type EndpointRoutesDeps = Pick<
  ScopedDeps,
  "config" | "mailboxPrefix" | "store" | "tasks" | "facts" | "listPauses"
> &
  Pick<ApiDeps, "postTest"> & { all: Pick<Store, "documents" | "deliveries"> };

const tag = "Endpoints";
const PATH = "/api/v1/endpoints";
const TEST_MS = 300_000;
const ROTATE_MS = 60_000;

const Url = v.pipe(
  HttpUrl,
  v.description(
    "The URL that mailboxes deliver to; its query does not matter. With the path `/` it is the whole origin.",
  ),
);
const PauseView = v.object({
  url: v.string(),
  mailboxPrefix: v.pipe(v.string(), v.description("Only the deliveries of mailboxes whose ids begin so.")),
  pausedAt: v.string(),
  pausedBy: v.string(),
});
const { mailboxPrefix: PausePrefix, pausedAt: PausedAt, pausedBy: PausedBy } = PauseView.entries;
const EndpointView = v.object({
  url: v.string(),
  state: v.picklist(ENDPOINT_STATES),
  mailboxes: v.number(),
  retrying: v.number(),
  parked: v.number(),
  oldestWaitingAt: v.nullable(v.string()),
  lastAttempt: v.nullable(
    v.object({ at: v.string(), status: v.nullable(v.number()), problem: v.nullable(v.string()) }),
  ),
  mailboxPrefix: v.exactOptional(PausePrefix),
  pausedAt: v.exactOptional(PausedAt),
  pausedBy: v.exactOptional(PausedBy),
  pausedUrl: v.exactOptional(v.string()),
});
const EndpointList = v.object({ items: v.array(EndpointView), isWhole: v.boolean() });
export const TestReport = v.object({
  ...TestPostReport.entries,
  mailbox: v.pipe(v.string(), v.description("The id of the mailbox whose secret signed it.")),
});
export const RotationView = v.object({
  secret: v.pipe(v.string(), v.description("The new webhook secret. Only this answer shows it.")),
  oldSecretUntil: v.string(),
  mailboxes: v.number(),
  changed: v.pipe(v.number(), v.description("If this is less, send the request again with the same `secret`.")),
  problems: v.array(v.object({ mailbox: v.string(), cause: v.string() })),
});

export function endpointRoutes(deps: EndpointRoutesDeps): Route[] {
  return [list(deps), pause(deps), resume(deps), test(deps), rotate(deps)];
}

/** Whether a mailbox delivers to this URL, or to a URL of this origin. */
function goesTo({ deliver }: Mailbox, url: string): boolean {
  return endpointOf(deliver.url) === url || endpointOf(new URL(deliver.url).origin) === url;
}

async function* mailboxesOf({ store }: EndpointRoutesDeps, url: string): AsyncGenerator<Mailbox> {
  for await (const mailbox of eachMailbox(store)) if (goesTo(mailbox, url)) yield mailbox;
}

function list(deps: EndpointRoutesDeps): Route {
  return route({
    method: "get",
    path: PATH,
    tag,
    scope: "read",
    summary: "List the endpoints",
    description:
      "Each URL that mailboxes of the token deliver to or that a person has paused. What is not well comes first. The members of a pause are there only while a person has paused its deliveries. An endpoint that is paused for several prefixes is there once for each of them.",
    responses: { 200: { description: "The endpoints", schema: EndpointList } },
    problems: [],
    async handle() {
      const { rows, isWhole } = await collectEndpoints(deps);
      const items = withPauses(rows, await deps.listPauses()).flatMap((row) => {
        const view = toView(row);
        return row.pauses.length === 0 ? [view] : row.pauses.map((one) => ({ ...view, ...pauseOf(row, one) }));
      });
      return jsonResponse({ items, isWhole });
    },
  });
}

function toView(row: EndpointRow): v.InferOutput<typeof EndpointView> {
  const { url, mailboxes, retrying, parked, oldest, last } = row;
  const lastAttempt = last ? { at: last.at, status: last.status, problem: last.problem } : null;
  return { url, state: endpointState(row), mailboxes, retrying, parked, oldestWaitingAt: oldest, lastAttempt };
}

function pauseOf({ url }: EndpointRow, { url: pausedUrl, at, by, mailboxPrefix }: EndpointPause) {
  return { mailboxPrefix, pausedAt: at, pausedBy: by, ...(pausedUrl !== url && { pausedUrl }) };
}

function pause({ all, mailboxPrefix, facts }: EndpointRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/pause`,
    tag,
    scope: "manage",
    summary: "Pause the deliveries to an endpoint",
    description:
      "All nodes notice it within a second. Messages go on arriving and wait in the spool; waiting is no attempt, and does not count for RETRY_HOURS. A token that is bound to a prefix pauses the deliveries of its own mailboxes.",
    body: v.strictObject({ url: Url }),
    responses: { 200: { description: "It is paused", schema: PauseView } },
    problems: ["conflict"],
    async handle({ body, caller }) {
      const url = endpointOf(body.url);
      const made = { url, mailboxPrefix, at: new Date(clock.now()).toISOString(), by: caller.actor.name };
      await addPause(all, made);
      facts.emit({ kind: "endpoint.held", endpoint: url, by: made.by });
      return jsonResponse({ url, mailboxPrefix, pausedAt: made.at, pausedBy: made.by });
    },
  });
}

function resume({ all, mailboxPrefix, tasks, facts }: EndpointRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/resume`,
    tag,
    scope: "manage",
    summary: "Resume the deliveries to an endpoint",
    description: "The waiting messages go out at once, up to 5,000. Others follow within minutes.",
    body: v.strictObject({ url: Url }),
    responses: { 200: { description: "How many go out at once", schema: v.object({ waiting: v.number() }) } },
    problems: ["not_found"],
    async handle({ body }) {
      const url = endpointOf(body.url);
      if (!(await removePause(all, { url, mailboxPrefix }))) throw notFound("paused endpoint", url);
      const waiting = await bringHeldForward({ store: all, tasks }, { url, mailboxPrefix });
      facts.emit({ kind: "endpoint.released", endpoint: url, waiting });
      return jsonResponse({ waiting });
    },
  });
}

function test(deps: EndpointRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/test`,
    tag,
    scope: "manage",
    audited: false,
    summary: "Post a test message to an endpoint",
    description:
      'One POST with `type: "endpoint.test"`, signed as every other (Standard Webhooks) by the secret of `mailbox`, or of the first mailbox that delivers there. It is not repeated, and goes out also while the endpoint is paused.',
    body: v.strictObject({ url: Url, mailbox: v.optional(v.string()) }),
    responses: { 200: { description: "What the endpoint answered, whether or not it accepted", schema: TestReport } },
    problems: ["not_found"],
    async handle({ body, signal }) {
      const mailbox = await mailboxFor(deps, endpointOf(body.url), body.mailbox);
      const report = await deps.postTest(mailbox, signal(TEST_MS));
      return jsonResponse({ mailbox: mailbox.id, ...report });
    },
  });
}

/** The mailbox whose endpoint is tested. A CRM has another form of requests, which has no test message. */
async function mailboxFor(deps: EndpointRoutesDeps, url: string, id: string | undefined): Promise<Mailbox> {
  if (id !== undefined) {
    const found = await deps.store.mailboxes.get(id);
    if (!found) throw notFound("mailbox", id);
    if (!goesTo(found.mailbox, url)) throw invalidField("mailbox", `delivers to another endpoint than ${url}`);
    return checked(found.mailbox);
  }
  let first: Mailbox | undefined;
  for await (const one of mailboxesOf(deps, url)) {
    first ??= one;
    if (one.deliver.dialect === "webhook") return one;
  }
  if (!first) throw notFound("mailbox that delivers to", url);
  return checked(first);
}

function checked(mailbox: Mailbox): Mailbox {
  const { dialect } = mailbox.deliver;
  if (dialect === "webhook") return mailbox;
  const why = `has the dialect ${dialect}, which has no test message; \`POST /api/v1/mailboxes/{id}/test\` tries it`;
  throw invalidField("url", why);
}

function rotate(deps: EndpointRoutesDeps): Route {
  return route({
    method: "post",
    path: `${PATH}/rotate-secret`,
    tag,
    scope: "manage",
    summary: "Give an endpoint a new webhook secret",
    description:
      "All mailboxes that deliver there get one new secret, by the dialect webhook. For `overlapHours` each request has two signatures, by the new secret and by the one before, so the endpoint can change over at any time. After that only the new one signs.",
    body: v.strictObject({
      url: Url,
      overlapHours: v.optional(v.pipe(v.number(), v.minValue(0), v.maxValue(168)), 24),
      secret: v.optional(
        v.pipe(v.string(), v.description("`whsec_` and 24 to 64 bytes in base64. Generated if left out.")),
      ),
    }),
    responses: { 200: { description: "How many mailboxes have it", schema: RotationView } },
    problems: ["not_found"],
    async handle({ body, signal, note }) {
      checkSecret(body.secret, "secret");
      const url = endpointOf(body.url);
      const ids: string[] = [];
      for await (const { id, deliver } of mailboxesOf(deps, url)) if (deliver.dialect === "webhook") ids.push(id);
      if (ids.length === 0) throw notFound("mailbox with a webhook secret that delivers to", url);
      note({ changed: ["deliver.secret"] });
      const secret = body.secret ?? `whsec_${randomBytes(32).toString("base64")}`;
      const { overlapHours } = body;
      const oldSecretUntil = new Date(clock.now() + overlapHours * 3_600_000).toISOString();
      const rotated = await rotateSecrets(deps, ids, { secret, oldSecretUntil }, signal(ROTATE_MS));
      return jsonResponse({ secret, oldSecretUntil, mailboxes: ids.length, ...rotated });
    },
  });
}
