/** The manifests' Redis and RabbitMQ on volumes as Kubernetes mounts them, and what the service says while they are away. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmod, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { connect } from "amqplib";
import { PASSWORD } from "./bodies.ts";
import { clusterEnv } from "./cluster-rig.ts";
import { type AlertCase, alertErrors, type Recording } from "./deploy/alerts.ts";
import { documentsOf, type Manifest, ROOT } from "./deploy/manifests.ts";
import { readRelease, readReleasedTasks, RELEASED_KEY, RELEASED_SECRET } from "./deploy/releases.ts";
import { mountVolume } from "./deploy/volume.ts";
import { startEndpoint } from "./servers/endpoint.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import { freePorts } from "./servers/ports.ts";
import { type Program, removeFolder, startProgram, temporaryFolder } from "./servers/program.ts";
import { isInstalled, redisOrSkip } from "./servers/provide.ts";
import { type RabbitMq, startRabbitMq } from "./servers/rabbitmq.ts";
import { type Redis, redisAnswers, redisCommand, startRedis } from "./servers/redis.ts";
import { PROMTOOL, unpackedOrSkip } from "./servers/unpack.ts";
import { eventually } from "./servers/waiting.ts";
import { bothRuntimes, type Service, startService } from "./service.ts";
import { status, subjects } from "./stories/scene.ts";

/** The pod of a component's StatefulSet, and its first container. */
function podOf(component: string) {
  const documents: Manifest[] = documentsOf(`k8s/components/${component}/${component}.yaml`);
  const pod = documents.find(({ kind }) => kind === "StatefulSet")?.spec.template.spec;
  const [container] = pod.containers;
  return { security: pod.securityContext, command: container.command as string[], container };
}

let bin = "";
/** The RabbitMQ of the manifests, on a volume. All tests share it, because a start takes seconds. */
let sharedRabbit: RabbitMq | undefined;
const cookieModes: string[] = [];
const rabbitPod = podOf("rabbitmq");
let mountPolicy: string = rabbitPod.security.fsGroupChangePolicy;

before(async () => {
  bin = await temporaryFolder("bin");
  if (await isInstalled("rabbitmq")) sharedRabbit = await startRabbitMq({ command: startAsPod });
});
after(async () => {
  await sharedRabbit?.remove();
  await removeFolder(bin);
});

/** Mounts the folder as the volume, and starts the broker by the command of the manifest. */
async function startAsPod(start: string, folder: string): Promise<[string, ...string[]]> {
  const { security, command } = rabbitPod;
  await mountVolume(folder, { ...security, fsGroupChangePolicy: mountPolicy });
  cookieModes.push(((await stat(join(folder, ".erlang.cookie"))).mode & 0o777).toString(8));
  await writeFile(join(bin, "docker-entrypoint.sh"), `#!/bin/sh\n${start}`);
  await chmod(join(bin, "docker-entrypoint.sh"), 0o755);
  const [sh = "", c = "", script = ""] = command;
  return [sh, c, `PATH="${bin}:$PATH"; ${script.replaceAll("/var/lib/rabbitmq", folder)}`];
}

