/**
 * GreenMail, a mail server written in Java and kept by others, for tests: IMAP, POP3 and SMTP, plain and TLS. Its
 * mail lives in memory and is gone after `stop` and `kill`. Clients reach IMAP through a proxy, so that they can be
 * thrown out.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { imapControl } from "./imap-control.ts";
import type { MailServer } from "./mail-server.ts";
import { freePorts } from "./ports.ts";
import { listening, type Program, removeFolder, run, startProgram, temporaryFolder } from "./program.ts";
import { type Proxy, startProxy } from "./proxy.ts";
import { eventually } from "./waiting.ts";

/** A GreenMail; `changeUidValidity` works for all folders but INBOX, STARTTLS is not offered. */
export type GreenMail = MailServer & {
  smtpPort: number;
  pop3Port: number;
  pop3sPort: number;
  /** Kills it if it runs, and removes its files. */
  remove(): Promise<void>;
};

/** Where a GreenMail listens; a port of 0 means that it does not speak this. */
export type GreenMailAddress = {
  host: string;
  imap: number;
  imaps: number;
  pop3: number;
  pop3s: number;
  smtp: number;
  api: number;
};

/** What runs GreenMail: a program here, a container, or nothing when it runs elsewhere. */
export type GreenMailRunner = {
  address: GreenMailAddress;
  ca: string | undefined;
  start(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  remove(): Promise<void>;
};

export const GREENMAIL_VERSION = "2.1.0";

/** Starts a GreenMail from this jar with the Java on the path; resolves once it takes users. */
export async function startGreenMail(options: { jar: string; users?: Record<string, string> }): Promise<GreenMail> {
  return greenMailOn(await localRunner(options.jar), options.users ?? {});
}

/** A GreenMail that something else runs; resolves once it takes users. */
export async function greenMailOn(runner: GreenMailRunner, users: Record<string, string>): Promise<GreenMail> {
  const { address } = runner;
  const passwords = new Map(Object.entries(users));
  const control = imapControl({ port: () => address.imap, password: passwordIn(passwords), multiAppend: false });
  const [imap, imaps] = await Promise.all([front(address, address.imap), front(address, address.imaps)]);
  const ended = async (end: () => Promise<void>): Promise<void> => {
    await control.close();
    await end();
  };
  const greenMail: GreenMail = {
    name: `GreenMail ${GREENMAIL_VERSION}`,
    host: "127.0.0.1",
    imapPort: imap?.port ?? 0,
    imapsPort: imaps?.port ?? 0,
    smtpPort: address.smtp,
    pop3Port: address.pop3,
    pop3sPort: address.pop3s,
    ca: runner.ca,
    addUser: async (name, password) => {
      await createUser(address, name, password);
      passwords.set(name, password);
    },
    setPassword: async (name) => {
      throw new Error(`GreenMail cannot change the password of ${name}`);
    },
    append: async (user, path, raw) => (await control.append(user, path, [raw]))[0] ?? 0,
    appendMany: control.append,
    createFolder: control.createFolder,
    expunge: control.expunge,
    flags: control.flags,
    count: control.count,
    changeUidValidity: async (user, path) => {
      // It is the second of the folder's creation.
      await sleep(1100);
      return control.recreate(user, path);
    },
    disconnectAll: async () => {
      imap?.resetAll();
      imaps?.resetAll();
    },
    stop: () => ended(runner.stop),
    kill: () => ended(runner.kill),
    start: async () => {
      await runner.start();
      for (const [name, password] of passwords) await createUser(address, name, password);
    },
    remove: async () => {
      await ended(runner.remove);
      await Promise.all([imap?.stop(), imaps?.stop()]);
    },
  };
  await greenMail.start();
  return greenMail;
}

function passwordIn(passwords: Map<string, string>): (user: string) => string {
  return (user) => {
    const password = passwords.get(user);
    if (password === undefined) throw new Error(`GreenMail has no user ${user}`);
    return password;
  };
}

function front({ host }: GreenMailAddress, port: number): Promise<Proxy> | undefined {
  return port === 0 ? undefined : startProxy({ host, port });
}

// GreenMail logs in by `login`; mail to `email` goes to the same user. A user of that name whom an earlier test has
// left is replaced.
async function createUser({ host, api }: GreenMailAddress, name: string, password: string): Promise<void> {
  const email = name.includes("@") ? name : `${name}@localhost`;
  const ask = (method: string, path: string, body?: string): Promise<Response> =>
    fetch(`http://${host}:${api}/api/user${path}`, {
      method,
      headers: { "content-type": "application/json" },
      ...(body === undefined ? {} : { body }),
      signal: AbortSignal.timeout(10_000),
    });
  const user = JSON.stringify({ email, login: name, password });
  let answer = await ask("POST", "", user);
  if (answer.status === 400) {
    await ask("DELETE", `/${encodeURIComponent(email)}`);
    answer = await ask("POST", "", user);
  }
  if (!answer.ok) throw new Error(`GreenMail does not create ${name}: ${answer.status} ${await answer.text()}`);
}

/** Whether GreenMail's interface for users answers. */
export function greenMailAnswers({ host, api }: GreenMailAddress): Promise<boolean> {
  return fetch(`http://${host}:${api}/api/service/readiness`, { signal: AbortSignal.timeout(2000) }).then(
    (answer) => answer.ok,
    () => false,
  );
}

async function localRunner(jar: string): Promise<GreenMailRunner> {
  const folder = await temporaryFolder("greenmail");
  const [imap = 0, imaps = 0, pop3 = 0, pop3s = 0, smtp = 0, api = 0] = await freePorts(6);
  const address = { host: "127.0.0.1", imap, imaps, pop3, pop3s, smtp, api };
  const ca = await makeKeystore(folder);
  let program: Program | undefined;
  const end = async (how: (one: Program) => Promise<void>): Promise<void> => {
    if (program) await how(program);
    program = undefined;
  };
  return {
    address,
    ca,
    start: async () => {
      program = await startProgram("java", [...javaOptions(address, folder), "-jar", jar], { cwd: folder });
      await listening(program, api, 60_000);
      await eventually(() => greenMailAnswers(address), "GreenMail to be ready", 60_000, 100);
    },
    stop: () => end((one) => one.stop()),
    kill: () => end((one) => one.kill()),
    remove: async () => {
      await end((one) => one.kill());
      await removeFolder(folder);
    },
  };
}

const KEYSTORE_PASSWORD = "changeit";

function javaOptions(address: GreenMailAddress, folder: string): string[] {
  const { imap, imaps, pop3, pop3s, smtp, api } = address;
  const ports = Object.entries({ imap, imaps, pop3, pop3s, smtp, api });
  return [
    "-Xmx512m",
    "-XX:TieredStopAtLevel=1",
    ...ports.flatMap(([name, port]) => [`-Dgreenmail.${name}.hostname=127.0.0.1`, `-Dgreenmail.${name}.port=${port}`]),
    "-Dgreenmail.startup.timeout=30000",
    `-Dgreenmail.tls.keystore.file=${join(folder, "server.p12")}`,
    `-Dgreenmail.tls.keystore.password=${KEYSTORE_PASSWORD}`,
  ];
}

// Java reads key stores only; the one inside GreenMail names no host, so clients could not verify it.
async function makeKeystore(folder: string): Promise<string> {
  const store = ["-keystore", join(folder, "server.p12"), "-storepass", KEYSTORE_PASSWORD, "-alias", "greenmail"];
  const names = ["-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1,ip:0:0:0:0:0:0:0:1"];
  const key = ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "30", "-storetype", "PKCS12"];
  await run("keytool", ["-genkeypair", ...store, ...names, ...key, "-ext", "bc:c=ca:true"]);
  const pem = join(folder, "server.pem");
  await run("keytool", ["-exportcert", "-rfc", "-file", pem, ...store]);
  return readFile(pem, "utf8");
}
