/**
 * A mailbox that is received by IMAP: one connection, opened when first needed, for listening and downloading at the
 * same time.
 */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { createReconnectingSession } from "../reconnecting.ts";
import type { MailConnection } from "../mail.ts";
import { type ImapDeps, openSession } from "./client.ts";
import { appendMessage, getSentFolder } from "./sent/append.ts";
import { isPolled } from "../defaults.ts";
import { fetchMessages } from "./fetch.ts";
import { listFolders, type WatchedFolder, watchedFolders } from "./folders.ts";
import { listReceivedSince, findByMessageIds } from "./reconcile.ts";
import { applyAfterDelivery } from "./after-delivery.ts";
import { pollFolders } from "./poll.ts";
import { getWatchStart } from "../since.ts";
import { checkCopy } from "./sent/copies.ts";
import { watchFolders } from "./watch.ts";

/**
 * A MailConnection over IMAP4rev1. The first call connects. A call after the connection was lost connects again; only a
 * running `watch` never does. After `close` every call throws.
 */
export function imapConnection(deps: ImapDeps, mailbox: MailboxOf<"imap">): MailConnection {
  const reconnecting = createReconnectingSession((signal) => openSession(deps, mailbox, signal));
  const { getSession } = reconnecting;

  return {
    async *watch(cursors, notify, signal) {
      const startedAt = performance.now();
      if (isPolled(mailbox.receive)) {
        const polling = {
          deps,
          mailbox,
          tell: notify,
          open: () => getSession(signal),
          startedAt,
          start: getWatchStart(mailbox, cursors),
        };
        return yield* pollFolders(polling, cursors, signal);
      }
      const opened = await reconnecting.getSessionUnlessAborted(signal);
      if (opened) yield* watchFolders({ deps, session: opened, mailbox, notify, startedAt }, cursors, signal);
    },
    async *listSince(date, cursors, signal) {
      const session = await getSession(signal);
      const list = (folder: string) => {
        const known = cursors.find((cursor) => cursor.folder === folder);
        return listReceivedSince({ session, mailbox, folder }, known, date, signal);
      };
      yield* inEachFolder(await watchedFolders(session, mailbox, signal), list);
    },
    async *findByMessageIds(messageIds, signal) {
      const session = await getSession(signal);
      const find = (folder: string) => findByMessageIds({ session, mailbox, folder }, messageIds, signal);
      yield* inEachFolder(await watchedFolders(session, mailbox, signal), find);
    },
    async *fetch(messages, signal) {
      yield* fetchMessages(await getSession(signal), messages, signal);
    },
    async applyAfterDelivery(messages, action, signal) {
      return applyAfterDelivery(await getSession(signal), messages, action, signal);
    },
    async listFolders(signal) {
      return listFolders(await getSession(signal), signal);
    },
    async getSentFolder(signal) {
      return getSentFolder(await getSession(signal), signal);
    },
    async append(folder, message, signal) {
      return appendMessage(await getSession(signal), folder, message, signal);
    },
    async checkCopy(copy, signal) {
      return checkCopy(await getSession(signal), copy, signal);
    },
    get open() {
      return reconnecting.open;
    },
    describe: () => reconnecting.last?.describe(),
    close: reconnecting.close,
  };
}

/** Passes over folders that cannot be opened, unless no folder can. */
async function* inEachFolder<T>(
  folders: WatchedFolder[],
  work: (folder: string) => AsyncGenerator<T, void, undefined>,
): AsyncGenerator<T, void, undefined> {
  const faults: unknown[] = [];
  for (const { folder } of folders) {
    try {
      yield* work(folder);
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "folder") throw error;
      faults.push(error);
    }
  }
  if (faults.length > 0 && faults.length === folders.length) throw faults[0];
}
