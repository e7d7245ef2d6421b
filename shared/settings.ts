/** Every setting: how it is written, its default and its meaning. The README's table is made from this. */
import ipaddr from "ipaddr.js";
import * as v from "valibot";
import { Secret } from "./contract/secret.ts";

const words = v.pipe(
  v.string(),
  v.transform((s) => s.split(/[\s,]+/).filter(Boolean)),
);
const whole = (min: number, max: number) =>
  v.pipe(v.string(), v.regex(/^\d+$/, "must be a whole number"), v.transform(Number), v.minValue(min), v.maxValue(max));
const decimal = (min: number, max: number) =>
  v.pipe(
    v.string(),
    v.regex(/^\d+(\.\d+)?$/, "must be a number"),
    v.transform(Number),
    v.minValue(min),
    v.maxValue(max),
  );
const basePath = v.pipe(
  v.string(),
  v.regex(/^(\/[A-Za-z0-9._~-]+)*\/?$/, "must look like /mail"),
  v.transform((s) => s.replace(/\/$/, "")),
);
const key = /^[A-Za-z0-9_-]{1,32}:[A-Za-z0-9+/]{43}=$/;
const keys = v.pipe(
  words,
  v.check(
    (list) => list.every((k) => key.test(k)),
    "must be id:key pairs, each key 32 bytes in base64 (`bun run keys` makes one)",
  ),
  v.transform((list) =>
    list.map((k) => ({ id: k.slice(0, k.indexOf(":")), key: new Secret(k.slice(k.indexOf(":") + 1)) })),
  ),
);

const label = v.pipe(v.string(), v.regex(/^[A-Za-z0-9:._-]{1,128}$/, "may use A-Z a-z 0-9 : . _ - only"));
const maybeSecret = (text: string) => (text ? new Secret(text) : undefined);

/** One condition on who may call the CRM's operations. */
export type ListenersAccess =
  | { kind: "closed" | "open" }
  | { kind: "path"; segment: Secret }
  | { kind: "basic"; user: string; password: Secret }
  | { kind: "networks"; cidrs: string[] };

const ACCESS =
  /^(?:(closed|open)|path:([A-Za-z0-9._~-]{8,})|basic:([^\s:]+):(\S{8,})|networks:([0-9A-Fa-f.:/]+(?:,[0-9A-Fa-f.:/]+)*))$/;
const listenersAccess = v.pipe(
  v.string(),
  v.transform((s) => s.split(/\s+/).filter(Boolean)),
  v.check(
    (list) =>
      list.every((word) => ACCESS.test(word)) && (list.length < 2 || !list.some((w) => /^(closed|open)$/.test(w))),
    "must be closed, open, or any of path:<segment>, basic:<user>:<password> and networks:<cidr,...>, separated by spaces; segment and password with at least 8 characters",
  ),
  v.transform((list) => list.map(accessOf)),
  v.check(
    (list) => list.every((one) => one.kind !== "networks" || one.cidrs.every((cidr) => ipaddr.isValidCIDR(cidr))),
    "must name networks as CIDR, such as 10.0.0.0/8",
  ),
);

function accessOf(word: string): ListenersAccess {
  const [, plain, segment, user, password, networks] = ACCESS.exec(word) ?? [];
  if (segment) return { kind: "path", segment: new Secret(segment) };
  if (user && password) return { kind: "basic", user, password: new Secret(password) };
  if (networks) return { kind: "networks", cidrs: networks.split(",") };
  return { kind: plain === "open" ? "open" : "closed" };
}

