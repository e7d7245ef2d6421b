/** The mail of the in-process IMAP server, in memory: accounts, their folders, the messages in them. */
import { randomUUID } from "node:crypto";

/** One message; everything but its flags and modseq stays as it is. */
export type Message = {
  readonly uid: number;
  readonly raw: Buffer;
  readonly internalDate: Date;
  /** Stays the same in every folder the message is copied or moved to (RFC 8474). */
  readonly emailId: string;
  flags: Set<string>;
  modseq: number;
};

/** What happened to a folder, for its watchers; `by` is the watcher that caused it, if one did. */
export type FolderChange =
  | { kind: "added"; messages: Message[] }
  | { kind: "removed"; messages: Message[] }
  | { kind: "flags"; message: Message; by: unknown }
  | { kind: "gone"; why: string };

/** Creates a message from what is known of it; uid and modseq come from the folder. */
export type NewMessage = { raw: Buffer; flags?: Iterable<string>; internalDate?: Date; emailId?: string };

/** A folder whose messages are sorted by UID; it never reuses one. */
export class Folder {
  path: string;
  uidValidity: number;
  uidNext = 1;
  modseq = 1;
  subscribed = true;
  messages: Message[] = [];
  readonly specialUse: string | undefined;
  readonly #watchers = new Set<(change: FolderChange) => void>();

  constructor(path: string, uidValidity: number, specialUse?: string) {
    this.path = path;
    this.uidValidity = uidValidity;
    this.specialUse = specialUse;
  }

  /** Calls `watcher` with every change from now on; returns what ends that. */
  watch(watcher: (change: FolderChange) => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }

  add(news: NewMessage[]): Message[] {
    const modseq = ++this.modseq;
    const messages = news.map((one) => ({
      uid: this.uidNext++,
      raw: one.raw,
      internalDate: one.internalDate ?? new Date(),
      emailId: one.emailId ?? randomUUID().replaceAll("-", ""),
      flags: new Set(one.flags),
      modseq,
    }));
    for (const message of messages) this.messages.push(message);
    this.#tell({ kind: "added", messages });
    return messages;
  }

  remove(messages: Message[]): void {
    if (messages.length === 0) return;
    const gone = new Set(messages);
    this.messages = this.messages.filter((message) => !gone.has(message));
    this.modseq++;
    this.#tell({ kind: "removed", messages });
  }

  setFlags(message: Message, flags: Set<string>, by?: unknown): void {
    message.flags = flags;
    message.modseq = ++this.modseq;
    this.#tell({ kind: "flags", message, by });
  }

  /** Gives all messages new UIDs under a new UIDVALIDITY, as a server does that lost its index. */
  reset(uidValidity: number): void {
    this.uidValidity = uidValidity;
    this.messages = this.messages.map((message, index) => ({ ...message, uid: index + 1 }));
    this.uidNext = this.messages.length + 1;
    this.gone("Mailbox was reset");
  }

  /** Tells the watchers that this folder is not what they selected any more. */
  gone(why: string): void {
    this.#tell({ kind: "gone", why });
  }

  #tell(change: FolderChange): void {
    for (const watcher of this.#watchers) watcher(change);
  }
}

/** One user with password or access tokens, and the folders by path. */
export type Account = {
  name: string;
  password: string | undefined;
  tokens: Set<string>;
  folders: Map<string, Folder>;
};

/** All accounts; names are compared as they are written. */
export class MailStore {
  readonly accounts = new Map<string, Account>();
  #lastUidValidity = Math.floor(Date.now() / 1000);

  /** A UIDVALIDITY that no folder has had yet. */
  nextUidValidity(): number {
    return ++this.#lastUidValidity;
  }

  addAccount(name: string, password: string | undefined): Account {
    const folders = new Map<string, Folder>();
    const account: Account = { name, password, tokens: new Set(), folders };
    const special = { INBOX: undefined, Sent: "\\Sent", Drafts: "\\Drafts", Trash: "\\Trash", Junk: "\\Junk" };
    for (const [path, use] of Object.entries(special)) {
      folders.set(path, new Folder(path, this.nextUidValidity(), use));
    }
    this.accounts.set(name, account);
    return account;
  }

  account(name: string): Account {
    const account = this.accounts.get(name);
    if (!account) throw new Error(`The mail server has no user ${name}`);
    return account;
  }

  folder(user: string, path: string): Folder {
    const folder = findFolder(this.account(user), encodeFolderName(path));
    if (!folder) throw new Error(`${user} has no folder ${path}`);
    return folder;
  }

  createFolder(account: Account, path: string): Folder {
    const folder = new Folder(path, this.nextUidValidity());
    account.folders.set(path, folder);
    return folder;
  }
}

/** The folder with this name as it is on the wire; INBOX is found in any case (RFC 3501 section 5.1). */
export function findFolder(account: Account, name: string): Folder | undefined {
  return account.folders.get(name.toUpperCase() === "INBOX" ? "INBOX" : name);
}

/** A folder name in modified UTF-7, as it is on the wire (RFC 3501 section 5.1.3). */
export function encodeFolderName(name: string): string {
  return name.replaceAll("&", "&-").replaceAll(/[^ -~]+/g, (text) => {
    const utf16 = Buffer.from(text, "utf16le").swap16();
    return `&${utf16.toString("base64").replaceAll("/", ",").replaceAll("=", "")}-`;
  });
}

/** The position of the first message whose UID is not below `uid`, in a list sorted by UID. */
export function positionOf(messages: readonly Message[], uid: number): number {
  let low = 0;
  let high = messages.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((messages[middle]?.uid ?? 0) < uid) low = middle + 1;
    else high = middle;
  }
  return low;
}
