/**
 * What mailboxes cost that two nodes hold between them: the Redis commands of idle ones, and how long it takes until all are heard
 * again after a node was killed or stopped. Settings are the defaults, so that one mail host's gate is part of it.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { SETTINGS } from "../../shared/settings.ts";
import { clusterRig, type Rig } from "../cluster-rig.ts";
import { provide } from "../servers/provide.ts";
import type { Redis } from "../servers/redis.ts";
import { eventually } from "../servers/waiting.ts";
import type { Service } from "../service.ts";
import { ratio, type Row, type Setup, shown } from "./report.ts";
import { command } from "./rivals.ts";

const IDLE_SECONDS = 60;
const IDLE_GOAL = 20;
const SETTLED_MS = 10_000;
const LISTENING_MS = 300_000;
/** The dead node's session, and five more. */
const KILLED_GOAL = Number(SETTINGS.SESSION_TTL_SECONDS.default) + 5;
const STOPPED_GOAL = 2;

/** Commands a second, those inside scripts counted. */
export async function idle({ sizes, runtime }: Setup): Promise<Row[]> {
  return withTwoNodes({ count: sizes.idle, runtime, pace: "500" }, async ({ redis }) => {
    const before = await commands(redis);
    await sleep(IDLE_SECONDS * 1000);
    const perSecond = ((await commands(redis)) - before) / IDLE_SECONDS;
    return [row(`Redis commands per second, ${sizes.idle} idle mailboxes on 2 nodes`, perSecond, IDLE_GOAL, "")];
  });
}

/** Until the one that is left listens to all: after the other was stopped, and after it was killed. */
export async function failover({ sizes, runtime }: Setup): Promise<Row[]> {
  return withTwoNodes({ count: sizes.held, runtime }, async ({ a, b, rig }) => {
    const killed = await takenOver(rig, a, b.kill);
    const c = await rig.api("c", DEFAULTS);
    await settled(rig, c, sizes.held);
    const stopped = await takenOver(rig, a, c.stop);
    return [
      row(`seconds until ${killed.count} of ${sizes.held} are heard after kill -9`, killed.seconds, KILLED_GOAL, "s"),
      row(`seconds until ${stopped.count} of ${sizes.held} are heard after a stop`, stopped.seconds, STOPPED_GOAL, "s"),
    ];
  });
}

/** A node that joins has its share when it holds so much of all; two halves are never quite equal. */
const FAIR = 0.4;
/** Tests compress time; this measures what an administrator gets. */
const DEFAULTS = {
  LOG_LEVEL: "debug",
  BACKOFF_SCALE: "",
  CONNECTIONS_PER_HOST_PER_SECOND: "",
  SESSION_TTL_SECONDS: "",
};

type Two = { a: Service; b: Service; rig: Rig; redis: Redis };

async function withTwoNodes(
  { count, runtime, pace = "" }: { count: number; runtime: Setup["runtime"]; pace?: string },
  work: (two: Two) => Promise<Row[]>,
): Promise<Row[]> {
  const redis = await provide("redis", { settings: { appendfsync: "everysec" } });
  if (!redis) return [];
  const rig = await clusterRig({ redisUrl: redis.server.url, command: () => command(runtime) });
  try {
    const env = { ...DEFAULTS, CONNECTIONS_PER_HOST_PER_SECOND: pace };
    const [a, b] = [await rig.api("a", env), await rig.api("b", env)];
    await rig.register(a, count);
    await settled(rig, b, count);
    return await work({ a, b, rig, redis: redis.server });
  } finally {
    await rig.end();
    await redis.server.remove();
  }
}

/** Resolves when this node has its share and every mailbox is listened to, for good. */
async function settled({ mail }: Rig, node: Service, count: number): Promise<void> {
  await eventually(() => connected(node) >= count * FAIR, "a node to have its share", LISTENING_MS);
  await eventually(() => mail.connections === count, `${count} mailboxes to be listened to`, LISTENING_MS);
  await sleep(SETTLED_MS);
}

/** From the moment a node is told to end until `left` has connected anew to everything the mail server lost. */
async function takenOver({ mail }: Rig, left: Service, end: () => Promise<unknown>) {
  const [all, already] = [mail.connections, connected(left)];
  const began = performance.now();
  const ended = end();
  await eventually(() => mail.connections < all, "the node to end", LISTENING_MS, 1);
  await eventually(() => mail.connections >= all, `${all} mailboxes to be listened to`, LISTENING_MS);
  const seconds = (performance.now() - began) / 1000;
  await ended;
  return { count: connected(left) - already, seconds };
}

function connected(node: Service): number {
  return node.facts.filter(({ kind }) => kind === "mailbox.connected").length;
}

async function commands(redis: Redis): Promise<number> {
  const stats = String(await redis.command("INFO", "commandstats"));
  return [...stats.matchAll(/^cmdstat_(\S+?):calls=(\d+)/gm)]
    .filter(([, name]) => name !== "info")
    .reduce((sum, [, , calls]) => sum + Number(calls), 0);
}

function row(what: string, measured: number, goal: number, unit: string): Row {
  return { what, ours: shown(measured, unit), bare: shown(goal, unit), compared: ratio(measured, goal) };
}
