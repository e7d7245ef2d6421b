/**
 * Debian packages that exclude each other, unpacked beside the system: each set of packages has a folder of its own, and
 * nothing is installed.
 */
import { mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { canInstall, isThere } from "./install.ts";
import { run } from "./program.ts";
import type { TestContext } from "./provide.ts";

/** Servers change to users that may not look into the home of root. */
const CACHE = "/var/cache/email-listener-tests";
const MINUTES = 60_000;

/** Single programs that need nothing installed. `tests/prepare.ts` gets them before the tests run. */
export const PROMTOOL = ["prometheus"];
export const NGINX = ["nginx"];

/** Where the files of the packages are, as if this folder were the root; undefined if they cannot be had. */
export async function findUnpacked(packages: string[]): Promise<string | undefined> {
  const folder = join(CACHE, packages.join("+"));
  if (await isThere(folder)) return folder;
  if (!(await canInstall())) return undefined;
  await unpack(packages, folder);
  return folder;
}

/** The same. Undefined and skipped if they cannot be had. */
export async function unpackedOrSkip(context: TestContext, packages: string[]): Promise<string | undefined> {
  const folder = await findUnpacked(packages);
  if (folder !== undefined) return folder;
  const why = `${packages.join(", ")} cannot be unpacked: run as root on Debian`;
  if (process.env["TESTS_MUST_NOT_SKIP"]) throw new Error(why);
  console.log(`Skipped: ${why}`);
  context.skip(why);
  return undefined;
}

/** As `unpackedOrSkip`, for commands that nobody runs without wanting these packages. */
export async function unpacked(packages: string[]): Promise<string> {
  const folder = await findUnpacked(packages);
  if (folder === undefined) throw new Error(`${packages.join(", ")} cannot be unpacked: run as root on Debian`);
  return folder;
}

/** Test processes may do this at the same time: the folder appears whole or not at all. */
async function unpack(packages: string[], folder: string): Promise<void> {
  console.log(`Unpacking for the tests: ${packages.join(" ")}`);
  const work = `${folder}.${process.pid}`;
  await mkdir(join(work, "root"), { recursive: true });
  try {
    await run("apt-get", ["-q", "download", ...packages], { cwd: work, timeoutMs: 15 * MINUTES });
    for (const name of (await readdir(work)).filter((one) => one.endsWith(".deb")))
      await run("dpkg", ["-x", join(work, name), join(work, "root")]);
    await rename(join(work, "root"), folder).catch((error: unknown) => {
      if (!(error instanceof Error && "code" in error && error.code === "ENOTEMPTY")) throw error;
    });
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
