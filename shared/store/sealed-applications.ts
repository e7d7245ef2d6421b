/**
 * Applications as they are stored: each secret is sealed for its application, its field and its place. So whoever changes
 * the stored token server, tenant, client or root of Graph gets no secret sent there: it cannot be opened.
 */
import * as v from "valibot";
import { Application, APPLICATION_SECRETS, describeApplicationPlace, proofOf } from "../contract/application.ts";
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";
import { NOT_OPENED, openSecret, UnreadableSecret } from "./sealed-mailboxes.ts";
import type { Vault } from "./vault.ts";

/** The registered applications. Their secrets are encrypted before anything is written. All nodes see a change at once. */
export interface Applications {
  /**
   * Creates (`revision` 0) or replaces an application, durably, and returns it with its new revision. Throws `conflict`
   * when the stored revision is not the given one, and when there are 1,000.
   */
  put(application: Application): Promise<Application>;
  get(id: string): Promise<Application | undefined>;
  /** All applications in the order of their ids. */
  list(): Promise<Application[]>;
  /** The version (`versionOf`) of each application, by its id. The subscriptions compare with it. */
  listVersions(): Promise<ReadonlyMap<string, string>>;
  /** Removes an application durably. False if there was none. */
  remove(id: string): Promise<boolean>;
  /** How many mailboxes name this application. */
  countMailboxes(id: string): Promise<number>;
}

/** A stored application: its JSON with sealed secrets. */
export type StoredApplication = { id: string; doc: string };

const MAX_APPLICATIONS = 1_000;

/** Throws `conflict` when `count`, the applications of a store, leaves no room for another. */
export function checkRoomForApplication(count: number): void {
  if (count < MAX_APPLICATIONS) return;
  const why = `There are ${MAX_APPLICATIONS} applications already. Remove one that no mailbox uses.`;
  throw new Problem("conflict", why, { retry: "never" });
}

/** The problem of a change that was made to another revision than the stored one. */
export function toApplicationConflict(id: string): Problem {
  return new Problem("conflict", `The application ${id} was changed meanwhile. Read it again.`, { retry: "never" });
}

export function sealApplication(application: Application, by: Vault): string {
  const secrets = APPLICATION_SECRETS.flatMap((name) => {
    const secret = proofOf(application)[name];
    if (secret === undefined) return [];
    const sealed =
      secret instanceof UnreadableSecret ? secret.sealed : by.seal(secret.reveal(), bindingOf(application, name));
    return [[name, sealed] as const];
  });
  return JSON.stringify({ ...application, ...Object.fromEntries(secrets) });
}

/** The reverse of `sealApplication`. A secret that cannot be opened is unreadable. */
export function openApplication(doc: string, by: Vault): Application {
  const stored = v.parse(v.record(v.string(), v.unknown()), JSON.parse(doc));
  const closed = APPLICATION_SECRETS.filter((name) => stored[name] !== undefined).map(
    (name) => [name, new UnreadableSecret(String(stored[name]), NOT_OPENED)] as const,
  );
  const application = v.parse(Application, { ...stored, ...Object.fromEntries(closed) });
  const opened = closed.map(([name, { sealed }]): [string, Secret] => [
    name,
    openSecret(by, sealed, bindingOf(application, name)),
  ]);
  return { ...application, ...Object.fromEntries(opened) };
}

/** Why an application cannot be used: its first secret that cannot be decrypted. */
export function findUnreadable(application: Application): Problem | undefined {
  const secrets = APPLICATION_SECRETS.map((name) => proofOf(application)[name]);
  return secrets.find((one) => one instanceof UnreadableSecret)?.problem;
}

/**
 * Seals with the first key what another one sealed, and counts what no key opens. `save` resolves false if the stored
 * application is no longer the same.
 */
export async function resealApplications(
  stored: readonly StoredApplication[],
  by: Vault,
  save: (old: StoredApplication, doc: string) => boolean | Promise<boolean>,
): Promise<{ resealed: number; unreadable: number }> {
  const counts = { resealed: 0, unreadable: 0 };
  for (const one of stored.filter(({ doc }) => !isSealedByFirst(doc, by))) {
    const application = openApplication(one.doc, by);
    if (findUnreadable(application)) counts.unreadable += 1;
    else if (await save(one, sealApplication(application, by))) counts.resealed += 1;
  }
  return counts;
}

function isSealedByFirst(doc: string, by: Vault): boolean {
  const stored = v.parse(v.record(v.string(), v.unknown()), JSON.parse(doc));
  return APPLICATION_SECRETS.every((name) => stored[name] === undefined || by.isSealedByFirst(String(stored[name])));
}

/** No id of a mailbox has a space, so no secret of a mailbox is sealed so. */
function bindingOf(application: Application, name: string): string {
  return `secret of an application|${application.id}|${name}|${describeApplicationPlace(application)}`;
}
