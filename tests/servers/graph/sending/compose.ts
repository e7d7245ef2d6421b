/** Messages that clients write: from the JSON of Graph, or as MIME in base64. */
import { randomBytes, randomUUID } from "node:crypto";
import type * as Graph from "@microsoft/microsoft-graph-types";
import { encoded, type File, type Person, peopleField, readHead, withBody, withField } from "../../exchange/letter.ts";
import { badRequest, tooLarge } from "../answers.ts";
import { newId } from "../store/ids.ts";
import type { Mailbox } from "../store/store.ts";
import type { MailAsk } from "../world.ts";

const MOST_HEADERS = 5;

/** Throws 413 for a request that is larger than Graph takes. */
export function checkSize({ request, world }: MailAsk): void {
  if (request.body.length <= world.gate.limits.requestBytes) return;
  throw tooLarge();
}

/** Whether the body is MIME: it is named text/plain then. */
export function isMime({ request }: MailAsk): boolean {
  return /^text\/plain\b/i.test(request.headers["content-type"] ?? "");
}

/** The bytes of a message that came as base64. Its sender is the mailbox, whatever its From says: this is left out. */
export function mimeIn({ request }: MailAsk): Buffer {
  const text = request.body.toString("latin1").replace(/[\r\n]/g, "");
  if (text === "" || text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text))
    throw badRequest("Invalid base64 string for MIME content.", "ErrorMimeContentInvalidBase64String");
  return withField(Buffer.from(text, "base64"), "From", undefined);
}

/** One setter of the JSON for each property that a draft can have. */
const SETTERS: Partial<Record<keyof Graph.Message, (raw: Buffer, json: Graph.Message) => Buffer>> = {
  subject: (raw, { subject }) => withField(raw, "Subject", encoded(subject ?? "")),
  body: (raw, { body }) => withBody(raw, body?.content ?? "", body?.contentType?.toLowerCase() === "html"),
  toRecipients: (raw, { toRecipients }) => withField(raw, "To", peopleField(peopleIn(toRecipients))),
  ccRecipients: (raw, { ccRecipients }) => withField(raw, "Cc", peopleField(peopleIn(ccRecipients))),
  bccRecipients: (raw, { bccRecipients }) => withField(raw, "Bcc", peopleField(peopleIn(bccRecipients))),
  replyTo: (raw, { replyTo }) => withField(raw, "Reply-To", peopleField(peopleIn(replyTo))),
  from: (raw, { from }) => withField(raw, "From", peopleField(peopleIn(from && [from]))),
  sender: (raw, { sender }) => withField(raw, "Sender", peopleField(peopleIn(sender && [sender]))),
  importance: (raw, { importance }) => withField(raw, "Importance", importance ?? undefined),
  isReadReceiptRequested: (raw, { isReadReceiptRequested }) =>
    withField(
      raw,
      "Disposition-Notification-To",
      isReadReceiptRequested ? (readHead(raw).from?.address ?? "") : undefined,
    ),
  isDeliveryReceiptRequested: (raw, { isDeliveryReceiptRequested }) =>
    withField(raw, "Return-Receipt-To", isDeliveryReceiptRequested ? (readHead(raw).from?.address ?? "") : undefined),
  internetMessageId: (raw, { internetMessageId }) => withField(raw, "Message-ID", internetMessageId ?? undefined),
  internetMessageHeaders: (raw, { internetMessageHeaders }) => withHeaders(raw, internetMessageHeaders ?? []),
};

/** Set beside the content, by the caller. */
const BESIDE = [
  "categories",
  "isRead",
  "flag",
  "attachments",
  "singleValueExtendedProperties",
  "inferenceClassification",
];

/** The message with what the JSON says of its content. Throws 400 for what a draft cannot have. */
export function written(raw: Buffer, json: Graph.Message): Buffer {
  let done = raw;
  for (const name of Object.keys(json) as (keyof Graph.Message)[]) {
    const set = SETTERS[name];
    if (set) done = set(done, json);
    else if (!BESIDE.includes(name) && !name.startsWith("@"))
      throw badRequest(`The property '${name}' does not exist on type 'microsoft.graph.message' or is read only.`);
  }
  return done;
}

function peopleIn(list: Graph.Recipient[] | null | undefined): Person[] {
  return (list ?? []).map(({ emailAddress }) => {
    const { address, name } = emailAddress ?? {};
    if (!address || !/^[^@\s]+@[^@\s]+$/.test(address))
      throw badRequest("At least one recipient is not valid.", "ErrorInvalidRecipients");
    return { address, name: name ?? "" };
  });
}

function withHeaders(raw: Buffer, headers: Graph.InternetMessageHeader[]): Buffer {
  if (headers.length > MOST_HEADERS)
    throw badRequest(
      `Maximum number of headers in one message should be less than or equal to ${MOST_HEADERS}.`,
      "InvalidInternetMessageHeaderCollection",
    );
  return headers.reduce((done, { name, value }) => {
    if (!name || !/^x-/i.test(name))
      throw badRequest(
        `The internet message header name '${name ?? ""}' should start with 'x-' or 'X-'.`,
        "InvalidInternetMessageHeader",
      );
    return withField(done, name, encoded(value ?? ""));
  }, raw);
}

/** What every message of this mailbox has, where the client left it out. */
export function completed(raw: Buffer, mailbox: Mailbox): Buffer {
  const head = readHead(raw);
  let done = raw;
  if (!head.from) done = withField(done, "From", `${encoded(mailbox.displayName)} <${mailbox.mail}>`);
  if (!head.sent) done = withField(done, "Date", new Date().toUTCString().replace("GMT", "+0000"));
  if (!head.messageId) done = withField(done, "Message-ID", newMessageId());
  return done;
}

/** A Message-ID as Exchange Online makes them. */
export function newMessageId(): string {
  const name = randomBytes(16).toString("hex").toUpperCase();
  return `<DB9PR10MB${name}@DB9PR10MB${String(randomUUID()).slice(0, 4)}.EURPRD10.PROD.OUTLOOK.COM>`;
}

/** A file of the JSON. Throws 400 for other kinds of attachment. */
export function fileIn(json: Graph.FileAttachment & { "@odata.type"?: string }, mailbox: Mailbox): File {
  const type = json["@odata.type"];
  if (type !== undefined && type !== "#microsoft.graph.fileAttachment")
    throw badRequest(`An attachment of type '${type}' is not supported here.`, "ErrorInvalidRequest");
  if (!json.name) throw badRequest("The attachment has no name.", "ErrorInvalidRequest");
  const bytes = json.contentBytes;
  if (typeof bytes !== "string" || !/^[A-Za-z0-9+/]*={0,2}$/.test(bytes))
    throw badRequest("Cannot convert the literal to the expected type 'Edm.Binary'.");
  return {
    id: newId("attachment", mailbox.guid),
    name: json.name,
    type: json.contentType ?? "application/octet-stream",
    contentId: json.isInline ? (json.contentId ?? undefined) : undefined,
    content: Buffer.from(bytes, "base64"),
  };
}

/** The extended properties of the JSON, by their id. */
export function extendedIn(json: Graph.Message): Map<string, string> {
  const list = json.singleValueExtendedProperties ?? [];
  return new Map(list.map((one) => [one.id ?? "", one.value ?? ""]));
}
