/** The pages that a person sees who connects a mailbox. None of them has a secret part in its words. */
import { html } from "hono/html";
import type { Application } from "../../shared/contract/application.ts";
import type { Consent } from "../../shared/store/sealed-consents.ts";
import { isRecord } from "../http/field-errors.ts";
import { type Html, htmlPage } from "../pages/html.ts";
import { isOwnPage } from "./links.ts";
import { PROVIDER_NAMES } from "./provider.ts";
import { REFUSALS } from "./refusals.ts";
import type { Connected, OpenLink, Refused } from "./visits.ts";

/** What the person is about to allow, with the way to the provider. */
export function invitationPage({ consent, application }: OpenLink, startUrl: string): Promise<Response> {
  const provider = PROVIDER_NAMES[application.provider];
  const endpoint = endpointHost(consent);
  const account = consent.address ?? "the account that you choose there";
  return htmlPage(
    `Connect with ${provider}`,
    html`<h1>Connect with ${provider}</h1>
      <p>You are about to connect the mailbox of <b>${account}</b>.</p>
      <p>${provider} will ask you to sign in, and to agree that this service may:</p>
      <ul>
        ${listRights(application, consent).map((right) => html`<li>${right}</li>`)}
      </ul>
      ${endpoint === undefined ? "" : html`<p>New messages will be handed over to <b>${endpoint}</b>.</p>`}
      <p>
        <a href="${startUrl}"><b>Continue to ${provider}</b></a>
      </p>
      <p class="soft">
        This page is valid once, until ${consent.expiresAt}. You can withdraw your consent at ${provider} at any time.
      </p>`,
  );
}

function listRights({ provider }: Application, { permissions }: Consent): string[] {
  if (provider === "google") return ["read, send, mark, move and delete the messages of the mailbox"];
  const RIGHTS: Record<string, string> = {
    "Mail.Read": "read the messages of the mailbox",
    "Mail.ReadWrite": "read, mark, move and delete the messages of the mailbox, and make drafts",
    "Mail.Send": "send messages from the mailbox",
    "User.Read": "see who you are",
  };
  return [...permissions.map((one) => RIGHTS[one] ?? one), "do this while you are not there"];
}

function endpointHost({ settings }: Consent): string | undefined {
  const deliver = settings?.["deliver"];
  const url = isRecord(deliver) ? deliver["url"] : undefined;
  return typeof url === "string" && URL.canParse(url) ? new URL(url).host : undefined;
}

/**
 * The way back to the client if there is one, else a page that says that all is well. The service's own pages are behind a link: a
 * browser that comes from the provider shows their login (SameSite=Strict) only when somebody follows it.
 */
export async function connectedPage(
  { consent, mailbox, address, renewed }: Connected,
  base: string,
): Promise<Response> {
  const result = renewed ? "renewed" : "connected";
  const back = consent.returnUrl === null ? null : returnAddress(consent.returnUrl, { result, mailbox, address });
  const isOwn = back !== null && isOwnPage(base, back);
  if (back !== null && !isOwn) return redirect(back);
  return htmlPage(
    "Connected",
    html`<h1>${renewed ? "The mailbox is connected again" : "The mailbox is connected"}</h1>
      <p>The service receives the messages of <b>${address}</b> from now on. You can close this page.</p>
      ${isOwn ? html`<p><a href="${back}">Back to the console</a></p>` : ""}`,
  );
}

/** Why the mailbox was not connected, and what the person can do. `openUrl` makes the address of a link. */
export async function refusedPage(refused: Refused, openUrl: (link: string) => string): Promise<Response> {
  const { status, title, text, fix, again } = REFUSALS[refused.refused];
  const { words, consent, link } = refused;
  const retry = again && link !== undefined ? html`<a href="${openUrl(link)}">Try again</a>` : "";
  const page = await htmlPage(
    title,
    html`<h1>${title}</h1>
      <p>${text} ${words ?? ""}</p>
      <p>${refused.fix ?? fix}</p>
      <nav>${retry}${backLink(refused, consent)}</nav>`,
  );
  return new Response(page.body, { status, headers: page.headers });
}

function backLink({ refused }: Refused, consent: Consent | undefined): Html | "" {
  if (!consent || consent.returnUrl === null) return "";
  const url = returnAddress(consent.returnUrl, { result: "refused", reason: refused, mailbox: consent.mailbox });
  return html`<a href="${url}">Back</a>`;
}

function returnAddress(returnUrl: string, result: Record<string, string>): string {
  const url = new URL(returnUrl);
  for (const [name, value] of Object.entries(result)) url.searchParams.set(name, value);
  return url.href;
}

/** Sends the browser on. */
export function redirect(location: string, headers: Record<string, string> = {}): Response {
  return new Response(null, { status: 303, headers: { location, "cache-control": "no-store", ...headers } });
}
