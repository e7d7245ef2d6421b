/** Marks or moves messages on an Exchange server after their delivery, or puts them into Deleted Items. */
import type { FolderId } from "ews-javascript-api";
import type { AfterDeliveryAction } from "../../../contract/mailbox.ts";
import type { MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { findElements, type XmlElement, findElement } from "../soap/elements.ts";
import { escapeXml } from "../soap/xml.ts";
import { streamResponses, fieldsXml, folderXml, itemsXml, type Operation } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** `folder` finds the folder of a name, and creates it if there is none. */
export type AfterDeliveryTarget = {
  session: EwsSession;
  folder: (name: string, signal: AbortSignal) => Promise<FolderId>;
};

const BATCH_SIZE = 100;

/** `applyAfterDelivery` of MailConnection. Missing messages are skipped. */
export async function applyAfterDelivery(
  target: AfterDeliveryTarget,
  messages: MessageRef[],
  action: AfterDeliveryAction,
  signal: AbortSignal,
): Promise<void> {
  const keys = messages.flatMap(({ key }) => (key === undefined ? [] : [key]));
  for (let start = 0; start < keys.length; start += BATCH_SIZE) {
    await applyBatch(target, keys.slice(start, start + BATCH_SIZE), action, signal);
  }
}

async function applyBatch(
  target: AfterDeliveryTarget,
  keys: string[],
  action: AfterDeliveryAction,
  signal: AbortSignal,
): Promise<void> {
  const { session } = target;
  if (action === "markRead")
    return updateItems(
      session,
      keys.map((key) => setItemXml(key, READ)),
      signal,
    );
  if (action === "delete" || "deleteAfterDays" in action) return runOperation(session, deleteOperation(keys), signal);
  if ("keyword" in action) return addCategory(session, keys, action.keyword, signal);
  const to = folderXml(session, await target.folder(action.move, signal));
  await runOperation(
    session,
    { name: "MoveItem", content: `<m:ToFolderId>${to}</m:ToFolderId>${itemsXml(keys)}` },
    signal,
  );
}

/**
 * Nobody should get a receipt because a program read or moved a message. Servers before Exchange 2013 do not know this
 * attribute.
 */
const NO_RECEIPTS = ' SuppressReadReceipts="true"';
const READ = {
  field: "message:IsRead",
  value: "<t:Message><t:IsRead>true</t:IsRead></t:Message>",
};

function deleteOperation(keys: string[]): Operation {
  const attributes = ` DeleteType="MoveToDeletedItems" SendMeetingCancellations="SendToNone" AffectedTaskOccurrences="AllOccurrences"${NO_RECEIPTS}`;
  return { name: "DeleteItem", attributes, content: itemsXml(keys) };
}

async function updateItems(session: EwsSession, changes: string[], signal: AbortSignal): Promise<void> {
  if (changes.length === 0) return;
  const attributes = ` MessageDisposition="SaveOnly" ConflictResolution="AlwaysOverwrite"${NO_RECEIPTS}`;
  const content = `<m:ItemChanges>${changes.join("")}</m:ItemChanges>`;
  await runOperation(session, { name: "UpdateItem", attributes, content }, signal);
}

function setItemXml(key: string, { field, value }: { field: string; value: string }): string {
  const set = `<t:SetItemField><t:FieldURI FieldURI="${field}"/>${value}</t:SetItemField>`;
  return `<t:ItemChange><t:ItemId Id="${escapeXml(key)}"/><t:Updates>${set}</t:Updates></t:ItemChange>`;
}

/** Adds a category. Exchange cannot add one, so the present ones are written again with it. */
async function addCategory(session: EwsSession, keys: string[], category: string, signal: AbortSignal): Promise<void> {
  const content = `<m:ItemShape>${fieldsXml(["item:Categories"])}</m:ItemShape>${itemsXml(keys)}`;
  const changes: string[] = [];
  for await (const item of streamExisting(session, { name: "GetItem", content }, signal)) {
    const key = findElement(item, "ItemId")?.attributes["Id"];
    const existing = findElements(item, "Categories").flatMap((list) =>
      findElements(list, "String").map(({ text }) => text.trim()),
    );
    if (key === undefined || existing.includes(category)) continue;
    const all = [...existing, category].map((one) => `<t:String>${escapeXml(one)}</t:String>`).join("");
    const value = `<t:Message><t:Categories>${all}</t:Categories></t:Message>`;
    changes.push(setItemXml(key, { field: "item:Categories", value }));
  }
  await updateItems(session, changes, signal);
}

async function runOperation(session: EwsSession, operation: Operation, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of streamExisting(session, operation, signal));
  } catch (error) {
    const isOldServer =
      error instanceof Problem && /^Error(SchemaValidation|InvalidRequest)\b/.test(error.evidence ?? "");
    const { attributes = "" } = operation;
    if (!isOldServer || !attributes.includes(NO_RECEIPTS)) throw error;
    await runOperation(session, { ...operation, attributes: attributes.replace(NO_RECEIPTS, "") }, signal);
  }
}

/** The answers for messages that exist. */
async function* streamExisting(
  session: EwsSession,
  operation: Operation,
  signal: AbortSignal,
): AsyncGenerator<XmlElement> {
  for await (const { message, problem } of streamResponses(session, operation, signal)) {
    if (problem && problem.code !== "gone") throw problem;
    if (!problem) yield message;
  }
}
