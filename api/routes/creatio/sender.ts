/**
 * The mailbox that a CRM sends from: a registered one with the outgoing server that the CRM names, or one that the CRM
 * is about to add.
 */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { SECURE_OPTION } from "../../../shared/contract/creatio.ts";
import { type Auth, type Mailbox, MailboxInput, type Send } from "../../../shared/contract/mailbox.ts";
import type { OutgoingMessage } from "../../../shared/contract/outgoing.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import { parseParties } from "../../../shared/mail/smtp/addresses.ts";
import { isRecord } from "../../http/field-errors.ts";
import { differs, mailboxFromInput, toWireForm } from "../../mailboxes.ts";
import { checkSecretsStay, secretNeededProblem } from "../../moved-secrets.ts";
import { parseInput } from "../../http/route.ts";
import { isClosed } from "../../closed-mailboxes.ts";
import { authOf, exchangeServer, hostOf, isExchange, mergeMailboxInput, tlsOf } from "./credentials.ts";
import { flag, parseGuid, getMember, number, text } from "./members.ts";
import type { CreatioDeps } from "./operations.ts";

/** The CRM decides how much it sends. The provider's own limit comes back in its words. */
const PER_HOUR = 100_000;

/**
 * The stored mailbox of these credentials, with the `send` that they ask for. A CRM sends a test mail before it has
 * saved the mailbox. So an unknown one is stored without a subscription, until the CRM subscribes or closes it.
 */
export async function resolveSender(
  deps: CreatioDeps,
  credentials: unknown,
  message: OutgoingMessage,
): Promise<Mailbox> {
  const address = text(credentials, "SenderEmailAddress") ?? fromOf(message)[0];
  if (address === undefined) {
    throw new Problem("sender", "The message names no sender", { retry: "never" });
  }
  const existing = await findMailbox(deps, credentials, address);
  return existing
    ? updateSender(deps, existing, credentials, message)
    : createSender(deps, credentials, address, message);
}

async function findMailbox(
  { store }: CreatioDeps,
  credentials: unknown,
  address: string,
): Promise<Mailbox | undefined> {
  const id = parseGuid(getMember(credentials, "Id"));
  const byId = id === undefined ? undefined : (await store.mailboxes.get(id))?.mailbox;
  if (byId) return byId.deliver.dialect === "creatio" ? byId : undefined;
  const { items } = await store.mailboxes.list({ limit: 50, address });
  return items.map(({ mailbox }) => mailbox).find(({ deliver }) => deliver.dialect === "creatio");
}

/** Stored with the mailbox without restarting its subscription. */
async function updateSender(
  deps: CreatioDeps,
  mailbox: Mailbox,
  credentials: unknown,
  message: OutgoingMessage,
): Promise<Mailbox> {
  const before = mailbox.send?.from ?? [];
  const unsubscribed = mailbox.deliver.creatio?.subscribed === false;
  const neverCopied = unsubscribed && (mailbox.send?.saveSent === "never" || isClosed(mailbox));
  const wire = toWireForm(mailbox);
  const from = [...new Set([...before, ...aliases(mailbox.address, message)])];
  const settings = authOf(credentials)
    ? sendSettings(deps, credentials, { mailbox, from })
    : storedSettings(deps, credentials, { mailbox, from });
  const input = parseInput(MailboxInput, { ...wire, send: { ...settings, ...(neverCopied && { saveSent: "never" }) } });
  const next = { ...mailbox, send: mailboxFromInput(input, mailbox).mailbox.send };
  if (next.send === undefined) return mailbox;
  checkSecretsStay(mailbox, next, { send: { auth: authOf(credentials) } });
  const { send: newSend } = next;
  if (differs(mailbox.send, newSend))
    await deps.store.mailboxes.amend(mailbox, (stored) => ({ ...stored, send: newSend }));
  return { ...mailbox, send: newSend };
}

async function createSender(
  deps: CreatioDeps,
  credentials: unknown,
  address: string,
  message: OutgoingMessage,
): Promise<Mailbox> {
  const exchange = isExchange(credentials);
  const from = aliases(address, message);
  const send = exchange ? exchangeSettings(from) : { ...smtpSettings(deps, credentials, { from }), saveSent: "never" };
  const id = parseGuid(getMember(credentials, "Id")) ?? deriveId(address, hostOf(credentials) ?? "");
  const input = parseInput(MailboxInput, {
    id,
    address,
    // It receives nothing. The service does not connect to an IMAP server for it, so it copies no sent mail; Exchange
    // does that itself.
    receive: {
      ...(exchange ? exchangeServer(credentials) : { protocol: "imap", host: hostOf(credentials) ?? "" }),
      auth: authOf(credentials),
    },
    send,
    deliver: {
      url: text(credentials, "BpmEndpoint") ?? "http://localhost/",
      dialect: "creatio",
      creatio: { subscribed: false },
    },
  });
  const stored = await deps.store.mailboxes.put({ ...mailboxFromInput(input).mailbox, paused: true });
  deps.facts.emit({ kind: "mailbox.registered", mailbox: stored.id, address: stored.address });
  return stored;
}

