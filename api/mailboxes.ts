/** A mailbox between the wire and the service: secrets go in, never out; defaults are shown; patches are merged. */
import { randomBytes, randomUUID } from "node:crypto";
import * as v from "valibot";
import { Mailbox, MailboxId, MailboxInput, MailboxStatus, SECRET_PATHS } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { afterDeliveryOf, portOf } from "../shared/mail/defaults.ts";
import { matcherOf } from "../shared/mail/ews/autodiscover/pattern.ts";
import { wrongSchedule } from "../shared/mail/schedule.ts";
import { wrongSending } from "../shared/mail/sending.ts";
import type { MailboxWithState } from "../shared/store/store.ts";
import { isRecord } from "./http/field-errors.ts";

const ProblemShown = v.object({
  code: v.string(),
  cause: v.string(),
  fix: v.string(),
  evidence: v.nullable(v.string()),
  retryAt: v.nullable(v.string()),
});

const StateShown = v.object({
  status: MailboxStatus,
  since: v.string(),
  node: v.nullable(v.string()),
  lastVerifiedAt: v.nullable(v.string()),
  lastArrivalAt: v.nullable(v.string()),
  failedLogins: v.number(),
  problem: v.nullable(ProblemShown),
});

const AuthShown = v.object({
  user: v.string(),
  oauth2: v.optional(v.object({ tokenUrl: v.string(), clientId: v.string(), scope: v.optional(v.string()) })),
});

const { receive, deliver, send, ...rest } = MailboxInput.entries;
const { secret, ...deliverShown } = deliver.entries;
const [imap, pop3, ews] = receive.options;
const ReceiveShown = v.variant("protocol", [
  v.object({ ...imap.entries, port: v.number(), auth: AuthShown }),
  v.object({ ...pop3.entries, port: v.number(), auth: AuthShown }),
  v.object({ ...ews.entries, auth: AuthShown }),
]);
const { dkim } = send.wrapped.entries;
const { privateKey: _, ...dkimShown } = dkim.wrapped.entries;
const SendShown = v.object({
  ...send.wrapped.entries,
  auth: v.optional(AuthShown),
  dkim: v.optional(v.object(dkimShown)),
});
const shown = {
  ...rest,
  id: MailboxId,
  receive: ReceiveShown,
  send: v.optional(SendShown),
  deliver: v.object(deliverShown),
  revision: v.number(),
  createdAt: v.string(),
  updatedAt: v.string(),
  state: StateShown,
};

/** A mailbox as answers show it: without secrets, with its defaults and its state. */
export const MailboxShown = v.object(shown);

/** The one answer with a secret: what was generated is told once. */
export const MailboxCreated = v.object({ ...shown, deliver: v.object({ ...deliverShown, secret }) });
export type MailboxCreated = v.InferOutput<typeof MailboxCreated>;

/** The answer for a mailbox; `generated` is the webhook secret to tell this once. */
export function shownMailbox({ mailbox, state }: MailboxWithState, generated?: Secret): MailboxCreated {
  const { receive: from } = mailbox;
  // An Exchange mailbox without a host has no port of its own.
  const port = from.host === undefined ? undefined : { port: portOf(from) };
  const afterDelivery = afterDeliveryOf(from);
  const open = withSecrets({ ...mailbox, receive: { ...from, ...port, afterDelivery } }, () => undefined);
  // A subscription takes a moment to notice a pause; the mailbox knows at once.
  const status = mailbox.paused ? "paused" : state.status;
  const answer = v.parse(MailboxShown, { ...open, state: { ...state, status } });
  return generated ? { ...answer, deliver: { ...answer.deliver, secret: generated.reveal() } } : answer;
}

/** The mailbox that a body asks for: new, or in place of `was`, whose id, webhook secret, pause and birthday it keeps. */
export function mailboxFrom(input: MailboxInput, was?: Mailbox): { mailbox: Mailbox; generated?: Secret } {
  checkSecret(input.deliver.secret);
  checkPicking(input);
  const now = new Date().toISOString();
  const known = input.deliver.secret ?? was?.deliver.secret?.reveal();
  // A CRM of the Creatio family knows no signatures.
  const secretText =
    known ?? (input.deliver.dialect === "creatio" ? undefined : `whsec_${randomBytes(32).toString("base64")}`);
  const wire = { ...input, deliver: { ...input.deliver, ...(secretText !== undefined && { secret: secretText }) } };
  const mailbox = v.parse(Mailbox, {
    ...withSecrets(wire, (value) => new Secret(String(value))),
    id: was?.id ?? input.id ?? randomUUID(),
    paused: was?.paused ?? false,
    endpointGone: was?.endpointGone ?? false,
    revision: was?.revision ?? 0,
    createdAt: was?.createdAt ?? now,
    updatedAt: now,
  });
  if (was && differs(was.deliver, mailbox.deliver)) mailbox.endpointGone = false;
  if (known !== undefined || secretText === undefined) return { mailbox };
  return { mailbox, generated: new Secret(secretText) };
}

