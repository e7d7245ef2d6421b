/** A CRM's SynchronizationCredentials as a mailbox of ours: read tolerantly, written by the contract's schema. */
import { SECURE_OPTION } from "../../../shared/contract/creatio.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { MailboxInput } from "../../../shared/contract/mailbox.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import { isRecord } from "../../http/field-errors.ts";
import { wireForm } from "../../mailboxes.ts";
import { parsed } from "../../http/route.ts";
import { flag, guidOf, list, member, number, text, words } from "./members.ts";

/** The CRM's own id of its Exchange server type; every other type is IMAP. */
const EXCHANGE = "3490bd45-4f4d-4613-aa06-454546f3342a";
const IMPLICIT_PORTS = [993, 465];
const STARTTLS_PORTS = [143, 587, 25];

/** The mailbox's id in the CRM, in lower case; throws `invalid` without one. */
export function idOf(value: unknown): string {
  const id = guidOf(member(value, "Id"));
  if (id === undefined) throw new Problem("invalid", "The credentials have no Id that is a GUID.", { retry: "never" });
  return id;
}

/** Whether they are of an Exchange mailbox; those that do not say so are of the kind that the mailbox has already. */
export function isExchange(value: unknown, was?: Mailbox): boolean {
  const type = guidOf(member(value, "ServerTypeId"));
  if (flag(value, "IsAutodiscover") === true || type === EXCHANGE) return true;
  return type === undefined && was?.receive.protocol === "ews";
}

/** How a connection is secured: by the port first, then by UseSsl, then by SecureOption; what is unknown means TLS. */
export function tlsOf(value: unknown): "implicit" | "starttls" | "none" {
  const port = number(value, "Port") ?? 0;
  if (IMPLICIT_PORTS.includes(port)) return "implicit";
  if (STARTTLS_PORTS.includes(port)) return "starttls";
  const option = number(value, "SecureOption");
  if (flag(value, "UseSsl") !== false) return option === SECURE_OPTION.startTls ? "starttls" : "implicit";
  if (option === undefined || option === SECURE_OPTION.none) return port === 0 ? "starttls" : "none";
  return option === SECURE_OPTION.ssl ? "implicit" : "starttls";
}

