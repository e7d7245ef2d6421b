/**
 * What chaos breaks: two API nodes, two workers, Redis, RabbitMQ, Dovecot, an Exchange server, an SMTP server and an endpoint, with a
 * proxy on each line between them; or three API nodes over Redis alone. Every third mailbox is on Exchange; half of those are reached
 * by one login that acts for them. Or every third one is in Microsoft 365. The others send by SMTP, and mark their mail as read or
 * order its deletion in a week.
 */
import { randomBytes } from "node:crypto";
import { graphBody, PASSWORD } from "../bodies.ts";
import { type Endpoint, startEndpoint } from "../servers/endpoint.ts";
import type { Dovecot } from "../servers/dovecot.ts";
import { type Exchange, startExchange } from "../servers/exchange/server.ts";
import { type GraphServer, startGraphServer } from "../servers/graph/server.ts";
import { provide } from "../servers/provide.ts";
import { type Proxy, startProxy } from "../servers/proxy.ts";
import type { RabbitMq } from "../servers/rabbitmq.ts";
import type { Redis } from "../servers/redis.ts";
import { type SmtpScript, startSmtpScript } from "../servers/smtp-script.ts";
import { bothRuntimes, type Service, startService } from "../service.ts";

export type ChaosNode = { name: string; service: Service; toRedis: Proxy; toRabbit: Proxy | undefined };

/** `deliver` hands a message to its mail server. */
export type ChaosMailbox = {
  id: string;
  address: string;
  sends: boolean;
  deliver(raw: Buffer): Promise<unknown>;
};

export type WorldOptions = { mailboxes: number; withoutBroker?: boolean; third?: Third["kind"] };

/** Where every third mailbox is. Graph names itself in its links, so there is no proxy before it. */
export type Third = { kind: "exchange"; server: Exchange; line: Proxy } | { kind: "graph"; server: GraphServer };

export type World = {
  redis: Redis;
  /** Undefined over Redis alone; there are no workers then. */
  rabbit: RabbitMq | undefined;
  smtp: SmtpScript;
  dovecot: Dovecot;
  third: Third;
  endpoint: Endpoint;
  apis: ChaosNode[];
  workers: ChaosNode[];
  toDovecot: Proxy;
  toEndpoint: Proxy;
  toSmtp: Proxy;
  mailboxes: ChaosMailbox[];
  end(): Promise<void>;
};

export const SESSION_SECONDS = 3;

/** Time is compressed: sessions of three seconds, probes after five, claims of eight, and retries come twenty times as fast. */
const QUICK = {
  CLAIM_SECONDS: "8",
  SESSION_TTL_SECONDS: String(SESSION_SECONDS),
  PROBE_SECONDS: "5",
  COMMAND_TIMEOUT_SECONDS: "4",
  DELIVERY_TIMEOUT_SECONDS: "4",
  FOLDER_POLL_SECONDS: "2",
  LOG_LEVEL: "info",
};

