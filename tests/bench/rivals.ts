/** The two that are compared, behind one interface: the service, and a bare imapflow loop that does nothing it need not. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Dovecot } from "../servers/dovecot.ts";
import { eventually } from "../servers/waiting.ts";
import { startService } from "../service.ts";
import type { Order } from "./bare.ts";
import { type Sink, startSink } from "./sink.ts";

export type Runtime = "bun" | "node";
export type Mail = { server: Dovecot; password: string; tls: boolean };

/** Somebody who listens to mailboxes in a process of its own and posts what arrives to a sink of its own. */
export type Rival = {
  name: string;
  pid: number;
  sink: Sink;
  /** Resolves once all of them are listened to, from now on. */
  listen(users: string[]): Promise<void>;
  end(): Promise<void>;
};
export type StartRival = (runtime: Runtime, mail: Mail) => Promise<Rival>;

const LISTENING_MS = 300_000;
const REGISTERED_AT_ONCE = 10;
export const file = (path: string) => fileURLToPath(new URL(path, import.meta.url));
const programs: Record<Runtime, string> = {
  bun: file("../../node_modules/.bin/bun"),
  node: file("../../node_modules/node/bin/node"),
};
const loads: Record<Runtime, string> = { bun: "--preload", node: "--import" };

/** The command line that runs on this runtime and collects garbage when asked. */
export function command(runtime: Runtime): [string, ...string[]] {
  return [programs[runtime], "--expose-gc", loads[runtime], file("./collect.ts")];
}

/** The service as one API node on its embedded default, listening by IMAP. */
export const startOurs: StartRival = (runtime, { server, password, tls }) =>
  startListening(runtime, (user) => ({
    protocol: "imap",
    host: "localhost",
    port: tls ? server.imapsPort : server.imapPort,
    ...(tls ? { tls: "implicit", ca: server.ca } : { tls: "none" }),
    auth: { user, password },
  }));

/** The service, with what its mailboxes receive from said by the caller. */
export async function startListening(runtime: Runtime, receive: (user: string) => object): Promise<Rival> {
  const sink = await startSink();
  const service = await startService({}, command(runtime));
  const register = async (user: string) => {
    const body = { address: `${user}@example.com`, receive: receive(user), deliver: { url: sink.url } };
    const answer = await service.call("POST", "/api/v1/mailboxes", body);
    if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
  };
  let registered = 0;
  return {
    name: "service",
    pid: service.pid,
    sink,
    async listen(users) {
      await inParallel(users, REGISTERED_AT_ONCE, register);
      registered += users.length;
      const listening = async () => {
        const { body } = await service.call("GET", "/api/v1/mailboxes?status=listening&limit=1");
        return body.total >= registered;
      };
      await eventually(listening, `${registered} mailboxes to be listened to`, LISTENING_MS, 250);
    },
    async end() {
      await service.end();
      await sink.close();
    },
  };
}

/** The bare loop. */
export const startBare: StartRival = async (runtime, { server, password, tls }) => {
  const sink = await startSink();
  const [program, ...args] = command(runtime);
  const child = spawn(program, [...args, file("./bare.ts")], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: child.stdout });
  return {
    name: "bare loop",
    pid: child.pid ?? 0,
    sink,
    async listen(users) {
      const port = tls ? server.imapsPort : server.imapPort;
      const order: Order = { users, password, port, ca: tls ? (server.ca ?? null) : null, url: sink.url };
      const done = once(answers, "line", { signal: AbortSignal.timeout(LISTENING_MS) });
      child.stdin.write(`${JSON.stringify(order)}\n`);
      await done;
    },
    async end() {
      await killed(child);
      await sink.close();
    },
  };
};

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, "exit");
  child.kill("SIGKILL");
  await exit;
}

/** Does the work for every item, so many at once. */
export async function inParallel<T>(items: T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
