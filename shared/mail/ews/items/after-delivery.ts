/** What happens on an Exchange server once an endpoint has accepted messages: marked, moved, or put into Deleted Items. */
import type { FolderId } from "ews-javascript-api";
import type { Tidying } from "../../../contract/mailbox.ts";
import type { MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { allWithin, type Element, within } from "../soap/elements.ts";
import { escaped } from "../soap/xml.ts";
import { answersTo, fieldsXml, folderXml, itemsXml, type Operation } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** `folder` finds the folder of a name, and makes it when there is none. */
export type TidyPlace = { session: EwsSession; folder: (name: string, signal: AbortSignal) => Promise<FolderId> };

const AT_ONCE = 100;

/** The tidy of MailConnection. Messages that are gone are skipped. */
export async function tidyOver(
  place: TidyPlace,
  messages: MessageRef[],
  action: Tidying,
  signal: AbortSignal,
): Promise<void> {
  const keys = messages.flatMap(({ key }) => (key === undefined ? [] : [key]));
  for (let start = 0; start < keys.length; start += AT_ONCE) {
    await perform(place, keys.slice(start, start + AT_ONCE), action, signal);
  }
}

async function perform(place: TidyPlace, keys: string[], action: Tidying, signal: AbortSignal): Promise<void> {
  const { session } = place;
  if (action === "markRead")
    return update(
      session,
      keys.map((key) => setItem(key, READ)),
      signal,
    );
  if (action === "delete" || "deleteAfterDays" in action) return done(session, remove(keys), signal);
  if ("keyword" in action) return categorize(session, keys, action.keyword, signal);
  const to = folderXml(session, await place.folder(action.move, signal));
  await done(session, { name: "MoveItem", content: `<m:ToFolderId>${to}</m:ToFolderId>${itemsXml(keys)}` }, signal);
}

/** Nobody is to get a receipt for what a program has read or put away; servers before Exchange 2013 do not know the attribute. */
const NO_RECEIPTS = ' SuppressReadReceipts="true"';
const READ = {
  field: "message:IsRead",
  value: "<t:Message><t:IsRead>true</t:IsRead></t:Message>",
};

function remove(keys: string[]): Operation {
  const attributes = ` DeleteType="MoveToDeletedItems" SendMeetingCancellations="SendToNone" AffectedTaskOccurrences="AllOccurrences"${NO_RECEIPTS}`;
  return { name: "DeleteItem", attributes, content: itemsXml(keys) };
}

async function update(session: EwsSession, changes: string[], signal: AbortSignal): Promise<void> {
  if (changes.length === 0) return;
  const attributes = ` MessageDisposition="SaveOnly" ConflictResolution="AlwaysOverwrite"${NO_RECEIPTS}`;
  const content = `<m:ItemChanges>${changes.join("")}</m:ItemChanges>`;
  await done(session, { name: "UpdateItem", attributes, content }, signal);
}

function setItem(key: string, { field, value }: { field: string; value: string }): string {
  const set = `<t:SetItemField><t:FieldURI FieldURI="${field}"/>${value}</t:SetItemField>`;
  return `<t:ItemChange><t:ItemId Id="${escaped(key)}"/><t:Updates>${set}</t:Updates></t:ItemChange>`;
}

/** One more category; Exchange knows no way to add one, so those that are there are written again. */
async function categorize(session: EwsSession, keys: string[], word: string, signal: AbortSignal): Promise<void> {
  const content = `<m:ItemShape>${fieldsXml(["item:Categories"])}</m:ItemShape>${itemsXml(keys)}`;
  const changes: string[] = [];
  for await (const item of some(session, { name: "GetItem", content }, signal)) {
    const key = within(item, "ItemId")?.attributes["Id"];
    const own = allWithin(item, "Categories").flatMap((list) =>
      allWithin(list, "String").map(({ text }) => text.trim()),
    );
    if (key === undefined || own.includes(word)) continue;
    const all = [...own, word].map((one) => `<t:String>${escaped(one)}</t:String>`).join("");
    const value = `<t:Message><t:Categories>${all}</t:Categories></t:Message>`;
    changes.push(setItem(key, { field: "item:Categories", value }));
  }
  await update(session, changes, signal);
}

async function done(session: EwsSession, operation: Operation, signal: AbortSignal): Promise<void> {
  try {
    for await (const _ of some(session, operation, signal));
  } catch (error) {
    const old = error instanceof Problem && /^Error(SchemaValidation|InvalidRequest)\b/.test(error.evidence ?? "");
    const { attributes = "" } = operation;
    if (!old || !attributes.includes(NO_RECEIPTS)) throw error;
    await done(session, { ...operation, attributes: attributes.replace(NO_RECEIPTS, "") }, signal);
  }
}

/** The answers about messages that are there. */
async function* some(session: EwsSession, operation: Operation, signal: AbortSignal): AsyncGenerator<Element> {
  for await (const { message, problem } of answersTo(session, operation, signal)) {
    if (problem && problem.code !== "gone") throw problem;
    if (!problem) yield message;
  }
}
