/** What people open in a browser, and the document from which they generate clients: `/`, /docs and /openapi.json. */
import { html } from "hono/html";
import { Problem } from "../../shared/contract/problem.ts";
import { type Authenticate, hasScope } from "../http/auth.ts";
import { collectCounts } from "../counts.ts";
import type { TaskDepth } from "../../shared/queue/queue.ts";
import type { ApiDeps } from "../deps.ts";
import { renderDocs } from "../pages/docs.ts";
import { type Html, htmlPage } from "../pages/html.ts";
import { openApiDocument } from "../pages/openapi.ts";
import { jsonResponse, route, type Route } from "../http/route.ts";

type PageRoutesDeps = Pick<ApiDeps, "config" | "version" | "store" | "tasks" | "subscriptions">;

const tag = "Pages";
const htmlResponses = { 200: { description: "The page", type: "text/html" } };

/** The pages about these routes and themselves. Only a caller who may read all mailboxes sees counts on the first page. */
export function pageRoutes(deps: PageRoutesDeps, api: readonly Route[], authenticate: Authenticate): Route[] {
  const { version } = deps;
  const base = deps.config.BASE_PATH;
  const pages: Route[] = [
    route({
      method: "get",
      path: "/",
      tag,
      scope: "public",
      summary: "The first page",
      description: "Says what this is. Only callers of the API see counts.",
      responses: htmlResponses,
      problems: [],
      async handle({ request, caller }) {
        const counts = (await mayReadAll(authenticate(request, caller.address))) ? await renderTiles(deps) : "";
        return htmlPage("Email Listener", startPage({ base, origin: new URL(request.url).origin, version }, counts));
      },
    }),
    route({
      method: "get",
      path: "/docs",
      tag,
      scope: "public",
      summary: "This reference, for people",
      responses: htmlResponses,
      problems: [],
      handle: () => htmlPage("Email Listener: reference", renderDocs(document, base)),
    }),
    route({
      method: "get",
      path: "/openapi.json",
      tag,
      scope: "public",
      summary: "This reference, for machines",
      responses: { 200: { description: "OpenAPI 3.1" } },
      problems: [],
      handle: () => jsonResponse(document),
    }),
  ];
  const document = openApiDocument([...api, ...pages], version, base);
  return pages;
}

/** A stranger is no failure here: the page has a form for strangers. */
async function mayReadAll(caller: ReturnType<Authenticate>): Promise<boolean> {
  try {
    const actor = await caller;
    return hasScope(actor, "read") && actor.mailboxPrefix === "";
  } catch (error) {
    if (error instanceof Problem && ["unauthorized", "forbidden", "guesses"].includes(error.code)) return false;
    throw error;
  }
}

type PageContext = { base: string; origin: string; version: string };

function startPage({ base, origin, version }: PageContext, counts: Html | string): Html {
  return html`<h1>Email Listener</h1>
    <p class="soft">Version ${version}, running.</p>
    <p>
      Keeps watch over mailboxes and posts every new message to an endpoint of yours, signed, within moments of its
      arrival.
    </p>
    ${counts}
    <h2>Begin</h2>
    <p>Register a mailbox; from then on its mail comes to your endpoint:</p>
    <pre><code>curl -X POST ${origin}${base}/api/v1/mailboxes \\
  -H 'authorization: Bearer &lt;token&gt;' -H 'content-type: application/json' \\
  -d '{ "address": "help@example.com",
        "receive": { "protocol": "imap", "host": "imap.example.com",
                     "auth": { "user": "help@example.com", "password": "..." } },
        "deliver": { "url": "https://crm.example.com/mail" } }'</code></pre>
    <h2>Look around</h2>
    <nav>
      <a href="${base}/docs">Reference</a><a href="${base}/openapi.json">OpenAPI</a
      ><a href="${base}/api/listeners/status">Status</a><a href="${base}/readyz">Readiness</a
      ><a href="${base}/metrics">Metrics</a>
    </nav>`;
}

function tasksTile({ ready, delayed, running }: TaskDepth): [string, number] {
  return ["tasks waiting", ready + delayed + running];
}

async function renderTiles(deps: PageRoutesDeps): Promise<Html> {
  const { mailboxes, deliveries, tasks } = await collectCounts(deps);
  const facts: [string, number][] = [
    ["mailboxes", mailboxes.total],
    ["connections open", deps.subscriptions.connections().open],
    ["need attention", mailboxes.byStatus["needs_attention"] ?? 0],
    ["delivered lately", deliveries.delivered],
    ["retrying", deliveries.retrying],
    ["parked", deliveries.parked + (tasks?.parked ?? 0)],
    ...(tasks ? [tasksTile(tasks)] : []),
  ];
  return html`<ul class="tiles">
    ${facts.map(([name, count]) => html`<li><b>${count}</b>${name}</li>`)}
  </ul>`;
}
