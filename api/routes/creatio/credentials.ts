/**
 * Turns a CRM's SynchronizationCredentials into a mailbox. It reads tolerantly, and the contract's schema checks the
 * result.
 */
import { SECURE_OPTION } from "../../../shared/contract/creatio.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { MailboxInput } from "../../../shared/contract/mailbox.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import { quoteWords } from "../../../shared/evidence/evidence.ts";
import { isRecord } from "../../http/field-errors.ts";
import { toWireForm } from "../../mailboxes.ts";
import { parseInput } from "../../http/route.ts";
import { flag, parseGuid, textList, getMember, number, text, rawText } from "./members.ts";

/** The CRM's server types. */
const SERVER_TYPES: Record<string, "ews" | "imap"> = {
  "3490bd45-4f4d-4613-aa06-454546f3342a": "ews",
  "844f0837-eaa0-4f40-b965-71f5db9eae6e": "imap",
};
/** Server types that this service does not support, by the name that the CRM shows. */
const UNSUPPORTED_TYPES: Record<string, string> = {
  "7b9a3c2d-5e6f-4a1b-8c9d-2e3f4a5b6c7d": "Office 365 (Graph API)",
};
const NO_TYPE = "00000000-0000-0000-0000-000000000000";
const IMPLICIT_TLS_PORTS = [993, 465];
const STARTTLS_PORTS = [143, 587, 25];

/** The mailbox's id in the CRM, in lower case. Throws `invalid` without one. */
export function idOf(value: unknown): string {
  const id = parseGuid(getMember(value, "Id"));
  if (id === undefined) throw new Problem("invalid", "The credentials have no Id that is a GUID.", { retry: "never" });
  return id;
}

/**
 * True if the credentials are for an Exchange mailbox. If they do not say, the mailbox keeps its kind. Throws `invalid`
 * for a server type that is not supported: no other protocol could open such a mailbox.
 */
export function isExchange(value: unknown, previous?: Mailbox): boolean {
  const type = parseGuid(getMember(value, "ServerTypeId"));
  const given = type === undefined || type === NO_TYPE ? undefined : type;
  const protocol = given === undefined ? undefined : SERVER_TYPES[given];
  if (given !== undefined && protocol === undefined) throw toUnsupportedProblem(UNSUPPORTED_TYPES[given], given);
  const exchange =
    flag(value, "IsAutodiscover") === true ||
    protocol === "ews" ||
    (protocol === undefined && previous?.receive.protocol === "ews");
  if (!exchange && flag(value, "UseImpersonation") === true)
    throw new Problem(
      "invalid",
      "A login that acts for other mailboxes (UseImpersonation) needs the server type Exchange.",
      {
        retry: "never",
      },
    );
  return exchange;
}

function toUnsupportedProblem(name: string | undefined, type: string): Problem {
  const known = name === undefined ? `of type ${type}` : `of type ${name}`;
  return new Problem(
    "invalid",
    `A mail server ${known} is not supported. Choose the type Exchange or IMAP for the mailbox in the CRM.`,
    { retry: "never", evidence: quoteWords(type, { secrets: [] }) },
  );
}

/** How a connection is secured: by the port first, then by UseSsl, then by SecureOption. Anything unknown means TLS. */
export function tlsOf(value: unknown): "implicit" | "starttls" | "none" {
  const port = number(value, "Port") ?? 0;
  if (IMPLICIT_TLS_PORTS.includes(port)) return "implicit";
  if (STARTTLS_PORTS.includes(port)) return "starttls";
  const option = number(value, "SecureOption");
  if (flag(value, "UseSsl") !== false) return option === SECURE_OPTION.startTls ? "starttls" : "implicit";
  if (option === undefined || option === SECURE_OPTION.none) return port === 0 ? "starttls" : "none";
  return option === SECURE_OPTION.ssl ? "implicit" : "starttls";
}