type SenderOptions = { mailbox: Mailbox; from: string[] };

/**
 * How the mailbox sends for credentials without password and token: as it is stored. Throws `secret_needed` if they name
 * another server or account, or if no login is stored to send with.
 */
function storedSettings(deps: CreatioDeps, credentials: unknown, { mailbox, from }: SenderOptions) {
  const { send, receive } = mailbox;
  const user = text(credentials, "UserName");
  const isOtherUser = user !== undefined && user !== userOf(send?.auth ?? receive.auth, mailbox.address);
  if (isOtherUser || isClosed(mailbox)) throw secretNeededProblem(["Credentials.Password"]);
  const stored = { ...partOf(mailbox, "send"), ...(from.length > 0 && { from }) };
  const isServerNamed = hostOf(credentials) !== undefined || flag(credentials, "IsAutodiscover") === true;
  if (send && !isServerNamed) return stored;
  if (isExchange(credentials, mailbox)) {
    const moved = mailboxFromInput(mergeMailboxInput(credentials, mailbox), mailbox).mailbox;
    checkSecretsStay(mailbox, moved, {});
    return send ? stored : exchangeSettings(from);
  }
  if (!send) throw secretNeededProblem(["Credentials.Password"]);
  const { tls, ...server } = smtpServer(deps, credentials) ?? {};
  const saysTls = number(credentials, "Port") !== undefined || flag(credentials, "UseSsl") !== undefined;
  return { ...stored, ...server, ...(saysTls && { tls }) };
}

function sendSettings(deps: CreatioDeps, credentials: unknown, { mailbox, from }: SenderOptions) {
  if (!isExchange(credentials, mailbox)) return smtpSettings(deps, credentials, { from, stored: mailbox.send });
  const auth = authOf(credentials);
  const sameLogin = auth === undefined || isDeepStrictEqual(auth, partOf(mailbox, "receive")["auth"]);
  return { ...exchangeSettings(from), ...(!sameLogin && { auth }) };
}

/** The user that a login names. The login for Graph is the application's, for the mailbox of this address. */
function userOf(auth: Auth, address: string): string {
  return "user" in auth ? auth.user : address;
}

function smtpSettings(
  deps: CreatioDeps,
  credentials: unknown,
  { from, stored }: { from: string[]; stored?: Send | undefined },
) {
  const auth = authOf(credentials);
  return {
    protocol: "smtp",
    ...(smtpServer(deps, credentials) ?? getServer(stored)),
    ...(auth && { auth }),
    ...commonSettings(from),
  };
}

function getServer({ protocol, host, port, tls }: Partial<Send> = {}) {
  if (protocol === "ews") return {};
  return {
    ...(host !== undefined && { host }),
    ...(port !== undefined && { port }),
    ...(tls !== undefined && { tls }),
  };
}

/** The server that the credentials name; undefined if they name none. */
function smtpServer({ config }: CreatioDeps, credentials: unknown) {
  const host = hostOf(credentials);
  const port = number(credentials, "Port");
  if (host === undefined) return undefined;
  return {
    host,
    tls: isPlainRelay(config, credentials, host) ? "none" : tlsOf(credentials),
    ...(port !== undefined && port > 0 && { port }),
  };
}

/**
 * If the administrator named a relay and the CRM asks for no TLS, the relay may be used without TLS, even on a port
 * that usually has it.
 */
function isPlainRelay({ CRM_PLAIN_RELAYS }: CreatioDeps["config"], credentials: unknown, host: string): boolean {
  const option = number(credentials, "SecureOption") ?? SECURE_OPTION.none;
  const wantsNone = flag(credentials, "UseSsl") === false && option === SECURE_OPTION.none;
  return wantsNone && CRM_PLAIN_RELAYS.some((one) => one.toLowerCase() === host.toLowerCase());
}

/** The same server sends and receives, with the mailbox's own login unless the CRM gave another. */
function exchangeSettings(from: string[]) {
  return { protocol: "ews", ...commonSettings(from) };
}

function commonSettings(from: string[]) {
  return { ...(from.length > 0 && { from }), perHour: PER_HOUR, allowSelf: true };
}

/** A part of the mailbox with its secrets in clear. */
function partOf(mailbox: Mailbox, name: "receive" | "send"): Record<string, unknown> {
  const part = toWireForm(mailbox)[name];
  return isRecord(part) ? part : {};
}

function fromOf({ from }: OutgoingMessage): string[] {
  return from === undefined ? [] : parseParties([from], "from", []).map(({ address }) => address);
}

/** The CRM may send under an alias that it knows. */
function aliases(address: string, message: OutgoingMessage): string[] {
  return fromOf(message).filter((one) => one.toLowerCase() !== address.toLowerCase());
}

/** A GUID that is always the same for the same account. */
function deriveId(address: string, host: string): string {
  const digest = createHash("sha256").update(`${address.toLowerCase()} ${host.toLowerCase()}`).digest("hex");
  return parseGuid(digest.slice(0, 32)) ?? digest;
}
