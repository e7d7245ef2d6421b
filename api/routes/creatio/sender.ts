/** The mailbox a CRM sends from: a registered one with the outgoing server it names, or one that is only about to be added. */
import { createHash } from "node:crypto";
import { isDeepStrictEqual } from "node:util";
import { type Mailbox, MailboxInput } from "../../../shared/contract/mailbox.ts";
import type { OutgoingMessage } from "../../../shared/contract/outgoing.ts";
import { Problem } from "../../../shared/contract/problem.ts";
import { addressesIn } from "../../../shared/mail/smtp/addresses.ts";
import { isRecord } from "../../http/field-errors.ts";
import { differs, mailboxFrom, wireForm } from "../../mailboxes.ts";
import { parsed } from "../../http/route.ts";
import { authOf, exchangePlace, hostOf, isExchange, tlsOf } from "./credentials.ts";
import { guidOf, member, number, text } from "./members.ts";
import type { Deps } from "./operations.ts";

/** The CRM decides how much it sends; the provider's own limit comes back in its words. */
const PER_HOUR = 100_000;

/**
 * The stored mailbox of these credentials, its `send` as they say. A CRM sends a test mail before it has saved the mailbox: an
 * unknown one is stored without being subscribed to, until the CRM subscribes or closes it.
 */
export async function senderOf(deps: Deps, credentials: unknown, message: OutgoingMessage): Promise<Mailbox> {
  const address = text(credentials, "SenderEmailAddress") ?? fromOf(message)[0];
  if (address === undefined) {
    throw new Problem("sender", "The message names nobody who sends it", { retry: "never" });
  }
  const known = await knownMailbox(deps, credentials, address);
  return known ? withSending(deps, known, credentials, message) : newSender(deps, credentials, address, message);
}

async function knownMailbox({ store }: Deps, credentials: unknown, address: string): Promise<Mailbox | undefined> {
  const id = guidOf(member(credentials, "Id"));
  const byId = id === undefined ? undefined : (await store.mailboxes.get(id))?.mailbox;
  if (byId) return byId.deliver.dialect === "creatio" ? byId : undefined;
  const { items } = await store.mailboxes.list({ limit: 50, address });
  return items.map(({ mailbox }) => mailbox).find(({ deliver }) => deliver.dialect === "creatio");
}

/** Kept with the mailbox without restarting its subscription. */
async function withSending(
  { store }: Deps,
  mailbox: Mailbox,
  credentials: unknown,
  message: OutgoingMessage,
): Promise<Mailbox> {
  const before = mailbox.send?.from ?? [];
  const uncopied = mailbox.send?.saveSent === "never" && mailbox.deliver.creatio?.subscribed === false;
  const wire = wireForm(mailbox);
  const send = {
    ...sendOf(credentials, { mailbox, from: [...new Set([...before, ...aliases(mailbox.address, message)])] }),
    ...(uncopied && { saveSent: "never" }),
  };
  const input = parsed(MailboxInput, { ...wire, send });
  const next = { ...mailbox, send: mailboxFrom(input, mailbox).mailbox.send };
  if (next.send === undefined) return mailbox;
  const changed: Mailbox = { ...mailbox, send: next.send };
  if (differs(mailbox.send, next.send)) await store.mailboxes.amend(changed);
  return changed;
}

async function newSender(
  { store, facts }: Deps,
  credentials: unknown,
  address: string,
  message: OutgoingMessage,
): Promise<Mailbox> {
  const exchange = isExchange(credentials);
  const from = aliases(address, message);
  const send = exchange ? sendByExchange(from) : { ...sendBySmtp(credentials, from), saveSent: "never" };
  const id = guidOf(member(credentials, "Id")) ?? idFor(address, hostOf(credentials) ?? "");
  const input = parsed(MailboxInput, {
    id,
    address,
    // Nothing is received for it. An IMAP server is never connected to, so its sent mail is not copied; Exchange does that by itself.
    receive: {
      ...(exchange ? exchangePlace(credentials) : { protocol: "imap", host: hostOf(credentials) ?? "" }),
      auth: authOf(credentials),
    },
    send,
    deliver: {
      url: text(credentials, "BpmEndpoint") ?? "http://localhost/",
      dialect: "creatio",
      creatio: { subscribed: false },
    },
  });
  const stored = await store.mailboxes.put({ ...mailboxFrom(input).mailbox, paused: true });
  facts.emit({ kind: "mailbox.registered", mailbox: stored.id, address: stored.address });
  return stored;
}

function sendOf(credentials: unknown, { mailbox, from }: { mailbox: Mailbox; from: string[] }) {
  if (!isExchange(credentials, mailbox)) return sendBySmtp(credentials, from);
  const auth = authOf(credentials);
  const own = auth === undefined || isDeepStrictEqual(auth, receiveOf(mailbox)["auth"]);
  return { ...sendByExchange(from), ...(!own && { auth }) };
}

function sendBySmtp(credentials: unknown, from: string[]) {
  const host = hostOf(credentials);
  const port = number(credentials, "Port");
  const auth = authOf(credentials);
  return {
    protocol: "smtp",
    ...(host !== undefined && { host, tls: tlsOf(credentials) }),
    ...(host !== undefined && port !== undefined && port > 0 && { port }),
    ...(auth && { auth }),
    ...sharesOf(from),
  };
}

/** The same server sends and receives, and its login is that of the mailbox unless the CRM gave another. */
function sendByExchange(from: string[]) {
  return { protocol: "ews", ...sharesOf(from) };
}

function sharesOf(from: string[]) {
  return { ...(from.length > 0 && { from }), perHour: PER_HOUR, allowSelf: true };
}

function receiveOf(mailbox: Mailbox): Record<string, unknown> {
  const { receive } = wireForm(mailbox);
  return isRecord(receive) ? receive : {};
}

function fromOf({ from }: OutgoingMessage): string[] {
  return typeof from === "string" ? addressesIn(from) : from ? [from.address] : [];
}

/** The CRM may send under an alias that it knows of. */
function aliases(address: string, message: OutgoingMessage): string[] {
  return fromOf(message).filter((one) => one.toLowerCase() !== address.toLowerCase());
}

/** A GUID that is the same for the same account. */
function idFor(address: string, host: string): string {
  const digest = createHash("sha256").update(`${address.toLowerCase()} ${host.toLowerCase()}`).digest("hex");
  return guidOf(digest.slice(0, 32)) ?? digest;
}
