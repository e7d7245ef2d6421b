/** The body and the files of the CRM's outgoing mail. */
import { createHash } from "node:crypto";
import { linkContentIds } from "../../../shared/mail/content-id.ts";
import { getMethod } from "../../../shared/mail/smtp/invitation.ts";
import { flag, getMember, oneLine, rawText, text } from "./members.ts";

/**
 * The files of the mail and of the command, each once, and the body that shows some of them. Each shown file has a
 * Content-ID, which the body names in the same spelling.
 */
export function contentOf(email: unknown, command: unknown) {
  const lists = [getMember(email, "Attachments"), getMember(command, "Attachments")];
  const all = lists.flatMap((one) => (Array.isArray(one) ? (one as unknown[]) : []));
  const files = all.filter(
    (file, n) => idOfFile(file) === "" || all.findIndex((one) => idOfFile(one) === idOfFile(file)) === n,
  );
  const given = (rawText(email, "Body") ?? "").replaceAll("\0", "");
  const { body, linked } = linkContentIds(given, files.map(idOfFile), toContentId);
  const attachments = files.map((file) => {
    const id = idOfFile(file);
    const inline = id !== "" && (flag(file, "IsInline") === true || linked.has(id));
    const filename = oneLine(text(file, "Name") ?? "").slice(-255);
    const content = rawText(file, "Base64Data") ?? rawText(file, "Data") ?? "";
    const attached = isInvitation(filename, content)
      ? { contentType: "text/calendar" }
      : { disposition: inline ? ("inline" as const) : ("attachment" as const) };
    return {
      ...(filename !== "" && { filename }),
      ...(inline && { contentId: toContentId(id) }),
      ...attached,
      content,
    };
  });
  return { body, attachments };
}

function idOfFile(file: unknown): string {
  return text(file, "Id") ?? "";
}

/** The CRM sends no media types. */
function isInvitation(filename: string, content: string): boolean {
  return /\.ics$/i.test(filename) && getMethod(Buffer.from(content, "base64").toString("utf8")) !== undefined;
}

/** The id without brackets. If a header or a URL cannot carry it, it becomes a name derived from it. */
function toContentId(id: string): string {
  const bare = id.replace(/^<|>$/g, "");
  if (/^[A-Za-z0-9@._+$=~{}-]{1,200}$/.test(bare)) return bare;
  return `${createHash("sha256").update(bare).digest("hex").slice(0, 32)}@attachment`;
}
