/** Links by which people connect mailboxes: one route makes them, and the pages lead through the provider and back. */
import * as v from "valibot";
import { asProblem } from "../../shared/contract/problem.ts";
import { ConsentInput, ConsentLink, makeLink, publicBase } from "../consent/links.ts";
import { connectedPage, invitationPage, redirect, refusedPage } from "../consent/pages.ts";
import { endVisit, newBrowser, openLink, type Refused, startVisit, type VisitDeps } from "../consent/visits.ts";
import type { ApiDeps } from "../deps.ts";
import { jsonResponse, route, type Route, type RouteRequest } from "../http/route.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

type ConsentRoutesDeps = VisitDeps & Pick<ScopedDeps, "mailboxPrefix">;

const LINK_TIMEOUT_MS = 30_000;
const VISIT_TIMEOUT_MS = 60_000;

export function consentRoutes(deps: ConsentRoutesDeps): Route[] {
  return [
    route({
      method: "post",
      path: "/api/v1/consents",
      tag: "Applications",
      scope: "manage",
      summary: "Make a link by which a person connects a mailbox",
      description:
        "The person opens the link, signs in at the provider of the application and agrees. Then the mailbox is registered, or the login of a registered one is renewed. The link is valid once, for 30 minutes. " +
        "At the end the browser goes to `returnUrl` with `result` (`connected`, `renewed` or `refused`), `mailbox`, `address` and `reason` in its query. Anybody can write such a query: `GET /api/v1/mailboxes/{id}` is what proves it. " +
        "`returnUrl` must be an http or https address that the service may post to (EGRESS_PRIVATE, EGRESS_PORTS).",
      body: ConsentInput,
      responses: { 201: { description: "The link", schema: ConsentLink } },
      problems: ["unavailable", "not_found"],
      async handle({ body, caller, note, signal }) {
        const link = await makeLink(deps, body, { actor: caller.actor, signal: signal(LINK_TIMEOUT_MS) });
        note({ mailbox: link.mailbox });
        return jsonResponse(link, 201);
      },
    }),
  ];
}

const tag = "Pages";
const PAGE = { description: "A page", type: "text/html" };
const REFUSED = {
  400: { description: "A page that says why the mailbox was not connected, and what to do", type: "text/html" },
  404: { description: "A page: the link is not known", type: "text/html" },
  410: { description: "A page: the link has expired, or was used", type: "text/html" },
  502: { description: "A page: the provider or the service failed", type: "text/html" },
};
const ON = { description: "The browser goes on", type: null, headers: { location: "Where to." } };
const LinkQuery = v.object({ link: v.optional(v.string(), "") });

/** The pages for people. The link in the query, or the state and the cookie, say who may see them. */
export function consentPages(deps: VisitDeps & Pick<ApiDeps, "config">): Route[] {
  return [
    route({
      method: "get",
      path: "/consent",
      tag,
      scope: "public",
      summary: "What a person is about to connect",
      query: LinkQuery,
      responses: { 200: PAGE, ...REFUSED },
      problems: [],
      handle: ({ query: { link } }) =>
        shown(deps, async () => {
          const opened = await openLink(deps, link);
          if ("refused" in opened) return opened;
          return invitationPage(opened, `${pathOf(deps)}/start?link=${encodeURIComponent(link)}`);
        }),
    }),
    route({
      method: "get",
      path: "/consent/start",
      tag,
      scope: "public",
      summary: "The way to the provider",
      description: "Binds the link to this browser by a cookie.",
      query: LinkQuery,
      responses: { 303: ON, ...REFUSED },
      problems: [],
      handle: ({ query: { link }, request }) =>
        shown(deps, async () => {
          const browser = browserOf(request) || newBrowser();
          const started = await startVisit(deps, link, browser);
          return "refused" in started ? started : redirect(started.url, { "set-cookie": cookieOf(deps, browser) });
        }),
    }),
    route({
      method: "get",
      path: "/consent/callback",
      tag,
      scope: "public",
      summary: "The way back from the provider",
      responses: { 200: PAGE, 303: ON, ...REFUSED },
      problems: [],
      handle: (call) =>
        shown(deps, async () => {
          const ended = await endVisit(deps, visitOf(call), call.signal(VISIT_TIMEOUT_MS));
          return "refused" in ended ? ended : connectedPage(ended, publicBase(deps.config));
        }),
    }),
  ];
}

function visitOf({ request }: RouteRequest<unknown, unknown>) {
  return { answer: new URL(request.url).searchParams, browser: browserOf(request) };
}

/** The page that the work leads to. A refusal is reported, and a failure is a page too. */
async function shown(deps: VisitDeps, work: () => Promise<Response | Refused>): Promise<Response> {
  const outcome = await work().catch((error: unknown): Refused => {
    const { code, message, fix } = asProblem(error);
    deps.facts.emit({ kind: "service.failed", what: "connecting a mailbox", failure: { code, cause: message } });
    return { refused: "failed", words: `${message}.`, fix };
  });
  if (outcome instanceof Response) return outcome;
  const { consent, refused, words } = outcome;
  const cause = words === undefined ? {} : { cause: words };
  if (consent)
    deps.facts.emit({ kind: "consent.refused", application: consent.application, reason: refused, ...cause });
  return refusedPage(outcome, (link) => `${pathOf(deps)}?link=${encodeURIComponent(link)}`);
}

function pathOf({ config }: Pick<ApiDeps, "config">): string {
  return `${config.BASE_PATH}/consent`;
}

const COOKIE = "email-listener-consent";

/** What the browser keeps of its visit; "" if it keeps nothing. */
function browserOf({ headers }: Request): string {
  const [, value = ""] = new RegExp(`(?:^|;\\s*)${COOKIE}=([\\w-]{43})(?:;|$)`).exec(headers.get("cookie") ?? "") ?? [];
  return value;
}

/** The provider sends the browser back from its own pages, so the cookie must be Lax. */
function cookieOf(deps: Pick<ApiDeps, "config">, browser: string): string {
  const secure = publicBase(deps.config).startsWith("https:") ? "; Secure" : "";
  return `${COOKIE}=${browser}; Path=${pathOf(deps)}; Max-Age=1800; HttpOnly; SameSite=Lax${secure}`;
}
