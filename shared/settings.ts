/** Every setting: its schema, its default and its meaning. docs/settings.md is made from this. */
import * as v from "valibot";
import { ALARM_SETTINGS } from "./settings/alarms.ts";
import { NETWORK_SETTINGS } from "./settings/network.ts";
import {
  amqpName,
  basePath,
  crmAccess,
  decimal,
  ehloName,
  encryptionKeys,
  httpUrls,
  integer,
  networks,
  optionalSecret,
  secretList,
  wordList,
} from "./setting-schemas.ts";

type Setting = { schema: v.GenericSchema<string, unknown>; default: string; about: string; secret?: true };

/** Every setting with its default and its one-line meaning, in the order of docs/settings.md. */
export const SETTINGS = {
  HOST: {
    schema: v.string(),
    default: "",
    about: "Address to listen on. Without API_TOKENS it is always 127.0.0.1, otherwise 0.0.0.0.",
  },
  PORT: { schema: integer(0, 65535), default: "10000", about: "Port to listen on. 0 means any free port." },
  BASE_PATH: {
    schema: basePath,
    default: "",
    about: "Path prefix under which a proxy serves the service, such as /mail.",
  },
  PUBLIC_URL: {
    schema: httpUrls,
    default: "",
    about:
      "URLs of the service, separated by commas. A CRM may use only their hosts, addresses, and names without a dot. People who connect a mailbox come back to the first one.",
  },
  TRUSTED_PROXIES: {
    schema: networks,
    default: "",
    about:
      "Addresses or networks of your proxies, separated by commas. Only their X-Forwarded-For says who the caller is.",
  },
  API_TOKENS: {
    secret: true,
    schema: secretList,
    default: "",
    about:
      "Bearer tokens that may do everything, separated by commas, in production with 16 characters or more. Without one only this machine may call. Production needs one.",
  },
  METRICS_TOKENS: {
    secret: true,
    schema: secretList,
    default: "",
    about:
      "Bearer tokens that may read /metrics and nothing else, separated by commas, in production with 16 characters or more.",
  },
  DATA_DIR: {
    schema: v.pipe(v.string(), v.minLength(1)),
    default: "./data",
    about: "Folder of the SQLite store. `:memory:` stores nothing on disk.",
  },
  ENCRYPTION_KEYS: {
    secret: true,
    schema: encryptionKeys,
    default: "",
    about:
      "Keys for stored credentials, `id:base64,...`. The first one encrypts, all decrypt. Production and REDIS_URL need them. Otherwise the service creates one in DATA_DIR.",
  },
  REDIS_URL: {
    secret: true,
    schema: v.pipe(v.string(), v.transform(optionalSecret)),
    default: "",
    about:
      "Redis that the nodes share, instead of SQLite: redis://, rediss://, redis+sentinel://host,host/master or redis+cluster://host,host.",
  },
  REDIS_PASSWORD: {
    secret: true,
    schema: v.pipe(v.string(), v.transform(optionalSecret)),
    default: "",
    about: "Password for REDIS_URL, with any characters. Inside the URL you would have to percent-encode them.",
  },
  REDIS_CA: {
    schema: v.string(),
    default: "",
    about:
      "Certificate authority for rediss://: the path of a PEM file, or its text. By default the system's authorities.",
  },
  REDIS_PREFIX: {
    schema: v.pipe(v.string(), v.regex(/^[A-Za-z0-9:._-]{1,64}$/, "may use A-Z a-z 0-9 : . _ - only")),
    default: "email-listener:",
    about: "Prefix of all keys in Redis.",
  },
  RABBITMQ_URL: {
    secret: true,
    schema: secretList,
    default: "",
    about:
      "RabbitMQ that carries tasks to workers: amqp:// or amqps://. Separate several hosts of one cluster by commas. Needs REDIS_URL.",
  },
  RABBITMQ_LOGIN: { schema: v.string(), default: "", about: "User for RABBITMQ_URL, with any characters." },
  RABBITMQ_PASSWORD: {
    secret: true,
    schema: v.pipe(v.string(), v.transform(optionalSecret)),
    default: "",
    about: "Password for RABBITMQ_URL, with any characters. Needs RABBITMQ_LOGIN.",
  },
  RABBITMQ_CA: {
    schema: v.string(),
    default: "",
    about:
      "Certificate authority for amqps://: the path of a PEM file, or its text. By default the system's authorities.",
  },
  RABBITMQ_EXCHANGE: { schema: amqpName, default: "email-listener", about: "Name of the exchange." },
  RABBITMQ_QUEUE: {
    schema: amqpName,
    default: "email-listener.tasks",
    about: "Name of the work queue. The names of the delay queues and of the parked queue begin with it.",
  },
  RABBITMQ_QUEUE_TYPE: {
    schema: v.picklist(["quorum", "classic"]),
    default: "quorum",
    about: "Type of the queues: `quorum` or `classic`.",
  },
  MAILBOXES_PER_NODE: {
    schema: integer(1, 1000000),
    default: "5000",
    about: "The most mailboxes that one API node listens to.",
  },
  SESSION_TTL_SECONDS: {
    schema: decimal(1, 600),
    default: "15",
    about: "How long a node counts as alive after its last heartbeat. Then other nodes take its mailboxes.",
  },
  NODE_NAME: {
    schema: v.string(),
    default: "",
    about: "Name of this node in states and logs. By default the host name.",
  },
  CONNECTIONS_PER_HOST_PER_SECOND: {
    schema: decimal(0.1, 10000),
    default: "150",
    about:
      "The most connections that a node opens to one mail host in a second. It starts at 20, grows with each success, and is halved by each refusal.",
  },
  PROBE_SECONDS: {
    schema: decimal(0.1, 1740),
    default: "75",
    about:
      "How long an idle subscription may go without an answer of the mail server. Then the service probes the connection and issues IDLE again.",
  },
  FOLDER_POLL_SECONDS: {
    schema: decimal(0.1, 3600),
    default: "30",
    about:
      "How often IMAP folders other than the first are polled, and all folders if the server cannot push. Graph folders: half of it after a message, up to four times it when quiet.",
  },
  COMMAND_TIMEOUT_SECONDS: {
    schema: decimal(0.1, 300),
    default: "15",
    about: "Deadline of each step with a mail server: DNS, connect, TLS, greeting, login, command.",
  },
  EHLO_NAME: {
    schema: ehloName,
    default: "",
    about:
      "Name that the service gives to SMTP servers (EHLO). By default the host name if it has a domain, else the domain of the sender.",
  },
  WORKER_CONCURRENCY: {
    schema: integer(1, 1000),
    default: "32",
    about:
      "How much a process does at the same time. It has up to 16 times as many tasks in hand; most of them wait for a server.",
  },
  READERS_PER_MAILBOX: {
    schema: integer(1, 100),
    default: "2",
    about:
      "How many connections to one mailbox workers may open, over all nodes. The subscription's own connection does not count.",
  },
  DELIVERY_TIMEOUT_SECONDS: {
    schema: decimal(0.1, 300),
    default: "30",
    about: "How long an endpoint may take to answer.",
  },
  DELIVERIES_PER_ENDPOINT: {
    schema: integer(1, 1000),
    default: "64",
    about:
      "The most deliveries that a process makes to one endpoint at the same time. It starts with 4; the number follows how fast the endpoint answers.",
  },
  RETRY_HOURS: {
    schema: decimal(0.001, 8760),
    default: "72",
    about: "How long a failed delivery is tried again before it is parked.",
  },
  CLAIM_SECONDS: {
    schema: decimal(3, 600),
    default: "30",
    about:
      "When a worker dies, its work waits this long until another worker may take it. A living worker renews its claims.",
  },
  BACKOFF_SCALE: {
    schema: decimal(0.001, 100),
    default: "1",
    about:
      "Multiplies every wait between attempts. Values below 1 are for tests, because providers may lock an account.",
  },
  WINDOW_DAYS: {
    schema: decimal(0.01, 365),
    default: "7",
    about:
      "How long fingerprints of delivered messages are kept to suppress duplicates, and how long delivered messages are listed.",
  },
  SPOOL_BYTES: {
    schema: integer(1048576, 1e15),
    default: "2147483648",
    about: "Limit for the compressed raw bytes of messages that wait or are parked.",
  },
  CRM_ACCESS: {
    secret: true,
    schema: crmAccess,
    default: "",
    about:
      "Who may call as a CRM: `closed`, `open`, `path:<segment>`, `basic:<user>:<password>`, `networks:<cidr,...>` (all given). Default: closed in production, else a token, or without tokens this machine.",
  },
  CRM_KEYWORD: {
    schema: v.pipe(v.string(), v.regex(/^[A-Za-z0-9$_.-]{1,64}$/, "may use A-Z a-z 0-9 $ _ . - only")),
    default: "Creatio",
    about:
      "Keyword (Gmail: label, Exchange: category) that marks mail which a CRM has accepted and wants marked. `none` marks nothing.",
  },
  CRM_LOAD_DAYS: {
    schema: decimal(0.01, 3650),
    default: "7",
    about: "How many days of mail a CRM gets when it asks for mail with a filter that the service cannot read.",
  },
  CRM_PLAIN_RELAYS: {
    schema: wordList,
    default: "",
    about:
      "SMTP servers that a CRM may send through without TLS, by host name or address, separated by commas. The CRM must ask for no TLS. Passwords go in clear.",
  },
  CRM_RECORD: {
    schema: v.picklist(["off", "on"]),
    default: "off",
    about: "`on` logs the shape of each request of a CRM: path, header names, field names and types, but no values.",
  },
  CONSOLE_BODIES: {
    schema: v.picklist(["off", "headers", "on"]),
    default: "headers",
    about:
      "What the console shows of stored messages: `off` nothing, and no download; `headers` their header lines; `on` their bodies too, in a frame that loads and runs nothing.",
  },
  KEEP_SUBJECTS: {
    schema: v.picklist(["off", "on"]),
    default: "on",
    about:
      "`on` keeps the subject, the sender and the Message-ID of each message with the record of its delivery, unencrypted, so that it is found by them. With `off` new records have none of them.",
  },
  ...NETWORK_SETTINGS,
  ...ALARM_SETTINGS,
  LOG_LEVEL: {
    schema: v.picklist(["debug", "info", "warn", "error"]),
    default: "info",
    about: "The lowest level that is logged: debug, info, warn or error.",
  },
  NODE_ENV: {
    schema: v.picklist(["production", "development", "test"]),
    default: "development",
    about: "With `production` the service does not start without API_TOKENS and ENCRYPTION_KEYS.",
  },
} as const satisfies Record<string, Setting>;

/** The settings that are secrets. `<name>_FILE` may name a file that holds the value. */
export const SECRET_SETTINGS: readonly string[] = Object.entries<Setting>(SETTINGS)
  .filter(([, { secret }]) => secret)
  .map(([name]) => name);

/**
 * Settings with another name in 0.1: the new name, and the release that no longer reads the old one; null if it is
 * always read.
 */
export const RENAMED_SETTINGS: Readonly<Record<string, { name: keyof typeof SETTINGS; until: string | null }>> = {
  TAKEN_SECONDS: { name: "CLAIM_SECONDS", until: "0.3.0" },
  LISTENERS_ACCESS: { name: "CRM_ACCESS", until: null },
  LISTENERS_KEYWORD: { name: "CRM_KEYWORD", until: "0.3.0" },
  LISTENERS_LOAD_DAYS: { name: "CRM_LOAD_DAYS", until: "0.3.0" },
  LISTENERS_RECORD: { name: "CRM_RECORD", until: "0.3.0" },
};
