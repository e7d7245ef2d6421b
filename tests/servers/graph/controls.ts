/** What a test does with the mail of the fake Graph server: users, folders, messages, seen from the owner's side. */
import { addMessage, changed, moveMessage, takeOut } from "./store/messages.ts";
import {
  childrenOf,
  type Folder,
  folderNamed,
  type Mailbox,
  type MailboxState,
  type Message,
  newFolder,
  newMailbox,
  type NewMailbox,
  removeFolder,
  type Store,
  touchFolder,
} from "./store/store.ts";
import { toRestId } from "./store/ids.ts";
import { findUser } from "./users.ts";

export type Appended = {
  receivedAt?: Date;
  isRead?: boolean;
  isDraft?: boolean;
  categories?: string[];
  /** The id of the same message in a fake Exchange: translated ids then name this message. */
  ewsId?: string;
};

/** A message as the server keeps it. */
export type Kept = {
  /** The immutable id. */
  id: string;
  mutableId: string;
  folderId: string;
  subject: string;
  isRead: boolean;
  isDraft: boolean;
  categories: string[];
  flag: string;
  receivedAt: Date;
  raw: Buffer;
};

/**
 * A user is named by the user principal name; a name without @ is one of the server's domain. A folder is named by its
 * well-known name, its id, its display name, or the display names on the way to it: "Inbox/Orders".
 */
export type MailControls = {
  addUser(user: string, more?: NewMailbox): Promise<void>;
  /** What the server's domain makes of a name: "ann" is "ann@example.com". */
  addressOf(user: string): string;
  /** The object id. */
  userId(user: string): string;
  setMailbox(user: string, state: MailboxState): void;
  /** The user has another user principal name; the object id stays. */
  renameUser(user: string, name: string): void;
  /** Delivers a message; resolves with its immutable id. */
  append(user: string, folder: string, raw: Buffer | string, more?: Appended): Promise<string>;
  appendMany(user: string, folder: string, raws: (Buffer | string)[]): Promise<string[]>;
  /** Resolves with the folder's id. Siblings may have one name. */
  createFolder(
    user: string,
    name: string,
    more?: { parent?: string; hidden?: boolean; search?: boolean; ewsId?: string },
  ): Promise<string>;
  renameFolder(user: string, folder: string, name: string): void;
  removeFolder(user: string, folder: string): void;
  folderId(user: string, folder: string): string;
  /** Removes a message for good. */
  remove(user: string, folder: string, id: string): void;
  move(user: string, id: string, folder: string): void;
  /** Marks as the owner would. */
  mark(user: string, id: string, marks: { isRead?: boolean; categories?: string[] }): void;
  isRead(user: string, id: string): boolean;
  categories(user: string, id: string): string[];
  count(user: string, folder: string): Promise<number>;
  /** By arrival, the oldest first. */
  list(user: string, folder: string): Kept[];
};

/** The controls over the mail of a server. */
export function mailControls(store: Store, domain: string): MailControls {
  const addressOf = (user: string) => (user.includes("@") ? user : `${user}@${domain}`);
  const mailboxOf = (user: string): Mailbox => {
    const mailbox = findUser(store, addressOf(user));
    if (!mailbox) throw new Error(`There is no user ${user}`);
    return mailbox;
  };
  const messageOf = (user: string, id: string): Message => {
    const message = store.messages.get(id);
    if (!message || message.folder.mailbox !== mailboxOf(user)) throw new Error(`${user} has no message ${id}`);
    return message;
  };
  const folderOf = (user: string, folder: string) => folderAt(mailboxOf(user), folder);
  const append = async (user: string, folder: string, raw: Buffer | string, more: Appended = {}) => {
    const { ewsId, ...rest } = more;
    const restId = ewsId === undefined ? undefined : toRestId(ewsId);
    return addMessage(store, folderOf(user, folder), { ...rest, restId, raw: Buffer.from(raw) }).immutableId;
  };
  return {
    addressOf,
    async addUser(user, more = {}) {
      if (findUser(store, addressOf(user))) throw new Error(`There is a user ${user}`);
      newMailbox(store, addressOf(user), more);
    },
    userId: (user) => mailboxOf(user).guid,
    renameUser(user, name) {
      const mailbox = mailboxOf(user);
      store.byName.delete(mailbox.userPrincipalName.toLowerCase());
      mailbox.userPrincipalName = addressOf(name);
      store.byName.set(mailbox.userPrincipalName.toLowerCase(), mailbox);
    },
    setMailbox: (user, state) => void (mailboxOf(user).state = state),
    append,
    appendMany: (user, folder, raws) => Promise.all(raws.map((raw) => append(user, folder, raw))),
    async createFolder(user, name, { parent, ewsId, ...more } = {}) {
      const mailbox = mailboxOf(user);
      const above = parent === undefined ? mailbox.root : folderAt(mailbox, parent);
      return newFolder(store, mailbox, {
        ...more,
        name,
        parent: above,
        ...(ewsId !== undefined && { id: toRestId(ewsId) }),
      }).id;
    },
    renameFolder(user, folder, name) {
      const one = folderOf(user, folder);
      one.name = name;
      touchFolder(one);
    },
    removeFolder: (user, folder) => removeFolder(store, folderOf(user, folder)),
    folderId: (user, folder) => folderOf(user, folder).id,
    remove(user, folder, id) {
      const message = messageOf(user, id);
      if (message.folder !== folderOf(user, folder)) throw new Error(`${id} is not in ${folder}`);
      takeOut(store, message);
    },
    move: (user, id, folder) => moveMessage(store, messageOf(user, id), folderOf(user, folder)),
    mark(user, id, { isRead, categories }) {
      const message = messageOf(user, id);
      if (isRead !== undefined) message.isRead = isRead;
      if (categories) message.categories = [...categories];
      changed(store, message, true);
    },
    isRead: (user, id) => messageOf(user, id).isRead,
    categories: (user, id) => [...messageOf(user, id).categories],
    count: async (user, folder) => folderOf(user, folder).messages.size,
    list: (user, folder) => folderOf(user, folder).sorted.map(kept),
  };
}

function kept(message: Message): Kept {
  const { immutableId, id, folder, head, isRead, isDraft, categories, flag, receivedAt, raw } = message;
  const own = { isRead, isDraft, categories: [...categories], flag, receivedAt, raw };
  return { id: immutableId, mutableId: id, folderId: folder.id, subject: head.subject, ...own };
}

function folderAt(mailbox: Mailbox, name: string): Folder {
  const all = [...mailbox.folders.values()];
  const direct = mailbox.folders.get(name) ?? folderNamed(mailbox, name) ?? all.find((one) => isNamed(one, name));
  let found: Folder | undefined = direct ?? mailbox.root;
  if (!direct) for (const part of name.split("/")) found = found && childrenOf(found).find((one) => isNamed(one, part));
  if (!found) throw new Error(`${mailbox.userPrincipalName} has no folder ${name}`);
  return found;
}

function isNamed({ name }: Folder, text: string): boolean {
  return name.toLowerCase() === text.toLowerCase();
}
