/** Translates mailboxes between the API and the service: secrets go in and never out, defaults are shown, patches are merged. */
import { randomBytes, randomUUID } from "node:crypto";
import * as v from "valibot";
import { checkGraphServers } from "../shared/contract/graph.ts";
import { Mailbox, MailboxId, MailboxInput, MailboxStatus, SECRET_PATHS } from "../shared/contract/mailbox.ts";
import type { Delivery } from "../shared/contract/delivery.ts";
import { Problem, type ProblemView } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { afterDeliveryOf } from "../shared/mail/defaults.ts";
import { portOf } from "../shared/places.ts";
import { keepFormer, overlapView } from "./mailbox-changes.ts";
import { compilePattern } from "../shared/mail/ews/autodiscover/pattern.ts";
import { validateSchedule } from "../shared/mail/schedule.ts";
import { validateSending } from "../shared/mail/sending.ts";
import type { MailboxWithState, Page } from "../shared/store/store.ts";
import { findUnreadableSecret, UnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import { ConnectionView } from "./records/connection.ts";
import { differingFields } from "./http/audit-trail.ts";
import { isRecord } from "./http/field-errors.ts";

export const ProblemSchema = v.object({
  code: v.string(),
  cause: v.string(),
  fix: v.string(),
  evidence: v.nullable(v.string()),
  retryAt: v.nullable(v.string()),
});

const StateView = v.object({
  status: MailboxStatus,
  since: v.string(),
  node: v.nullable(v.string()),
  lastVerifiedAt: v.nullable(v.string()),
  lastArrivalAt: v.nullable(v.string()),
  failedLogins: v.number(),
  problem: v.nullable(ProblemSchema),
  /** The mailbox's parked messages: how many, and the last of them. Only set when one mailbox is requested. */
  parked: v.optional(
    v.object({ count: v.number(), last: v.object({ delivery: v.string(), reason: v.nullable(v.string()) }) }),
  ),
});

const clientShown = {
  clientId: v.string(),
  application: v.optional(v.string()),
  scope: v.optional(v.string()),
};
const AuthView = v.object({
  user: v.string(),
  oauth2: v.optional(v.object({ tokenUrl: v.string(), ...clientShown })),
});

const { receive, deliver, send, ...rest } = MailboxInput.entries;
const { secret, auth: _login, ...deliverEntries } = deliver.entries;
const deliverShown = { ...deliverEntries, auth: v.optional(v.object({ user: v.string() })) };
const [imap, pop3, ews, graph] = receive.options;
const GraphAuthView = v.object({
  application: v.optional(v.string()),
  oauth2: v.optional(
    v.object({
      tenant: v.optional(v.string()),
      tokenUrl: v.optional(v.string()),
      ...clientShown,
    }),
  ),
});
const ReceiveView = v.variant("protocol", [
  v.object({ ...imap.entries, port: v.number(), auth: AuthView }),
  v.object({ ...pop3.entries, port: v.number(), auth: AuthView }),
  v.object({ ...ews.entries, auth: AuthView }),
  v.object({ ...graph.entries, auth: GraphAuthView }),
]);
const { dkim } = send.wrapped.entries;
const { privateKey: _, ...dkimShown } = dkim.wrapped.entries;
const SendView = v.object({
  ...send.wrapped.entries,
  auth: v.optional(AuthView),
  dkim: v.optional(v.object(dkimShown)),
});
const viewEntries = {
  ...rest,
  id: MailboxId,
  receive: ReceiveView,
  send: v.optional(SendView),
  deliver: v.object(deliverShown),
  oldSecretUntil: v.optional(v.pipe(v.string(), v.description("Until then the secret before it signs too."))),
  revision: v.number(),
  createdAt: v.string(),
  updatedAt: v.string(),
  state: StateView,
  connection: v.optional(ConnectionView),
};

/** A mailbox as the API returns it: without secrets, with its defaults and its state. */
export const MailboxView = v.object(viewEntries);

/** The only answer with a secret: a generated webhook secret is shown once. */
export const MailboxCreated = v.object({ ...viewEntries, deliver: v.object({ ...deliverShown, secret }) });
export type MailboxCreated = v.InferOutput<typeof MailboxCreated>;

type ViewParts = { generated?: Secret | undefined; parked?: Page<Delivery>; connection?: ConnectionView | undefined };

/** The answer for a mailbox. `generated` is the webhook secret to show this once. */
export function toMailboxView(
  { mailbox, state }: MailboxWithState,
  { generated, parked, connection }: ViewParts = {},
): MailboxCreated {
  const { receive: from } = mailbox;
  // An Exchange mailbox without a host has no port of its own, and one by Graph has no host.
  const port = from.protocol === "graph" || from.host === undefined ? undefined : { port: portOf(from) };
  const isOwnGraph = from.protocol === "graph" && !("application" in from.auth);
  const cloud = isOwnGraph ? { cloud: from.cloud ?? "global" } : undefined;
  const afterDelivery = afterDeliveryOf(from);
  const withoutSecrets = mapSecrets(
    { ...mailbox, receive: { ...from, ...port, ...cloud, afterDelivery } },
    () => undefined,
  );
  // A subscription takes a moment to notice a pause. The answer shows it at once.
  const unreadable = findUnreadableSecret(mailbox)?.view();
  const status = mailbox.paused ? "paused" : unreadable ? "needs_attention" : state.status;
  const problem = unreadable ?? state.problem ?? toDownloadProblem(mailbox);
  const answer = v.parse(MailboxView, {
    ...withoutSecrets,
    ...overlapView(mailbox),
    connection,
    state: { ...state, status, problem, ...parkedView(parked) },
  });
  return generated ? { ...answer, deliver: { ...answer.deliver, secret: generated.reveal() } } : answer;
}

/** A problem that a worker has with downloads while the subscription itself works. */
function toDownloadProblem({ downloads }: Mailbox): ProblemView | null {
  if (!downloads) return null;
  const { cause, evidence } = downloads;
  return { code: "message", cause, fix: WITHHELD_FIX, evidence, retryAt: null };
}

const WITHHELD_FIX =
  "Wait a while: the service requests the message again, and parks it in the end if it is the only one. If several messages are affected, ask the server's operator.";

function parkedView(parked: Page<Delivery> | undefined) {
  const [last] = parked?.items ?? [];
  return last && parked ? { parked: { count: parked.total, last: { delivery: last.id, reason: last.reason } } } : {};
}

/**
 * The mailbox that a body asks for. If it replaces `previous`, it keeps its id, webhook secret, pause and time of
 * creation.
 */
export function mailboxFromInput(input: MailboxInput, previous?: Mailbox): { mailbox: Mailbox; generated?: Secret } {
  checkSecret(input.deliver.secret);
  checkRules(input);
  const now = new Date().toISOString();
  const existingSecret = input.deliver.secret ?? readableSecret(previous?.deliver.secret);
  // A CRM of the Creatio family does not use signatures.
  const secretText =
    existingSecret ?? (input.deliver.dialect === "creatio" ? undefined : `whsec_${randomBytes(32).toString("base64")}`);
  const wire = { ...input, deliver: { ...input.deliver, ...(secretText !== undefined && { secret: secretText }) } };
  const mailbox = v.parse(Mailbox, {
    ...mapSecrets(wire, (value) => new Secret(String(value))),
    id: previous?.id ?? input.id ?? randomUUID(),
    paused: previous?.paused ?? false,
    endpointGone: previous?.endpointGone ?? false,
    revision: previous?.revision ?? 0,
    createdAt: previous?.createdAt ?? now,
    updatedAt: now,
  });
  if (previous) keepFormer(mailbox, previous);
  if (previous && differs(previous.deliver, mailbox.deliver)) mailbox.endpointGone = false;
  if (existingSecret !== undefined || secretText === undefined) return { mailbox };
  return { mailbox, generated: new Secret(secretText) };
}

/** A secret that cannot be decrypted is replaced by a new one, as if there were none. */
function readableSecret(stored: Secret | undefined): string | undefined {
  return stored instanceof UnreadableSecret ? undefined : stored?.reveal();
}

/** Standard Webhooks: 24 to 64 bytes in base64 after `whsec_`. Checked here, not only at the first delivery. */
export function checkSecret(given: string | undefined, path = "deliver.secret"): void {
  if (given === undefined) return;
  const bytes = Buffer.from(given.slice(6), "base64").length;
  if (/^whsec_[A-Za-z0-9+/]+={0,2}$/.test(given) && bytes >= 24 && bytes <= 64) return;
  throw invalidField(path, "must be whsec_ and 24 to 64 bytes in base64; without it the service generates one");
}

/**
 * Checks what the schema cannot: whether a schedule can be parsed, what a protocol can send, whether a split leaves
 * anything to deliver.
 */
function checkRules(input: MailboxInput): void {
  const { receive: from, deliver: to } = input;
  const scheduleError = validateSchedule(from.poll);
  if (scheduleError) throw invalidField(`receive.poll.${scheduleError.path}`, scheduleError.message);
  checkCertificates(input);
  if (from.protocol === "ews") checkExchange(from);
  if (from.protocol === "graph") {
    const loginError = checkGraphServers(from);
    if (loginError) throw invalidField(`receive.${loginError.path}`, loginError.message);
  }
  const sendError = validateSending(input);
  if (sendError) throw invalidField(sendError.path, sendError.message);
  if (!to.split) return;
  if (to.dialect !== "webhook")
    throw invalidField("deliver.split", "needs dialect webhook: other dialects have no parts");
  if (!to.split.body && !to.split.attachments)
    throw invalidField("deliver.split", "must have body or attachments true");
  if (to.format === "raw")
    throw invalidField("deliver.split", "needs format full or headers: a raw message cannot be split");
}

/** Everybody who reads the mailbox sees its certificates, and a PEM file often holds the private key too. */
function checkCertificates({ receive: from, send: by }: MailboxInput): void {
  for (const [name, part] of Object.entries({ receive: from, send: by })) {
    const oauth2 = part?.auth && "oauth2" in part.auth ? part.auth.oauth2 : undefined;
    const certificates = [["ca", part?.ca] as const, ["auth.oauth2.certificate", oauth2?.certificate] as const];
    const wrong = certificates.find(([, pem]) => pem !== undefined && /PRIVATE KEY-----/.test(pem));
    if (wrong)
      throw invalidField(`${name}.${wrong[0]}`, "must not hold a private key: everybody who reads the mailbox sees it");
  }
}

/** Checks the redirect pattern and the login of an Exchange mailbox here, not only during autodiscover. */
function checkExchange({ redirects, auth, scheme }: Extract<MailboxInput["receive"], { protocol: "ews" }>): void {
  try {
    if (redirects !== undefined) compilePattern(redirects);
  } catch (error) {
    throw invalidField(
      "receive.redirects",
      `cannot be used: ${error instanceof Error ? error.message : String(error)}`,
    );
  }
  if (scheme !== undefined && !("password" in auth))
    throw invalidField("receive.scheme", "is only for logins with a password");
  if (!("oauth2" in auth)) return;
  const { certificate, privateKey } = auth.oauth2;
  if ((certificate === undefined) === (privateKey === undefined)) return;
  throw invalidField("receive.auth.oauth2", "needs certificate and privateKey together, or neither");
}

function invalidField(path: string, message: string): Problem {
  return new Problem("invalid", `Not valid: ${path} ${message}.`, { retry: "never", errors: [{ path, message }] });
}

/**
 * A mailbox in the form in which a client sends it, with secrets in clear. A merge patch applies to this form. It never
 * leaves the process.
 */
export function toWireForm(mailbox: Mailbox): Record<string, unknown> {
  const { id, address, name, receive: from, send: by, deliver: to } = mailbox;
  const optional = { ...(name !== undefined && { name }), ...(by !== undefined && { send: by }) };
  return mapSecrets({ id, address, ...optional, receive: from, deliver: to }, (value) =>
    value instanceof Secret ? value.reveal() : value,
  );
}

/** True when the parts differ in anything, also in a secret. */
export function differs<Part extends "receive" | "deliver" | "send">(
  one: Mailbox[Part],
  other: Mailbox[Part],
): boolean {
  return JSON.stringify(reveal(one)) !== JSON.stringify(reveal(other));
}

/** The names of the fields in which two states of a mailbox differ, secrets among them. */
export function listChanges(before: Mailbox, after: Mailbox): string[] {
  return differingFields(changeableParts(before), changeableParts(after));
}

function changeableParts({ address, name, receive: from, send: by, deliver: to }: Mailbox): unknown {
  return reveal({ address, name, receive: from, send: by, deliver: to });
}

/** With members in order and secrets in clear, because a `Secret` prints the same whatever it holds. */
function reveal(value: unknown): unknown {
  if (value instanceof UnreadableSecret) return { sealed: value.sealed };
  if (value instanceof Secret) return value.reveal();
  if (!isRecord(value)) return value;
  const members = Object.entries(value).map(([key, inner]) => [key, reveal(inner)] as const);
  return Object.fromEntries(members.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

function mapSecrets(value: Record<string, unknown>, change: (value: unknown) => unknown): Record<string, unknown> {
  return SECRET_PATHS.reduce<Record<string, unknown>>((whole, path) => mapAt(whole, path, change), value);
}

function mapAt(
  value: Record<string, unknown>,
  path: readonly string[],
  change: (value: unknown) => unknown,
): Record<string, unknown> {
  const [key = "", ...deeper] = path;
  const { [key]: inner, ...others } = value;
  if (inner === undefined) return value;
  if (deeper.length > 0) return isRecord(inner) ? { ...value, [key]: mapAt(inner, deeper, change) } : value;
  const changed = change(inner);
  return changed === undefined ? others : { ...others, [key]: changed };
}