/** Starts everything and registers the mailboxes; undefined when a server cannot be had, which was said then. */
export async function startWorld(options: WorldOptions): Promise<World | undefined> {
  const { mailboxes, withoutBroker = false } = options;
  const owned = { owned: true };
  const [redis, rabbit, dovecot] = await Promise.all([
    provide("redis", {}, owned).then((provided) => provided?.server),
    withoutBroker ? undefined : provide("rabbitmq", {}, owned).then((provided) => provided?.server),
    provide("dovecot", {}, owned).then((provided) => provided?.server),
  ]);
  const remove = () => Promise.all([redis, rabbit, dovecot].map((server) => server?.remove()));
  if (!redis || !dovecot || !(rabbit || withoutBroker)) return remove().then(() => undefined);
  const [endpoint, third, smtp] = await Promise.all([startEndpoint(), startThird(options.third), startSmtpScript()]);
  const [toDovecot, toEndpoint, toSmtp] = await Promise.all([
    startProxy({ port: dovecot.imapPort }),
    startProxy({ port: endpoint.port }),
    startProxy({ port: smtp.port }),
  ]);
  const keys = { ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}` };
  const nodes: ChaosNode[] = [];
  const start = async (role: "api" | "worker", name: string) => {
    const node = await startNode({ redis, rabbit }, role, name, keys);
    nodes.push(node);
    return node;
  };
  const startAll = async (role: "api" | "worker", count: number) => {
    const started: ChaosNode[] = [];
    for (let n = 0; n < count; n++) started.push(await start(role, `${role}-${n}`));
    return started;
  };
  const world: World = {
    redis,
    rabbit,
    dovecot,
    third,
    endpoint,
    smtp,
    apis: await startAll("api", withoutBroker ? 3 : 2),
    workers: await startAll("worker", withoutBroker ? 0 : 2),
    toDovecot,
    toEndpoint,
    toSmtp,
    mailboxes: [],
    async end() {
      await Promise.all(nodes.map(({ service }) => service.end()));
      const ofNodes = nodes.flatMap(({ toRedis, toRabbit }) => [toRedis, toRabbit]);
      const ofThird = third.kind === "exchange" ? [third.line] : [];
      const proxies = [toDovecot, toEndpoint, toSmtp, ...ofThird, ...ofNodes];
      await Promise.all(proxies.map((proxy) => proxy?.stop()));
      await Promise.all([endpoint.stop(), third.server.stop(), smtp.stop()]);
      await remove();
    },
  };
  await register(world, mailboxes).catch((error: unknown) => world.end().then(() => Promise.reject(error)));
  return world;
}

async function startThird(kind: Third["kind"] = "exchange"): Promise<Third> {
  if (kind === "graph") return { kind, server: await startGraphServer() };
  const server = await startExchange();
  await server.addUser(ACTING, PASSWORD);
  return { kind, server, line: await startProxy({ port: server.port }) };
}

async function startNode(
  { redis, rabbit }: Pick<World, "redis" | "rabbit">,
  role: "api" | "worker",
  name: string,
  keys: Record<string, string>,
): Promise<ChaosNode> {
  const toRedis = await startProxy({ port: redis.port });
  const toRabbit = rabbit && (await startProxy({ port: rabbit.port }));
  const env = {
    ...QUICK,
    ...keys,
    NODE_NAME: name,
    REDIS_URL: through(redis.url, toRedis),
    ...(rabbit && toRabbit && { RABBITMQ_URL: through(rabbit.url, toRabbit) }),
  };
  return { name, service: await startService(env, bothRuntimes(name), role), toRedis, toRabbit };
}

function through(url: string, { host, port }: Proxy): string {
  const changed = new URL(url);
  changed.hostname = host;
  changed.port = String(port);
  return changed.href;
}

/** Acts for mailboxes on Exchange. */
const ACTING = "service@example.com";

async function register(world: World, count: number): Promise<void> {
  const { endpoint, toEndpoint, toSmtp, third } = world;
  const [{ service }] = world.apis as [ChaosNode];
  const onThird = (n: number) => (third.kind === "exchange" ? onExchange(third, n) : onGraph(third.server, n));
  for (let n = 0; n < count; n++) {
    const [mailbox, receive] = n % 3 === 2 ? await onThird(n) : await onDovecot(world, n);
    const { id, address, sends } = mailbox;
    const deliver = { url: `http://${toEndpoint.host}:${toEndpoint.port}/`, secret: endpoint.secret };
    const send = { host: toSmtp.host, port: toSmtp.port, tls: "none", saveSent: "never", notify: true };
    const body = { id, address, receive, deliver, ...(sends && { send }) };
    // A machine with much to do may keep Redis waiting; a repeated PUT does no harm.
    const answer = await service.until("the registration", async () => {
      const reply = await service.call("PUT", `/api/v1/mailboxes/${id}`, body);
      return reply.status !== 503 && reply;
    });
    if (answer.status >= 300) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
    world.mailboxes.push(mailbox);
  }
  await service.until("all mailboxes to be listened to", async () => {
    const counts = ["listening", "polling"].map(async (status) => {
      const { body } = await service.call("GET", `/api/v1/mailboxes?limit=1&status=${status}`);
      return Number(body.total);
    });
    return (await Promise.all(counts)).reduce((sum, one) => sum + one, 0) === count;
  });
}

type Placed = [mailbox: ChaosMailbox, receive: object];

async function onDovecot({ dovecot, toDovecot: { host, port } }: World, n: number): Promise<Placed> {
  const id = `box-${n}`;
  await dovecot.addUser(id, PASSWORD);
  const deliver = (raw: Buffer) => dovecot.deliver(id, raw);
  const afterDelivery = n % 2 === 0 ? "markRead" : { deleteAfterDays: 7 };
  const auth = { user: id, password: PASSWORD };
  return [
    { id, address: `${id}@example.com`, sends: true, deliver },
    { protocol: "imap", host, port, tls: "none", auth, afterDelivery },
  ];
}

async function onGraph(graph: GraphServer, n: number): Promise<Placed> {
  const address = `box-${n}@example.com`;
  await graph.addUser(address);
  const deliver = (raw: Buffer) => graph.append(address, "inbox", raw);
  return [{ id: `box-${n}`, address, sends: false, deliver }, graphBody(graph, address).receive];
}

async function onExchange({ server, line }: Third & { kind: "exchange" }, n: number): Promise<Placed> {
  const address = `box-${n}@example.com`;
  await server.addUser(address, PASSWORD, { impersonators: [ACTING] });
  const acting = n % 2 === 0;
  const receive = {
    protocol: "ews",
    url: through(server.url, line),
    access: acting ? "impersonate" : "own",
    auth: { user: acting ? ACTING : address, password: PASSWORD },
  };
  const deliver = (raw: Buffer) => server.append(address, "inbox", raw);
  return [{ id: `box-${n}`, address, sends: false, deliver }, receive];
}