describe("a pod with a volume lives again after it was killed", () => {
  test("RabbitMQ: with the modes that Kubernetes gives, and where a restored volume has an open cookie", async (t) => {
    const broker = sharedRabbit;
    if (!broker) return t.skip("no rabbitmq");
    await withChannel(broker, async (channel) => {
      await channel.assertQueue("kept", { durable: true });
      channel.sendToQueue("kept", Buffer.from("still here"), { persistent: true });
      await channel.waitForConfirms();
    });
    // The root of the volume is right now, so its files stay as they are.
    for (const next of [mountPolicy, "Always"]) {
      // A broker that is killed right after a queue was declared may forget the queue.
      await (next === mountPolicy ? broker.stop() : broker.kill());
      mountPolicy = next;
      await broker.start();
      await withChannel(broker, async (channel) => {
        const kept = await channel.get("kept");
        assert.equal(kept && kept.content.toString(), "still here");
      });
    }
    assert.deepEqual(cookieModes, ["660", "400", "660"]);
  });

  test("Redis", async (t) => {
    if (!(await isInstalled("redis"))) return t.skip("no redis");
    const { security, command, container } = podOf("redis");
    const { value: maxmemory = "" } = container.env.find(({ name }: { name: string }) => name === "REDIS_MAXMEMORY");
    const folder = await temporaryFolder("volume");
    const [port = 0] = await freePorts(1);
    const url = `redis://:p%40ss%2F@127.0.0.1:${port}`;
    let program: Program | undefined;
    t.after(async () => {
      await program?.kill();
      await removeFolder(folder);
    });
    const start = async (policy: string) => {
      await mountVolume(folder, { ...security, fsGroupChangePolicy: policy });
      const [sh = "", c = "", script = ""] = command;
      const here = script.replace("--dir /data", `--port ${port} --bind 127.0.0.1 --dir ${folder}`);
      assert.notEqual(here, script);
      program = await startProgram(sh, [c, here], { env: { REDIS_PASSWORD: "p@ss/", REDIS_MAXMEMORY: maxmemory } });
      await eventually(() => redisAnswers(url), "Redis to answer");
    };
    await start(security.fsGroupChangePolicy);
    await redisCommand(url, ["CONFIG", "SET", "appendfsync", "always"]);
    await redisCommand(url, ["SET", "kept", "still here"]);
    for (const policy of [security.fsGroupChangePolicy, "Always"]) {
      await program?.kill();
      await start(policy);
      assert.equal(await redisCommand(url, ["GET", "kept"]), "still here");
    }
  });
});

describe("Redis and RabbitMQ of 0.1.0", () => {
  test("nodes of this version go on with its passwords, deliveries, tasks and sendings", async (t) => {
    const broker = sharedRabbit;
    if (!broker || !(await isInstalled("redis"))) return t.skip("no rabbitmq or no redis");
    const dir = await temporaryFolder("release");
    await writeFile(join(dir, "dump.rdb"), await readRelease("0.1.0.rdb"));
    const [redis, mail, endpoint] = await Promise.all([
      startRedis({ appendOnly: false, settings: { dir } }),
      startImapServer(),
      startEndpoint({ secret: RELEASED_SECRET }),
    ]);
    const nodes: Service[] = [];
    t.after(async () => {
      for (const node of nodes) await node.end();
      await redis.remove();
      await mail.stop();
      await endpoint.stop();
      await removeFolder(dir);
    });
    for (const id of ["delivered", "retrying"]) {
      await mail.addUser(id, PASSWORD);
      const [field = "", doc = ""] = await findDocument(redis, `release::{${id}}:mailbox`);
      const moved = JSON.parse(doc);
      moved.receive.port = mail.imapPort;
      moved.deliver.url = `${endpoint.url}upgraded`;
      await redis.command("HSET", `release::{${id}}:mailbox`, field, JSON.stringify(moved));
    }
    const names = { REDIS_PREFIX: "release:", RABBITMQ_EXCHANGE: "release", RABBITMQ_QUEUE: "release.tasks" };
    const env = { ENCRYPTION_KEYS: RELEASED_KEY, REDIS_URL: redis.url, RABBITMQ_URL: broker.url, ...names };
    const api = await startService({ ...env, NODE_NAME: "api-0" }, bothRuntimes("api-0"));
    nodes.push(api, await startService({ ...env, NODE_NAME: "worker-0" }, bothRuntimes("worker-0"), "worker"));
    await withChannel(broker, async (channel) => {
      for (const { queue, payload, properties } of await readReleasedTasks("0.1.0")) {
        const { type, timestamp, message_id: messageId, headers, content_type: contentType } = properties;
        const how = { type, timestamp, messageId, headers, contentType, persistent: true };
        channel.publish("release", queue, Buffer.from(payload), how);
      }
      await channel.waitForConfirms();
    });
    const arrived = () => subjects(endpoint);
    await api.until("what waited", () => ["retrying 1", "retrying 2"].every((one) => arrived().includes(one)));
    await status(api, "delivered", "listening");
    await mail.append("delivered", "INBOX", message({ subject: "after the upgrade", text: "new" }));
    await api.until("new mail", () => arrived().includes("after the upgrade"));
    assert.equal(arrived().includes("delivered 1"), false);
    const { body } = await api.call("GET", "/api/v1/parked");
    assert.deepEqual(body.items, []);
    const sending = { to: ["bob@example.net"], subject: "another", text: "another" };
    const key = { "idempotency-key": "order-1" };
    const repeated = await api.call("POST", "/api/v1/mailboxes/delivered/messages", sending, key);
    assert.equal(repeated.body.code, "key_reused", "the key of 0.1.0 is known");
  });
});

