/**
 * Links by which people connect mailboxes: the person signs in at the provider and consents, and the link is used up. Each
 * is stored encrypted as a whole, because the settings of a mailbox hold secrets.
 */
import * as v from "valibot";
import { ApplicationId } from "../contract/fields.ts";
import { Problem } from "../contract/problem.ts";
import type { Vault } from "./vault.ts";

/**
 * `id` is the SHA-256 of the link's secret part in hex; the secret part itself is stored only while somebody signs in.
 * `settings` is the mailbox to register, without its login; null if the login of a registered mailbox is renewed.
 * `address` is null if any account may be connected. `permissions` are the names of what is asked for. `actor` made the
 * link. `attempt` belongs to the browser that went to the provider last. `browser` is the value of its cookie.
 */
export const Consent = v.object({
  id: v.string(),
  application: ApplicationId,
  mailbox: v.string(),
  address: v.nullable(v.string()),
  settings: v.nullable(v.record(v.string(), v.unknown())),
  permissions: v.array(v.string()),
  returnUrl: v.nullable(v.string()),
  actor: v.object({ id: v.string(), name: v.string() }),
  expiresAt: v.string(),
  attempt: v.nullable(
    v.object({ link: v.string(), browser: v.string(), state: v.string(), verifier: v.string(), nonce: v.string() }),
  ),
  usedAt: v.nullable(v.string()),
  revision: v.pipe(v.number(), v.integer()),
});
export type Consent = v.InferOutput<typeof Consent>;

/** The links for consent. A link is forgotten a day after it has expired. All nodes see a change at once. */
export interface Consents {
  /**
   * Creates (`revision` 0) or replaces a link, durably, and returns it with its new revision. Throws `conflict` when the
   * stored revision is not the given one.
   */
  put(consent: Consent): Promise<Consent>;
  get(id: string): Promise<Consent | undefined>;
}

const KEPT_MS = 24 * 3_600_000;

/** When the link is forgotten, in milliseconds since 1970. */
export function forgetAt({ expiresAt }: Consent): number {
  return Date.parse(expiresAt) + KEPT_MS;
}

export function sealConsent(consent: Consent, by: Vault): string {
  return by.seal(JSON.stringify(consent), bindingOf(consent.id));
}

/** Throws `config` when its key is missing, and when the service did not write it for this id. */
export function openConsent({ id, sealed }: { id: string; sealed: string }, by: Vault): Consent {
  return v.parse(Consent, JSON.parse(by.open(sealed, bindingOf(id))));
}

/** The problem of a change that was made to another revision than the stored one. */
export function toConsentConflict(): Problem {
  return new Problem("conflict", "The link was used meanwhile", { retry: "never" });
}

/** No id of a mailbox has a space, so no secret of a mailbox is sealed so. */
function bindingOf(id: string): string {
  return `link for consent|${id}`;
}