/** Standard Webhooks: 24 to 64 bytes in base64 behind `whsec_`. Found here rather than at the first delivery. */
function checkSecret(given: string | undefined): void {
  if (given === undefined) return;
  const bytes = Buffer.from(given.slice(6), "base64").length;
  if (/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(given) && bytes >= 24 && bytes <= 64) return;
  throw wrongField("deliver.secret", "must be whsec_ and 24 to 64 bytes in base64; leave it out to have one made");
}

/** What the schema cannot say: whether a schedule can be read, what a protocol can send, whether a split leaves anything to deliver. */
function checkPicking(input: MailboxInput): void {
  const { receive: from, deliver: to } = input;
  const wrong = wrongSchedule(from.poll);
  if (wrong) throw wrongField(`receive.poll.${wrong.path}`, wrong.message);
  checkCertificates(input);
  if (from.protocol === "ews") checkExchange(from);
  const unsendable = wrongSending(input);
  if (unsendable) throw wrongField(unsendable.path, unsendable.message);
  if (!to.split) return;
  if (to.dialect !== "webhook") throw wrongField("deliver.split", "needs dialect webhook: others know no parts");
  if (!to.split.body && !to.split.attachments) throw wrongField("deliver.split", "must have body or attachments true");
  if (to.format === "raw")
    throw wrongField("deliver.split", "needs format full or headers: a raw message is one piece");
}

/** Certificates are shown to whoever reads the mailbox, and a file often has the private key beside its certificate. */
function checkCertificates({ receive: from, send: by }: MailboxInput): void {
  for (const [name, part] of Object.entries({ receive: from, send: by })) {
    const oauth2 = part?.auth && "oauth2" in part.auth ? part.auth.oauth2 : undefined;
    const open = [["ca", part?.ca] as const, ["auth.oauth2.certificate", oauth2?.certificate] as const];
    const wrong = open.find(([, pem]) => pem !== undefined && /PRIVATE KEY-----/.test(pem));
    if (wrong)
      throw wrongField(`${name}.${wrong[0]}`, "must not hold a private key: it is shown to whoever reads this");
  }
}

/** Where an Exchange mailbox may be looked for, and whom it is shown to, is found here rather than in the middle of autodiscover. */
function checkExchange({ redirects, auth, scheme }: Extract<MailboxInput["receive"], { protocol: "ews" }>): void {
  try {
    if (redirects !== undefined) matcherOf(redirects);
  } catch (error) {
    throw wrongField("receive.redirects", `cannot be used: ${error instanceof Error ? error.message : String(error)}`);
  }
  if (scheme !== undefined && !("password" in auth))
    throw wrongField("receive.scheme", "is for logins by password only");
  if (!("oauth2" in auth)) return;
  const { certificate, privateKey } = auth.oauth2;
  if ((certificate === undefined) === (privateKey === undefined)) return;
  throw wrongField("receive.auth.oauth2", "needs certificate and privateKey together, or neither");
}

function wrongField(path: string, message: string): Problem {
  return new Problem("invalid", `Not valid: ${path} ${message}.`, { retry: "never", errors: [{ path, message }] });
}

/** A mailbox as a client would send it, secrets in clear: what a merge patch applies to. Never leaves the process. */
export function wireForm(mailbox: Mailbox): Record<string, unknown> {
  const { id, address, name, receive: from, send: by, deliver: to } = mailbox;
  const optional = { ...(name !== undefined && { name }), ...(by !== undefined && { send: by }) };
  return withSecrets({ id, address, ...optional, receive: from, deliver: to }, (value) =>
    value instanceof Secret ? value.reveal() : value,
  );
}

/** True when the parts differ in anything, a secret included. */
export function differs<Part extends "receive" | "deliver" | "send">(
  one: Mailbox[Part],
  other: Mailbox[Part],
): boolean {
  return JSON.stringify(revealed(one)) !== JSON.stringify(revealed(other));
}

/** With members in order and secrets in clear: `Secret` itself prints alike whatever it holds. */
function revealed(value: unknown): unknown {
  if (value instanceof Secret) return value.reveal();
  if (!isRecord(value)) return value;
  const members = Object.entries(value).map(([key, inner]) => [key, revealed(inner)] as const);
  return Object.fromEntries(members.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function withSecrets(value: Record<string, unknown>, change: (value: unknown) => unknown): Record<string, unknown> {
  return SECRET_PATHS.reduce<Record<string, unknown>>((whole, path) => changedAt(whole, path, change), value);
}

function changedAt(
  value: Record<string, unknown>,
  path: readonly string[],
  change: (value: unknown) => unknown,
): Record<string, unknown> {
  const [key = "", ...deeper] = path;
  const { [key]: inner, ...others } = value;
  if (inner === undefined) return value;
  if (deeper.length > 0) return isRecord(inner) ? { ...value, [key]: changedAt(inner, deeper, change) } : value;
  const changed = change(inner);
  return changed === undefined ? others : { ...others, [key]: changed };
}
