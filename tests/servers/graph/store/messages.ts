/** What happens to messages: they come, change, move, are copied and go, and subscriptions are told. */
import { randomBytes } from "node:crypto";
import { type File, type Head, readHead } from "../../exchange/letter.ts";
import { newId } from "./ids.ts";
import { type Folder, type Message, type Store, touchFolder } from "./store.ts";

export type NewMessage = {
  raw: Buffer;
  receivedAt?: Date | undefined;
  isRead?: boolean | undefined;
  isDraft?: boolean | undefined;
  categories?: string[] | undefined;
  files?: File[] | undefined;
  extended?: Map<string, string> | undefined;
  /** The id that it has in EWS, where a test has both. */
  restId?: string | undefined;
};

const heads = new WeakMap<Buffer, Head>();

/** The header, read when it is first asked for. */
function headOf(raw: Buffer): Head {
  const head = heads.get(raw) ?? readHead(raw);
  heads.set(raw, head);
  return head;
}

/** Puts a message into a folder. */
export function addMessage(store: Store, folder: Folder, wish: NewMessage): Message {
  const { mailbox } = folder;
  // Graph gives times in whole seconds.
  const now = new Date(Math.floor(Date.now() / 1000) * 1000);
  const message: Message = {
    immutableId: newId("immutable", mailbox.guid),
    id: "",
    folder,
    number: ++mailbox.arrivals,
    raw: wish.raw,
    get head() {
      return headOf(this.raw);
    },
    files: wish.files ?? [],
    receivedAt: wish.receivedAt ?? now,
    createdAt: now,
    modifiedAt: now,
    isRead: wish.isRead ?? false,
    isDraft: wish.isDraft ?? false,
    categories: wish.categories ?? [],
    flag: "notFlagged",
    conversationId: randomBytes(24).toString("base64url"),
    version: 1,
    entered: 0,
    changed: 0,
    onlyMarked: false,
    extended: wish.extended ?? new Map(),
  };
  putIn(store, folder, message, wish.restId);
  return message;
}

/** Puts a message into a mailbox that does not have it. */
export function putIn(store: Store, folder: Folder, message: Message, restId?: string): void {
  const { mailbox } = folder;
  mailbox.messages.set(message.immutableId, message);
  insert(mailbox.sorted, message);
  store.messages.set(message.immutableId, message);
  enter(store, folder, message, restId);
  store.happened({ kind: "created", message, folder });
}

/** Takes a message out of its mailbox, where nothing finds it any more. */
export function takeOut(store: Store, message: Message): void {
  leave(store, message, false);
  const { mailbox } = message.folder;
  mailbox.messages.delete(message.immutableId);
  remove(mailbox.sorted, message);
  store.messages.delete(message.immutableId);
  store.happened({ kind: "deleted", message, folder: message.folder });
}

function enter(store: Store, folder: Folder, message: Message, restId?: string): void {
  const { mailbox } = folder;
  message.folder = folder;
  message.id = restId ?? newId("mutable", mailbox.guid);
  message.entered = message.changed = ++folder.count;
  message.onlyMarked = false;
  folder.messages.set(message.immutableId, message);
  insert(folder.sorted, message);
  store.messages.set(message.id, message);
  const left = folder.gone.get(message.immutableId);
  if (left?.moved) folder.returned.add(message.immutableId);
  folder.gone.delete(message.immutableId);
  touchFolder(folder);
}

/** `moved` if it is still in the mailbox. */
function leave(store: Store, message: Message, moved: boolean): void {
  const { folder } = message;
  folder.messages.delete(message.immutableId);
  folder.gone.set(message.immutableId, { id: message.id, at: ++folder.count, moved });
  remove(folder.sorted, message);
  store.messages.delete(message.id);
  touchFolder(folder);
}

/** Notes a change of the message; `onlyMarked` if only its read state, categories or flag did. */
export function changed(store: Store, message: Message, onlyMarked: boolean): void {
  message.version++;
  message.modifiedAt = new Date();
  message.changed = ++message.folder.count;
  message.onlyMarked = onlyMarked;
  touchFolder(message.folder);
  store.happened({ kind: "updated", message, folder: message.folder });
}

/** Moves the message within its mailbox: only its immutable id stays. */
export function moveMessage(store: Store, message: Message, target: Folder): void {
  const before = message.folder;
  leave(store, message, true);
  message.version++;
  store.happened({ kind: "deleted", message, folder: before });
  enter(store, target, message);
  store.happened({ kind: "created", message, folder: target });
}

export function copyMessage(store: Store, message: Message, target: Folder): Message {
  const { raw, receivedAt, isRead, isDraft, categories, files, extended } = message;
  const same = { raw, receivedAt, isRead, isDraft, categories: [...categories], files: [...files] };
  return addMessage(store, target, { ...same, extended: new Map(extended) });
}

/** Older first; those of one second by their arrival. */
function compare(a: Message, b: Message): number {
  return a.receivedAt.getTime() - b.receivedAt.getTime() || a.number - b.number;
}

function placeOf(list: Message[], message: Message): number {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const there = list[middle];
    if (there && compare(there, message) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function insert(list: Message[], message: Message): void {
  list.splice(placeOf(list, message), 0, message);
}

function remove(list: Message[], message: Message): void {
  const at = placeOf(list, message);
  if (list[at] !== message) throw new Error(`${message.immutableId} is not where it belongs`);
  list.splice(at, 1);
}