/** A host name, also where somebody typed a URL or a port behind it. */
export function hostOf(value: unknown): string | undefined {
  const given = text(value, "ServiceUrl");
  return given
    ?.replace(/^[a-z]+:\/\//i, "")
    .replace(/[/?#].*$/, "")
    .replace(/:\d+$/, "");
}

/**
 * Where an Exchange mailbox is received from: the host, the whole URL where somebody typed one, or neither, so that autodiscover finds
 * it. The port is that of IMAP or SMTP and says nothing; a port behind the host does.
 */
export function exchangePlace(value: unknown): Record<string, unknown> {
  const redirects = text(value, "AutodiscoverRedirectUrl");
  const found = { protocol: "ews", ...(redirects !== undefined && { redirects }) };
  const host = hostOf(value);
  if (flag(value, "IsAutodiscover") === true || host === undefined) return found;
  const given = text(value, "ServiceUrl") ?? "";
  if (/^https?:\/\/[^/]+\/.+/i.test(given)) return { ...found, url: given };
  const port = /^[^/]*:(\d{1,5})/.exec(given.replace(/^[a-z]+:\/\//i, ""))?.[1];
  return { ...found, host, ...(port !== undefined && { port: Number(port) }) };
}

/** The login; undefined when neither password nor token came. */
export function authOf(
  value: unknown,
): { user: string; password: string } | { user: string; accessToken: string } | undefined {
  const user = text(value, "UserName") ?? text(value, "SenderEmailAddress");
  const token = text(value, "AccessToken");
  const password = words(value, "Password") || undefined;
  if (user === undefined) return undefined;
  if (token !== undefined && (flag(value, "UseOAuth") === true || password === undefined))
    return { user, accessToken: token };
  return password === undefined ? undefined : { user, password };
}

type Wish = { was?: Mailbox | undefined; keyword: string; subscribed: boolean };

/**
 * The whole mailbox that the credentials ask for. Throws `invalid` naming what is missing. `was` lends what is not the CRM's
 * to say: from when on mail counts, the display name, and how it is sent.
 */
export function wholeMailbox(value: unknown, { was, keyword, subscribed }: Wish): MailboxInput {
  const marked = flag(member(value, "FeatureValues"), "MarkEmailsAsSynchronized") === true && keyword !== "none";
  const send = was && sendingKept(value, was);
  const input = {
    id: idOf(value),
    address: text(value, "SenderEmailAddress"),
    ...(was?.name !== undefined && { name: was.name }),
    receive: {
      ...(isExchange(value, was) ? exchangePlace(value) : imapPlace(value)),
      auth: authOf(value),
      folders: foldersOf(value),
      ...(was && { since: was.receive.since }),
      ...(marked && { afterDelivery: { keyword } }),
    },
    ...(send !== undefined && { send }),
    deliver: {
      url: text(value, "BpmEndpoint"),
      dialect: "creatio",
      creatio: { ...crmOf(value), subscribed },
      ...(was && { maxAttachmentBytes: was.deliver.maxAttachmentBytes }),
    },
  };
  return parsed(MailboxInput, defined(input));
}

function imapPlace(value: unknown): Record<string, unknown> {
  const port = number(value, "Port");
  return { protocol: "imap", host: hostOf(value), ...(port !== undefined && port > 0 && { port }), tls: tlsOf(value) };
}

/** Whether the mailbox was and is of Exchange, or neither. */
export function sameKind(value: unknown, was: Mailbox): boolean {
  return isExchange(value, was) === (was.receive.protocol === "ews");
}

/** How the mailbox sends stays as it is, unless it became one of another kind: the next message says how from then on. */
function sendingKept(value: unknown, was: Mailbox): unknown {
  return sameKind(value, was) ? wireForm(was)["send"] : undefined;
}

/** The mailbox with those parts replaced that the credentials carry: an update may hold little more than a new token. */
export function updatedMailbox(value: unknown, was: Mailbox): MailboxInput {
  const before = wireForm(was);
  const receive = isRecord(before["receive"]) ? before["receive"] : {};
  const deliver = isRecord(before["deliver"]) ? before["deliver"] : {};
  const folders = list(value, "FolderIds");
  const url = text(value, "BpmEndpoint");
  const context = words(value, "Context");
  const auth = authOf(value);
  const address = text(value, "SenderEmailAddress");
  return parsed(MailboxInput, {
    ...before,
    ...(address !== undefined && { address }),
    receive: {
      ...(isExchange(value, was) ? exchangeNow(value, receive) : imapNow(value, receive)),
      ...(auth && { auth }),
      ...(folders && { folders: foldersOf(value) }),
    },
    deliver: {
      ...deliver,
      ...(url !== undefined && { url }),
      creatio: { ...was.deliver.creatio, ...(context !== undefined && { context }) },
    },
  });
}

function imapNow(value: unknown, before: Record<string, unknown>): Record<string, unknown> {
  const host = hostOf(value);
  const port = number(value, "Port");
  const secured = port !== undefined || flag(value, "UseSsl") !== undefined;
  return {
    ...before,
    ...(host !== undefined && { host }),
    ...(port !== undefined && port > 0 && { port }),
    ...(host !== undefined && secured && { tls: tlsOf(value) }),
  };
}

/** A place is one of three, so a new one drops the one before. */
function exchangeNow(value: unknown, before: Record<string, unknown>): Record<string, unknown> {
  const told = hostOf(value) !== undefined || flag(value, "IsAutodiscover") === true;
  if (!told) return before;
  const { host: _host, port: _port, url: _url, redirects: _redirects, ...rest } = before;
  return { ...rest, ...exchangePlace(value) };
}

/** No ids mean all folders; INBOX comes first, because the first one is listened to by push. */
function foldersOf(value: unknown): "all" | string[] {
  const ids = (list(value, "FolderIds") ?? []).filter((id) => id !== "");
  if (ids.length === 0) return "all";
  return [...new Set([...ids.filter(isInbox), ...ids.filter((id) => !isInbox(id))])];
}

function crmOf(value: unknown) {
  const features = member(value, "FeatureValues");
  const flags = Object.entries(isRecord(features) ? features : {}).filter(([, on]) => typeof on === "boolean");
  return {
    user: words(value, "BpmUser") ?? "",
    timeZone: words(value, "BpmUserTimeZone") ?? "",
    workspace: words(value, "BpmUserWorkspace") ?? "",
    context: words(value, "Context") ?? "",
    features: Object.fromEntries(flags),
  };
}

function isInbox(id: string): boolean {
  return id.toUpperCase() === "INBOX";
}

/** Without members that are undefined, so that the schema calls them missing. */
function defined(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const members = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(members.map(([name, inner]) => [name, defined(inner)]));
}
