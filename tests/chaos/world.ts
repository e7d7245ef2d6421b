/** What chaos breaks: two API nodes, two workers, Redis, RabbitMQ, Dovecot and an endpoint, with a proxy on each line between them. */
import { randomBytes } from "node:crypto";
import { type Endpoint, startEndpoint } from "../servers/endpoint.ts";
import type { Dovecot } from "../servers/dovecot.ts";
import { provide } from "../servers/provide.ts";
import { type Proxy, startProxy } from "../servers/proxy.ts";
import type { RabbitMq } from "../servers/rabbitmq.ts";
import type { Redis } from "../servers/redis.ts";
import { type Service, startService } from "../service.ts";

export type ChaosNode = { name: string; service: Service; toRedis: Proxy; toRabbit: Proxy };

export type World = {
  redis: Redis;
  rabbit: RabbitMq;
  dovecot: Dovecot;
  endpoint: Endpoint;
  apis: ChaosNode[];
  workers: ChaosNode[];
  toDovecot: Proxy;
  toEndpoint: Proxy;
  mailboxes: string[];
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
  const endpoint = await startEndpoint();
  const [toDovecot, toEndpoint] = await Promise.all([
    startProxy({ port: dovecot.imapPort }),
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
    endpoint,
    apis: [await start("api", "api-0"), await start("api", "api-1")],
    workers: [await start("worker", "worker-0"), await start("worker", "worker-1")],
    toDovecot,
    toEndpoint,
    mailboxes: Array.from({ length: mailboxes }, (_, n) => `box-${n}`),
    async end() {
      await Promise.all(nodes.map(({ service }) => service.end()));
      const proxies = [toDovecot, toEndpoint, ...nodes.flatMap(({ toRedis, toRabbit }) => [toRedis, toRabbit])];
      await Promise.all(proxies.map((proxy) => proxy.stop()));
      await endpoint.stop();
      await remove();
    },
  };
  await register(world).catch((error: unknown) => world.end().then(() => Promise.reject(error)));
  return world;
}

function through(url: string, { host, port }: Proxy): string {
  const changed = new URL(url);
  changed.hostname = host;
  changed.port = String(port);
  return changed.href;
}

async function register({ apis: [first], dovecot, endpoint, toDovecot, toEndpoint, mailboxes }: World): Promise<void> {
  for (const id of mailboxes) {
    await dovecot.addUser(id, "correct horse");
    const answer = await first!.service.call("POST", "/api/v1/mailboxes", {
      id,
      address: `${id}@example.com`,
      receive: {
        protocol: "imap",
        host: toDovecot.host,
        port: toDovecot.port,
        tls: "none",
        auth: { user: id, password: "correct horse" },
      },
      deliver: { url: `http://${toEndpoint.host}:${toEndpoint.port}/`, secret: endpoint.secret },
    });
    if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
  }
  await first!.service.until("all mailboxes to be listened to", async () => {
    const { body } = await first!.service.call("GET", "/api/v1/mailboxes?limit=1&status=listening");
    return body.total === mailboxes.length;
  });
}
