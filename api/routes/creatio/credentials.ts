/** A CRM's SynchronizationCredentials as a mailbox of ours: read tolerantly, written by the contract's schema. */
import { SECURE_OPTION } from "../../../shared/contract/creatio.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { MailboxInput } from "../../../shared/contract/mailbox.ts";
import { Problem, type ProblemView } from "../../../shared/contract/problem.ts";
import { isRecord } from "../../fields.ts";
import { wireForm } from "../../mailboxes.ts";
import { parsed } from "../route.ts";
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

export function isExchange(value: unknown): boolean {
  return guidOf(member(value, "ServerTypeId")) === EXCHANGE || flag(value, "IsAutodiscover") === true;
}

/** Said to the CRM's users where it shows them text. */
export const NO_EXCHANGE: ProblemView = {
  code: "protocol",
  cause: "This Email Listener receives by IMAP and cannot serve Exchange mailboxes yet",
  fix: "Set the mailbox up with an IMAP mail server, or keep it on the listener that served it before.",
  evidence: null,
  retryAt: null,
};

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
  const port = number(value, "Port");
  const marked = flag(member(value, "FeatureValues"), "MarkEmailsAsSynchronized") === true && keyword !== "none";
  const before = was && wireForm(was);
  const input = {
    id: idOf(value),
    address: text(value, "SenderEmailAddress"),
    ...(was?.name !== undefined && { name: was.name }),
    receive: {
      protocol: "imap",
      host: hostOf(value),
      ...(port !== undefined && port > 0 && { port }),
      tls: tlsOf(value),
      auth: authOf(value),
      folders: foldersOf(value),
      ...(was && { since: was.receive.since }),
      ...(marked && { afterDelivery: { keyword } }),
    },
    ...(before?.["send"] !== undefined && { send: before["send"] }),
    deliver: {
      url: text(value, "BpmEndpoint"),
      dialect: "creatio",
      creatio: { ...crmOf(value), subscribed },
      ...(was && { maxAttachmentBytes: was.deliver.maxAttachmentBytes }),
    },
  };
  return parsed(MailboxInput, defined(input));
}

/** The mailbox with those parts replaced that the credentials carry: an update may hold little more than a new token. */
export function updatedMailbox(value: unknown, was: Mailbox): MailboxInput {
  const before = wireForm(was);
  const receive = isRecord(before["receive"]) ? before["receive"] : {};
  const deliver = isRecord(before["deliver"]) ? before["deliver"] : {};
  const host = hostOf(value);
  const port = number(value, "Port");
  const secured = port !== undefined || flag(value, "UseSsl") !== undefined;
  const folders = list(value, "FolderIds");
  const url = text(value, "BpmEndpoint");
  const context = words(value, "Context");
  const auth = authOf(value);
  const address = text(value, "SenderEmailAddress");
  return parsed(MailboxInput, {
    ...before,
    ...(address !== undefined && { address }),
    receive: {
      ...receive,
      ...(host !== undefined && { host }),
      ...(port !== undefined && port > 0 && { port }),
      ...(host !== undefined && secured && { tls: tlsOf(value) }),
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
