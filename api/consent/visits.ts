/** What happens while a person connects a mailbox: the link is opened, the provider is visited, and the person comes back. */
import { randomBytes, timingSafeEqual } from "node:crypto";
import type { Application } from "../../shared/contract/application.ts";
import type { Consent } from "../../shared/store/sealed-consents.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { beginSignIn, finishSignIn, type SignInResult } from "../../shared/mail/oauth/sign-in.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";
import { putMailbox } from "../applications.ts";
import { removeIfClosed } from "../closed-mailboxes.ts";
import type { ApiDeps } from "../deps.ts";
import { auditChange } from "../http/audit-trail.ts";
import { notFound } from "../http/problems.ts";
import { restartedState, withCredentialsLock } from "../mailbox-changes.ts";
import { callbackUrl, idOfLink, publicBase } from "./links.ts";
import { checkRenewable, type ConsentLogin, newMailbox, renewedMailbox } from "./mailbox.ts";
import { adminConsentUrl, listMissing, readAccount, signInServerOf } from "./provider.ts";
import { type Refusal, refusalOf } from "./refusals.ts";

export type VisitDeps = Pick<ApiDeps, "config" | "store" | "facts" | "subscriptions" | "outbound">;

/** A link that may be used now, with its application. */
export type OpenLink = { consent: Consent; application: Application };
/** `consent` and `link` are there as far as they are known. */
export type Refused = Refusal & { consent?: Consent; link?: string };
export type Connected = { consent: Consent; mailbox: string; address: string; renewed: boolean };

/** The link, if it may be used now. */
export async function openLink(deps: VisitDeps, link: string): Promise<OpenLink | Refused> {
  return findOpen(deps, idOfLink(link));
}

async function findOpen({ store }: VisitDeps, id: string): Promise<OpenLink | Refused> {
  const consent = await store.consents.get(id);
  if (!consent) return { refused: "unknown_link" };
  if (consent.usedAt !== null) return { refused: "used_link", consent };
  if (Date.parse(consent.expiresAt) <= clock.now()) return { refused: "expired_link", consent };
  const application = await store.applications.get(consent.application);
  if (!application) return { refused: "application", consent };
  return { consent, application };
}

/** The cookie of a browser that has none. */
export function newBrowser(): string {
  return randomBytes(32).toString("base64url");
}

/** Binds the link to the browser. Returns the address of the provider's page. */
export async function startVisit(deps: VisitDeps, link: string, browser: string): Promise<{ url: string } | Refused> {
  const opened = await openLink(deps, link);
  if ("refused" in opened) return opened;
  const { consent, application } = opened;
  const state = `${consent.id}.${randomBytes(32).toString("base64url")}`;
  const server = signInServerOf(application, {
    ...consent,
    redirectUri: callbackUrl(publicBase(deps.config)),
  });
  const { url, secrets } = await beginSignIn(server, state);
  const changed = await change(deps, { ...consent, attempt: { link, browser, ...secrets } });
  return changed ? { url } : { refused: "stale", consent };
}

/** Ends the visit with `answer`, the query that the provider sent the person back with. */
export async function endVisit(
  deps: VisitDeps,
  { answer, browser }: { answer: URLSearchParams; browser: string },
  signal: AbortSignal,
): Promise<Connected | Refused> {
  const state = answer.get("state") ?? "";
  const found = await findOpen(deps, state.split(".")[0] ?? "");
  if ("refused" in found) return found;
  const { attempt } = found.consent;
  if (!attempt || !isSame(attempt.state, state)) return { refused: "stale", consent: found.consent };
  if (!isSame(attempt.browser, browser)) return { refused: "other_browser", consent: found.consent };
  // Whoever comes a second time with the same answer finds no attempt.
  const consent = await change(deps, { ...found.consent, attempt: null });
  if (!consent) return { refused: "stale", consent: found.consent };
  const outcome = await connect(deps, { ...found, consent, attempt, answer }, signal);
  return "refused" in outcome ? { ...outcome, consent, link: attempt.link } : outcome;
}

/** The changed link; undefined if somebody else changed it meanwhile. */
async function change({ store }: VisitDeps, consent: Consent): Promise<Consent | undefined> {
  try {
    return await store.consents.put(consent);
  } catch (error) {
    if (error instanceof Problem && error.code === "conflict") return undefined;
    throw error;
  }
}

type Visit = OpenLink & { attempt: NonNullable<Consent["attempt"]>; answer: URLSearchParams };

