/** SyncFolderItems: what changed in a folder since a state that the server wrote, a page at a time. */
import type { FolderId } from "ews-javascript-api";
import { allWithin, type Element, textWithin, within } from "../soap/elements.ts";
import { escaped, unreadable } from "../soap/xml.ts";
import { type Answer, answersTo, fieldsXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** A message that appeared. `receivedAt` in milliseconds since 1970; null where the server does not say. */
export type Item = { key: string; size: number; receivedAt: number | null };

/** Messages that appeared since the last state, the state that lies after them, and whether there are more. */
export type Page = { items: Item[]; state: string; last: boolean };

/** What is asked of each item; all of it is there without opening the message. */
export const ITEM_FIELDS = [
  "item:DateTimeReceived",
  "item:DateTimeCreated",
  "item:Size",
  "item:ItemClass",
  "item:IsDraft",
];
/** The most that Exchange gives at once. */
const CHANGES_AT_ONCE = 512;
/** What is mail by its class: messages, meeting requests and their answers, reports, invitations to shared folders. */
const MAIL = /^(IPM\.Note|IPM\.Schedule|IPM\.Sharing|REPORT)(\.|$)/i;
/** What Exchange gives as a message is one, whatever its class: forms and recalls have classes of their own. */
const MESSAGE = /^(Message|Meeting\w+|SharingMessage)$/;
/** What chats leave behind as messages. */
const CHAT = /^IPM\.(Note\.Microsoft\.Conversation|SkypeTeams)(\.|$)/i;
/** What a folder that is not there is called here. */
const NO_FOLDER = new Set([
  "ErrorSyncFolderNotFound",
  "ErrorFolderNotFound",
  "ErrorItemNotFound",
  "ErrorInvalidFolderId",
]);

/**
 * The next page of a folder. `invalid`: the server does not take the state (any more), `missing`: there is no such folder. Everything
 * else that goes wrong is thrown as a Problem.
 */
export async function syncPage(
  session: EwsSession,
  { folder, state }: { folder: FolderId; state: string },
  signal: AbortSignal,
): Promise<Page | "invalid" | "missing"> {
  const content =
    `<m:ItemShape>${fieldsXml(ITEM_FIELDS)}</m:ItemShape>` +
    `<m:SyncFolderId>${folderXml(session, folder)}</m:SyncFolderId>` +
    (state === "" ? "" : `<m:SyncState>${escaped(state)}</m:SyncState>`) +
    `<m:MaxChangesReturned>${CHANGES_AT_ONCE}</m:MaxChangesReturned><m:SyncScope>NormalItems</m:SyncScope>`;
  let answer: Answer | undefined;
  // To the end: an answer that is left half read costs its connection.
  for await (const one of answersTo(session, { name: "SyncFolderItems", content }, signal)) answer ??= one;
  if (!answer) throw unreadable("nothing");
  if (answer.code === "ErrorInvalidSyncStateData") return "invalid";
  if (NO_FOLDER.has(answer.code)) return "missing";
  if (answer.problem) throw answer.problem;
  return pageOf(answer.message);
}

function pageOf(message: Element): Page {
  const state = textWithin(message, "SyncState");
  if (!state) throw unreadable("changes without a state");
  const created = allWithin(message, "Create").flatMap(({ children }) => children);
  return {
    items: created.flatMap(itemOf),
    state,
    last: textWithin(message, "IncludesLastItemInRange") !== "false",
  };
}

/** An item as a message; none where it is no mail, or one that nobody has sent yet. */
export function itemOf(item: Element): Item[] {
  const key = within(item, "ItemId")?.attributes["Id"];
  const kind = textWithin(item, "ItemClass") ?? "";
  const mail = (MAIL.test(kind) || MESSAGE.test(item.name)) && !CHAT.test(kind);
  if (key === undefined || !mail || textWithin(item, "IsDraft") === "true") return [];
  const received = textWithin(item, "DateTimeReceived") ?? textWithin(item, "DateTimeCreated");
  const at = received === null ? Number.NaN : Date.parse(received);
  const size = Number(textWithin(item, "Size") ?? 0);
  return [{ key, size: Number.isSafeInteger(size) && size > 0 ? size : 0, receivedAt: Number.isNaN(at) ? null : at }];
}
