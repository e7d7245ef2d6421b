/**
 * What Exchange's schema (messages.xsd, types.xsd) demands of requests. The real server refuses elements in a wrong order, of a
 * wrong namespace or left out, so this one does; clients that were tried only against a tolerant server fail on the first real one.
 */
import { SoapFault } from "./soap.ts";
import type { Xml } from "./xml.ts";

/** Children in their order, the names in one word joined by | being alternatives; ! says must be there, * any number. */
const SEQUENCES: Record<string, string> = {
  GetItem: "ItemShape! ItemIds!",
  FindItem:
    "ItemShape! IndexedPageItemView|FractionalPageItemView|SeekToConditionPageItemView|CalendarView|ContactsView GroupBy|DistinguishedGroupBy Restriction SortOrder ParentFolderIds! QueryString",
  GetFolder: "FolderShape! FolderIds!",
  FindFolder: "FolderShape! IndexedPageFolderView|FractionalPageFolderView Restriction ParentFolderIds!",
  SyncFolderItems: "ItemShape! SyncFolderId! SyncState Ignore MaxChangesReturned! SyncScope",
  SyncFolderHierarchy: "FolderShape! SyncFolderId SyncState",
  CreateItem: "SavedItemFolderId Items!",
  SendItem: "ItemIds! SavedItemFolderId",
  UpdateItem: "SavedItemFolderId ItemChanges!",
  DeleteItem: "ItemIds!",
  MoveItem: "ToFolderId! ItemIds! ReturnNewItemIds",
  CopyItem: "ToFolderId! ItemIds! ReturnNewItemIds",
  CreateAttachment: "ParentItemId! Attachments!",
  GetAttachment: "AttachmentShape AttachmentIds!",
  CreateFolder: "ParentFolderId! Folders!",
  DeleteFolder: "FolderIds!",
  MoveFolder: "ToFolderId! FolderIds!",
  Subscribe: "PullSubscriptionRequest|PushSubscriptionRequest|StreamingSubscriptionRequest!",
  Unsubscribe: "SubscriptionId!",
  GetEvents: "SubscriptionId! Watermark!",
  GetStreamingEvents: "SubscriptionIds! ConnectionTimeout!",
  ResolveNames: "ParentFolderIds UnresolvedEntry!",
  StreamingSubscriptionRequest: "FolderIds EventTypes!",
  PullSubscriptionRequest: "FolderIds EventTypes! Watermark Timeout!",
  ItemShape:
    "BaseShape! IncludeMimeContent BodyType UniqueBodyType NormalizedBodyType FilterHtmlContent ConvertHtmlCodePageToUTF8 InlineImageUrlTemplate BlockExternalImages AddBlankTargetToLinks MaximumBodySize AdditionalProperties",
  FolderShape: "BaseShape! AdditionalProperties",
  ItemChange: "ItemId|OccurrenceItemId|RecurringMasterItemId! Updates!",
  Mailbox: "Name EmailAddress RoutingType MailboxType ItemId",
  FileAttachment:
    "AttachmentId Name ContentType ContentId ContentLocation Size LastModifiedTime IsInline IsContactPhoto Content",
  ExtendedProperty: "ExtendedFieldURI! Value|Values!",
  Message:
    "MimeContent ItemId ParentFolderId ItemClass Subject Sensitivity Body Attachments DateTimeReceived Size Categories Importance InReplyTo IsSubmitted IsDraft IsFromMe IsResend IsUnmodified InternetMessageHeaders DateTimeSent DateTimeCreated ResponseObjects ReminderDueBy ReminderIsSet ReminderNextTime ReminderMinutesBeforeStart DisplayCc DisplayTo HasAttachments ExtendedProperty* Culture EffectiveRights LastModifiedName LastModifiedTime IsAssociated ConversationId UniqueBody Flag Sender ToRecipients CcRecipients BccRecipients IsReadReceiptRequested IsDeliveryReceiptRequested ConversationIndex ConversationTopic From InternetMessageId IsRead IsResponseRequested References ReplyTo ReceivedBy ReceivedRepresenting",
};

/** Attributes that must be there. */
const ATTRIBUTES: Record<string, string> = {
  FindItem: "Traversal",
  FindFolder: "Traversal",
  SendItem: "SaveItemToFolder",
  UpdateItem: "ConflictResolution",
  DeleteItem: "DeleteType",
  DeleteFolder: "DeleteType",
};

/** Throws the fault that Exchange answers a request with which its schema does not allow. */
export function validate(operation: Xml): void {
  if (operation.space !== "m") throw invalid(operation, `'${operation.name}' is not of the messages' namespace`);
  const attribute = ATTRIBUTES[operation.name];
  if (attribute && operation.attributes[attribute] === undefined) {
    throw invalid(operation, `The required attribute '${attribute}' is missing`);
  }
  check(operation, 0);
}

function check(element: Xml, depth: number): void {
  // The operation's own children are of the messages' namespace, everything deeper of the types'.
  const space = depth === 0 ? "m" : "t";
  const stray = element.children.find((one) => one.space !== space);
  if (stray) throw invalid(element, `'${stray.name}' is of the wrong namespace`);
  const sequence = SEQUENCES[element.name];
  if (sequence !== undefined) checkOrder(element, sequence.split(" "));
  for (const one of element.children) check(one, depth + 1);
}

function checkOrder(element: Xml, places: string[]): void {
  const names = places.map((place) => place.replace(/[!*]$/, "").split("|"));
  let next = 0;
  for (const { name } of element.children) {
    const found = names.findIndex((one, index) => index >= next && one.includes(name));
    if (found < 0) throw invalid(element, `invalid child element '${name}'`);
    for (const place of places.slice(next, found)) demand(element, place);
    next = places[found]?.endsWith("*") ? found : found + 1;
  }
  for (const place of places.slice(next)) demand(element, place);
}

function demand(element: Xml, place: string): void {
  if (place.endsWith("!")) throw invalid(element, `'${place.slice(0, -1)}' is expected`);
}

function invalid(element: Xml, what: string): SoapFault {
  const message = `The request failed schema validation: The element '${element.name}': ${what}.`;
  return new SoapFault("ErrorSchemaValidation", { message });
}
