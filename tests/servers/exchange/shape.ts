/** Items and folders as XML: which properties a shape asks for, in the order the schema has them. */
import PostalMime, { type Email } from "postal-mime";
import type { File, Person } from "./letter.ts";
import { withFiles } from "./letter.ts";
import { changeKey, type Folder, type Item } from "./store.ts";
import { child, escape, leaf, tag, textAt, type Xml, isTrue } from "./xml.ts";

/** What a shape asks for. */
export type Shape = { base: string; mime: boolean; html: boolean | undefined; uris: Set<string>; extended: Xml[] };

export function readShape(element: Xml | undefined): Shape {
  const additional = child(element, "AdditionalProperties")?.children ?? [];
  const bodyType = textAt(element, "BodyType");
  return {
    base: textAt(element, "BaseShape") ?? "AllProperties",
    mime: isTrue(textAt(element, "IncludeMimeContent")),
    html: bodyType === undefined || bodyType === "Best" ? undefined : bodyType === "HTML",
    uris: new Set(additional.filter((one) => one.name === "FieldURI").map((one) => one.attributes["FieldURI"] ?? "")),
    extended: additional.filter((one) => one.name === "ExtendedFieldURI"),
  };
}

type Value = string | number | boolean | Date | undefined;

/** What restrictions and sort orders compare. */
export const VALUES: Record<string, (item: Item) => Value> = {
  "item:ItemId": (item) => item.id,
  "item:ParentFolderId": (item) => item.folder.id,
  "item:ItemClass": (item) => item.itemClass,
  "item:Subject": (item) => item.head.subject,
  "item:DateTimeReceived": (item) => item.receivedAt,
  "item:Size": (item) => sizeOf(item),
  "item:Categories": (item) => item.categories.join("\n"),
  "item:Importance": (item) => item.head.importance,
  "item:InReplyTo": (item) => item.head.inReplyTo,
  "item:IsDraft": (item) => item.isDraft,
  "item:DateTimeSent": (item) => item.head.sent,
  "item:DateTimeCreated": (item) => item.createdAt,
  "item:LastModifiedTime": (item) => item.createdAt,
  "item:HasAttachments": (item) => item.head.hasAttachments || item.files.length > 0,
  "item:DisplayTo": (item) => item.head.to.map(({ name, address }) => name || address).join("; "),
  "item:DisplayCc": (item) => item.head.cc.map(({ name, address }) => name || address).join("; "),
  "message:From": (item) => item.head.from?.address,
  "message:Sender": (item) => item.head.sender?.address,
  "message:InternetMessageId": (item) => item.head.messageId,
  "message:IsRead": (item) => item.isRead,
  "message:References": (item) => item.head.references,
  "message:ToRecipients": (item) => item.head.to.map(({ address }) => address).join(";"),
};

function sizeOf(item: Item): number {
  return item.raw.length + item.files.reduce((sum, { content }) => sum + content.length, 0);
}

/** Moments as Exchange writes them, to the second. */
export function moment(date: Date): string {
  return date.toISOString().replace(/\.\d+Z$/, "Z");
}

function plain(uri: string): (item: Item) => string {
  const name = `t:${uri.slice(uri.indexOf(":") + 1)}`;
  return (item) => {
    const value = VALUES[uri]?.(item);
    if (value === undefined) return "";
    return leaf(name, value instanceof Date ? moment(value) : value);
  };
}

export function mailboxXml(name: string, { name: display, address }: Person): string {
  const inner = [leaf("t:Name", display || address), leaf("t:EmailAddress", address), leaf("t:RoutingType", "SMTP")];
  return tag(name, {}, ...inner, leaf("t:MailboxType", "Mailbox"));
}

function single(name: string, person: Person | undefined): string {
  return person ? tag(name, {}, mailboxXml("t:Mailbox", person)) : "";
}

function several(name: string, people: Person[]): string {
  return people.length === 0 ? "" : tag(name, {}, ...people.map((one) => mailboxXml("t:Mailbox", one)));
}

