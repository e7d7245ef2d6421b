/**
 * A private Exim for tests, unpacked beside the system: a server for submission with small limits. It takes mail for
 * example.net except for addresses that begin with `nobody`, three messages on a connection, and five recipients in a
 * transaction. Needs root.
 */
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { installPackages, isThere } from "./install.ts";
import { freePorts } from "./ports.ts";
import { listening, removeFolder, run, startProgram, temporaryFolder } from "./program.ts";
import type { TestContext } from "./provide.ts";
import type { SubmissionServer } from "./submission.ts";
import { unpackedOrSkip } from "./unpack.ts";

export async function eximOrSkip(context: TestContext): Promise<SubmissionServer | undefined> {
  const root = await unpackedOrSkip(context, ["exim4-daemon-light"]);
  if (root === undefined) return undefined;
  if (!(await isThere("/usr/lib/x86_64-linux-gnu/libidn.so.12"))) await installPackages(["libidn12"]);
  await addCompiledInUser();
  const folder = await temporaryFolder("exim");
  const [port = 0] = await freePorts(1);
  await chmod(folder, 0o755);
  for (const name of ["spool", "mail"]) {
    await mkdir(join(folder, name));
    await chmod(join(folder, name), 0o777);
  }
  const config = join(folder, "exim.conf");
  await writeFile(config, eximConfig(root, folder, port), { mode: 0o644 });
  const program = await startProgram(join(root, "usr", "sbin", "exim4"), ["-C", config, "-bdf", "-q1m"]);
  context.after(async () => {
    await program.stop();
    await removeFolder(folder);
  });
  await listening(program, port);
  return {
    send: { host: "127.0.0.1", port, tls: "none", auth: { user: "bob", password: "secret" } },
    mails: async () => splitMbox(await readFile(join(folder, "mail", "all"), "latin1").catch(() => "")),
    loginWords: /535 Incorrect authentication data/,
  };
}

/** Debian's program asks for this user before it reads its configuration; its package would create it. */
async function addCompiledInUser(): Promise<void> {
  const name = "Debian-exim";
  const add = () => run("useradd", ["--system", "--no-create-home", "--shell", "/usr/sbin/nologin", name]);
  // Another test process may add it at the same time.
  await run("id", [name]).catch(() => add().catch(() => run("id", [name])));
}

/** Each message as it was delivered, with the envelope's recipient in Delivered-To. */
function splitMbox(text: string): string[] {
  return text.split(/^From \S+ .*\n/m).filter((one) => one !== "");
}

function eximConfig(root: string, folder: string, port: number): string {
  return `primary_hostname = mx.example.net
exim_path = ${root}/usr/sbin/exim4
exim_user = nobody
exim_group = nogroup
never_users =
keep_environment =
spool_directory = ${folder}/spool
log_file_path = ${folder}/spool/%slog
pid_file_path = ${folder}/spool/exim.pid
local_interfaces = 127.0.0.1
daemon_smtp_ports = ${port}
tls_advertise_hosts =
auth_advertise_hosts = *
smtputf8_advertise_hosts = *
smtp_accept_max_per_connection = 3
recipients_max = 5
acl_smtp_rcpt = rcpt
acl_smtp_data = accept
begin acl
rcpt:
  deny message = 550 5.1.1 no such user
    condition = \${if match{$local_part}{^nobody}}
  deny message = 550 5.7.1 authentication required
    !authenticated = *
  accept
begin routers
all:
  driver = accept
  transport = file
begin transports
file:
  driver = appendfile
  file = ${folder}/mail/all
  user = nobody
  group = nogroup
  delivery_date_add
  envelope_to_add
begin authenticators
plain:
  driver = plaintext
  public_name = PLAIN
  server_condition = \${if eq{$auth3}{secret}}
  server_set_id = $auth2
`;
}
