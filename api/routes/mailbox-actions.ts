/** /api/v1/mailboxes/{id}/...: pause, resume, resync, folders, events, and the preflight. */
import * as v from "valibot";
import { MailboxInput } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";
import { checkApplicationExists } from "../applications.ts";
import { mailboxFromInput, MailboxView } from "../mailboxes.ts";
import { allowLoginRetry, restartedState, withCredentialsLock } from "../mailbox-changes.ts";
import { mailboxResponse, getMailbox } from "./mailboxes.ts";
import { parseDate, DateInput } from "../http/dates.ts";
import { MAIL_PROBLEMS, MAIL_TIMEOUT_MS } from "../http/mail-problems.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";
import { redeliver } from "../redeliver.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

type MailboxActionRoutesDeps = Pick<
  ScopedDeps,
  "store" | "facts" | "subscriptions" | "tasks" | "mail" | "logins" | "mailboxPrefix"
>;

const tag = "Mailboxes";
const actionPath = (name: string) => `/api/v1/mailboxes/{id}/${name}`;
const RESYNC_TIMEOUT_MS = 600_000;
/** As many facts as the store keeps for a mailbox. */
const MAX_EVENTS = 200;

const ResyncBody = v.strictObject({ since: DateInput, redeliver: v.optional(v.boolean(), false) });
const FolderView = v.object({
  path: v.string(),
  name: v.string(),
  parent: v.nullable(v.string()),
  specialUse: v.nullable(v.string()),
  selectable: v.boolean(),
  class: v.optional(v.string()),
});
const ValidateQuery = v.strictObject({
  folders: v.optional(
    v.pipe(
      v.picklist(["true", "false"]),
      v.description("`true`: if every step passed, the report has the folders on the mail server too."),
    ),
    "false",
  ),
});
export const PreflightReportView = v.object({
  ok: v.boolean(),
  folders: v.exactOptional(v.array(FolderView)),
  steps: v.array(
    v.object({
      name: v.picklist(["dns", "tcp", "tls", "login", "capabilities", "folders", "idle", "send", "deliver"]),
      ok: v.boolean(),
      ms: v.number(),
      cause: v.exactOptional(v.string()),
      fix: v.exactOptional(v.string()),
      detail: v.exactOptional(v.string()),
    }),
  ),
});
const FactView = v.looseObject({ at: v.string(), kind: v.string() });
const EventsQuery = v.strictObject({
  limit: v.optional(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(200)), 50),
  kind: v.optional(
    v.pipe(v.string(), v.description("Only these kinds, separated by commas: `mail.filtered,mail.gone`.")),
  ),
});

/** `validate` comes before any `{id}` route, which would otherwise match it. */
export function mailboxActionRoutes(deps: MailboxActionRoutesDeps): Route[] {
  return [
    validate(deps),
    testStored(deps),
    pause(deps, true),
    pause(deps, false),
    resync(deps),
    confirm(deps),
    folders(deps),
    events(deps),
  ];
}

function validate(deps: MailboxActionRoutesDeps): Route {
  return route({
    method: "post",
    path: "/api/v1/mailboxes/validate",
    tag,
    scope: "manage",
    audited: false,
    summary: "Try a mailbox without registering it",
    description:
      "Tries name resolution, connection, TLS, login, folders and push with the mail server, step by step. If the mailbox has `send`, it also logs in for sending. With `ok: false` the report names the step that failed and its remedy. Nothing is stored.",
    body: MailboxInput,
    query: ValidateQuery,
    responses: { 200: { description: "The report, whether or not every step passed", schema: PreflightReportView } },
    problems: MAIL_PROBLEMS,
    async handle({ body, query, signal }) {
      // Without its id, so that no token of the stored mailbox is used for it.
      const { mailbox } = mailboxFromInput({ ...body, id: undefined });
      await checkApplicationExists(deps, mailbox);
      const report = await deps.mail.preflight(mailbox, signal(MAIL_TIMEOUT_MS));
      if (query.folders === "false" || !report.ok) return jsonResponse(report);
      return jsonResponse({ ...report, folders: await deps.mail.listFolders(mailbox, signal(MAIL_TIMEOUT_MS)) });
    },
  });
}

