/**
 * What chaos breaks: two API nodes, two workers, Redis, RabbitMQ, Dovecot, an Exchange server and an endpoint, with a proxy on each
 * line between them. Every third mailbox is on Exchange; half of those are reached by one login that acts for them.
 */
import { randomBytes } from "node:crypto";
import { type Endpoint, startEndpoint } from "../servers/endpoint.ts";
import type { Dovecot } from "../servers/dovecot.ts";
import { type Exchange, startExchange } from "../servers/exchange/server.ts";
import { provide } from "../servers/provide.ts";
import { type Proxy, startProxy } from "../servers/proxy.ts";
import type { RabbitMq } from "../servers/rabbitmq.ts";
import type { Redis } from "../servers/redis.ts";
import { type Service, startService } from "../service.ts";

export type ChaosNode = { name: string; service: Service; toRedis: Proxy; toRabbit: Proxy };

/** `deliver` hands a message to its mail server. */
export type ChaosMailbox = { id: string; address: string; deliver(raw: Buffer): Promise<unknown> };

export type World = {
  redis: Redis;
  rabbit: RabbitMq;
  dovecot: Dovecot;
  exchange: Exchange;
  endpoint: Endpoint;
  apis: ChaosNode[];
  workers: ChaosNode[];
  toDovecot: Proxy;
  toExchange: Proxy;
  toEndpoint: Proxy;
  mailboxes: ChaosMailbox[];
  end(): Promise<void>;
};

export const SESSION_SECONDS = 3;

/** Time is compressed: sessions of three seconds, probes after five, and retries come twenty times as fast. */
const QUICK = {
  SESSION_TTL_SECONDS: String(SESSION_SECONDS),
  PROBE_SECONDS: "5",
  COMMAND_TIMEOUT_SECONDS: "4",
  DELIVERY_TIMEOUT_SECONDS: "4",
  LOG_LEVEL: "info",
};

/** Starts everything and registers the mailboxes; undefined when a server cannot be had, which was said then. */
export async function startWorld(mailboxes: number): Promise<World | undefined> {
  const owned = { owned: true };
  const servers = await Promise.all([
    provide("redis", {}, owned).then((provided) => provided?.server),
    provide("rabbitmq", {}, owned).then((provided) => provided?.server),
    provide("dovecot", {}, owned).then((provided) => provided?.server),
  ]);
  const remove = () => Promise.all(servers.map((server) => server?.remove()));
  const [redis, rabbit, dovecot] = servers;
  if (!redis || !rabbit || !dovecot) return remove().then(() => undefined);
  const [endpoint, exchange] = await Promise.all([startEndpoint(), startExchange()]);
  const [toDovecot, toExchange, toEndpoint] = await Promise.all([
    startProxy({ port: dovecot.imapPort }),
    startProxy({ port: exchange.port }),
    startProxy({ port: endpoint.port }),
  ]);
  const keys = { ENCRYPTION_KEYS: `k1:${randomBytes(32).toString("base64")}` };
  const nodes: ChaosNode[] = [];
  const start = async (role: "api" | "worker", name: string) => {
    const toRedis = await startProxy({ port: redis.port });
    const toRabbit = await startProxy({ port: rabbit.port });
    const env = {
      ...QUICK,
      ...keys,
      NODE_NAME: name,
      REDIS_URL: through(redis.url, toRedis),
      RABBITMQ_URL: through(rabbit.url, toRabbit),
    };
    const node = { name, service: await startService(env, undefined, role), toRedis, toRabbit };
    nodes.push(node);
    return node;
  };
  const world: World = {
    redis,
    rabbit,
    dovecot,
    exchange,
    endpoint,
    apis: [await start("api", "api-0"), await start("api", "api-1")],
    workers: [await start("worker", "worker-0"), await start("worker", "worker-1")],
    toDovecot,
    toExchange,
    toEndpoint,
    mailboxes: [],
    async end() {
      await Promise.all(nodes.map(({ service }) => service.end()));
      const proxies = [
        toDovecot,
        toExchange,
        toEndpoint,
        ...nodes.flatMap(({ toRedis, toRabbit }) => [toRedis, toRabbit]),
      ];
      await Promise.all(proxies.map((proxy) => proxy.stop()));
      await Promise.all([endpoint.stop(), exchange.stop()]);
      await remove();
    },
  };
  await register(world, mailboxes).catch((error: unknown) => world.end().then(() => Promise.reject(error)));
  return world;
}

function through(url: string, { host, port }: Proxy): string {
  const changed = new URL(url);
  changed.hostname = host;
  changed.port = String(port);
  return changed.href;
}

const PASSWORD = "correct horse";
/** Acts for mailboxes on Exchange. */
const ACTING = "service@example.com";

async function register(world: World, count: number): Promise<void> {
  const { endpoint, exchange, toEndpoint } = world;
  const [{ service }] = world.apis as [ChaosNode];
  await exchange.addUser(ACTING, PASSWORD);
  for (let n = 0; n < count; n++) {
    const [mailbox, receive] = n % 3 === 2 ? await onExchange(world, n) : await onDovecot(world, n);
    const { id, address } = mailbox;
    const deliver = { url: `http://${toEndpoint.host}:${toEndpoint.port}/`, secret: endpoint.secret };
    const answer = await service.call("POST", "/api/v1/mailboxes", { id, address, receive, deliver });
    if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
    world.mailboxes.push(mailbox);
  }
  await service.until("all mailboxes to be listened to", async () => {
    const { body } = await service.call("GET", "/api/v1/mailboxes?limit=1&status=listening");
    return body.total === count;
  });
}

type Placed = [mailbox: ChaosMailbox, receive: object];

async function onDovecot({ dovecot, toDovecot: { host, port } }: World, n: number): Promise<Placed> {
  const id = `box-${n}`;
  await dovecot.addUser(id, PASSWORD);
  const mailbox = { id, address: `${id}@example.com`, deliver: (raw: Buffer) => dovecot.deliver(id, raw) };
  return [mailbox, { protocol: "imap", host, port, tls: "none", auth: { user: id, password: PASSWORD } }];
}

async function onExchange({ exchange, toExchange }: World, n: number): Promise<Placed> {
  const address = `box-${n}@example.com`;
  await exchange.addUser(address, PASSWORD, { impersonators: [ACTING] });
  const acting = n % 2 === 0;
  const receive = {
    protocol: "ews",
    url: through(exchange.url, toExchange),
    access: acting ? "impersonate" : "own",
    auth: { user: acting ? ACTING : address, password: PASSWORD },
  };
  return [{ id: `box-${n}`, address, deliver: (raw) => exchange.append(address, "inbox", raw) }, receive];
}
