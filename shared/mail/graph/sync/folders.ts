/**
 * The folders of a Graph mailbox: its tree, and the folders that a subscription watches, each under a name that stays.
 */
import * as v from "valibot";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Folder } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { toRestId } from "../../exchange/at-graph.ts";
import { isNotFound } from "../client/errors.ts";
import { listRows, withQuery } from "../client/pages.ts";
import type { GraphSession } from "../client/session.ts";

/** The name of the inbox. Every other folder goes by its id, which survives renaming and moving. */
export const INBOX = "INBOX";

/** Graph's own names for folders, which hold in every language, with their special use (RFC 6154). */
const WELL_KNOWN: Record<string, string | null> = {
  inbox: null,
  sentitems: "\\Sent",
  drafts: "\\Drafts",
  deleteditems: "\\Trash",
  junkemail: "\\Junk",
  archive: "\\Archive",
  outbox: null,
  conversationhistory: null,
  syncissues: null,
};
/**
 * What "all" leaves out with everything below it, as for other protocols: what nobody received, and what was thrown
 * away. Sent items are watched.
 */
const NOT_WATCHED = new Set(["drafts", "deleteditems", "junkemail", "outbox", "conversationhistory", "syncissues"]);
const FOLDERS_AT_ONCE = "100";
const FOLDER_FIELDS = "id,displayName,parentFolderId,childFolderCount,totalItemCount,isHidden";
/** Deeper than people nest folders. A server may list a folder below itself. */
const MAX_DEPTH = 50;

const FolderRow = v.object({
  id: v.pipe(v.string(), v.minLength(1)),
  displayName: v.nullish(v.string()),
  parentFolderId: v.nullish(v.string()),
  childFolderCount: v.nullish(v.number()),
  totalItemCount: v.nullish(v.number()),
  isHidden: v.nullish(v.boolean()),
  "@odata.type": v.nullish(v.string()),
});
type FolderRow = v.InferOutput<typeof FolderRow>;

/**
 * A folder of the tree: its id, its path of display names ("Inbox/Orders", slashes inside of a name as "\/"), Graph's own
 * name for it if it has one, and whether "all" leaves it out.
 */
export type TreeFolder = Folder & { id: string; displayPath: string; wellKnown: string | null; excluded: boolean };

/** A watched folder. `path` is its name in messages and cursors. */
export type WatchedFolder = { path: string; id: string; name: string };
/** The folders to watch, and why others that the mailbox names cannot be. */
export type WatchList = { folders: WatchedFolder[]; missing: Problem[] };

/** Every folder of the mailbox, parents before their children, the inbox first. Search folders are left out. */
export async function getFolderTree(session: GraphSession, signal: AbortSignal): Promise<TreeFolder[]> {
  const names = await getWellKnownFolders(session, signal);
  const tree: TreeFolder[] = [];
  const seen = new Set<string>();
  const pathOf = (id: string) => (names.get(id) === "inbox" ? INBOX : id);
  const visit = async (path: string, parent: TreeFolder | null, depth: number): Promise<void> => {
    const rows = await listFolders(session, path, signal);
    for (const row of rows) {
      if (seen.has(row.id) || /searchfolder$/i.test(row["@odata.type"] ?? "")) continue;
      seen.add(row.id);
      const wellKnown = names.get(row.id) ?? null;
      const name = row.displayName ?? "";
      const folder: TreeFolder = {
        id: row.id,
        path: pathOf(row.id),
        name,
        parent: parent?.path ?? null,
        specialUse: wellKnown === null ? null : (WELL_KNOWN[wellKnown] ?? null),
        selectable: row.isHidden !== true,
        displayPath: [...(parent ? [parent.displayPath] : []), name.replaceAll("/", String.raw`\/`)].join("/"),
        wellKnown,
        excluded: parent?.excluded === true || NOT_WATCHED.has(wellKnown ?? "") || row.isHidden === true,
      };
      tree.push(folder);
      if ((row.childFolderCount ?? 0) > 0 && depth < MAX_DEPTH)
        await visit(`${session.base}/mailFolders/${encodeURIComponent(row.id)}/childFolders`, folder, depth + 1);
    }
  };
  await visit(`${session.base}/mailFolders`, null, 0);
  return tree.toSorted((a, b) => Number(b.path === INBOX) - Number(a.path === INBOX));
}

async function listFolders(session: GraphSession, path: string, signal: AbortSignal): Promise<FolderRow[]> {
  const query = { includeHiddenFolders: "true", $top: FOLDERS_AT_ONCE };
  const list = { what: "Listing folders", path: withQuery(path, query), row: FolderRow };
  return Array.fromAsync(listRows(session, list, signal));
}

