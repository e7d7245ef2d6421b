/** /api/v1/mailboxes: register, read, change and remove mailboxes. */
import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { type Mailbox, MailboxId, MailboxInput, MailboxStatus } from "../../shared/contract/mailbox.ts";
import { removeIfClosed } from "../closed-mailboxes.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import type { ApiDeps } from "../deps.ts";
import { MailboxCreated, MailboxView, toMailboxView, toWireForm } from "../mailboxes.ts";
import { readConnection } from "../records/connection.ts";
import { withCredentialsLock } from "../mailbox-changes.ts";
import { changeMailbox, createMailbox } from "../registration/save.ts";
import { checkRevision } from "../http/if-match.ts";
import { mergePatch, replaceAlternatives } from "../http/merge-patch.ts";
import { notFound } from "../http/problems.ts";
import { pageOf, pageQuery } from "../http/paging.ts";
import { jsonResponse, parseInput, route, type Route, type RouteRequest } from "../http/route.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

type MailboxRoutesDeps = Pick<
  ScopedDeps,
  "config" | "store" | "facts" | "subscriptions" | "logins" | "mailboxPrefix" | "tasks"
>;
/** Tells the record of a change more about it. */
type Note = RouteRequest<unknown, unknown>["note"];

const MAILBOX_PATH = "/api/v1/mailboxes/{id}";
const tag = "Mailboxes";
const ETAG_HEADER = { etag: 'The revision, quoted: `"3"`. Send it as If-Match to change only what you have seen.' };
const CREATED_HEADERS = { ...ETAG_HEADER, location: "The path of the mailbox." };

const Query = v.strictObject({
  ...pageQuery,
  status: v.exactOptional(MailboxStatus),
  address: v.exactOptional(v.string()),
});
const Patch = v.pipe(
  v.record(v.string(), v.unknown()),
  v.description("Any part of a mailbox, as in PUT. null removes a member."),
);

export function mailboxRoutes(deps: MailboxRoutesDeps): Route[] {
  return [list(deps), create(deps), read(deps), replace(deps), patch(deps), remove(deps)];
}

function list({ store }: MailboxRoutesDeps): Route {
  return route({
    method: "get",
    path: "/api/v1/mailboxes",
    tag,
    scope: "read",
    summary: "List the mailboxes",
    description: "In the order of their ids. `total` counts all that match, whatever the page.",
    query: Query,
    responses: { 200: { description: "A page of mailboxes", schema: pageOf(MailboxView) } },
    problems: [],
    async handle({ query }) {
      const page = await store.mailboxes.list(query);
      return jsonResponse({ ...page, items: page.items.map((item) => toMailboxView(item)) });
    },
  });
}

function create(deps: MailboxRoutesDeps): Route {
  return route({
    method: "post",
    path: "/api/v1/mailboxes",
    tag,
    scope: "manage",
    summary: "Register a mailbox",
    description:
      "From now on the service delivers new mail of this mailbox to `deliver.url`. Without `deliver.secret` it generates a webhook secret. " +
      "Only this answer shows that secret. Call `POST /api/v1/mailboxes/validate` first to see whether the mail server works.",
    body: MailboxInput,
    responses: { 201: { description: "Registered", schema: MailboxCreated, headers: CREATED_HEADERS } },
    problems: ["conflict"],
    async handle({ body, note }) {
      if (body.id !== undefined) await removeIfClosed(deps, body.id);
      if (body.id !== undefined && (await deps.store.mailboxes.get(body.id))) throw idTakenProblem(body.id);
      return registerMailbox(deps, body, note);
    },
  });
}

function read({ store }: MailboxRoutesDeps): Route {
  return route({
    method: "get",
    path: MAILBOX_PATH,
    tag,
    scope: "read",
    summary: "Read a mailbox and its state",
    responses: { 200: { description: "The mailbox", schema: MailboxView, headers: ETAG_HEADER } },
    problems: ["not_found"],
    async handle({ id }) {
      const item = await getMailbox(store, id);
      const [parked, connection] = await Promise.all([
        store.deliveries.list({ mailbox: id, state: "parked", limit: 1 }),
        readConnection(store, item),
      ]);
      return mailboxResponse(item, { parked, connection });
    },
  });
}

function replace(deps: MailboxRoutesDeps): Route {
  return route({
    method: "put",
    path: MAILBOX_PATH,
    tag,
    scope: "manage",
    summary: "Create or replace a mailbox",
    description:
      "The body is a whole mailbox, with its password. If the webhook secret is left out, the stored one stays. So repeating the same PUT changes nothing.",
    body: MailboxInput,
    responses: {
      200: { description: "Replaced", schema: MailboxView, headers: ETAG_HEADER },
      201: { description: "Registered", schema: MailboxCreated, headers: CREATED_HEADERS },
    },
    problems: ["conflict", "precondition"],
    async handle({ id, body, request, note }) {
      parseInput(v.object({ id: MailboxId }), { id });
      if (body.id !== undefined && body.id !== id) throw fixedIdProblem();
      await removeIfClosed(deps, id);
      const previous = await deps.store.mailboxes.get(id);
      checkRevision(request, previous?.mailbox.revision);
      return previous
        ? updateMailbox(deps, previous, body, { body, note })
        : registerMailbox(deps, { ...body, id }, note);
    },
  });
}

