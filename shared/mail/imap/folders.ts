/** The folders of a mailbox: all that the server lists, and those that a subscription watches. */
import type { ListResponse } from "imapflow";
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Folder } from "../../contract/message.ts";
import type { Session } from "./session.ts";

/**
 * What "all" leaves out: what nobody received (Drafts), what was thrown away (Trash, Junk), and views that repeat
 * messages of other folders (`\All`, `\Flagged`, `\Important`). Sent is watched.
 */
const NOT_WATCHED = new Set(["\\Drafts", "\\Trash", "\\Junk", "\\All", "\\Flagged", "\\Important"]);
const NOT_SELECTABLE = ["\\noselect", "\\nonexistent"];

/** A watched folder: the name that the mailbox and its cursors use, and the server's name for it, if it is known. */
export type WatchedFolder = { folder: string; listedAs: string | undefined };

/** Every folder that the server lists, INBOX first, also those of shared and public namespaces. */
export async function listFolders(session: Session, signal: AbortSignal): Promise<Folder[]> {
  return (await list(session, signal)).map((entry) => ({
    path: entry.path,
    name: entry.name,
    parent: entry.parentPath || null,
    specialUse: entry.specialUse && entry.specialUse !== "\\Inbox" ? entry.specialUse : null,
    selectable: isSelectable(entry),
  }));
}

/**
 * The folders that a mailbox watches, the one for IDLE first. Named folders are used as they are; SELECT shows a wrong
 * name.
 */
export async function watchedFolders(
  session: Session,
  mailbox: MailboxOf<"imap">,
  signal: AbortSignal,
): Promise<WatchedFolder[]> {
  const { folders } = mailbox.receive;
  if (folders !== "all") return [...new Set(folders)].map((folder) => ({ folder, listedAs: undefined }));
  const { personalPrefix } = session;
  const watched = (await list(session, signal))
    .filter((entry) => isSelectable(entry) && !NOT_WATCHED.has(entry.specialUse ?? ""))
    // If the user's own folders have a prefix, folders without it are shared or public. Those are watched only by
    // name.
    .filter(({ path }) => isInbox(path) || path.startsWith(personalPrefix))
    .map(({ path, pathAsListed }) => ({ folder: path, listedAs: pathAsListed }));
  const inbox = watched.find(({ folder }) => isInbox(folder)) ?? { folder: "INBOX", listedAs: undefined };
  return [inbox, ...watched.filter((one) => one !== inbox)];
}

function list(session: Session, signal: AbortSignal): Promise<ListResponse[]> {
  // With `listOnly` the library would not return the special use of folders.
  return session.runExclusive("LIST", () => session.client.list(), signal);
}

function isSelectable({ flags }: ListResponse): boolean {
  return ![...flags].some((flag) => NOT_SELECTABLE.includes(flag.toLowerCase()));
}

function isInbox(path: string): boolean {
  return path.toUpperCase() === "INBOX";
}