/** Every setting with its default and its one-line meaning, in the order of the README's table. */
export const SETTINGS = {
  HOST: {
    schema: v.string(),
    default: "",
    about: "Address to listen on. Without API_TOKENS always 127.0.0.1, else 0.0.0.0.",
  },
  PORT: { schema: whole(0, 65535), default: "10000", about: "Port to listen on; 0 takes a free one." },
  BASE_PATH: {
    schema: basePath,
    default: "",
    about: "Path prefix under which a proxy serves the service, such as /mail.",
  },
  API_TOKENS: {
    schema: v.pipe(
      words,
      v.transform((list) => list.map((t) => new Secret(t))),
    ),
    default: "",
    about:
      "Bearer tokens of the API, separated by commas. Without one the service listens on loopback only. Demanded in production.",
  },
  DATA_DIR: {
    schema: v.pipe(v.string(), v.minLength(1)),
    default: "./data",
    about: "Where the embedded store lives; `:memory:` keeps nothing.",
  },
  ENCRYPTION_KEYS: {
    schema: keys,
    default: "",
    about:
      "Keys for stored credentials, `id:base64,...`; the first encrypts, all decrypt. Demanded in production and with REDIS_URL; elsewhere one is made in DATA_DIR.",
  },
  REDIS_URL: {
    schema: v.pipe(v.string(), v.transform(maybeSecret)),
    default: "",
    about:
      "Redis that the nodes share, instead of the embedded store: redis://, rediss://, redis+sentinel://host,host/master or redis+cluster://host,host.",
  },
  REDIS_PASSWORD: {
    schema: v.pipe(v.string(), v.transform(maybeSecret)),
    default: "",
    about: "Password for REDIS_URL, with any characters; in the URL itself they would have to be percent-encoded.",
  },
  REDIS_CA: {
    schema: v.string(),
    default: "",
    about:
      "Who must have signed the certificate of a rediss:// server: a PEM file's path, or its text. By default whom the system trusts.",
  },
  REDIS_PREFIX: {
    schema: v.pipe(v.string(), v.regex(/^[A-Za-z0-9:._-]{1,64}$/, "may use A-Z a-z 0-9 : . _ - only")),
    default: "email-listener:",
    about: "What all its keys begin with.",
  },
  RABBITMQ_URL: {
    schema: v.pipe(
      words,
      v.transform((list) => list.map((url) => new Secret(url))),
    ),
    default: "",
    about:
      "RabbitMQ that carries tasks to workers, amqp:// or amqps://; several hosts of one cluster separated by commas. Needs REDIS_URL.",
  },
  RABBITMQ_LOGIN: { schema: v.string(), default: "", about: "User for RABBITMQ_URL, with any characters." },
  RABBITMQ_PASSWORD: {
    schema: v.pipe(v.string(), v.transform(maybeSecret)),
    default: "",
    about: "Password for RABBITMQ_URL, with any characters. Needs RABBITMQ_LOGIN.",
  },
  RABBITMQ_CA: { schema: v.string(), default: "", about: "The same for amqps://." },
  RABBITMQ_EXCHANGE: { schema: label, default: "email-listener", about: "Name of the exchange." },
  RABBITMQ_QUEUE: {
    schema: label,
    default: "email-listener.tasks",
    about: "Name of the work queue; its delay and parked queues begin with it.",
  },
  RABBITMQ_QUEUE_TYPE: { schema: v.picklist(["quorum", "classic"]), default: "quorum", about: "Type of the queues." },
  MAILBOXES_PER_NODE: {
    schema: whole(1, 1000000),
    default: "5000",
    about: "Most mailboxes that one API node listens to.",
  },
  SESSION_TTL_SECONDS: {
    schema: decimal(1, 600),
    default: "15",
    about: "After so long without a sign of life a node's mailboxes go to others.",
  },
  NODE_NAME: {
    schema: v.string(),
    default: "",
    about: "Name of this node in states and logs; the host name by default.",
  },
  CONNECTIONS_PER_HOST_PER_SECOND: {
    schema: decimal(0.1, 10000),
    default: "150",
    about:
      "Fastest pace at which a node opens connections to one mail host. It begins with 20, grows while the host lets them in, and is halved by each refusal.",
  },
  PROBE_SECONDS: {
    schema: decimal(0.1, 1740),
    default: "75",
    about: "How long an idle subscription may go without proof that it still hears. Re-issues IDLE.",
  },
  FOLDER_POLL_SECONDS: {
    schema: decimal(0.1, 3600),
    default: "30",
    about: "How often the folders other than the first are looked at, and the first where the server cannot push.",
  },
  COMMAND_TIMEOUT_SECONDS: {
    schema: decimal(0.1, 300),
    default: "15",
    about: "Deadline of each step with a mail server: DNS, connect, TLS, greeting, login, command.",
  },
  WORKER_CONCURRENCY: { schema: whole(1, 1000), default: "32", about: "Tasks performed at the same time." },
  READERS_PER_MAILBOX: {
    schema: whole(1, 100),
    default: "2",
    about: "Connections to one mailbox beside its subscription, of all nodes together.",
  },
  DELIVERY_TIMEOUT_SECONDS: {
    schema: decimal(0.1, 300),
    default: "30",
    about: "How long an endpoint may take to answer.",
  },
  DELIVERIES_PER_ENDPOINT: {
    schema: whole(1, 1000),
    default: "16",
    about: "Deliveries to one endpoint at the same time.",
  },
  RETRY_HOURS: {
    schema: decimal(0.001, 8760),
    default: "72",
    about: "How long a failed delivery is tried again before it is parked.",
  },
  TAKEN_SECONDS: {
    schema: decimal(3, 600),
    default: "30",
    about:
      "How long what a worker had in hand when it died waits for another one. Work in hand is kept for as long as it lasts.",
  },
  BACKOFF_SCALE: {
    schema: decimal(0.001, 100),
    default: "1",
    about: "Multiplies every wait between tries. Below 1 for tests: it makes lock-outs and storms likelier.",
  },
  WINDOW_DAYS: {
    schema: decimal(0.01, 365),
    default: "7",
    about: "How long content is remembered to suppress duplicates, and delivered messages are listed.",
  },
  SPOOL_BYTES: {
    schema: whole(1048576, 1e15),
    default: "2147483648",
    about: "Room for the raw bytes of messages that wait or are parked.",
  },
  LISTENERS_ACCESS: {
    schema: listenersAccess,
    default: "",
    about:
      "Who may call /api/listeners (a CRM cannot send a token): `closed`, `open`, `path:<segment>`, `basic:<user>:<password>`, `networks:<cidr,...>`; several, separated by spaces, must all hold. By default closed in production, elsewhere this machine only.",
  },
  LISTENERS_KEYWORD: {
    schema: v.pipe(v.string(), v.regex(/^[A-Za-z0-9$_.-]{1,64}$/, "may use A-Z a-z 0-9 $ _ . - only")),
    default: "Creatio",
    about:
      "Keyword (on Gmail the label, on Exchange the category) for mail that a CRM has taken and wants marked; `none` marks nothing.",
  },
  LISTENERS_LOAD_DAYS: {
    schema: decimal(0.01, 3650),
    default: "7",
    about: "How far back mail is loaded when a CRM asks for it by a filter that cannot be read.",
  },
  LISTENERS_RECORD: {
    schema: v.picklist(["off", "on"]),
    default: "off",
    about: "`on` logs the shape of each request of a CRM: path, header names, members and their types, no values.",
  },
  EGRESS_PRIVATE: {
    schema: v.picklist(["allow", "deny"]),
    default: "allow",
    about: "Whether mail hosts and endpoints may have private addresses. Cloud metadata addresses are never allowed.",
  },
  LOG_LEVEL: { schema: v.picklist(["debug", "info", "warn", "error"]), default: "info", about: "What is logged." },
  NODE_ENV: {
    schema: v.picklist(["production", "development", "test"]),
    default: "development",
    about: "`production` demands API_TOKENS and ENCRYPTION_KEYS.",
  },
} as const satisfies Record<string, { schema: v.GenericSchema<string, unknown>; default: string; about: string }>;
