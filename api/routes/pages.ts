/** What people open in a browser, and the document they generate clients from: `/`, /docs and /openapi.json. */
import type { Gate } from "../http/auth.ts";
import { counted } from "../counts.ts";
import type { TaskDepth } from "../../shared/queue/queue.ts";
import type { ApiDeps } from "../deps.ts";
import { docsBody } from "../pages/docs.ts";
import { type Html, html, page } from "../pages/html.ts";
import { openApiDocument } from "../pages/openapi.ts";
import { json, route, type Route } from "../http/route.ts";

type Deps = Pick<ApiDeps, "config" | "version" | "store" | "tasks" | "subscriptions">;

const tag = "Pages";
const shown = { 200: { about: "The page", type: "text/html" } };

/** The pages over those routes; they describe themselves too. `allowed` decides whether the first page may show counts. */
export function pageRoutes(deps: Deps, api: readonly Route[], allowed: Gate): Route[] {
  const { version } = deps;
  const base = deps.config.BASE_PATH;
  const pages: Route[] = [
    route({
      method: "get",
      path: "/",
      tag,
      open: true,
      summary: "The first page",
      about: "Says what this is. Counts are shown only to whoever may use the API.",
      answers: shown,
      problems: [],
      async handle({ request }) {
        const counts = allowed(request) === undefined ? await tiles(deps) : "";
        return page("Email Listener", first({ base, origin: new URL(request.url).origin, version }, counts));
      },
    }),
    route({
      method: "get",
      path: "/docs",
      tag,
      open: true,
      summary: "This reference, for people",
      answers: shown,
      problems: [],
      handle: () => page("Email Listener: reference", docsBody(document, base)),
    }),
    route({
      method: "get",
      path: "/openapi.json",
      tag,
      open: true,
      summary: "This reference, for machines",
      answers: { 200: { about: "OpenAPI 3.1" } },
      problems: [],
      handle: () => json(document),
    }),
  ];
  const document = openApiDocument([...api, ...pages], version, base);
  return pages;
}

type Place = { base: string; origin: string; version: string };

function first({ base, origin, version }: Place, counts: Html | string): Html {
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

async function tiles(deps: Deps): Promise<Html> {
  const { mailboxes, deliveries, tasks } = await counted(deps);
  const facts: [string, number][] = [
    ["mailboxes", mailboxes.total],
    ["connections open", deps.subscriptions.connections().open],
    ["need attention", mailboxes.byStatus["needs_attention"] ?? 0],
    ["delivered lately", deliveries.delivered],
    ["retrying", deliveries.retrying],
    ["parked", deliveries.parked],
    ...(tasks ? [tasksTile(tasks)] : []),
  ];
  return html`<ul class="tiles">
    ${facts.map(([name, count]) => html`<li><b>${count}</b>${name}</li>`)}
  </ul>`;
}
