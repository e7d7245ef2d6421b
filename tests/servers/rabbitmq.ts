/** A private rabbitmq-server for tests: own node name, own ports (also Erlang's), own folder, killed as a whole. */
import { writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { freePorts } from "./ports.ts";
import { type Program, removeFolder, startProgram, temporaryFolder } from "./program.ts";
import { eventually } from "./waiting.ts";

export type RabbitMq = {
  host: string;
  port: number;
  managementPort: number;
  /** For clients: amqp://user:password@host:port, with the virtual host unless it is the default one. */
  url: string;
  /** The virtual host as the paths of the management interface have it. */
  vhost: string;
  /** Asks the management interface: `api("GET", "/overview")`. Rejects unless it answers with 2xx. */
  api(method: string, path: string, body?: unknown): Promise<unknown>;
  /** The queues of its virtual host; the counts of quorum queues are up to 1 s late. */
  queues(): Promise<QueueState[]>;
  /** Closes every client connection, as an operator would. */
  disconnectAll(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** Starts again on the same ports with the same files. */
  start(): Promise<void>;
  /** Kills it if it runs, and removes its files. */
  remove(): Promise<void>;
};

/** A queue; more fields are there by the names of the management interface. */
export type QueueState = {
  name: string;
  type: string;
  messages: number;
  messages_ready: number;
  messages_unacknowledged: number;
  consumers: number;
};

const START_MS = 120_000;

type Ports = { amqp: number; management: number; distribution: number; epmd: number };

export type RabbitMqOptions = {
  /** More lines for rabbitmq.conf. */
  config?: string;
  /** How it is started: it gets a script that starts the broker, and its folder. By default the script alone. */
  command?: (start: string, folder: string) => Promise<[string, ...string[]]>;
};

/** Starts a broker with no queues and the management plugin; resolves once both answer, after about 6 s. */
export async function startRabbitMq(options: RabbitMqOptions = {}): Promise<RabbitMq> {
  const folder = await temporaryFolder("rabbitmq");
  const [amqp = 0, management = 0, distribution = 0, epmd = 0] = await freePorts(4);
  const ports = { amqp, management, distribution, epmd };
  await writeFile(join(folder, "rabbitmq.conf"), brokerConfig(ports, options.config ?? ""));
  // Quorum queues report their counts every 5 s unless told otherwise.
  await writeFile(join(folder, "advanced.config"), "[{rabbit, [{quorum_tick_interval, 1000}]}].\n");
  await writeFile(join(folder, "plugins"), "[rabbitmq_management].\n");
  await writeFile(join(folder, ".erlang.cookie"), "CookieOfTheTests", { mode: 0o400 });
  let program: Program | undefined;
  const ended = async (end: (one: Program) => Promise<void>): Promise<void> => {
    if (program) await end(program);
    program = undefined;
  };
  const address = { host: "127.0.0.1", port: amqp, managementPort: management, user: "guest", password: "guest" };
  const rabbit: RabbitMq = {
    ...rabbitMqAt(address),
    pause: async () => program?.signal("SIGSTOP"),
    resume: async () => program?.signal("SIGCONT"),
    stop: () => ended((one) => one.stop(30_000)),
    kill: () => ended((one) => one.kill()),
    start: async () => {
      const plain = ["/bin/sh", "-c", START, "rabbitmq"] as const;
      const [command, ...args] = (await options.command?.(START, folder)) ?? plain;
      const started = await startProgram(command, args, {
        cwd: folder,
        env: brokerEnvironment(folder, ports),
      });
      program = started;
      await eventually(() => !started.running() || rabbitMqAnswers(rabbit), "RabbitMQ to answer", START_MS, 200);
      if (!started.running()) throw new Error(`rabbitmq-server has ended: ${started.output()}`);
    },
    remove: async () => {
      await ended((one) => one.kill());
      await removeFolder(folder);
    },
  };
  await rabbit.start();
  return rabbit;
}

export type RabbitMqAddress = {
  host: string;
  port: number;
  managementPort: number;
  user: string;
  password: string;
  /** "/" unless it is given. */
  vhost?: string;
};

/** The part of a RabbitMq that needs nothing but its address. */
export function rabbitMqAt(
  address: RabbitMqAddress,
): Pick<RabbitMq, "host" | "port" | "managementPort" | "url" | "vhost" | "api" | "queues" | "disconnectAll"> {
  const { host, port, managementPort, user, password } = address;
  const vhost = encodeURIComponent(address.vhost ?? "/");
  const login = `${encodeURIComponent(user)}:${encodeURIComponent(password)}`;
  const api = async (method: string, path: string, body?: unknown): Promise<unknown> => {
    const answer = await fetch(`http://${host}:${managementPort}/api${path}`, {
      method,
      headers: {
        authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
        "content-type": "application/json",
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(10_000),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`RabbitMQ answers ${method} ${path} with ${answer.status}: ${text}`);
    return text === "" ? undefined : JSON.parse(text);
  };
  return {
    host,
    port,
    managementPort,
    url: `amqp://${login}@${host}:${port}${address.vhost === undefined ? "" : `/${vhost}`}`,
    vhost,
    api,
    queues: async () => {
      // Asked in this way the counts are those of now; the statistics with all else are 5 s late.
      const totals = await api("GET", `/queues/${vhost}?disable_stats=true&enable_queue_totals=true`);
      const consumers = (await api("GET", `/consumers/${vhost}`)) as { queue: { name: string } }[];
      return (totals as Omit<QueueState, "consumers">[]).map((queue) => ({
        ...queue,
        consumers: consumers.filter((one) => one.queue.name === queue.name).length,
      }));
    },
    disconnectAll: async () => {
      const open = (await api("GET", "/connections")) as { name: string }[];
      const close = (one: { name: string }): Promise<unknown> =>
        api("DELETE", `/connections/${encodeURIComponent(one.name)}`).catch(() => undefined);
      await Promise.all(open.map(close));
    },
  };
}

/** Whether the broker greets clients and its management interface answers. */
export async function rabbitMqAnswers(rabbit: Pick<RabbitMq, "api" | "host" | "port">): Promise<boolean> {
  return (
    (await greets(rabbit)) &&
    (await rabbit.api("GET", "/overview").then(
      () => true,
      () => false,
    ))
  );
}

// A client says "AMQP" and the version; the broker's answer is a method frame (type 1), Connection.Start.
function greets({ host, port }: { host: string; port: number }): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, host, () => socket.write(Buffer.from([0x41, 0x4d, 0x51, 0x50, 0, 0, 9, 1])));
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(2000, () => done(false));
    socket.once("data", (chunk) => done(chunk[0] === 1));
    socket.once("error", () => done(false));
    socket.once("close", () => done(false));
  });
}

