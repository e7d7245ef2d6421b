/**
 * A private Courier for tests, from unpacked packages: IMAP and POP3. Mail comes into its Maildirs as from a mail
 * transfer agent, and it looks for it once a minute (IDLE) or when a client asks. Needs root.
 */
import { chmod, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCertificates } from "./certificates.ts";
import { type Chroot, encryptPassword, makeChroot, writeUsers } from "./chroot.ts";
import { endSessions } from "./dovecot.ts";
import { quoted } from "./imap-connection.ts";
import { imapControl } from "./imap-control.ts";
import { deliverToMaildir, makeMaildir } from "./maildir.ts";
import type { MailServer } from "./mail-server.ts";
import { freePorts } from "./ports.ts";
import { listening, type Program, removeFolder } from "./program.ts";
import { eventually } from "./waiting.ts";

/** Its mail goes with `stop`. */
export type Courier = MailServer & { pop3Port: number; pop3sPort: number };

const PACKAGES = ["courier-imap", "courier-pop", "courier-base", "courier-authdaemon", "courier-authlib"];
const LIBRARIES = ["courier-authlib-userdb", "libidn12", "libcourier-unicode4", "libltdl7", "libgamin0", "gamin"];
const DAEMON = "/usr/lib/courier/courier-authlib/authdaemond";
const MAKEDAT = "/usr/lib/courier/courier-authlib/makedatprog";
const COURIER = "/usr/lib/courier/courier";
const PROGRAMS = [
  DAEMON,
  MAKEDAT,
  ...["imaplogin", "courierpop3login", "courierpop3d"].map((name) => `${COURIER}/${name}`),
  "/usr/sbin/couriertcpd",
  "/usr/bin/couriertls",
  "/usr/bin/imapd",
  "/usr/libexec/gam_server",
  "/usr/lib/courier-authlib/libauthuserdb.so",
];
const UID = 30_143;

type Ports = { imap: number; imaps: number; pop3: number; pop3s: number };

const noLogin = (name: string, uid: number) => ({ name, uid, home: "/home", crypted: "*" });

/** Its folders are below INBOX. */
export function courierPath(folder: string): string {
  return folder.toUpperCase() === "INBOX" ? folder : `INBOX.${folder}`;
}

/** Starts a Courier with no mail; resolves once all its ports take connections. */
export async function startCourier(): Promise<Courier> {
  const inside = await makeChroot("courier", [...PACKAGES, ...LIBRARIES], PROGRAMS);
  const { folder } = inside;
  const [imap = 0, imaps = 0, pop3 = 0, pop3s = 0] = await freePorts(4);
  const ports: Ports = { imap, imaps, pop3, pop3s };
  const { ca, server } = await makeCertificates();
  await mkdir(join(folder, "run/courier/authdaemon"), { recursive: true });
  await writeFile(join(folder, "etc/courier/server.pem"), `${server.cert}${server.key}`, { mode: 0o644 });
  await writeFile(join(folder, "etc/courier/authdaemonrc"), AUTHDAEMONRC);
  // TLS is done as `courier`; whoever watches a folder needs a name.
  await writeUsers(folder, [noLogin("courier", UID + 1), noLogin("vmail", UID)]);
  const users = userDatabase(inside);
  await users.write();
  const control = imapControl({ port: () => imap, password: users.password, multiAppend: false });
  const maildir = (user: string, name: string) =>
    join(folder, "home", user, "Maildir", name.toUpperCase() === "INBOX" ? "" : `.${name}`);
  const appendMany = async (user: string, name: string, raws: (Buffer | string)[]) => {
    const names = await deliverToMaildir(maildir(user, name), UID, raws);
    // It numbers what is new when a client opens the folder.
    await control.command(user, `SELECT ${quoted(courierPath(name))}`);
    await control.uidValidity(user, courierPath(name));
    return uidsOf(maildir(user, name), names);
  };
  let programs: Program[] = [];
  const start = async () => {
    programs = [await inside.start(DAEMON, [])];
    for (const { port, args, env } of takers(ports)) {
      const program = await inside.start("/usr/sbin/couriertcpd", args, { ...SETTINGS, ...env });
      programs.push(program);
      await listening(program, port);
    }
  };
  const kill = async () => {
    await control.close();
    await Promise.all(programs.splice(0).map((program) => program.kill()));
    // A process that watches folders belongs to nobody.
    await inside.kill();
  };
  await start();
  return {
    name: "Courier 5.0",
    host: "127.0.0.1",
    imapPort: imap,
    imapsPort: imaps,
    pop3Port: pop3,
    pop3sPort: pop3s,
    ca,
    addUser: async (name, password) => {
      await users.set(name, password);
      await makeMaildir(join(folder, "home", name), UID);
      await makeMaildir(maildir(name, "INBOX"), UID);
    },
    setPassword: users.set,
    append: async (user, name, raw) => (await appendMany(user, name, [raw]))[0] ?? 0,
    appendMany,
    createFolder: (user, name) => control.createFolder(user, courierPath(name)),
    expunge: (user, name, uid) => control.expunge(user, courierPath(name), uid),
    flags: (user, name) => control.flags(user, courierPath(name)),
    count: (user, name) => control.count(user, courierPath(name)),
    changeUidValidity: async (user, name) => {
      const before = await control.uidValidity(user, courierPath(name));
      // The new one is the second in which the folder is opened.
      const changed = async () => {
        await rm(join(maildir(user, name), "courierimapuiddb"), { force: true });
        await control.command(user, `SELECT ${quoted(courierPath(name))}`);
        const now = await control.uidValidity(user, courierPath(name));
        return now !== before && now;
      };
      return eventually(changed, `a new UIDVALIDITY of ${name}`, 10_000, 500);
    },
    disconnectAll: async () => {
      for (const { pid } of programs) await endSessions(pid, /^courier(tls|pop3)|^imap/);
    },
    stop: async () => {
      await kill();
      await removeFolder(folder);
    },
    kill,
    start,
  };
}

