/** The operations of sending, written by hand: their largest part is base64 that must not become a tree first. */
import type { Order } from "../../outgoing.ts";
import { base64Of, type Body, HOLE, placed } from "../body.ts";
import { escaped } from "../soap/xml.ts";
import { bodyOf, folderXml, type Operation } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";
import type { File } from "./split.ts";

/** An item as its owner last saw it. */
export type ItemRef = { id: string; changeKey: string };
/** `hidden` are the recipients that the message itself does not name. */
export type Draft = Pick<Order, "id" | "dsn" | "raw"> & { hidden: string[] };

/** An operation by its name, and what stands inside soap:Body. */
export type Asking = { name: string; body: Body };

/** The property by which a draft of ours is found again. */
const MARK =
  '<t:ExtendedFieldURI DistinguishedPropertySetId="PublicStrings" PropertyName="EmailListenerSending" PropertyType="String"/>';

/** Creates the message and sends it; the copy is filed among the sent ones, or not at all. */
export function sendNow(session: EwsSession, draft: Draft, save: boolean): Asking {
  const operation = {
    name: "CreateItem",
    attributes: ` MessageDisposition="${save ? "SendAndSaveCopy" : "SendOnly"}"`,
    content: (save ? savedIn(session, "sentitems") : "") + messageXml(draft, ""),
  };
  return filled(operation, draft.raw);
}

/** Creates the message as a draft that carries the sending's id. */
export function saveDraft(session: EwsSession, draft: Draft): Asking {
  const marked = `<t:ExtendedProperty>${MARK}<t:Value>${escaped(draft.id)}</t:Value></t:ExtendedProperty>`;
  const operation = {
    name: "CreateItem",
    attributes: ' MessageDisposition="SaveOnly"',
    content: savedIn(session, "drafts") + messageXml(draft, marked),
  };
  return filled(operation, draft.raw);
}

/** Adds a file to a draft. */
export function attachFile({ id, changeKey }: ItemRef, { name, contentType, contentId, inline, bytes }: File): Asking {
  const fields = [
    `<t:Name>${escaped(name)}</t:Name>`,
    `<t:ContentType>${escaped(contentType)}</t:ContentType>`,
    contentId === null ? "" : `<t:ContentId>${escaped(contentId)}</t:ContentId>`,
    `<t:IsInline>${inline}</t:IsInline>`,
    `<t:Content>${HOLE}</t:Content>`,
  ];
  const parent = `<m:ParentItemId Id="${escaped(id)}" ChangeKey="${escaped(changeKey)}"/>`;
  const file = `<m:Attachments><t:FileAttachment>${fields.join("")}</t:FileAttachment></m:Attachments>`;
  return filled({ name: "CreateAttachment", content: parent + file }, bytes());
}

/** Sends a draft as it is. */
export function sendDraft(session: EwsSession, { id, changeKey }: ItemRef, save: boolean): Asking {
  const items = `<m:ItemIds><t:ItemId Id="${escaped(id)}" ChangeKey="${escaped(changeKey)}"/></m:ItemIds>`;
  const operation = {
    name: "SendItem",
    attributes: ` SaveItemToFolder="${save}"`,
    content: items + (save ? savedIn(session, "sentitems") : ""),
  };
  return { name: operation.name, body: bodyOf(operation) };
}

/** Looks for drafts that carry the sending's id. */
export function findDrafts(session: EwsSession, sending: string): Operation {
  const shape = "<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>";
  const page = '<m:IndexedPageItemView MaxEntriesReturned="20" Offset="0" BasePoint="Beginning"/>';
  const value = `<t:FieldURIOrConstant><t:Constant Value="${escaped(sending)}"/></t:FieldURIOrConstant>`;
  const wanted = `<m:Restriction><t:IsEqualTo>${MARK}${value}</t:IsEqualTo></m:Restriction>`;
  const folders = `<m:ParentFolderIds>${folderXml(session, session.folder("drafts"))}</m:ParentFolderIds>`;
  return { name: "FindItem", attributes: ' Traversal="Shallow"', content: shape + page + wanted + folders };
}

/** The operation with content in the hole that it has. */
function filled(operation: Operation, content: Buffer): Asking {
  return { name: operation.name, body: placed(bodyOf(operation), base64Of(content)) };
}

function savedIn(session: EwsSession, folder: "sentitems" | "drafts"): string {
  return `<m:SavedItemFolderId>${folderXml(session, session.folder(folder))}</m:SavedItemFolderId>`;
}

/** The elements of an item in the order of the schema, which the server holds to: those of every item, then those of a message. */
function messageXml({ hidden, dsn }: Draft, marked: string): string {
  const people = hidden.map((to) => `<t:Mailbox><t:EmailAddress>${escaped(to)}</t:EmailAddress></t:Mailbox>`).join("");
  const receipt = dsn?.notify.includes("success") ?? false;
  const fields = [
    `<t:MimeContent CharacterSet="UTF-8">${HOLE}</t:MimeContent>`,
    marked,
    people === "" ? "" : `<t:BccRecipients>${people}</t:BccRecipients>`,
    receipt ? "<t:IsDeliveryReceiptRequested>true</t:IsDeliveryReceiptRequested>" : "",
  ];
  return `<m:Items><t:Message>${fields.join("")}</t:Message></m:Items>`;
}
