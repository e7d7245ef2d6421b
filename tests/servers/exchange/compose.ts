/** A message out of what a request says of it: MIME content, single properties, or both. */
import { randomUUID } from "node:crypto";
import { encoded, type File, type Person, peopleField, withBody, withField } from "./letter.ts";
import { extendedKey } from "./shape.ts";
import { EwsError } from "./soap.ts";
import { child, textAt, type Xml, isTrue } from "./xml.ts";

/** What can be set of an item; whatever is undefined stays as it is. */
export type Draft = {
  raw: Buffer;
  isRead?: boolean;
  itemClass?: string;
  categories?: string[];
  extended: Map<string, string>;
  files: File[];
};

const PEOPLE: Record<string, string> = {
  ToRecipients: "To",
  CcRecipients: "Cc",
  BccRecipients: "Bcc",
  ReplyTo: "Reply-To",
  From: "From",
  Sender: "Sender",
};

const TEXTS: Record<string, string> = {
  Subject: "Subject",
  InternetMessageId: "Message-ID",
  InReplyTo: "In-Reply-To",
  References: "References",
  Importance: "Importance",
};

function people(element: Xml): Person[] {
  return element.children.map((one) => ({
    name: textAt(one, "Name") ?? "",
    address: textAt(one, "EmailAddress") ?? "",
  }));
}

/** Sets one property in the draft from its element; undefined takes it away. */
export function setProperty(draft: Draft, name: string, element: Xml | undefined): void {
  const text = element?.text.trim();
  const field = PEOPLE[name];
  const line = TEXTS[name];
  if (field) draft.raw = withField(draft.raw, field, element && peopleField(people(element)));
  else if (line) draft.raw = withField(draft.raw, line, text === undefined ? undefined : encoded(text));
  else if (name === "MimeContent") draft.raw = Buffer.from(text ?? "", "base64");
  else if (name === "Body")
    draft.raw = withBody(draft.raw, element?.text ?? "", element?.attributes["BodyType"] === "HTML");
  else if (name === "Categories") draft.categories = (element?.children ?? []).map((one) => one.text);
  else if (name === "IsRead") draft.isRead = isTrue(text);
  else if (name === "ItemClass") draft.itemClass = text ?? "IPM.Note";
  else if (name === "ExtendedProperty") setExtended(draft, element);
  else if (name === "Attachments") for (const one of element?.children ?? []) draft.files.push(readFile(one));
  else if (!HARMLESS.has(name))
    throw new EwsError("ErrorInvalidPropertySet", { message: `Set action is invalid for ${name}.` });
}

// Taken, and of no consequence here.
const HARMLESS = new Set([
  "Sensitivity",
  "IsDeliveryReceiptRequested",
  "IsReadReceiptRequested",
  "IsResponseRequested",
  "ReminderIsSet",
  "ReminderDueBy",
  "ReminderMinutesBeforeStart",
  "Culture",
  "Flag",
  "ConversationIndex",
]);

function setExtended(draft: Draft, element: Xml | undefined): void {
  const field = child(element, "ExtendedFieldURI");
  if (field) draft.extended.set(extendedKey(field), textAt(element, "Value") ?? "");
}

/** A FileAttachment as it comes in a request. */
export function readFile(element: Xml): File {
  if (element.name !== "FileAttachment")
    throw new EwsError("ErrorInvalidRequest", { message: "Only files are taken." });
  return {
    id: `${Buffer.from(randomUUID() + randomUUID()).toString("base64")}`,
    name: textAt(element, "Name") ?? "",
    type: textAt(element, "ContentType") ?? "application/octet-stream",
    contentId: isTrue(textAt(element, "IsInline")) ? textAt(element, "ContentId") : undefined,
    content: Buffer.from(textAt(element, "Content") ?? "", "base64"),
  };
}

/** The item that the element of a CreateItem describes. */
export function composed(element: Xml): Draft {
  const draft: Draft = { raw: Buffer.from("\r\n"), extended: new Map(), files: [] };
  const order = ["MimeContent", "Body"];
  const first = element.children.filter((one) => order.includes(one.name));
  const rest = element.children.filter((one) => !order.includes(one.name));
  for (const one of [...first, ...rest]) setProperty(draft, one.name, one);
  return draft;
}