/** The field of a hash that holds JSON, and its value. */
async function findDocument(redis: Redis, key: string): Promise<string[]> {
  const all = (await redis.command("HGETALL", key)) as string[];
  const at = all.findIndex((value, n) => n % 2 === 1 && value.startsWith("{"));
  return [all[at - 1] ?? "", all[at] ?? ""];
}

describe("a node says whether it can do its work", () => {
  test("with a wrong password it is not ready until RabbitMQ accepts it; later it is, and RabbitMQ may be away", async (t) => {
    const rabbit = sharedRabbit;
    if (!rabbit) return t.skip("no rabbitmq");
    const redis = await redisOrSkip(t, {}, { owned: true });
    if (!redis) return;
    const env = {
      ...clusterEnv({ redisUrl: redis.url, rabbitUrl: `amqp://127.0.0.1:${rabbit.port}` }),
      RABBITMQ_LOGIN: "listener",
      RABBITMQ_PASSWORD: "mistyped",
    };
    const nodes = await Promise.all([
      startService(env, bothRuntimes("api-0")),
      startService(env, bothRuntimes("worker-0"), "worker"),
    ]);
    t.after(() => Promise.all(nodes.map((node) => node.end())));
    for (const node of nodes) {
      const { ok, checks } = await node.until("RabbitMQ to refuse it", async () => {
        const answer = await readiness(node);
        return /refuses the login/.test(JSON.stringify(answer)) && answer;
      });
      assert.equal(ok, false);
      assert.deepEqual(
        checks.filter((check: { ok: boolean }) => !check.ok).map(({ name }: { name: string }) => name),
        ["queue"],
      );
    }
    await rabbit.api("PUT", "/users/listener", { password: "mistyped", tags: "" });
    const all = { configure: ".*", write: ".*", read: ".*" };
    await rabbit.api("PUT", "/permissions/%2F/listener", all);
    for (const node of nodes) {
      await node.until("readiness", async () => (await readiness(node)).ok);
      await node.until("the metric of the queue", () => metric(node, "queue_up 1"));
    }
    recordings.well = await record(nodes);
    await rabbit.kill();
    for (const node of nodes) {
      await node.until("to notice that RabbitMQ is away", () => metric(node, "queue_up 0"));
      assert.equal((await readiness(node)).ok, true, "tasks wait in Redis");
      assert.equal(await metric(node, "store_up 1"), true);
    }
    recordings.queueAway = await record(nodes);
    await redis.pause();
    for (const node of nodes) {
      assert.equal(await metric(node, "store_up 0"), true);
      assert.equal((await readiness(node)).ok, false);
    }
    recordings.storeAway = await record(nodes);
    await redis.resume();
    for (const node of nodes) await node.until("readiness", async () => (await readiness(node)).ok);
  });
});

