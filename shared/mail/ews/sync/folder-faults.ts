/** What is wrong with single folders of a mailbox. It stops no other folder, unless no folder can be read. */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Problem } from "../../../contract/problem.ts";
import type { WatchEvent } from "../../mail.ts";
import type { WatchedFolder, WatchList } from "./folders.ts";

export type FolderFaults = {
  /** Notes why a folder cannot be read. */
  add(folder: WatchedFolder, problem: Problem): void;
  clear(folder: WatchedFolder): void;
  has(folder: WatchedFolder): boolean;
  /** Whether a folder is missing or cannot be read. Throws the problem of one if none can be read. */
  check(list: WatchList): boolean;
  /** Reports the faults to a connected mailbox if they changed, or `afresh` in any case. */
  show(list: WatchList, afresh: boolean): void;
};

export function folderFaults(mailbox: MailboxOf<"ews">, tell: (sign: WatchEvent) => void): FolderFaults {
  const faults = new Map<string, Problem>();
  let shown = "";
  return {
    add: ({ path }, problem) => void faults.set(path, problem),
    clear: ({ path }) => void faults.delete(path),
    has: ({ path }) => faults.has(path),
    check({ folders, missing }) {
      const paths = new Set(folders.map(({ path }) => path));
      for (const path of faults.keys()) if (!paths.has(path)) faults.delete(path);
      const [first] = faults.values();
      if (first && faults.size === paths.size) throw first;
      return missing.length > 0 || faults.size > 0;
    },
    show({ missing }, afresh) {
      // If all folders are watched, one may be deleted at any time.
      const isAll = mailbox.receive.folders === "all";
      const [problem = null] = [...missing, ...faults.values()].filter(({ code }) => !isAll || code !== "folder");
      const now = problem?.message ?? "";
      if (now !== shown || (afresh && problem)) tell({ kind: "folders", problem, watched: true });
      shown = now;
    },
  };
}
