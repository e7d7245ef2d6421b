/** A mailbox reached by IMAP: one connection, opened when first needed, that listens and downloads at the same time. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { kept } from "../reconnecting.ts";
import type { MailConnection } from "../mail.ts";
import { type ImapDeps, openSession } from "./client.ts";
import { appendOver, sentFolderOver } from "./append.ts";
import { isPolled } from "../defaults.ts";
import { fetchOver } from "./fetch.ts";
import { listFolders, watchedFolders } from "./folders.ts";
import { receivedSince, withMessageIds } from "./reconcile.ts";
import { tidyOver } from "./tidy.ts";
import { pollOver } from "./poll.ts";
import { startOf } from "../since.ts";
import { watchOver } from "./watch.ts";

/**
 * A MailConnection over IMAP4rev1. The first call connects; a call after the connection was lost connects anew, only a running
 * `watch` never does. After `close` every call throws.
 */
export function imapConnection(deps: ImapDeps, mailbox: MailboxOf<"imap">): MailConnection {
  const mine = kept((signal) => openSession(deps, mailbox, signal));
  const { session } = mine;

  return {
    async *watch(cursors, tell, signal) {
      const startedAt = performance.now();
      if (isPolled(mailbox.receive)) {
        const polling = {
          deps,
          mailbox,
          tell,
          open: () => session(signal),
          startedAt,
          start: startOf(mailbox, cursors),
        };
        return yield* pollOver(polling, cursors, signal);
      }
      const opened = await mine.sessionUnlessStopped(signal);
      if (opened) yield* watchOver({ deps, session: opened, mailbox, tell, startedAt }, cursors, signal);
    },
    async *since(date, _, signal) {
      const opened = await session(signal);
      for (const folder of await watchedFolders(opened, mailbox, signal)) {
        yield* receivedSince({ session: opened, mailbox, folder }, date, signal);
      }
    },
    async *find(messageIds, signal) {
      const opened = await session(signal);
      for (const folder of await watchedFolders(opened, mailbox, signal)) {
        yield* withMessageIds({ session: opened, mailbox, folder }, messageIds, signal);
      }
    },
    async *fetch(messages, signal) {
      yield* fetchOver(await session(signal), messages, signal);
    },
    async tidy(messages, action, signal) {
      await tidyOver(await session(signal), messages, action, signal);
    },
    async folders(signal) {
      return listFolders(await session(signal), signal);
    },
    async sentFolder(signal) {
      return sentFolderOver(await session(signal), signal);
    },
    async append(folder, message, signal) {
      await appendOver(await session(signal), folder, message, signal);
    },
    get open() {
      return mine.open;
    },
    close: mine.close,
  };
}