/** In the schema's order: those of an item, then those of a message. */
const PROPERTIES: Record<string, (item: Item, shape: Shape, content: Email | undefined) => string> = {
  "item:MimeContent": (item) =>
    tag("t:MimeContent", { CharacterSet: "UTF-8" }, withFiles(item.raw, item.files).toString("base64")),
  "item:ItemId": (item) => itemId(item),
  "item:ParentFolderId": (item) => folderId("t:ParentFolderId", item.folder),
  "item:ItemClass": plain("item:ItemClass"),
  "item:Subject": plain("item:Subject"),
  "item:Sensitivity": () => leaf("t:Sensitivity", "Normal"),
  "item:Body": (_item, shape, content) => bodyXml(shape, content),
  "item:Attachments": (item, _shape, content) => attachmentsXml(filesOf(item, content)),
  "item:DateTimeReceived": plain("item:DateTimeReceived"),
  "item:Size": plain("item:Size"),
  "item:Categories": ({ categories }) =>
    categories.length === 0 ? "" : tag("t:Categories", {}, ...categories.map((one) => leaf("t:String", one))),
  "item:Importance": plain("item:Importance"),
  "item:InReplyTo": plain("item:InReplyTo"),
  "item:IsSubmitted": () => leaf("t:IsSubmitted", false),
  "item:IsDraft": plain("item:IsDraft"),
  "item:IsFromMe": () => leaf("t:IsFromMe", false),
  "item:InternetMessageHeaders": ({ head }) =>
    tag(
      "t:InternetMessageHeaders",
      {},
      ...head.fields.map(({ name, value }) => tag("t:InternetMessageHeader", { HeaderName: name }, escape(value))),
    ),
  "item:DateTimeSent": plain("item:DateTimeSent"),
  "item:DateTimeCreated": plain("item:DateTimeCreated"),
  "item:ReminderIsSet": () => leaf("t:ReminderIsSet", false),
  "item:DisplayCc": plain("item:DisplayCc"),
  "item:DisplayTo": plain("item:DisplayTo"),
  "item:HasAttachments": plain("item:HasAttachments"),
  "item:Culture": () => leaf("t:Culture", "en-US"),
  "item:LastModifiedTime": plain("item:LastModifiedTime"),
  "item:TextBody": (_item, _shape, content) => tag("t:TextBody", { BodyType: "Text" }, escape(content?.text ?? "")),
  "message:Sender": ({ head }) => single("t:Sender", head.sender),
  "message:ToRecipients": ({ head }) => several("t:ToRecipients", head.to),
  "message:CcRecipients": ({ head }) => several("t:CcRecipients", head.cc),
  "message:BccRecipients": ({ head }) => several("t:BccRecipients", head.bcc),
  "message:From": ({ head }) => single("t:From", head.from),
  "message:InternetMessageId": plain("message:InternetMessageId"),
  "message:IsRead": plain("message:IsRead"),
  "message:References": plain("message:References"),
  "message:ReplyTo": ({ head }) => several("t:ReplyTo", head.replyTo),
};

// What [MS-OXWSMSG] says of the Default shape; AllProperties leaves out what must be asked for by name.
const DEFAULT = [
  "item:Subject",
  "item:Sensitivity",
  "item:Size",
  "item:DateTimeSent",
  "item:DateTimeCreated",
  "item:HasAttachments",
  "message:From",
  "message:IsRead",
];
const UNASKED = ["item:MimeContent", "item:TextBody"];
// Extended properties stand before these.
const AFTER = ["item:Culture", "item:LastModifiedTime", "item:TextBody"];
const CONTENT = ["item:Body", "item:TextBody", "item:Attachments"];
// FindItem and SyncFolderItems answer from the folder's table, which holds no content and no recipients.
const DEEP = [
  "item:MimeContent",
  "item:Body",
  "item:TextBody",
  "item:Attachments",
  "item:InternetMessageHeaders",
  "message:ToRecipients",
  "message:CcRecipients",
  "message:BccRecipients",
  "message:ReplyTo",
];

/** An item as XML; `table` leaves out what a folder's table does not hold. */
export async function itemXml(item: Item, shape: Shape, table = false): Promise<string> {
  const wanted = Object.keys(PROPERTIES).filter((uri) => isWanted(uri, shape) && !(table && DEEP.includes(uri)));
  const parsed = wanted.some((uri) => CONTENT.includes(uri));
  const content = parsed ? await PostalMime.parse(item.raw) : undefined;
  const [own, message] = [
    wanted.filter((uri) => uri.startsWith("item:")),
    wanted.filter((uri) => uri.startsWith("message:")),
  ];
  const isMessage = elementOf(item.itemClass) !== "Item";
  const write = (uri: string) => PROPERTIES[uri]?.(item, shape, content) ?? "";
  return tag(
    `t:${elementOf(item.itemClass)}`,
    {},
    ...own.filter((uri) => !AFTER.includes(uri)).map(write),
    ...shape.extended.map((field) => extendedXml(item.extended.get(extendedKey(field)), field)),
    ...own.filter((uri) => AFTER.includes(uri)).map(write),
    ...(isMessage ? message.map(write) : []),
  );
}

function isWanted(uri: string, shape: Shape): boolean {
  if (uri === "item:ItemId" || shape.uris.has(uri)) return true;
  if (uri === "item:MimeContent") return shape.mime;
  if (shape.base === "AllProperties") return !UNASKED.includes(uri);
  return shape.base === "Default" && DEFAULT.includes(uri);
}

const ELEMENTS: [RegExp, string][] = [
  [/^IPM\.Note|^REPORT\./i, "Message"],
  [/^IPM\.Schedule\.Meeting\.Request/i, "MeetingRequest"],
  [/^IPM\.Schedule\.Meeting\.Resp/i, "MeetingResponse"],
  [/^IPM\.Schedule\.Meeting\.Canceled/i, "MeetingCancellation"],
  [/^IPM\.Appointment/i, "CalendarItem"],
  [/^IPM\.Contact/i, "Contact"],
  [/^IPM\.DistList/i, "DistributionList"],
  [/^IPM\.Task/i, "Task"],
  [/^IPM\.Post/i, "PostItem"],
];