function testStored({ store, mail }: MailboxActionRoutesDeps): Route {
  return route({
    method: "post",
    path: actionPath("test"),
    tag,
    scope: "manage",
    audited: false,
    summary: "Try a registered mailbox",
    description: "As `validate` does, with what is stored. Nothing of the mailbox changes.",
    responses: { 200: { description: "The report, whether or not every step passed", schema: PreflightReportView } },
    problems: ["not_found"],
    async handle({ id, signal }) {
      const { mailbox } = await getMailbox(store, id);
      return jsonResponse(await mail.preflightStored(mailbox, signal(MAIL_TIMEOUT_MS)));
    },
  });
}

function pause(deps: MailboxActionRoutesDeps, paused: boolean): Route {
  return route({
    method: "post",
    path: actionPath(paused ? "pause" : "resume"),
    tag,
    scope: "manage",
    summary: paused ? "Pause a mailbox" : "Resume a mailbox",
    description: paused
      ? "Ends its subscription. Messages that were handed over before are still delivered. Mail that arrives meanwhile is delivered after the resume. Pausing twice is the same as once."
      : "Starts the subscription again from where it stopped. It also clears failed logins and the 410 of an endpoint.",
    responses: { 200: { description: paused ? "It is paused" : "It listens", schema: MailboxView } },
    problems: ["not_found", "conflict"],
    handle({ id, signal, note }) {
      note({ changed: ["paused"] });
      return withCredentialsLock(deps, id, () => setPaused(deps, id, paused), signal);
    },
  });
}

async function setPaused(
  { store, facts, subscriptions, logins }: MailboxActionRoutesDeps,
  id: string,
  paused: boolean,
): Promise<Response> {
  const previous = await getMailbox(store, id);
  if (previous.mailbox.paused === paused && (paused || needsNoResume(previous))) return mailboxResponse(previous);
  const gone = paused ? previous.mailbox.endpointGone : false;
  const mailbox = { ...previous.mailbox, paused, endpointGone: gone, updatedAt: new Date().toISOString() };
  if (!paused) await allowLoginRetry(logins, previous.state, mailbox);
  const stored = await store.mailboxes.put(mailbox, { ...previous.state, ...restartedState(mailbox) });
  facts.emit({ kind: "mailbox.changed", mailbox: id, revision: stored.revision });
  subscriptions.wake(id);
  return mailboxResponse(await getMailbox(store, id));
}

/** True when a resume would change nothing. */
function needsNoResume({ mailbox, state }: Awaited<ReturnType<typeof getMailbox>>): boolean {
  return !mailbox.endpointGone && state.failedLogins === 0 && state.status !== "needs_attention";
}

function resync(deps: MailboxActionRoutesDeps): Route {
  const { store, facts, tasks, mail } = deps;
  return route({
    method: "post",
    path: actionPath("resync"),
    tag,
    scope: "manage",
    summary: "Read a mailbox again since a date",
    description:
      "Hands over again every message received at or after `since`, in all folders of the mailbox. Messages that were delivered within WINDOW_DAYS are recognised by their " +
      "content and not delivered twice, so you can use it when mail is missing. With `redeliver: true` everything is delivered again, under the same delivery ids. " +
      "The answer comes when all messages are in the queue. If the request fails, some of them may be in the queue. Repeating it does no harm.",
    body: ResyncBody,
    responses: {
      202: { description: "How many messages were handed over", schema: v.object({ messages: v.number() }) },
    },
    problems: ["not_found", ...MAIL_PROBLEMS],
    async handle({ id, body, signal }) {
      const { mailbox } = await getMailbox(store, id);
      const since = parseDate(body.since);
      let messages = 0;
      const from = { date: since, cursors: await store.cursors.read(id) };
      for await (const batch of mail.listSince(mailbox, from, signal(RESYNC_TIMEOUT_MS))) {
        await redeliver({ store, tasks }, id, batch, body.redeliver);
        messages += batch.length;
      }
      facts.emit({ kind: "mailbox.resync", mailbox: id, since: since.toISOString(), messages });
      // The resync is the answer if the mailbox waits for one: messages before `since` are skipped.
      const now = await getMailbox(store, id);
      if (awaitsConfirmation(now)) await answer(deps, now, false);
      return jsonResponse({ messages }, 202);
    },
  });
}

