/** A message in pieces: which parts its mailbox wants delivered, each as a letter of its own under the message's delivery id. */
import type { ParsedMessage } from "../../shared/contract/received.ts";
import type { Letter, Part } from "./endpoint.ts";

/**
 * The letters for a message: one without a part where it is delivered whole, else one for each part, the body first. A part's name
 * does not change with what else is delivered, its index does; a nested message is an attachment of type message/rfc822.
 */
export function letters(whole: Letter): Letter[] {
  const { split } = whole.mailbox.deliver;
  if (!split) return [whole];
  const { parsed } = whole;
  const files = split.attachments ? parsed.attachments : [];
  const count = (split.body ? 1 : 0) + files.length;
  const body = split.body ? [{ ...whole, part: bodyPart(parsed, count), parsed: bodyOf(parsed) }] : [];
  const attachments = files.map((file, at): Letter => {
    const { contentType, filename, size } = file;
    const part: Part = {
      name: `attachment-${at}`,
      about: { index: body.length + at, count, kind: "attachment", contentType, filename, size },
    };
    return { ...whole, part, parsed: { ...parsed, text: null, html: null, calendar: null, attachments: [file] } };
  });
  return [...body, ...attachments];
}

/** The webhook-id of a letter: the delivery's, and for a part its index behind it. */
export function letterId({ deliveryId, part }: Letter): string {
  return part ? `${deliveryId}-${part.about.index}` : deliveryId;
}

function bodyPart({ text, html }: ParsedMessage, count: number): Part {
  const contentType = html === null ? "text/plain" : "text/html";
  const size = Buffer.byteLength(html ?? text ?? "");
  return { name: "body", about: { index: 0, count, kind: "body", contentType, filename: null, size } };
}

function bodyOf(parsed: ParsedMessage): ParsedMessage {
  return { ...parsed, attachments: parsed.attachments.map((file) => ({ ...file, content: null })) };
}
