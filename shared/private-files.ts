/** Files that hold secrets: only the user of the service may read them. */
import { chmodSync, closeSync, existsSync, openSync, readdirSync, readFileSync, statSync } from "node:fs";
import process from "node:process";

const FOR_OTHERS = 0o077;

/**
 * Reads a small text file that holds a secret, without white space around it. Throws an Error that names the file and the
 * remedy when it cannot be read, or when it belongs to this user and others may read it. A file of another user may be
 * readable to more users, because that is how containers provide secrets.
 */
export function readSecretFile(path: string): string {
  const text = readText(path).trim();
  if (isOwn(path) && (statSync(path).mode & FOR_OTHERS) !== 0) {
    throw new Error(`other users may read the file ${path}: run chmod 600 ${path}, and use a new secret if others did`);
  }
  return text;
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown error";
    throw new Error(`the file ${path} cannot be read (${code})`, { cause: error });
  }
}

/** Makes a file of this user unreadable to others. Creates it, empty, if there is none and `create` is true. */
export function protectFile(path: string, { create }: { create: boolean }): void {
  if (create) closeSync(openSync(path, "a", 0o600));
  if (existsSync(path) && isOwn(path) && (statSync(path).mode & FOR_OTHERS) !== 0) chmodSync(path, 0o600);
}

/**
 * Closes a folder of this user to others, if there is nothing in it but files that `isKnown` accepts. A folder that is used
 * for something else as well stays as it is.
 */
export function protectFolder(path: string, isKnown: (name: string) => boolean): void {
  if (!isOwn(path) || (statSync(path).mode & FOR_OTHERS) === 0) return;
  if (readdirSync(path).every(isKnown)) chmodSync(path, 0o700);
}

function isOwn(path: string): boolean {
  return statSync(path).uid === process.getuid?.();
}
