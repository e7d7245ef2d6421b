/** Puts messages into a Maildir as a mail transfer agent does: written in `tmp`, renamed into `new`. */
import { chown, mkdir, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";

let written = 0;

/** Makes the folder with its three parts, for this user. */
export async function makeMaildir(path: string, uid: number): Promise<void> {
  for (const one of ["", "tmp", "new", "cur"]) {
    await mkdir(join(path, one), { recursive: true });
    await chown(join(path, one), uid, uid);
  }
}

/**
 * Delivers in this order; resolves with the unique part of each file's name. Files are written in `work`, which is on the
 * same file system.
 */
export async function deliverToMaildir(
  path: string,
  uid: number,
  raws: (Buffer | string)[],
  work = join(path, "tmp"),
): Promise<string[]> {
  const names: string[] = [];
  for (const raw of raws) {
    const [seconds, count] = [Math.floor(Date.now() / 1000), String(++written).padStart(6, "0")];
    const name = `${seconds}.M${count}P${process.pid}.tests`;
    // Files have the line ends of the machine.
    const text = Buffer.from(raw).toString("latin1").replaceAll("\r\n", "\n");
    await writeFile(join(work, name), text, { encoding: "latin1", mode: 0o600 });
    await chown(join(work, name), uid, uid);
    await rename(join(work, name), join(path, "new", name));
    names.push(name);
  }
  return names;
}
