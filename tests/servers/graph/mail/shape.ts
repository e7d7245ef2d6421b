/** Messages and folders in the JSON of Graph, checked against Microsoft's own types. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import PostalMime, { type Email } from "postal-mime";
import type { Person } from "../../exchange/letter.ts";
import { badRequest } from "../answers.ts";
import { changeKey, etag } from "../store/change-key.ts";
import { childrenOf, type Folder, type Message } from "../store/store.ts";
import { mayRead } from "../login/permissions.ts";
import { idFor, type Ask, type MailAsk } from "../world.ts";

/** A time as Graph writes it: in whole seconds. */
export function moment(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}

const parsed = new WeakMap<Buffer, Promise<Email>>();

/** The decoded body and files of a message. */
export function decoded(raw: Buffer): Promise<Email> {
  const known = parsed.get(raw);
  if (known) return known;
  const email = new PostalMime({ attachmentEncoding: "arraybuffer", forceRfc822Attachments: true }).parse(raw);
  parsed.set(raw, email);
  return email;
}

function recipient({ name, address }: Person): Graph.Recipient {
  return { emailAddress: { name: name || address, address } };
}

/** An element as it is, with what OData says about it. */
export type OData<Shape> = Shape & { "@odata.type"?: string; "@odata.etag"?: string; "@odata.context"?: string };

type From = (message: Message, ask: Pick<Ask, "prefer">) => unknown;

/** Each property from the message; every value is of the type that Microsoft gives it. */
const PROPERTIES = {
  id: (one, ask) => idFor(ask, one),
  createdDateTime: (one) => moment(one.createdAt),
  lastModifiedDateTime: (one) => moment(one.modifiedAt),
  changeKey,
  categories: (one) => one.categories,
  receivedDateTime: (one) => moment(one.receivedAt),
  sentDateTime: (one) => moment(one.head.sent ?? one.createdAt),
  hasAttachments: (one) => one.head.hasAttachments || one.files.some((file) => file.contentId === undefined),
  internetMessageId: (one) => one.head.messageId ?? null,
  subject: (one) => one.head.subject,
  bodyPreview: async (one) => (await wordsOf(one)).slice(0, 255),
  importance: (one) => one.head.importance.toLowerCase() as Graph.Importance,
  parentFolderId: (one) => one.folder.id,
  conversationId: (one) => one.conversationId,
  conversationIndex: (one) => Buffer.from(one.conversationId).toString("base64"),
  isDeliveryReceiptRequested: (one) => (one.isDraft ? false : null),
  isReadReceiptRequested: (one) => one.head.fields.some(({ name }) => /^disposition-notification-to$/i.test(name)),
  isRead: (one) => one.isRead,
  isDraft: (one) => one.isDraft,
  webLink: (one) => `https://outlook.office365.com/owa/?ItemID=${encodeURIComponent(one.id)}&viewmodel=ReadMessageItem`,
  inferenceClassification: () => "focused",
  body: bodyOf,
  sender: (one) => (one.head.sender ? recipient(one.head.sender) : null),
  from: (one) => (one.head.from ? recipient(one.head.from) : null),
  toRecipients: (one) => one.head.to.map(recipient),
  ccRecipients: (one) => one.head.cc.map(recipient),
  bccRecipients: (one) => (one.isDraft || one.folder.wellKnown === "sentitems" ? one.head.bcc.map(recipient) : []),
  replyTo: (one) => one.head.replyTo.map(recipient),
  flag: (one) => ({ flagStatus: one.flag }),
  // These two are given only when they are selected.
  uniqueBody: bodyOf,
  internetMessageHeaders: (one) => one.head.fields,
} satisfies {
  [Name in keyof Graph.Message]?: (
    message: Message,
    ask: Pick<Ask, "prefer">,
  ) => Graph.Message[Name] | Promise<Graph.Message[Name]>;
};

const ON_REQUEST = ["uniqueBody", "internetMessageHeaders"];
const NAMES = Object.keys(PROPERTIES);
const USUAL = NAMES.filter((one) => !ON_REQUEST.includes(one));

/** What $select names; undefined for all. Throws 400 for a property that messages do not have. */
export function selected(query: URLSearchParams): string[] | undefined {
  const text = query.get("$select");
  if (text === null || text === "") return undefined;
  const names = text.split(",").map((one) => one.trim());
  const unknown = names.find((one) => !NAMES.includes(one));
  if (unknown !== undefined)
    throw badRequest(`Could not find a property named '${unknown}' on type 'microsoft.graph.message'.`);
  return names;
}

const BODIES = ["body", "bodyPreview", "uniqueBody"];

/** The message with the selected properties; without bodies for who may not read them. */
export async function messageShape(ask: MailAsk, message: Message, select: string[] | undefined): Promise<object> {
  const values: Record<string, From> = PROPERTIES;
  const shape: Record<string, unknown> = { "@odata.etag": etag(message) };
  if (isMeeting(message)) shape["@odata.type"] = "#microsoft.graph.eventMessageRequest";
  const reads = mayRead(ask.world, ask.caller, ask.mailbox);
  for (const name of new Set(["id", ...(select ?? USUAL)]))
    if (reads || !BODIES.includes(name)) shape[name] = await values[name]?.(message, ask);
  return shape;
}

function isMeeting({ raw }: Message): boolean {
  return /^content-type:\s*text\/calendar[^\r\n]*method=request/im.test(raw.subarray(0, 65_536).toString("latin1"));
}

async function wordsOf({ raw }: Message): Promise<string> {
  const { text = "", html = "" } = await decoded(raw);
  return text || html.replace(/<[^>]*>/g, " ");
}

async function bodyOf(message: Message, { prefer }: Pick<Ask, "prefer">): Promise<Graph.ItemBody> {
  const { html } = await decoded(message.raw);
  if (prefer.text || html === undefined) return { contentType: "text", content: await wordsOf(message) };
  return { contentType: "html", content: html };
}

/** A folder with its counts. */
export function folderShape(folder: Folder): OData<Graph.MailFolder> {
  let unread = 0;
  for (const one of folder.messages.values()) if (!one.isRead) unread++;
  return {
    ...(folder.search && { "@odata.type": "#microsoft.graph.mailSearchFolder" }),
    id: folder.id,
    displayName: folder.name,
    parentFolderId: folder.parent?.id ?? "",
    childFolderCount: childrenOf(folder).length,
    unreadItemCount: unread,
    totalItemCount: folder.messages.size,
    isHidden: folder.hidden,
  } satisfies OData<Graph.MailFolder>;
}
