/** The folders of an Exchange mailbox: its tree, and those that a subscription watches, each under a name that stays. */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Folder } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import { type Element, textWithin, within } from "../soap/elements.ts";
import { escaped, unreadable } from "../soap/xml.ts";
import { answersTo, answerTo, fieldsXml, folderXml } from "../client/operations.ts";
import type { EwsSession } from "../client/session.ts";

/** What the inbox is called; every other folder goes by its id, which a new name or place leaves alone. */
export const INBOX = "INBOX";

/** The folders that every mailbox has, under Exchange's names for them, and what each is for (RFC 6154). */
const DISTINGUISHED: Record<string, string | null> = {
  inbox: null,
  sentitems: "\\Sent",
  drafts: "\\Drafts",
  deleteditems: "\\Trash",
  junkemail: "\\Junk",
  outbox: null,
};
/** What "all" leaves out with all below it, as for IMAP: what nobody received, and what was thrown away. Sent items are watched. */
const NOT_WATCHED = new Set(["drafts", "deleteditems", "junkemail", "outbox"]);
const FOLDERS_AT_ONCE = 500;
const MOST_PAGES = 200;

/**
 * A folder of the tree: its id, its place in words ("Inbox/Orders"), Exchange's own name for it where it has one, and whether "all" leaves
 * it out.
 */
type TreeFolder = Folder & { id: string; words: string; distinguished: string | null; aside: boolean };

/** A folder as it is watched: `path` is its name in messages and cursors. */
export type Watched = { path: string; folder: FolderId };
export type WatchList = { folders: Watched[]; ids: ReadonlySet<string> };

type Row = { id: string; parent: string; name: string; kind: string; element: string };

/** Every folder of the mailbox, parents before their children, the inbox first. */
export async function folderTree(session: EwsSession, signal: AbortSignal): Promise<TreeFolder[]> {
  const { root, names } = await distinguished(session, signal);
  const rows: Row[] = [];
  for (let page = 0, last = false; !last; page += 1) {
    if (page === MOST_PAGES) throw unreadable("folders without end");
    const answer = await answerTo(session, findFolders(session, rows.length), signal);
    const range = within(answer, "RootFolder");
    const here = (within(answer, "Folders")?.children ?? []).map(rowOf);
    rows.push(...here);
    last = here.length === 0 || range?.attributes["IncludesLastItemInRange"] !== "false";
  }
  return treeOf(rows, root, names);
}

function findFolders(session: EwsSession, offset: number) {
  const shape = `<m:FolderShape>${fieldsXml(["folder:DisplayName", "folder:ParentFolderId", "folder:FolderClass"])}</m:FolderShape>`;
  const view = `<m:IndexedPageFolderView MaxEntriesReturned="${FOLDERS_AT_ONCE}" Offset="${offset}" BasePoint="Beginning"/>`;
  const root = `<m:ParentFolderIds>${folderXml(session, session.folder("msgfolderroot"))}</m:ParentFolderIds>`;
  return { name: "FindFolder", attributes: ' Traversal="Deep"', content: shape + view + root };
}

/** The ids of the folders with names of Exchange's own; one that a mailbox does not have is left out. */
async function distinguished(session: EwsSession, signal: AbortSignal) {
  const wanted = ["msgfolderroot", ...Object.keys(DISTINGUISHED)];
  const ids = wanted.map((name) => folderXml(session, session.folder(name))).join("");
  const content = `<m:FolderShape><t:BaseShape>IdOnly</t:BaseShape></m:FolderShape><m:FolderIds>${ids}</m:FolderIds>`;
  const names = new Map<string, string>();
  let root = "";
  let at = 0;
  for await (const { message, problem } of answersTo(session, { name: "GetFolder", content }, signal)) {
    const name = wanted[at] ?? "";
    at += 1;
    const id = within(message, "FolderId")?.attributes["Id"];
    if (problem && (problem.code !== "folder" || name === "msgfolderroot")) throw problem;
    if (id === undefined) continue;
    if (name === "msgfolderroot") root = id;
    else names.set(id, name);
  }
  return { root, names };
}

function rowOf(folder: Element): Row {
  return {
    id: within(folder, "FolderId")?.attributes["Id"] ?? "",
    parent: within(folder, "ParentFolderId")?.attributes["Id"] ?? "",
    name: textWithin(folder, "DisplayName") ?? "",
    kind: textWithin(folder, "FolderClass") ?? "",
    element: folder.name,
  };
}

