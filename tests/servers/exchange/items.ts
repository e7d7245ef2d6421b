/** What happens to items: they come, change, move, are copied and go, and subscriptions get events. */
import { readHead } from "./letter.ts";
import { type Folder, type Item, storeId, type Store } from "./store.ts";

export type NewItem = {
  raw: Buffer;
  receivedAt?: Date | undefined;
  isRead?: boolean | undefined;
  isDraft?: boolean | undefined;
  itemClass?: string | undefined;
  categories?: string[] | undefined;
};

/** Puts a message into a folder; `delivered` says that it came from outside, so that it is new mail. */
export function addItem(store: Store, folder: Folder, wish: NewItem, delivered: boolean): Item {
  const { mailbox } = folder;
  const now = new Date();
  const item: Item = {
    id: "",
    version: 1,
    folder,
    number: 0,
    changed: 0,
    contentChanged: 0,
    raw: wish.raw,
    head: readHead(wish.raw),
    receivedAt: wish.receivedAt ?? now,
    createdAt: now,
    isRead: wish.isRead ?? false,
    isDraft: wish.isDraft ?? false,
    itemClass: wish.itemClass ?? "IPM.Note",
    categories: wish.categories ?? [],
    extended: new Map(),
    files: [],
  };
  enter(store, folder, item);
  store.happened({ kind: "Created", mailbox, folder, item });
  if (delivered && !item.isDraft) store.happened({ kind: "NewMail", mailbox, folder, item });
  touchFolder(store, folder);
  return item;
}

function enter(store: Store, folder: Folder, item: Item): void {
  item.folder = folder;
  item.id = storeId(folder.mailbox, "AAMk", 110);
  item.number = folder.nextItem++;
  item.changed = item.contentChanged = ++folder.mailbox.change;
  folder.items.set(item.number, item);
  store.items.set(item.id, item);
}

function leave(store: Store, item: Item): void {
  item.folder.items.delete(item.number);
  item.folder.gone.set(item.number, item.id);
  item.folder.mailbox.change++;
  store.items.delete(item.id);
}

/** Counts of the folder have changed; subscriptions hear that it was modified. */
function touchFolder(store: Store, folder: Folder): void {
  folder.changed = ++folder.mailbox.change;
  store.happened({ kind: "Modified", mailbox: folder.mailbox, folder: folder.parent ?? folder, item: folder });
}

/** Notes a change of the item, which only its IsRead was if `readOnly`. */
export function changed(store: Store, item: Item, readOnly: boolean): void {
  item.version++;
  item.changed = ++item.folder.mailbox.change;
  if (!readOnly) item.contentChanged = item.changed;
  item.head = readHead(item.raw);
  store.happened({ kind: "Modified", mailbox: item.folder.mailbox, folder: item.folder, item });
  if (readOnly) touchFolder(store, item.folder);
}

/** Moves the item; it gets another id, as in Exchange. */
export function moveItem(store: Store, item: Item, target: Folder): void {
  const before = { id: item.id, folder: item.folder };
  leave(store, item);
  enter(store, target, item);
  store.happened({ kind: "Moved", mailbox: target.mailbox, folder: target, item, before });
  touchFolder(store, before.folder);
  touchFolder(store, target);
}

export function copyItem(store: Store, item: Item, target: Folder): Item {
  const copy: Item = { ...item, extended: new Map(item.extended), files: [...item.files] };
  enter(store, target, copy);
  const before = { id: item.id, folder: item.folder };
  store.happened({ kind: "Copied", mailbox: target.mailbox, folder: target, item: copy, before });
  touchFolder(store, target);
  return copy;
}

/** Removes the item for good, as far as clients can see. */
export function removeItem(store: Store, item: Item): void {
  leave(store, item);
  store.happened({ kind: "Deleted", mailbox: item.folder.mailbox, folder: item.folder, item });
  touchFolder(store, item.folder);
}
