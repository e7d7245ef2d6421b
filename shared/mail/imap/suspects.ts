/**
 * Folders at which the connection ended. They are remembered beyond the connection, so that one such folder does not end
 * each connection before the others are compared.
 */
import { Problem } from "../../contract/problem.ts";

/** The suspects of one mailbox. */
export interface Suspects {
  /**
   * The connection ended while this folder was opened or compared. `alone` says that others were compared before, so that
   * the fault is this folder's.
   */
  add(folder: string, why: Problem, alone: boolean): void;
  /** It was compared. */
  clear(folder: string): void;
  /** Whether it is compared after the others, because the connection ended at it before. */
  has(folder: string): boolean;
  /** Why it is not opened now; undefined if it may be tried. */
  avoided(folder: string): Problem | undefined;
}

/** The suspects of all mailboxes of a process. */
export type SuspectsOf = (mailbox: string) => Suspects;

type Suspicion = { times: number; alone: boolean; until: number; why: Problem };

/** A connection may end at any folder by chance, twice at the same one hardly. */
const TIMES_BEFORE_AVOIDED = 2;

/**
 * `waitMs` is how long a folder is left out after so many connections ended at it, in milliseconds. Each try costs the
 * connection.
 */
export function createSuspects(waitMs: (times: number) => number): SuspectsOf {
  const all = new Map<string, Map<string, Suspicion>>();
  return (mailbox) => ({
    add(folder, why, alone) {
      const folders = all.get(mailbox) ?? new Map<string, Suspicion>();
      const known = folders.get(folder);
      const times = (known?.times ?? 0) + 1;
      const until = performance.now() + waitMs(times);
      const suspicion = { times, alone: alone || (known?.alone ?? false), until, why };
      all.set(mailbox, folders.set(folder, suspicion));
    },
    clear(folder) {
      const folders = all.get(mailbox);
      if (folders?.delete(folder) && folders.size === 0) all.delete(mailbox);
    },
    has: (folder) => all.get(mailbox)?.has(folder) ?? false,
    avoided(folder) {
      const found = all.get(mailbox)?.get(folder);
      if (!found?.alone || found.times < TIMES_BEFORE_AVOIDED || performance.now() >= found.until) return undefined;
      return toAvoidedProblem(folder, found.why);
    },
  });
}

function toAvoidedProblem(folder: string, why: Problem): Problem {
  const evidence = why.evidence === null ? {} : { evidence: why.evidence };
  const cause = `The connection ends when the folder ${JSON.stringify(folder)} is opened: ${why.message}`;
  return new Problem("folder", cause, { retry: "never", fix: FIX, cause: why, ...evidence });
}

const FIX = "Ask the server's operator to repair the folder. It is tried again.";
