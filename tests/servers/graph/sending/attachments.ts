/** The files of a message: listed, read, added to a draft and removed from it. */
import type * as Graph from "@microsoft/microsoft-graph-types";
import { type Answer, notFound } from "../answers.ts";
import type { File } from "../../exchange/letter.ts";
import { jsonIn } from "../mail/folders.ts";
import { namedMessage } from "../mail/messages.ts";
import { listAnswer, pageOf } from "../mail/paging.ts";
import { attachmentShape, type AttachmentShape, filesOf } from "../mail/files.ts";
import { changed } from "../store/messages.ts";
import type { Message } from "../store/store.ts";
import type { MailAsk, MailOperation } from "../world.ts";
import { checkSize, fileIn } from "./compose.ts";
import { namedDraft } from "./drafts.ts";

function selected({ query }: MailAsk, shape: AttachmentShape): object {
  const select = query
    .get("$select")
    ?.split(",")
    .map((one) => one.trim());
  if (!select) return shape;
  const kept = Object.entries(shape).filter(([name]) => name === "id" || name.startsWith("@") || select.includes(name));
  return Object.fromEntries(kept);
}

export const listAttachments: MailOperation = async (ask) => {
  const message = namedMessage(ask);
  const page = pageOf(ask, await filesOf(message), 1000);
  const value = page.items.map((one) => selected(ask, attachmentShape(message, one)));
  return listAnswer(ask, `users('${ask.mailbox.guid}')/messages('${message.id}')/attachments`, page, value);
};

async function namedFile(ask: MailAsk, message: Message): Promise<File> {
  const file = (await filesOf(message)).find((one) => one.id === ask.named["attachment"]);
  if (!file) throw notFound();
  return file;
}

function entity(ask: MailAsk, message: Message, file: File, status: number): Answer {
  const context = `${ask.world.root}/v1.0/$metadata#users('${ask.mailbox.guid}')/messages('${message.id}')/attachments/$entity`;
  return { status, json: { "@odata.context": context, ...selected(ask, attachmentShape(message, file)) } };
}

export const getAttachment: MailOperation = async (ask) => {
  const message = namedMessage(ask);
  return entity(ask, message, await namedFile(ask, message), 200);
};

export const getAttachmentContent: MailOperation = async (ask) => {
  const { type, content } = await namedFile(ask, namedMessage(ask));
  return { status: 200, headers: { "Content-Type": type }, bytes: content, chunked: true };
};

/** Puts a file into a draft. */
export function attach({ world }: Pick<MailAsk, "world">, message: Message, file: File): void {
  message.files.push(file);
  changed(world.store, message, false);
}

export const addAttachment: MailOperation = (ask) => {
  checkSize(ask);
  const message = namedDraft(ask);
  const file = fileIn(jsonIn<Graph.FileAttachment>(ask), ask.mailbox);
  attach(ask, message, file);
  return entity(ask, message, file, 201);
};

export const deleteAttachment: MailOperation = async (ask) => {
  const message = namedDraft(ask);
  const file = await namedFile(ask, message);
  message.files = message.files.filter((one) => one !== file);
  changed(ask.world.store, message, false);
  return { status: 204 };
};
