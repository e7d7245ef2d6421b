/** Messages of a folder by their date or by their Message-ID, whatever the cursors say. */
import { createHash } from "node:crypto";
import { type MessageRef, RESYNC_EPOCH } from "../../../contract/message.ts";
import { clock } from "../../../time.ts";
import { splitIntoBatches } from "../../batches.ts";
import { listRows, pageOf, quoteText, withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";
import type { WatchedFolder } from "./folders.ts";
import { MessageRow, SELECT, type SyncItem, toSyncItem } from "./messages.ts";

const ROWS_AT_ONCE = 500;
/** Message-IDs in one request. */
const IDS_AT_ONCE = 10;
const MessagePage = pageOf(MessageRow);

/** Items received at or after `from`, oldest first; and from where the next page goes on, null after the last one. */
export type ListPage = { items: SyncItem[]; next: number | null };

/**
 * A page of a folder. The next one begins at the last date of this one, not at an offset: if somebody deletes messages
 * meanwhile, offsets would shift. More messages of one moment than fit into a page are read together.
 */
export async function listReceivedSince(
  session: GraphSession,
  folder: string,
  from: number,
  signal: AbortSignal,
): Promise<ListPage> {
  const path = withQuery(`${session.base}/mailFolders/${encodeURIComponent(folder)}/messages`, {
    $filter: `receivedDateTime ge ${new Date(from).toISOString()}`,
    $orderby: "receivedDateTime",
    $select: SELECT,
    $top: String(ROWS_AT_ONCE),
  });
  const items: SyncItem[] = [];
  for (let place: string | { link: string } = path; ;) {
    const page: { value: MessageRow[]; "@odata.nextLink"?: string | undefined } = await session.get(
      "Listing messages",
      place,
      MessagePage,
      signal,
    );
    items.push(...page.value.flatMap((row) => toSyncItem(row) ?? []));
    const link = page["@odata.nextLink"];
    if (link === undefined) return { items, next: null };
    const reached = page.value.reduce((last, row) => Math.max(last, Date.parse(row.receivedDateTime ?? "") || 0), from);
    if (reached > from) return { items: items.filter(({ receivedAt }) => (receivedAt ?? 0) < reached), next: reached };
    place = { link };
  }
}

/** `listSince` of MailConnection for one folder. */
export async function* findReceivedSince(
  session: GraphSession,
  { path, id }: WatchedFolder,
  since: Date,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  for (let from: number | null = since.getTime(); from !== null;) {
    const page: ListPage = await listReceivedSince(session, id, from, signal);
    yield* splitIntoBatches(page.items.map((item) => toResyncRef(path, item)));
    from = page.next;
  }
}

/** Messages of a folder with one of these Message-IDs, in batches. Ids that the folder does not have are skipped. */
export async function* findByMessageIds(
  session: GraphSession,
  { path: folder, id }: WatchedFolder,
  messageIds: string[],
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  for (let start = 0; start < messageIds.length; start += IDS_AT_ONCE) {
    const some = messageIds.slice(start, start + IDS_AT_ONCE);
    const path = withQuery(`${session.base}/mailFolders/${encodeURIComponent(id)}/messages`, {
      $filter: some.map((one) => `internetMessageId eq ${quoteText(one)}`).join(" or "),
      $select: SELECT,
      $top: String(ROWS_AT_ONCE),
    });
    const found: MessageRef[] = [];
    for await (const row of listRows(session, { what: "Searching messages", path, row: MessageRow }, signal)) {
      const item = toSyncItem(row);
      if (item) found.push(toResyncRef(folder, item));
    }
    yield* splitIntoBatches(found);
  }
}

/** In a resync the uid of a message is a hash of its id, so it is always the same. */
function toResyncRef(folder: string, { key, size, receivedAt }: SyncItem): MessageRef {
  const uid = createHash("sha256").update(key).digest().readUIntBE(0, 6) + 1;
  return { folder, epoch: RESYNC_EPOCH, uid, size, receivedAt: new Date(receivedAt ?? clock.now()).toISOString(), key };
}
