/**
 * A mailbox that is received by Microsoft Graph: a session that is opened when first needed, over connections that the
 * process shares.
 */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { isPolled } from "../defaults.ts";
import type { MailConnection } from "../mail.ts";
import { createReconnectingSession } from "../reconnecting.ts";
import { getWatchStart } from "../since.ts";
import type { Emit } from "../../telemetry/events.ts";
import { toRestId } from "../exchange/at-graph.ts";
import { graphService } from "./client/service.ts";
import { type GraphDeps, type GraphSession, openGraph } from "./client/session.ts";
import { type AfterDeliveryTarget, applyAfterDelivery } from "./items/after-delivery.ts";
import { fetchMessages } from "./items/fetch.ts";
import type { GraphPush } from "./notifications/push.ts";
import { findOrCreateFolder, getFolder, getFolderTree, getWatchList, INBOX } from "./sync/folders.ts";
import { findByMessageIds, findReceivedSince } from "./sync/listing.ts";
import { pollChanges, watchChanges } from "./sync/watch.ts";

/** What receiving a Graph mailbox needs. Times in milliseconds. */
export type GraphConnectionDeps = GraphDeps & {
  emit?: Emit;
  /** How long an idle subscription of other protocols may go without an answer. A look by date comes after eight times that. */
  probeMs: number;
  /** How often folders are polled when a server does not notify: half of it after a message, four times it when quiet. */
  folderPollMs: number;
  /** Where Graph may send notifications. Without it mailboxes are polled. */
  graphPush?: GraphPush;
};

const LOOK_FACTOR = 8;
const ACTIVE_FACTOR = 1 / 2;
const QUIET_FACTOR = 4;

/**
 * A MailConnection over Graph. The first call opens the session. A call after the session ended opens another one; only a
 * running `watch` never does. After `close` every call throws.
 */
export function graphConnection(deps: GraphConnectionDeps, mailbox: MailboxOf<"graph">): MailConnection {
  const shared = deps.graph ?? graphService();
  const moveTargets = new Map<string, string>();
  const reconnecting = createReconnectingSession((signal) => {
    moveTargets.clear();
    return openGraph({ ...deps, graph: shared }, mailbox, signal);
  });
  /** The open session. One of an application that was changed meanwhile is closed, and another is opened. */
  const session = async (signal: AbortSignal) => {
    const current = await reconnecting.getSession(signal);
    if (await current.isCurrent()) return current;
    await current.close();
    return reconnecting.getSession(signal);
  };

  return {
    async *watch(cursors, tell, signal) {
      const shape = { mailbox, tell, emit: deps.emit, startedAt: performance.now() };
      const cursorsByFolder = new Map(cursors.map((cursor) => [cursor.folder, cursor]));
      const lookMs = LOOK_FACTOR * deps.probeMs;
      const context = { ...shape, cursors: cursorsByFolder, start: getWatchStart(mailbox, cursors), lookMs };
      if (isPolled(mailbox.receive)) return yield* pollChanges({ ...context, open: () => session(signal) }, signal);
      const current = await reconnecting.getSessionUnlessAborted(signal);
      const { folderPollMs: ms } = deps;
      const times = { activeMs: ACTIVE_FACTOR * ms, quietMs: QUIET_FACTOR * ms };
      const watched = { ...context, push: deps.graphPush };
      if (current) yield* watchChanges({ ...watched, open: () => Promise.resolve(current) }, times, signal);
    },
    async *listSince(date, _, signal) {
      const current = await session(signal);
      const { folders } = await getWatchList(current, mailbox, signal);
      for (const folder of folders) yield* findReceivedSince(current, folder, date, signal);
    },
    async *findByMessageIds(messageIds, signal) {
      const current = await session(signal);
      const { folders } = await getWatchList(current, mailbox, signal);
      for (const folder of folders) yield* findByMessageIds(current, folder, messageIds, signal);
    },
    async *fetch(messages, signal) {
      yield* fetchMessages(await session(signal), messages, signal);
    },
    async applyAfterDelivery(messages, action, signal) {
      const target = withMoveTargets(await session(signal), moveTargets);
      await applyAfterDelivery(target, messages, action, signal);
      return [];
    },
    async listFolders(signal) {
      const tree = await getFolderTree(await session(signal), signal);
      return tree.map(({ id: _id, displayPath: _words, wellKnown: _name, excluded: _aside, ...folder }) => folder);
    },
    get open() {
      return reconnecting.open;
    },
    describe: () => reconnecting.last?.describe(),
    close: reconnecting.close,
  };
}

/**
 * The target folders of moves, and the folders that messages are in. They are looked up, or created, once for each
 * session.
 */
function withMoveTargets(session: GraphSession, moveTargets: Map<string, string>): AfterDeliveryTarget {
  let inbox: string | undefined;
  return {
    session,
    async folder(name, signal) {
      const known = moveTargets.get(name);
      // Somebody may have deleted the folder since the last move.
      const folder = known !== undefined && (await getFolder(session, known, signal)) ? known : undefined;
      const found = folder ?? (await findOrCreateFolder(session, name, signal));
      moveTargets.set(name, found);
      return found;
    },
    async idOf(path, signal) {
      if (path !== INBOX) return toRestId(path);
      inbox ??= (await getFolder(session, "inbox", signal))?.id;
      return inbox;
    },
  };
}
