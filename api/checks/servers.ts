/** Checks of other programs: Redis, RabbitMQ, the endpoints, and the clocks of all of them. */
import { listOf, numberOf } from "../../shared/store/redis/connection/reply.ts";
import type { RedisConnection } from "../../shared/store/redis/connection/client.ts";
import { checkServer } from "../../shared/store/redis/checks.ts";
import { clock } from "../../shared/time.ts";
import { type Check, countOf, notRun } from "./check.ts";
import type { Visit, Visits } from "./visits.ts";

const PING_MS = 3_000;
const NEARLY_FULL = 0.9;

export const redisCheck: Check = {
  title: "Redis",
  seconds: 10,
  async run({ deps: { probes } }) {
    const { redis } = probes;
    if (!redis) return notRun("REDIS_URL is not set, so the store is the embedded one");
    const startedAt = performance.now();
    await redis.send("ping", [], PING_MS);
    const latencyMs = msSince(startedAt);
    const info = String(await redis.send("info", [], PING_MS));
    const version = /^redis_version:(\S+)/m.exec(info)?.[1] ?? "of an unknown version";
    const usedBytes = Number(/^used_memory:(\d+)/m.exec(info)?.[1] ?? 0);
    const limitBytes = Number(/^maxmemory:(\d+)/m.exec(info)?.[1] ?? 0);
    const data = { version, latencyMs, usedBytes, limitBytes: limitBytes === 0 ? null : limitBytes };
    if (limitBytes > 0 && usedBytes > NEARLY_FULL * limitBytes) {
      const cause = `Redis uses ${usedBytes} of its ${limitBytes} bytes. Above that it refuses to store mail`;
      return { status: "failed", cause, fix: "Raise maxmemory, or drop parked mail.", data };
    }
    const warnings = await checkServer(redis);
    return {
      status: "ok",
      detail: `Redis ${version} at ${redis.displayUrl} answers in ${latencyMs} ms`,
      warnings,
      data,
    };
  },
};

export const rabbitmqCheck: Check = {
  title: "RabbitMQ",
  seconds: 10,
  async run({ deps: { probes } }) {
    const { inspectBroker } = probes;
    if (!inspectBroker) return notRun("RABBITMQ_URL is not set, so there are no separate workers");
    const startedAt = performance.now();
    const { version, blocked, waiting, consumers } = await inspectBroker();
    const latencyMs = msSince(startedAt);
    if (blocked) throw blocked;
    const data = { version, latencyMs, waiting, consumers };
    const warnings = consumers === 0 ? ["Nobody takes tasks from the queue"] : [];
    const detail = `RabbitMQ ${version} answers in ${latencyMs} ms; ${countOf(waiting, "task waits", "tasks wait")} in its work queue`;
    return { status: "ok", detail, warnings, data };
  },
};

/** In milliseconds, to a tenth. */
function msSince(startedAt: number): number {
  return Math.round((performance.now() - startedAt) * 10) / 10;
}

export const endpointsCheck: Check = {
  title: "Endpoints and CRMs",
  seconds: 40,
  async run(call) {
    const { visits, untried } = await call.visits();
    if (visits.length === 0) return untriedFinding(untried);
    const dead = visits.filter(({ cause }) => cause !== null);
    const data = { items: visits.map(toItem), untried };
    const rest =
      untried > 0
        ? [`${countOf(untried, "server was", "servers were")} not tried: there are too many, or they are too slow`]
        : [];
    const [first] = dead;
    if (!first) return { status: "ok", detail: `${countOf(visits.length, "server")} answered`, warnings: rest, data };
    const cause = `${dead.length} of ${countOf(visits.length, "server")} cannot be reached. ${first.origin} (${countOf(first.mailboxes, "mailbox", "mailboxes")}): ${first.cause ?? ""}`;
    return { status: "failed", cause, ...(first.fix !== null && { fix: first.fix }), warnings: rest, data };
  },
};

function untriedFinding(untried: number) {
  return untried === 0
    ? notRun("No mailbox is registered, so there is no endpoint")
    : ({ status: "failed", cause: `There was no time to try ${countOf(untried, "server")}` } as const);
}

function toItem({ origin, mailboxes, crm, ms, status, cause, fix, certificateUntil }: Visit) {
  return { origin, mailboxes, crm, ms, status, cause, fix, certificateUntil: certificateUntil?.toISOString() ?? null };
}

/** Of Redis, by whose clock all nodes act. */
const MAX_REDIS_OFFSET_MS = 5_000;
/** Standard Webhooks refuse signatures that are older than five minutes. */
const MAX_ENDPOINT_OFFSET_MS = 240_000;

type Offset = { clock: string; offsetMs: number; limitMs: number };

export const clockCheck: Check = {
  title: "Clocks",
  seconds: 40,
  async run({ deps: { probes }, visits }) {
    const { visits: visited }: Visits = await visits();
    const offsets: Offset[] = [
      ...(probes.redis ? [await redisOffset(probes.redis)] : []),
      ...visited.flatMap(({ origin, offsetMs }) =>
        offsetMs === null ? [] : [{ clock: origin, offsetMs, limitMs: MAX_ENDPOINT_OFFSET_MS }],
      ),
    ];
    if (offsets.length === 0)
      return notRun(
        "There is no other clock to compare with: the store is on this machine, and no endpoint named the time",
      );
    const worst = offsets.toSorted((a, b) => Math.abs(b.offsetMs) / b.limitMs - Math.abs(a.offsetMs) / a.limitMs)[0];
    const data = { items: offsets.map(({ clock: name, offsetMs }) => ({ clock: name, offsetMs })) };
    if (!worst || Math.abs(worst.offsetMs) <= worst.limitMs)
      return {
        status: "ok",
        detail: `${countOf(offsets.length, "clock")} compared, the worst differs by ${describeOffset(worst?.offsetMs ?? 0)}`,
        data,
      };
    const cause = `The clock of ${worst.clock} differs from this machine's by ${describeOffset(worst.offsetMs)}`;
    return {
      status: "failed",
      cause,
      fix: "Synchronise both clocks (NTP). Signatures and tokens depend on the time.",
      data,
    };
  },
};

function describeOffset(ms: number): string {
  const seconds = Math.abs(ms) / 1000;
  return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
}

async function redisOffset(redis: RedisConnection): Promise<Offset> {
  const askedAt = clock.now();
  const [seconds, micros] = listOf(await redis.send("time", [], PING_MS)).map(numberOf);
  const middle = (askedAt + clock.now()) / 2;
  const offsetMs = Math.round((seconds ?? 0) * 1000 + (micros ?? 0) / 1000 - middle);
  return { clock: "Redis", offsetMs, limitMs: MAX_REDIS_OFFSET_MS };
}
