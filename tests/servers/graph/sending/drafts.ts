/** Drafts: made from JSON or MIME, and changed. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import { badRequest, denied } from "../answers.ts";
import { jsonIn, namedFolder } from "../mail/folders.ts";
import { checkVersion, entity, namedMessage } from "../mail/messages.ts";
import { addMessage, changed } from "../store/messages.ts";
import { type Folder, folderNamed, type Mailbox } from "../store/store.ts";
import type { MailAsk, MailOperation } from "../world.ts";
import { checkSize, completed, extendedIn, fileIn, isMime, mimeIn, written } from "./compose.ts";

export const createDraft: MailOperation = (ask) => {
  checkSize(ask);
  const folder = ask.named["folder"] === undefined ? draftsOf(ask.mailbox) : namedFolder(ask);
  const draft = isMime(ask) ? { raw: mimeIn(ask) } : fromJson(ask.mailbox, jsonIn<Graph.Message>(ask));
  const raw = completed(draft.raw, ask.mailbox);
  const message = addMessage(ask.world.store, folder, { isRead: true, isDraft: true, ...draft, raw });
  return entity(ask, message, 201);
};

export function draftsOf(mailbox: Mailbox): Folder {
  const folder = folderNamed(mailbox, "drafts");
  if (!folder) throw new Error(`${mailbox.userPrincipalName} has no drafts`);
  return folder;
}

/** What the JSON of a message makes. */
export function fromJson(mailbox: Mailbox, json: Graph.Message) {
  const blank = Buffer.from("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n");
  return {
    raw: written(blank, json),
    files: (json.attachments ?? []).map((one) => fileIn(one, mailbox)),
    extended: extendedIn(json),
    categories: json.categories ?? [],
    ...(typeof json.isRead === "boolean" && { isRead: json.isRead }),
  };
}

/** Marks anything, and changes the content of drafts alone. */
export const updateMessage: MailOperation = (ask) => {
  const message = namedMessage(ask);
  checkVersion(ask, message);
  const json = jsonIn<Graph.Message>(ask);
  const { isRead, categories, flag, singleValueExtendedProperties, ...content } = json;
  delete content.inferenceClassification;
  if (categories && !categories.every((one) => typeof one === "string")) throw badRequest("Categories are strings.");
  const isContent = Object.keys(content).some((one) => !one.startsWith("@"));
  if (isContent && !message.isDraft) throw denied();
  if (isContent) message.raw = written(message.raw, content);
  if (typeof isRead === "boolean") message.isRead = isRead;
  if (categories) message.categories = [...categories];
  if (flag?.flagStatus) message.flag = flag.flagStatus;
  if (singleValueExtendedProperties) for (const [id, value] of extendedIn(json)) message.extended.set(id, value);
  changed(ask.world.store, message, !isContent && !singleValueExtendedProperties);
  return entity(ask, message);
};

/** Throws 400 unless the message that the path names is a draft. */
export function namedDraft(ask: MailAsk) {
  const message = namedMessage(ask);
  if (message.isDraft) return message;
  throw badRequest("The operation can only be performed on a draft.", "ErrorInvalidRequest");
}
