/** What a test does with the mail of the fake Exchange server: users, folders, messages, seen from the owner's side. */
import { addItem, moveItem, removeItem } from "./items.ts";
import type { Beat } from "./notify.ts";
import type { World } from "./ask.ts";
import { folderAt, folderNamed, type Item, type Mailbox, newFolder, newMailbox, type Store } from "./store.ts";

export type NewMessage = { receivedAt?: Date; isRead?: boolean; itemClass?: string; isDraft?: boolean };

export type ExchangeItem = {
  id: string;
  raw: Buffer;
  subject: string;
  isRead: boolean;
  isDraft: boolean;
  itemClass: string;
  categories: string[];
  folder: string;
  receivedAt: Date;
};

export type MailControls = {
  addUser(
    address: string,
    password: string,
    more?: { login?: string; delegates?: string[]; impersonators?: string[] },
  ): Promise<void>;
  /** Delivers a message; resolves with the item's id. */
  append(address: string, folder: string, raw: Buffer | string, more?: NewMessage): Promise<string>;
  appendMany(address: string, folder: string, raws: (Buffer | string)[]): Promise<string[]>;
  /** Makes a folder by its path below the top: "Inbox/Orders". Resolves with its id. */
  createFolder(address: string, path: string, folderClass?: string): Promise<string>;
  /** The id of a folder, by distinguished name or path. */
  folderId(address: string, folder: string): string;
  remove(address: string, id: string): void;
  /** Moves as the mailbox's owner would; the item has the returned id then. */
  move(address: string, id: string, folder: string): string;
  /** By arrival. */
  items(address: string, folder: string): ExchangeItem[];
  setPassword(address: string, password: string, more?: { expired?: boolean }): void;
};

/** The controls over the mail of a server. */
export function mailControls(store: Store): MailControls {
  const mailboxOf = (address: string): Mailbox => {
    const mailbox = store.mailboxes.get(address.toLowerCase());
    if (!mailbox) throw new Error(`There is no mailbox ${address}`);
    return mailbox;
  };
  const itemOf = (address: string, id: string): Item => {
    const item = store.items.get(id);
    if (item?.folder.mailbox !== mailboxOf(address)) throw new Error(`${address} has no item ${id}`);
    return item;
  };
  const append = async (address: string, folder: string, raw: Buffer | string, more: NewMessage = {}) =>
    addItem(store, folderAt(mailboxOf(address), folder), { ...more, raw: Buffer.from(raw) }, true).id;
  return {
    async addUser(address, password, more = {}) {
      const mailbox = newMailbox(store, address, more.login ?? address, password);
      for (const login of more.delegates ?? []) mailbox.delegates.add(login);
      for (const login of more.impersonators ?? []) mailbox.impersonators.add(login);
    },
    append,
    appendMany: (address, folder, raws) => Promise.all(raws.map((raw) => append(address, folder, raw))),
    async createFolder(address, path, folderClass = "IPF.Note") {
      const mailbox = mailboxOf(address);
      const [, above, name = path] = /^(.*)\/([^/]*)$/.exec(path) ?? [];
      const parent = above === undefined ? folderNamed(mailbox, "msgfolderroot") : folderAt(mailbox, above);
      return newFolder(store, mailbox, { parent: parent ?? mailbox.root, name, folderClass }).id;
    },
    folderId: (address, folder) => folderAt(mailboxOf(address), folder).id,
    remove: (address, id) => removeItem(store, itemOf(address, id)),
    move(address, id, folder) {
      const item = itemOf(address, id);
      moveItem(store, item, folderAt(mailboxOf(address), folder));
      return item.id;
    },
    items: (address, folder) => [...folderAt(mailboxOf(address), folder).items.values()].map(seen),
    setPassword: (address, password, more = {}) =>
      void Object.assign(mailboxOf(address), { password, expired: more.expired ?? false }),
  };
}

function seen(item: Item): ExchangeItem {
  const { id, raw, isRead, isDraft, itemClass, receivedAt } = item;
  const categories = [...item.categories];
  const folder = item.folder.distinguished ?? item.folder.id;
  return { id, raw, subject: item.head.subject, isRead, isDraft, itemClass, categories, folder, receivedAt };
}

/** What a test does to clients, beside the faults of single requests. */
export type Mischief = {
  /** This item, or the changes of this folder, are refused with this code; without one it is well again. */
  refuseItem(id: string, responseCode: string | undefined): void;
  /** This item is given without its MIME content, as if that were nothing to speak of. */
  withholdMime(id: string): void;
  /** From now on these are told of items in place of the truth; see World. */
  lie(about: World["lieAbout"]): void;
  /** The sync states of a mailbox, or of all. */
  invalidateSyncStates(address?: string): void;
  /** Ends every subscription, as a restart of the server does; open streams say so. */
  expireSubscriptions(): void;
  /** Every subscription has lost events. */
  missEvents(): void;
  stopHeartbeats(): void;
  startHeartbeats(): void;
  rejectStreaming(reject?: boolean): void;
};

/** The mischief of a server. */
export function mischief(world: World, beat: Beat): Mischief {
  const { subscriptions, refused, withoutMime } = world;
  return {
    refuseItem: (id, code) => void (code === undefined ? refused.delete(id) : refused.set(id, code)),
    withholdMime: (id) => void withoutMime.add(id),
    lie: (about) => void (world.lieAbout = about),
    invalidateSyncStates(address) {
      world.generation++;
      for (const mailbox of world.store.mailboxes.values())
        if (address === undefined || mailbox.address === address) mailbox.generation++;
    },
    expireSubscriptions: () => subscriptions.expire(),
    missEvents() {
      for (const one of subscriptions.byId.values()) {
        one.missed = true;
        one.stream?.wake(one);
      }
    },
    stopHeartbeats: () => void (beat.heartbeats = false),
    startHeartbeats: () => void (beat.heartbeats = true),
    rejectStreaming: (reject = true) => void (beat.streaming = !reject),
  };
}
