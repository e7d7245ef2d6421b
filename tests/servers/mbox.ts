/** Puts messages into an mbox file as a mail transfer agent does: under the lock file that all its programs respect. */
import { appendFile, chown, open, readFile, rm } from "node:fs/promises";
import { eventually } from "./waiting.ts";

/** Appends messages to the file of a user, which need not exist. */
export function appendToMbox(path: string, uid: number, raws: (Buffer | string)[]): Promise<void> {
  const entries = raws.map((raw) => {
    const text = Buffer.from(raw)
      .toString("latin1")
      .replaceAll("\r\n", "\n")
      .replaceAll(/^From /gm, ">From ");
    return `From sender@sender.example ${mboxDate(new Date())}\n${text}${text.endsWith("\n") ? "" : "\n"}\n`;
  });
  return withLock(path, async () => {
    await appendFile(path, entries.join(""), { encoding: "latin1", mode: 0o660 });
    await chown(path, uid, uid);
  });
}

export function countInMbox(path: string): Promise<number> {
  return withLock(path, async () => (await readFile(path, "latin1")).match(/^From /gm)?.length ?? 0);
}

async function withLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const lock = `${path}.lock`;
  const held = await eventually(() => open(lock, "wx").catch(() => undefined), `${lock} to go`);
  await held.close();
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}

/** "Tue Dec  1 00:14:07 2026" */
function mboxDate(date: Date): string {
  const [, day = "", number = "", month = "", year = "", time = ""] =
    /^(\w+), (\d+) (\w+) (\d+) (\S+)/.exec(date.toUTCString()) ?? [];
  return `${day} ${month} ${String(Number(number)).padStart(2)} ${time} ${year}`;
}
