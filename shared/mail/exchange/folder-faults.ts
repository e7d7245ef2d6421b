/** What is wrong with single folders of a watched mailbox. It stops no other folder, unless no folder can be read. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem, type ProblemCode } from "../../contract/problem.ts";
import type { WatchEvent } from "../mail.ts";

/** A watched folder: the name in its messages, and the one for people. */
type Folder = { path: string; name: string };

export type FolderFaults = {
  has(folder: Folder): boolean;
  /** The folder was read. */
  clear(folder: Folder): void;
  /** Notes why a folder was not read. Throws the error if it concerns the mailbox or the server. */
  add(folder: Folder, error: unknown): void;
  /**
   * Whether one of the folders cannot be read. Forgets the faults of all others. Throws the problem of one if none can be
   * read, unless all are gone.
   */
  check(folders: readonly Folder[]): boolean;
  /**
   * Reports the first of the missing folders, of the faults, and of what is said last, to a connected mailbox. It reports
   * what changed, or `afresh` in any case.
   */
  report(folders: readonly Folder[], others: { missing: Problem[]; last?: Problem[] }, afresh: boolean): void;
};

/** What is said of a watched folder that is gone. */
export const GONE = "The server has it no longer";

/** An answer with one of these problems may concern one folder, as long as another one can be read. */
const REFUSED = new Set<ProblemCode>(["folder", "access", "unavailable", "protocol", "excess"]);
/** The server may hang or end the connection at one folder. */
const UNANSWERED = new Set<ProblemCode>(["timeout", "connect"]);

export function folderFaults({ receive }: MailboxOf<"ews" | "graph">, tell: (sign: WatchEvent) => void): FolderFaults {
  const faults = new Map<string, { name: string; problem: Problem }>();
  /** The folder at which the server did not answer, if it gave no other one since. */
  let unansweredAt: string | undefined;
  let shown = toKey(null, true);
  return {
    has: ({ path }) => faults.has(path),
    clear({ path }) {
      faults.delete(path);
      unansweredAt = undefined;
    },
    add({ path, name }, error) {
      if (!(error instanceof Problem) || !(REFUSED.has(error.code) || UNANSWERED.has(error.code))) throw error;
      if (UNANSWERED.has(error.code)) {
        // At two folders in a row: that is the server, or the network.
        if (unansweredAt !== undefined && unansweredAt !== path) throw error;
        unansweredAt = path;
      }
      faults.set(path, { name: name || path, problem: error });
    },
    check(folders) {
      const paths = new Set(folders.map(({ path }) => path));
      for (const path of faults.keys()) if (!paths.has(path)) faults.delete(path);
      const found = [...faults.values()].find(({ problem }) => problem.code !== "folder");
      if (found && faults.size === paths.size) throw found.problem;
      return faults.size > 0;
    },
    report(folders, { missing, last = [] }, afresh) {
      // If all folders are watched, one may be deleted at any time.
      const named = [...faults.values()].map(nameFolder);
      const known = named.filter(({ code }) => receive.folders !== "all" || code !== "folder");
      const [problem = null] = [...missing, ...known, ...last];
      const watched = folders.some(({ path }) => !faults.has(path));
      const now = toKey(problem, watched);
      if (now !== shown || (afresh && problem)) tell({ kind: "folders", problem, watched });
      shown = now;
    },
  };
}

function toKey(problem: Problem | null, watched: boolean): string {
  return `${problem?.message ?? ""} ${watched}`;
}

function nameFolder({ name, problem }: { name: string; problem: Problem }): Problem {
  const { code, message, retry, fix, evidence } = problem;
  const cause = `The folder ${JSON.stringify(name)} cannot be read: ${message}`;
  return new Problem(code, cause, { retry, fix, ...(evidence && { evidence }), cause: problem });
}