/** The element an item of this class is written as. */
export function elementOf(itemClass: string): string {
  return ELEMENTS.find(([pattern]) => pattern.test(itemClass))?.[1] ?? "Item";
}

export function itemId(item: Item, id = item.id): string {
  return tag("t:ItemId", { Id: id, ChangeKey: changeKey(item) });
}

export function folderId(name: string, folder: Folder): string {
  return tag(name, { Id: folder.id, ChangeKey: changeKey(folder) });
}

function bodyXml(shape: Shape, content: Email | undefined): string {
  const html = shape.html ?? content?.html !== undefined;
  const text = html ? (content?.html ?? `<html><body>${content?.text ?? ""}</body></html>`) : (content?.text ?? "");
  return tag("t:Body", { BodyType: html ? "HTML" : "Text" }, escape(text));
}

/** The files of an item: those in its MIME, and those added to it. */
export function filesOf(item: Item, content: Email | undefined): File[] {
  const inside = (content?.attachments ?? []).map((one, index) => ({
    id: `${item.id.slice(0, -1)}BEgAQ${String(index).padStart(4, "0")}=`,
    name: one.filename ?? "",
    type: one.mimeType,
    contentId: one.contentId?.replace(/^<|>$/g, ""),
    content: typeof one.content === "string" ? Buffer.from(one.content) : Buffer.from(new Uint8Array(one.content)),
  }));
  return [...inside, ...item.files];
}

function attachmentsXml(files: File[]): string {
  return files.length === 0 ? "" : tag("t:Attachments", {}, ...files.map((file) => fileXml(file, false)));
}

/** A file as XML, with its content if asked for. */
export function fileXml(file: File, content: boolean): string {
  return tag(
    "t:FileAttachment",
    {},
    tag("t:AttachmentId", { Id: file.id }),
    leaf("t:Name", file.name),
    leaf("t:ContentType", file.type),
    file.contentId === undefined ? "" : leaf("t:ContentId", file.contentId),
    leaf("t:Size", file.content.length),
    leaf("t:IsInline", file.contentId !== undefined),
    leaf("t:IsContactPhoto", false),
    content ? leaf("t:Content", file.content.toString("base64")) : "",
  );
}

/** The key of an extended property among an item's. */
export function extendedKey({ attributes: a }: Xml): string {
  const set = a["DistinguishedPropertySetId"] ?? a["PropertySetId"]?.toLowerCase() ?? "";
  const tagged = a["PropertyTag"] === undefined ? "" : String(Number(a["PropertyTag"]));
  return [tagged, set, a["PropertyName"] ?? "", a["PropertyId"] ?? "", a["PropertyType"] ?? ""].join(" ");
}

function extendedXml(value: string | undefined, field: Xml): string {
  if (value === undefined) return "";
  const name = tag("t:ExtendedFieldURI", field.attributes);
  return tag("t:ExtendedProperty", {}, name, leaf("t:Value", value));
}

const FOLDER_ELEMENTS: Record<string, string> = {
  "IPF.Appointment": "CalendarFolder",
  "IPF.Contact": "ContactsFolder",
  "IPF.Task": "TasksFolder",
};

/** A folder as XML; IdOnly gives its id alone, unless more is asked for by name. */
export function folderXml(folder: Folder, shape: Shape): string {
  const children = [...folder.mailbox.folders.values()].filter((one) => one.parent === folder);
  const unread = [...folder.items.values()].filter((item) => !item.isRead).length;
  const parts: [string, string][] = [
    ["folder:FolderId", folderId("t:FolderId", folder)],
    ["folder:ParentFolderId", folder.parent ? folderId("t:ParentFolderId", folder.parent) : ""],
    ["folder:FolderClass", folder.folderClass ? leaf("t:FolderClass", folder.folderClass) : ""],
    ["folder:DisplayName", leaf("t:DisplayName", folder.name)],
    ["folder:TotalCount", leaf("t:TotalCount", folder.items.size)],
    ["folder:ChildFolderCount", leaf("t:ChildFolderCount", children.length)],
    ["folder:DistinguishedFolderId", folder.distinguished ? leaf("t:DistinguishedFolderId", folder.distinguished) : ""],
    ["folder:UnreadCount", leaf("t:UnreadCount", unread)],
  ];
  const defaults = ["folder:DisplayName", "folder:TotalCount", "folder:ChildFolderCount", "folder:UnreadCount"];
  const wanted = parts.filter(
    ([uri]) =>
      uri === "folder:FolderId" ||
      shape.uris.has(uri) ||
      shape.base === "AllProperties" ||
      (shape.base === "Default" && defaults.includes(uri)),
  );
  const name = FOLDER_ELEMENTS[folder.folderClass] ?? "Folder";
  return tag(`t:${name}`, {}, ...wanted.map(([, xml]) => xml));
}