describe("the alerts", () => {
  test("fire in the states that they are for, and in no other", async (t) => {
    const { well, queueAway, storeAway } = recordings;
    const folder = await unpackedOrSkip(t, PROMTOOL);
    if (folder === undefined) return;
    if (!well || !queueAway || !storeAway) return t.skip("nothing was recorded");
    const arrivals = change("arrivals_total", "0+1x90");
    const cases: AlertCase[] = [
      { name: "all is well", firing: [] },
      { name: "RabbitMQ is away", state: queueAway, firing: ["QueueAway"] },
      { name: "Redis is away", state: storeAway, firing: ["StoreAway"] },
      { name: "no node answers", state: {}, firing: ["Away"] },
      { name: "no consumers", changes: change('tasks{state="consumers"}', "0x90"), firing: ["NoConsumers"] },
      { name: "a growing queue", changes: change('tasks{state="ready"}', "0+10x90"), firing: ["QueueGrows"] },
      { name: "a queue that is worked off", changes: change('tasks{state="ready"}', "900-10x90"), firing: [] },
      { name: "arrivals, nothing delivered", changes: arrivals, firing: ["NothingDelivered"] },
      {
        name: "arrivals and deliveries",
        changes: { ...arrivals, ...change('deliveries_total{outcome="delivered"}', "0+1x90") },
        firing: [],
      },
      {
        name: "all mailboxes reconnect",
        changes: { ...change("mailboxes_enabled", "500x90"), ...change('mailboxes{status="reconnecting"}', "500x90") },
        firing: ["MailboxesUnheard"],
      },
      {
        name: "silent connections",
        changes: change('problems_total{code="connection_stale"}', "0+1x90"),
        firing: ["ConnectionsStale"],
      },
      {
        name: "a login is refused",
        changes: change('mailboxes{status="needs_attention"}', "1x90"),
        firing: ["MailboxesNeedAttention"],
      },
      {
        name: "a certificate expires",
        changes: change("application_expires_seconds", "604800x90"),
        firing: [],
        atMinute: 80,
      },
      {
        name: "a certificate expires, an hour later",
        changes: change("application_expires_seconds", "604800x90"),
        firing: ["SecretExpires"],
        atMinute: 95,
      },
      {
        name: "a token ends, an hour later",
        changes: change("token_expires_seconds", "604800x90"),
        firing: ["TokenExpires"],
        atMinute: 95,
      },
      { name: "no room", changes: change("mailboxes_unserved", "3x90"), firing: ["NoRoom"] },
      { name: "tasks wait", changes: change("task_wait_seconds", "120x90"), firing: ["TasksWait"] },
      { name: "deliveries were parked", changes: change('parked{kind="delivery"}', "3x90"), firing: ["Parked"] },
      {
        name: "deliveries were parked long ago",
        changes: change('parked{kind="delivery"}', "3x90"),
        firing: [],
        atMinute: 100,
      },
      {
        name: "parked tasks stay",
        changes: change('parked{kind="task"}', "2x90"),
        firing: ["TasksParked"],
        atMinute: 100,
      },
      { name: "nodes are not ready", changes: change("ready", "0x90"), firing: ["NodeNotReady"] },
      {
        name: "Redis is full",
        changes: { ...change("store_used_bytes", "90x90"), ...change("store_limit_bytes", "100x90") },
        firing: ["StoreFills"],
      },
      { name: "the spool is full", changes: change("spool_bytes", "2000000000x90"), firing: ["SpoolFills"] },
    ];
    const tried = new Set(cases.flatMap(({ firing }) => firing.map((one) => `EmailListener${one}`)));
    const { groups } = documentsOf("k8s/components/monitoring/alerts.yaml")[0].spec;
    assert.deepEqual(
      groups[0].rules.map(({ alert }: { alert: string }) => alert).filter((alert: string) => !tried.has(alert)),
      [],
    );
    const promtool = join(folder, "usr/bin/promtool");
    assert.equal(alertErrors(promtool, well, cases), "");
    const checked = spawnSync(promtool, ["check", "rules", join(ROOT, "compose/prometheus/alerts.yml")]);
    assert.equal(checked.status, 0, String(checked.stderr));
  });
});

/** The metrics of both nodes in each state, for the test of the alerts. */
const recordings: { well?: Recording; queueAway?: Recording; storeAway?: Recording } = {};

async function record(nodes: Service[]): Promise<Recording> {
  const answers = await Promise.all(nodes.map((node) => node.call("GET", "/metrics")));
  return Object.fromEntries(answers.map(({ body }, n) => [["api-0", "worker-0"][n] ?? "", String(body)]));
}

const change = (what: string, values: string) => ({ [`email_listener_${what}`]: values });

const readiness = async (node: Service) => (await node.call("GET", "/readyz")).body;

async function metric(node: Service, line: string): Promise<boolean> {
  const { body } = await node.call("GET", "/metrics");
  return String(body).includes(`\nemail_listener_${line}\n`);
}

type ConfirmChannel = Awaited<ReturnType<Awaited<ReturnType<typeof connect>>["createConfirmChannel"]>>;

async function withChannel(rabbit: RabbitMq, work: (channel: ConfirmChannel) => Promise<void>): Promise<void> {
  const connection = await connect(rabbit.url);
  try {
    await work(await connection.createConfirmChannel());
  } finally {
    await connection.close();
  }
}
