/** SyncFolderItems: what changed in a folder since a sync state of the server, page by page. */
import type { FolderId } from "ews-javascript-api";
import { findElements, type XmlElement, findText, findElement } from "../soap/elements.ts";
import { escapeXml, protocolProblem } from "../soap/xml.ts";
import { type ResponseMessage, streamResponses, fieldsXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** A message that appeared. `receivedAt` in milliseconds since 1970; null if the server does not say it. */
export type SyncItem = { key: string; size: number; receivedAt: number | null };

/** Messages that appeared since the last sync state, the new sync state, and whether this is the last page. */
export type SyncPage = { items: SyncItem[]; state: string; last: boolean };

/** The requested fields of each item. The server has all of them without opening the message. */
export const ITEM_FIELDS = [
  "item:DateTimeReceived",
  "item:DateTimeCreated",
  "item:Size",
  "item:ItemClass",
  "item:IsDraft",
];
/** The most that Exchange returns at once. */
const CHANGES_AT_ONCE = 512;
/** Item classes that are mail: messages, meeting requests and their answers, reports, invitations to shared folders. */
const MAIL_CLASSES = /^(IPM\.Note|IPM\.Schedule|IPM\.Sharing|REPORT)(\.|$)/i;
/** An item that Exchange returns as a message is mail, whatever its class: forms and recalls have their own classes. */
const MESSAGE_ELEMENTS = /^(Message|Meeting\w+|SharingMessage)$/;
/** Messages that chat programs leave behind. */
const CHAT_CLASSES = /^IPM\.(Note\.Microsoft\.Conversation|SkypeTeams)(\.|$)/i;
/** The codes for a missing folder. */
const FOLDER_NOT_FOUND_CODES = new Set([
  "ErrorSyncFolderNotFound",
  "ErrorFolderNotFound",
  "ErrorItemNotFound",
  "ErrorInvalidFolderId",
]);

/**
 * The next page of a folder. `invalid`: the server rejects the sync state. `missing`: there is no such folder. Every
 * other failure is thrown as a Problem.
 */
export async function syncFolderItems(
  session: EwsSession,
  { folder, state }: { folder: FolderId; state: string },
  signal: AbortSignal,
): Promise<SyncPage | "invalid" | "missing"> {
  const content =
    `<m:ItemShape>${fieldsXml(ITEM_FIELDS)}</m:ItemShape>` +
    `<m:SyncFolderId>${folderXml(session, folder)}</m:SyncFolderId>` +
    (state === "" ? "" : `<m:SyncState>${escapeXml(state)}</m:SyncState>`) +
    `<m:MaxChangesReturned>${CHANGES_AT_ONCE}</m:MaxChangesReturned><m:SyncScope>NormalItems</m:SyncScope>`;
  let answer: ResponseMessage | undefined;
  // Read to the end, because a partly read answer costs its connection.
  for await (const one of streamResponses(session, { name: "SyncFolderItems", content }, signal)) answer ??= one;
  if (!answer) throw protocolProblem("nothing");
  if (answer.code === "ErrorInvalidSyncStateData") return "invalid";
  if (FOLDER_NOT_FOUND_CODES.has(answer.code)) return "missing";
  if (answer.problem) throw answer.problem;
  return toSyncPage(answer.message);
}

function toSyncPage(message: XmlElement): SyncPage {
  const state = findText(message, "SyncState");
  if (!state) throw protocolProblem("changes without a state");
  const created = findElements(message, "Create").flatMap(({ children }) => children);
  return {
    items: created.flatMap(toSyncItems),
    state,
    last: findText(message, "IncludesLastItemInRange") !== "false",
  };
}

/** An item as a message. Empty if it is no mail, or a draft. */
export function toSyncItems(item: XmlElement): SyncItem[] {
  const key = findElement(item, "ItemId")?.attributes["Id"];
  const kind = findText(item, "ItemClass") ?? "";
  const mail = (MAIL_CLASSES.test(kind) || MESSAGE_ELEMENTS.test(item.name)) && !CHAT_CLASSES.test(kind);
  if (key === undefined || !mail || findText(item, "IsDraft") === "true") return [];
  const received = findText(item, "DateTimeReceived") ?? findText(item, "DateTimeCreated");
  const at = received === null ? Number.NaN : Date.parse(received);
  const size = Number(findText(item, "Size") ?? 0);
  return [{ key, size: Number.isSafeInteger(size) && size > 0 ? size : 0, receivedAt: Number.isNaN(at) ? null : at }];
}
