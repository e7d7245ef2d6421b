/** A polled IMAP mailbox: each run compares its folders with their cursors; between far-apart runs there is no connection. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { slept } from "../../time.ts";
import type { WatchSign } from "../mail.ts";
import { inRuns } from "../poll-loop.ts";
import type { ImapDeps } from "./client.ts";
import { watchedFolders } from "./folders.ts";
import { reconcile } from "./reconcile.ts";
import type { Session } from "./session.ts";

export type Polling = {
  deps: ImapDeps;
  mailbox: MailboxOf<"imap">;
  tell: (sign: WatchSign) => void;
  /** The connection, opened (anew) when it is not. */
  open: () => Promise<Session>;
  /** `performance.now()` when connecting began. */
  startedAt: number;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
};

/** A connection that is used again this soon stays: a login costs the server more, and some count them. */
const KEPT_MS = 5 * 60_000;
/** How long workers may fetch over the run's connection before it is closed. */
const FETCHING_MS = 10_000;

/** The watch of MailConnection for `mode: poll`. */
export async function* pollOver(
  polling: Polling,
  cursors: Cursor[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { mailbox, tell, open } = polling;
  const known = new Map(cursors.map((cursor) => [cursor.folder, cursor]));
  let connected = false;
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    const session = await open();
    for (const folder of await watchedFolders(session, mailbox, signal))
      yield* lookedAt(polling, known, folder, signal);
    const capabilities = [...session.client.capabilities.keys()];
    const ms = Math.round(performance.now() - polling.startedAt);
    if (!connected) tell({ kind: "connected", push: false, ms, capabilities });
    connected = true;
  }
  const rest = async (ms: number) => {
    if (ms <= KEPT_MS || !(await slept(FETCHING_MS, signal))) return;
    const session = await open();
    await session.ask("Waiting for downloads", () => Promise.resolve(), signal);
    await session.close();
  };
  try {
    yield* inRuns({ poll: mailbox.receive.poll, tell }, run, rest, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

async function* lookedAt(
  { deps, mailbox, tell, open, start }: Polling,
  known: Map<string, Cursor>,
  folder: string,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const session = await open();
  try {
    // The view of an open folder is as old as the last command in it.
    await session.inFolder(folder, `SELECT ${folder}`, () => Promise.resolve(), signal, { afresh: true });
  } catch (error) {
    // Where all folders are watched one may be deleted at any time.
    if (mailbox.receive.folders === "all" && error instanceof Problem && error.code === "folder") return;
    throw error;
  }
  const place = { session, mailbox, folder, emit: deps.emit, start };
  const heard = () => tell({ kind: "verified" });
  for await (const arrival of reconcile(place, known.get(folder), heard, signal)) {
    yield arrival;
    known.set(folder, arrival.cursor);
  }
}
