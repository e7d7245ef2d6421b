/** The files of a message, in the JSON of Graph. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import type { File } from "../../exchange/letter.ts";
import { newId } from "../store/ids.ts";
import type { Message } from "../store/store.ts";
import { decoded, moment } from "./shape.ts";

const inside = new WeakMap<Buffer, File[]>();

/** The files within the message, with ids that stay as long as its content does, and those added to a draft. */
export async function filesOf(message: Message): Promise<File[]> {
  const { raw, files, folder } = message;
  const known = inside.get(raw);
  if (known) return [...known, ...files];
  const { attachments } = await decoded(raw);
  const found = attachments.map((one): File => ({
    id: newId("attachment", folder.mailbox.guid),
    name: one.filename ?? "attachment",
    type: one.mimeType,
    contentId: one.disposition === "inline" || one.related ? one.contentId?.replace(/^<|>$/g, "") : undefined,
    content: Buffer.from(one.content as ArrayBuffer),
  }));
  // Another request may have come first.
  const own = inside.get(raw) ?? found;
  inside.set(raw, own);
  return [...own, ...files];
}

export type AttachmentShape = Graph.FileAttachment & { "@odata.type": string; "@odata.mediaContentType"?: string };

/** A file as Graph shows it, with its content. */
export function attachmentShape(message: Message, file: File): AttachmentShape {
  const shared = {
    id: file.id,
    lastModifiedDateTime: moment(message.modifiedAt),
    name: file.name,
    contentType: file.type,
    size: file.content.length + 200,
    isInline: file.contentId !== undefined,
  };
  if (/^message\/rfc822$/i.test(file.type))
    return { "@odata.type": "#microsoft.graph.itemAttachment", ...shared } satisfies AttachmentShape;
  return {
    "@odata.type": "#microsoft.graph.fileAttachment",
    "@odata.mediaContentType": file.type,
    ...shared,
    contentId: file.contentId ?? null,
    contentLocation: null,
    contentBytes: file.content.toString("base64"),
  } satisfies Graph.FileAttachment & AttachmentShape;
}
