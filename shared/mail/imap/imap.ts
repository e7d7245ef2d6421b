/** A mailbox reached by IMAP: one connection, opened when first needed, that listens and downloads at the same time. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import type { MailConnection } from "../mail.ts";
import { type ImapDeps, openSession } from "./client.ts";
import { appendOver, sentFolderOver } from "./append.ts";
import { isPolled } from "../defaults.ts";
import { fetchOver } from "./fetch.ts";
import { listFolders, watchedFolders } from "./folders.ts";
import { receivedSince, withMessageIds } from "./reconcile.ts";
import type { Session } from "./session.ts";
import { tidyOver } from "./tidy.ts";
import { pollOver } from "./poll.ts";
import { startOf } from "../start.ts";
import { watchOver } from "./watch.ts";

/** DNS, TCP, TLS and login each have a deadline of their own, and the gate may let wait; this bounds all of it. */
const OPENING_MS = 30 * 60 * 1000;

/**
 * A MailConnection over IMAP4rev1. The first call connects; a call after the connection was lost connects anew, only a running
 * `watch` never does. After `close` every call throws.
 */
export function imapConnection(deps: ImapDeps, mailbox: MailboxOf<"imap">): MailConnection {
  const life = new AbortController();
  let opening: Promise<Session> | undefined;
  let current: Session | undefined;

  async function session(signal: AbortSignal): Promise<Session> {
    signal.throwIfAborted();
    if (life.signal.aborted) throw closed();
    if (current?.open) return current;
    opening ??= openSession(deps, mailbox, life.signal)
      .then((opened) => {
        current = opened;
        return opened;
      })
      .finally(() => {
        opening = undefined;
      });
    return within(OPENING_MS, "Connecting", opening, signal);
  }

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
      const opened = await orNothing(session(signal), signal);
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
      return current?.open ?? false;
    },
    async close() {
      life.abort(closed());
      await current?.close();
    },
  };
}

/** A watch that is called off while it connects ends quietly. */
async function orNothing(opening: Promise<Session>, signal: AbortSignal): Promise<Session | undefined> {
  try {
    return await opening;
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  }
}

function closed(): Problem {
  return new Problem("connect", "This mail connection was closed");
}
