/** Messages that a server cannot give as a whole, often because they are large or their MIME is broken: fetched in parts, one file at a time. */
import { Problem } from "../../../contract/problem.ts";
import { assembled, type File } from "./assemble.ts";
import { allWithin, type Element, elementsOf, textWithin, within } from "../soap/elements.ts";
import { escaped, unreadable } from "../soap/xml.ts";
import { saidBy } from "../soap/notifications.ts";
import { problemOfCode } from "../soap/errors.ts";
import { answerTo, bodyOf, fieldsXml, itemsXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

const FIELDS = [
  "item:Subject",
  "item:Body",
  "item:Attachments",
  "item:InternetMessageHeaders",
  "item:DateTimeSent",
  "message:ToRecipients",
  "message:CcRecipients",
  "message:From",
  "message:InternetMessageId",
];

type Field = { name: string; value: string };

/**
 * The message put together from its parts: header, text and files are those of the original, how they were arranged and encoded is not.
 * Throws the Problem of a part that cannot be had. The item is returned with its further fields.
 */
export async function inParts(
  session: EwsSession,
  { id, fields }: { id: string; fields: readonly string[] },
  signal: AbortSignal,
): Promise<{ raw: Uint8Array; item: Element }> {
  const content = `<m:ItemShape>${fieldsXml([...FIELDS, ...fields])}</m:ItemShape>${itemsXml([id])}`;
  const item = await answerTo(session, { name: "GetItem", content }, signal);
  const body = within(item, "Body");
  const files: File[] = [];
  for (const one of within(item, "Attachments")?.children ?? []) files.push(await fileOf(session, one, signal));
  const letter = { text: body?.text ?? "", html: body?.attributes["BodyType"] === "HTML" };
  return { raw: assembled({ id, header: headerOf(item), ...letter, files }), item };
}

/** The fields the message came with; for one that never travelled those that can be told from what Exchange knows. */
function headerOf(answer: Element): Field[] {
  const came = allWithin(answer, "InternetMessageHeader").map(({ attributes, text }) => ({
    name: attributes["HeaderName"] ?? "",
    value: text,
  }));
  const has = new Set(came.map(({ name }) => name.toLowerCase()));
  const sent = textWithin(answer, "DateTimeSent");
  const told: Field[] = [
    { name: "From", value: peopleIn(answer, "From") },
    { name: "To", value: peopleIn(answer, "ToRecipients") },
    { name: "Cc", value: peopleIn(answer, "CcRecipients") },
    { name: "Subject", value: textWithin(answer, "Subject") ?? "" },
    { name: "Date", value: sent === null ? "" : new Date(sent).toUTCString().replace("GMT", "+0000") },
    { name: "Message-ID", value: textWithin(answer, "InternetMessageId") ?? "" },
  ];
  return [...came, ...told.filter(({ name, value }) => value !== "" && !has.has(name.toLowerCase()))];
}

/** Addresses alone: names would need quoting, and nothing hangs on them. */
function peopleIn(answer: Element, name: string): string {
  const people = within(answer, name);
  const addresses = people ? allWithin(people, "EmailAddress").map(({ text }) => text.trim()) : [];
  return addresses.filter((address) => /^[!-~]+@[!-~]+$/.test(address)).join(", ");
}

async function fileOf(session: EwsSession, one: Element, signal: AbortSignal): Promise<File> {
  const isMessage = one.name === "ItemAttachment";
  const id = within(one, "AttachmentId")?.attributes["Id"] ?? "";
  return {
    name: textWithin(one, "Name") ?? "",
    type: isMessage ? "message/rfc822" : (textWithin(one, "ContentType") ?? ""),
    contentId: textWithin(one, "ContentId"),
    inline: textWithin(one, "IsInline") === "true",
    bytes: await contentOf(session, { id, isMessage }, signal),
  };
}

type Wish = { id: string; isMessage: boolean };

/** The bytes of one attachment, decoded as they come. */
async function contentOf(session: EwsSession, { id, isMessage }: Wish, signal: AbortSignal): Promise<Uint8Array> {
  const shape = isMessage
    ? "<m:AttachmentShape><t:IncludeMimeContent>true</t:IncludeMimeContent></m:AttachmentShape>"
    : "";
  const ids = `<m:AttachmentIds><t:AttachmentId Id="${escaped(id)}"/></m:AttachmentIds>`;
  const body = bodyOf({ name: "GetAttachment", content: `${shape}${ids}` });
  const base64 = isMessage ? "MimeContent" : "Content";
  const wanted = { names: ["GetAttachmentResponseMessage", "Fault"], base64 };
  let answer: Element | undefined;
  for await (const one of elementsOf(await session.raw("Downloading a file", body, signal), wanted)) answer ??= one;
  if (!answer) throw unreadable("nothing");
  const said = saidBy(answer);
  if (said.code !== "NoError") throw problemOfCode(said);
  const bytes = within(answer, base64)?.bytes;
  if (bytes) return bytes;
  if (isMessage) throw new Problem("message", "The server gave no content for a message inside the message");
  return new Uint8Array();
}
