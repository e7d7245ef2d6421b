/** A private Cyrus IMAP for tests, from unpacked packages: IMAP, POP3, and a process that notifies of new mail (idled). */
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type KeyPair, makeCertificates } from "./certificates.ts";
import { endSessions } from "./dovecot.ts";
import { quoted } from "./imap-connection.ts";
import { imapControl } from "./imap-control.ts";
import type { MailServer } from "./mail-server.ts";
import { freePorts } from "./ports.ts";
import { listening, type Program, removeFolder, run, startProgram, temporaryFolder } from "./program.ts";
import { unpacked } from "./unpack.ts";

/** Its mail goes with `stop`. */
export type Cyrus = MailServer & { pop3Port: number; pop3sPort: number };

const PACKAGES = ["cyrus-imapd", "cyrus-common", "cyrus-pop3d", "sasl2-bin", "libsasl2-modules-db"];
const LIBRARIES = ["libical3", "libclamav12", "libpcre3", "libxapian30", "libzephyr4"];
const REALM = "cyrus.example.com";
const ADMIN = "cyrus";

type Settings = {
  folder: string;
  /** Where its programs are. */
  bin: string;
  ports: { imap: number; imaps: number; pop3: number; pop3s: number };
  server: KeyPair;
};

/** Starts a Cyrus with no mail; resolves once all its ports take connections. */
export async function startCyrus(): Promise<Cyrus> {
  const root = await unpacked([...PACKAGES, ...LIBRARIES]);
  const env = { LD_LIBRARY_PATH: ["usr/lib", "lib"].map((one) => join(root, one, "x86_64-linux-gnu")).join(":") };
  const folder = await temporaryFolder("cyrus");
  const [imap = 0, imaps = 0, pop3 = 0, pop3s = 0] = await freePorts(4);
  const ports = { imap, imaps, pop3, pop3s };
  const { ca, server } = await makeCertificates();
  const passwords = new Map([[ADMIN, "of the administrator"]]);
  const control = imapControl({ port: () => imap, password: (user) => passwords.get(user) ?? "", multiAppend: true });
  const setPassword = async (name: string, password: string) => {
    const script = 'printf %s "$2" | "$0" -p -c -f "$3" -u "$4" "$1"';
    const program = join(root, "usr/sbin/saslpasswd2");
    await run("sh", ["-c", script, program, name, password, join(folder, "sasldb2"), REALM], { env });
    passwords.set(name, password);
  };
  await writeFiles({ folder, bin: join(root, "usr/lib/cyrus/bin"), ports, server });
  await setPassword(ADMIN, passwords.get(ADMIN) ?? "");
  await run("chown", ["-R", "mail:mail", folder]);
  await chmod(folder, 0o755);
  let program: Program | undefined;
  const start = async () => {
    const files = ["-C", "imapd.conf", "-M", "cyrus.conf", "-p", "master.pid"].map((word) =>
      word.startsWith("-") ? word : join(folder, word),
    );
    program = await startProgram(join(root, "usr/lib/cyrus/bin/master"), [...files, "-D"], { env, cwd: folder });
    for (const port of Object.values(ports)) await listening(program, port);
  };
  const ended = async (end: (one: Program) => Promise<void>) => {
    await control.close();
    if (program) await end(program);
    program = undefined;
  };
  await start();
  return {
    name: "Cyrus 3.6",
    host: "127.0.0.1",
    imapPort: imap,
    imapsPort: imaps,
    pop3Port: pop3,
    pop3sPort: pop3s,
    ca,
    addUser: async (name, password) => {
      await setPassword(name, password);
      for (const box of ["", "/Sent", "/Drafts", "/Trash", "/Junk"])
        await control.command(ADMIN, `CREATE ${quoted(`user/${name}${box}`)}`);
    },
    setPassword,
    append: async (user, path, raw) => (await control.append(user, path, [raw]))[0] ?? 0,
    appendMany: control.append,
    createFolder: control.createFolder,
    expunge: control.expunge,
    flags: control.flags,
    count: control.count,
    changeUidValidity: (user, path) => control.recreate(user, path),
    disconnectAll: async () => {
      if (program) await endSessions(program.pid);
    },
    stop: async () => {
      await ended((one) => one.stop());
      await removeFolder(folder);
    },
    kill: () => ended((one) => one.kill()),
    start,
  };
}

async function writeFiles(settings: Settings): Promise<void> {
  const { folder, server } = settings;
  for (const name of ["spool", "lib", ...LIB_FOLDERS.map((one) => `lib/${one}`)])
    await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(folder, "server.pem"), server.cert);
  await writeFile(join(folder, "server.key"), server.key, { mode: 0o600 });
  await writeFile(join(folder, "imapd.conf"), imapdConf(folder));
  await writeFile(join(folder, "cyrus.conf"), cyrusConf(settings));
}

const LIB_FOLDERS = ["db", "log", "msg", "proc", "ptclient", "quota", "socket", "sync", "user", "lock"];

function imapdConf(folder: string): string {
  return `
configdirectory: ${folder}/lib
defaultpartition: default
partition-default: ${folder}/spool
cyrus_user: mail
admins: ${ADMIN}
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: ${folder}/sasldb2
sasl_mech_list: PLAIN
servername: ${REALM}
idlesocket: ${folder}/lib/socket/idle
notifysocket: ${folder}/lib/socket/notify
proc_path: ${folder}/lib/proc
tls_server_cert: ${folder}/server.pem
tls_server_key: ${folder}/server.key
popminpoll: 0
`;
}

function cyrusConf({ folder, bin, ports }: Settings): string {
  const conf = `-C ${folder}/imapd.conf`;
  const service = (name: string, program: string, port: number) =>
    `  ${name} cmd="${bin}/${program.replace(" ", ` ${conf} `)}" listen="127.0.0.1:${port}" prefork=0`;
  return `
START {
  recover cmd="${bin}/ctl_cyrusdb ${conf} -r"
  idled cmd="${bin}/idled ${conf}"
}
SERVICES {
${service("imap", "imapd ", ports.imap)}
${service("imaps", "imapd -s", ports.imaps)}
${service("pop3", "pop3d ", ports.pop3)}
${service("pop3s", "pop3d -s", ports.pop3s)}
}
EVENTS {
  checkpoint cmd="${bin}/ctl_cyrusdb ${conf} -c" period=60
}
`;
}
