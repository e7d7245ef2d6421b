/** Putting messages into folders of an Exchange mailbox: each once, as one that was received or sent and is no draft. */
import type { FolderId } from "ews-javascript-api";
import type { Filed } from "../../mail.ts";
import { answerTo, folderXml } from "../client/operations.ts";
import { anyOf, find } from "../sync/find-item.ts";
import type { EwsSession } from "../client/session.ts";

/** MAPI properties (MS-OXPROPS): message flags, of which 1 is "read" and 8, left out, "draft"; when it was delivered and submitted. */
const FLAGS = ["0x0E07", "Integer"] as const;
const DELIVERED = ["0x0E06", "SystemTime"] as const;
const SUBMITTED = ["0x0039", "SystemTime"] as const;

/** The append of MailConnection. */
export async function appendOver(
  session: EwsSession,
  folder: FolderId,
  message: Filed,
  signal: AbortSignal,
): Promise<void> {
  if (message.messageIds.length > 0) {
    const restriction = anyOf(message.messageIds);
    const there = await find(session, { folder }, { restriction, offset: 0 }, signal);
    if (there.count > 0) return;
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
  await answerTo(session, { name: "CreateItem", attributes: ' MessageDisposition="SaveOnly"', content }, signal);
}

function property([tag, type]: readonly [string, string], value: string): string {
  const field = `<t:ExtendedFieldURI PropertyTag="${tag}" PropertyType="${type}"/>`;
  return `<t:ExtendedProperty>${field}<t:Value>${value}</t:Value></t:ExtendedProperty>`;
}
