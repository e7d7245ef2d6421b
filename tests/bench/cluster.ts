/**
 * The same burst worked off by one API node with 1, 2 and 4 workers over Redis and RabbitMQ, beside the embedded node. CPU is that of
 * the nodes alone; where all of this shares a few CPUs, it says more than the rate.
 */
import { clusterEnv } from "../cluster-rig.ts";
import { provide } from "../servers/provide.ts";
import { type Service, startService } from "../service.ts";
import { type Bench, compared, type Result, type Row } from "./report.ts";
import { asRival, byImap, command, type Rival, startOurs } from "./rivals.ts";
import { burst, warmedUp } from "./throughput.ts";

const WORKERS = [1, 2, 4];
/** Longer than nodes are frozen while their mailboxes are filled. */
const SESSION_SECONDS = "60";

/** One burst over all mailboxes for each number of workers. */
export async function cluster(bench: Bench): Promise<Row[]> {
  return withBackends(async (backends) => {
    const alone = await measured(bench, await startOurs(bench.runtime, bench.mail));
    const rows: Row[] = [];
    for (const workers of WORKERS) {
      const nodes = await startNodes(bench, backends, workers);
      const name = `${bench.sizes.burst} over ${bench.sizes.mailboxes} mailboxes, ${workers} worker${workers > 1 ? "s" : ""}`;
      const result = await measured(bench, await asRival("nodes", nodes, byImap(bench.mail)));
      const both = compared(name, result, alone);
      rows.push(
        ...(workers === 1 ? both.map((row) => ({ ...row, sizing: { messageCpuSeconds: result.cpu / 1000 } })) : both),
      );
    }
    return rows;
  });
}

type Backends = { redisUrl: string; rabbitUrl: string };

async function withBackends(work: (backends: Backends) => Promise<Row[]>): Promise<Row[]> {
  const redis = await provide("redis", { settings: { appendfsync: "everysec" } });
  const rabbit = await provide("rabbitmq");
  try {
    return redis && rabbit ? await work({ redisUrl: redis.server.url, rabbitUrl: rabbit.server.url }) : [];
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

async function measured(bench: Bench, rival: Rival): Promise<Result> {
  try {
    const mailboxes = bench.users(bench.sizes.mailboxes);
    await rival.listen(mailboxes);
    // One mailbox's tasks would not reach every worker.
    await warmedUp(bench, rival, mailboxes);
    return await burst(bench, rival, mailboxes);
  } finally {
    await rival.end();
  }
}