function patch(deps: MailboxRoutesDeps): Route {
  return route({
    method: "patch",
    path: MAILBOX_PATH,
    tag,
    scope: "manage",
    summary: "Change parts of a mailbox",
    description:
      "A JSON merge patch (RFC 7396): absent members stay, secrets too; null removes. Another kind of credential in `receive.auth` replaces " +
      "the stored one. Whoever changes a server, port, account, token URL or trusted certificate, or weakens TLS, must send the secrets that go there again " +
      "(`secret_needed`). `deliver: { secret: null }` generates a new webhook secret. Only this answer shows it.",
    body: Patch,
    bodyTypes: ["application/merge-patch+json"],
    responses: { 200: { description: "Changed", schema: MailboxCreated, headers: ETAG_HEADER } },
    problems: ["not_found", "conflict", "precondition", "secret_needed"],
    handle: ({ id, body, request, signal, note }) =>
      withCredentialsLock(deps, id, () => patchMailbox(deps, id, { body, request, note }), signal),
  });
}

async function patchMailbox(
  deps: MailboxRoutesDeps,
  id: string,
  { body, request, note }: { body: Record<string, unknown>; request: Request; note: Note },
): Promise<Response> {
  const previous = await getMailbox(deps.store, id);
  checkRevision(request, previous.mailbox.revision);
  const input = parseInput(MailboxInput, mergePatch(toWireForm(previous.mailbox), replaceAlternatives(body)));
  if (input.id !== id) throw fixedIdProblem();
  const secretGone = input.deliver.secret === undefined;
  const base = secretGone ? { ...previous, mailbox: withoutSecret(previous.mailbox) } : previous;
  return updateMailbox(deps, base, input, { body, note });
}

function remove({ store, facts, subscriptions }: MailboxRoutesDeps): Route {
  return route({
    method: "delete",
    path: MAILBOX_PATH,
    tag,
    scope: "manage",
    summary: "Remove a mailbox",
    description:
      "Ends its subscription and deletes everything about it, also waiting and parked messages. Nothing changes on the mail server.",
    responses: { 204: { description: "Removed", type: null } },
    problems: ["not_found", "precondition"],
    async handle({ id, request }) {
      checkRevision(request, (await getMailbox(store, id)).mailbox.revision);
      if (!(await store.mailboxes.remove(id))) throw notFound("mailbox", id);
      facts.emit({ kind: "mailbox.removed", mailbox: id });
      subscriptions.wake(id);
      return new Response(null, { status: 204 });
    },
  });
}

async function registerMailbox(deps: MailboxRoutesDeps, input: MailboxInput, note: Note): Promise<Response> {
  const { config, store, mailboxPrefix } = deps;
  const id = input.id ?? mailboxPrefix + randomUUID();
  note({ mailbox: id });
  const { stored, generated } = await createMailbox(deps, { ...input, id });
  return jsonResponse(toMailboxView(await getMailbox(store, id), { generated }), 201, {
    etag: `"${stored.revision}"`,
    location: `${config.BASE_PATH}/api/v1/mailboxes/${id}`,
  });
}

async function updateMailbox(
  deps: MailboxRoutesDeps,
  previous: MailboxWithState,
  input: MailboxInput,
  change: { body: unknown; note: Note },
): Promise<Response> {
  const { stored, generated } = await changeMailbox(deps, previous, input, change);
  return mailboxResponse(await getMailbox(deps.store, stored.id), { generated });
}

/** The mailbox with its state. Throws `not_found`. */
export async function getMailbox(store: ApiDeps["store"], id: string): Promise<MailboxWithState> {
  const item = await store.mailboxes.get(id);
  if (!item) throw notFound("mailbox", id);
  return item;
}

/** The mailbox as an answer, with its ETag. */
export function mailboxResponse(item: MailboxWithState, more: Parameters<typeof toMailboxView>[1] = {}): Response {
  return jsonResponse(toMailboxView(item, more), 200, { etag: `"${item.mailbox.revision}"` });
}

function withoutSecret(mailbox: Mailbox): Mailbox {
  const { secret: _, ...deliver } = mailbox.deliver;
  return { ...mailbox, deliver };
}

function idTakenProblem(id: string): Problem {
  const message = `The mailbox ${id} exists already. PUT replaces it, PATCH changes it.`;
  return new Problem("conflict", message, { retry: "never", errors: [{ path: "id", message: "is taken" }] });
}

function fixedIdProblem(): Problem {
  const message = "must be the id in the path, or left out";
  return new Problem("invalid", `Not valid: id ${message}.`, { retry: "never", errors: [{ path: "id", message }] });
}
