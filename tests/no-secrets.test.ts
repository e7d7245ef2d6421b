/** Marked passwords, tokens and bodies, and servers that repeat them: no part of them is anywhere but sealed. */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { clusterEnv } from "./cluster-rig.ts";
import { type EchoServers, startEchoServers, STYLES } from "./servers/echo.ts";
import { message } from "./servers/mail.ts";
import { dovecotOrSkip, rabbitMqOrSkip, redisOrSkip } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { type Service, startService } from "./service.ts";
import { findMarks, markedPassword } from "./stories/marks.ts";

/** What is hidden begins with six characters of a secret and with fourteen of a message; one more tolerates where they join. */
const SECRET_SIZE = 7;
const LETTER_SIZE = 15;
const EVEN = [...STYLES.keys()].filter((style) => style % 2 === 0);
const ODD = [...STYLES.keys()].filter((style) => style % 2 === 1);
const SETTINGS = { LOG_LEVEL: "debug", BACKOFF_SCALE: "0.01", COMMAND_TIMEOUT_SECONDS: "5" };

describe("No part of a secret is anywhere, whatever servers repeat", () => {
  let echo: EchoServers;
  before(async () => {
    echo = await startEchoServers();
  });
  after(() => echo.stop());

  test("a node alone: validations, states, facts, logs, metrics, callbacks, the store", async () => {
    const service = await startService({ ...SETTINGS, NODE_ENV: "production", ...KEYS });
    try {
      const { secrets, letters, ids } = await registerAll(service, echo, { prefix: "alone", styles: EVEN });
      await service.until("the CRM to be told", () => echo.callbacks.some((one) => one.includes("ExceptionMessage")));
      const answers = await readAll(service, ids);
      const files = await readFolder(service.dataDir);
      const texts = { ...answers, ...files, log: service.output, callbacks: echo.callbacks.join("\n") };
      assert.deepEqual(findMarks(secrets, texts, SECRET_SIZE), []);
      assert.deepEqual(findMarks(letters, texts, LETTER_SIZE), []);
      // What is searched is there: the refusals, with the server's words around what it repeated.
      assert.match(answers["mailbox alone-imap-0"] ?? "", /I heard: .*\[secret\]/);
      assert.match(texts.callbacks, /ExceptionMessage.*\[secret\]/);
      assert.ok(Object.keys(files).some((name) => name.endsWith(".db")));
    } finally {
      await service.end();
    }
  });

  test("an API node and a worker over Redis and RabbitMQ, with mail from Dovecot", async (t) => {
    const [redis, rabbit, dovecot] = [await redisOrSkip(t), await rabbitMqOrSkip(t), await dovecotOrSkip(t)];
    if (!redis || !rabbit || !dovecot) return;
    const env = { ...clusterEnv({ redisUrl: redis.url, rabbitUrl: rabbit.url, env: SETTINGS }) };
    const api = await startService({ ...env, NODE_NAME: "a" });
    const worker = await startService({ ...env, NODE_NAME: "w" }, undefined, "worker");
    try {
      const { secrets, letters, ids } = await registerAll(api, echo, { prefix: "shared", styles: ODD });
      const queries: Record<string, string> = {};
      for (const style of STYLES.keys()) {
        const user = `box${style}`;
        const password = (secrets[`password of ${user}`] = markedPassword(user));
        const query = (queries[`query of ${user}`] = `Qq${style}z7731QQ99wv`);
        const login = (secrets[`login of ${user}`] = `Ll${style}y8842KK88tu`);
        letters[user] = `Bmark${style}x9953BB77GG11`;
        await dovecot.addUser(user, password);
        const receive = {
          protocol: "imap",
          host: "127.0.0.1",
          port: dovecot.imapPort,
          tls: "none",
          auth: { user, password },
        };
        const url = `http://hook:${login}@127.0.0.1:${echo.http}/s${style}?token=${query}`;
        await create(api, { id: user, receive, deliver: { url } });
        ids.push(user);
        await api.until(`${user} to be listened to`, async () => (await state(api, user)) === "listening");
        await dovecot.deliver(
          user,
          message({
            subject: `letter ${style}`,
            text: `${letters[user]} is the text of this letter, ${letters[user]}`,
          }),
        );
      }
      await api.until("every letter to be refused once", async () => {
        const { body } = await api.call("GET", "/api/v1/deliveries?limit=100");
        return body.items.length >= STYLES.length && body.items.every((one: any) => one.attemptCount > 0);
      });
      const answers = await readAll(api, ids);
      const stores = {
        redis: await readRedis(redis, env["REDIS_PREFIX"] ?? ""),
        rabbit: await readRabbit(rabbit, env["RABBITMQ_QUEUE"] ?? ""),
      };
      const logs = { "log of the API node": api.output, "log of the worker": worker.output };
      const texts = { ...answers, ...stores, ...logs };
      // The URL of an endpoint is shown where the mailbox is, and nowhere else.
      const elsewhere = Object.entries(texts).filter(([name]) => !/^(mailbox .*|list|redis)$/.test(name));
      assert.deepEqual(findMarks(queries, Object.fromEntries(elsewhere), SECRET_SIZE), []);
      assert.deepEqual(findMarks(secrets, texts, SECRET_SIZE), []);
      assert.deepEqual(findMarks(letters, texts, LETTER_SIZE), []);
      assert.match(answers["deliveries"] ?? "", /I heard: .*\[message\]/);
      assert.match(stores.redis, /box0/);
    } finally {
      await worker.end();
      await api.end();
    }
  });
});

