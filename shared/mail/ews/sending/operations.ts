/**
 * The operations of sending, written by hand, because most of their content is base64 that must not become a tree
 * first.
 */
import type { SendRequest } from "../../outgoing.ts";
import { base64Body, type RequestBody, PLACEHOLDER, fillPlaceholder } from "../../http/request-body.ts";
import { escapeXml } from "../soap/xml.ts";
import { operationXml, folderXml, type Operation } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";
import type { Attachment } from "../../exchange/split.ts";

/** An item with its newest change key. */
export type ItemRef = { id: string; changeKey: string };
/** `bcc` are the recipients that the message itself does not name. */
export type Draft = Pick<SendRequest, "id" | "dsn" | "raw"> & { bcc: string[] };

/** An operation with its name, and the content of soap:Body. */
export type SendOperation = { name: string; body: RequestBody };

/** The property with which the service finds its own drafts again. */
const SENDING_ID_PROPERTY =
  '<t:ExtendedFieldURI DistinguishedPropertySetId="PublicStrings" PropertyName="EmailListenerSending" PropertyType="String"/>';

/** Creates and sends the message. A copy goes into Sent Items if `save` is true. */
export function sendNow(session: EwsSession, draft: Draft, save: boolean): SendOperation {
  const operation = {
    name: "CreateItem",
    attributes: ` MessageDisposition="${save ? "SendAndSaveCopy" : "SendOnly"}"`,
    content: (save ? savedItemFolderXml(session, "sentitems") : "") + messageXml(draft, ""),
  };
  return fillContent(operation, draft.raw);
}

/** Creates the message as a draft with the sending's id. */
export function saveDraft(session: EwsSession, draft: Draft): SendOperation {
  const idProperty = `<t:ExtendedProperty>${SENDING_ID_PROPERTY}<t:Value>${escapeXml(draft.id)}</t:Value></t:ExtendedProperty>`;
  const operation = {
    name: "CreateItem",
    attributes: ' MessageDisposition="SaveOnly"',
    content: savedItemFolderXml(session, "drafts") + messageXml(draft, idProperty),
  };
  return fillContent(operation, draft.raw);
}

/** Adds an attachment to a draft. */
export function attachFile(
  { id, changeKey }: ItemRef,
  { name, contentType, contentId, inline, bytes }: Attachment,
): SendOperation {
  const fields = [
    `<t:Name>${escapeXml(name)}</t:Name>`,
    `<t:ContentType>${escapeXml(contentType)}</t:ContentType>`,
    contentId === null ? "" : `<t:ContentId>${escapeXml(contentId)}</t:ContentId>`,
    `<t:IsInline>${inline}</t:IsInline>`,
    `<t:Content>${PLACEHOLDER}</t:Content>`,
  ];
  const parent = `<m:ParentItemId Id="${escapeXml(id)}" ChangeKey="${escapeXml(changeKey)}"/>`;
  const file = `<m:Attachments><t:FileAttachment>${fields.join("")}</t:FileAttachment></m:Attachments>`;
  return fillContent({ name: "CreateAttachment", content: parent + file }, bytes());
}

/** Sends a draft as it is. */
export function sendDraft(session: EwsSession, { id, changeKey }: ItemRef, save: boolean): SendOperation {
  const items = `<m:ItemIds><t:ItemId Id="${escapeXml(id)}" ChangeKey="${escapeXml(changeKey)}"/></m:ItemIds>`;
  const operation = {
    name: "SendItem",
    attributes: ` SaveItemToFolder="${save}"`,
    content: items + (save ? savedItemFolderXml(session, "sentitems") : ""),
  };
  return { name: operation.name, body: operationXml(operation) };
}

/** Finds drafts with the sending's id. */
export function findDrafts(session: EwsSession, sendingId: string): Operation {
  const shape = "<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>";
  const page = '<m:IndexedPageItemView MaxEntriesReturned="20" Offset="0" BasePoint="Beginning"/>';
  const value = `<t:FieldURIOrConstant><t:Constant Value="${escapeXml(sendingId)}"/></t:FieldURIOrConstant>`;
  const restriction = `<m:Restriction><t:IsEqualTo>${SENDING_ID_PROPERTY}${value}</t:IsEqualTo></m:Restriction>`;
  const folders = `<m:ParentFolderIds>${folderXml(session, session.folder("drafts"))}</m:ParentFolderIds>`;
  return { name: "FindItem", attributes: ' Traversal="Shallow"', content: shape + page + restriction + folders };
}

/** The operation with the content in place of its placeholder. */
function fillContent(operation: Operation, content: Buffer): SendOperation {
  return { name: operation.name, body: fillPlaceholder(operationXml(operation), base64Body(content)) };
}

function savedItemFolderXml(session: EwsSession, folder: "sentitems" | "drafts"): string {
  return `<m:SavedItemFolderId>${folderXml(session, session.folder(folder))}</m:SavedItemFolderId>`;
}

/**
 * The elements of an item in the order of the schema, which the server requires: those of every item, then those of a
 * message.
 */
function messageXml({ bcc, dsn }: Draft, idProperty: string): string {
  const bccXml = bcc.map((to) => `<t:Mailbox><t:EmailAddress>${escapeXml(to)}</t:EmailAddress></t:Mailbox>`).join("");
  const receipt = dsn?.notify.includes("success") ?? false;
  const fields = [
    `<t:MimeContent CharacterSet="UTF-8">${PLACEHOLDER}</t:MimeContent>`,
    idProperty,
    bccXml === "" ? "" : `<t:BccRecipients>${bccXml}</t:BccRecipients>`,
    receipt ? "<t:IsDeliveryReceiptRequested>true</t:IsDeliveryReceiptRequested>" : "",
  ];
  return `<m:Items><t:Message>${fields.join("")}</t:Message></m:Items>`;
}
