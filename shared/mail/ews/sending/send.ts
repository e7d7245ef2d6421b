/** Sending through Exchange, with the promises of SMTP: nothing twice, and `unknown` where only the server can know. */
import type { Mailbox, MailboxOf } from "../../../contract/mailbox.ts";
import { mailboxOf } from "../../defaults.ts";
import type { BeforeEnd, Order, SendSession, Transmission } from "../../outgoing.ts";
import { SENDING } from "../../smtp/connect.ts";
import { answerTo, folderXml } from "../client/operations.ts";
import { type EwsDeps, openEws } from "../client/session.ts";
import { handedOver, type Wire } from "./exchange-send.ts";
import { type Draft, sendDraft, sendNow } from "./operations.ts";
import { hiddenRecipients } from "./recipients.ts";
import { discard, uploaded } from "./upload.ts";
import { isTooLarge } from "./responses.ts";

/** As for SMTP: an Exchange that checks a message for long is still an Exchange that may have taken it. */
const END = 40;
/** The least that a server takes by its own default (35,000,000 bytes by Exchange 2010, later ones 64 MiB), in base64. */
const MOST_BYTES = Math.floor((34_000_000 * 3) / 4);
/** The most where a server turned out to take less than that. */
const LITTLE_BYTES = 512 * 1024;

/** A session to send over; the mailbox's own login for sending counts where it has one. Connects with the first message. */
export async function openEwsSending(deps: EwsDeps, given: Mailbox, signal: AbortSignal): Promise<SendSession> {
  const session = await openEws(deps, senderOf(mailboxOf(given, "ews")), signal);
  const wire: Wire = { session, endMs: END * deps.timeouts.command };
  return {
    get open() {
      return session.open;
    },
    transmit: (order, beforeEnd, during) => transmit(wire, order, beforeEnd, during),
    async prove(during) {
      const folder = folderXml(session, session.folder("sentitems"));
      const shape = "<m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>";
      await answerTo(session, { name: "GetFolder", content: `${shape}<m:FolderIds>${folder}</m:FolderIds>` }, during);
    },
    describe: () => session.url,
    close: () => void session.close(),
  };
}

function senderOf(mailbox: MailboxOf<"ews">): MailboxOf<"ews"> {
  const auth = mailbox.send?.auth;
  return auth ? { ...mailbox, id: mailbox.id + SENDING, receive: { ...mailbox.receive, auth } } : mailbox;
}

async function transmit(wire: Wire, order: Order, beforeEnd: BeforeEnd, signal: AbortSignal): Promise<Transmission> {
  const draft: Draft = { id: order.id, raw: order.raw, dsn: order.dsn, hidden: hiddenRecipients(order.raw, order.to) };
  if (order.raw.length > MOST_BYTES) return inParts(wire, { order, draft, beforeEnd, most: MOST_BYTES }, signal);
  const operation = sendNow(wire.session, draft, order.save);
  try {
    return await handedOver(wire, { operation, order, beforeEnd }, signal);
  } catch (error) {
    if (order.raw.length <= LITTLE_BYTES || !isTooLarge(error)) throw error;
  }
  // Nothing of it was taken, so nobody is being transmitted to any more.
  await beforeEnd([]);
  return inParts(wire, { order, draft, beforeEnd, most: LITTLE_BYTES }, signal);
}

type Large = { order: Order; draft: Draft; beforeEnd: BeforeEnd; most: number };

/** By way of a draft. Only the request that sends it is the point of no return. */
async function inParts(wire: Wire, large: Large, signal: AbortSignal): Promise<Transmission> {
  const { order, draft, beforeEnd, most } = large;
  const item = await uploaded(wire, draft, most, signal);
  const operation = sendDraft(wire.session, item, order.save);
  try {
    return await handedOver(wire, { operation, order, beforeEnd }, signal);
  } catch (error) {
    // The server said that it took nothing: the draft is of no more use. If this fails, the next attempt finds it.
    await discard(wire, order.id, signal).catch(() => undefined);
    throw error;
  }
}