const KEYS = { API_TOKENS: "a-token-for-tests", ENCRYPTION_KEYS: `k1:${Buffer.alloc(32, 5).toString("base64")}` };

const state = async (service: Service, id: string) =>
  (await service.call("GET", `/api/v1/mailboxes/${id}`)).body.state.status as string;

async function create(service: Service, { id, ...body }: { id: string; [name: string]: unknown }): Promise<void> {
  const whole = { id, address: `${id}@example.test`, ...body };
  const { status, body: answer } = await service.call("POST", "/api/v1/mailboxes", whole);
  assert.equal(status, 201, JSON.stringify(answer));
}

type Wish = { prefix: string; styles: readonly number[] };

/** A mailbox for each protocol and style, each with secrets of its own; resolves when every one was refused. */
async function registerAll(service: Service, echo: EchoServers, { prefix, styles }: Wish) {
  const secrets: Record<string, string> = {};
  const letters: Record<string, string> = {};
  const ids: string[] = [];
  const host = { host: "127.0.0.1", tls: "none" };
  for (const style of styles) {
    const mark = (name: string) =>
      (secrets[`${name} in style ${style}`] = markedPassword(`${prefix} ${name} ${style}`));
    const user = `u${style}`;
    const oauth2 = () => ({
      tokenUrl: `http://127.0.0.1:${echo.http}/token`,
      clientId: `c${style}`,
      clientSecret: mark("client secret"),
      refreshToken: mark("refresh token"),
    });
    const receivers: Record<string, object> = {
      imap: { protocol: "imap", ...host, port: echo.imap, auth: { user, password: mark("imap password") } },
      bye: { protocol: "imap", ...host, port: echo.bye, auth: { user, password: mark("bye password") } },
      bearer: { protocol: "imap", ...host, port: echo.bye, auth: { user, accessToken: mark("access token") } },
      oauth: { protocol: "imap", ...host, port: echo.imap, auth: { user, oauth2: oauth2() } },
      pop3: { protocol: "pop3", ...host, port: echo.pop3, auth: { user, password: mark("pop3 password") } },
      ews: {
        protocol: "ews",
        url: `http://127.0.0.1:${echo.http}/ews`,
        scheme: "basic",
        auth: { user, password: mark("ews password") },
      },
    };
    // Each protocol gets a third of the styles here, and others in the other test: all of them take minutes.
    const chosen = Object.entries(receivers).filter((_, at) => (at + style) % 3 === 0);
    for (const [name, receive] of chosen) {
      const id = `${prefix}-${name}-${style}`;
      const crm = { url: `http://127.0.0.1:${echo.http}/crm/s${style}`, dialect: "creatio" };
      await create(service, {
        id,
        receive,
        deliver: name === "imap" ? crm : { url: `http://127.0.0.1:${echo.http}/s${style}` },
      });
      ids.push(id);
    }
    for (const [name, login] of [
      ["smtp", user],
      ["data", `${user}in`],
    ] as const) {
      const id = `${prefix}-${name}-${style}`;
      const send = { ...host, port: echo.smtp, auth: { user: login, password: mark(`${name} password`) } };
      await create(service, { id, receive: receivers["imap"], send, deliver: { url: "http://127.0.0.1:9/" } });
      ids.push(id);
      const written = (letters[`text of ${id}`] = `Tmark${style}x${name}4433GG22`);
      const text = `${written} is what this letter says`;
      const sent = await service.call("POST", `/api/v1/mailboxes/${id}/messages`, {
        to: ["x@example.test"],
        subject: "s",
        text,
      });
      assert.equal(sent.status, 202, JSON.stringify(sent.body));
    }
  }
  await service.until("every login to be refused", async () => {
    const { body } = await service.call("GET", "/api/v1/mailboxes?limit=1000");
    return body.items.every((one: any) => one.state.problem !== null);
  });
  return { secrets, letters, ids };
}

