/** Copies a store while a process uses it, and puts a copy back. */
import {
  closeSync,
  copyFileSync,
  existsSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
} from "node:fs";
import { basename, dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { Problem } from "../../../contract/problem.ts";
import { clock } from "../../../time.ts";
import { mailboxSealing } from "../../mailbox-sealing.ts";
import type { Vault } from "../../vault.ts";
import { openDatabase } from "../database.ts";
import { lockFile } from "../lock.ts";
import { checkKeys } from "../rotation.ts";
import { type StoreSummary, summarize } from "./summary.ts";

/**
 * Writes the state of the store at this moment into a new file, which only its owner may read. A running process goes on
 * meanwhile. The file appears whole, checked and on the disk, or not at all. Throws `store` if there is such a file already.
 */
export function backUpStore(path: string, target: string): StoreSummary {
  const unfinished = `${target}.unfinished`;
  const cannot = (cause: unknown) => toFileProblem(`The backup ${target} cannot be written`, cause);
  if (existsSync(target))
    throw new Problem("store", `There is a file ${target} already`, { retry: "never", fix: "Name a new file." });
  try {
    rmSync(unfinished, { force: true });
    closeSync(openSync(unfinished, "wx", 0o600));
    const db = new DatabaseSync(path);
    try {
      db.exec("pragma busy_timeout = 10000");
      // SQLite writes into the empty file one consistent state, and waits for nobody who writes.
      db.prepare("vacuum into ?").run(unfinished);
    } finally {
      db.close();
    }
    const summary = summarize(unfinished);
    syncToDisk(unfinished);
    // Unlike a rename, a link replaces nothing.
    linkSync(unfinished, target);
    syncToDisk(dirname(target));
    return summary;
  } catch (error) {
    throw error instanceof Problem ? error : cannot(error);
  } finally {
    rmSync(unfinished, { force: true });
  }
}

export type Restored = { summary: StoreSummary; replaced: string | null };

/**
 * Puts a copy in the place of the store, migrated to this version. A store that was there stays beside it under the name
 * `replaced`. Throws `store` while a process uses the store, if the store has newer data than the copy, or if the copy is
 * damaged, and `config` if a key is missing that the copy needs.
 */
export function restoreStore(copy: string, path: string, vault: Vault): Restored {
  if (!existsSync(copy))
    throw new Problem("store", `There is no file ${copy}`, { retry: "never", fix: "Name a file that `backup` wrote." });
  const incoming = `${path}.incoming`;
  const removeIncoming = () => {
    for (const suffix of ["", "-wal", "-shm", ".lock"]) rmSync(incoming + suffix, { force: true });
  };
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const unlock = lockFile(path);
  try {
    removeIncoming();
    copyFileSync(copy, incoming);
    const summary = summarize(incoming);
    refuseOlder(summary, path);
    const database = openDatabase(incoming);
    try {
      checkKeys(database, mailboxSealing(vault));
    } finally {
      database.close();
    }
    syncToDisk(incoming);
    const aside = `${path}.replaced-${new Date(clock.now()).toISOString().replaceAll(":", "")}`;
    const replaced = existsSync(path) ? aside : null;
    // SQLite would replay the log of another database into the copy. One is left where a killed process had the store.
    for (const suffix of ["", "-wal", "-shm"]) if (existsSync(path + suffix)) renameSync(path + suffix, aside + suffix);
    renameSync(incoming, path);
    syncToDisk(dirname(path));
    return { summary, replaced };
  } catch (error) {
    throw error instanceof Problem ? error : toFileProblem(`${copy} cannot be put back as ${path}`, error);
  } finally {
    removeIncoming();
    unlock();
  }
}

function refuseOlder({ newest }: StoreSummary, path: string): void {
  if (!existsSync(path)) return;
  const present = summarize(path);
  if (present.newest === null || (newest !== null && newest >= present.newest)) return;
  const message = `The store ${path} has newer data (${present.newest}) than the backup (${newest ?? "empty"})`;
  const fix = `Move ${basename(path)} out of ${dirname(path)} first, if you want the backup all the same.`;
  throw new Problem("store", message, { retry: "never", fix });
}

function syncToDisk(path: string): void {
  const file = openSync(path, "r");
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

function toFileProblem(what: string, cause: unknown): Problem {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new Problem("store", `${what}: ${why}`, { retry: "never", cause });
}
