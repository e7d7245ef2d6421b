/** Where each server can come from: the environment, Docker, a program here, packages. */
import { randomUUID } from "node:crypto";
import { startContainer } from "./container.ts";
import { type Dovecot, type DovecotOptions, dovecotVersion, startDovecot } from "./dovecot.ts";
import { type GreenMail, GREENMAIL_VERSION, greenMailAnswers, greenMailOn, startGreenMail } from "./greenmail.ts";
import { downloadJar, findProgram, isThere, jarPath } from "./install.ts";
import { type RabbitMq, rabbitMqAnswers, rabbitMqAt, startRabbitMq } from "./rabbitmq.ts";
import { type Redis, redisAnswers, redisArguments, redisCommand, type RedisOptions, startRedis } from "./redis.ts";

/** The ways to a server, in the order they are tried. */
export type Source<Server, Options> = {
  /** One that runs already, if the environment names it. */
  environment(options: Options): Promise<Server | undefined>;
  /** Undefined where no image can be set up as the tests need it. */
  docker: ((options: Options) => Promise<Server>) | undefined;
  /** Whether its programs are on this machine. */
  found(): Promise<boolean>;
  start(options: Options): Promise<Server>;
  /** Gets its programs onto this machine. */
  install(packages: (names: string[]) => Promise<void>): Promise<void>;
  /** What could help, for the line that says it is skipped. */
  missing: string;
};

export const redisSource: Source<Redis, RedisOptions> = {
  environment: async () => {
    const url = process.env["REDIS_URL"];
    if (!url) return undefined;
    const { hostname, port } = new URL(url);
    const address = { host: hostname, port: Number(port || 6379), url };
    return { ...address, command: (...words) => redisCommand(url, words), ...notOurs("Redis") };
  },
  docker: async (options) => {
    const password = options.password === undefined ? "" : `:${encodeURIComponent(options.password)}@`;
    const urlOf = (host: string, port: number | undefined): string => `redis://${password}${host}:${port}`;
    const settings = { ...options.settings, bind: "0.0.0.0", "protected-mode": "no" };
    const container = await startContainer({
      image: "redis:7.4-alpine",
      ports: { redis: 6379 },
      command: ["redis-server", ...redisArguments(6379, "/data", { ...options, settings })],
      ready: (host, ports) => redisAnswers(urlOf(host, ports["redis"])),
    });
    const url = urlOf(container.host, container.ports["redis"]);
    return { ...container, port: container.ports["redis"] ?? 0, url, command: (...words) => redisCommand(url, words) };
  },
  found: async () => (await findProgram("redis-server")) !== undefined,
  start: startRedis,
  install: (packages) => packages(["redis-server"]),
  missing: "set REDIS_URL, start Docker or install redis-server",
};

export const rabbitMqSource: Source<RabbitMq, { config?: string }> = {
  environment: async () => {
    const url = process.env["RABBITMQ_URL"];
    if (!url) return undefined;
    const { hostname, port, username, password } = new URL(url);
    const managementPort = Number(process.env["RABBITMQ_MANAGEMENT_PORT"] ?? 15672);
    const login = { user: decodeURIComponent(username || "guest"), password: decodeURIComponent(password || "guest") };
    // Many tests may use it at the same time: each has a virtual host of its own.
    const vhost = `tests-${randomUUID()}`;
    const server = rabbitMqAt({ host: hostname, port: Number(port || 5672), managementPort, ...login, vhost });
    await server.api("PUT", `/vhosts/${vhost}`);
    const all = { configure: ".*", write: ".*", read: ".*" };
    await server.api("PUT", `/permissions/${vhost}/${encodeURIComponent(login.user)}`, all);
    const remove = async () => void (await server.api("DELETE", `/vhosts/${vhost}`));
    return { ...server, ...notOurs("RabbitMQ"), remove };
  },
  docker: async ({ config = "" }) => {
    const content = `loopback_users = none\ncollect_statistics_interval = 1000\n${config}\n`;
    const container = await startContainer({
      image: "rabbitmq:4-management",
      ports: { amqp: 5672, management: 15672 },
      files: [{ target: "/etc/rabbitmq/conf.d/20-tests.conf", content }],
      ready: (host, ports) => rabbitMqAnswers(rabbitMqInside(host, ports)),
    });
    return { ...container, ...rabbitMqInside(container.host, container.ports) };
  },
  found: async () =>
    (await isThere("/usr/lib/rabbitmq/bin/rabbitmq-server")) || (await findProgram("rabbitmq-server")) !== undefined,
  start: startRabbitMq,
  install: (packages) => packages(["rabbitmq-server"]),
  missing: "set RABBITMQ_URL, start Docker or install rabbitmq-server",
};

