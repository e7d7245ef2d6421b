/**
 * Messages that a server cannot give as MIME, often because they are large or broken. Their parts are downloaded one by
 * one.
 */
import { Problem } from "../../../contract/problem.ts";
import { MAX_MESSAGE_BYTES, maxBase64Bytes } from "../../net/excess.ts";
import { assembleMessage, type Attachment } from "./assemble.ts";
import { findElements, type XmlElement, readElements, findText, findElement } from "../soap/elements.ts";
import { escapeXml, protocolProblem } from "../soap/xml.ts";
import { parseResponseStatus } from "../soap/notifications.ts";
import { problemFromCode } from "../soap/errors.ts";
import { executeOperation, operationXml, fieldsXml, itemsXml } from "../client/operations.ts";
import { sleep } from "../../../time.ts";
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

/** These problems concern the login or the whole server, whatever was requested. */
const SERVER_CODES = new Set<Problem["code"]>([
  ...(["auth", "auth_method", "token", "no_mailbox", "throttled", "too_many_connections"] as const),
  ...(["dns", "tls", "egress"] as const),
]);
const RETRY_PAUSE_MS = 500;

/** `leftOut` has a line for each file that the server does not give. */
type AssembledMessage = { raw: Uint8Array; item: XmlElement; leftOut: string[] };

/**
 * The message assembled from its parts. Header, text and attachments are those of the original; their arrangement and
 * encoding are not. A file that the server does not give is left out. Throws a Problem if header and text are not
 * available, or if the server gives nothing at all. Returns the item with its further fields.
 */
export async function fetchInParts(
  session: EwsSession,
  { id, fields }: { id: string; fields: readonly string[] },
  signal: AbortSignal,
): Promise<AssembledMessage> {
  const content = `<m:ItemShape>${fieldsXml([...FIELDS, ...fields])}</m:ItemShape>${itemsXml([id])}`;
  const getItem = () => executeOperation(session, { name: "GetItem", content }, signal);
  const item = await getItem();
  const body = findElement(item, "Body");
  const attachments: Attachment[] = [];
  const leftOut: string[] = [];
  for (const one of findElement(item, "Attachments")?.children ?? []) {
    const attachment = await tryAttachment(session, one, signal);
    if (!(attachment instanceof Problem)) attachments.push(attachment);
    else {
      // If the server still gives the message around it, the fault is the file's own.
      await getItem();
      leftOut.push(describeLeftOut(one, attachment));
    }
  }
  const letter = { text: body?.text ?? "", html: body?.attributes["BodyType"] === "HTML" };
  return { raw: assembleMessage({ id, header: getHeader(item), ...letter, attachments }), item, leftOut };
}

/** The attachment, or why the server does not give it after two requests. Throws a fault of the login or the server. */
async function tryAttachment(session: EwsSession, one: XmlElement, signal: AbortSignal): Promise<Attachment | Problem> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await fetchAttachment(session, one, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Problem) || SERVER_CODES.has(error.code)) throw error;
      if (attempt === 2) return error;
      await sleep(RETRY_PAUSE_MS, signal);
    }
  }
}

function describeLeftOut(one: XmlElement, { message, evidence }: Problem): string {
  const name = findText(one, "Name") ?? "";
  return `the mail server does not give the attachment "${name}": ${evidence ?? message}`;
}

/** The header fields of the message. For a message that was never sent, those that follow from what Exchange knows. */
function getHeader(answer: XmlElement): Field[] {
  const original = findElements(answer, "InternetMessageHeader").map(({ attributes, text }) => ({
    name: attributes["HeaderName"] ?? "",
    value: text,
  }));
  const has = new Set(original.map(({ name }) => name.toLowerCase()));
  const sent = findText(answer, "DateTimeSent");
  const derived: Field[] = [
    { name: "From", value: getAddresses(answer, "From") },
    { name: "To", value: getAddresses(answer, "ToRecipients") },
    { name: "Cc", value: getAddresses(answer, "CcRecipients") },
    { name: "Subject", value: findText(answer, "Subject") ?? "" },
    { name: "Date", value: sent === null ? "" : new Date(sent).toUTCString().replace("GMT", "+0000") },
    { name: "Message-ID", value: findText(answer, "InternetMessageId") ?? "" },
  ];
  return [...original, ...derived.filter(({ name, value }) => value !== "" && !has.has(name.toLowerCase()))];
}

/** Only addresses: names would need quoting, and nothing depends on them. */
function getAddresses(answer: XmlElement, name: string): string {
  const people = findElement(answer, name);
  const addresses = people ? findElements(people, "EmailAddress").map(({ text }) => text.trim()) : [];
  return addresses.filter((address) => /^[!-~]+$/.test(address) && address.lastIndexOf("@") > 0).join(", ");
}

async function fetchAttachment(session: EwsSession, one: XmlElement, signal: AbortSignal): Promise<Attachment> {
  const isMessage = one.name === "ItemAttachment";
  const id = findElement(one, "AttachmentId")?.attributes["Id"] ?? "";
  return {
    name: findText(one, "Name") ?? "",
    type: isMessage ? "message/rfc822" : (findText(one, "ContentType") ?? ""),
    contentId: findText(one, "ContentId"),
    inline: findText(one, "IsInline") === "true",
    bytes: await downloadContent(session, { id, isMessage }, signal),
  };
}

type AttachmentRef = { id: string; isMessage: boolean };

/** The bytes of one attachment, decoded as they arrive. */
async function downloadContent(
  session: EwsSession,
  { id, isMessage }: AttachmentRef,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const shape = isMessage
    ? "<m:AttachmentShape><t:IncludeMimeContent>true</t:IncludeMimeContent></m:AttachmentShape>"
    : "";
  const ids = `<m:AttachmentIds><t:AttachmentId Id="${escapeXml(id)}"/></m:AttachmentIds>`;
  const body = operationXml({ name: "GetAttachment", content: `${shape}${ids}` });
  const base64 = isMessage ? "MimeContent" : "Content";
  const { intake } = session;
  const filter = { names: ["GetAttachmentResponseMessage", "Fault"], base64, announced: MAX_MESSAGE_BYTES, intake };
  const options = { maxBytes: maxBase64Bytes(MAX_MESSAGE_BYTES) };
  let answer: XmlElement | undefined;
  for await (const one of readElements(await session.postSoap("Downloading a file", body, signal, options), filter))
    answer ??= one;
  if (!answer) throw protocolProblem("nothing");
  const status = parseResponseStatus(answer);
  if (status.code !== "NoError") throw problemFromCode(status);
  const content = findElement(answer, base64);
  if (content?.bytes) return content.bytes;
  if (content) throw new Problem("message", "The server gave a file that is not base64");
  if (isMessage) throw new Problem("message", "The server gave no content for a message inside the message");
  return new Uint8Array();
}
