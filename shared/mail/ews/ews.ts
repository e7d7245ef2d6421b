/**
 * A mailbox that is received by Exchange Web Services: a session that is opened when first needed, over connections
 * that its login shares.
 */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { isPolled } from "../defaults.ts";
import { createReconnectingSession } from "../reconnecting.ts";
import type { MailConnection } from "../mail.ts";
import { getWatchStart } from "../since.ts";
import { appendMessage } from "./items/append.ts";
import { ewsAccounts } from "./account.ts";
import { fetchMessages } from "./items/fetch.ts";
import { getFolderTree, findOrCreateFolder, INBOX, getWatchedFolders } from "./sync/folders.ts";
import { type NotificationPool, notificationPool } from "./notifications/pool.ts";
import { pollChanges } from "./sync/poll.ts";
import { findReceivedSince, findByMessageIds } from "./sync/find-item.ts";
import { type EwsDeps, type EwsSession, openEws } from "./client/session.ts";
import { type AfterDeliveryTarget, applyAfterDelivery } from "./items/after-delivery.ts";
import { watchChanges } from "./sync/watch.ts";

/** What receiving an Exchange mailbox needs. Times in milliseconds. */
export type EwsConnectionDeps = EwsDeps & {
  /** How long a subscription may go without comparing its folders. */
  probeMs: number;
  /** How often folders are polled when the server does not notify. */
  folderPollMs: number;
  /** The pool of notifications, shared by all mailboxes of a process. Without it the mailbox has its own. */
  notifications?: NotificationPool;
};

/**
 * A MailConnection over EWS. The first call opens the session. A call after the session ended opens another one; only a
 * running `watch` never does. After `close` every call throws.
 */
export function ewsConnection(deps: EwsConnectionDeps, mailbox: MailboxOf<"ews">): MailConnection {
  const shared = deps.exchange ?? ewsAccounts();
  const notifications = deps.notifications ?? notificationPool();
  const moveTargets = new Map<string, FolderId>();
  const reconnecting = createReconnectingSession((signal) => {
    moveTargets.clear();
    return openEws({ ...deps, exchange: shared }, mailbox, signal);
  });
  const { getSession: session } = reconnecting;

  return {
    async *watch(cursors, tell, signal) {
      const startedAt = performance.now();
      const context = {
        mailbox,
        tell,
        emit: deps.emit,
        cursors: new Map(cursors.map((cursor) => [cursor.folder, cursor])),
        start: getWatchStart(mailbox, cursors),
        startedAt,
      };
      if (isPolled(mailbox.receive)) return yield* pollChanges({ ...context, open: () => session(signal) }, signal);
      const current = await reconnecting.getSessionUnlessAborted(signal);
      const { probeMs, folderPollMs: pollMs } = deps;
      if (current) yield* watchChanges({ ...context, session: current, notifications, probeMs, pollMs }, signal);
    },
    async *listSince(date, _, signal) {
      const current = await session(signal);
      for (const watched of await getWatchedFolders(current, mailbox, signal)) {
        yield* findReceivedSince(current, watched, date, signal);
      }
    },
    async *findByMessageIds(messageIds, signal) {
      const current = await session(signal);
      for (const watched of await getWatchedFolders(current, mailbox, signal)) {
        yield* findByMessageIds(current, watched, messageIds, signal);
      }
    },
    async *fetch(messages, signal) {
      const current = await session(signal);
      yield* fetchMessages(current, { messages, mailbox }, signal);
    },
    async applyAfterDelivery(messages, action, signal) {
      const target = withMoveTargets(await session(signal), moveTargets);
      try {
        await applyAfterDelivery(target, messages, action, signal);
      } catch (error) {
        const gone = error instanceof Problem && error.code === "folder" && moveTargets.size > 0;
        if (!gone) throw error;
        // Somebody deleted the folder since the last move, so it is looked up, or created, again.
        moveTargets.clear();
        await applyAfterDelivery(target, messages, action, signal);
      }
      return [];
    },
    async listFolders(signal) {
      const tree = await getFolderTree(await session(signal), signal);
      return tree.map(({ id: _id, displayPath: _words, distinguished: _name, excluded: _aside, ...folder }) => folder);
    },
    async getSentFolder(signal) {
      const tree = await getFolderTree(await session(signal), signal);
      return tree.find(({ specialUse }) => specialUse === "\\Sent")?.path ?? null;
    },
    async append(folder, message, signal) {
      const current = await session(signal);
      const id = folder === INBOX ? current.folder("inbox") : new current.library.FolderId(folder);
      return appendMessage(current, id, message, signal);
    },
    get open() {
      return reconnecting.open;
    },
    describe: () => reconnecting.last?.describe(),
    close: reconnecting.close,
  };
}

/** The target folders of moves. They are looked up, or created, once for each session. */
function withMoveTargets(session: EwsSession, moveTargets: Map<string, FolderId>): AfterDeliveryTarget {
  return {
    session,
    async folder(name, signal) {
      const folder = moveTargets.get(name) ?? (await findOrCreateFolder(session, name, signal));
      moveTargets.set(name, folder);
      return folder;
    },
  };
}
