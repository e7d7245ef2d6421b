/** /api/v1/mailboxes/{id}/...: pausing, reading again, and looking at the mail server on somebody's behalf. */
import * as v from "valibot";
import { MailboxInput } from "../../shared/contract/mailbox.ts";
import type { ApiDeps } from "../deps.ts";
import { mailboxFrom, MailboxShown } from "../mailboxes.ts";
import { answered, found, restarted } from "./mailboxes.ts";
import { parsedDate, When } from "../http/dates.ts";
import { MAIL_PROBLEMS, VISIT_MS } from "../http/mail-problems.ts";
import { json, route, type Route } from "../http/route.ts";
import { handOver } from "../redeliver.ts";

type Deps = Pick<ApiDeps, "store" | "facts" | "subscriptions" | "tasks" | "mail">;

const tag = "Mailboxes";
const under = (name: string) => `/api/v1/mailboxes/{id}/${name}`;
const RESYNC_MS = 600_000;
/** As many facts as are kept of a mailbox. */
const MOST_EVENTS = 200;

const Resync = v.strictObject({ since: When, redeliver: v.optional(v.boolean(), false) });
const FolderShown = v.object({
  path: v.string(),
  name: v.string(),
  parent: v.nullable(v.string()),
  specialUse: v.nullable(v.string()),
  selectable: v.boolean(),
  class: v.optional(v.string()),
});
const Report = v.object({
  ok: v.boolean(),
  steps: v.array(
    v.object({
      name: v.picklist(["dns", "tcp", "tls", "login", "capabilities", "folders", "idle", "send"]),
      ok: v.boolean(),
      ms: v.number(),
      cause: v.optional(v.string()),
      fix: v.optional(v.string()),
      detail: v.optional(v.string()),
    }),
  ),
});
const FactShown = v.looseObject({ at: v.string(), kind: v.string() });
const Recent = v.strictObject({
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(200)), 50),
  kind: v.optional(
    v.pipe(v.string(), v.description("Only these kinds, separated by commas: `mail.filtered,mail.gone`.")),
  ),
});

/** `validate` comes before any `{id}` route, which would take it for an id. */
export function mailboxWorkRoutes(deps: Deps): Route[] {
  return [validate(deps), pause(deps, true), pause(deps, false), resync(deps), folders(deps), events(deps)];
}

function validate({ mail }: Deps): Route {
  return route({
    method: "post",
    path: "/api/v1/mailboxes/validate",
    tag,
    summary: "Try a mailbox without registering it",
    about:
      "Goes through name resolution, connection, TLS, login, folders and push with the mail server, step by step, and logs in for sending where the mailbox has `send`. `ok: false` names the step that failed and its remedy; nothing is stored.",
    body: MailboxInput,
    answers: { 200: { about: "The report, whether or not every step passed", schema: Report } },
    problems: [],
    async handle({ body, signal }) {
      return json(await mail.preflight(mailboxFrom(body).mailbox, signal(VISIT_MS)));
    },
  });
}

function pause({ store, facts, subscriptions }: Deps, paused: boolean): Route {
  return route({
    method: "post",
    path: under(paused ? "pause" : "resume"),
    tag,
    summary: paused ? "Pause a mailbox" : "Resume a mailbox",
    about: paused
      ? "Ends its subscription; what was handed over already is still delivered. Mail that arrives meanwhile is delivered after the resume. Pausing twice is the same as once."
      : "Listens again, from where it stopped. Also after too many failed logins, and after the endpoint answered 410: both are forgotten.",
    answers: { 200: { about: paused ? "It is paused" : "It listens", schema: MailboxShown } },
    problems: ["not_found", "conflict"],
    async handle({ id }) {
      const was = await found(store, id);
      if (was.mailbox.paused === paused && (paused || settled(was))) return answered(was);
      const gone = paused ? was.mailbox.endpointGone : false;
      const mailbox = { ...was.mailbox, paused, endpointGone: gone, updatedAt: new Date().toISOString() };
      const stored = await store.mailboxes.put(mailbox, { ...was.state, ...restarted(mailbox) });
      facts.emit({ kind: "mailbox.changed", mailbox: id, revision: stored.revision });
      subscriptions.wake(id);
      return answered(await found(store, id));
    },
  });
}

/** Nothing a resume would mend. */
function settled({ mailbox, state }: Awaited<ReturnType<typeof found>>): boolean {
  return !mailbox.endpointGone && state.failedLogins === 0 && state.status !== "needs_attention";
}

function resync({ store, facts, tasks, mail }: Deps): Route {
  return route({
    method: "post",
    path: under("resync"),
    tag,
    summary: "Read a mailbox again since a date",
    about:
      "Hands over every message received at or after `since` once more, in all folders of the mailbox. What was delivered within the window (WINDOW_DAYS) is recognised by its " +
      "content and not delivered twice, so this is safe to do when mail is missed. With `redeliver: true` everything is delivered again, under the same delivery ids. " +
      "The answer comes when all messages are in the queue; if it fails on the way, those before are, and repeating it does no harm.",
    body: Resync,
    answers: { 202: { about: "So many messages were handed over", schema: v.object({ messages: v.number() }) } },
    problems: ["not_found", ...MAIL_PROBLEMS],
    async handle({ id, body, signal }) {
      const { mailbox } = await found(store, id);
      const since = parsedDate(body.since);
      let messages = 0;
      const from = { date: since, cursors: await store.cursors.read(id) };
      for await (const batch of mail.since(mailbox, from, signal(RESYNC_MS))) {
        await handOver({ store, tasks }, id, batch, body.redeliver);
        messages += batch.length;
      }
      facts.emit({ kind: "mailbox.resync", mailbox: id, since: since.toISOString(), messages });
      return json({ messages }, 202);
    },
  });
}

function folders({ store, mail }: Deps): Route {
  return route({
    method: "get",
    path: under("folders"),
    tag,
    summary: "List the folders on the mail server",
    answers: { 200: { about: "As the server lists them now", schema: v.object({ items: v.array(FolderShown) }) } },
    problems: ["not_found", ...MAIL_PROBLEMS],
    async handle({ id, signal }) {
      const { mailbox } = await found(store, id);
      return json({ items: await mail.folders(mailbox, signal(VISIT_MS)) });
    },
  });
}

function events({ store }: Deps): Route {
  return route({
    method: "get",
    path: under("events"),
    tag,
    summary: "What happened to a mailbox",
    about: "Its last facts, newest first; at most 200 are kept. `GET /api/v1/events` tells them as they happen.",
    query: Recent,
    answers: { 200: { about: "The facts", schema: v.object({ items: v.array(FactShown) }) } },
    problems: ["not_found"],
    async handle({ id, query }) {
      await found(store, id);
      const kinds = query.kind?.split(",").map((name) => name.trim());
      const recent = await store.facts.recent(id, kinds ? MOST_EVENTS : query.limit);
      const items = kinds ? recent.filter(({ kind }) => kinds.includes(kind)) : recent;
      return json({ items: items.slice(0, query.limit) });
    },
  });
}
