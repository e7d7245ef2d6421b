/** What would happen to a mailbox that moves here from Exchange Web Services, folder by folder. Nothing is changed. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Cursor } from "../../contract/message.ts";
import { type GraphDeps, openGraph } from "./client/session.ts";
import { getFolder, getWatchList, INBOX } from "./sync/folders.ts";
import { nameMovedCursors, readMovedFolder } from "./sync/moved-folder.ts";

/**
 * A folder that Graph would watch: how many messages it has, how many received since `since` were handed over before, and
 * how many would be new. `since` is null if nobody watched the folder before.
 */
export type FolderPlan = {
  name: string;
  messages: number;
  since: string | null;
  handedOver: number;
  fresh: number;
};

/** Reads the folders as the subscription will. Throws what stops the move. */
export async function planMove(
  deps: GraphDeps,
  mailbox: MailboxOf<"graph">,
  cursors: Cursor[],
  signal: AbortSignal,
): Promise<FolderPlan[]> {
  const session = await openGraph(deps, mailbox, signal);
  try {
    const { folders, missing } = await getWatchList(session, mailbox, signal);
    const [problem] = missing;
    if (problem) throw problem;
    const byFolder = new Map(cursors.map((cursor) => [cursor.folder, cursor]));
    await nameMovedCursors(session, byFolder, signal);
    const plans: FolderPlan[] = [];
    for (const folder of folders) {
      const cursor = byFolder.get(folder.path);
      const moved = cursor && (await readMovedFolder({ session, mailbox, folder }, cursor, signal));
      plans.push({
        name: folder.path === INBOX ? INBOX : folder.name,
        messages: (await getFolder(session, folder.id, signal))?.count ?? 0,
        since: moved ? new Date(moved.from).toISOString() : null,
        handedOver: moved?.known.size ?? 0,
        fresh: moved?.fresh ?? 0,
      });
    }
    return plans;
  } finally {
    await session.close();
  }
}
