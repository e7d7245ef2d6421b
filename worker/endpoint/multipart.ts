/**
 * Splits a message into the parts that its mailbox wants. Each part becomes a message of its own under the delivery id.
 */
import type { ParsedMessage } from "../../shared/contract/received.ts";
import type { DeliverableMessage, DeliveryPart } from "./endpoint.ts";

/**
 * The messages to post: one without a part if the message is delivered whole, else one for each part, the body first. A
 * part's name does not depend on the other parts, but its index does. A nested message is an attachment of type
 * message/rfc822.
 */
export function splitMessage(message: DeliverableMessage): DeliverableMessage[] {
  const { split } = message.mailbox.deliver;
  if (!split) return [message];
  const { parsed } = message;
  const files = split.attachments ? parsed.attachments : [];
  const count = (split.body ? 1 : 0) + files.length;
  const body = split.body
    ? [{ ...message, part: bodyPart(parsed, count), parsed: withoutAttachmentContent(parsed) }]
    : [];
  const attachments = files.map((file, at): DeliverableMessage => {
    const { contentType, filename, size } = file;
    const part: DeliveryPart = {
      name: `attachment-${at}`,
      about: { index: body.length + at, count, kind: "attachment", contentType, filename, size },
    };
    return {
      ...message,
      part,
      parsed: { ...parsed, text: null, html: null, reply: null, calendar: null, calendars: [], attachments: [file] },
    };
  });
  return [...body, ...attachments];
}

/** The webhook-id: the delivery id, and for a part its index after it. */
export function webhookId({ deliveryId, part }: DeliverableMessage): string {
  return part ? `${deliveryId}-${part.about.index}` : deliveryId;
}

function bodyPart({ text, html }: ParsedMessage, count: number): DeliveryPart {
  const contentType = html === null ? "text/plain" : "text/html";
  const size = Buffer.byteLength(html ?? text ?? "");
  return { name: "body", about: { index: 0, count, kind: "body", contentType, filename: null, size } };
}

function withoutAttachmentContent(parsed: ParsedMessage): ParsedMessage {
  return { ...parsed, attachments: parsed.attachments.map((file) => ({ ...file, content: null })) };
}
