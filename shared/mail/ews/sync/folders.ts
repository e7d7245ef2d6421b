/**
 * The folders of an Exchange mailbox: its tree, and the folders that a subscription watches, each under a name that
 * stays.
 */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Folder } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { type XmlElement, findText, findElement } from "../soap/elements.ts";
import { escapeXml, protocolProblem } from "../soap/xml.ts";
import { streamResponses, executeOperation, fieldsXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** The name of the inbox. Every other folder goes by its id, which survives renaming and moving. */
export const INBOX = "INBOX";

/** The folders that every mailbox has, by Exchange's names for them, with their special use (RFC 6154). */
const DISTINGUISHED: Record<string, string | null> = {
  inbox: null,
  sentitems: "\\Sent",
  drafts: "\\Drafts",
  deleteditems: "\\Trash",
  junkemail: "\\Junk",
  outbox: null,
};
/**
 * What "all" leaves out with everything below it, as for IMAP: what nobody received, and what was thrown away. Sent
 * items are watched.
 */
const NOT_WATCHED = new Set(["drafts", "deleteditems", "junkemail", "outbox"]);
const FOLDERS_AT_ONCE = 500;
const MAX_PAGES = 200;

/**
 * A folder of the tree: its id, its path of display names ("Inbox/Orders"), Exchange's own name for it if it has one,
 * and whether "all" leaves it out.
 */
type TreeFolder = Folder & { id: string; displayPath: string; distinguished: string | null; excluded: boolean };

/** A watched folder. `path` is its name in messages and cursors, `name` the one for people. */
export type WatchedFolder = { path: string; name: string; folder: FolderId };
/** The folders to watch, the ids of all folders if the tree was read, and why others that the mailbox names cannot be watched. */
export type WatchList = { folders: WatchedFolder[]; ids: ReadonlySet<string>; missing: Problem[] };

type Row = { id: string; parent: string; name: string; kind: string; element: string };

/** Every folder of the mailbox, parents before their children, the inbox first. */
export async function getFolderTree(session: EwsSession, signal: AbortSignal): Promise<TreeFolder[]> {
  const { root, names } = await getDistinguishedFolders(session, signal);
  const rows: Row[] = [];
  for (let page = 0, last = false; !last; page += 1) {
    if (page === MAX_PAGES) throw protocolProblem("folders without end");
    const answer = await executeOperation(session, findFolders(session, rows.length), signal);
    const range = findElement(answer, "RootFolder");
    const here = (findElement(answer, "Folders")?.children ?? []).map(toRow);
    rows.push(...here);
    last = here.length === 0 || range?.attributes["IncludesLastItemInRange"] !== "false";
  }
  return buildTree(rows, root, names);
}

function findFolders(session: EwsSession, offset: number) {
  const shape = `<m:FolderShape>${fieldsXml(["folder:DisplayName", "folder:ParentFolderId", "folder:FolderClass"])}</m:FolderShape>`;
  const view = `<m:IndexedPageFolderView MaxEntriesReturned="${FOLDERS_AT_ONCE}" Offset="${offset}" BasePoint="Beginning"/>`;
  const root = `<m:ParentFolderIds>${folderXml(session, session.folder("msgfolderroot"))}</m:ParentFolderIds>`;
  return { name: "FindFolder", attributes: ' Traversal="Deep"', content: shape + view + root };
}

/** The ids of the folders with Exchange's own names. A folder that the mailbox does not have is left out. */
async function getDistinguishedFolders(session: EwsSession, signal: AbortSignal) {
  const wanted = ["msgfolderroot", ...Object.keys(DISTINGUISHED)];
  const ids = wanted.map((name) => folderXml(session, session.folder(name))).join("");
  const content = `<m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds>${ids}</m:FolderIds>`;
  const names = new Map<string, string>();
  let root = "";
  let at = 0;
  for await (const { message, problem } of streamResponses(session, { name: "GetFolder", content }, signal)) {
    const name = wanted[at] ?? "";
    at += 1;
    const id = findElement(message, "FolderId")?.attributes["Id"];
    if (problem && (problem.code !== "folder" || name === "msgfolderroot")) throw problem;
    if (id === undefined) continue;
    if (name === "msgfolderroot") root = id;
    else names.set(id, name);
  }
  return { root, names };
}

function toRow(folder: XmlElement): Row {
  return {
    id: findElement(folder, "FolderId")?.attributes["Id"] ?? "",
    parent: findElement(folder, "ParentFolderId")?.attributes["Id"] ?? "",
    name: findText(folder, "DisplayName") ?? "",
    kind: findText(folder, "FolderClass") ?? "",
    element: folder.name,
  };
}

function buildTree(rows: Row[], root: string, names: Map<string, string>): TreeFolder[] {
  const children = Map.groupBy(rows, (row) => row.parent);
  const tree: TreeFolder[] = [];
  const pathOf = (id: string) => (names.get(id) === "inbox" ? INBOX : id);
  const visit = (parent: string, parentPath: string[], parentExcluded: boolean) => {
    const here = children.get(parent) ?? [];
    // A server may list a folder inside itself. Without this the visit would never end.
    children.delete(parent);
    for (const row of here) {
      const distinguishedName = names.get(row.id) ?? null;
      const excluded = parentExcluded || NOT_WATCHED.has(distinguishedName ?? "");
      tree.push({
        id: row.id,
        path: pathOf(row.id),
        name: row.name,
        parent: parent === root ? null : pathOf(parent),
        specialUse: distinguishedName === null ? null : (DISTINGUISHED[distinguishedName] ?? null),
        selectable: row.element === "Folder" && (row.kind === "" || /^IPF\.Note\b/i.test(row.kind)),
        ...(row.kind !== "" && { class: row.kind }),
        displayPath: [...parentPath, row.name].join("/"),
        distinguished: distinguishedName,
        excluded,
      });
      visit(row.id, [...parentPath, row.name], excluded);
    }
  };
  visit(root, [], false);
  return tree.toSorted((a, b) => Number(b.path === INBOX) - Number(a.path === INBOX));
}

/** The folders that a mailbox watches and that exist, the inbox first if it is among them. Throws `folder` if none exists. */
export async function getWatchedFolders(
  session: EwsSession,
  mailbox: MailboxOf<"ews">,
  signal: AbortSignal,
): Promise<WatchedFolder[]> {
  return (await getWatchList(session, mailbox, signal)).folders;
}

/** The same, with what is missing. */
export async function getWatchList(
  session: EwsSession,
  { receive: { folders } }: MailboxOf<"ews">,
  signal: AbortSignal,
): Promise<WatchList> {
  // The usual case needs no tree, so a thousand mailboxes start with a thousand requests less.
  if (folders !== "all" && folders.every(isInbox))
    return { folders: [{ path: INBOX, name: INBOX, folder: session.folder("inbox") }], ids: new Set(), missing: [] };
  const tree = await getFolderTree(session, signal);
  const wanted = folders === "all" ? tree.filter((one) => one.selectable && !one.excluded) : [];
  const missing: Problem[] = [];
  for (const name of folders === "all" ? [] : folders) {
    const found = findFolder(tree, name);
    if (found) wanted.push(found);
    else missing.push(toMissingProblem(name));
  }
  const [problem] = missing;
  if (problem && wanted.length === 0) throw problem;
  const paths = new Map(wanted.map((one) => [one.path, one]));
  const watched = [...paths.values()]
    .toSorted((a, b) => Number(b.path === INBOX) - Number(a.path === INBOX))
    .map(({ path, displayPath, id }) => ({ path, name: displayPath, folder: new session.library.FolderId(id) }));
  return { folders: watched, ids: new Set(tree.map(({ id }) => id)), missing };
}

/**
 * The folder that a name means: INBOX, one of Exchange's own names (sentitems), an id, or a path of display names
 * ("Inbox/Orders") from the top, ignoring case.
 */
function findFolder(tree: TreeFolder[], name: string): TreeFolder | undefined {
  const path = toDisplayPath(tree, name);
  return (
    tree.find((one) => one.path === name || one.id === name) ??
    tree.find((one) => one.distinguished === name.toLowerCase()) ??
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

function toMissingProblem(name: string): Problem {
  return new Problem("folder", `There is no folder named ${JSON.stringify(name)}`, { retry: "never" });
}

/** The folder that a name means. A path of display names without a folder is created below its existing part. */
export async function findOrCreateFolder(session: EwsSession, name: string, signal: AbortSignal): Promise<FolderId> {
  const tree = await getFolderTree(session, signal);
  const existing = findFolder(tree, name);
  if (existing) return new session.library.FolderId(existing.id);
  const segments = toDisplayPath(tree, name).split("/").filter(Boolean);
  let parent = session.folder("msgfolderroot");
  for (const [index, segment] of segments.entries()) {
    const existingParent = findFolder(tree, segments.slice(0, index + 1).join("/"));
    const id = existingParent?.id ?? (await createFolder(session, parent, segment, signal));
    parent = new session.library.FolderId(id);
  }
  return parent;
}

async function createFolder(
  session: EwsSession,
  parent: FolderId,
  displayName: string,
  signal: AbortSignal,
): Promise<string> {
  const content =
    `<m:ParentFolderId>${folderXml(session, parent)}</m:ParentFolderId>` +
    `<m:Folders><t:Folder><t:FolderClass>IPF.Note</t:FolderClass><t:DisplayName>${escapeXml(displayName)}</t:DisplayName></t:Folder></m:Folders>`;
  const answer = await executeOperation(session, { name: "CreateFolder", content }, signal);
  const id = findElement(answer, "FolderId")?.attributes["Id"];
  if (id === undefined) throw protocolProblem("a folder without an id");
  return id;
}
