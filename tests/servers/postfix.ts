/**
 * A private Postfix for tests: an SMTP server that the world's mail goes through, on a port and in a folder of its own. It takes
 * mail for example.net and example.com into maildirs; an address that begins with `nobody` is taken first and returned later, as
 * bounces come about. Needs root, since Postfix does.
 */
import { chmod, chown, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { canInstall, findProgram, installPackages, isThere } from "./install.ts";
import { listening, removeFolder, run, startProgram, temporaryFolder } from "./program.ts";
import { freePorts } from "./ports.ts";
import type { TestContext } from "./provide.ts";
import type { SubmissionServer } from "./submission.ts";
import { eventually } from "./waiting.ts";

export type Postfix = {
  port: number;
  /** The messages delivered to these addresses, in the order of their names; bounces are in the sender's. */
  mail(box: "bob" | "senders"): Promise<string[]>;
  /** Resolves once the box holds so many. */
  waitFor(box: "bob" | "senders", count: number): Promise<string[]>;
  remove(): Promise<void>;
};

const DAEMONS = "/usr/lib/postfix/sbin";

/**
 * As a server for submission: it refuses unknown recipients at once, closes the connection after twenty errors (its default),
 * and takes seven recipients in a transaction.
 */
export async function postfixSubmissionOrSkip(context: TestContext): Promise<SubmissionServer | undefined> {
  const postfix = await postfixOrSkip(context, {
    smtpd_reject_unlisted_recipient: "yes",
    smtpd_error_sleep_time: "0s",
    smtpd_recipient_limit: "7",
  });
  return (
    postfix && {
      send: { host: "127.0.0.1", port: postfix.port, tls: "none", auth: { user: "bob", password: "unused" } },
      mails: () => postfix.mail("bob"),
    }
  );
}

/** A Postfix for one test, installed if need be; skips the test where it cannot be had. */
export async function postfixOrSkip(
  context: TestContext,
  settings: Record<string, string> = {},
): Promise<Postfix | undefined> {
  if (process.getuid?.() === 0 && !(await isThere(`${DAEMONS}/master`)) && (await canInstall()))
    await installPackages(["postfix"]);
  if (process.getuid?.() !== 0 || !(await isThere(`${DAEMONS}/master`))) {
    const why = "postfix is not here: run as root with the Debian package postfix";
    if (process.env["TESTS_MUST_NOT_SKIP"]) throw new Error(why);
    console.log(`Skipped: ${why}`);
    context.skip("no postfix");
    return undefined;
  }
  const postfix = await startPostfix(settings);
  context.after(() => postfix.remove());
  return postfix;
}

async function startPostfix(settings: Record<string, string>): Promise<Postfix> {
  const folder = await temporaryFolder("postfix");
  const [port = 0] = await freePorts(1);
  const [uid = 0, gid = 0] = (await Promise.all(["-u", "-g"].map((what) => run("id", [what, "postfix"])))).map(Number);
  await chmod(folder, 0o755);
  for (const name of ["config", "queue", "data", "mail"]) await mkdir(join(folder, name));
  await chown(join(folder, "data"), uid, gid);
  await chown(join(folder, "mail"), uid, gid);
  await writeFile(join(folder, "config", "main.cf"), mainConfig(folder, { uid, gid, more: settings }));
  await writeFile(join(folder, "config", "master.cf"), services(port));
  const boxes = "/^(bob|good.*)@example\\.net$/ bob/\n/@example\\.com$/ senders/\n";
  await writeFile(join(folder, "config", "boxes"), boxes);
  const command = (await findProgram("postfix")) ?? "postfix";
  await run(command, ["-c", join(folder, "config"), "check"]);
  // With -d it stays in the process group it was started in, and can be ended with it.
  const program = await startProgram(`${DAEMONS}/master`, ["-c", join(folder, "config"), "-d"]);
  await listening(program, port);
  const mail = async (box: string): Promise<string[]> => {
    const inbox = join(folder, "mail", box, "new");
    const names = await readdir(inbox).catch(() => []);
    return Promise.all(names.toSorted().map((name) => readFile(join(inbox, name), "latin1")));
  };
  return {
    port,
    mail,
    waitFor: (box, count) =>
      eventually(
        async () => {
          const found = await mail(box);
          return found.length >= count && found;
        },
        `${count} messages for ${box}`,
        20_000,
      ),
    remove: async () => {
      await program.stop();
      await removeFolder(folder);
    },
  };
}

type MainConfig = { uid: number; gid: number; more: Record<string, string> };

function mainConfig(folder: string, { uid, gid, more }: MainConfig): string {
  const settings: Record<string, string> = {
    compatibility_level: "3.6",
    queue_directory: `${folder}/queue`,
    data_directory: `${folder}/data`,
    daemon_directory: DAEMONS,
    maillog_file: `${folder}/mail.log`,
    maillog_file_prefixes: folder,
    myhostname: "mx.example.net",
    mydestination: "",
    inet_interfaces: "127.0.0.1",
    inet_protocols: "ipv4",
    mynetworks: "127.0.0.0/8",
    virtual_mailbox_domains: "example.net, example.com",
    virtual_mailbox_base: `${folder}/mail`,
    virtual_mailbox_maps: `regexp:${folder}/config/boxes`,
    virtual_uid_maps: `static:${uid}`,
    virtual_gid_maps: `static:${gid}`,
    smtpd_relay_restrictions: "permit_mynetworks, reject",
    // So that an unknown user is found out only after the message was taken.
    smtpd_reject_unlisted_recipient: "no",
    smtputf8_enable: "yes",
    // The defaults share lock and map files with the machine's own Postfix.
    alias_maps: "",
    alias_database: "",
    ...more,
  };
  return Object.entries(settings)
    .map(([name, value]) => `${name} = ${value}\n`)
    .join("");
}

function services(port: number): string {
  const internal = [
    "cleanup",
    "bounce",
    "bounce defer",
    "bounce trace",
    "trivial-rewrite rewrite",
    "error",
    "error retry",
  ];
  const lines = [
    `127.0.0.1:${port} inet n - n - - smtpd`,
    "pickup unix n - n 60 1 pickup",
    "qmgr unix n - n 300 1 qmgr",
    "flush unix n - n 1000? 0 flush",
    "proxymap unix - - n - - proxymap",
    "virtual unix - n n - - virtual",
    "verify unix - - n - 1 verify",
    "anvil unix - - n - 1 anvil",
    "postlog unix-dgram n - n - 1 postlogd",
    ...internal.map((one) => {
      const [program = "", name = program] = one.split(" ");
      return `${name} unix ${name === "cleanup" ? "n" : "-"} - n - 0 ${program}`;
    }),
  ];
  return `${lines.join("\n")}\n`;
}
