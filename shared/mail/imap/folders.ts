/** The folders of a mailbox: all of them as the server lists them, and those that a subscription watches. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Folder } from "../../contract/message.ts";
import type { Session } from "./session.ts";

/**
 * What "all" leaves out: what nobody received (Drafts), what was thrown away (Trash, Junk), and the views that show messages of
 * other folders again (`\All`, `\Flagged`, `\Important`). Sent is watched.
 */
const NOT_WATCHED = new Set(["\\Drafts", "\\Trash", "\\Junk", "\\All", "\\Flagged", "\\Important"]);
const NOT_SELECTABLE = ["\\noselect", "\\nonexistent"];

/** Every folder the server lists, INBOX first. */
export async function listFolders(session: Session, signal: AbortSignal): Promise<Folder[]> {
  // With `listOnly` the library would not say which folder is for what.
  const listed = await session.ask("LIST", () => session.client.list(), signal);
  return listed.map((entry) => ({
    path: entry.path,
    name: entry.name,
    parent: entry.parentPath || null,
    specialUse: entry.specialUse && entry.specialUse !== "\\Inbox" ? entry.specialUse : null,
    selectable: ![...entry.flags].some((flag) => NOT_SELECTABLE.includes(flag.toLowerCase())),
  }));
}

/** The paths a mailbox watches, the one for IDLE first. Named folders are taken as they are; a wrong name shows at SELECT. */
export async function watchedFolders(
  session: Session,
  mailbox: MailboxOf<"imap">,
  signal: AbortSignal,
): Promise<string[]> {
  const { folders } = mailbox.receive;
  if (folders !== "all") return [...new Set(folders)];
  const all = await listFolders(session, signal);
  const watched = all.filter((one) => one.selectable && !NOT_WATCHED.has(one.specialUse ?? ""));
  const paths = watched.map((one) => one.path);
  const inbox = paths.find((path) => path.toUpperCase() === "INBOX") ?? "INBOX";
  return [inbox, ...paths.filter((path) => path !== inbox)];
}
