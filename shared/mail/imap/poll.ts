/**
 * A polled IMAP mailbox. Each run compares its folders with their cursors. Between distant runs there is no connection.
 */
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../contract/message.ts";
import { sleep } from "../../time.ts";
import type { WatchEvent } from "../mail.ts";
import { pollLoop } from "../poll-loop.ts";
import type { ImapDeps } from "./client.ts";
import { folderWatch } from "./folder-watch.ts";
import { watchedFolders } from "./folders.ts";
import type { Session } from "./session.ts";

export type PollContext = {
  deps: ImapDeps;
  mailbox: MailboxOf<"imap">;
  tell: (sign: WatchEvent) => void;
  /** The connection. It is opened (again) if it is not open. */
  open: () => Promise<Session>;
  /** `performance.now()` when connecting began. */
  startedAt: number;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
};

/**
 * A connection that is needed again this soon stays open. A login costs the server more, and some servers count logins.
 */
const KEEP_OPEN_MS = 5 * 60_000;
/** How long workers may download over the run's connection before it is closed. */
const FETCH_WINDOW_MS = 10_000;

/** The watch of MailConnection for `mode: poll`. */
export async function* pollFolders(
  context: PollContext,
  cursors: Cursor[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { deps, mailbox, tell, open, start } = context;
  const folders = folderWatch({ deps, mailbox, notify: tell, start }, cursors);
  let connected = false;
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    const session = await open();
    const watched = await watchedFolders(session, mailbox, signal);
    // An open folder shows only what the server knew at the last command in it.
    for (const { folder } of folders.inOrder(watched))
      yield* folders.look(await open(), folder, signal, { afresh: true });
    const capabilities = [...session.client.capabilities.keys()];
    const ms = Math.round(performance.now() - context.startedAt);
    if (!connected) tell({ kind: "connected", push: false, ms, capabilities });
    connected = true;
    folders.report(watched.map(({ folder }) => folder));
  }
  const betweenRuns = async (ms: number) => {
    if (ms <= KEEP_OPEN_MS || !(await sleep(FETCH_WINDOW_MS, signal))) return;
    const session = await open();
    await session.runExclusive("Waiting for downloads", () => Promise.resolve(), signal);
    await session.close();
  };
  try {
    yield* pollLoop({ poll: mailbox.receive.poll, notify: tell }, run, betweenRuns, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
