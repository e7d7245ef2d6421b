/**
 * Folders that Exchange Web Services received before. Both protocols see the same messages under other names, and Exchange
 * builds their bytes anew for each. So the last messages that were handed over are recognised by their names, which Graph
 * translates, and the others by their content.
 */
import type { Cursor } from "../../../contract/message.ts";
import { type AssignedUids, hashKey } from "../../assigned-uids.ts";
import { parseState } from "../../exchange/ews-cursor.ts";
import { getResyncStart } from "../../since.ts";
import { toRestId } from "../../exchange/at-graph.ts";
import { translateIds } from "../client/exchange-ids.ts";
import type { GraphSession } from "../client/session.ts";
import { INBOX } from "./folders.ts";
import { listReceivedSince, type ListPage } from "./listing.ts";
import type { SyncItem } from "./messages.ts";
import type { ReconcileContext } from "./round.ts";

/**
 * What Graph shows of a folder from `from` on: the numbers of messages that were handed over before, and how many others
 * there are.
 */
export type MovedFolder = { known: AssignedUids; from: number; fresh: number };

/**
 * Reads a folder again from a day before the newest message that was handed over. Undefined if another protocol wrote the
 * cursor. Throws `access` if the application may not translate ids.
 */
export async function readMovedFolder(
  { session, mailbox, folder }: Pick<ReconcileContext, "session" | "mailbox" | "folder">,
  cursor: Cursor,
  signal: AbortSignal,
): Promise<MovedFolder | undefined> {
  const former = parseState(cursor.state);
  if (!former) return undefined;
  // If the folder was not read to its end, the missing messages may be as old as anything that was asked for.
  const reach = former.from ?? getResyncStart(mailbox, cursor);
  const items = await listAll(session, folder.id, reach, signal);
  const keys = items.map(({ key }) => key);
  const names = await translateIds(session, keys, { from: "restImmutableEntryId", to: "ewsId" }, signal);
  const handedOver = items.flatMap((item) => {
    const name = names.get(item.key);
    const uid = name === undefined ? undefined : former.known.get(hashKey(name));
    return uid !== undefined && uid > 0 && uid <= cursor.uid ? [{ item, uid }] : [];
  });
  const known = new Map(handedOver.map(({ item, uid }) => [hashKey(item.key), uid]));
  return { known, from: reach, fresh: items.length - handedOver.length };
}

async function listAll(session: GraphSession, folder: string, since: number, signal: AbortSignal): Promise<SyncItem[]> {
  const items: SyncItem[] = [];
  for (let from: number | null = since; from !== null;) {
    const page: ListPage = await listReceivedSince(session, folder, from, signal);
    items.push(...page.items);
    from = page.next;
  }
  return items;
}

/** Adds the cursors of folders that Exchange Web Services received under the names that Graph has for these folders. */
export async function nameMovedCursors(
  session: GraphSession,
  cursors: Map<string, Cursor>,
  signal: AbortSignal,
): Promise<void> {
  const former = [...cursors.values()].filter(
    ({ folder, state }) => folder !== INBOX && parseState(state) !== undefined && !cursors.has(toRestId(folder)),
  );
  const ids = former.map(({ folder }) => folder);
  const names = await translateIds(session, ids, { from: "ewsId", to: "restId" }, signal);
  for (const cursor of former) {
    const folder = names.get(cursor.folder) ?? toRestId(cursor.folder);
    if (!cursors.has(folder)) cursors.set(folder, { ...cursor, folder });
  }
}
