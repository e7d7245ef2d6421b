/** What Exchange does with a message after it has answered: it hands it to the transport, and files it. */
import { readHead, withField } from "../../exchange/letter.ts";
import { badRequest, GraphError, tooLarge } from "../answers.ts";
import { addMessage, putIn, takeOut } from "../store/messages.ts";
import { folderNamed, type Mailbox, type Message, type Store } from "../store/store.ts";
import type { MailAsk, World } from "../world.ts";
import { newMessageId } from "./compose.ts";

const MOST_RECIPIENTS = 500;

/** Who gets the message. Throws for none, too many, and a sender that the mailbox may not use. */
export function checkEnvelope({ world, mailbox }: MailAsk, raw: Buffer): void {
  if (raw.length > world.gate.limits.messageBytes) throw tooLarge();
  const head = readHead(raw);
  const people = [...head.to, ...head.cc, ...head.bcc];
  if (people.length === 0 || people.some(({ address }) => !/^[^@\s]+@[^@\s]+$/.test(address)))
    throw badRequest("At least one recipient is not valid.", "ErrorInvalidRecipients");
  if (people.length > MOST_RECIPIENTS)
    throw badRequest("The message has too many recipients.", "ErrorExceededMaxRecipientLimitPerMessage");
  const from = head.from?.address ?? mailbox.mail;
  if (isOwn(mailbox, from)) return;
  const owner = byAddress(world.store, from);
  if (owner?.delegates.has(mailbox.userPrincipalName.toLowerCase())) return;
  const message =
    "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.";
  throw new GraphError({ status: 403, code: "ErrorSendAsDenied", message });
}

function isOwn(mailbox: Mailbox, address: string): boolean {
  const own = [mailbox.mail, mailbox.userPrincipalName, ...mailbox.aliases].map((one) => one.toLowerCase());
  return own.includes(address.toLowerCase());
}

function byAddress({ mailboxes }: Store, address: string): Mailbox | undefined {
  return [...mailboxes.values()].find((one) => isOwn(one, address));
}

/** Sends in a while, as behaviour says; a draft that is sent is in no folder until then. */
export function sendLater(ask: MailAsk, raw: Buffer, wish: { draft?: Message; save: boolean }): void {
  const { world, mailbox } = ask;
  const { draft, save } = wish;
  if (draft) takeOut(world.store, draft);
  const { transportMs, replacesMessageIds } = world.behaviour;
  const work = () => {
    const leaving = replacesMessageIds ? withField(raw, "Message-ID", newMessageId()) : raw;
    const filed = file(world, mailbox, leaving, { ...(draft && { draft }), save });
    transport(world, mailbox, leaving, filed);
  };
  if (transportMs === 0) work();
  else setTimeout(work, transportMs);
}

function file({ store }: World, mailbox: Mailbox, raw: Buffer, { draft, save }: { draft?: Message; save: boolean }) {
  const folder = folderNamed(mailbox, "sentitems");
  if (!folder) throw new Error(`${mailbox.userPrincipalName} has no Sent Items`);
  if (!draft) return save ? addMessage(store, folder, { raw, isRead: true }) : undefined;
  Object.assign(draft, { raw, files: [], isDraft: false, isRead: true });
  draft.version++;
  putIn(store, folder, draft);
  return draft;
}

function transport(world: World, mailbox: Mailbox, raw: Buffer, filed: Message | undefined): void {
  const head = readHead(raw);
  const recipients = [...head.to, ...head.cc, ...head.bcc].map(({ address }) => address);
  const leaving = withField(raw, "Bcc", undefined);
  world.sent.push({
    at: new Date(),
    user: mailbox.userPrincipalName,
    from: head.from?.address ?? mailbox.mail,
    recipients,
    messageId: head.messageId ?? "",
    raw: leaving,
    filedAs: filed?.immutableId,
  });
  for (const address of new Set(recipients.map((one) => one.toLowerCase()))) {
    const target = byAddress(world.store, address);
    const inbox = target && folderNamed(target, "inbox");
    if (inbox) addMessage(world.store, inbox, { raw: received(leaving) });
  }
}

function received(raw: Buffer): Buffer {
  const date = new Date().toUTCString().replace("GMT", "+0000");
  const line = `Received: from outlook.example by outlook.example with Microsoft SMTP Server; ${date}\r\n`;
  return Buffer.concat([Buffer.from(line), raw]);
}
