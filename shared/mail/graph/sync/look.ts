/**
 * Another look at the whole mailbox by date, beside the comparisons. A delta by immutable ids may miss a message that
 * left its folder and came back (a known issue of Graph), and its links are forgotten at any time. One request sees all
 * folders. It does not see a message that was imported with an old date; a delta does.
 */
import type { Arrival, Cursor } from "../../../contract/message.ts";
import { clock } from "../../../time.ts";
import { isAccessRefused } from "../client/errors.ts";
import { listRows, withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";
import { isOwnState } from "./cursor.ts";
import type { WatchedFolder } from "./folders.ts";
import { MessageRow, SELECT, type SyncItem, toSyncItem } from "./messages.ts";
import { handOverFound } from "./reconcile.ts";
import type { ReconcileContext } from "./round.ts";

/** A look reaches so far before the one before. */
const OVERLAP_MS = 15 * 60_000;
/** After a long absence the comparisons show what came meanwhile; a look is for what they miss. */
const MAX_MS = 24 * 3_600_000;

type LookContext = {
  cursors: Map<string, Cursor>;
  open: () => Promise<GraphSession>;
  /** How often to look, in milliseconds. */
  lookMs: number;
};

type Looks = {
  /** True if the login may not list all messages of the mailbox. Who shares some of his folders shares no such list. */
  readonly isRefused: boolean;
  /** Yields the messages of these folders that no comparison has shown yet, if a look is due, or at once. */
  run(
    folders: readonly WatchedFolder[],
    options: { atOnce: boolean },
    signal: AbortSignal,
  ): AsyncGenerator<Arrival, void, undefined>;
};

/** The looks at one mailbox. */
export function looksByDate(
  { cursors, open, lookMs }: LookContext,
  toContext: (session: GraphSession, folder: WatchedFolder) => ReconcileContext,
): Looks {
  let isRefused = false;
  let lookedAt = getFirstLook(cursors);
  return {
    get isRefused() {
      return isRefused;
    },
    async *run(folders, { atOnce }, signal) {
      const now = clock.now();
      if (!atOnce && now - lookedAt < lookMs) return;
      const session = await open();
      const since = Math.max(lookedAt - OVERLAP_MS, now - MAX_MS);
      let byFolder: Map<string, SyncItem[]>;
      try {
        byFolder = await listByFolder(session, folders, since, signal);
      } catch (error) {
        if (!isAccessRefused(error)) throw error;
        [isRefused, lookedAt] = [true, now];
        return;
      }
      isRefused = false;
      for (const folder of folders) {
        const items = byFolder.get(folder.id) ?? [];
        for await (const arrival of handOverFound(toContext(session, folder), cursors.get(folder.path), items)) {
          yield arrival;
          cursors.set(folder.path, arrival.cursor);
        }
      }
      lookedAt = now;
    },
  };
}

/** The messages of these folders received at or after `since` (milliseconds since 1970), by the folder's id. */
async function listByFolder(
  session: GraphSession,
  folders: readonly WatchedFolder[],
  since: number,
  signal: AbortSignal,
): Promise<Map<string, SyncItem[]>> {
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
  return byFolder;
}

/**
 * From when on nobody has looked: the oldest of the newest messages of the folders, or now for a new mailbox. What another
 * protocol received is read again by the comparisons.
 */
function getFirstLook(cursors: ReadonlyMap<string, Cursor>): number {
  const own = [...cursors.values()].filter(({ state }) => isOwnState(state));
  const times = own.map(({ newest }) => Date.parse(newest)).filter(Number.isFinite);
  return Math.min(clock.now(), ...times);
}
