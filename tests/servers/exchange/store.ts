/** What the test server keeps: mailboxes, folders and items, with the numbers that synchronization goes by. */
import { randomBytes, randomUUID } from "node:crypto";
import type { File, Head } from "./letter.ts";
import { EwsError } from "./soap.ts";

export type Item = {
  id: string;
  /** Counts changes; the change key is made of it. */
  version: number;
  folder: Folder;
  /** Its place in the folder: ascending, never used again. */
  number: number;
  /** The change number of the mailbox when it was last changed, and when more than IsRead was. */
  changed: number;
  contentChanged: number;
  raw: Buffer;
  head: Head;
  receivedAt: Date;
  createdAt: Date;
  isRead: boolean;
  isDraft: boolean;
  itemClass: string;
  categories: string[];
  /** Extended properties by "tag type" or "set name type". */
  extended: Map<string, string>;
  /** Files added by CreateAttachment, not yet in the raw message. */
  files: File[];
};

export type Folder = {
  id: string;
  mailbox: Mailbox;
  parent: Folder | undefined;
  name: string;
  folderClass: string;
  /** The name every Exchange knows it by, such as "inbox". */
  distinguished: string | undefined;
  number: number;
  changed: number;
  nextItem: number;
  /** By number, ascending. */
  items: Map<number, Item>;
  /** Ids of items that were here. */
  gone: Map<number, string>;
};

export type Mailbox = {
  address: string;
  login: string;
  password: string;
  expired: boolean;
  guid: string;
  delegates: Set<string>;
  impersonators: Set<string>;
  folders: Map<string, Folder>;
  root: Folder;
  change: number;
  /** Sync states of items of another generation are invalid. */
  generation: number;
  nextFolder: number;
  goneFolders: Map<number, string>;
};

/** Something a subscription may be told. */
export type Happening = {
  kind: "NewMail" | "Created" | "Deleted" | "Modified" | "Moved" | "Copied";
  mailbox: Mailbox;
  folder: Folder;
  item: Item | Folder;
  /** Of a move or copy: the place and id before. */
  before?: { id: string; folder: Folder };
};

export type Store = {
  mailboxes: Map<string, Mailbox>;
  items: Map<string, Item>;
  folders: Map<string, Folder>;
  happened: (one: Happening) => void;
};

export function newStore(): Store {
  return { mailboxes: new Map(), items: new Map(), folders: new Map(), happened: () => undefined };
}

type Standard = [distinguished: string, name: string, folderClass: string];

const STANDARD: Standard[] = [
  ["calendar", "Calendar", "IPF.Appointment"],
  ["contacts", "Contacts", "IPF.Contact"],
  ["conversationhistory", "Conversation History", "IPF.Note"],
  ["deleteditems", "Deleted Items", "IPF.Note"],
  ["drafts", "Drafts", "IPF.Note"],
  ["inbox", "Inbox", "IPF.Note"],
  ["journal", "Journal", "IPF.Journal"],
  ["junkemail", "Junk Email", "IPF.Note"],
  ["notes", "Notes", "IPF.StickyNote"],
  ["outbox", "Outbox", "IPF.Note"],
  ["sentitems", "Sent Items", "IPF.Note"],
  ["tasks", "Tasks", "IPF.Task"],
];

/** A mailbox with the folders every mailbox has. */
export function newMailbox(store: Store, address: string, login: string, password: string): Mailbox {
  const guid = randomUUID();
  const mailbox: Mailbox = {
    address,
    login,
    password,
    expired: false,
    guid,
    delegates: new Set(),
    impersonators: new Set(),
    folders: new Map(),
    root: undefined as unknown as Folder,
    change: 0,
    generation: 1,
    nextFolder: 1,
    goneFolders: new Map(),
  };
  mailbox.root = newFolder(store, mailbox, { name: "", folderClass: "", distinguished: "root" });
  const top = newFolder(store, mailbox, {
    parent: mailbox.root,
    name: "Top of Information Store",
    folderClass: "IPF.Note",
    distinguished: "msgfolderroot",
  });
  newFolder(store, mailbox, { parent: mailbox.root, name: "Finder", folderClass: "", distinguished: "searchfolders" });
  const recoverable = newFolder(store, mailbox, {
    parent: mailbox.root,
    name: "Recoverable Items",
    folderClass: "",
    distinguished: "recoverableitemsroot",
  });
  newFolder(store, mailbox, {
    parent: recoverable,
    name: "Deletions",
    folderClass: "",
    distinguished: "recoverableitemsdeletions",
  });
  for (const [distinguished, name, folderClass] of STANDARD) {
    newFolder(store, mailbox, { parent: top, name, folderClass, distinguished });
  }
  store.mailboxes.set(address.toLowerCase(), mailbox);
  return mailbox;
}

