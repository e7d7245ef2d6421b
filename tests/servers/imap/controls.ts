/** What tests do to the stored mail of the in-process server, past all connections. Sessions get notice of it. */
import type { ImapServer } from "./server.ts";
import { encodeFolderName, type MailStore, type Message, positionOf } from "./store.ts";

/** The members of an ImapServer that act on its mail. */
export type Controls = Pick<
  ImapServer,
  | ("addUser" | "setPassword" | "addToken" | "removeToken")
  | ("append" | "appendMany" | "createFolder" | "expunge" | "flags" | "setFlags" | "move" | "messages" | "count")
  | "changeUidValidity"
>;

/** The controls of this store. Unknown users, folders and UIDs are errors: a test that names them is wrong. */
export function controls(store: MailStore): Controls {
  const appendMany = async (user: string, path: string, raws: (Buffer | string)[]): Promise<number[]> =>
    store
      .folder(user, path)
      .add(raws.map((raw) => ({ raw: Buffer.isBuffer(raw) ? raw : Buffer.from(raw) })))
      .map((message) => message.uid);
  const message = (user: string, path: string, uid: number): Message => {
    const { messages } = store.folder(user, path);
    const found = messages[positionOf(messages, uid)];
    if (found?.uid !== uid) throw new Error(`${user} has no message ${uid} in ${path}`);
    return found;
  };
  return {
    addUser: async (name, password) => void store.addAccount(name, password),
    setPassword: async (name, password) => {
      store.account(name).password = password;
    },
    addToken: async (user, token) =>
      void (store.accounts.get(user) ?? store.addAccount(user, undefined)).tokens.add(token),
    removeToken: async (user, token) => void store.account(user).tokens.delete(token),
    append: async (user, path, raw) => (await appendMany(user, path, [raw]))[0] ?? 0,
    appendMany,
    createFolder: async (user, path) => void store.createFolder(store.account(user), encodeFolderName(path)),
    expunge: async (user, path, uid) => store.folder(user, path).remove([message(user, path, uid)]),
    flags: async (user, path) => new Map(store.folder(user, path).messages.map((one) => [one.uid, [...one.flags]])),
    setFlags: async (user, path, uid, flags) =>
      store.folder(user, path).setFlags(message(user, path, uid), new Set(flags)),
    move: async (user, from, uid, to) => {
      const moved = message(user, from, uid);
      store.folder(user, to).add([moved]);
      store.folder(user, from).remove([moved]);
    },
    messages: (user, path) => store.folder(user, path).messages,
    count: async (user, path) => store.folder(user, path).messages.length,
    changeUidValidity: async (user, path) => {
      const folder = store.folder(user, path);
      folder.reset(store.nextUidValidity());
      return folder.uidValidity;
    },
  };
}
