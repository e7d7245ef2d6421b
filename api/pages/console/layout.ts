/** The frame of every page of the console: navigation, search, strips, and the policy that lets nothing else in. */
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { html, raw } from "hono/html";
import { PROBLEMS, type Problem } from "../../../shared/contract/problem.ts";
import type { Actor } from "../../../shared/contract/token.ts";
import { clock } from "../../../shared/time.ts";
import { hasScope } from "../../http/auth.ts";
import { type Html, inlineMarkdown } from "../html.ts";
import type { Assets } from "./assets.ts";
import { clockTime } from "./words.ts";

/** Where a page is shown, and to whom. Without an actor nobody is logged in. `isOpen`: the service has no API_TOKENS. */
export type Frame = {
  base: string;
  assets: Assets;
  version: string;
  path: string;
  query: string;
  actor: Actor | undefined;
  isOpen: boolean;
  acceptsGzip: boolean;
};
/**
 * `isLive`: all of it that can change is in elements with an id and `data-live`, which are renewed while it is open. `at`:
 * of when it is, in milliseconds since 1970; now by default.
 */
export type PageContent = {
  title: string;
  body: Html | string;
  isLive?: boolean;
  at?: number;
  status?: number;
  /** It has a frame, of this service. */
  hasFrame?: boolean;
};

/** The views with a link on every page, in the order in which an administrator needs them. */
const NAVIGATION: readonly (readonly [path: string, name: string])[] = [
  ["/", "Now"],
  ["/mailboxes", "Mailboxes"],
  ["/deliveries", "Deliveries"],
  ["/endpoints", "Endpoints"],
  ["/outgoing", "Outgoing"],
  ["/alarms", "Alarms"],
  ["/upcoming", "Upcoming"],
  ["/diagnostics", "Diagnostics"],
];

/** The id of the sentence that says why buttons are disabled. */
export const READ_ONLY_ID = "read-only";

const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "form-action 'self'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types console",
].join("; ");

const compress = promisify(gzip);

/** A page as text, or compressed. Several may be answered with the same. */
export type WrittenPage = { body: string | Uint8Array<ArrayBuffer>; status: number; headers: Record<string, string> };

/** A whole page as an answer. */
export async function consolePage(frame: Frame, content: PageContent): Promise<Response> {
  return pageResponse(await writePage(frame, content));
}

export function pageResponse({ body, ...rest }: WrittenPage): Response {
  return new Response(body, rest);
}

export async function writePage(frame: Frame, content: PageContent): Promise<WrittenPage> {
  const { base, assets, actor } = frame;
  const at = new Date(content.at ?? clock.now()).toISOString();
  const whole = await html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width,initial-scale=1" />
        <title>${content.title} - Email Listener</title>
        <link rel="stylesheet" href="${assets.style.url}" />
        <link rel="icon" href="${assets.icon.url}" />
        <script src="${assets.script.url}" type="module"></script>
      </head>
      <body>
        <a class="skip" href="#main">Skip to the content</a>
        ${actor ? topOf(frame) : ""} ${actor ? stripsOf(frame, actor) : ""}
        <main id="main" tabindex="-1">
          <div class="head">
            <h1>${content.title}</h1>
            ${
              actor
                ? html`<p class="soft" id="as-of" ${content.isLive ? raw("data-live") : ""}>
                    as of <time datetime="${at}">${clockTime(at)}</time>
                  </p>`
                : ""
            }
          </div>
          <p id="news" role="status" class="bad"></p>
          ${content.body}
        </main>
        <footer>
          <p>
            Email Listener ${frame.version} · <a href="${base}/docs">API reference</a> ·
            <a href="${base}/openapi.json">OpenAPI</a>
          </p>
          ${actor && !frame.isOpen ? logOutForm(base, actor) : ""}
        </footer>
      </body>
    </html>`;
  return asAnswer(String(whole), frame.acceptsGzip, content);
}

async function asAnswer(
  text: string,
  acceptsGzip: boolean,
  { status = 200, hasFrame = false }: PageContent,
): Promise<WrittenPage> {
  const body = acceptsGzip ? new Uint8Array(await compress(text)) : text;
  return {
    body,
    status,
    headers: {
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": hasFrame ? `${POLICY}; frame-src 'self'` : POLICY,
      "cache-control": "no-store",
      vary: "accept-encoding, cookie",
      ...(acceptsGzip && { "content-encoding": "gzip" }),
    },
  };
}

function topOf({ base, path, query }: Frame): Html {
  const isHere = (target: string) => path === target || (target !== "/" && path.startsWith(`${target}/`));
  const wanted = path === "/search" ? (new URLSearchParams(query).get("q") ?? "") : "";
  return html`<header class="top">
    <a class="brand" href="${base}/">Email Listener</a>
    <nav aria-label="Views">
      ${NAVIGATION.map(
        ([target, name]) =>
          html`<a href="${base}${target}" ${isHere(target) ? raw('aria-current="page"') : ""}>${name}</a>`,
      )}
    </nav>
    <form class="search" role="search" action="${base}/search">
      <label class="unseen" for="q">Subject, sender, Message-ID, address, delivery id or host</label>
      <input id="q" name="q" type="search" value="${wanted}" placeholder="Subject, sender, id" />
      <button>Search</button>
    </form>
  </header>`;
}

function logOutForm(base: string, { name }: Actor): Html {
  return html`<form class="buttons" method="post" action="${base}/logout">
    <span>Logged in with the token ${name}.</span> <button>Log out</button>
  </form>`;
}

function stripsOf({ isOpen }: Frame, actor: Actor): Html {
  const open = html`<p class="strip">
    This service is open: it has no API_TOKENS, so every program on this machine may do everything here.
  </p>`;
  const readOnly = html`<p class="strip" id="${READ_ONLY_ID}">
    Buttons are disabled: the token ${actor.name} may read. Changes need a token with the scope manage.
  </p>`;
  return html`${isOpen ? open : ""}${hasScope(actor, "manage") ? "" : readOnly}`;
}

/** The page about a problem: what happened, and what to do. The cause of `internal` is in the log alone. */
export function problemContent(problem: Problem): PageContent {
  const { code, message, fix, evidence } = problem;
  const { status, title } = PROBLEMS[code];
  const isInternal = code === "internal";
  return {
    title,
    status,
    body: html`<div class="note bad">
      <p>${isInternal ? "The request failed. The log of this node has the reason." : message}</p>
      ${evidence && !isInternal ? html`<p><q>${evidence}</q></p>` : ""}
      <p class="fix">${inlineMarkdown(fix)}</p>
    </div>`,
  };
}
