/**
 * The same burst worked off by one API node with 1, 2, 4 and 8 workers over Redis and RabbitMQ, beside the embedded node. CPU is that of
 * the nodes alone; where all of this shares a few CPUs, it says more than the rate.
 */
import { clusterEnv } from "../cluster-rig.ts";
import { provide } from "../servers/provide.ts";
import type { Redis } from "../servers/redis.ts";
import { type Service, startService } from "../service.ts";
import { PLANNED } from "../../api/sizing.ts";
import { type Bench, compared, ratio, type Result, type Row, shown } from "./report.ts";
import { asRival, byImap, command, type Rival, startOurs } from "./rivals.ts";
import { burst, warmedUp } from "./throughput.ts";

const WORKERS = [1, 2, 4, 8];
/** The burst is so many times the usual one. With few mails for each process, the figure is that of compiling its code. */
const BURSTS = 4;
/** Longer than nodes are frozen while their mailboxes are filled. */
const SESSION_SECONDS = "60";

/** One burst over all mailboxes for each number of workers. */
export async function cluster({ sizes, ...rest }: Bench): Promise<Row[]> {
  const bench = { ...rest, sizes: { ...sizes, burst: BURSTS * sizes.burst } };
  return withBackends(async (backends) => {
    const alone = await measured(bench, await startOurs(bench.runtime, bench.mail));
    const rows: Row[] = [];
    for (const workers of WORKERS) {
      const nodes = await startNodes(bench, backends, workers);
      const name = `${bench.sizes.burst} over ${bench.sizes.mailboxes} mailboxes, ${workers} worker${workers > 1 ? "s" : ""}`;
      const rival = await asRival("nodes", nodes, byImap(bench.mail));
      const { redisBytes, ...result } = await measuredOnRedis(bench, rival, backends.redis);
      const both = compared(name, result, alone);
      if (workers > 1) rows.push(...both);
      else rows.push(...both.map((row) => ({ ...row, sizing: sizingOf(result, redisBytes) })), redisRow(redisBytes));
    }
    return rows;
  });
}

type Backends = { redisUrl: string; rabbitUrl: string; redis: Redis };

/** Bytes that the data takes. */
async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory_dataset:(\d+)/m.exec(String(await redis.command("INFO", "memory")))?.[1]);
}

async function withBackends(work: (backends: Backends) => Promise<Row[]>): Promise<Row[]> {
  const redis = await provide("redis", { settings: { appendfsync: "everysec" } });
  const rabbit = await provide("rabbitmq");
  try {
    return redis && rabbit
      ? await work({ redis: redis.server, redisUrl: redis.server.url, rabbitUrl: rabbit.server.url })
      : [];
  } finally {
    await redis?.server.remove();
    await rabbit?.server.remove();
  }
}

async function startNodes({ runtime }: Bench, backends: Backends, workers: number): Promise<[Service, ...Service[]]> {
  const env = clusterEnv({ ...backends, env: { SESSION_TTL_SECONDS: SESSION_SECONDS } });
  const start = (role: "api" | "worker", name: string) =>
    startService({ ...env, NODE_NAME: name }, command(runtime), role);
  const api = await start("api", "api");
  const others: Service[] = [];
  for (let n = 0; n < workers; n++) others.push(await start("worker", `worker-${n}`));
  return [api, ...others];
}

const sizingOf = ({ cpu }: Result, redisBytes: number) => ({
  messageCpuSeconds: cpu / 1000,
  rememberedBytes: Math.round(redisBytes),
});

function redisRow(bytes: number): Row {
  const planned = PLANNED.rememberedBytes;
  const what = "memory of Redis for one delivered message, beside the planned one";
  return { what, ours: shown(bytes, "B"), bare: shown(planned, "B"), compared: ratio(bytes, planned) };
}

/** With the bytes that Redis holds for each message of the burst. */
async function measuredOnRedis(bench: Bench, rival: Rival, redis: Redis): Promise<Result & { redisBytes: number }> {
  let before = 0;
  let after = 0;
  const result = await measured(bench, rival, {
    beforeBurst: async () => void (before = await usedMemory(redis)),
    afterBurst: async () => void (after = await usedMemory(redis)),
  });
  const count = Math.floor(bench.sizes.burst / bench.sizes.mailboxes) * bench.sizes.mailboxes;
  return { ...result, redisBytes: (after - before) / count };
}

type Around = { beforeBurst?: () => Promise<void>; afterBurst?: () => Promise<void> };

async function measured(bench: Bench, rival: Rival, { beforeBurst, afterBurst }: Around = {}): Promise<Result> {
  try {
    const mailboxes = bench.users(bench.sizes.mailboxes);
    await rival.listen(mailboxes);
    // One mailbox's tasks would not reach every worker.
    await warmedUp(bench, rival, mailboxes);
    await beforeBurst?.();
    const result = await burst(bench, rival, mailboxes);
    await afterBurst?.();
    return result;
  } finally {
    await rival.end();
  }
}
