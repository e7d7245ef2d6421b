/**
 * The folders that are watched over one connection: their states, one comparison of each, and which cannot be opened
 * now.
 */
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { backoff } from "../../time.ts";
import type { WatchEvent } from "../mail.ts";
import type { ImapDeps } from "./client.ts";
import { type FolderState, folderState, recheckGaps, reconcile } from "./reconcile.ts";
import type { WatchedFolder } from "./folders.ts";
import { isMissingFolder, type Session } from "./session.ts";
import { createSuspects } from "./suspects.ts";

export type FolderWatchContext = {
  deps: Pick<ImapDeps, "emit" | "suspects">;
  mailbox: MailboxOf<"imap">;
  notify: (sign: WatchEvent) => void;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
};

export type FolderWatch = {
  stateOf(folder: string): FolderState;
  /**
   * Compares a folder once over an open connection: new messages, and uids that were waited for. `afresh` selects it
   * again. A folder that cannot be opened is remembered. What ends the connection or concerns the account is thrown.
   */
  look(
    session: Session,
    folder: string,
    signal: AbortSignal,
    options?: { afresh?: boolean; current?: boolean },
  ): AsyncGenerator<Arrival, void, undefined>;
  isAway(folder: string): boolean;
  /** A request about a folder that does not open it. If the connection ends at it, the folder is remembered. */
  ask<T>(session: Session, folder: string, work: () => Promise<T>, signal: AbortSignal): Promise<T>;
  /** Whether the connection ended at it the last time. */
  isSuspect(folder: string): boolean;
  /** The order of comparison: suspects last. */
  inOrder(watched: WatchedFolder[]): WatchedFolder[];
  /**
   * Throws if the server opens none of these folders, and one for a reason that passes: another session may get them, as
   * where the server behind a proxy is away.
   */
  requireOne(watched: string[]): void;
  /** Reports which folders cannot be opened, if that has changed. `watched` are all that should be. */
  report(watched: string[]): void;
};

/** Problems of one folder do not concern the others. Any other problem concerns the connection or the account. */
const FOLDER_CODES = new Set<Problem["code"]>(["folder", "protocol", "unavailable"]);

export function folderWatch(context: FolderWatchContext, cursors: Cursor[]): FolderWatch {
  const { mailbox, notify } = context;
  const states = new Map(cursors.map((cursor) => [cursor.folder, folderState(cursor)]));
  const away = new Map<string, Problem>();
  const suspects = (context.deps.suspects ?? createSuspects(backoff.task))(mailbox.id);
  const onResponse = () => notify({ kind: "verified" });
  let reported = "";
  let compared = false;

  const stateOf = (folder: string): FolderState => {
    const known = states.get(folder);
    if (known) return known;
    const state = folderState(undefined);
    states.set(folder, state);
    return state;
  };

  const suspectIfEnded = (session: Session, folder: string, error: unknown, signal: AbortSignal) => {
    if (!session.open && !signal.aborted && error instanceof Problem) suspects.add(folder, error, compared);
  };

  return {
    stateOf,
    async *look(session, folder, signal, { afresh = false, current = false } = {}) {
      const avoided = suspects.avoided(folder);
      if (avoided) return void away.set(folder, avoided);
      const state = stateOf(folder);
      const reconciling = { session, mailbox, folder, emit: context.deps.emit, start: context.start, isAfresh: afresh };
      try {
        if (afresh || current) await session.runInFolder(folder, `SELECT ${folder}`, noop, signal, { afresh, current });
        yield* reconcile(reconciling, state, onResponse, signal);
        yield* recheckGaps(reconciling, state, onResponse, signal);
        away.delete(folder);
        suspects.clear(folder);
        compared = true;
      } catch (error) {
        suspectIfEnded(session, folder, error, signal);
        if (!session.open || signal.aborted || !(error instanceof Problem) || !FOLDER_CODES.has(error.code))
          throw error;
        away.set(folder, error);
      }
    },
    isAway: (folder) => away.has(folder),
    async ask(session, folder, work, signal) {
      try {
        return await work();
      } catch (error) {
        suspectIfEnded(session, folder, error, signal);
        throw error;
      }
    },
    isSuspect: suspects.has,
    inOrder: (watched) => watched.toSorted((a, b) => Number(suspects.has(a.folder)) - Number(suspects.has(b.folder))),
    requireOne(watched) {
      const faults = watched.map((folder) => away.get(folder));
      const passing = faults.find((fault) => fault?.code === "folder" && fault.retry !== "never");
      if (passing && faults.every((fault) => fault !== undefined)) throw passing;
    },
    report(watched) {
      for (const folder of away.keys()) if (!watched.includes(folder)) away.delete(folder);
      const names = [...away.keys()];
      const key = JSON.stringify([...names, watched.length]);
      if (key === reported) return;
      reported = key;
      // If all folders are watched, one may be deleted at any time.
      const faults = [...away.values()].filter((one) => mailbox.receive.folders !== "all" || !isMissingFolder(one));
      notify({ kind: "folders", problem: toAwayProblem(faults), watched: names.length < watched.length });
    },
  };
}

function noop(): Promise<void> {
  return Promise.resolve();
}

function toAwayProblem(faults: Problem[]): Problem | null {
  const [first] = faults;
  if (!first) return null;
  const others = faults.length - 1;
  const more = others === 0 ? "" : `, and ${others} other folder${others === 1 ? "" : "s"} cannot be opened either`;
  const evidence = first.evidence === null ? {} : { evidence: first.evidence };
  return new Problem("folder", `${first.message}${more}`, {
    retry: "never",
    fix: first.fix,
    cause: first,
    ...evidence,
  });
}