/** Graph's own names by folder id. A folder that the mailbox does not have is left out. */
async function getWellKnownFolders(session: GraphSession, signal: AbortSignal): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const name of Object.keys(WELL_KNOWN)) {
    const folder = await getFolder(session, name, signal);
    if (folder) names.set(folder.id, name);
  }
  return names;
}

/** A folder by its id or Graph's own name. Undefined if the mailbox has none. */
export async function getFolder(
  session: GraphSession,
  id: string,
  signal: AbortSignal,
): Promise<{ id: string; name: string; count: number } | undefined> {
  const path = withQuery(`${session.base}/mailFolders/${encodeURIComponent(id)}`, { $select: FOLDER_FIELDS });
  try {
    const { id: own, displayName, totalItemCount } = await session.get("Reading a folder", path, FolderRow, signal);
    return { id: own, name: displayName ?? "", count: totalItemCount ?? 0 };
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** The folders that a mailbox watches, the inbox first if it is among them. */
export async function getWatchList(
  session: GraphSession,
  { receive: { folders } }: MailboxOf<"graph">,
  signal: AbortSignal,
): Promise<WatchList> {
  // The usual case needs no tree, so a thousand mailboxes start with some thousands of requests less.
  if (folders !== "all" && folders.every(isInbox)) {
    const inbox = await getFolder(session, "inbox", signal);
    if (!inbox) return { folders: [], missing: [toMissingProblem(INBOX)] };
    return { folders: [{ path: INBOX, id: inbox.id, name: inbox.name }], missing: [] };
  }
  const tree = await getFolderTree(session, signal);
  const wanted = folders === "all" ? tree.filter((one) => one.selectable && !one.excluded) : [];
  const missing: Problem[] = [];
  for (const name of folders === "all" ? [] : folders) {
    const folder = findFolder(tree, name);
    if (folder) wanted.push(folder);
    else missing.push(toMissingProblem(name));
  }
  const byPath = new Map(wanted.map(({ path, id, name }) => [path, { path, id, name }]));
  return {
    folders: [...byPath.values()].toSorted((a, b) => Number(b.path === INBOX) - Number(a.path === INBOX)),
    missing,
  };
}

export function toMissingProblem(name: string): Problem {
  return new Problem("folder", `There is no folder named ${JSON.stringify(name)}`, { retry: "never" });
}

/**
 * The folder that a name means: INBOX, one of Graph's own names (sentitems), an id, or a path of display names
 * ("Inbox/Orders") from the top, ignoring case.
 */
function findFolder(tree: TreeFolder[], name: string): TreeFolder | undefined {
  const path = toDisplayPath(tree, name);
  return (
    tree.find((one) => one.path === name || one.id === name || one.id === toRestId(name)) ??
    tree.find((one) => one.wellKnown === name.toLowerCase()) ??
    tree.find((one) => one.displayPath === path) ??
    tree.find((one) => one.displayPath.toLowerCase() === path.toLowerCase())
  );
}

/** A path of display names. INBOX at its beginning is the inbox in any language. */
function toDisplayPath(tree: TreeFolder[], name: string): string {
  const inbox = tree.find((one) => one.path === INBOX);
  return inbox ? name.replace(/^inbox(?=\/|$)/i, () => inbox.displayPath) : name;
}

function isInbox(name: string): boolean {
  return name.toUpperCase() === INBOX;
}

/** The id of the folder that a name means. A path of display names without a folder is created below its existing part. */
export async function findOrCreateFolder(session: GraphSession, name: string, signal: AbortSignal): Promise<string> {
  const tree = await getFolderTree(session, signal);
  const existing = findFolder(tree, name);
  if (existing) return existing.id;
  const segments = toDisplayPath(tree, name)
    .split(/(?<!\\)\//)
    .filter(Boolean);
  let parent: string | null = null;
  for (const [index, segment] of segments.entries()) {
    const known = findFolder(tree, segments.slice(0, index + 1).join("/"));
    const displayName = segment.replaceAll(String.raw`\/`, "/");
    parent = known?.id ?? (await createFolder(session, { parent, displayName }, signal));
  }
  if (parent === null) throw toMissingProblem(name);
  return parent;
}

async function createFolder(
  session: GraphSession,
  { parent, displayName }: { parent: string | null; displayName: string },
  signal: AbortSignal,
): Promise<string> {
  const below = parent === null ? "" : `/${encodeURIComponent(parent)}/childFolders`;
  const order = { body: { displayName }, shape: FolderRow };
  return (await session.create("Creating a folder", `${session.base}/mailFolders${below}`, order, signal)).id;
}
