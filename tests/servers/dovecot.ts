/**
 * A private Dovecot 2.3 for tests: own configuration, own folders, free ports, no trace outside its temporary folder.
 * It speaks IMAP and POP3 (each plain with STARTTLS/STLS, and TLS) and LMTP, and holds thousands of IDLE connections.
 */
import { existsSync } from "node:fs";
import { chmod, chown, mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { userInfo } from "node:os";
import { join } from "node:path";
import { makeCertificates } from "./certificates.ts";
import { dovecotConfig, type DovecotPorts, usersConfig } from "./dovecot-config.ts";
import { encodeFolderName } from "./imap/store.ts";
import { type ImapControl, imapControl } from "./imap-control.ts";
import { deliverByLmtp } from "./lmtp.ts";
import type { MailServer } from "./mail-server.ts";
import { freePorts } from "./ports.ts";
import { listening, type Program, removeFolder, run, startProgram, temporaryFolder } from "./program.ts";
import { eventually } from "./waiting.ts";

/** A real server; its mail outlasts `stop`, `kill` and `start`, and goes with `remove`. */
export type Dovecot = MailServer & {
  pop3Port: number;
  pop3sPort: number;
  lmtpPort: number;
  /** Where its files are. */
  folder: string;
  /** Delivers to INBOX as a mail transfer agent does (LMTP), with Return-Path and Received lines on top. */
  deliver(user: string, raw: Buffer | string): Promise<void>;
  /** Freezes all its processes: connections stay open, nobody answers. */
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** What it has logged. */
  log(): Promise<string>;
  /** Kills it if it runs, and removes its folder. */
  remove(): Promise<void>;
};

export type DovecotOptions = {
  /** Users with their passwords, to begin with. */
  users?: Record<string, string>;
  /** The program, if it is not the one on the path. */
  program?: string;
  /** Lines to add to the configuration. */
  config?: string;
};

/** The version of the program, undefined without one. Only 2.3 can be started: 2.4 has another configuration language. */
export function dovecotVersion(program = "dovecot"): Promise<string | undefined> {
  return run(program, ["--version"]).then(
    (text) => text.trim().split(" ")[0],
    () => undefined,
  );
}

/** Starts a Dovecot with no mail; resolves once all its ports take connections. */
export async function startDovecot(options: DovecotOptions = {}): Promise<Dovecot> {
  const command = options.program ?? "dovecot";
  const version = (await dovecotVersion(command)) ?? "";
  const folder = await temporaryFolder("dovecot");
  const [imap = 0, imaps = 0, pop3 = 0, pop3s = 0, lmtp = 0] = await freePorts(5);
  const ports = { imap, imaps, pop3, pop3s, lmtp };
  const ca = await writeFiles(folder, ports, options.config ?? "");
  const users = userFiles(folder);
  const control = imapControl({ port: () => imap, password: users.password, multiAppend: true });
  let program: Program | undefined;
  const ended = async (end: (one: Program) => Promise<void>): Promise<void> => {
    await control.close();
    if (program) await end(program);
    program = undefined;
  };
  const dovecot: Dovecot = {
    name: `Dovecot ${version}`,
    host: "127.0.0.1",
    imapPort: imap,
    imapsPort: imaps,
    pop3Port: pop3,
    pop3sPort: pop3s,
    lmtpPort: lmtp,
    ca,
    folder,
    addUser: users.set,
    setPassword: users.set,
    append: async (user, path, raw) => (await control.append(user, path, [raw]))[0] ?? 0,
    appendMany: control.append,
    deliver: (user, raw) => deliverByLmtp(lmtp, user, raw),
    createFolder: control.createFolder,
    expunge: control.expunge,
    flags: control.flags,
    count: control.count,
    changeUidValidity: (user, path) =>
      changeUidValidity(control, join(folder, "mail", user, "Maildir"), { user, path }),
    disconnectAll: async () => {
      if (program) await endSessions(program.pid);
    },
    pause: async () => program?.signal("SIGSTOP"),
    resume: async () => program?.signal("SIGCONT"),
    // Its clients hear BYE at once; some of its processes would take 5 s more.
    stop: () => ended((one) => one.stop(1500)),
    kill: () => ended((one) => one.kill()),
    start: async () => {
      program = await startProgram(command, ["-F", "-c", join(folder, "dovecot.conf")]);
      for (const port of Object.values(ports)) await listening(program, port).catch(explained(dovecot));
    },
    log: () => readFile(join(folder, "log"), "utf8").catch(() => ""),
    remove: async () => {
      await ended((one) => one.kill());
      await removeFolder(folder);
    },
  };
  await Promise.all(Object.entries(options.users ?? {}).map(([name, password]) => users.set(name, password)));
  await dovecot.start();
  return dovecot;
}

function explained(dovecot: Dovecot): (error: unknown) => Promise<never> {
  return async (error) => {
    throw new Error(`Dovecot does not start: ${await dovecot.log()}`, { cause: error });
  };
}

async function writeFiles(folder: string, ports: DovecotPorts, extra: string): Promise<string> {
  const { ca, server } = await makeCertificates();
  const root = process.getuid?.() === 0;
  // A user of its own for each instance: the kernel counts inotify instances (128) by user.
  const uid = root ? 20_000 + Math.floor(Math.random() * 40_000) : (process.getuid?.() ?? 0);
  const gid = root ? uid : (process.getgid?.() ?? 0);
  const group = root ? "" : (await run("id", ["-gn"])).trim();
  const unprivileged = root ? undefined : { user: userInfo().username, group };
  await chmod(folder, 0o755);
  await mkdir(join(folder, "mail"));
  if (root) await chown(join(folder, "mail"), uid, gid);
  await writeFile(join(folder, "server.pem"), server.cert);
  await writeFile(join(folder, "server.key"), server.key, { mode: 0o600 });
  await mkdir(join(folder, "users"));
  await writeFile(join(folder, "users.conf"), usersConfig(folder));
  const config = dovecotConfig({ folder, ports, uid, gid, unprivileged, extra });
  await writeFile(join(folder, "dovecot.conf"), config);
  return ca;
}

type Users = { set(name: string, password: string): Promise<void>; password(name: string): string };

// One file for each user, which Dovecot reads at each login: a passwd-file is looked at once a second only.
function userFiles(folder: string): Users {
  const passwords = new Map<string, string>();
  return {
    set: async (name, password) => {
      passwords.set(name, password);
      const path = join(folder, "users", name);
      const fields = { password: `{PLAIN.HEX}${Buffer.from(password).toString("hex")}` };
      await writeFile(`${path}.new`, JSON.stringify(fields));
      await rename(`${path}.new`, path);
    },
    password: (name) => {
      const password = passwords.get(name);
      if (password === undefined) throw new Error(`Dovecot has no user ${name}`);
      return password;
    },
  };
}

async function changeUidValidity(
  control: ImapControl,
  maildir: string,
  { user, path }: { user: string; path: string },
): Promise<number> {
  const before = await control.uidValidity(user, path);
  await control.close();
  await forgetUids(maildir, path);
  // Until the sessions that have the folder open are thrown out, Dovecot may refuse to open it.
  const changed = async (): Promise<number | undefined> => {
    const now = await control.uidValidity(user, path).catch(() => before);
    return now === before ? undefined : now;
  };
  return eventually(changed, `a new UIDVALIDITY of ${path}`, 10_000, 100);
}

// Without its list of UIDs a Maildir gets a new UIDVALIDITY and new UIDs, as after a restore from a backup.
async function forgetUids(maildir: string, path: string): Promise<void> {
  const folder =
    path.toUpperCase() === "INBOX" ? maildir : join(maildir, `.${encodeFolderName(path).replaceAll("/", ".")}`);
  const files = await readdir(folder);
  const lists = files.filter((file) => file === "dovecot-uidlist" || /^dovecot\.(list\.)?index/.test(file));
  await Promise.all(lists.map((file) => rm(join(folder, file), { force: true })));
}

/** Ends the processes of all mail sessions that this process has started, as an administrator does who throws everybody out. */
export async function endSessions(group: number, names = /^(imap|pop3)/): Promise<void> {
  const entries = await readdir("/proc");
  const stats = await Promise.all(
    entries
      .filter((entry) => /^\d+$/.test(entry))
      .map((entry) => readFile(`/proc/${entry}/stat`, "utf8").catch(() => "")),
  );
  const pids = stats.flatMap((stat) => {
    const [, pid, name, ...parentAndGroup] = /^(\d+) \((.*)\) \S+ (\d+) (\d+)/.exec(stat) ?? [];
    const isStarted = Number(pid) !== group && parentAndGroup.includes(String(group));
    return isStarted && names.test(name ?? "") ? [Number(pid)] : [];
  });
  for (const pid of pids) process.kill(pid, "SIGTERM");
  // A login process that is about to end still takes connections, to say that it is shutting down.
  await eventually(() => pids.every((pid) => !existsSync(`/proc/${pid}`)), "the sessions' processes to end");
}
