/**
 * A private chasquid for tests, unpacked beside the system. It takes mail by submission with STARTTLS, knows the users
 * good0 to good119 of example.net, and closes a connection after its tenth error.
 */
import { chmod, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { makeCertificates } from "./certificates.ts";
import { freePorts } from "./ports.ts";
import { listening, removeFolder, run, startProgram, temporaryFolder } from "./program.ts";
import type { TestContext } from "./provide.ts";
import type { SubmissionServer } from "./submission.ts";
import { unpackedOrSkip } from "./unpack.ts";

export async function chasquidOrSkip(context: TestContext): Promise<SubmissionServer | undefined> {
  const root = await unpackedOrSkip(context, ["chasquid"]);
  if (root === undefined) return undefined;
  const folder = await temporaryFolder("chasquid");
  const [port = 0] = await freePorts(1);
  const { ca, server } = await makeCertificates();
  const config = join(folder, "config");
  for (const name of [
    "config/certs/mx.example.net",
    "config/domains/example.net",
    "config/domains/example.com",
    "data",
    "mail",
  ])
    await mkdir(join(folder, name), { recursive: true });
  await writeFile(join(config, "certs/mx.example.net/fullchain.pem"), server.cert);
  await writeFile(join(config, "certs/mx.example.net/privkey.pem"), server.key);
  const agent = join(folder, "deliver");
  await writeFile(
    agent,
    `#!/bin/sh\nf=$(mktemp ${folder}/mail/.XXXXXX)\n{ echo "Delivered-To: $1"; cat; } >"$f" && mv "$f" "$f.eml"\n`,
  );
  await chmod(agent, 0o755);
  await writeFile(join(config, "chasquid.conf"), chasquidConfig(folder, agent, port));
  const utility = join(root, "usr", "bin", "chasquid-util");
  await run(utility, [`-C=${config}`, "user-add", "sender@example.com", "--password=secret"]);
  // An alias to a program is a user without a password, and takes no time to make.
  const aliases = Array.from({ length: 120 }, (_, n) => `good${n}: | ${agent} good${n}@example.net\n`);
  await writeFile(join(config, "domains/example.net/aliases"), aliases.join(""));
  const program = await startProgram(join(root, "usr", "bin", "chasquid"), [`-config_dir=${config}`]);
  context.after(async () => {
    await program.stop();
    await removeFolder(folder);
  });
  await listening(program, port);
  const inbox = join(folder, "mail");
  return {
    send: { host: "127.0.0.1", port, tls: "starttls", ca, auth: { user: "sender@example.com", password: "secret" } },
    async mails() {
      const names = (await readdir(inbox)).filter((name) => name.endsWith(".eml"));
      return Promise.all(names.map((name) => readFile(join(inbox, name), "latin1")));
    },
    loginWords: /535 5\.7\.8 Incorrect user or password/,
  };
}

function chasquidConfig(folder: string, agent: string, port: number): string {
  return `hostname: "mx.example.net"
submission_address: "127.0.0.1:${port}"
mail_delivery_agent_bin: "${agent}"
mail_delivery_agent_args: "%to%"
data_dir: "${folder}/data"
mail_log_path: "<stdout>"
`;
}
