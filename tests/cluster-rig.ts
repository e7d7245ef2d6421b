/** Several nodes over one Redis and, if wanted, one RabbitMQ, with a mail server and an endpoint: each can be stopped, paused and killed. */
import { randomBytes, randomUUID } from "node:crypto";
import { imapBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { type Endpoint, startEndpoint } from "./servers/endpoint.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import { type Answer, type Service, startService } from "./service.ts";
import { subjects } from "./stories/scene.ts";

export type ClusterOptions = {
  redisUrl: string;
  /** Without it there are API nodes only. */
  rabbitUrl?: string;
  env?: Record<string, string>;
  /** How a node is run; by default on the runtime of the test. */
  command?: (node: string) => string[];
};

export type Rig = {
  /** What all nodes are started with. */
  env: Record<string, string>;
  mail: ImapServer;
  endpoint: Endpoint;
  /** Starts an API node of this name. */
  api(name: string, env?: Record<string, string>): Promise<Service>;
  worker(name: string, env?: Record<string, string>): Promise<Service>;
  /** Registers so many mailboxes at a node, `box-0` and so on, without waiting for them to be listened to. */
  register(at: Service, count: number, changes?: object): Promise<string[]>;
  /** Puts one numbered message into a mailbox; its number is its subject. */
  send(mailbox: string): Promise<string>;
  /** What was sent and has not been accepted by the endpoint. */
  missing(): string[];
  /** Waits until all that was sent has arrived. */
  arrived(ms?: number): Promise<void>;
  end(): Promise<void>;
};

/** Two seconds: a crashed node's mailboxes move quickly, and a busy machine still keeps its sessions. */
export const SESSION_SECONDS = 2;

/** What makes nodes one group that has not been there before. */
export function clusterEnv({ redisUrl, rabbitUrl, env }: ClusterOptions): Record<string, string> {
  const name = `t${randomUUID().slice(0, 8)}`;
  return {
    REDIS_URL: redisUrl,
    REDIS_PREFIX: `${name}:`,
    ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}`,
    SESSION_TTL_SECONDS: String(SESSION_SECONDS),
    ...(rabbitUrl && { RABBITMQ_URL: rabbitUrl, RABBITMQ_EXCHANGE: name, RABBITMQ_QUEUE: `${name}.tasks` }),
    ...env,
  };
}

export async function clusterRig(options: ClusterOptions): Promise<Rig> {
  const server = await startImapServer();
  const endpoint = await startEndpoint();
  const nodes: Service[] = [];
  const sent: string[] = [];
  const env = clusterEnv(options);
  const start = async (role: "api" | "worker", node: string, own: Record<string, string>) => {
    const service = await startService({ ...env, NODE_NAME: node, ...own }, options.command?.(node), role);
    nodes.push(service);
    return service;
  };
  const rig: Rig = {
    env,
    mail: server,
    endpoint,
    api: (node, own = {}) => start("api", node, own),
    worker: (node, own = {}) => start("worker", node, own),
    async register(at, count, changes = {}) {
      const ids = Array.from({ length: count }, (_, n) => `box-${n}`);
      await Promise.all(
        ids.map(async (id) => {
          await server.addUser(id, PASSWORD);
          await register(at, { ...mailboxBody(rig, id), ...changes });
        }),
      );
      return ids;
    },
    async send(mailbox) {
      const subject = `mail ${String(sent.length).padStart(5, "0")}`;
      sent.push(subject);
      await server.append(mailbox, "INBOX", message({ subject, text: subject }));
      return subject;
    },
    missing() {
      const there = new Set(subjects(endpoint));
      return sent.filter((subject) => !there.has(subject));
    },
    async arrived(ms = 120_000) {
      const end = Date.now() + ms;
      while (rig.missing().length > 0) {
        if (Date.now() > end) throw new Error(late(rig.missing(), sent.length, nodes));
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
    },
    async end() {
      await Promise.all(nodes.map((node) => node.end()));
      await endpoint.stop();
      await server.stop();
    },
  };
  return rig;
}

/** The registration of a user of the rig's mail server. */
export function mailboxBody({ mail: server, endpoint }: Pick<Rig, "mail" | "endpoint">, id: string) {
  return imapBody(server, id, { id, deliver: toEndpoint(endpoint) });
}

/** The answer's body if it has this status. */
export function expect(answer: Answer, status: number): any {
  if (answer.status !== status) throw new Error(`Answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** How many mailboxes are listened to, by the name of the node. */
export async function listenedBy(at: Service): Promise<Record<string, number>> {
  const { items } = expect(await at.call("GET", "/api/v1/mailboxes?limit=1000&status=listening"), 200);
  const counts: Record<string, number> = {};
  for (const { state } of items) counts[state.node] = (counts[state.node] ?? 0) + 1;
  return counts;
}

/** Waits until each of these nodes listens to at least so many, and all of them together to `total`. */
export function shared(at: Service, total: number, least: Record<string, number>, ms = 60_000): Promise<unknown> {
  return at.until(
    `${total} mailboxes shared by ${Object.keys(least).join(" and ")}`,
    async () => {
      const counts = await listenedBy(at);
      const enough = Object.entries(least).every(([name, n]) => (counts[name] ?? 0) >= n);
      const named = Object.keys(least).reduce((sum, name) => sum + (counts[name] ?? 0), 0);
      return enough && named === total && counts;
    },
    ms,
  );
}

/** Mail that keeps coming, into one mailbox after the other, until `end`. */
export function flowing(rig: Rig, mailboxes: number) {
  const over = new AbortController();
  const sending = (async () => {
    for (let n = 0; !over.signal.aborted; n++) {
      await rig.send(`box-${n % mailboxes}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  })();
  return {
    async end() {
      over.abort();
      await sending;
    },
  };
}

/** What did not arrive, and what the nodes said lately besides deliveries and waits for a paused endpoint. */
function late(missing: string[], sent: number, nodes: Service[]): string {
  const said = nodes.flatMap(({ facts }, n) =>
    facts
      .filter(({ kind, attempts }) => !["mail.arrived", "mail.delivered"].includes(kind) && attempts !== 0)
      .slice(-12)
      .map((fact) => `node ${n}: ${JSON.stringify(fact).slice(0, 300)}`),
  );
  return [`${missing.length} of ${sent} messages did not arrive: ${missing.slice(0, 10).join(", ")}`, ...said].join(
    "\n",
  );
}
