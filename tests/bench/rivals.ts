/** The two that are compared, behind one interface: the service, and a bare imapflow loop that does nothing it need not. */
import { fileURLToPath } from "node:url";
import type { Dovecot } from "../servers/dovecot.ts";
import { eventually } from "../servers/waiting.ts";
import { type Service, startService } from "../service.ts";
import type { Order } from "./bare.ts";
import { startProgram } from "./program.ts";
import { type Sink, startSink } from "./sink.ts";

export type Runtime = "bun" | "node";
export type Mail = { server: Dovecot; password: string; tls: boolean };

/** Somebody who listens to mailboxes in processes of its own and posts what arrives to a sink of its own. */
export type Rival = {
  name: string;
  /** All its processes. */
  pids: number[];
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

/** What a user's mailbox is received from. */
type Receive = (user: string) => object;

/** The service as one API node on its embedded default, listening by IMAP. */
export const startOurs: StartRival = (runtime, mail) => startListening(runtime, byImap(mail));

/** How a user's mailbox on this server is received. */
export function byImap({ server, password, tls }: Mail): Receive {
  return (user) => ({
    protocol: "imap",
    host: "localhost",
    port: tls ? server.imapsPort : server.imapPort,
    ...(tls ? { tls: "implicit", ca: server.ca } : { tls: "none" }),
    auth: { user, password },
  });
}

/** The service as one API node on its embedded default. */
export async function startListening(
  runtime: Runtime,
  receive: Receive,
  env: Record<string, string> = {},
): Promise<Rival> {
  return asRival("service", [await startService(env, command(runtime))], receive);
}

/** Nodes of the service as one rival: the first is asked, all are measured. */
export async function asRival(
  name: string,
  nodes: [Service, ...Service[]],
  receive: Receive,
  deliver: object = {},
): Promise<Rival> {
  const [service] = nodes;
  const sink = await startSink();
  const register = async (user: string) => {
    const body = { address: `${user}@example.com`, receive: receive(user), deliver: { url: sink.url, ...deliver } };
    const answer = await service.call("POST", "/api/v1/mailboxes", body);
    if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
  };
  const countOf = async (status: string) =>
    Number((await service.call("GET", `/api/v1/mailboxes?status=${status}&limit=1`)).body.total);
  let registered = 0;
  return {
    name,
    pids: nodes.map(({ pid }) => pid),
    sink,
    async listen(users) {
      await inParallel(users, REGISTERED_AT_ONCE, register);
      registered += users.length;
      const listening = async () => (await countOf("listening")) + (await countOf("polling")) >= registered;
      await eventually(listening, `${registered} mailboxes to be listened to`, LISTENING_MS, 250);
    },
    async end() {
      await Promise.all(nodes.map((node) => node.end()));
      await sink.close();
    },
  };
}

/** The bare loop. */
export const startBare: StartRival = async (runtime, { server, password, tls }) => {
  const sink = await startSink();
  const bare = startProgram([...command(runtime), file("./bare.ts")]);
  return {
    name: "bare loop",
    pids: [bare.pid],
    sink,
    async listen(users) {
      const port = tls ? server.imapsPort : server.imapPort;
      const order: Order = { users, password, port, ca: tls ? (server.ca ?? null) : null, url: sink.url };
      await bare.order(order);
    },
    async end() {
      await bare.end();
      await sink.close();
    },
  };
};

/** Does the work for every item, so many at once. */
export async function inParallel<T>(items: T[], atOnce: number, work: (item: T) => Promise<void>): Promise<void> {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}
