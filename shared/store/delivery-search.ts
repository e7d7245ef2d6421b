/** What deliveries are listed by, and how one is found by what its record keeps of the message. */
import type { DeliveryState, MessageSummary } from "../contract/delivery.ts";
import type { ParsedMessage } from "../contract/received.ts";

/**
 * `prefix`: only of mailboxes whose ids begin so. `text`: only those whose message has this in its subject or its sender,
 * whatever the case, or has this Message-ID.
 */
export type DeliveryQuery = {
  limit: number;
  cursor?: string;
  state?: DeliveryState;
  mailbox?: string;
  since?: string;
  prefix?: string;
  text?: string;
};

/** Characters that are kept of a subject and of a sender. */
const MAX_WORDS = 200;
/** Characters that are kept of a Message-ID. RFC 5322 allows more, but hardly any program writes more. */
const MAX_MESSAGE_ID = 250;

export function summarizeMessage({
  subject,
  from,
  messageId,
}: Pick<ParsedMessage, "subject" | "from" | "messageId">): MessageSummary {
  const sender =
    from?.name && from.address ? `${from.name} <${from.address}>` : ((from?.name || from?.address) ?? null);
  return {
    subject: shorten(subject, MAX_WORDS),
    from: shorten(sender, MAX_WORDS),
    messageId: messageId === null ? null : readMessageId(messageId),
  };
}

/** Null for an empty text. No half of a surrogate pair is left at the end. */
function shorten(text: string | null, most: number): string | null {
  return text ? text.normalize("NFC").slice(0, most).toWellFormed() : null;
}

/** What a text may be searched for as a Message-ID: without angle brackets, as long as it is kept. Null if it is none. */
export function readMessageId(text: string): string | null {
  const bare = text.trim().replace(/^<|>$/g, "");
  return bare === "" || /\s/.test(bare) ? null : shorten(bare, MAX_MESSAGE_ID);
}

/** Texts that differ only in case or in forms of the same letters become equal. */
export function foldText(text: string): string {
  return text.normalize("NFKC").toLowerCase();
}

/** A text as it is looked for in subjects and senders: an address in angle brackets is looked for without them. */
export function searchedText(text: string): string {
  return foldText(text.trim().replace(/^<([^<>]*)>$/, "$1"));
}

/** The subject and the sender as they are searched. */
export function searchedWords({ subject, from }: MessageSummary): string {
  return foldText(`${subject ?? ""}\n${from ?? ""}`);
}

/** Whether the subject or the sender has this text, or the message has this Message-ID. */
export function matchesMessage(message: MessageSummary | undefined, text: string): boolean {
  if (message === undefined) return false;
  if (message.messageId !== null && message.messageId === readMessageId(text)) return true;
  return searchedWords(message).includes(searchedText(text));
}
