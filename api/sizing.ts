/**
 * The sizing table: from mailboxes and mails per second to replicas, vCPU and memory. The manifests use these numbers
 * (targets and bounds of the autoscalers, requests and limits), and a test compares them.
 */
import * as v from "valibot";
import measured from "./measured.json" with { type: "json" };

const MiB = 2 ** 20;

/**
 * What `bun run bench --write` measured last, and where: an API node without mailboxes, what one idle IMAP mailbox over
 * TLS adds, what Redis keeps of one delivered message, and the CPU time of all nodes for one message of 10 KB, from the
 * mail server to the answer of the endpoint.
 */
export const MEASURED: Record<keyof typeof measured, { value: number; from: string }> = measured;

/**
 * The figures that sizing uses. They are far above the measured ones, because real mail is larger, comes in bursts, and a
 * shared core may be ten times slower.
 */
export const PLANNED = {
  baseBytes: 200 * MiB,
  mailboxBytes: 256 * 1024,
  messageCpuSeconds: 0.04,
  /** Redis memory for one delivered message until WINDOW_DAYS have passed. */
  rememberedBytes: 2048,
  /** The average flow over a week, as a fraction of the flow in busy hours. Assumed. */
  meanFlow: 0.25,
} as const;

/** One replica of each kind. It reserves `cpu` and `memoryMiB`; the limits are for short peaks. */
export const REPLICA = {
  api: { cpu: 0.25, memoryMiB: 512, cpuLimit: 1, memoryLimitMiB: 1024, fewest: 2, most: 50 },
  worker: { cpu: 0.25, memoryMiB: 512, cpuLimit: 1, memoryLimitMiB: 1024, fewest: 2, most: 50 },
} as const;

/** RabbitMQ stops senders when it uses 60 % of its limit. Tasks are small, and wait on its disk. */
export const RABBITMQ = { cpu: 0.5, memoryMiB: 1024, memoryLimitMiB: 2048 } as const;
const REDIS_CPU = 0.5;

/** How many mailboxes an API node should hold: the target of its autoscaler. */
export const TARGET_MAILBOXES_PER_NODE = 1000;
/**
 * How many mailboxes it can hold (MAILBOXES_PER_NODE): the mailboxes of two nodes of which one is away, and the 10 %
 * that an autoscaler tolerates.
 */
export const MAX_MAILBOXES_PER_NODE = 2200;
/** Mails per second of one worker with its reserved CPU. It can handle more for a while. */
export const WORKER_MAILS_PER_SECOND = 5;
/**
 * Waiting tasks for each worker above which the autoscaler adds workers, and the wait of one task that does the same.
 */
export const MAX_TASKS_PER_WORKER = 50;
export const MAX_TASK_WAIT_SECONDS = 5;
/** How far a Kubernetes autoscaler lets a figure differ from its target. */
export const AUTOSCALER_TOLERANCE = 0.1;

/** The figures that the original product published, for each replica. */
export const ORIGINAL_PRODUCT = {
  flow: 4,
  mailboxesPerNode: 50,
  api: { replicas: 4, cpu: 0.15, memoryMiB: 850 },
  worker: { replicas: 15, cpu: 0.1, memoryMiB: 1126 },
  redis: { replicas: 1, cpu: 0.5, memoryMiB: 3072 },
  rabbitmq: { replicas: 1, cpu: 0.5, memoryMiB: 4096 },
} as const;

const ComponentSize = v.object({ replicas: v.number(), cpu: v.number(), memoryMiB: v.number() });
const TotalSize = v.object({ cpu: v.number(), memoryMiB: v.number() });
export const Sizing = v.object({
  mailboxes: v.number(),
  flow: v.number(),
  api: ComponentSize,
  worker: ComponentSize,
  redis: ComponentSize,
  rabbitmq: ComponentSize,
  total: TotalSize,
});
export type Sizing = v.InferOutput<typeof Sizing>;

type Demand = { mailboxes: number; flow: number };

/**
 * What this many mailboxes and mails per second in busy hours need. `cpu` (vCPU) and `memoryMiB` are for one replica,
 * the total is for all. There are at least two replicas of each, so that one may be away.
 */
export function computeSizing({ mailboxes, flow }: Demand): Sizing {
  const { cpu, memoryMiB } = REPLICA.api;
  const api = {
    replicas: Math.max(REPLICA.api.fewest, Math.ceil(mailboxes / TARGET_MAILBOXES_PER_NODE)),
    cpu,
    memoryMiB,
  };
  const replicas = Math.max(REPLICA.worker.fewest, Math.ceil(flow / WORKER_MAILS_PER_SECOND));
  const worker = { replicas, cpu: REPLICA.worker.cpu, memoryMiB: REPLICA.worker.memoryMiB };
  const redis = { replicas: 1, cpu: REDIS_CPU, memoryMiB: redisMiB({ mailboxes, flow }) };
  const rabbitmq = { replicas: 1, cpu: RABBITMQ.cpu, memoryMiB: RABBITMQ.memoryMiB };
  return { mailboxes, flow, api, worker, redis, rabbitmq, total: totalOf([api, worker, redis, rabbitmq]) };
}

/** The sum over all replicas of all parts. */
export function totalOf(parts: readonly v.InferOutput<typeof ComponentSize>[]): v.InferOutput<typeof TotalSize> {
  const sum = (of: "cpu" | "memoryMiB") => parts.reduce((all, part) => all + part.replicas * part[of], 0);
  return { cpu: Math.round(sum("cpu") * 100) / 100, memoryMiB: sum("memoryMiB") };
}

/** The memory that sizing assumes for a node with this many mailboxes, in MiB. */
export function nodeMiB(mailboxes: number): number {
  return Math.ceil((PLANNED.baseBytes + mailboxes * PLANNED.mailboxBytes) / MiB);
}

const WEEK_SECONDS = 7 * 86_400;
/** SPOOL_BYTES and Redis' own memory. The spool fills only while endpoints are away. */
const REDIS_BASE_MIB = 2048 + 256;
const REDIS_MAILBOX_BYTES = 16 * 1024;

/**
 * The memory limit of a Redis that may keep so much data (`maxmemory`). It needs more while it rewrites its append-only
 * file. Above `maxmemory` it refuses writes; above the limit it would be killed.
 */
export function redisLimitMiB(maxmemoryMiB: number): number {
  return Math.ceil((maxmemoryMiB * 4) / 3 / 512) * 512;
}

/** Rounded up to half GiB. It is what Redis reserves, and its `maxmemory`. */
function redisMiB({ mailboxes, flow }: Demand): number {
  const remembered = flow * PLANNED.meanFlow * WEEK_SECONDS * PLANNED.rememberedBytes;
  const needed = REDIS_BASE_MIB + (remembered + mailboxes * REDIS_MAILBOX_BYTES) / MiB;
  return Math.ceil(needed / 512) * 512;
}
