/** FindItem: messages of a folder by their date or by their Message-ID, whatever the cursors say. */
import { createHash } from "node:crypto";
import { RESYNC_EPOCH, type MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { clock } from "../../../time.ts";
import { splitIntoBatches } from "../../batches.ts";
import { findElement } from "../soap/elements.ts";
import type { WatchedFolder } from "./folders.ts";
import { escapeXml } from "../soap/xml.ts";
import { executeOperation, fieldsXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";
import { type SyncItem, ITEM_FIELDS, toSyncItems } from "./sync-folder-items.ts";

const ITEMS_AT_ONCE = 500;
/** Message-IDs in one request. */
const IDS_AT_ONCE = 20;
const SECOND = 1000;

type ItemPage = { items: SyncItem[]; count: number; last: boolean };
const NO_ITEMS: ItemPage = { items: [], count: 0, last: true };

/**
 * Messages of a folder received at or after a date, oldest first, in batches. A page starts at the last date of the
 * page before, not at an offset: if somebody deletes messages meanwhile, offsets would shift.
 */
export async function* findReceivedSince(
  session: EwsSession,
  watched: WatchedFolder,
  since: Date,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  let from = since.getTime();
  let carried: SyncItem[] = [];
  let offset = 0;
  for (;;) {
    const restriction = receivedSinceXml(new Date(from));
    const { items, count, last } = await findItems(session, watched, { restriction, offset }, signal);
    const reached = last ? Infinity : Math.max(from, ...items.map(({ receivedAt }) => receivedAt ?? 0));
    if (reached === from) {
      // More messages of one second than fit into a page are handed over together.
      carried.push(...items);
      offset += count;
      continue;
    }
    // The messages of the page's last second come again with the next page.
    const whole = [...carried, ...items.filter(({ receivedAt }) => (receivedAt ?? 0) < reached)];
    yield* splitIntoBatches(whole.map((item) => toMessageRef(watched.path, item)));
    if (last) return;
    [from, carried, offset] = [reached, [], 0];
  }
}

/** Messages of a folder with one of these Message-IDs, in batches. Ids that the folder does not have are skipped. */
export async function* findByMessageIds(
  session: EwsSession,
  watched: WatchedFolder,
  messageIds: string[],
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  for (let start = 0; start < messageIds.length; start += IDS_AT_ONCE) {
    const some = messageIds.slice(start, start + IDS_AT_ONCE);
    let offset = 0;
    for (let last = false; !last;) {
      const page = await findItems(session, watched, { restriction: messageIdRestriction(some), offset }, signal);
      yield* splitIntoBatches(page.items.map((item) => toMessageRef(watched.path, item)));
      offset += page.count;
      last = page.last;
    }
  }
}

/**
 * Whether a folder lists the message with the id `key`. It is looked for among those of its time, or of its size if the
 * server gave no time. False if there is no such folder any more.
 */
export async function isListed(
  session: EwsSession,
  watched: WatchedFolder,
  ref: MessageRef,
  signal: AbortSignal,
): Promise<boolean> {
  const restriction = ref.undated
    ? comparisonXml("IsEqualTo", "item:Size", String(ref.size))
    : receivedAboutXml(Date.parse(ref.receivedAt));
  let offset = 0;
  for (let last = false; !last;) {
    const page = await findItems(session, watched, { restriction, offset }, signal).catch((error: unknown) => {
      if (error instanceof Problem && (error.code === "folder" || error.code === "gone")) return NO_ITEMS;
      throw error;
    });
    if (page.items.some(({ key }) => key === ref.key)) return true;
    offset += page.count;
    last = page.last;
  }
  return false;
}

/** How many items of a folder were received at or after a date. */
export async function countReceivedSince(
  session: EwsSession,
  { folder }: Pick<WatchedFolder, "folder">,
  since: Date,
  signal: AbortSignal,
): Promise<number> {
  const content =
    `<m:ItemShape><t:BaseShape>IdOnly</t:BaseShape></m:ItemShape>` +
    `<m:IndexedPageItemView MaxEntriesReturned="1" Offset="0" BasePoint="Beginning"/>` +
    `<m:Restriction>${receivedSinceXml(since)}</m:Restriction>` +
    `<m:ParentFolderIds>${folderXml(session, folder)}</m:ParentFolderIds>`;
  const operation = { name: "FindItem", attributes: ' Traversal="Shallow"', content };
  const answer = await executeOperation(session, operation, signal);
  return Number(findElement(answer, "RootFolder")?.attributes["TotalItemsInView"] ?? 0);
}

/** A server compares whole seconds. */
function receivedAboutXml(at: number): string {
  const until = comparisonXml("IsLessThanOrEqualTo", "item:DateTimeReceived", new Date(at + SECOND).toISOString());
  return `<t:And>${receivedSinceXml(new Date(at - SECOND))}${until}</t:And>`;
}

function receivedSinceXml(since: Date): string {
  return comparisonXml("IsGreaterThanOrEqualTo", "item:DateTimeReceived", since.toISOString());
}

/** A restriction to items with one of these Message-IDs. */
export function messageIdRestriction(messageIds: readonly string[]): string {
  const each = messageIds.map((id) => comparisonXml("IsEqualTo", "message:InternetMessageId", id));
  return each.length > 1 ? `<t:Or>${each.join("")}</t:Or>` : each.join("");
}

function comparisonXml(operator: string, field: string, value: string): string {
  const constant = `<t:FieldURIOrConstant><t:Constant Value="${escapeXml(value)}"/></t:FieldURIOrConstant>`;
  return `<t:${operator}><t:FieldURI FieldURI="${field}"/>${constant}</t:${operator}>`;
}

/** A page of a folder's items that match the restriction, in the order in which they were received. */
export async function findItems(
  session: EwsSession,
  { folder }: Pick<WatchedFolder, "folder">,
  { restriction, offset }: { restriction: string; offset: number },
  signal: AbortSignal,
): Promise<ItemPage> {
  const order = `<t:FieldOrder Order="Ascending"><t:FieldURI FieldURI="item:DateTimeReceived"/></t:FieldOrder>`;
  const content =
    `<m:ItemShape>${fieldsXml(ITEM_FIELDS)}</m:ItemShape>` +
    `<m:IndexedPageItemView MaxEntriesReturned="${ITEMS_AT_ONCE}" Offset="${offset}" BasePoint="Beginning"/>` +
    `<m:Restriction>${restriction}</m:Restriction><m:SortOrder>${order}</m:SortOrder>` +
    `<m:ParentFolderIds>${folderXml(session, folder)}</m:ParentFolderIds>`;
  const answer = await executeOperation(
    session,
    { name: "FindItem", attributes: ' Traversal="Shallow"', content },
    signal,
  );
  const all = findElement(answer, "Items")?.children ?? [];
  const last = findElement(answer, "RootFolder")?.attributes["IncludesLastItemInRange"] !== "false" || all.length === 0;
  return { items: all.flatMap(toSyncItems), count: all.length, last };
}

/** In a resync the uid of a message is a hash of its id, so it is always the same. */
function toMessageRef(folder: string, { key, size, receivedAt }: SyncItem): MessageRef {
  const uid = createHash("sha256").update(key).digest().readUIntBE(0, 6) + 1;
  return { folder, epoch: RESYNC_EPOCH, uid, size, receivedAt: new Date(receivedAt ?? clock.now()).toISOString(), key };
}
