/**
 * Mailboxes as they are stored: each secret is sealed for its mailbox, its field and its places (shared/places.ts). So
 * whoever changes the stored host, port, TLS, account or endpoint gets no secret sent there: it cannot be opened.
 */
import * as v from "valibot";
import { urlWithLogin } from "../contract/endpoint.ts";
import { Mailbox, SECRET_PATHS } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";
import { describePlaces, listSecretPlaces } from "../places.ts";
import type { Vault } from "./vault.ts";

/**
 * A stored secret that is not open: it cannot be decrypted, because its key is missing or wrong, or because the record
 * was changed. Whoever needs the secret gets the Problem; whoever only shows or stores the mailbox does not.
 */
export class UnreadableSecret extends Secret {
  readonly sealed: string;
  readonly problem: Problem;

  constructor(sealed: string, problem: Problem) {
    super("");
    this.sealed = sealed;
    this.problem = problem;
  }

  override reveal(): never {
    throw this.problem;
  }
}

/** What a secret is sealed for. 0.1 sealed it for its mailbox and field only; since 0.2 also for its places. */
export type SealForm = "field" | "places";

/** A mailbox in the form in which it is stored: plain JSON values, each secret sealed. */
export function sealMailbox(mailbox: Mailbox, by: Vault, form: SealForm = "places"): unknown {
  const bindings = bindingsOf(mailbox);
  return JSON.parse(
    JSON.stringify(
      replaceSecrets(form === "field" ? withLoginInUrl(mailbox) : mailbox, (value, path) => {
        if (!(value instanceof Secret)) throw new TypeError(`${path} of a mailbox is not a Secret`);
        if (value instanceof UnreadableSecret) return value.sealed;
        const seal = form === "field" ? by.sealForOldNodes : by.seal;
        return seal(value.reveal(), bindings(path)[form]);
      }),
      rejectSecret,
    ),
  );
}

/** As 0.1 stored it and can read it, as long as a node of 0.1 may be there. */
function withLoginInUrl(mailbox: Mailbox): Mailbox {
  const { auth, ...deliver } = mailbox.deliver;
  return auth ? { ...mailbox, deliver: { ...deliver, url: urlWithLogin(mailbox.deliver) } } : mailbox;
}

/**
 * The reverse of `sealMailbox`, checked by the contract's schema. With `accepts: "field"` it also opens what 0.1
 * sealed. A secret that cannot be opened is unreadable.
 */
export function openMailbox(doc: unknown, by: Vault, accepts: SealForm = "places"): Mailbox {
  const closed = v.parse(
    Mailbox,
    replaceSecrets(doc, (sealed) => new UnreadableSecret(String(sealed), NOT_OPENED)),
  );
  // The places are those of the parsed mailbox, because that is what the service connects by.
  const bindings = bindingsOf(closed);
  return replaceSecrets(closed, (value, path) => {
    // The schema took it from a URL that 0.1 stored in clear.
    if (!(value instanceof UnreadableSecret)) return value;
    const { sealed } = value;
    const { places, field } = bindings(path);
    const opened = openSecret(by, sealed, places);
    return accepts === "field" && opened instanceof UnreadableSecret ? openSecret(by, sealed, field) : opened;
  }) as Mailbox;
}

/** Of a secret that is not open yet. */
export const NOT_OPENED = new Problem("internal", "A stored secret was used before it was opened", { retry: "never" });

/** Opens one sealed secret. If that is not possible, the secret is unreadable. */
export function openSecret(by: Vault, sealed: string, aad: string): Secret {
  try {
    return new Secret(by.open(sealed, aad));
  } catch (error) {
    if (error instanceof Problem) return new UnreadableSecret(sealed, error);
    throw error;
  }
}

/** The associated data of each secret of a mailbox, by its dotted path. */
function bindingsOf(mailbox: Mailbox): (path: string) => Record<SealForm, string> {
  const places = new Map(listSecretPlaces(mailbox).map((one) => [one.path, describePlaces(one)]));
  return (path) => {
    const field = `${mailbox.id}|${path}`;
    return { field, places: `places|${field}|${places.get(path)}` };
  };
}

/** Why a mailbox cannot be used: its first secret that cannot be decrypted. */
export function findUnreadableSecret(mailbox: Mailbox): Problem | undefined {
  let found: Problem | undefined;
  replaceSecrets(mailbox, (value) => {
    if (value instanceof UnreadableSecret) found ??= value.problem;
    return value;
  });
  return found;
}

/**
 * Decrypting a mailbox takes a third of a millisecond, and a busy mailbox is read for every task. So this many
 * decrypted ones stay in memory.
 */
const MAX_CACHED = 1_000;

/**
 * Opens stored mailboxes and caches those used last, each under its stored text. A changed mailbox has another text, so
 * it is opened anew. The mailboxes are shared and must not be changed. Throws as `openMailbox`.
 */
export function cachingMailboxReader(open: (doc: string) => Mailbox): (doc: string) => Mailbox {
  const cache = new Map<string, Mailbox>();
  return (doc) => {
    const mailbox = cache.get(doc) ?? open(doc);
    cache.delete(doc);
    // What cannot be read now may be readable later, with the same text.
    if (findUnreadableSecret(mailbox)) return mailbox;
    cache.set(doc, mailbox);
    const [oldest] = cache.keys();
    if (cache.size > MAX_CACHED && oldest !== undefined) cache.delete(oldest);
    return mailbox;
  };
}

type ReplaceSecret = (value: unknown, path: string) => unknown;

function replaceSecrets(doc: unknown, change: ReplaceSecret): unknown {
  return SECRET_PATHS.reduce<unknown>((sofar, path) => replaceAt(sofar, path, change), doc);
}

function replaceAt(
  node: unknown,
  path: readonly string[],
  change: ReplaceSecret,
  parentPath: readonly string[] = [],
): unknown {
  const [head, ...rest] = path;
  if (head === undefined) return change(node, parentPath.join("."));
  if (!isRecord(node) || node[head] === undefined) return node;
  return { ...node, [head]: replaceAt(node[head], rest, change, [...parentPath, head]) };
}

/** A secret that SECRET_PATHS does not name would be written as its placeholder and be lost. So this fails at once. */
function rejectSecret(this: unknown, key: string, value: unknown): unknown {
  if (isRecord(this) && this[key] instanceof Secret) throw new TypeError(`SECRET_PATHS does not name ${key}`);
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
