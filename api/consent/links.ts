/** Makes the links by which people connect mailboxes. */
import { createHash, randomBytes, randomUUID } from "node:crypto";
import * as v from "valibot";
import type { Config } from "../../shared/config.ts";
import type { Application } from "../../shared/contract/application.ts";
import type { Consent } from "../../shared/store/sealed-consents.ts";
import { UrlWithoutLogin } from "../../shared/contract/endpoint.ts";
import { Address, ApplicationId } from "../../shared/contract/fields.ts";
import { type Mailbox, MailboxId } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import type { Actor } from "../../shared/contract/token.ts";
import { portOfUrl } from "../../shared/egress.ts";
import { clock } from "../../shared/time.ts";
import { invalidField } from "../applications.ts";
import { removeIfClosed } from "../closed-mailboxes.ts";
import { isRecord } from "../http/field-errors.ts";
import { notFound } from "../http/problems.ts";
import { parseInput } from "../http/route.ts";
import type { ScopedDeps } from "../scoped-deps.ts";
import { checkRenewable, listPermissions, newMailbox } from "./mailbox.ts";
import { signInServerOf } from "./provider.ts";

export const ConsentInput = v.strictObject({
  application: ApplicationId,
  address: v.optional(
    v.pipe(
      Address,
      v.description("The account to connect. Any other account is refused. Without it any one is taken."),
    ),
  ),
  mailbox: v.pipe(
    v.record(v.string(), v.unknown()),
    v.description(
      "The mailbox to register, as `POST /api/v1/mailboxes` takes it, without its address, servers and login. To renew the login of a registered mailbox: its `id` and nothing else.",
    ),
  ),
  returnUrl: v.optional(
    v.pipe(UrlWithoutLogin, v.description("Where the person's browser goes afterwards, with the result in the query.")),
  ),
});
export type ConsentInput = v.InferOutput<typeof ConsentInput>;

export const ConsentLink = v.object({
  url: v.pipe(v.string(), v.description("The link. It is a secret of the person who is to connect the mailbox.")),
  expiresAt: v.string(),
  mailbox: v.pipe(v.string(), v.description("The id of the mailbox.")),
  secret: v.optional(v.pipe(v.string(), v.description("A generated webhook secret. Only this answer shows it."))),
});
type ConsentLink = v.InferOutput<typeof ConsentLink>;

type LinkDeps = Pick<ScopedDeps, "config" | "store" | "facts" | "subscriptions" | "outbound" | "mailboxPrefix">;

const VALID_MS = 30 * 60_000;
/** Stands for what nobody knows before the consent, while the settings are checked. */
const UNKNOWN = { address: "somebody@example.com", refreshToken: "unknown" };

/**
 * Makes a link that is valid once, for 30 minutes. Throws `invalid` naming the field, and `unavailable` without PUBLIC_URL.
 */
export async function makeLink(
  deps: LinkDeps,
  input: ConsentInput,
  { actor, signal }: { actor: Actor; signal: AbortSignal },
): Promise<ConsentLink> {
  const base = publicBase(deps.config);
  const application = await deps.store.applications.get(input.application);
  if (!application) throw invalidField("application", "must be the id of a registered application");
  if (input.returnUrl !== undefined && !isOwnPage(base, input.returnUrl))
    await checkReturnUrl(deps, input.returnUrl, signal);
  const { generated, ...wanted } = await checkMailbox(deps, application, input);
  const { address, settings, mailbox } = wanted;
  const permissions = listPermissions(application, mailbox);
  signInServerOf(application, { permissions, redirectUri: callbackUrl(base), address });
  const link = randomBytes(32).toString("base64url");
  const consent: Consent = {
    id: idOfLink(link),
    application: application.id,
    mailbox: mailbox.id,
    address,
    settings,
    permissions,
    returnUrl: input.returnUrl ?? null,
    actor: { id: actor.id, name: actor.name },
    expiresAt: new Date(clock.now() + VALID_MS).toISOString(),
    attempt: null,
    usedAt: null,
    revision: 0,
  };
  const { expiresAt } = await deps.store.consents.put(consent);
  return {
    url: `${base}/consent?link=${link}`,
    expiresAt,
    mailbox: mailbox.id,
    ...(generated && { secret: generated.reveal() }),
  };
}

/** What the link will register, or whose login it renews. */
async function checkMailbox(
  deps: LinkDeps,
  application: Application,
  { mailbox: given, address: asked }: ConsentInput,
): Promise<{ mailbox: Mailbox; generated?: Secret } & Pick<Consent, "address" | "settings">> {
  const { store, mailboxPrefix } = deps;
  const id = given["id"] === undefined ? mailboxPrefix + randomUUID() : parseId(given["id"]);
  if (!id.startsWith(mailboxPrefix)) throw notFound("mailbox", id);
  await removeIfClosed(deps, id);
  const previous = (await store.mailboxes.get(id))?.mailbox;
  if (previous) {
    checkOnlyId(given);
    checkRenewable(application, previous);
    if (asked !== undefined && asked.toLowerCase() !== previous.address.toLowerCase())
      throw invalidField("address", `must be left out: the mailbox ${id} has an address`);
    return { mailbox: previous, address: previous.address, settings: null };
  }
  const settings = { ...given, id };
  const made = newMailbox(application, settings, { ...UNKNOWN, ...(asked !== undefined && { address: asked }) });
  const deliver = isRecord(given["deliver"]) ? given["deliver"] : {};
  const secret = made.generated && { deliver: { ...deliver, secret: made.generated.reveal() } };
  return { ...made, address: asked ?? null, settings: { ...settings, ...secret } };
}

function parseId(id: unknown): string {
  return parseInput(v.object({ mailbox: v.object({ id: MailboxId }) }), { mailbox: { id } }).mailbox.id;
}

/** The settings of a registered mailbox are changed by PATCH, where a caller sees what becomes of them. */
function checkOnlyId(given: Record<string, unknown>): void {
  const other = Object.keys(given).find((name) => name !== "id");
  if (other === undefined) return;
  throw invalidField(`mailbox.${other}`, "must be left out: the mailbox exists, and only its login is renewed");
}

/** A browser is sent to the return URL, so it must be an address that the service itself may post to. */
async function checkReturnUrl({ outbound }: LinkDeps, returnUrl: string, signal: AbortSignal): Promise<void> {
  const url = new URL(returnUrl);
  try {
    await outbound.egress.resolve({ host: url.hostname, port: portOfUrl(url) }, signal);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    throw invalidField("returnUrl", `must be an address that the service may post to: ${error.message}`);
  }
}

/** True for a page of this service, whose public address `base` is. */
export function isOwnPage(base: string, address: string): boolean {
  const url = new URL(address);
  return `${url.origin}${url.pathname}`.startsWith(`${base}/`);
}

/** The name under which the link is stored. Whoever reads the store does not learn the link. */
export function idOfLink(link: string): string {
  return createHash("sha256").update(link).digest("hex");
}

/** The service as people reach it. Throws `unavailable` if no setting says where that is. */
export function publicBase({ PUBLIC_URL: [first], BASE_PATH }: Pick<Config, "PUBLIC_URL" | "BASE_PATH">): string {
  if (first === undefined)
    throw new Problem("unavailable", "PUBLIC_URL is not set, and providers send people back to it", {
      fix: "Set PUBLIC_URL to the address under which people reach the service, such as https://mail.example.com.",
      retry: "never",
    });
  return new URL(first).origin + BASE_PATH;
}

/** Where the provider sends people back to. It is registered with the application at the provider. */
export function callbackUrl(base: string): string {
  return `${base}/consent/callback`;
}