// Erlang's port mapper would become a daemon that outlives everyone; started first, it is part of the group and ends
// with it. The script in /usr/sbin would change to another user.
const START = `
epmd -port "$ERL_EPMD_PORT" -address 127.0.0.1 &
server=/usr/lib/rabbitmq/bin/rabbitmq-server
[ -x "$server" ] || server=rabbitmq-server
exec "$server"
`;

function brokerConfig(ports: Ports, extra: string): string {
  return `
listeners.tcp.1 = 127.0.0.1:${ports.amqp}
management.tcp.ip = 127.0.0.1
management.tcp.port = ${ports.management}
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
collect_statistics_interval = 1000
${extra}
`;
}

function brokerEnvironment(folder: string, ports: Ports): Record<string, string> {
  return {
    HOME: folder,
    RABBITMQ_NODENAME: `tests-${ports.amqp}@localhost`,
    RABBITMQ_NODE_IP_ADDRESS: "127.0.0.1",
    RABBITMQ_NODE_PORT: String(ports.amqp),
    RABBITMQ_DIST_PORT: String(ports.distribution),
    ERL_EPMD_PORT: String(ports.epmd),
    ERL_EPMD_ADDRESS: "127.0.0.1",
    RABBITMQ_CONFIG_FILE: join(folder, "rabbitmq.conf"),
    RABBITMQ_ADVANCED_CONFIG_FILE: join(folder, "advanced.config"),
    RABBITMQ_CONF_ENV_FILE: join(folder, "none"),
    RABBITMQ_ENABLED_PLUGINS_FILE: join(folder, "plugins"),
    RABBITMQ_MNESIA_BASE: join(folder, "mnesia"),
    RABBITMQ_LOG_BASE: join(folder, "log"),
    RABBITMQ_GENERATED_CONFIG_DIR: join(folder, "config"),
    RABBITMQ_PID_FILE: join(folder, "pid"),
    // Two schedulers are enough for tests. They sleep when they have nothing to do, and leave the machine to the tests.
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: "+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none",
  };
}
