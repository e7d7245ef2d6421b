/** /api/v1/mailboxes: registering mailboxes, reading, changing and removing them. */
import * as v from "valibot";
import { type Mailbox, MailboxId, MailboxInput, MailboxStatus } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import type { ApiDeps } from "../deps.ts";
import { differs, MailboxCreated, mailboxFrom, MailboxShown, shownMailbox, wireForm } from "../mailboxes.ts";
import { merged, replacingCredentials } from "../http/merge-patch.ts";
import { notFound } from "../http/problems.ts";
import { listOf, paging } from "../http/paging.ts";
import { json, parsed, route, type Route } from "../http/route.ts";

type Deps = Pick<ApiDeps, "config" | "store" | "facts" | "subscriptions">;

const ONE = "/api/v1/mailboxes/{id}";
const tag = "Mailboxes";
const REVISION = { etag: 'The revision, quoted: `"3"`. Send it as If-Match to change only what you have seen.' };
const CREATED = { ...REVISION, location: "The path of the mailbox." };

const Query = v.strictObject({
  ...paging,
  status: v.exactOptional(MailboxStatus),
  address: v.exactOptional(v.string()),
});
const Patch = v.pipe(
  v.record(v.string(), v.unknown()),
  v.description("Any part of a mailbox, as in PUT. null removes a member."),
);

export function mailboxRoutes(deps: Deps): Route[] {
  return [list(deps), create(deps), read(deps), replace(deps), patch(deps), remove(deps)];
}

function list({ store }: Deps): Route {
  return route({
    method: "get",
    path: "/api/v1/mailboxes",
    tag,
    summary: "List the mailboxes",
    about: "In the order of their ids. `total` counts all that match, whatever the page.",
    query: Query,
    answers: { 200: { about: "A page of mailboxes", schema: listOf(MailboxShown) } },
    problems: [],
    async handle({ query }) {
      const page = await store.mailboxes.list(query);
      return json({ ...page, items: page.items.map((item) => shownMailbox(item)) });
    },
  });
}

function create(deps: Deps): Route {
  return route({
    method: "post",
    path: "/api/v1/mailboxes",
    tag,
    summary: "Register a mailbox",
    about:
      "From now on new mail of this mailbox is delivered to `deliver.url`. Without `deliver.secret` a webhook secret is made; " +
      "this answer is the only one that ever tells it. Ask `POST /api/v1/mailboxes/validate` first to see whether the mail server can be used.",
    body: MailboxInput,
    answers: { 201: { about: "Registered", schema: MailboxCreated, headers: CREATED } },
    problems: ["conflict"],
    async handle({ body }) {
      if (body.id !== undefined && (await deps.store.mailboxes.get(body.id))) throw taken(body.id);
      return register(deps, body);
    },
  });
}

function read({ store }: Deps): Route {
  return route({
    method: "get",
    path: ONE,
    tag,
    summary: "Read a mailbox and its state",
    answers: { 200: { about: "The mailbox", schema: MailboxShown, headers: REVISION } },
    problems: ["not_found"],
    async handle({ id }) {
      return answered(await found(store, id));
    },
  });
}

function replace(deps: Deps): Route {
  return route({
    method: "put",
    path: ONE,
    tag,
    summary: "Create or replace a mailbox",
    about:
      "Takes a whole mailbox, with its password. Only the webhook secret is kept when it is left out, so that repeating the same PUT changes nothing.",
    body: MailboxInput,
    answers: {
      200: { about: "Replaced", schema: MailboxShown, headers: REVISION },
      201: { about: "Registered", schema: MailboxCreated, headers: CREATED },
    },
    problems: ["conflict", "precondition"],
    async handle({ id, body, request }) {
      parsed(v.object({ id: MailboxId }), { id });
      if (body.id !== undefined && body.id !== id) throw fixedId();
      const was = await deps.store.mailboxes.get(id);
      checkRevision(request, was?.mailbox.revision);
      return was ? change(deps, was, body) : register(deps, { ...body, id });
    },
  });
}

function patch(deps: Deps): Route {
  return route({
    method: "patch",
    path: ONE,
    tag,
    summary: "Change parts of a mailbox",
    about:
      "A JSON merge patch (RFC 7396): what is absent stays, secrets too; null removes. Another kind of credential in `receive.auth` replaces " +
      "the one before. `deliver: { secret: null }` makes a new webhook secret, told in this answer only.",
    body: Patch,
    bodyTypes: ["application/merge-patch+json"],
    answers: { 200: { about: "Changed", schema: MailboxCreated, headers: REVISION } },
    problems: ["not_found", "conflict", "precondition"],
    async handle({ id, body, request }) {
      const was = await found(deps.store, id);
      checkRevision(request, was.mailbox.revision);
      const input = parsed(MailboxInput, merged(wireForm(was.mailbox), replacingCredentials(body)));
      if (input.id !== id) throw fixedId();
      const secretGone = input.deliver.secret === undefined;
      const base = secretGone ? { ...was, mailbox: withoutSecret(was.mailbox) } : was;
      return change(deps, base, input);
    },
  });
}

