/** What an operation of the test server works with: the world, who asks, and the folders and items a request names. */
import { answer, EwsError, failure, success } from "./soap.ts";
import { type Folder, folderNamed, type Item, type Mailbox, type Store } from "./store.ts";
import type { Subscriptions } from "./subscriptions.ts";
import { child, textAt, type Xml } from "./xml.ts";

/** A message that left the server. */
export type Sent = {
  raw: Buffer;
  sender: string;
  recipients: string[];
  /** The folder the copy went to, undefined for none. */
  savedTo: string | undefined;
  at: Date;
};

export type Limits = {
  /** Hanging connections a user may have. */
  connections: number;
  /** Subscriptions a user may have. */
  subscriptions: number;
  /** Larger requests get status 413. */
  requestBytes: number;
  /** Larger messages and attachments are refused with ErrorMessageSizeExceeded. */
  messageBytes: number;
};

/** Not now, twice, without its content, or refused with a code. */
export type Lie = "left out" | "double" | "empty" | { code: string };

export type World = {
  store: Store;
  subscriptions: Subscriptions;
  limits: Limits;
  sent: Sent[];
  /** Items that cannot be read and folders that cannot be synchronized, with the code that is said. */
  refused: Map<string, string>;
  /** Items whose MIME content is left out of answers that say success. */
  withoutMime: Set<string>;
  /** What is told of an item in place of the truth, asked each time: in a list of changes, or when its content is read. */
  lieAbout: (item: Item, place: "changes" | "content") => Lie | undefined;
  /** Sync states of another generation are invalid. */
  generation: number;
  build: [number, number, number, number];
};

export type Ask = {
  world: World;
  /** Who logged in. */
  user: Mailbox;
  /** Whose mailbox is meant where the request says nothing: the impersonated one, or the user's own. */
  acting: Mailbox;
  request: Xml;
};

/** Answers an operation with the XML of its response element. */
export type Operation = (ask: Ask) => string | Promise<string>;

/** The mailbox of this address, if the asking one may open it. */
export function openMailbox({ world, acting }: Ask, address: string | undefined): Mailbox {
  if (address === undefined) return acting;
  const mailbox = world.store.mailboxes.get(address.toLowerCase());
  if (!mailbox) throw new EwsError("ErrorNonExistentMailbox");
  return checked(acting, mailbox);
}

/** The same mailbox, if it is the acting one or gives it access. */
export function checked(acting: Mailbox, mailbox: Mailbox): Mailbox {
  const may = mailbox === acting || mailbox.delegates.has(acting.login) || mailbox.delegates.has(acting.address);
  if (!may) throw new EwsError("ErrorAccessDenied");
  return mailbox;
}

/** The folder that a FolderId or DistinguishedFolderId names. */
export function folderOf(ask: Ask, element: Xml | undefined): Folder {
  const id = element?.attributes["Id"];
  if (!element || id === undefined) throw new EwsError("ErrorInvalidIdEmpty", { message: "Id must be non-empty." });
  if (element.name === "DistinguishedFolderId") {
    const mailbox = openMailbox(ask, textAt(element, "Mailbox", "EmailAddress"));
    const folder = folderNamed(mailbox, id);
    if (!folder) throw new EwsError("ErrorFolderNotFound");
    return folder;
  }
  if (!/^[A-Za-z0-9+/]+=*$/.test(id) || id.length < 20) throw new EwsError("ErrorInvalidIdMalformed");
  const folder = ask.world.store.folders.get(id);
  if (!folder) throw new EwsError("ErrorItemNotFound");
  checked(ask.acting, folder.mailbox);
  return folder;
}

/** The item that an ItemId names. */
export function itemOf(ask: Ask, element: Xml | undefined): Item {
  const id = element?.attributes["Id"] ?? "";
  if (!/^[A-Za-z0-9+/]+=*$/.test(id) || id.length < 20) throw new EwsError("ErrorInvalidIdMalformed");
  const item = ask.world.store.items.get(id);
  if (!item) throw new EwsError("ErrorItemNotFound");
  const code = ask.world.refused.get(id);
  if (code !== undefined) throw new EwsError(code);
  checked(ask.acting, item.folder.mailbox);
  return item;
}

/** The elements with ids below a child of the request: its FolderIds, ItemIds and the like. */
export function idsIn(request: Xml, name: string): Xml[] {
  return child(request, name)?.children ?? [];
}

/** The response of an operation on many things: a message for each, or what went wrong with it. */
export async function answerEach<One>(
  operation: string,
  ones: One[],
  work: (one: One) => string | Promise<string>,
  empty = "",
): Promise<string> {
  const messages: string[] = [];
  for (const one of ones) {
    try {
      messages.push(success(operation, await work(one)));
    } catch (error) {
      messages.push(failure(operation, error, empty));
    }
  }
  return answer(operation, messages);
}

/** The response of an operation on one thing. */
export function answerOne(operation: string, work: () => string | Promise<string>): Promise<string> {
  return answerEach(operation, [undefined], work);
}
