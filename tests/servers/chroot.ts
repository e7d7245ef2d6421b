/**
 * A root folder of its own for servers whose paths and users are compiled in: unpacked packages, the libraries of this
 * machine that they need, and users that only they know. Needs root.
 */
import { chmod, copyFile, mkdir, readdir, readlink, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Program, run, startProgram, temporaryFolder } from "./program.ts";
import { unpacked } from "./unpack.ts";
import { eventually } from "./waiting.ts";

export type Chroot = {
  /** Outside; its caller removes it. */
  folder: string;
  /** Runs a program inside to its end. */
  run(program: string, args: string[]): Promise<string>;
  start(program: string, args: string[], env?: Record<string, string>): Promise<Program>;
  /** Kills whatever runs inside, also what has left the group of its parent. */
  kill(): Promise<void>;
};

const LIBRARIES = ["/usr/lib", "/usr/lib/x86_64-linux-gnu", "/lib/x86_64-linux-gnu"];

/** Puts the packages into a folder, and the libraries of their programs and modules. */
export async function makeChroot(name: string, packages: string[], programs: string[]): Promise<Chroot> {
  const root = await unpacked(packages);
  const folder = await temporaryFolder(name);
  await chmod(folder, 0o755);
  await run("cp", ["-a", `${root}/.`, folder]);
  for (const path of await librariesOf(folder, programs)) {
    await mkdir(join(folder, dirname(path)), { recursive: true });
    await copyFile(path, join(folder, path));
  }
  for (const [one, mode] of [
    ["dev", 0o755],
    ["etc", 0o755],
    ["home", 0o755],
    ["tmp", 0o1777],
  ] as const) {
    await mkdir(join(folder, one), { recursive: true });
    await chmod(join(folder, one), mode);
  }
  for (const [device, minor] of [
    ["null", "3"],
    ["urandom", "9"],
  ] as const)
    await run("mknod", ["-m", "666", join(folder, "dev", device), "c", "1", minor]);
  await writeFile(join(folder, "etc/nsswitch.conf"), "passwd: files\ngroup: files\nshadow: files\n");
  const libraries = { LD_LIBRARY_PATH: LIBRARIES.join(":") };
  return {
    folder,
    run: (program, args) => run("chroot", [folder, program, ...args], { env: libraries }),
    start: (program, args, env = {}) =>
      startProgram("chroot", [folder, program, ...args], { env: { ...libraries, ...env } }),
    kill: async () => {
      for (const pid of await insiders(folder)) process.kill(pid, "SIGKILL");
      await eventually(async () => (await insiders(folder)).length === 0, `the processes in ${folder} to end`);
    },
  };
}

async function insiders(folder: string): Promise<number[]> {
  const pids = (await readdir("/proc")).filter((name) => /^\d+$/.test(name));
  const roots = await Promise.all(pids.map((pid) => readlink(`/proc/${pid}/root`).catch(() => undefined)));
  return pids.filter((_, index) => roots[index] === folder).map(Number);
}

/** The machine's own libraries that the programs load, by their full paths. */
async function librariesOf(folder: string, programs: string[]): Promise<string[]> {
  const env = { LD_LIBRARY_PATH: LIBRARIES.map((one) => join(folder, one)).join(":") };
  const paths = programs.map((one) => join(folder, one));
  const printed = await run("ldd", paths, { env });
  const missing = /^\s*(\S+) => not found$/m.exec(printed)?.[1];
  if (missing !== undefined) throw new Error(`${missing} is in no package of ${folder}`);
  const found = [...printed.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x/gm)].map(([, path = ""]) => path);
  return [...new Set(found)].filter((path) => !path.startsWith(folder));
}

/** The users that programs inside know, with their passwords as crypt(3) has them. */
export async function writeUsers(folder: string, users: ChrootUser[]): Promise<void> {
  const all: ChrootUser[] = [{ name: "root", uid: 0, home: "/", crypted: "*" }, ...users];
  const lines = (line: (user: ChrootUser) => string) => all.map((user) => `${line(user)}\n`).join("");
  const etc = join(folder, "etc");
  await writeFile(
    join(etc, "passwd"),
    lines(({ name, uid, home }) => `${name}:x:${uid}:${uid}::${home}:/bin/sh`),
  );
  await writeFile(
    join(etc, "group"),
    lines(({ name, uid }) => `${name}:x:${uid}:`),
  );
  await writeFile(
    join(etc, "shadow"),
    lines(({ name, crypted }) => `${name}:${crypted}:19000:0:99999:7:::`),
    { mode: 0o600 },
  );
}

export type ChrootUser = { name: string; uid: number; home: string; crypted: string };

/** A password as crypt(3) has it. */
export async function encryptPassword(password: string): Promise<string> {
  return (await run("openssl", ["passwd", "-6", password])).trim();
}
