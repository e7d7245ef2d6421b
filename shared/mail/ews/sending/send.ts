/**
 * Sending through Exchange, with the same promises as SMTP: nothing twice, and `unknown` if only the server can know.
 */
import type { Mailbox, MailboxOf } from "../../../contract/mailbox.ts";
import { narrowMailbox } from "../../defaults.ts";
import type { BeforeEnd, SendRequest, SendSession, SendResult } from "../../outgoing.ts";
import { SEND_TOKEN_SUFFIX } from "../../smtp/connect.ts";
import { executeOperation, folderXml } from "../client/operations.ts";
import { type EwsDeps, openEws } from "../client/session.ts";
import { submit, type SendContext } from "./exchange-send.ts";
import { type Draft, sendDraft, sendNow } from "./operations.ts";
import { getBccRecipients } from "../../exchange/recipients.ts";
import { deleteDrafts, uploadDraft } from "./upload.ts";
import { isTooLarge } from "./responses.ts";

/** As for SMTP: an Exchange server that checks a message for a long time may still accept it. */
const END_FACTOR = 40;
/** The smallest limit that a server has by default (35,000,000 bytes in Exchange 2010, later 64 MiB), in base64. */
const MAX_BYTES = Math.floor((34_000_000 * 3) / 4);
/** The limit to use after a server refused that size. */
const FALLBACK_MAX_BYTES = 512 * 1024;

/**
 * A session for sending. It uses the mailbox's own login for sending if there is one. It connects with the first
 * message.
 */
export async function openEwsSending(deps: EwsDeps, given: Mailbox, signal: AbortSignal): Promise<SendSession> {
  const session = await openEws(deps, withSendAuth(narrowMailbox(given, "ews")), signal);
  const context: SendContext = { session, endMs: END_FACTOR * deps.timeouts.command };
  return {
    get open() {
      return session.open;
    },
    send: (order, beforeEnd, during) => transmit(context, order, beforeEnd, during),
    async verifyPermission(during) {
      const folder = folderXml(session, session.folder("sentitems"));
      const shape = "<m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape>";
      await executeOperation(
        session,
        { name: "GetFolder", content: `${shape}<m:FolderIds>${folder}</m:FolderIds>` },
        during,
      );
    },
    describe: () => session.url,
    close: () => void session.close(),
  };
}

function withSendAuth(mailbox: MailboxOf<"ews">): MailboxOf<"ews"> {
  const auth = mailbox.send?.auth;
  return auth ? { ...mailbox, id: mailbox.id + SEND_TOKEN_SUFFIX, receive: { ...mailbox.receive, auth } } : mailbox;
}

async function transmit(
  context: SendContext,
  order: SendRequest,
  beforeEnd: BeforeEnd,
  signal: AbortSignal,
): Promise<SendResult> {
  const draft: Draft = { id: order.id, raw: order.raw, dsn: order.dsn, bcc: getBccRecipients(order.raw, order.to) };
  if (order.raw.length > MAX_BYTES)
    return sendInParts(context, { order, draft, beforeEnd, maxBytes: MAX_BYTES }, signal);
  const operation = sendNow(context.session, draft, order.save);
  try {
    return await submit(context, { operation, order, beforeEnd }, signal);
  } catch (error) {
    if (order.raw.length <= FALLBACK_MAX_BYTES || !isTooLarge(error)) throw error;
  }
  // The server accepted nothing, so no recipient is `transmitting` any more.
  await beforeEnd([]);
  return sendInParts(context, { order, draft, beforeEnd, maxBytes: FALLBACK_MAX_BYTES }, signal);
}

type LargeMessage = { order: SendRequest; draft: Draft; beforeEnd: BeforeEnd; maxBytes: number };

/** Sends through a draft. Only the SendItem request hands the message over. */
async function sendInParts(context: SendContext, large: LargeMessage, signal: AbortSignal): Promise<SendResult> {
  const { order, draft, beforeEnd, maxBytes } = large;
  const item = await uploadDraft(context, draft, maxBytes, signal);
  const operation = sendDraft(context.session, item, order.save);
  try {
    return await submit(context, { operation, order, beforeEnd }, signal);
  } catch (error) {
    // The server said that it accepted nothing, so the draft is useless. If this fails, the next attempt finds it.
    await deleteDrafts(context, order.id, signal).catch(() => undefined);
    throw error;
  }
}