async function connect(deps: VisitDeps, visit: Visit, signal: AbortSignal): Promise<Connected | Refusal> {
  const { consent, application } = visit;
  const result = await redeem(deps, visit);
  if ("refused" in result) return withAdministrator(result, application);
  const { refreshToken } = result;
  if (!refreshToken) return { refused: "no_refresh_token" };
  const missing = listMissing(consent.permissions, result);
  if (missing.length > 0) return { refused: "permission_missing", words: `It did not give: ${missing.join(", ")}.` };
  const login = { address: consent.address ?? "somebody@example.com", refreshToken: refreshToken.reveal() };
  const { mailbox } = await buildMailbox(deps, visit, login);
  const account = await ask(() => readAccount(deps.outbound, { application, mailbox, result }, signal));
  if ("refused" in account) return account;
  const { addresses, owner } = account;
  const [first] = addresses;
  if (first === undefined) return { refused: "no_address" };
  const { address } = consent;
  if (address !== null && !addresses.some((one) => one.toLowerCase() === address.toLowerCase()))
    return { refused: "other_account", words: `You signed in as ${first}, and the link is for ${address}.` };
  const used = await change(deps, { ...consent, settings: null, usedAt: new Date(clock.now()).toISOString() });
  if (!used) return { refused: "stale" };
  const known = { ...login, address: address ?? first, owner };
  return ask(() => save(deps, visit, known), "failed");
}

/** What the provider gives for the code. */
async function redeem(
  { config, outbound }: VisitDeps,
  { consent, application, attempt, answer }: Visit,
): Promise<SignInResult | Refusal> {
  const error = answer.get("error");
  if (error !== null) return refusalOf(error, answer.get("error_description") ?? "");
  const deps = { egress: outbound.egress, timeoutMs: outbound.timeouts.command };
  const server = signInServerOf(application, { ...consent, redirectUri: callbackUrl(publicBase(config)) });
  return ask(() => finishSignIn(deps, server, answer, attempt));
}

/** A problem becomes a refusal with its cause and its fix. */
async function ask<T>(work: () => Promise<T>, refused: "provider" | "failed" = "provider"): Promise<T | Refusal> {
  try {
    return await work();
  } catch (error) {
    const { message, fix } = asProblem(error);
    return { refused, words: `${message}.`, fix };
  }
}

/** Says where the administrator agrees. */
function withAdministrator(refusal: Refusal, application: Application): Refusal {
  const url = refusal.refused === "admin_consent" ? adminConsentUrl(application) : undefined;
  return url === undefined ? refusal : { ...refusal, words: `The administrator opens ${url} for that.` };
}

/** The mailbox with this login, and the stored one that it replaces. */
async function buildMailbox(
  { store: { mailboxes } }: VisitDeps,
  visit: OpenLink,
  login: ConsentLogin,
): Promise<{ mailbox: Mailbox; previous?: MailboxWithState }> {
  const { consent, application } = visit;
  if (consent.settings !== null) return { mailbox: newMailbox(application, consent.settings, login).mailbox };
  const previous = await mailboxes.get(consent.mailbox);
  if (!previous) throw notFound("mailbox", consent.mailbox);
  // Whoever signed in proved only the address that the link is for.
  if (previous.mailbox.address !== consent.address)
    throw new Problem("conflict", `The mailbox ${consent.mailbox} has another address now`, { retry: "never" });
  checkRenewable(application, previous.mailbox);
  return { mailbox: renewedMailbox(application, previous.mailbox, login), previous };
}

/** Registers the mailbox, or stores its new login. The audit names who made the link. */
async function save(deps: VisitDeps, visit: OpenLink, login: ConsentLogin): Promise<Connected> {
  const { consent } = visit;
  const renewed = consent.settings === null;
  const start = { method: "GET", route: "/consent/callback", target: consent.mailbox, mailbox: consent.mailbox };
  const work = async () => {
    await (renewed ? renew(deps, visit, login) : register(deps, visit, login));
    return new Response(null, { status: renewed ? 200 : 201 });
  };
  await auditChange(deps, consent.actor, { ...start, changed: ["receive.auth"] }, work);
  deps.subscriptions.wake(consent.mailbox);
  return { consent, mailbox: consent.mailbox, address: login.address, renewed };
}

async function register(deps: VisitDeps, visit: OpenLink, login: ConsentLogin): Promise<void> {
  const { mailbox } = await buildMailbox(deps, visit, login);
  await removeIfClosed(deps, mailbox.id);
  const { id, address } = await putUnbound(deps, mailbox);
  deps.facts.emit({ kind: "mailbox.registered", mailbox: id, address });
}

/** The cursors stay, so reception goes on where it stopped. */
async function renew(deps: VisitDeps, visit: OpenLink, login: ConsentLogin): Promise<void> {
  const work = async () => {
    const { mailbox, previous } = await buildMailbox(deps, visit, login);
    if (!previous) throw notFound("mailbox", mailbox.id);
    const state = { ...previous.state, ...restartedState(mailbox) };
    const stored = await putUnbound(deps, mailbox, { previous: previous.mailbox, state });
    deps.facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  };
  await withCredentialsLock(deps, visit.consent.mailbox, work, (ms) => AbortSignal.timeout(ms));
}

/** Whoever made the link could see the application. */
function putUnbound(deps: VisitDeps, mailbox: Mailbox, before?: Parameters<typeof putMailbox>[2]): Promise<Mailbox> {
  return putMailbox({ store: deps.store, mailboxPrefix: "" }, mailbox, before);
}

function isSame(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}
