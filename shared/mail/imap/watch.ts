/**
 * A subscription over one IMAP connection: IDLE on the first folder, a look at the others from time to time, and a probe that
 * proves the connection still hears. A notification is only a hint; what is new is always found by comparing with the cursor.
 */
import { Problem } from "../../contract/problem.ts";
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../contract/message.ts";
import { jittered } from "../../time.ts";
import type { WatchSign } from "../mail.ts";
import { startOf } from "../since.ts";
import type { ImapDeps } from "./client.ts";
import { watchedFolders } from "./folders.ts";
import { listenerOf } from "./idle.ts";
import { reconcile } from "./reconcile.ts";
import { samePath, type Session } from "./session.ts";

/** How often the list of folders is read again where all are watched. */
const RELIST_MS = 10 * 60 * 1000;

export type Watching = {
  deps: ImapDeps;
  session: Session;
  mailbox: MailboxOf<"imap">;
  tell: (sign: WatchSign) => void;
  /** `performance.now()` when connecting began. */
  startedAt: number;
};

type Round = Watching & { start: number };

/** What is remembered of a folder: the cursor, and the UIDNEXT that was already looked into. */
type Known = { cursor: Cursor | undefined; uidNext: number | null };

/** The watch of MailConnection over a connection that is open; it never reconnects, and leaves the connection as it is. */
export async function* watchOver(
  watching: Watching,
  cursors: Cursor[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  let connected = false;
  const tell = (sign: WatchSign) => {
    if (sign.kind === "connected") connected = true;
    watching.tell(sign);
  };
  try {
    yield* rounds({ ...watching, tell, start: startOf(watching.mailbox, cursors) }, cursors, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (connected && error instanceof Problem && error.code === "timeout") throw deaf(error);
    throw error;
  }
}

function deaf(timeout: Problem): Problem {
  return new Problem("deaf", `The connection was open, but ${timeout.message}`, { cause: timeout });
}

async function* rounds(
  watching: Round,
  cursors: Cursor[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { deps, session, mailbox, tell } = watching;
  // Before the first look: what the server mentions during that, it does not repeat in IDLE.
  const listener = listenerOf(session, signal);
  let folders = await watchedFolders(session, mailbox, signal);
  let listedAt = performance.now();
  const known = new Map<string, Known>();
  for (const cursor of cursors) known.set(cursor.folder, { cursor, uidNext: null });
  for (const folder of folders) yield* caughtUp(watching, known, folder, signal);

  const capabilities = [...session.client.capabilities.keys()];
  tell({
    kind: "connected",
    push: listener.push,
    ms: Math.round(performance.now() - watching.startedAt),
    capabilities,
  });
  const pollMs = deps.folderPollMs;
  const others = mailbox.receive.folders === "all" || folders.length > 1;
  let pollAt = performance.now() + pollMs;
  let probeAt = performance.now() + jittered(deps.probeMs);
  while (!signal.aborted) {
    const [first = "INBOX"] = folders;
    const polls = others || !listener.push;
    const until = Math.min(probeAt, polls ? pollAt : Infinity);
    const stirred = await listener.listen(first, known.get(first)?.uidNext ?? null, until);
    if (signal.aborted) return;
    const now = performance.now();
    if (stirred) yield* caughtUp(watching, known, first, signal);
    if (now >= probeAt) {
      if (listener.push) yield* probed(watching, known, first, signal);
      else await keptAlive(watching, first, signal);
      probeAt = performance.now() + jittered(deps.probeMs);
    }
    if (!polls || now < pollAt) continue;
    if (mailbox.receive.folders === "all" && now - listedAt >= RELIST_MS) {
      folders = await watchedFolders(session, mailbox, signal);
      listedAt = now;
    }
    for (const folder of listener.push ? folders.slice(1) : folders) yield* polled(watching, known, folder, signal);
    pollAt = performance.now() + pollMs;
  }
}

/** Compares one folder with its cursor and hands over what is new. */
async function* caughtUp(
  watching: Round,
  known: Map<string, Known>,
  folder: string,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { deps, session, mailbox, tell, start } = watching;
  const mine = known.get(folder) ?? { cursor: undefined, uidNext: null };
  known.set(folder, mine);
  const heard = (uidNext: number | null) => {
    if (uidNext !== null) mine.uidNext = Math.max(uidNext, (mine.cursor?.uid ?? 0) + 1);
    tell({ kind: "verified" });
  };
  for await (const arrival of reconcile(
    { session, mailbox, folder, emit: deps.emit, start },
    mine.cursor,
    heard,
    signal,
  )) {
    mine.cursor = arrival.cursor;
    yield arrival;
  }
  if (mine.cursor && mine.uidNext !== null) mine.uidNext = Math.max(mine.uidNext, mine.cursor.uid + 1);
}

/** The probe of a listening connection: a comparison, and a second opinion about what this session cannot see. */
async function* probed(
  watching: Round,
  known: Map<string, Known>,
  folder: string,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  yield* caughtUp(watching, known, folder, signal);
  yield* polled(watching, known, folder, signal);
}

/** Asks for the STATUS of a folder; what changed (or cannot be told) is selected afresh and compared. */
async function* polled(
  watching: Round,
  known: Map<string, Known>,
  folder: string,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { session, mailbox, tell } = watching;
  const { client } = session;
  const mine = known.get(folder);
  const ask = () => client.status(folder, { uidNext: true, uidValidity: true }).catch(missingAsFalse);
  const status = await session.ask(`STATUS ${folder}`, ask, signal);
  tell({ kind: "verified" });
  const epoch = status && status.uidValidity !== undefined ? String(status.uidValidity) : undefined;
  const uidNext = status ? status.uidNext : undefined;
  const same = mine?.cursor && epoch === mine.cursor.epoch && uidNext !== undefined && uidNext === mine.uidNext;
  if (same) return;
  if (client.mailbox && samePath(client.mailbox.path, folder) && !status) return;
  // A view that is older than the STATUS would be compared in vain.
  try {
    await session.inFolder(folder, `SELECT ${folder}`, nothingMore, signal, { afresh: true });
  } catch (error) {
    // Where all folders are watched one may be deleted at any time.
    if (mailbox.receive.folders === "all" && error instanceof Problem && error.code === "folder") return;
    throw error;
  }
  yield* caughtUp(watching, known, folder, signal);
  if (mine && uidNext !== undefined) mine.uidNext = Math.max(uidNext, mine.uidNext ?? 0);
}

const nothingMore = () => Promise.resolve();

function missingAsFalse(error: unknown): false {
  if (error instanceof Error && Reflect.get(error, "code") === "NotFound") return false;
  throw error;
}

/** A word that keeps a polled connection from being closed; STATUS, as some servers do not count NOOP (163.com). */
async function keptAlive(watching: Watching, folder: string, signal: AbortSignal): Promise<void> {
  const { session, tell } = watching;
  await session.ask(`STATUS ${folder}`, () => session.client.status(folder, { uidNext: true }), signal);
  tell({ kind: "verified" });
}