function rabbitMqInside(host: string, ports: Record<string, number>): ReturnType<typeof rabbitMqAt> {
  const found = { host, port: ports["amqp"] ?? 0, managementPort: ports["management"] ?? 0 };
  return rabbitMqAt({ ...found, user: "guest", password: "guest" });
}

export const dovecotSource: Source<Dovecot, DovecotOptions> = {
  environment: async () => undefined,
  // The tests change the users, the mail folders and the processes of their Dovecot, which a container hides.
  docker: undefined,
  found: async () => {
    if (!(await dovecotVersion(dovecotProgram()))?.startsWith("2.3.")) return false;
    const folder = "/usr/lib/dovecot";
    if (process.env["TEST_DOVECOT"] || !(await isThere(folder))) return true;
    // On Debian each protocol is a package.
    const parts = await Promise.all(["imap", "pop3", "lmtp"].map((part) => isThere(`${folder}/${part}`)));
    return parts.every(Boolean);
  },
  start: (options) => startDovecot({ program: dovecotProgram(), ...options }),
  install: (packages) => packages(["dovecot-core", "dovecot-imapd", "dovecot-pop3d", "dovecot-lmtpd"]),
  missing: "install Dovecot 2.3 with imap, pop3 and lmtp, or name it in TEST_DOVECOT",
};

function dovecotProgram(): string {
  return process.env["TEST_DOVECOT"] ?? "dovecot";
}

const GREENMAIL = `com.icegreen:greenmail-standalone:${GREENMAIL_VERSION}`;

export const greenMailSource: Source<GreenMail, { users?: Record<string, string> }> = {
  environment: async ({ users = {} }) => {
    const host = process.env["TEST_GREENMAIL"];
    if (!host) return undefined;
    const address = { host, ...GREENMAIL_PORTS };
    return greenMailOn({ address, ca: undefined, ...notOurs("GreenMail"), start: async () => undefined }, users);
  },
  docker: async ({ users = {} }) => {
    const container = await startContainer({
      image: `greenmail/standalone:${GREENMAIL_VERSION}`,
      ports: GREENMAIL_INSIDE,
      environment: {
        GREENMAIL_OPTS: "-Dgreenmail.setup.test.all -Dgreenmail.hostname=0.0.0.0 -Dgreenmail.startup.timeout=30000",
      },
      ready: (host, ports) => greenMailAnswers({ host, ...GREENMAIL_PORTS, ...ports }),
    });
    const address = { host: container.host, ...GREENMAIL_PORTS, ...container.ports };
    let running = true;
    const ended = (end: () => Promise<void>) => async (): Promise<void> => {
      running = false;
      await end();
    };
    const start = async (): Promise<void> => {
      if (!running) await container.start();
      running = true;
    };
    const runner = {
      ...container,
      address,
      ca: undefined,
      start,
      stop: ended(container.stop),
      kill: ended(container.kill),
    };
    return greenMailOn(runner, users);
  },
  found: async () => {
    const programs = await Promise.all(["java", "keytool"].map(findProgram));
    return programs.every((program) => program !== undefined) && (await isThere(greenMailJar()));
  },
  start: (options) => startGreenMail({ ...options, jar: greenMailJar() }),
  install: async (packages) => {
    const programs = { java: "default-jre-headless", keytool: "default-jre-headless", mvn: "maven" };
    const needed = new Set<string>();
    for (const [program, name] of Object.entries(programs)) if (!(await findProgram(program))) needed.add(name);
    if (needed.size > 0) await packages([...needed]);
    await downloadJar(GREENMAIL);
  },
  missing: "set TEST_GREENMAIL or GREENMAIL_JAR, or start Docker",
};

// Its own certificate names no host, so TLS is not used where it cannot be given another.
const GREENMAIL_INSIDE = { imap: 3143, pop3: 3110, smtp: 3025, api: 8080 };
const GREENMAIL_PORTS = { ...GREENMAIL_INSIDE, imaps: 0, pop3s: 0 };

function greenMailJar(): string {
  return process.env["GREENMAIL_JAR"] ?? jarPath(GREENMAIL);
}

type Control = Record<"pause" | "resume" | "stop" | "kill" | "start" | "remove", () => Promise<void>>;

function notOurs(name: string): Control {
  const refuse = async (): Promise<never> => {
    throw new Error(`This ${name} comes from the environment: a test that stops it must ask for an owned one`);
  };
  return { pause: refuse, resume: refuse, stop: refuse, kill: refuse, start: refuse, remove: async () => undefined };
}