/** What the API shows, also about attempts to validate and to send. */
async function readAll(service: Service, ids: readonly string[]): Promise<Record<string, string>> {
  const answers: Record<string, string> = {};
  const read = async (name: string, path: string, method = "GET") => {
    const { body } = await service.call(method, path);
    answers[name] = typeof body === "string" ? body : JSON.stringify(body);
    return body;
  };
  for (const id of ids) {
    await read(`mailbox ${id}`, `/api/v1/mailboxes/${id}`);
    await read(`history of ${id}`, `/api/v1/mailboxes/${id}/events`);
    await read(`sendings of ${id}`, `/api/v1/mailboxes/${id}/messages`);
  }
  await read("list", "/api/v1/mailboxes?limit=1000");
  await read("metrics", "/metrics");
  await read("diagnostics", "/api/v1/diagnostics");
  await read("parked", "/api/v1/parked");
  const { items } = await read("list of deliveries", "/api/v1/deliveries?limit=100");
  const details = [];
  for (const { id } of items)
    details.push(JSON.stringify((await service.call("GET", `/api/v1/deliveries/${id}`)).body));
  return { ...answers, deliveries: details.join("\n") };
}

async function readFolder(folder: string): Promise<Record<string, string>> {
  const names = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((one) => one.isFile()).map((one) => join(one.parentPath, one.name));
  const contents = await Promise.all(files.map(async (file) => [file, await readFile(file, "latin1")] as const));
  return Object.fromEntries(contents);
}

const READ: Record<string, (key: string) => string[]> = {
  string: (key) => ["GET", key],
  hash: (key) => ["HGETALL", key],
  list: (key) => ["LRANGE", key, "0", "-1"],
  set: (key) => ["SMEMBERS", key],
  zset: (key) => ["ZRANGE", key, "0", "-1"],
  stream: (key) => ["XRANGE", key, "-", "+"],
};

async function readRedis(redis: Redis, prefix: string): Promise<string> {
  const keys = (await redis.command("KEYS", `${prefix}*`)) as string[];
  const contents = [];
  for (const key of keys) {
    const read = READ[String(await redis.command("TYPE", key))];
    if (read) contents.push(key, JSON.stringify(await redis.command(...read(key))));
  }
  return contents.join("\n");
}

/** The messages of all queues of the service, which stay there. */
async function readRabbit(rabbit: RabbitMq, name: string): Promise<string> {
  const queues = (await rabbit.queues()).filter((queue) => queue.name.startsWith(name));
  const contents = [];
  for (const queue of queues) {
    const wish = { count: 1000, ackmode: "ack_requeue_true", encoding: "auto" };
    const path = `/queues/${rabbit.vhost}/${encodeURIComponent(queue.name)}/get`;
    contents.push(queue.name, JSON.stringify(await rabbit.api("POST", path, wish)));
  }
  return contents.join("\n");
}