function confirm(deps: MailboxActionRoutesDeps): Route {
  return route({
    method: "post",
    path: actionPath("confirm"),
    tag,
    scope: "manage",
    summary: "Deliver what a mailbox asks about",
    description:
      "A mailbox whose server renumbered its folders stops with `needs_attention` and the problem `confirm` when many more messages would be delivered than is to be expected. " +
      "This delivers them, in all folders, and what was delivered within the window (WINDOW_DAYS) not twice. To deliver only those received since a date, `resync` instead.",
    responses: { 200: { description: "It goes on", schema: MailboxView } },
    problems: ["not_found", "conflict"],
    async handle({ id }) {
      const previous = await getMailbox(deps.store, id);
      if (!awaitsConfirmation(previous))
        throw new Problem("conflict", `The mailbox ${id} does not wait for a confirmation`, { retry: "never" });
      await answer(deps, previous, true);
      return mailboxResponse(await getMailbox(deps.store, id));
    },
  });
}

/** How long an answer is valid: long enough to read all folders of a server that was moved. */
const ANSWER_HOLDS_MS = 24 * 3_600_000;

function awaitsConfirmation({ state }: MailboxWithState): boolean {
  return state.problem?.code === "confirm";
}

/** Stores the answer with the mailbox, which starts its subscription again. */
async function answer(
  { store, facts, subscriptions }: MailboxActionRoutesDeps,
  { mailbox, state }: MailboxWithState,
  deliver: boolean,
): Promise<void> {
  const now = clock.now();
  const confirmed = { deliver, until: new Date(now + ANSWER_HOLDS_MS).toISOString() };
  const changed = { ...mailbox, confirmed };
  const stored = await store.mailboxes.put(changed, { ...state, ...restartedState(changed) });
  facts.emit({ kind: "mailbox.changed", mailbox: mailbox.id, revision: stored.revision });
  subscriptions.wake(mailbox.id);
}

function folders({ store, mail }: MailboxActionRoutesDeps): Route {
  return route({
    method: "get",
    path: actionPath("folders"),
    tag,
    scope: "read",
    summary: "List the folders on the mail server",
    responses: {
      200: { description: "As the server lists them now", schema: v.object({ items: v.array(FolderView) }) },
    },
    problems: ["not_found", ...MAIL_PROBLEMS],
    async handle({ id, signal }) {
      const { mailbox } = await getMailbox(store, id);
      return jsonResponse({ items: await mail.listFolders(mailbox, signal(MAIL_TIMEOUT_MS)) });
    },
  });
}

function events({ store }: MailboxActionRoutesDeps): Route {
  return route({
    method: "get",
    path: actionPath("events"),
    tag,
    scope: "read",
    summary: "What happened to a mailbox",
    description:
      "Its last facts, newest first. At most 200 are stored. `GET /api/v1/events` streams them as they happen.",
    query: EventsQuery,
    responses: { 200: { description: "The facts", schema: v.object({ items: v.array(FactView) }) } },
    problems: ["not_found"],
    async handle({ id, query }) {
      await getMailbox(store, id);
      const kinds = query.kind?.split(",").map((name) => name.trim());
      const recent = await store.facts.recent(id, kinds ? MAX_EVENTS : query.limit);
      const items = kinds ? recent.filter(({ kind }) => kinds.includes(kind)) : recent;
      return jsonResponse({ items: items.slice(0, query.limit) });
    },
  });
}
