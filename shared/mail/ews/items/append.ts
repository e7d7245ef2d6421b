/** Puts messages into folders of an Exchange mailbox, each once, as received or sent messages and not as drafts. */
import type { FolderId } from "ews-javascript-api";
import type { MessageToAppend } from "../../mail.ts";
import { executeOperation, folderXml } from "../client/operations.ts";
import { messageIdRestriction, findItems } from "../sync/find-item.ts";
import type { EwsSession } from "../client/session.ts";

/**
 * MAPI properties (MS-OXPROPS): message flags (1 is "read"; 8, "draft", is left out), delivery time and submit time.
 */
const FLAGS = ["0x0E07", "Integer"] as const;
const DELIVERED = ["0x0E06", "SystemTime"] as const;
const SUBMITTED = ["0x0039", "SystemTime"] as const;

/** `append` of MailConnection. */
export async function appendMessage(
  session: EwsSession,
  folder: FolderId,
  message: MessageToAppend,
  signal: AbortSignal,
): Promise<boolean> {
  if (message.messageIds.length > 0) {
    const restriction = messageIdRestriction(message.messageIds);
    const existing = await findItems(session, { folder }, { restriction, offset: 0 }, signal);
    if (existing.count > 0) return false;
  }
  const read = message.flags.includes("\\Seen");
  const date = message.date.toISOString();
  const item =
    `<t:MimeContent CharacterSet="UTF-8">${Buffer.from(message.raw).toString("base64")}</t:MimeContent>` +
    property(FLAGS, read ? "1" : "0") +
    property(DELIVERED, date) +
    property(SUBMITTED, date) +
    `<t:IsRead>${read}</t:IsRead>`;
  const content =
    `<m:SavedItemFolderId>${folderXml(session, folder)}</m:SavedItemFolderId>` +
    `<m:Items><t:Message>${item}</t:Message></m:Items>`;
  await executeOperation(
    session,
    { name: "CreateItem", attributes: ' MessageDisposition="SaveOnly"', content },
    signal,
  );
  return true;
}

function property([tag, type]: readonly [string, string], value: string): string {
  const field = `<t:ExtendedFieldURI PropertyTag="${tag}" PropertyType="${type}"/>`;
  return `<t:ExtendedProperty>${field}<t:Value>${value}</t:Value></t:ExtendedProperty>`;
}
