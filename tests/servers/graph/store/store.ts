/** The mail that the fake Graph server keeps: mailboxes, folders and messages, with the order in which they changed. */
import { randomUUID } from "node:crypto";
import type { File, Head } from "../../exchange/letter.ts";
import { newId } from "./ids.ts";
import { namesIn, type Language } from "./languages.ts";

export type Message = {
  /** Stays the same over moves. */
  readonly immutableId: string;
  /** Another one after each move. */
  id: string;
  folder: Folder;
  /** The order of arrival in the mailbox. */
  readonly number: number;
  raw: Buffer;
  /** Of `raw` as it is now. */
  readonly head: Head;
  /** Files that were added to a draft, not yet in `raw`. */
  files: File[];
  readonly receivedAt: Date;
  readonly createdAt: Date;
  modifiedAt: Date;
  isRead: boolean;
  isDraft: boolean;
  categories: string[];
  flag: "notFlagged" | "flagged" | "complete";
  conversationId: string;
  /** The number of its version: in the change key. */
  version: number;
  /** When it came into its folder, and when it last changed there, by the folder's count of changes. */
  entered: number;
  changed: number;
  /** True after a change of nothing but its read state, its categories or its flag. */
  onlyMarked: boolean;
  extended: Map<string, string>;
};

export type Folder = {
  readonly id: string;
  readonly mailbox: Mailbox;
  parent: Folder | undefined;
  name: string;
  readonly wellKnown: string | undefined;
  readonly hidden: boolean;
  readonly search: boolean;
  messages: Map<string, Message>;
  /** The messages by receivedAt, oldest first. */
  sorted: Message[];
  /** Counts the changes of its messages. */
  count: number;
  /** Messages that left: their two ids and when. */
  gone: Map<string, { id: string; at: number; moved: boolean }>;
  /** Messages that left by a move and came back: delta by immutable ids does not report them. */
  returned: Set<string>;
  /** When it last changed itself, by the mailbox's count of changes. */
  changed: number;
};

/** What of a mailbox Graph can reach. */
export type MailboxState = "ok" | "none" | "inactive" | "consumer" | "moving" | "full";

export type Mailbox = {
  /** The object id of the user. */
  readonly guid: string;
  userPrincipalName: string;
  /** The primary address; often another than the user principal name. */
  mail: string;
  aliases: string[];
  displayName: string;
  state: MailboxState;
  /** Users with full access and the right to send. */
  delegates: Set<string>;
  folders: Map<string, Folder>;
  root: Folder;
  /** By immutable id. */
  messages: Map<string, Message>;
  sorted: Message[];
  arrivals: number;
  /** Counts the changes of its folders. */
  count: number;
  goneFolders: Map<string, number>;
};

/** Something a subscription may be told. */
export type Happening = { kind: "created" | "updated" | "deleted"; message: Message; folder: Folder };

export type Store = {
  /** By object id. */
  mailboxes: Map<string, Mailbox>;
  /** By user principal name, in small letters. */
  byName: Map<string, Mailbox>;
  /** By immutable and by mutable id. */
  messages: Map<string, Message>;
  folders: Map<string, Folder>;
  happened: (one: Happening) => void;
};

export function newStore(): Store {
  return {
    mailboxes: new Map(),
    byName: new Map(),
    messages: new Map(),
    folders: new Map(),
    happened: () => undefined,
  };
}

export type NewMailbox = {
  mail?: string;
  aliases?: string[];
  displayName?: string;
  language?: Language;
  state?: MailboxState;
  delegates?: string[];
  guid?: string;
  /** Ids of folders by their well-known name, where a test has the same mailbox in a fake Exchange. */
  folderIds?: Record<string, string>;
};

const TOP = [
  "inbox",
  "drafts",
  "sentitems",
  "deleteditems",
  "junkemail",
  "archive",
  "outbox",
  "conversationhistory",
] as const;