/** A host name, also if somebody typed a URL, or a port after it. */
export function hostOf(value: unknown): string | undefined {
  const given = text(value, "ServiceUrl");
  return given
    ?.replace(/^[a-z]+:\/\//i, "")
    .split(/[/?#]/)[0]
    ?.replace(/:\d+$/, "");
}

/**
 * Where an Exchange mailbox is received from: the host, the whole URL if somebody typed one, or neither, so that
 * autodiscover finds it. The port field is that of IMAP or SMTP and has no meaning; a port after the host has.
 */
export function exchangeServer(value: unknown): Record<string, unknown> {
  const redirects = text(value, "AutodiscoverRedirectUrl");
  const impersonates = flag(value, "UseImpersonation");
  const server = {
    protocol: "ews",
    ...(redirects !== undefined && { redirects }),
    ...(impersonates !== undefined && { access: impersonates ? "impersonate" : "own" }),
  };
  const host = hostOf(value);
  if (flag(value, "IsAutodiscover") === true || host === undefined) return server;
  const given = text(value, "ServiceUrl") ?? "";
  if (/^https?:\/\/[^/]+\/.+/i.test(given)) return { ...server, url: given };
  const port = /^[^/]*:(\d{1,5})/.exec(given.replace(/^[a-z]+:\/\//i, ""))?.[1];
  return { ...server, host, ...(port !== undefined && { port: Number(port) }) };
}

/** The login; undefined when the CRM sent neither password nor token. */
export function authOf(
  value: unknown,
): { user: string; password: string } | { user: string; accessToken: string } | undefined {
  const user = text(value, "UserName") ?? text(value, "SenderEmailAddress");
  const token = text(value, "AccessToken");
  const password = rawText(value, "Password") || undefined;
  if (user === undefined) return undefined;
  if (token !== undefined && (flag(value, "UseOAuth") === true || password === undefined))
    return { user, accessToken: token };
  return password === undefined ? undefined : { user, password };
}

type MailboxOptions = { previous?: Mailbox | undefined; keyword: string; subscribed: boolean };

/**
 * The whole mailbox that the credentials ask for. Throws `invalid` naming what is missing. Three things come from
 * `previous`, because the CRM does not decide them: the start date, the display name, and how the mailbox sends.
 */
export function mailboxInputFrom(value: unknown, { previous: was, keyword, subscribed }: MailboxOptions): MailboxInput {
  const marksSynchronized =
    flag(getMember(value, "FeatureValues"), "MarkEmailsAsSynchronized") === true && keyword !== "none";
  const send = was && retainedSend(value, was);
  const input = {
    id: idOf(value),
    address: text(value, "SenderEmailAddress"),
    ...(was?.name !== undefined && { name: was.name }),
    receive: {
      ...(isExchange(value, was) ? exchangeServer(value) : imapServer(value)),
      auth: authOf(value),
      folders: foldersOf(value),
      ...(was && { since: was.receive.since }),
      ...(marksSynchronized && { afterDelivery: { keyword } }),
    },
    ...(send !== undefined && { send }),
    deliver: {
      url: text(value, "BpmEndpoint"),
      dialect: "creatio",
      creatio: { ...creatioSettingsOf(value), subscribed },
      ...(was && { maxAttachmentBytes: was.deliver.maxAttachmentBytes }),
    },
  };
  return parseInput(MailboxInput, withoutUndefined(input));
}

function imapServer(value: unknown): Record<string, unknown> {
  const port = number(value, "Port");
  return { protocol: "imap", host: hostOf(value), ...(port !== undefined && port > 0 && { port }), tls: tlsOf(value) };
}

/** True if the mailbox stays an Exchange mailbox, or stays none. */
export function isSameProtocol(value: unknown, previous: Mailbox): boolean {
  return isExchange(value, previous) === (previous.receive.protocol === "ews");
}

/**
 * How the mailbox sends stays the same, unless its protocol changed. Then the next message of the CRM says how to send.
 */
function retainedSend(value: unknown, previous: Mailbox): unknown {
  return isSameProtocol(value, previous) ? toWireForm(previous)["send"] : undefined;
}

/**
 * The mailbox, with those parts replaced that the credentials contain. An update may contain little more than a new
 * token.
 */
export function mergeMailboxInput(value: unknown, previous: Mailbox): MailboxInput {
  const before = toWireForm(previous);
  const receive = isRecord(before["receive"]) ? before["receive"] : {};
  const deliver = isRecord(before["deliver"]) ? before["deliver"] : {};
  const folders = textList(value, "FolderIds");
  const url = text(value, "BpmEndpoint");
  const context = rawText(value, "Context");
  const auth = authOf(value);
  const user = text(value, "UserName");
  const address = text(value, "SenderEmailAddress");
  return parseInput(MailboxInput, {
    ...before,
    ...(address !== undefined && { address }),
    receive: {
      ...(isExchange(value, previous) ? mergeExchangeServer(value, receive) : mergeImapServer(value, receive)),
      auth: auth ?? { ...loginOf(receive), ...(user !== undefined && { user }) },
      ...(folders && { folders: foldersOf(value) }),
    },
    deliver: {
      ...deliver,
      // The login at the endpoint is a part of the URL.
      ...(url !== undefined && { url, auth: undefined }),
      creatio: { ...previous.deliver.creatio, ...(context !== undefined && { context }) },
    },
  });
}

function loginOf({ auth }: Record<string, unknown>): Record<string, unknown> {
  return isRecord(auth) ? auth : {};
}

function mergeImapServer(value: unknown, before: Record<string, unknown>): Record<string, unknown> {
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

/** host, url and autodiscover exclude each other, so a new one removes the old one. */
function mergeExchangeServer(value: unknown, before: Record<string, unknown>): Record<string, unknown> {
  const specified = hostOf(value) !== undefined || flag(value, "IsAutodiscover") === true;
  if (!specified) return before;
  const { host: _host, port: _port, url: _url, redirects: _redirects, ...rest } = before;
  return { ...rest, ...exchangeServer(value) };
}

/** No ids mean all folders. INBOX comes first, because the first folder gets IDLE. */
function foldersOf(value: unknown): "all" | string[] {
  const ids = (textList(value, "FolderIds") ?? []).filter((id) => id !== "");
  if (ids.length === 0) return "all";
  return [...new Set([...ids.filter(isInbox), ...ids.filter((id) => !isInbox(id))])];
}

function creatioSettingsOf(value: unknown) {
  const features = getMember(value, "FeatureValues");
  const flags = Object.entries(isRecord(features) ? features : {}).filter(([, on]) => typeof on === "boolean");
  return {
    user: rawText(value, "BpmUser") ?? "",
    timeZone: rawText(value, "BpmUserTimeZone") ?? "",
    workspace: rawText(value, "BpmUserWorkspace") ?? "",
    context: rawText(value, "Context") ?? "",
    features: Object.fromEntries(flags),
  };
}

function isInbox(id: string): boolean {
  return id.toUpperCase() === "INBOX";
}

/** Removes members that are undefined, so that the schema reports them as missing. */
function withoutUndefined(value: unknown): unknown {
  if (!isRecord(value)) return value;
  const members = Object.entries(value).filter(([, inner]) => inner !== undefined);
  return Object.fromEntries(members.map(([name, inner]) => [name, withoutUndefined(inner)]));
}