function treeOf(rows: Row[], root: string, names: Map<string, string>): TreeFolder[] {
  const children = Map.groupBy(rows, (row) => row.parent);
  const tree: TreeFolder[] = [];
  const pathOf = (id: string) => (names.get(id) === "inbox" ? INBOX : id);
  const visit = (parent: string, words: string[], besides: boolean) => {
    const here = children.get(parent) ?? [];
    // A server that lists a folder inside itself would be visited for ever.
    children.delete(parent);
    for (const row of here) {
      const own = names.get(row.id) ?? null;
      const aside = besides || NOT_WATCHED.has(own ?? "");
      tree.push({
        id: row.id,
        path: pathOf(row.id),
        name: row.name,
        parent: parent === root ? null : pathOf(parent),
        specialUse: own === null ? null : (DISTINGUISHED[own] ?? null),
        selectable: row.element === "Folder" && (row.kind === "" || /^IPF\.Note\b/i.test(row.kind)),
        ...(row.kind !== "" && { class: row.kind }),
        words: [...words, row.name].join("/"),
        distinguished: own,
        aside,
      });
      visit(row.id, [...words, row.name], aside);
    }
  };
  visit(root, [], false);
  return tree.toSorted((a, b) => Number(b.path === INBOX) - Number(a.path === INBOX));
}

/** The folders a mailbox watches, the inbox first where it is among them. Throws `folder` for a name that leads to none. */
export async function watchedFolders(
  session: EwsSession,
  mailbox: MailboxOf<"ews">,
  signal: AbortSignal,
): Promise<Watched[]> {
  return (await watchList(session, mailbox, signal)).folders;
}

/** The folders a mailbox watches, and the ids of all there are, as far as that was asked. */
export async function watchList(
  session: EwsSession,
  { receive: { folders } }: MailboxOf<"ews">,
  signal: AbortSignal,
): Promise<WatchList> {
  // The usual case needs no tree: a thousand mailboxes start with as many requests less.
  if (folders !== "all" && folders.every(isInbox))
    return { folders: [{ path: INBOX, folder: session.folder("inbox") }], ids: new Set() };
  const tree = await folderTree(session, signal);
  const wanted =
    folders === "all"
      ? tree.filter((one) => one.selectable && !one.aside)
      : folders.map((name) => found(tree, name) ?? missing(name));
  const paths = new Map(wanted.map((one) => [one.path, one]));
  const watched = [...paths.values()]
    .toSorted((a, b) => Number(b.path === INBOX) - Number(a.path === INBOX))
    .map(({ path, id }) => ({ path, folder: new session.library.FolderId(id) }));
  return { folders: watched, ids: new Set(tree.map(({ id }) => id)) };
}

/**
 * The folder that a name means: INBOX, one of Exchange's own names (sentitems), an id, or a place in words ("Inbox/Orders"), which
 * counts from the top and does not mind case.
 */
function found(tree: TreeFolder[], name: string): TreeFolder | undefined {
  const words = wordsOf(tree, name);
  return (
    tree.find((one) => one.path === name || one.id === name) ??
    tree.find((one) => one.distinguished === name.toLowerCase()) ??
    tree.find((one) => one.words === words) ??
    tree.find((one) => one.words.toLowerCase() === words.toLowerCase())
  );
}

/** A place in words; INBOX at its beginning is the inbox in whatever language the mailbox has. */
function wordsOf(tree: TreeFolder[], name: string): string {
  const inbox = tree.find((one) => one.path === INBOX);
  return inbox ? name.replace(/^inbox(?=\/|$)/i, () => inbox.words) : name;
}

function isInbox(name: string): boolean {
  return name.toUpperCase() === INBOX;
}

function missing(name: string): never {
  throw new Problem("folder", `There is no folder named ${JSON.stringify(name)}`, { retry: "never" });
}

/** The folder that a name means; a place in words that leads to none is made, below as much of it as there is. */
export async function foundOrMade(session: EwsSession, name: string, signal: AbortSignal): Promise<FolderId> {
  const tree = await folderTree(session, signal);
  const there = found(tree, name);
  if (there) return new session.library.FolderId(there.id);
  const words = wordsOf(tree, name).split("/").filter(Boolean);
  let parent = session.folder("msgfolderroot");
  for (const [index, word] of words.entries()) {
    const known = found(tree, words.slice(0, index + 1).join("/"));
    const id = known?.id ?? (await made(session, parent, word, signal));
    parent = new session.library.FolderId(id);
  }
  return parent;
}

async function made(session: EwsSession, parent: FolderId, word: string, signal: AbortSignal): Promise<string> {
  const content =
    `<m:ParentFolderId>${folderXml(session, parent)}</m:ParentFolderId>` +
    `<m:Folders><t:Folder><t:FolderClass>IPF.Note</t:FolderClass><t:DisplayName>${escaped(word)}</t:DisplayName></t:Folder></m:Folders>`;
  const answer = await answerTo(session, { name: "CreateFolder", content }, signal);
  const id = within(answer, "FolderId")?.attributes["Id"];
  if (id === undefined) throw unreadable("a folder without an id");
  return id;
}
