/** An invitation, or an answer to one, among the files of a message (iMIP, RFC 6047). */
import { isUtf8 } from "node:buffer";
import type { OutgoingMessage } from "../../contract/outgoing.ts";

type Attachment = OutgoingMessage["attachments"][number];

/** `method` is the iTIP method (RFC 5546), in capitals; `content` has CRLF line ends. */
export type Invitation = { method: string; content: string; filename: string };

/**
 * The first file that is a calendar with a METHOD, and the other files. Calendar programs look for it beside the text, as
 * an alternative with the method in its type. A file that is given as `attachment` stays a file.
 */
export function takeInvitation(attachments: readonly Attachment[]): {
  invitation?: Invitation;
  files: readonly Attachment[];
} {
  for (const file of attachments) {
    const invitation = readInvitation(file);
    if (invitation) return { invitation, files: attachments.filter((one) => one !== file) };
  }
  return { files: attachments };
}

function readInvitation({ contentType = "", disposition, contentId, content, filename }: Attachment) {
  if (!/^text\/calendar\b/i.test(contentType) || disposition === "attachment" || contentId !== undefined)
    return undefined;
  const bytes = Buffer.from(content, "base64");
  if (!isUtf8(bytes)) return undefined;
  const text = bytes.toString("utf8").replace(/^\uFEFF/, "");
  const method = getMethod(text) ?? /;\s*method="?([A-Za-z-]+)/i.exec(contentType)?.[1];
  if (method === undefined || !/^BEGIN:VCALENDAR\b/im.test(text)) return undefined;
  return {
    method: method.toUpperCase(),
    content: text.replace(/\r\n|\r|\n/g, "\r\n"),
    filename: filename ?? "invite.ics",
  };
}

/** The METHOD of a calendar; undefined without one. */
export function getMethod(calendar: string): string | undefined {
  return /^METHOD:([A-Za-z-]+)\s*$/im.exec(calendar)?.[1];
}
