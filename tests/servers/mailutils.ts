/**
 * GNU Mailutils' imap4d and pop3d for tests, from unpacked packages, with mail that comes as from a mail transfer agent.
 * What they keep goes with `stop`. Needs root.
 */
import { chmod, chown, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCertificates } from "./certificates.ts";
import type { MaildropServer } from "../promises/maildrops.ts";
import { type ChrootUser, encryptPassword, makeChroot, writeUsers } from "./chroot.ts";
import { endSessions } from "./dovecot.ts";
import { encodeFolderName } from "./imap/store.ts";
import { quoted } from "./imap-connection.ts";
import { isThere } from "./install.ts";
import { imapControl } from "./imap-control.ts";
import { deliverToMaildir, makeMaildir } from "./maildir.ts";
import { appendToMbox, countInMbox } from "./mbox.ts";
import type { MailServer } from "./mail-server.ts";
import { freePorts } from "./ports.ts";
import { listening, type Program, removeFolder } from "./program.ts";

const PACKAGES = ["mailutils-imap4d", "mailutils-pop3d", "libmailutils9", "libmu-dbm9"];
const LIBRARIES = [
  "libidn12",
  "libgsasl18",
  "libmariadb3",
  "libkyotocabinet16v5",
  "libntlm0",
  "libgssglue1",
  "liblzo2-2",
];
const IMAP = "/usr/sbin/imap4d";
const POP3 = "/usr/sbin/pop3d";
const FIRST_UID = 30_200;

/** Both programs with their users; what holds the mail is said by their caller. */
async function startPrograms(format: "maildir" | "mbox") {
  const inside = await makeChroot("mailutils", [...PACKAGES, ...LIBRARIES], [IMAP, POP3]);
  const { folder } = inside;
  const [imap = 0, imaps = 0, pop3 = 0, pop3s = 0] = await freePorts(4);
  const { ca, server } = await makeCertificates();
  await writeFile(join(folder, "etc/server.pem"), server.cert);
  await writeFile(join(folder, "etc/server.key"), server.key, { mode: 0o600 });
  await writeFile(join(folder, "etc/imap4d.rc"), settings(format, imap, imaps));
  await writeFile(join(folder, "etc/pop3d.rc"), settings(format, pop3, pop3s));
  await mkdir(join(folder, "var/mail"), { recursive: true });
  await chmod(join(folder, "var/mail"), 0o1777);
  const passwords = new Map<string, string>();
  // The programs want the group that mail files belong to.
  const users = new Map<string, ChrootUser>([["mail", { name: "mail", uid: 8, home: "/var/mail", crypted: "*" }]]);
  await writeUsers(folder, [...users.values()]);
  const setPassword = async (name: string, password: string) => {
    const uid = users.get(name)?.uid ?? FIRST_UID + users.size;
    const home = `/home/${name}`;
    passwords.set(name, password);
    users.set(name, { name, uid, home, crypted: await encryptPassword(password) });
    await mkdir(join(folder, home), { recursive: true });
    await chown(join(folder, home), uid, uid);
    await writeUsers(folder, [...users.values()]);
  };
  let programs: Program[] = [];
  const start = async () => {
    const taking = [
      { program: IMAP, settings: "/etc/imap4d.rc", ports: [imap, imaps] },
      { program: POP3, settings: "/etc/pop3d.rc", ports: [pop3, pop3s] },
    ];
    for (const one of taking) {
      const program = await inside.start(one.program, [`--config-file=${one.settings}`]);
      programs.push(program);
      for (const port of one.ports) await listening(program, port);
    }
  };
  const kill = async () => {
    await Promise.all(programs.splice(0).map((program) => program.kill()));
    await inside.kill();
  };
  await start();
  return {
    folder,
    host: "127.0.0.1",
    imapPort: imap,
    imapsPort: imaps,
    pop3Port: pop3,
    pop3sPort: pop3s,
    ca,
    setPassword,
    password: (user: string) => passwords.get(user) ?? "",
    uidOf: (user: string) => users.get(user)?.uid ?? 0,
    disconnectAll: async () => {
      for (const { pid } of programs) await endSessions(pid, /^(imap4d|pop3d)$/);
    },
    kill,
    start,
  };
}

/**
 * imap4d with no mail. Its mail comes into Maildirs: in mbox files it gives a folder a new UIDVALIDITY with each message
 * that comes.
 */
export async function startImap4d(): Promise<MailServer> {
  const { folder, setPassword, password, uidOf, kill, ...server } = await startPrograms("maildir");
  const control = imapControl({ port: () => server.imapPort, password, multiAppend: false });
  const pathOf = (user: string, name: string) =>
    name.toUpperCase() === "INBOX"
      ? join(folder, "var/mail", user)
      : join(folder, "home", user, encodeFolderName(name));
  const appendMany = async (user: string, name: string, raws: (Buffer | string)[]) => {
    const path = pathOf(user, name);
    if (!(await isThere(path))) await makeMaildir(path, uidOf(user));
    // It removes what is in `tmp` of the Maildir whenever it looks for mail.
    await deliverToMaildir(path, uidOf(user), raws, join(folder, "tmp"));
    await control.command(user, `SELECT ${quoted(name)}`);
    const found = (await control.command(user, "UID SEARCH ALL")).join(" ");
    await control.uidValidity(user, name);
    return [...found.matchAll(/\d+/g)].map(Number).slice(-raws.length);
  };
  const ended = async () => {
    await control.close();
    await kill();
  };
  return {
    ...server,
    name: "GNU Mailutils 3.15",
    addUser: setPassword,
    setPassword,
    append: async (user, name, raw) => (await appendMany(user, name, [raw]))[0] ?? 0,
    appendMany,
    createFolder: control.createFolder,
    // It has no UID EXPUNGE.
    expunge: async (user, name, uid) => {
      for (const command of [
        `SELECT ${quoted(name)}`,
        `UID STORE ${uid} +FLAGS.SILENT (\\Deleted)`,
        "EXPUNGE",
        "CLOSE",
      ])
        await control.command(user, command);
    },
    flags: control.flags,
    count: control.count,
    changeUidValidity: (user, name) => control.recreate(user, name),
    stop: async () => {
      await ended();
      await removeFolder(folder);
    },
    kill: ended,
  };
}

/**
 * pop3d with no mail. Its mail comes into mbox files under their lock, as Debian has it: of a Maildir it always says that
 * it is in use.
 */
export async function startPop3d(): Promise<MaildropServer> {
  const { folder, setPassword, uidOf, kill, ...server } = await startPrograms("mbox");
  const fileOf = (user: string) => join(folder, "var/mail", user);
  return {
    ...server,
    addUser: setPassword,
    append: (user, raw) => appendToMbox(fileOf(user), uidOf(user), [raw]),
    appendMany: (user, raws) => appendToMbox(fileOf(user), uidOf(user), raws),
    count: (user) => countInMbox(fileOf(user)),
    stop: async () => {
      await kill();
      await removeFolder(folder);
    },
  };
}

function settings(format: string, port: number, tlsPort: number): string {
  const tls = "tls { ssl-certificate-file /etc/server.pem; ssl-key-file /etc/server.key; };";
  return `auth { authentication "system"; authorization "system"; };
mailbox { mailbox-type ${format}; mail-spool /var/mail; };
logging { syslog no; };
mode daemon;
foreground yes;
pidfile /tmp/${port}.pid;
max-children 200;
timeout 1800;
server 127.0.0.1:${port} { tls-mode ondemand; ${tls} };
server 127.0.0.1:${tlsPort} { tls-mode connection; ${tls} };
`;
}
