/** Messages: listed, read, given as MIME, marked, moved, copied and removed. */
import { type Answer, badRequest, GraphError, malformed, notFound } from "../answers.ts";
import { isWellFormed } from "../store/ids.ts";
import { copyMessage, moveMessage, takeOut } from "../store/messages.ts";
import { folderNamed, isInTree, type Mailbox, type Message } from "../store/store.ts";
import type { MailAsk, MailOperation } from "../world.ts";
import { checkEfficient, compareBy, readFilter, readOrder } from "./filter.ts";
import { folderOf, namedFolder, parametersIn } from "./folders.ts";
import { listAnswer, pageOf } from "./paging.ts";
import { attachmentShape, filesOf } from "./files.ts";
import { messageShape, selected } from "./shape.ts";
import { etag } from "../store/change-key.ts";
import { rewrapped } from "./value.ts";

/** The message of this mailbox by either of its ids. Throws 404, and 400 for what is no id. */
export function messageOf(ask: MailAsk, id: string): Message {
  if (!isWellFormed(id)) throw malformed();
  const message = ask.world.store.messages.get(id);
  if (!message) throw notFound();
  if (message.folder.mailbox !== ask.mailbox)
    throw badRequest("Item Id doesn't belong to the current mailbox.", "ErrorInvalidMailboxItemId");
  return message;
}

/** The message that the path names; where it names a folder too, only one of this folder. */
export function namedMessage(ask: MailAsk): Message {
  const message = messageOf(ask, ask.named["message"] ?? "");
  if (ask.named["folder"] !== undefined && message.folder !== namedFolder(ask)) throw notFound();
  return message;
}

export const listMessages: MailOperation = async (ask) => {
  const folder = ask.named["folder"] === undefined ? undefined : namedFolder(ask);
  const { query, mailbox } = ask;
  const text = query.get("$filter");
  const filter = text ? readFilter(text) : undefined;
  const orderText = query.get("$orderby");
  const order = orderText ? readOrder(orderText) : undefined;
  checkEfficient(filter, order);
  const oldestFirst = folder?.sorted ?? mailbox.sorted.filter((one) => isInTree(one.folder));
  const found = (filter ? oldestFirst.filter(filter.test) : oldestFirst).toReversed();
  const page = pageOf(ask, order ? found.toSorted(compareBy(order)) : found);
  const select = selected(query);
  const value = await Promise.all(page.items.map((one) => expanded(ask, one, select)));
  const place = folder ? `mailFolders('${folder.id}')/messages` : "messages";
  return listAnswer(ask, `users('${mailbox.guid}')/${place}`, page, value);
};

/** The message with what $expand names: its files, or extended properties. */
async function expanded(ask: MailAsk, message: Message, select: string[] | undefined): Promise<object> {
  const shape = await messageShape(ask, message, select);
  const wish = ask.query.get("$expand");
  if (wish === null) return shape;
  if (wish === "attachments") {
    const files = await filesOf(message);
    return { ...shape, attachments: files.map((one) => attachmentShape(message, one)) };
  }
  const [, filter] = /^singleValueExtendedProperties\(\$filter=(.*)\)$/i.exec(wish) ?? [];
  if (filter === undefined) throw badRequest(`Parsing OData Select and Expand failed: '${wish}'.`);
  const wanted = [...filter.matchAll(/\bid eq '([^']*)'/gi)].map(([, id = ""]) => id);
  const found = [...message.extended].filter(([id]) => wanted.includes(id)).map(([id, value]) => ({ id, value }));
  return found.length > 0 ? { ...shape, singleValueExtendedProperties: found } : shape;
}

/** The message as the answer of what was done to it. */
export async function entity(ask: MailAsk, message: Message, status = 200): Promise<Answer> {
  const context = `${ask.world.root}/v1.0/$metadata#users('${ask.mailbox.guid}')/messages/$entity`;
  const json = { "@odata.context": context, ...(await expanded(ask, message, selected(ask.query))) };
  return { status, headers: { ETag: etag(message) }, json };
}

export const getMessage: MailOperation = (ask) => entity(ask, namedMessage(ask));

export const getContent: MailOperation = (ask) => {
  const message = namedMessage(ask);
  const { refused, behaviour } = ask.world;
  const refusal = refused.get(message.immutableId);
  if (refusal) throw new GraphError(refusal);
  if (message.raw.length > behaviour.mostValueBytes)
    throw new GraphError({ status: 504, code: "UnknownError", message: "" });
  const bytes = behaviour.rewritesMime ? rewrapped(message.raw) : message.raw;
  return { status: 200, headers: { "Content-Type": "text/plain" }, bytes, chunked: true };
};

/** Content is given by the mailbox's path alone; with a folder before it Graph says that it cannot. */
export const refuseContentByFolder: MailOperation = () => {
  throw new GraphError({ status: 405, code: "ErrorInvalidRequest", message: "The OData request is not supported." });
};

/** Throws 412 where If-Match names another version. */
export function checkVersion({ request }: MailAsk, message: Message): void {
  const wanted = request.headers["if-match"];
  if (wanted === undefined || wanted === "*" || wanted === etag(message)) return;
  throw new GraphError({
    status: 412,
    code: "ErrorIrresolvableConflict",
    message:
      "The send or update operation could not be performed because the change key passed in the request does not match the current change key for the item.",
  });
}

function destination(ask: MailAsk) {
  const { destinationId } = parametersIn<{ destinationId?: string }>(ask);
  if (!destinationId) throw badRequest("The destinationId is missing.", "ErrorInvalidRequest");
  return folderOf(ask.mailbox, destinationId);
}

export const move: MailOperation = (ask) => {
  const message = namedMessage(ask);
  moveMessage(ask.world.store, message, destination(ask));
  return entity(ask, message, 201);
};

export const copy: MailOperation = (ask) =>
  entity(ask, copyMessage(ask.world.store, namedMessage(ask), destination(ask)), 201);

function named(mailbox: Mailbox, wellKnown: string) {
  const folder = folderNamed(mailbox, wellKnown);
  if (!folder) throw new Error(`${mailbox.userPrincipalName} has no ${wellKnown}`);
  return folder;
}

/** To Deleted Items, and from there to Recoverable Items. */
export const deleteMessage: MailOperation = (ask) => {
  const message = namedMessage(ask);
  checkVersion(ask, message);
  const deleted = named(ask.mailbox, "deleteditems");
  const target = message.folder === deleted ? named(ask.mailbox, "recoverableitemsdeletions") : deleted;
  moveMessage(ask.world.store, message, target);
  return { status: 204 };
};

export const permanentDelete: MailOperation = (ask) => {
  takeOut(ask.world.store, namedMessage(ask));
  return { status: 204 };
};