/** A mailbox with the folders every mailbox has, named in its language. */
export function newMailbox(store: Store, userPrincipalName: string, wish: NewMailbox = {}): Mailbox {
  const names = namesIn(wish.language ?? "en");
  const mailbox: Mailbox = {
    guid: wish.guid ?? randomUUID(),
    userPrincipalName,
    mail: wish.mail ?? userPrincipalName,
    aliases: wish.aliases ?? [],
    displayName: wish.displayName ?? userPrincipalName.replace(/@.*/, ""),
    state: wish.state ?? "ok",
    delegates: new Set((wish.delegates ?? []).map((one) => one.toLowerCase())),
    folders: new Map(),
    root: undefined as unknown as Folder,
    messages: new Map(),
    sorted: [],
    arrivals: 0,
    count: 0,
    goneFolders: new Map(),
  };
  const add = (wellKnown: keyof typeof names, more: Pick<NewFolder, "parent" | "hidden"> = {}): Folder => {
    const id = wish.folderIds?.[wellKnown];
    return newFolder(store, mailbox, { ...more, name: names[wellKnown], wellKnown, ...(id !== undefined && { id }) });
  };
  mailbox.root = add("msgfolderroot");
  for (const one of TOP) add(one, { parent: mailbox.root });
  const issues = add("syncissues", { parent: mailbox.root, hidden: true });
  for (const one of ["conflicts", "localfailures", "serverfailures"] as const)
    add(one, { parent: issues, hidden: true });
  for (const one of ["recoverableitemsdeletions", "scheduled", "searchfolders"] as const) add(one);
  store.mailboxes.set(mailbox.guid, mailbox);
  store.byName.set(userPrincipalName.toLowerCase(), mailbox);
  return mailbox;
}

export type NewFolder = {
  parent?: Folder;
  name: string;
  wellKnown?: string;
  hidden?: boolean;
  search?: boolean;
  id?: string;
};

/** A new folder; siblings may have the same name, as happens in old mailboxes. */
export function newFolder(store: Store, mailbox: Mailbox, wish: NewFolder): Folder {
  const folder: Folder = {
    id: wish.id ?? newId("folder", mailbox.guid),
    mailbox,
    parent: wish.parent,
    name: wish.name,
    wellKnown: wish.wellKnown,
    hidden: wish.hidden ?? false,
    search: wish.search ?? false,
    messages: new Map(),
    sorted: [],
    count: 0,
    gone: new Map(),
    returned: new Set(),
    changed: ++mailbox.count,
  };
  if (wish.parent) wish.parent.changed = mailbox.count;
  mailbox.folders.set(folder.id, folder);
  store.folders.set(folder.id, folder);
  return folder;
}

export function childrenOf(folder: Folder): Folder[] {
  return [...folder.mailbox.folders.values()].filter((one) => one.parent === folder);
}

/** Below msgfolderroot, at any depth. */
export function isInTree(folder: Folder): boolean {
  for (let one = folder.parent; one; one = one.parent) if (one === folder.mailbox.root) return true;
  return false;
}

export function folderNamed(mailbox: Mailbox, wellKnown: string): Folder | undefined {
  return [...mailbox.folders.values()].find((one) => one.wellKnown === wellKnown.toLowerCase());
}

/** Removes a folder with all below it. */
export function removeFolder(store: Store, folder: Folder): void {
  for (const below of childrenOf(folder)) removeFolder(store, below);
  const { mailbox } = folder;
  for (const message of folder.messages.values()) {
    for (const id of [message.id, message.immutableId]) store.messages.delete(id);
    mailbox.messages.delete(message.immutableId);
  }
  mailbox.sorted = mailbox.sorted.filter((one) => one.folder !== folder);
  mailbox.folders.delete(folder.id);
  store.folders.delete(folder.id);
  mailbox.goneFolders.set(folder.id, ++mailbox.count);
  if (folder.parent) folder.parent.changed = mailbox.count;
}

/** Notes that a folder's name, place or counts have changed. */
export function touchFolder(folder: Folder): void {
  folder.changed = ++folder.mailbox.count;
}
