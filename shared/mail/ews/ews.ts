/** A mailbox reached by Exchange Web Services: a session that is made when first needed, over connections its account shares. */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { isPolled } from "../defaults.ts";
import { kept } from "../reconnecting.ts";
import type { MailConnection } from "../mail.ts";
import { startOf } from "../since.ts";
import { appendOver } from "./items/append.ts";
import { exchange } from "./account.ts";
import { fetchOver } from "./items/fetch.ts";
import { folderTree, foundOrMade, INBOX, watchedFolders } from "./sync/folders.ts";
import { pollOver } from "./sync/poll.ts";
import { receivedSince, withMessageIds } from "./sync/find-item.ts";
import { type EwsDeps, openEws } from "./client/session.ts";
import { tidyOver } from "./items/after-delivery.ts";
import { watchOver } from "./sync/watch.ts";

/** What an Exchange mailbox needs to be received. Times in milliseconds. */
export type EwsConnectionDeps = EwsDeps & {
  /** How long a subscription may go without a look of its own at its folders. */
  probeMs: number;
  /** How often folders are looked at where the server does not notify. */
  folderPollMs: number;
};

/**
 * A MailConnection over EWS. The first call makes the session; a call after it ended makes another, only a running `watch` never does.
 * After `close` every call throws.
 */
export function ewsConnection(deps: EwsConnectionDeps, mailbox: MailboxOf<"ews">): MailConnection {
  const shared = deps.exchange ?? exchange();
  const moves = new Map<string, FolderId>();
  const mine = kept((signal) => {
    moves.clear();
    return openEws({ ...deps, exchange: shared }, mailbox, signal);
  });
  const { session } = mine;

  async function folderFor(name: string, signal: AbortSignal): Promise<FolderId> {
    const known = moves.get(name) ?? (await foundOrMade(await session(signal), name, signal));
    moves.set(name, known);
    return known;
  }

  return {
    async *watch(cursors, tell, signal) {
      const startedAt = performance.now();
      const known = new Map(cursors.map((cursor) => [cursor.folder, cursor]));
      const looking = { mailbox, tell, emit: deps.emit, cursors: known, start: startOf(mailbox, cursors), startedAt };
      if (isPolled(mailbox.receive)) return yield* pollOver({ ...looking, open: () => session(signal) }, signal);
      const ours = await mine.sessionUnlessStopped(signal);
      const { hints } = shared;
      const { probeMs, folderPollMs: pollMs } = deps;
      if (ours) yield* watchOver({ ...looking, session: ours, hints, probeMs, pollMs }, signal);
    },
    async *since(date, _, signal) {
      const ours = await session(signal);
      for (const watched of await watchedFolders(ours, mailbox, signal)) {
        yield* receivedSince(ours, watched, date, signal);
      }
    },
    async *find(messageIds, signal) {
      const ours = await session(signal);
      for (const watched of await watchedFolders(ours, mailbox, signal)) {
        yield* withMessageIds(ours, watched, messageIds, signal);
      }
    },
    async *fetch(messages, signal) {
      yield* fetchOver(await session(signal), messages, signal);
    },
    async tidy(messages, action, signal) {
      const ours = await session(signal);
      const place = { session: ours, folder: folderFor };
      try {
        await tidyOver(place, messages, action, signal);
      } catch (error) {
        const gone = error instanceof Problem && error.code === "folder" && moves.size > 0;
        if (!gone) throw error;
        // The folder was deleted since it was last moved to: it is found, or made, once more.
        moves.clear();
        await tidyOver(place, messages, action, signal);
      }
    },
    async folders(signal) {
      const tree = await folderTree(await session(signal), signal);
      return tree.map(({ id: _id, words: _words, distinguished: _name, aside: _aside, ...folder }) => folder);
    },
    async sentFolder(signal) {
      const tree = await folderTree(await session(signal), signal);
      return tree.find(({ specialUse }) => specialUse === "\\Sent")?.path ?? null;
    },
    async append(folder, message, signal) {
      const ours = await session(signal);
      const id = folder === INBOX ? ours.folder("inbox") : new ours.library.FolderId(folder);
      await appendOver(ours, id, message, signal);
    },
    get open() {
      return mine.open;
    },
    close: mine.close,
  };
}
