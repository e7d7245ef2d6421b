/**
 * How the mailboxes of one store are sealed now: with which key and in which form. A store keeps a canary for each pair
 * of key and form that something in it may be sealed with. The canary of the old form is what permits to open the old
 * form. After all mailboxes were sealed anew it is deleted, and nobody without the key can make another one.
 */
import type { Mailbox } from "../contract/mailbox.ts";
import { openMailbox, sealMailbox, type SealForm } from "./sealed-mailboxes.ts";
import type { Vault } from "./vault.ts";

/** `tag` names the key and the form, as it is stored beside a mailbox. `sealed` proves that a key holder wrote it. */
export type Canary = { tag: string; sealed: string };

export interface MailboxSealing {
  /** What this node seals with now. */
  readonly tag: string;
  /** Whether messages are encrypted. Nodes of 0.1 could not read them. */
  readonly sealsMessages: boolean;
  /** Whether mailboxes in the form of 0.1 are opened too. */
  readonly acceptsOldForm: boolean;
  /** The text to store, and the canary that the store must have beside it. */
  seal(mailbox: Mailbox): { doc: string; canary: Canary };
  open(doc: string): Mailbox;
  /** The canary for what this node seals with now. */
  makeCanary(): Canary;
  /**
   * Learns from the store's canaries what is in use there. As long as there are only canaries of the old form, this node
   * seals in the old form too. Throws `config` naming a key that is missing or wrong.
   */
  learn(canaries: readonly Canary[]): void;
  /** From now on this node seals in the new form: no node of 0.1 reads the store any more. */
  leaveOldForm(): void;
}

const PLACES_SUFFIX = "+places";

export function mailboxSealing(vault: Vault): MailboxSealing {
  let form: SealForm = "places";
  let acceptsOldForm = false;
  const tagOf = () => (form === "places" ? vault.sealingKeyId + PLACES_SUFFIX : vault.sealingKeyId);
  const seal = (text: string, aad: string) => (form === "field" ? vault.sealForOldNodes : vault.seal)(text, aad);
  const makeCanary = () => ({ tag: tagOf(), sealed: seal("canary", canaryBinding(tagOf())) });
  return {
    get tag() {
      return tagOf();
    },
    get sealsMessages() {
      return form === "places";
    },
    get acceptsOldForm() {
      return acceptsOldForm;
    },
    seal: (mailbox) => ({ doc: JSON.stringify(sealMailbox(mailbox, vault, form)), canary: makeCanary() }),
    open: (doc) => openMailbox(JSON.parse(doc), vault, acceptsOldForm ? "field" : "places"),
    makeCanary,
    learn(canaries) {
      for (const { tag, sealed } of canaries) vault.open(sealed, canaryBinding(tag));
      acceptsOldForm = canaries.some(({ tag }) => isOldForm(tag));
      form = acceptsOldForm && canaries.every(({ tag }) => isOldForm(tag)) ? "field" : "places";
    },
    leaveOldForm() {
      form = "places";
    },
  };
}

/** The id of the key of a tag. */
export function keyIdOf(tag: string): string {
  return isOldForm(tag) ? tag : tag.slice(0, -PLACES_SUFFIX.length);
}

/** True for a tag that 0.1 wrote: the id of a key, which contains no plus sign. */
export function isOldForm(tag: string): boolean {
  return !tag.endsWith(PLACES_SUFFIX);
}

/** A node of 0.1 cannot open a canary of the new form, so it does not start where it could read nothing. */
function canaryBinding(tag: string): string {
  return isOldForm(tag) ? `canary|${tag}` : `canary of places|${tag}`;
}
