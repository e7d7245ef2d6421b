/**
 * Another look at the whole mailbox by date, beside the comparisons. A delta by immutable ids may miss a message that
 * left its folder and came back (a known issue of Graph), and its links are forgotten at any time. One request sees all
 * folders. It does not see a message that was imported with an old date; a delta does.
 */
import type { Arrival, Cursor } from "../../../contract/message.ts";
import { listRows, withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";
import type { WatchedFolder } from "./folders.ts";
import { MessageRow, SELECT, type SyncItem, toSyncItem } from "./messages.ts";
import { handOverFound } from "./reconcile.ts";
import type { ReconcileContext } from "./round.ts";

type Look = {
  session: GraphSession;
  folders: readonly WatchedFolder[];
  cursors: ReadonlyMap<string, Cursor>;
  /** Messages received at or after this time are looked at, in milliseconds since 1970. */
  since: number;
};

/** Yields the messages of the watched folders that no comparison has shown yet. */
export async function* lookByDate(
  { session, folders, cursors, since }: Look,
  toContext: (folder: WatchedFolder) => ReconcileContext,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const path = withQuery(`${session.base}/messages`, {
    $filter: `receivedDateTime ge ${new Date(since).toISOString()}`,
    $orderby: "receivedDateTime desc",
    $select: SELECT,
    $top: "200",
  });
  const byFolder = new Map<string, SyncItem[]>(folders.map(({ id }) => [id, []]));
  for await (const row of listRows(session, { what: "Listing new messages", path, row: MessageRow }, signal)) {
    const item = toSyncItem(row);
    if (item) byFolder.get(row.parentFolderId ?? "")?.push(item);
  }
  for (const folder of folders) {
    yield* handOverFound(toContext(folder), cursors.get(folder.path), byFolder.get(folder.id) ?? []);
  }
}
