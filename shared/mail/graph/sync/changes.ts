/** The folders of one watched mailbox: which they are, what is new in them, and what is wrong with them. */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import type { WatchEvent } from "../../mail.ts";
import { folderFaults } from "../../exchange/folder-faults.ts";
import type { GraphSession } from "../client/session.ts";
import { getWatchList, type WatchedFolder, type WatchList } from "./folders.ts";
import { looksByDate } from "./look.ts";
import { nameMovedCursors } from "./moved-folder.ts";
import { reconcile } from "./reconcile.ts";
import type { ReconcileContext } from "./round.ts";

export type WatchContext = {
  mailbox: MailboxOf<"graph">;
  tell: (sign: WatchEvent) => void;
  emit?: Emit | undefined;
  /** The newest cursor of each folder. It is kept up to date here. */
  cursors: Map<string, Cursor>;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
  /** The session. It is opened (again) if it is not open. */
  open: () => Promise<GraphSession>;
  /** `performance.now()` when connecting began. */
  startedAt: number;
  /** How often all messages are looked at by date, and all folders listed again, in milliseconds. */
  lookMs: number;
};

/** A watched mailbox between two rounds. */
export interface Changes {
  readonly folders: readonly WatchedFolder[];
  /** True if a folder that the mailbox names cannot be watched, or if one cannot be read. */
  readonly isIncomplete: boolean;
  /** True if the login may read folders, and not the list of all messages of the mailbox. Then a look shows nothing. */
  readonly isLookRefused: boolean;
  /** Reports that the mailbox is connected, and what is wrong with its folders. */
  notifyConnected(push: boolean): void;
  /** Lists the folders again. */
  refresh(signal: AbortSignal): Promise<void>;
  /** True if the last comparison of the folder failed. */
  isFaulty(folder: WatchedFolder): boolean;
  /** Compares a folder with its cursor and hands over what is new. A folder that fails stops no other. */
  compare(folder: WatchedFolder, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined>;
  /** Looks at the messages of all folders by date if that is due, or at once. */
  look(options: { atOnce: boolean }, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined>;
}

const SECOND_MS = 1_000;

const FULL_PROBLEM =
  "The mailbox is full, so Microsoft Graph gives no comparison of its folders; the service lists new messages by date";
const FULL_FIX = "Ask the mailbox's user to delete messages, or raise its quota in Exchange Online.";

export function watchedChanges(context: WatchContext): Changes {
  const { mailbox, tell, cursors, open } = context;
  let [folders, missing]: [WatchedFolder[], Problem[]] = [[], []];
  const full = new Set<string>();
  const faults = folderFaults(mailbox, tell);
  let [hasFault, isConnected] = [false, false];
  let atFirst: ReadonlySet<string> | undefined;

  const toContext = (session: GraphSession, folder: WatchedFolder): ReconcileContext => ({
    session,
    mailbox,
    folder,
    emit: context.emit,
    start: startOf(folder, context.start, atFirst),
  });
  const looks = looksByDate(context, toContext);
  const verify = () => tell({ kind: "verified" });
  const report = (afresh = false) => {
    const last = full.size > 0 ? [new Problem("unavailable", FULL_PROBLEM, { fix: FULL_FIX })] : [];
    if (isConnected) faults.report(folders, { missing, last }, afresh);
  };

  return {
    get folders() {
      return folders;
    },
    get isIncomplete() {
      return missing.length > 0 || hasFault;
    },
    get isLookRefused() {
      return looks.isRefused;
    },
    isFaulty: faults.has,
    notifyConnected(push) {
      tell({ kind: "connected", push, ms: Math.round(performance.now() - context.startedAt), capabilities: [] });
      isConnected = true;
      report(true);
    },
    async refresh(signal) {
      ({ folders, missing } = await listWatched(context, signal));
      atFirst ??= new Set(folders.map(({ path }) => path));
      verify();
      hasFault = faults.check(folders);
      report();
    },
    async *compare(folder, signal) {
      const session = await open();
      const { path } = folder;
      try {
        const steps = reconcile(toContext(session, folder), cursors.get(path), verify, signal);
        let step = await steps.next();
        for (; !step.done; step = await steps.next()) {
          yield step.value;
          cursors.set(path, step.value.cursor);
        }
        if (step.value) full.add(path);
        else full.delete(path);
        faults.clear(folder);
      } catch (error) {
        signal.throwIfAborted();
        faults.add(folder, error);
      }
      hasFault = faults.check(folders);
      report();
    },
    async *look(options, signal) {
      yield* looks.run(folders, options, signal);
      verify();
    },
  };
}

/** The folders to watch, whose cursors are found by their names. */
async function listWatched({ mailbox, cursors, open }: WatchContext, signal: AbortSignal): Promise<WatchList> {
  const session = await open();
  await nameMovedCursors(session, cursors, signal);
  return getWatchList(session, mailbox, signal);
}

/** Dates are whole seconds. What lies in a folder that came later came later too, be it in the second of the start. */
function startOf({ path }: WatchedFolder, start: number, atFirst: ReadonlySet<string> | undefined): number {
  return atFirst?.has(path) === false ? start - SECOND_MS : start;
}