type NewFolder = { parent?: Folder; name: string; folderClass: string; distinguished?: string };

/** A new folder; its name must be free below its parent. */
export function newFolder(store: Store, mailbox: Mailbox, wish: NewFolder): Folder {
  const same = [...mailbox.folders.values()].some(
    (one) => one.parent === wish.parent && wish.parent && one.name.toLowerCase() === wish.name.toLowerCase(),
  );
  if (same) throw new EwsError("ErrorFolderExists");
  const folder: Folder = {
    id: storeId(mailbox, "AQMk", 90),
    mailbox,
    parent: wish.parent,
    name: wish.name,
    folderClass: wish.folderClass,
    distinguished: wish.distinguished,
    number: mailbox.nextFolder++,
    changed: ++mailbox.change,
    nextItem: 1,
    items: new Map(),
    gone: new Map(),
  };
  mailbox.folders.set(folder.id, folder);
  store.folders.set(folder.id, folder);
  if (wish.parent) store.happened({ kind: "Created", mailbox, folder: wish.parent, item: folder });
  return folder;
}

/** An id as Exchange makes them: base64 with the mailbox in it, case-sensitive, with characters that URLs do not take. */
export function storeId(mailbox: Mailbox, start: string, bytes: number): string {
  const own = randomBytes(bytes - 36 - 3);
  // Both of base64's odd characters are in every id.
  return `${start}${Buffer.from(`${mailbox.guid}`).toString("base64")}${own.toString("base64").replaceAll("=", "")}/+AAA=`;
}

/** What the change key says: who and how often changed. */
export function changeKey(of: Item | Folder): string {
  const version = "version" in of ? of.version : of.changed;
  const bytes = Buffer.alloc(21);
  bytes.write("CTEST", 0, "latin1");
  bytes.writeUInt32BE(version, 16);
  return `CQAAAB${bytes.toString("base64")}`;
}

export function folderNamed(mailbox: Mailbox, distinguished: string): Folder | undefined {
  return [...mailbox.folders.values()].find((one) => one.distinguished === distinguished);
}

/** A folder by its distinguished name or its path of display names below the top: "Inbox/Orders". */
export function folderAt(mailbox: Mailbox, path: string): Folder {
  const named = folderNamed(mailbox, path.toLowerCase());
  if (named) return named;
  let folder = folderNamed(mailbox, "msgfolderroot");
  for (const name of path.split("/")) {
    const inside: Folder | undefined = folder;
    folder = [...mailbox.folders.values()].find(
      (one) => one.parent === inside && one.name.toLowerCase() === name.toLowerCase(),
    );
  }
  if (!folder) throw new Error(`${mailbox.address} has no folder ${path}`);
  return folder;
}

export function removeFolder(store: Store, folder: Folder): void {
  for (const below of folder.mailbox.folders.values()) if (below.parent === folder) removeFolder(store, below);
  for (const item of folder.items.values()) store.items.delete(item.id);
  folder.mailbox.folders.delete(folder.id);
  folder.mailbox.goneFolders.set(folder.number, folder.id);
  folder.mailbox.change++;
  store.folders.delete(folder.id);
  store.happened({ kind: "Deleted", mailbox: folder.mailbox, folder: folder.parent ?? folder, item: folder });
}

/** Moves a folder with all below it; its id stays. */
export function moveFolderTo(store: Store, folder: Folder, target: Folder): void {
  const before = { id: folder.id, folder: folder.parent ?? folder };
  folder.parent = target;
  folder.changed = ++folder.mailbox.change;
  store.happened({ kind: "Moved", mailbox: target.mailbox, folder: target, item: folder, before });
}
