/** Translates applications between the API and the service: secrets go in and never out. Guards the ones that mailboxes name. */
import * as v from "valibot";
import {
  Application,
  APPLICATION_SECRETS,
  ApplicationInput,
  checkApplication,
  type ClientProof,
  describeApplicationPlace,
  listApplicationNames,
  proofOf,
} from "../shared/contract/application.ts";
import { ApplicationId } from "../shared/contract/fields.ts";
import type { Mailbox, MailboxState } from "../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { certificateAuth } from "../shared/mail/oauth/assertion.ts";
import { findUnreadable } from "../shared/store/sealed-applications.ts";
import { UnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import type { Store } from "../shared/store/store.ts";
import { clock } from "../shared/time.ts";
import { differs, ProblemSchema } from "./mailboxes.ts";

const [microsoft, google] = ApplicationInput.options;
const { clientSecret: _secret, privateKey: _key, ...microsoftShown } = microsoft.entries;
const { clientSecret: _googleSecret, ...googleShown } = google.entries;
const addedEntries = {
  id: ApplicationId,
  revision: v.number(),
  createdAt: v.string(),
  updatedAt: v.string(),
  problem: v.nullable(ProblemSchema),
};

/** An application as the API returns it: without secrets. `problem` says why its secrets cannot be used. */
export const ApplicationView = v.variant("provider", [
  v.object({ ...microsoftShown, ...addedEntries }),
  v.object({ ...googleShown, ...addedEntries }),
]);

export function toApplicationView(application: Application): v.InferOutput<typeof ApplicationView> {
  return v.parse(ApplicationView, { ...application, problem: findUnreadable(application)?.view() ?? null });
}

/**
 * The application that a body asks for, under this id. If it replaces `previous`, it keeps the secret that the body leaves out. Throws
 * `invalid` naming the field, and `secret_needed` if a kept secret would go to another place.
 */
export async function applicationFromInput(
  input: ApplicationInput,
  { id, previous }: { id: string; previous?: Application | undefined },
): Promise<Application> {
  const kept = listKept(input, previous);
  const whole: ApplicationInput = { ...input, ...kept.settings };
  const proof: ClientProof<string> = whole;
  const wrong = checkApplication(whole);
  if (wrong) throw invalidField(wrong.path, wrong.message);
  const now = new Date(clock.now()).toISOString();
  const secrets = APPLICATION_SECRETS.flatMap((name) =>
    proof[name] === undefined ? [] : [[name, new Secret(proof[name])] as const],
  );
  const application = v.parse(Application, {
    ...whole,
    id,
    ...Object.fromEntries(secrets),
    revision: previous?.revision ?? 0,
    createdAt: previous?.createdAt ?? now,
    updatedAt: now,
  });
  if (
    previous &&
    kept.secrets.length > 0 &&
    describeApplicationPlace(previous) !== describeApplicationPlace(application)
  )
    throw secretNeededProblem(kept.secrets);
  await checkCertificate(proofOf(application));
  return application;
}

type Kept = { settings: ClientProof<string>; secrets: string[] };

/** What a body without secrets keeps of the stored application. A secret that cannot be decrypted counts as none. */
function listKept(input: ApplicationInput, previous?: Application): Kept {
  const nothing = { settings: {}, secrets: [] };
  const { clientSecret, certificate, privateKey }: ClientProof<string> = input;
  if (previous?.provider !== input.provider || clientSecret !== undefined || privateKey !== undefined) return nothing;
  const { clientSecret: secret, certificate: former, privateKey: key } = proofOf(previous);
  if (key && !(key instanceof UnreadableSecret)) {
    const pair = { certificate: certificate ?? former, privateKey: key.reveal() };
    return { settings: pair, secrets: ["privateKey"] };
  }
  if (certificate !== undefined || !secret || secret instanceof UnreadableSecret) return nothing;
  return { settings: { clientSecret: secret.reveal() }, secrets: ["clientSecret"] };
}

function secretNeededProblem(paths: readonly string[]): Problem {
  const message =
    "must be given again: the stored one belongs to another tenant, client, token server or root of Graph";
  const errors = paths.map((path) => ({ path, message }));
  return new Problem("secret_needed", `${paths.join(", ")} ${message}.`, { retry: "never", errors });
}

/** Signs once, so that a certificate that has expired, or a key that does not fit, is refused now. */
async function checkCertificate({ certificate, privateKey }: ClientProof<Secret>): Promise<void> {
  if (certificate === undefined || privateKey === undefined) return;
  try {
    await certificateAuth({ certificate, privateKey, signsBy: "PS256" });
  } catch (error) {
    throw invalidField("certificate", `cannot be used: ${asProblem(error).message}`);
  }
}

export function invalidField(path: string, message: string): Problem {
  return new Problem("invalid", `Not valid: ${path} ${message}.`, { retry: "never", errors: [{ path, message }] });
}

const LOCK_MS = 60_000;

/** Does the work while nobody else registers a mailbox of this application, or removes the application. */
export function withApplicationLock<T>(
  { locks }: Pick<Store, "locks">,
  id: string,
  work: () => Promise<T>,
): Promise<T> {
  const limits = { waitMs: LOCK_MS, what: "The application" };
  return locks.hold(`application ${id}`, limits, work, AbortSignal.timeout(2 * LOCK_MS));
}

type PutMailboxDeps = { store: Pick<Store, "applications" | "locks" | "mailboxes">; mailboxPrefix: string };

/**
 * Stores a mailbox. Throws `invalid` if a login of it names an application that the caller does not see. A caller who
 * changes neither the address nor `receive` nor `send` need not see it.
 */
export async function putMailbox(
  deps: PutMailboxDeps,
  mailbox: Mailbox,
  { previous, state }: { previous?: Mailbox; state?: MailboxState | undefined } = {},
): Promise<Mailbox> {
  const put = () => (state ? deps.store.mailboxes.put(mailbox, state) : deps.store.mailboxes.put(mailbox));
  const isSame =
    previous?.address === mailbox.address &&
    !differs(previous.receive, mailbox.receive) &&
    !differs(previous.send, mailbox.send);
  const names = new Set(listApplicationNames(mailbox).map(({ id }) => id));
  if (names.size === 0 || isSame) return put();
  const checked = async () => {
    await checkApplicationExists(deps, mailbox);
    return put();
  };
  const locked = [...names].toSorted().reduce((work, id) => () => withApplicationLock(deps.store, id, work), checked);
  return locked();
}

/** Throws `invalid` if a login of the mailbox names an application that the caller does not see, or of another provider. */
export async function checkApplicationExists(
  { store, mailboxPrefix }: { store: Pick<Store, "applications">; mailboxPrefix: string },
  mailbox: Mailbox,
): Promise<void> {
  for (const { path, id } of listApplicationNames(mailbox)) {
    const application = await store.applications.get(id);
    if (!application) throw invalidField(path, unknownMessage(mailboxPrefix));
    if (path === "receive.auth.application" && application.provider !== "microsoft")
      throw invalidField(path, `must be an application of Microsoft: ${id} is one of ${application.provider}`);
  }
}

function unknownMessage(mailboxPrefix: string): string {
  const bound = mailboxPrefix === "" ? "" : `; this token sees those whose ids begin with ${mailboxPrefix}`;
  return `must be the id of a registered application: POST /api/v1/applications registers one${bound}`;
}