const AUTHDAEMONRC = `authmodulelist="authuserdb"
authmodulelistorig="authuserdb"
daemons=3
authdaemonvar=/run/courier/authdaemon
DEBUG_LOGIN=0
DEFAULTOPTIONS=""
LOGGEROPTS=""
`;

/** What Debian's start scripts hand to the programs. */
const SETTINGS = {
  IMAP_CAPABILITY: "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE",
  IMAP_KEYWORDS: "1",
  IMAP_ACL: "1",
  IMAP_IDLE_TIMEOUT: "5",
  IMAP_MAILBOX_SANITY_CHECK: "1",
  IMAP_CHECK_ALL_FOLDERS: "0",
  IMAP_OBSOLETE_CLIENT: "0",
  IMAP_USELOCKS: "1",
  IMAP_ENHANCEDIDLE: "0",
  IMAP_TRASHFOLDERNAME: "Trash",
  IMAP_STARTTLS: "YES",
  POP3_STARTTLS: "YES",
  IMAP_TLS_REQUIRED: "0",
  POP3_TLS_REQUIRED: "0",
  COURIERTLS: "/usr/bin/couriertls",
  TLS_CERTFILE: "/etc/courier/server.pem",
  TLS_VERIFYPEER: "NONE",
};

/** The command of each port, for programs that are started one by one: each leaves the group of its parent. */
function takers(ports: Ports): { port: number; args: string[]; env: Record<string, string> }[] {
  const options = ["-address=127.0.0.1", "-maxprocs=200", "-maxperip=200", "-nodnslookup", "-noidentlookup"];
  const imap = [`${COURIER}/imaplogin`, "/usr/bin/imapd", "Maildir"];
  const pop3 = [`${COURIER}/courierpop3login`, `${COURIER}/courierpop3d`, "Maildir"];
  const tls = ["/usr/bin/couriertls", "-server", "-tcpd"];
  return [
    { port: ports.imap, args: [...options, String(ports.imap), ...imap], env: {} },
    { port: ports.imaps, args: [...options, String(ports.imaps), ...tls, ...imap], env: { IMAP_TLS: "1" } },
    { port: ports.pop3, args: [...options, String(ports.pop3), ...pop3], env: {} },
    { port: ports.pop3s, args: [...options, String(ports.pop3s), ...tls, ...pop3], env: { POP3_TLS: "1" } },
  ];
}

const describeUser = (user: string) =>
  `${user}\tuid=${UID}|gid=${UID}|home=/home/${user}|mail=/home/${user}/Maildir|_=`;

/** The users in the files that authdaemond reads: without the passwords, and with them. */
function userDatabase({ folder, run }: Chroot) {
  const passwords = new Map<string, { plain: string; crypted: string }>();
  const fill = async (name: string, lines: string[]) => {
    await writeFile(join(folder, "etc/courier", `${name}.lines`), [...lines, ".", ""].join("\n"), { mode: 0o600 });
    await run(MAKEDAT, [`/etc/courier/${name}.lines`, `/etc/courier/${name}.tmp`, `/etc/courier/${name}.new`]);
    await chmod(join(folder, "etc/courier", `${name}.new`), 0o600);
    await rename(join(folder, "etc/courier", `${name}.new`), join(folder, "etc/courier", `${name}.dat`));
  };
  const write = async () => {
    const names = [...passwords.keys()];
    await fill("userdb", names.map(describeUser));
    await fill(
      "userdbshadow",
      names.map((user) => `${user}\tsystempw=${passwords.get(user)?.crypted}`),
    );
  };
  return {
    write,
    set: async (name: string, password: string) => {
      passwords.set(name, { plain: password, crypted: await encryptPassword(password) });
      await write();
    },
    password: (name: string) => passwords.get(name)?.plain ?? "",
  };
}

/** The uids of files of a Maildir, as Courier has written them down: after a first line, each uid with its file. */
async function uidsOf(path: string, names: string[]): Promise<number[]> {
  const lines = (await readFile(join(path, "courierimapuiddb"), "latin1")).split("\n").slice(1);
  const uids = new Map(
    lines.map((line) => [line.slice(line.indexOf(" ") + 1).split(":")[0], Number.parseInt(line, 10)]),
  );
  return names.map((name) => uids.get(name) ?? Number.NaN);
}