function remove({ store, facts, subscriptions }: Deps): Route {
  return route({
    method: "delete",
    path: ONE,
    tag,
    summary: "Remove a mailbox",
    about:
      "Ends its subscription and forgets everything about it, what waits or is parked included. The mail server is left as it is.",
    answers: { 204: { about: "Removed", type: null } },
    problems: ["not_found", "precondition"],
    async handle({ id, request }) {
      checkRevision(request, (await found(store, id)).mailbox.revision);
      if (!(await store.mailboxes.remove(id))) throw notFound("mailbox", id);
      facts.emit({ kind: "mailbox.removed", mailbox: id });
      subscriptions.wake(id);
      return new Response(null, { status: 204 });
    },
  });
}

async function register({ config, store, facts, subscriptions }: Deps, input: MailboxInput): Promise<Response> {
  const { mailbox, generated } = mailboxFrom(input);
  const stored = await store.mailboxes.put(mailbox);
  facts.emit({ kind: "mailbox.registered", mailbox: stored.id, address: stored.address });
  subscriptions.wake(stored.id);
  return json(shownMailbox(await found(store, stored.id), generated), 201, {
    etag: `"${stored.revision}"`,
    location: `${config.BASE_PATH}/api/v1/mailboxes/${stored.id}`,
  });
}

/** Stores the change; with new credentials, server or endpoint the mailbox starts afresh, its failed logins forgotten. */
async function change(deps: Deps, was: MailboxWithState, input: MailboxInput): Promise<Response> {
  const { store, facts, subscriptions } = deps;
  const { mailbox, generated } = mailboxFrom(input, was.mailbox);
  const afresh = differs(was.mailbox.receive, mailbox.receive) || differs(was.mailbox.deliver, mailbox.deliver);
  const state = { ...was.state, ...restarted(mailbox) };
  const stored = await (afresh ? store.mailboxes.put(mailbox, state) : store.mailboxes.put(mailbox));
  facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  subscriptions.wake(stored.id);
  return answered(await found(store, stored.id), generated);
}

/** The part of a state that a change of the mailbox, a pause or a resume sets back. */
export function restarted(mailbox: Mailbox) {
  const status: MailboxStatus = mailbox.paused ? "paused" : "initializing";
  return { status, since: new Date().toISOString(), failedLogins: 0, problem: null };
}

/** The mailbox with its state; throws `not_found`. */
export async function found(store: ApiDeps["store"], id: string): Promise<MailboxWithState> {
  const item = await store.mailboxes.get(id);
  if (!item) throw notFound("mailbox", id);
  return item;
}

/** The mailbox as an answer, with its ETag. */
export function answered(item: MailboxWithState, generated?: Secret): Response {
  return json(shownMailbox(item, generated), 200, { etag: `"${item.mailbox.revision}"` });
}

function withoutSecret(mailbox: Mailbox): Mailbox {
  const { secret: _, ...deliver } = mailbox.deliver;
  return { ...mailbox, deliver };
}

/** If-Match (RFC 9110, section 13.1.1) is optional; without it the last writer wins unless two write at once. */
function checkRevision(request: Request, revision: number | undefined): void {
  const wanted = request.headers.get("if-match");
  if (wanted === null || (wanted.trim() === "*" && revision !== undefined)) return;
  const tags = wanted.split(",").map((entry) => entry.trim());
  if (revision !== undefined && tags.includes(`"${revision}"`)) return;
  const has = revision === undefined ? "There is no such mailbox" : `The mailbox has revision "${revision}"`;
  throw new Problem("precondition", `${has}, If-Match asks for ${wanted.slice(0, 100)}.`, { retry: "never" });
}

function taken(id: string): Problem {
  const message = `There is a mailbox ${id} already. PUT replaces it, PATCH changes it.`;
  return new Problem("conflict", message, { retry: "never", errors: [{ path: "id", message: "is taken" }] });
}

function fixedId(): Problem {
  const message = "must be the id in the path, or left out";
  return new Problem("invalid", `Not valid: id ${message}.`, { retry: "never", errors: [{ path: "id", message }] });
}
