/** /api/v1/applications: register, read, change and remove the applications that mailboxes name. */
import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { type Application, ApplicationInput } from "../../shared/contract/application.ts";
import { ApplicationId } from "../../shared/contract/fields.ts";
import { Problem } from "../../shared/contract/problem.ts";
import {
  applicationFromInput,
  ApplicationView,
  invalidField,
  toApplicationView,
  withApplicationLock,
} from "../applications.ts";
import { checkRevision } from "../http/if-match.ts";
import { pageOf } from "../http/paging.ts";
import { notFound } from "../http/problems.ts";
import { jsonResponse, parseInput, route, type Route } from "../http/route.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

type ApplicationRoutesDeps = Pick<ScopedDeps, "config" | "store" | "subscriptions" | "mailboxPrefix">;

const tag = "Applications";
const LIST_PATH = "/api/v1/applications";
const APPLICATION_PATH = `${LIST_PATH}/{id}`;
const ETAG_HEADER = { etag: 'The revision, quoted: `"3"`. Send it as If-Match to change only what you have seen.' };
const CREATED_HEADERS = { ...ETAG_HEADER, location: "The path of the application." };

export function applicationRoutes(deps: ApplicationRoutesDeps): Route[] {
  return [list(deps), create(deps), read(deps), replace(deps), remove(deps)];
}

function list({ store }: ApplicationRoutesDeps): Route {
  return route({
    method: "get",
    path: LIST_PATH,
    tag,
    scope: "read",
    summary: "List the applications",
    description: "All of them, at most 1,000, in the order of their ids, without their secrets.",
    responses: { 200: { description: "The applications", schema: pageOf(ApplicationView) } },
    problems: [],
    async handle() {
      const items = (await store.applications.list()).map(toApplicationView);
      return jsonResponse({ items, next: null, total: items.length });
    },
  });
}

function create(deps: ApplicationRoutesDeps): Route {
  return route({
    method: "post",
    path: LIST_PATH,
    tag,
    scope: "manage",
    summary: "Register an application",
    description:
      "What a provider knows this service as, with a client secret, or a certificate and its private key. Mailboxes name it by " +
      '`receive.auth: { "application": id }`. An application with application permissions may reach every mailbox of its tenant, and so ' +
      "does everybody who may register mailboxes here. A token with a `mailboxPrefix` sees and uses only applications whose ids begin with it.",
    body: ApplicationInput,
    responses: { 201: { description: "Registered", schema: ApplicationView, headers: CREATED_HEADERS } },
    problems: ["conflict"],
    async handle({ body, note }) {
      const id = body.id ?? deps.mailboxPrefix + randomUUID();
      if (await deps.store.applications.get(id)) throw idTakenProblem(id);
      note({ target: id });
      await checkDomains(deps, id, body);
      return save(deps, await applicationFromInput(body, { id }), 201);
    },
  });
}

function read({ store }: ApplicationRoutesDeps): Route {
  return route({
    method: "get",
    path: APPLICATION_PATH,
    tag,
    scope: "read",
    summary: "Read an application",
    responses: { 200: { description: "The application", schema: ApplicationView, headers: ETAG_HEADER } },
    problems: ["not_found"],
    async handle({ id }) {
      return applicationResponse(await getApplication(store, id));
    },
  });
}

function replace(deps: ApplicationRoutesDeps): Route {
  return route({
    method: "put",
    path: APPLICATION_PATH,
    tag,
    scope: "manage",
    summary: "Create or replace an application",
    description:
      "The body is a whole application. A secret that is left out stays, unless its provider, tenant, client, token server or root of Graph " +
      "becomes another (`secret_needed`). The mailboxes that name the application use the change at once, on all nodes.",
    body: ApplicationInput,
    responses: {
      200: { description: "Replaced", schema: ApplicationView, headers: ETAG_HEADER },
      201: { description: "Registered", schema: ApplicationView, headers: CREATED_HEADERS },
    },
    problems: ["conflict", "precondition", "secret_needed"],
    async handle({ id, body, request }) {
      parseInput(v.object({ id: ApplicationId }), { id });
      if (body.id !== undefined && body.id !== id) throw invalidField("id", "must be the id in the path, or left out");
      const previous = await deps.store.applications.get(id);
      checkRevision(request, previous?.revision);
      await checkDomains(deps, id, body);
      return save(deps, await applicationFromInput(body, { id, previous }), previous ? 200 : 201);
    },
  });
}

function remove({ store }: ApplicationRoutesDeps): Route {
  return route({
    method: "delete",
    path: APPLICATION_PATH,
    tag,
    scope: "manage",
    summary: "Remove an application",
    description: "Refused while mailboxes name it. Nothing changes at the provider.",
    responses: { 204: { description: "Removed", type: null } },
    problems: ["not_found", "conflict", "precondition"],
    handle: ({ id, request }) =>
      withApplicationLock(store, id, async () => {
        checkRevision(request, (await getApplication(store, id)).revision);
        const count = await store.applications.countMailboxes(id);
        if (count > 0) throw inUseProblem(id, count);
        if (!(await store.applications.remove(id))) throw notFound("application", id);
        return new Response(null, { status: 204 });
      }),
  });
}

/** Domains concern the mailboxes of all CRMs, and each leads to one application. */
async function checkDomains({ store, mailboxPrefix }: ApplicationRoutesDeps, id: string, body: ApplicationInput) {
  if (body.provider !== "microsoft" || body.domains === undefined) return;
  if (mailboxPrefix !== "") throw invalidField("domains", "needs a token for all mailboxes");
  const mine = new Set(body.domains.map((domain) => domain.toLowerCase()));
  for (const other of await store.applications.list()) {
    if (other.id === id || other.provider !== "microsoft") continue;
    const taken = other.domains?.find((domain) => mine.has(domain.toLowerCase()));
    if (taken !== undefined) throw invalidField("domains", `names ${taken}, as the application ${other.id} does`);
  }
}

/** The mailboxes of the application are connected anew, on this node and on the others. */
async function save(
  { config, store, subscriptions }: ApplicationRoutesDeps,
  application: Application,
  status: 200 | 201,
): Promise<Response> {
  const stored = await store.applications.put(application);
  subscriptions.wake();
  return applicationResponse(stored, status, `${config.BASE_PATH}${LIST_PATH}/${stored.id}`);
}

function applicationResponse(application: Application, status: 200 | 201 = 200, location = ""): Response {
  const headers = { etag: `"${application.revision}"`, ...(status === 201 && { location }) };
  return jsonResponse(toApplicationView(application), status, headers);
}

async function getApplication({ applications }: ApplicationRoutesDeps["store"], id: string): Promise<Application> {
  const found = await applications.get(id);
  if (!found) throw notFound("application", id);
  return found;
}

function idTakenProblem(id: string): Problem {
  const message = `The application ${id} exists already. PUT replaces it.`;
  return new Problem("conflict", message, { retry: "never", errors: [{ path: "id", message: "is taken" }] });
}

function inUseProblem(id: string, count: number): Problem {
  const who = count === 1 ? "1 mailbox names" : `${count} mailboxes name`;
  const message = `${who} the application ${id}. Remove them, or give them another login, and try again.`;
  return new Problem("conflict", message, { retry: "never" });
}
