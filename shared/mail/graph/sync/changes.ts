/** The folders of one watched mailbox: which they are, what is new in them, and what is wrong with them. */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import { clock } from "../../../time.ts";
import type { WatchEvent } from "../../mail.ts";
import type { GraphSession } from "../client/session.ts";
import { isOwnState } from "./cursor.ts";
import { getWatchList, type WatchedFolder, type WatchList } from "./folders.ts";
import { lookByDate } from "./look.ts";
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
  /** How often all messages are looked at by date, and all folders listed again, in milliseconds. */
  lookMs: number;
};

/** A watched mailbox between two rounds. */
export interface Changes {
  readonly folders: readonly WatchedFolder[];
  /** True if a folder that the mailbox names cannot be watched. */
  readonly isIncomplete: boolean;
  /** Lists the folders again. */
  refresh(signal: AbortSignal): Promise<void>;
  /** Compares a folder with its cursor and hands over what is new. A folder that is gone stops no other. */
  compare(folder: WatchedFolder, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined>;
  /** Looks at the messages of all folders by date if that is due, or at once. */
  look(options: { atOnce: boolean }, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined>;
}

const SECOND_MS = 1_000;
/** A look reaches so far before the one before. */
const LOOK_OVERLAP_MS = 15 * 60_000;
/** After a long absence the comparisons show what came meanwhile; a look is for what they miss. */
const MAX_LOOK_MS = 24 * 3_600_000;

const FULL_PROBLEM =
  "The mailbox is full, so Microsoft Graph gives no comparison of its folders; the service lists new messages by date";
const FULL_FIX = "Ask the mailbox's user to delete messages, or raise its quota in Exchange Online.";

export function watchedChanges(context: WatchContext): Changes {
  const { mailbox, tell, cursors, open } = context;
  let [folders, missing]: [WatchedFolder[], Problem[]] = [[], []];
  const full = new Set<string>();
  const gone = new Map<string, Problem>();
  let lookedAt = getFirstLook(cursors);
  let atFirst: ReadonlySet<string> | undefined;

  const toContext = (session: GraphSession, folder: WatchedFolder): ReconcileContext => ({
    session,
    mailbox,
    folder,
    emit: context.emit,
    start: startOf(folder, context.start, atFirst),
  });
  const verify = () => tell({ kind: "verified" });

  const showFolders = reportChanges(tell);
  const report = () => {
    const fullProblem = full.size > 0 ? [new Problem("unavailable", FULL_PROBLEM, { fix: FULL_FIX })] : [];
    const [problem = null] = [...missing, ...gone.values(), ...fullProblem];
    showFolders(
      problem,
      folders.some(({ path }) => !gone.has(path)),
    );
  };

  return {
    get folders() {
      return folders;
    },
    get isIncomplete() {
      return missing.length > 0 || gone.size > 0;
    },
    async refresh(signal) {
      ({ folders, missing } = await listWatched(context, signal));
      atFirst ??= new Set(folders.map(({ path }) => path));
      verify();
      gone.clear();
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
        gone.delete(path);
      } catch (error) {
        if (!(error instanceof Problem) || error.code !== "folder") throw error;
        if (mailbox.receive.folders !== "all") gone.set(path, error);
      }
      report();
    },
    async *look({ atOnce }, signal) {
      const now = clock.now();
      if (!atOnce && now - lookedAt < context.lookMs) return;
      const session = await open();
      const since = Math.max(lookedAt - LOOK_OVERLAP_MS, now - MAX_LOOK_MS);
      const seen = lookByDate({ session, folders, cursors, since }, (folder) => toContext(session, folder), signal);
      for await (const arrival of seen) {
        yield arrival;
        cursors.set(arrival.cursor.folder, arrival.cursor);
      }
      verify();
      lookedAt = now;
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

/** Reports what is wrong with the folders when that changed. */
function reportChanges(tell: WatchContext["tell"]) {
  let shown = " true";
  return (problem: Problem | null, watched: boolean) => {
    const now = `${problem?.message ?? ""} ${watched}`;
    if (now === shown) return;
    shown = now;
    tell({ kind: "folders", problem, watched });
  };
}

/**
 * From when on nobody has looked: the oldest of the newest messages of the folders, or now for a new mailbox. What another
 * protocol received is read again by the comparisons.
 */
function getFirstLook(cursors: ReadonlyMap<string, Cursor>): number {
  const own = [...cursors.values()].filter(({ state }) => isOwnState(state));
  const times = own.map(({ newest }) => Date.parse(newest)).filter(Number.isFinite);
  return Math.min(clock.now(), ...times);
}
